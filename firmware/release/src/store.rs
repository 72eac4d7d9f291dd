//! The releases of a device, in one folder that root alone writes.
//!
//! ```text
//! /var/lib/screamd-releases/
//!     1.2.0-3f2a91c0/     a whole release: bin/, models/, boards/, manifest.toml
//!     current -> ...      what is started; no link: the package
//!     good -> ...         the last that proved itself; no link: the package
//!     previous -> ...     the one before `good`, for `rollback`
//!     trial.json          starts of `current`, while it is not `good`
//!     starts.json         its starts of the last ten minutes, while it is
//!     last.json           how the last update ended
//!     failed              releases that did not prove themselves, one a line, the latest last
//!     package             version of the package at the last start
//!     .staging/           a bundle on its way; swept
//! ```
//! One rename decides each time: `current` is on trial exactly while it is another than `good`, so there is no moment at
//! which two files must agree. A link that leads nowhere, or to a release that is not whole, counts as the package.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use semver::Version;

use crate::bundle::{self, Verified};
use crate::keys::TrustedKey;
use crate::limits::{MANIFEST_BYTES_MAX, RESERVE_BYTES, STATE_BYTES_MAX};
use crate::manifest::{self, Manifest};
use crate::place::{read_small, remove_tree, sync_folder, write_file, write_link};
use crate::trial::{Health, Trial};
use crate::unpack::unpack;
use crate::{Cause, Refused};

/// The package's place in words and state files.
pub const PACKAGE: &str = "package";
/// Below the device's root.
pub const FOLDER: &str = "var/lib/screamd-releases";

pub(crate) const CURRENT: &str = "current";
pub(crate) const GOOD: &str = "good";
pub(crate) const PREVIOUS: &str = "previous";
pub(crate) const TRIAL_FILE: &str = "trial.json";
pub(crate) const STARTS_FILE: &str = "starts.json";
pub(crate) const LAST_FILE: &str = "last.json";
pub(crate) const FAILED_FILE: &str = "failed";
pub(crate) const PACKAGE_FILE: &str = "package";
const STAGING: &str = ".staging";
/// How long a short step waits for another one.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A whole release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Version and build: `1.2.0-3f2a91c0`.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What it says it is.
    pub manifest: Manifest,
}

/// What a bundle must fit.
#[derive(Debug, Clone)]
pub struct Fit<'a> {
    /// Of the package on this device.
    pub package: &'a Version,
    /// As Rust names it.
    pub arch: &'a str,
    /// The site file's board.
    pub board: &'a str,
    /// An older version is meant.
    pub allow_downgrade: bool,
}

