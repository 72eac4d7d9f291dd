//! The manifests of labelled clips and of background recordings.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use files::recording::Recording;
use rayon::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A clip. Columns that are missing are empty.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Clip {
    /// Path under the folder.
    pub file: String,
    /// 1 scream, 0 not, blank: left out of the figures.
    pub label: String,
    /// What the clip is.
    #[serde(default)]
    pub class: String,
    /// Train, validation or test.
    #[serde(default)]
    pub split: String,
    /// Where it comes from.
    #[serde(default)]
    pub source_repo: String,
    /// Clips of one recording share a group.
    #[serde(default)]
    pub group: String,
}

impl Clip {
    /// What it is drawn with: its group, or itself alone.
    pub fn group(&self) -> &str {
        if self.group.is_empty() { &self.file } else { &self.group }
    }

    /// Whether it is a scream; none where nobody says.
    pub fn truth(&self) -> Option<bool> {
        match self.label.trim() {
            // With a decimal as tools write a column that has blanks in it.
            "1" | "1.0" => Some(true),
            "0" | "0.0" => Some(false),
            _ => None,
        }
    }
}

/// A scream-free recording. Columns that are missing are empty.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Background {
    /// Path under the folder.
    pub file: String,
    /// What is heard in it.
    #[serde(default)]
    pub kind: String,
    /// Validation or test.
    #[serde(default)]
    pub split: String,
}

/// A row of a manifest.
pub trait Row {
    /// Its split; empty where none is said.
    fn split(&self) -> &str;

    /// Its recording, below the folder.
    fn file(&self) -> &str;

    /// Whether it is in any figure, so that its recording is opened.
    fn counts(&self) -> bool {
        true
    }

    /// What is wrong with it, in words.
    fn mistake(&self) -> Option<String> {
        None
    }
}

impl Row for Clip {
    fn split(&self) -> &str {
        self.split.trim()
    }

    fn file(&self) -> &str {
        &self.file
    }

    fn counts(&self) -> bool {
        self.truth().is_some()
    }

    /// A word that is no label must not vanish from the figures.
    fn mistake(&self) -> Option<String> {
        let meant = self.label.trim().is_empty() || self.truth().is_some();
        (!meant).then(|| format!("{}: label `{}`: must be 1, 0 or blank", self.file, self.label))
    }
}

impl Row for Background {
    fn split(&self) -> &str {
        self.split.trim()
    }

    fn file(&self) -> &str {
        &self.file
    }
}

/// Rows of `folder/manifest.csv`, of one split where asked. The recordings of those that count have been opened.
pub fn read<R: DeserializeOwned + Row + Sync>(folder: &Path, split: Option<&str>) -> anyhow::Result<Vec<R>> {
    let path = folder.join("manifest.csv");
    // As hands write a table: `file, label`. A file's name may begin with a space.
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::Headers)
        .from_path(&path)
        .with_context(|| path.display().to_string())?;
    let rows: Vec<R> = reader.deserialize().collect::<Result<_, _>>().with_context(|| path.display().to_string())?;
    let kept: Vec<R> = rows.into_iter().filter(|row| split.is_none_or(|split| row.split() == split)).collect();
    // What is not asked for is in no figure.
    if let Some(mistake) = kept.iter().find_map(Row::mistake) {
        bail!("{}: {mistake}", path.display());
    }
    // Its hours, or its mistakes, would count twice.
    let mut names: Vec<&str> = kept.iter().filter(|row| row.counts()).map(Row::file).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("{}: {} stands in it twice", path.display(), pair[0]);
    }
    ensure!(
        !kept.is_empty(),
        "{}: no row{}",
        path.display(),
        split.map(|split| format!(" of split `{split}`")).unwrap_or_default()
    );
    // One that cannot be read would end the work after minutes of it.
    let refused = kept.par_iter().filter(|row| row.counts()).find_map_first(|row| refused(&folder.join(row.file())));
    if let Some(cause) = refused {
        bail!("{}: {cause}", path.display());
    }
    Ok(kept)
}

