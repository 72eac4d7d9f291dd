//! Files that a command writes when its work is done.

use std::path::Path;

use anyhow::{Context, ensure};
use rustix::fs::{Access, access};
use serde::Serialize;

/// Whether a file could be written at `path`: asked before the work, which would be lost. Nothing is made.
///
/// # Errors
/// Its folder is missing or cannot be written to, or it is a folder itself.
pub fn check(path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    ensure!(!path.is_dir(), "{}: is a folder", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (asked, may) =
        if path.exists() { (path, Access::WRITE_OK) } else { (folder, Access::WRITE_OK | Access::EXEC_OK) };
    access(asked, may).map_err(std::io::Error::from).with_context(|| asked.display().to_string())
}

/// Figures as JSON, where somebody wants them.
///
/// # Errors
/// The file cannot be written.
pub fn json(path: Option<&Path>, figures: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, serde_json::to_vec_pretty(figures)?).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| check(Some(path)).map_err(|error| format!("{error:#}"));
        let file = folder.path().join("figures.json");
        said(&file).unwrap();
        assert!(!file.exists(), "asking makes nothing");
        json(Some(&file), &[1, 2]).unwrap();
        said(&file).unwrap();
        said(Path::new("/dev/null")).unwrap();
        check(None).unwrap();
        assert!(said(folder.path()).unwrap_err().ends_with(": is a folder"));
        let missing = folder.path().join("missing/figures.json");
        let cause = said(&missing).unwrap_err();
        assert!(cause.contains("/missing: No such file"), "{cause}");
    }
}
