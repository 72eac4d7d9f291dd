//! `manifest.toml`, the first entry of a bundle: which version, for whom, and every file with size and hash.
//!
//! It stays in the release's folder: a release is whole where every file that it names is there with its size.

use std::path::{Component, Path};

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::Cause;
use crate::limits::{FILES_MAX, PATH_BYTES_MAX, RELEASE_BYTES_MAX, VERSION_BYTES_MAX};

/// Its name, in the archive and in the release's folder.
pub const NAME: &str = "manifest.toml";
/// The program that a release starts.
pub const PROGRAM: &str = "bin/screamd";
/// The model that runs, where nobody says another.
pub const DEFAULT_MODEL: &str = "models/default";

/// What a release is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this format: 1.
    pub schema: u32,
    /// Semantic version.
    pub version: Version,
    /// As Rust names it: `aarch64`, `x86_64`.
    pub arch: String,
    /// Boards that may install it; all that it holds: others, too.
    pub boards: Vec<String>,
    /// A folder under `models/`; the device makes `models/default` a link to it.
    pub default_model: String,
    /// Every file but this one.
    pub files: Vec<File>,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Below the release's folder.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of its content, hexadecimal.
    pub sha256: String,
    /// A program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Manifest {
    /// Whether a device of this machine and board may install it.
    ///
    /// # Errors
    /// It is for others.
    pub fn is_for(&self, arch: &str, board: &str) -> Result<(), Cause> {
        if self.arch != arch {
            return Err(Cause::Machine { bundle: self.arch.clone(), machine: arch.into() });
        }
        if !self.boards.iter().any(|known| known == board) && !self.is_for_all() {
            return Err(Cause::Board { bundle: self.boards.join(", "), device: board.into() });
        }
        Ok(())
    }

    /// Whether it was made for every board that it holds: then also for a board of somebody's own, whose file stands on the device.
    fn is_for_all(&self) -> bool {
        let mut held = self.files.iter().filter_map(|file| file.path.strip_prefix("boards/")?.strip_suffix(".toml"));
        let mut any = false;
        held.all(|held| {
            any = true;
            self.boards.iter().any(|board| board == held)
        }) && any
    }

    /// Parses and checks it.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| error.message().to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != 1 {
            return Err(format!("`schema` is {}, this program knows 1", self.schema));
        }
        if self.boards.is_empty() || !self.boards.iter().all(|board| is_word(board)) {
            return Err("`boards` must name at least one board".into());
        }
        if self.version.to_string().len() > VERSION_BYTES_MAX {
            return Err(format!("`version`: more than {VERSION_BYTES_MAX} characters"));
        }
        if self.files.len() > FILES_MAX {
            return Err(format!("names {} files, at most {FILES_MAX} are taken", self.files.len()));
        }
        let mut seen = std::collections::HashSet::new();
        for file in &self.files {
            plain(&file.path).map_err(|what| format!("`{}`: {what}", file.path.escape_debug()))?;
            if !seen.insert(&file.path) {
                return Err(format!("`{}` is named twice", file.path));
            }
            if file.sha256.len() != 64 || !file.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("`{}`: `sha256` must be 64 hexadecimal digits", file.path));
            }
        }
        if !self.files.iter().any(|file| file.path == PROGRAM && file.executable) {
            return Err(format!("no executable `{PROGRAM}`"));
        }
        let model = format!("models/{}/manifest.toml", self.default_model);
        if !is_word(&self.default_model) || self.default_model == "default" || !seen.contains(&model) {
            return Err(format!("`default_model`: no `{model}` in this release"));
        }
        match self.bytes() {
            Some(bytes) if bytes <= RELEASE_BYTES_MAX => Ok(()),
            _ => Err(format!("its files have more than {RELEASE_BYTES_MAX} bytes together")),
        }
    }

    /// All files together; none where that does not fit into a number.
    pub fn bytes(&self) -> Option<u64> {
        self.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.bytes))
    }
}

