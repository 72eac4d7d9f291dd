//! The manifests of labelled clips and of background recordings.

use std::path::Path;

use anyhow::{Context, ensure};
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
    /// Whether it is a scream; none where nobody says.
    pub fn truth(&self) -> Option<bool> {
        match self.label.trim() {
            "1" => Some(true),
            "0" => Some(false),
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

/// A row that belongs to a split.
pub trait HasSplit {
    /// Its split; empty where none is said.
    fn split(&self) -> &str;
}

impl HasSplit for Clip {
    fn split(&self) -> &str {
        &self.split
    }
}

impl HasSplit for Background {
    fn split(&self) -> &str {
        &self.split
    }
}

/// Rows of `folder/manifest.csv`, of one split where asked.
pub fn read<R: DeserializeOwned + HasSplit>(folder: &Path, split: Option<&str>) -> anyhow::Result<Vec<R>> {
    let path = folder.join("manifest.csv");
    let mut reader = csv::Reader::from_path(&path).with_context(|| path.display().to_string())?;
    let rows: Vec<R> = reader.deserialize().collect::<Result<_, _>>().with_context(|| path.display().to_string())?;
    let kept: Vec<R> = rows.into_iter().filter(|row| split.is_none_or(|split| row.split() == split)).collect();
    ensure!(
        !kept.is_empty(),
        "{}: no row{}",
        path.display(),
        split.map(|split| format!(" of split `{split}`")).unwrap_or_default()
    );
    Ok(kept)
}
