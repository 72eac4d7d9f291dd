//! One `screamd` a state folder: two would give two events the same number, each write over what the other keeps, and throw each other off the
//! broker. Somebody who tries a recording beside the running service gets his answer, and the service notices nothing of it.
//!
//! The lock ends with the process, however it ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use files::private_file::give;
use rustix::fs::OFlags;

const NAME: &str = "screamd.lock";
/// Who was told to end needs two seconds for it at the most.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Who has the folder.
#[derive(Debug)]
pub enum Holder {
    /// This process, while it keeps the file.
    Us {
        /// Locked.
        lock: File,
        /// Another one had it until just now: what was read before may be old.
        anew: bool,
    },
    /// Another one.
    Another(File),
}

/// Takes the folder; waits a moment for one that ends.
///
/// # Errors
/// The path and the system's words: nothing is known then, and nothing can be kept there.
pub fn take(state_dir: &Path) -> Result<Holder, String> {
    let path = state_dir.join(NAME);
    take_within(&path, PATIENCE).map_err(|error| format!("{}: {error}", path.display()))
}

fn take_within(path: &Path, patience: Duration) -> io::Result<Holder> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Never through a link: root, who tries the alarm by hand, would give away where it points.
    let no_link = OFlags::NOFOLLOW.bits() as i32;
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(no_link).open(path)?;
    give(&lock, folder)?;
    let (began, mut anew) = (Instant::now(), false);
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Holder::Us { lock, anew }),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() >= patience => return Ok(Holder::Another(lock)),
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut anew, true) {
            log::info!("{}: another screamd uses this folder; it is waited for", folder.display());
        }
        std::thread::sleep(LOOK);
    }
}

/// Of the service, which goes on all the same: takes the folder once the other is gone, from a thread of its own, and keeps it.
pub fn take_later(lock: File, state_dir: PathBuf) -> io::Result<()> {
    std::thread::Builder::new().name("state-lock".into()).spawn(move || match lock.lock() {
        Ok(()) => loop {
            std::thread::park();
        },
        Err(error) => log::warn!("{}: {error}", state_dir.join(NAME).display()),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_has_the_folder_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join(NAME);
        let take = |patience_s| take_within(&path, Duration::from_secs(patience_s)).unwrap();
        let Holder::Us { lock, anew: false } = take(0) else { panic!("nobody else is there") };
        let Holder::Another(later) = take(0) else { panic!("one only") };
        // One that ends while it is waited for.
        let ends = std::thread::spawn(move || {
            std::thread::sleep(2 * LOOK);
            drop(lock);
        });
        let Holder::Us { lock, anew: true } = take(60) else { panic!("it has ended") };
        ends.join().unwrap();
        take_later(later, dir.path().to_owned()).unwrap();
        drop(lock);
        let until = Instant::now() + Duration::from_secs(60);
        while !matches!(take(0), Holder::Another(_)) {
            assert!(Instant::now() < until, "whoever waits takes it and keeps it");
            std::thread::sleep(LOOK);
        }
    }

    /// A folder that cannot be made is no other's, and a link is none of ours.
    #[test]
    fn a_lock_that_cannot_be_had_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take(Path::new("/dev/null/nowhere")).unwrap_err().contains(NAME));
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join(NAME)).unwrap();
        assert!(take(dir.path()).is_err() && !dir.path().join("elsewhere").exists());
    }
}
