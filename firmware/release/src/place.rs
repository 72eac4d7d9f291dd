//! Putting things in their place so that a power cut finds the old thing or the new one: written beside, stored, renamed,
//! and the folder stored.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Stores a folder's entries.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Replaces the file at `folder`/`name`; readable by everybody, since the service is another user.
pub(crate) fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!(".{name}.new"));
    remove(&beside)?;
    let mut file = File::options().write(true).create_new(true).mode(0o644).open(&beside)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    sync_folder(folder)
}

/// Replaces the symbolic link at `folder`/`name`; no `target` removes it.
pub(crate) fn write_link(folder: &Path, name: &str, target: Option<&str>) -> io::Result<()> {
    match target {
        Some(target) => {
            let beside = folder.join(format!(".{name}.new"));
            remove(&beside)?;
            std::os::unix::fs::symlink(target, &beside)?;
            fs::rename(&beside, folder.join(name))?;
        }
        None => remove(&folder.join(name))?,
    }
    sync_folder(folder)
}

/// Removes a file or link, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes whatever stands at `path`, if anything.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// A regular file of at most `max` bytes as text; none where it is missing or anything is odd. No link is followed: the
/// file may be another user's.
pub fn read_small(path: &Path, max: u64) -> Option<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > max {
        return None;
    }
    let mut text = String::new();
    file.take(max).read_to_string(&mut text).ok()?;
    Some(text)
}
