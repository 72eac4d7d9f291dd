//! What the outbox asks of a disk, and the real one. Behind a trait so that tests can cut the power after every call.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::limits::SEGMENT_READ_BYTES_MAX;

/// The calls of the outbox. What is written counts as kept after [`Disk::sync`] of the file and, for a new or renamed
/// file, [`Disk::sync_dir`].
pub trait Disk {
    /// An open file.
    type File: std::fmt::Debug;
    /// Makes the folder ready and takes it for this process alone. May be called again.
    fn prepare(&mut self) -> io::Result<()>;
    /// Whether it can be asked now.
    fn ready(&self) -> io::Result<()> {
        Ok(())
    }
    /// Names in the folder, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new file, open at its end.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Appends all of it.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Puts the file's content on the disk.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;
    /// The same for a file that is not open.
    fn sync_named(&self, name: &str) -> io::Result<()>;
    /// Renames over whatever stood there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Puts the folder's names on the disk.
    fn sync_dir(&self) -> io::Result<()>;
}

/// What root makes in somebody's folder becomes that somebody's: a device that is tried by hand keeps its outbox. As `files::private_file::give`,
/// whose crate this one does not depend on.
fn give(made: &File, folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (owner, made_as) = (std::fs::metadata(folder)?, made.metadata()?);
    let shared = made_as.is_file() && made_as.nlink() > 1;
    if owner.uid() == 0 || made_as.uid() != 0 || shared {
        Ok(())
    } else {
        fchown(made, Some(owner.uid()), Some(owner.gid()))
    }
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: Option<File>,
}

impl Folder {
    /// The folder at this path; nothing is touched before [`Disk::prepare`].
    pub fn new(path: PathBuf) -> Self {
        Self { path, lock: None }
    }
}

impl Disk for Folder {
    type File = File;

    fn prepare(&mut self) -> io::Result<()> {
        if !self.path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            give(&File::open(&self.path)?, self.path.parent().unwrap_or(&self.path))?;
        }
        if self.lock.is_none() {
            // Two writers would give two alerts the same number. The lock ends with the process, however it ends.
            // Never through a link: root, who tries the alarm by hand, would give away where it points.
            let no_link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o600).custom_flags(no_link);
            let lock = options.open(self.path.join("lock"))?;
            give(&lock, &self.path)?;
            lock.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => io::Error::other("another screamd uses this outbox"),
                TryLockError::Error(error) => error,
            })?;
            self.lock = Some(lock);
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.path.read_dir()? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(name))?.take(SEGMENT_READ_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.path.join(name))?;
        give(&file, &self.path)?;
        Ok(file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_named(&self, name: &str) -> io::Result<()> {
        File::open(self.path.join(name))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