/// The steps of [`Store::apply`], in order: for people who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Copied to where nobody else writes.
    Copied,
    /// Signed by a trusted key, and meant for this device.
    Verified,
    /// Unpacked and stored.
    Unpacked,
    /// `current` now.
    Switched,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Of the device whose files are below `root`. Touches nothing.
    pub fn below(root: &Path) -> Self {
        Self { dir: root.join(FOLDER) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// What is started; none: the package.
    pub fn current(&self) -> Option<Release> {
        self.release(&self.link(CURRENT)?)
    }

    /// What is started where `current` is not whole, and what comes back after a failed trial; none: the package.
    pub fn good(&self) -> Option<Release> {
        self.release(&self.link(GOOD)?)
    }

    /// The one before `good`, where it is still there.
    pub fn previous(&self) -> Option<Release> {
        self.release(&self.link(PREVIOUS)?)
    }

    /// Whether `current` has still to prove itself.
    pub fn on_trial(&self) -> bool {
        self.link(CURRENT) != self.link(GOOD)
    }

    /// The release `id`, where it is whole: every file that its manifest names is there with its size.
    pub fn release(&self, id: &str) -> Option<Release> {
        let folder = self.dir.join(id);
        let manifest = Manifest::parse(&read_small(&folder.join(manifest::NAME), MANIFEST_BYTES_MAX)?).ok()?;
        let whole = manifest.files.iter().all(|file| {
            fs::symlink_metadata(folder.join(&file.path))
                .is_ok_and(|found| found.is_file() && found.len() == file.bytes)
        });
        whole.then(|| Release { id: id.to_string(), folder, manifest })
    }

    /// Applies the bundle at `path`: when this returns well, it is `current`, on trial. Otherwise nothing has changed.
    ///
    /// `before` is how the running release is: what does not work today is not asked of the new one.
    ///
    /// # Errors
    /// [`Refused`], naming the bundle and the cause.
    pub fn apply(
        &self,
        path: &Path,
        keys: &[TrustedKey],
        fit: &Fit,
        before: Option<Health>,
        step: &mut dyn FnMut(Step),
    ) -> Result<Release, Refused> {
        self.apply_to(path, keys, fit, before, step).map_err(|cause| match cause {
            Applying::Refused(refused) => refused,
            Applying::Cause(cause) => Refused::at(path, cause),
        })
    }

    fn apply_to(
        &self,
        path: &Path,
        keys: &[TrustedKey],
        fit: &Fit,
        before: Option<Health>,
        step: &mut dyn FnMut(Step),
    ) -> Result<Release, Applying> {
        let mut given = bundle::open(path)?;
        fs::create_dir_all(&self.dir).map_err(Cause::io(format!("make {}", self.dir.display())))?;
        // Held to the end: the file's lock goes with it.
        let _applying = self.lock("apply.lock", Duration::ZERO)?;
        let staging = self.dir.join(STAGING);
        let result = self
            .stage(&mut given, &staging, keys, fit, step)
            .and_then(|release| self.switch(release, &staging, fit, before, step));
        // Also after a failure: a full disk is not to be kept full. What cannot be removed is swept next time.
        let _ = remove_tree(&staging);
        self.prune();
        Ok(result?)
    }

    /// Everything that needs time and nobody sees.
    fn stage(
        &self,
        given: &mut File,
        staging: &Path,
        keys: &[TrustedKey],
        fit: &Fit,
        step: &mut dyn FnMut(Step),
    ) -> Result<(String, Manifest), Cause> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let here = |error| Cause::io(format!("prepare {}", staging.display()))(error);
        remove_tree(staging).map_err(here)?;
        let size = given.metadata().map_err(here)?.len();
        room_for(&self.dir, size)?;
        fs::DirBuilder::new().mode(0o700).create(staging).map_err(here)?;
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut copy = options.open(staging.join("bundle")).map_err(here)?;
        bundle::copy(given, &mut copy).map_err(Cause::io("copy it"))?;
        step(Step::Copied);

        let mut bundle: Verified = bundle::verify(copy, keys)?;
        let manifest = bundle.manifest()?;
        let id = format!("{}-{}", manifest.version, bundle.build);
        self.check_fit(&manifest, &id, fit)?;
        step(Step::Verified);

        room_for(&self.dir, manifest.bytes().unwrap_or(u64::MAX))?;
        unpack(&mut bundle, &manifest, &staging.join("release"))?;
        step(Step::Unpacked);
        Ok((id, manifest))
    }

    /// The new release takes its place; the last rename is the one that counts.
    fn switch(
        &self,
        (id, manifest): (String, Manifest),
        staging: &Path,
        fit: &Fit,
        before: Option<Health>,
        step: &mut dyn FnMut(Step),
    ) -> Result<Release, Cause> {
        let _lock = self.lock("lock", LOCK_WAIT)?;
        let folder = self.dir.join(&id);
        let place = || -> io::Result<()> {
            // Left by a trial that failed, or half removed.
            if folder.exists() {
                fs::rename(&folder, staging.join("old"))?;
            }
            fs::rename(staging.join("release"), &folder)?;
            sync_folder(&self.dir)?;
            write_file(&self.dir, PACKAGE_FILE, fit.package.to_string().as_bytes())?;
            self.write_trial(&Trial::of(&id, before))?;
            // Where it is `good` itself, after another's trial, no trial's end would do it.
            self.forget_starts();
            write_link(&self.dir, CURRENT, Some(&id))
        };
        place().map_err(Cause::io(format!("put {id} in its place")))?;
        step(Step::Switched);
        Ok(Release { id, folder, manifest })
    }

    fn check_fit(&self, manifest: &Manifest, id: &str, fit: &Fit) -> Result<(), Cause> {
        manifest.is_for(fit.arch, fit.board)?;
        let current = self.current();
        if current.as_ref().is_some_and(|current| current.id == id) {
            return Err(Cause::Installed(id.into()));
        }
        let installed = current.map_or_else(|| fit.package.clone(), |current| current.manifest.version);
        if manifest.version < installed && !fit.allow_downgrade {
            return Err(Cause::Downgrade { bundle: manifest.version.to_string(), installed: installed.to_string() });
        }
        Ok(())
    }

    /// Removes releases that no link names, and leftovers. Best effort: they cost room and nothing else.
    pub(crate) fn prune(&self) {
        let kept: Vec<String> = [CURRENT, GOOD, PREVIOUS].iter().filter_map(|name| self.link(name)).collect();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != STAGING && !kept.contains(&name) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A link's target, where it is the name of something in this folder.
    pub(crate) fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.dir.join(name)).ok()?;
        let target = target.to_str()?;
        manifest::is_word(target).then(|| target.to_string())
    }

    pub(crate) fn set_link(&self, name: &str, target: Option<&str>) -> io::Result<()> {
        write_link(&self.dir, name, target)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        read_small(&self.dir.join(name), STATE_BYTES_MAX)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        write_file(&self.dir, name, text.as_bytes())
    }

    /// The short lock: a start, a verdict, a switch, one after another.
    pub(crate) fn short_lock(&self) -> Result<File, Cause> {
        fs::create_dir_all(&self.dir).map_err(Cause::io(format!("make {}", self.dir.display())))?;
        self.lock("lock", LOCK_WAIT)
    }

    fn lock(&self, name: &str, wait: Duration) -> Result<File, Cause> {
        let path = self.dir.join(name);
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(Cause::io(format!("open {}", path.display())))?;
        let until = Instant::now() + wait;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Cause::Busy),
                Err(errno) => return Err(Cause::io(format!("lock {}", path.display()))(errno.into())),
            }
        }
    }
}

enum Applying {
    Refused(Refused),
    Cause(Cause),
}

impl From<Refused> for Applying {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Cause> for Applying {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

/// Whether `dir` has room for so many bytes and for the alerts of a day beside them.
///
/// # Errors
/// It has not, or the system does not say.
pub fn room_for(dir: &Path, bytes: u64) -> Result<(), Cause> {
    let at = rustix::fs::statvfs(dir).map_err(|errno| Cause::io("ask for free space")(errno.into()))?;
    let free = at.f_bavail.saturating_mul(at.f_frsize);
    let needed = bytes.saturating_add(RESERVE_BYTES);
    if needed > free {
        return Err(Cause::NoSpace { needed, free, dir: dir.display().to_string() });
    }
    Ok(())
}
