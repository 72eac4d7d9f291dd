//! Files that either stand whole or not at all, readable by their owner alone.
//!
//! What is written here can be turned back into rough sound (a spectrogram) or is sound (a clip), so nobody but the
//! owner reads it (mode 0600); and a power cut at any moment leaves the old file or the new one, never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// What went wrong, at which path, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {step}: {cause}", path.display())]
pub struct WriteError {
    /// The file that was to be written (not the temporary one beside it).
    pub path: PathBuf,
    /// The step that failed, as a verb.
    pub step: &'static str,
    /// The system's answer: in the words above, so no `source` that whoever prints the chain would say once more.
    pub cause: io::Error,
}

impl WriteError {
    /// True where the disk, its inodes or the user's share of it are used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A file being written beside its final place. It is there once [`commit`](Self::commit) has returned, and dropping
/// it before leaves nothing behind.
#[derive(Debug)]
pub struct PrivateFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    committed: bool,
}

impl PrivateFile {
    /// Starts a file that will stand at `path`.
    ///
    /// # Errors
    /// Where `path` has no file name, its folder is missing, or nothing can be written there.
    pub fn create(path: &Path) -> Result<Self, WriteError> {
        let fail = |cause| WriteError { path: path.to_owned(), step: "create it", cause };
        let name = path.file_name().ok_or_else(|| fail(io::ErrorKind::InvalidFilename.into()))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}{TEMPORARY_END}", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        // A process before this one may have had the same number and been killed here. `create_new` after it, so
        // that a link which somebody has placed there is never followed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(fail)?;
        give(&file, folder_of(path)).map_err(fail)?;
        Ok(Self { path: path.to_owned(), temporary, file, committed: false })
    }

    /// Waits until the disk holds what was written so far.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.file.sync_all().map_err(|e| self.error("store it", e))
    }

    /// Puts the file in its place and waits until disk and folder hold it.
    ///
    /// # Errors
    /// Where the disk refuses; the old file, if there was one, then still stands.
    pub fn commit(mut self) -> Result<(), WriteError> {
        self.sync()?;
        fs::rename(&self.temporary, &self.path).map_err(|e| self.error("put it in its place", e))?;
        self.committed = true;
        // The rename alone is not durable on ext4 and XFS: the folder has to be stored too.
        File::open(folder_of(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(|e| self.error("store its folder", e))
    }

    fn error(&self, step: &'static str, cause: io::Error) -> WriteError {
        WriteError { path: self.path.clone(), step, cause }
    }
}

impl Write for PrivateFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing better can be done about a failure here; the event store sweeps leftovers when it opens.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What root makes in somebody's folder becomes that somebody's: whoever tries the alarm by hand must not lock the service out of its own
/// files. A file that has another name too stays root's: somebody may have put that name there.
///
/// # Errors
/// Where the system refuses.
pub fn give(made: &File, folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (owner, made_as) = (fs::metadata(folder)?, made.metadata()?);
    let shared = made_as.is_file() && made_as.nlink() > 1;
    if owner.uid() == 0 || made_as.uid() != 0 || shared {
        Ok(())
    } else {
        fchown(made, Some(owner.uid()), Some(owner.gid()))
    }
}

/// The end of a temporary file's name; it starts with a dot.
const TEMPORARY_END: &str = ".tmp";

/// True for the name of a file that [`PrivateFile`] was writing when its process died.
#[must_use]
pub fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY_END)
}

/// Writes `bytes` to `path` at once: [`PrivateFile`] for what is in memory already.
///
/// # Errors
/// As [`PrivateFile::create`] and [`PrivateFile::commit`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut file = PrivateFile::create(path)?;
    file.write_all(bytes).map_err(|e| file.error("write it", e))?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_whole_private_and_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_private(&path, b"old").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PrivateFile::create(&folder.path().join("a.png")).unwrap();
        file.write_all(b"half").unwrap();
        assert!(names(folder.path()).iter().all(|name| is_leftover(name)));
        drop(file);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_link_in_the_way_is_replaced_and_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("a.png"));
        fs::write(&victim, "keep").unwrap();
        let temporary = format!(".a.png.{}.tmp", std::process::id());
        std::os::unix::fs::symlink(&victim, folder.path().join(temporary)).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        write_private(&path, b"picture").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"keep");
        assert_eq!(fs::read(&path).unwrap(), b"picture");
    }

    #[test]
    fn an_error_names_the_path_and_the_cause() {
        let error = write_private(Path::new("/no/such/folder/a.png"), b"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/no/such/folder/a.png: cannot create it: No such file or directory (os error 2)"
        );
        assert!(!error.is_full());
        assert!(write_private(Path::new("/"), b"").is_err());
    }
}