/// A name without a path in it.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+'))
}

/// A path that stays below its folder and has nothing odd in it.
///
/// # Errors
/// What is wrong, in words.
pub fn plain(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err("a path has 1 to 100 bytes");
    }
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("leads out of the release's folder");
    }
    if path == NAME {
        return Err("is the manifest itself");
    }
    // `a//b` and `a/` are the same components as `a/b`: one spelling of each path.
    if !path.split('/').all(is_word) {
        return Err("a path has letters, digits and - _ . + between single slashes, and no part begins with a dot");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str, executable| File { path: path.into(), bytes: 1, sha256: "a".repeat(64), executable };
        Manifest {
            schema: 1,
            version: Version::new(1, 2, 3),
            arch: "aarch64".into(),
            boards: vec!["generic".into()],
            default_model: "m".into(),
            files: vec![file(PROGRAM, true), file("models/m/manifest.toml", false)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = toml::to_string(&manifest()).unwrap();
        assert_eq!(Manifest::parse(&text), Ok(manifest()), "{text}");
    }

    #[test]
    fn a_version_fits_into_the_name_of_its_release() {
        let long = |length: usize| Manifest {
            version: format!("1.2.3-{}", "a".repeat(length - 6)).parse().unwrap(),
            ..manifest()
        };
        assert_eq!(long(VERSION_BYTES_MAX).check(), Ok(()));
        assert!(is_word(&format!("{}-{}", long(VERSION_BYTES_MAX).version, "0".repeat(8))));
        assert!(long(VERSION_BYTES_MAX + 1).check().unwrap_err().contains("`version`"));
    }

    #[test]
    fn a_board_of_ones_own_takes_what_is_for_all_boards() {
        let with = |boards: &[&str]| {
            let mut manifest = manifest();
            for board in ["a", "b"] {
                let path = format!("boards/{board}.toml");
                manifest.files.push(File { path, bytes: 1, sha256: "a".repeat(64), executable: false });
            }
            manifest.boards = boards.iter().map(|board| (*board).to_string()).collect();
            manifest
        };
        assert!(with(&["a", "b"]).is_for("aarch64", "own").is_ok());
        assert!(with(&["a"]).is_for("aarch64", "a").is_ok());
        for other in ["b", "own"] {
            assert!(matches!(with(&["a"]).is_for("aarch64", other), Err(Cause::Board { .. })), "{other}");
        }
        assert!(matches!(with(&["a", "b"]).is_for("x86_64", "a"), Err(Cause::Machine { .. })));
        assert!(matches!(manifest().is_for("aarch64", "own"), Err(Cause::Board { .. })), "it holds no board");
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |change: &dyn Fn(&mut Manifest), expect: &str| {
            let mut changed = manifest();
            change(&mut changed);
            let found = changed.check().unwrap_err();
            assert!(found.contains(expect), "{found}");
        };
        check(&|m| m.schema = 2, "`schema` is 2");
        check(&|m| m.boards.clear(), "`boards`");
        check(&|m| m.files[0].executable = false, "no executable `bin/screamd`");
        check(&|m| m.files[1].path = "models/m/x".into(), "`default_model`");
        check(&|m| m.default_model = "../m".into(), "`default_model`");
        check(&|m| m.files[1].path = PROGRAM.into(), "named twice");
        check(&|m| m.files[1].bytes = u64::MAX, "bytes together");
        check(&|m| m.files[1].bytes = RELEASE_BYTES_MAX, "bytes together");
        check(&|m| m.files[1].sha256 = "x".into(), "sha256");
        assert!(Manifest::parse("schema = 1\nevil = 2").unwrap_err().contains("evil"));
    }

    #[test]
    fn paths_stay_below() {
        for fine in ["bin/screamd", "models/a-b_c.1+2/model.nnef.tgz"] {
            assert_eq!(plain(fine), Ok(()), "{fine}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", ".a", "a/.b", "a b", "a\nb", NAME] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }
}