/// Why a recording cannot be read, as far as its beginning and its length tell.
fn refused(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Err(_) => Some(format!("{}: there is no such file", path.display())),
        // A pipe is read once.
        Ok(file) if file.is_file() || file.is_dir() => Recording::open(path).err().map(|error| error.to_string()),
        Ok(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn recording(path: &Path) {
        std::fs::write(path, files::wav::bytes(&[0.1; 1_600], 16_000)).unwrap();
    }

    #[test]
    fn a_label_is_1_0_or_blank_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        // The third has no label, so that nobody opens it.
        for name in ["0", "1", "3", "4", "a"] {
            recording(&folder.path().join(format!("{name}.wav")));
        }
        let read = |labels: &[&str]| {
            let rows: String = labels.iter().enumerate().map(|(i, label)| format!("{i}.wav,{label}\n")).collect();
            std::fs::write(folder.path().join("manifest.csv"), format!("file,label\n{rows}")).unwrap();
            super::read::<Clip>(folder.path(), None)
        };
        let truths: Vec<_> = read(&["1", "0", "", "1.0", "0.0"]).unwrap().iter().map(Clip::truth).collect();
        assert_eq!(truths, [Some(true), Some(false), None, Some(true), Some(false)]);
        let error = read(&["1", "yes"]).unwrap_err().to_string();
        assert!(error.contains("manifest.csv") && error.contains("1.wav") && error.contains("`yes`"), "{error}");
        let rows = "file,label,split\na.wav,1,test\nb.wav,maybe,train\n";
        std::fs::write(folder.path().join("manifest.csv"), rows).unwrap();
        assert_eq!(super::read::<Clip>(folder.path(), Some("test")).unwrap().len(), 1);
        assert!(super::read::<Clip>(folder.path(), None).is_err());
        std::fs::remove_file(folder.path().join("a.wav")).unwrap();
        let error = super::read::<Clip>(folder.path(), Some("test")).unwrap_err().to_string();
        assert!(error.contains("a.wav: there is no such file"), "{error}");
    }

    #[test]
    fn a_damaged_recording_is_found_before_any_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        recording(&path("whole.wav"));
        std::fs::write(path("short.wav"), &std::fs::read(path("whole.wav")).unwrap()[..1_000]).unwrap();
        std::fs::write(path("text.wav"), "a letter").unwrap();
        let read = |rows: &str| {
            std::fs::write(path("manifest.csv"), format!("file,label\n{rows}")).unwrap();
            let words = |error: anyhow::Error| error.to_string();
            (
                super::read::<Clip>(folder.path(), None).map_err(words),
                super::read::<Background>(folder.path(), None).map_err(words),
            )
        };
        let (clips, background) = read("whole.wav,1\nshort.wav,0\ntext.wav,0\n");
        for cause in [clips.unwrap_err(), background.unwrap_err()] {
            assert!(cause.contains("manifest.csv: ") && cause.contains("short.wav: truncated"), "the first: {cause}");
        }
        assert!(read("text.wav,1\n").0.unwrap_err().contains("text.wav: not a recording"));
        // Without a label nobody opens it here.
        assert_eq!(read("whole.wav,1\nshort.wav,\n").0.unwrap().len(), 2);
    }

    #[test]
    fn spaces_beside_a_comma_drop_no_row() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.wav", " b.wav"] {
            recording(&folder.path().join(name));
        }
        let rows = "file, label ,\tsplit\na.wav, 1, test\n b.wav,0,test\na.wav,0,train\n";
        std::fs::write(folder.path().join("manifest.csv"), rows).unwrap();
        let clips = super::read::<Clip>(folder.path(), Some("test")).unwrap();
        let read: Vec<_> = clips.iter().map(|clip| (clip.file.as_str(), clip.truth())).collect();
        assert_eq!(read, [("a.wav", Some(true)), (" b.wav", Some(false))]);
        assert_eq!(super::read::<Background>(folder.path(), Some("test")).unwrap().len(), 2);
    }
}
