//! The service's side of updates, a thread beside the control loop: says how the release is, sees bundles that were
//! placed on the device, asks for one when the hub wants it.
//!
//! The control loop touches no disk: it sets flags here, and gets a [`Notice`] where something is worth telling.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hub::UpdateState;
use release::store::PACKAGE;
use release::trial::{Health, Outcome};
use semver::Version;

use super::fetch::Fetch;
use super::launch::{RELEASE, ROOT};
use super::{Device, REQUEST, package_version, serve};
use crate::control::Message;
use crate::faults::{Fault, Faults};
use files::site::Site;

/// How often the flags are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Of those, how many to one look at the disk.
const LOOKS_PER_SCAN: u32 = 10;
/// Bundles that are looked at: those that came last.
const BUNDLES_MAX: usize = 16;

/// Something to tell the hub.
#[derive(Debug, Clone)]
pub enum Notice {
    /// What is installed, what is offered, whether an update is going on.
    State(UpdateState),
    /// An update has ended, since the last time this was told.
    Ended(Outcome),
}

/// What the control loop says, without a lock.
#[derive(Debug, Default)]
struct Flags {
    window: AtomicBool,
    microphone_dead: AtomicBool,
    outputs_lost: AtomicBool,
    outbox_lost: AtomicBool,
    /// The control loop runs: before, nothing is known.
    known: AtomicBool,
    offered: AtomicBool,
    wanted: AtomicBool,
}

/// The control loop's handle.
#[derive(Debug, Clone, Default)]
pub struct Agent(Arc<Flags>);

impl Agent {
    /// Starts the threads. The inbox is in the site's state folder; `board` is the board in use.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(site: &Site, board: &str, out: SyncSender<Message>) -> std::io::Result<Self> {
        let agent = Self::default();
        let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let device = Arc::new(Device::below(&root));
        let state_dir = &site.state.dir;
        let fetch = Fetch {
            device: Arc::clone(&device),
            update: site.update.clone(),
            inbox: state_dir.join(super::INBOX),
            board: board.to_string(),
        };
        fetch.start()?;
        let work = Work::new(Arc::clone(&agent.0), device, state_dir.join(super::INBOX), board, out);
        std::thread::Builder::new().name("update".into()).spawn(move || work.run())?;
        Ok(agent)
    }

    /// A window was scored.
    pub fn scored(&self) {
        self.0.window.store(true, Relaxed);
    }

    /// What is wrong now.
    pub fn faults(&self, faults: &Faults) {
        self.0.microphone_dead.store(faults.microphone_dead(), Relaxed);
        self.0.outputs_lost.store(faults.stands(Fault::OutputUnavailable), Relaxed);
        self.0.outbox_lost.store(faults.stands(Fault::StorageFull), Relaxed);
        self.0.known.store(true, Relaxed);
    }

    /// The hub wants the update that is offered; false where none is.
    pub fn install(&self) -> bool {
        let offered = self.0.offered.load(Relaxed);
        if offered {
            self.0.wanted.store(true, Relaxed);
        }
        offered
    }
}

/// The version that runs: the release's, as its manifest has it, or the package's.
pub fn installed_version() -> String {
    let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let release = std::env::var(RELEASE).ok().filter(|id| id != PACKAGE);
    let release = release.and_then(|id| Device::below(&root).store.release(&id));
    release.map_or_else(package_version, |release| release.manifest.version).to_string()
}

/// What the hub is told before anybody has looked at the disk.
pub fn first_state() -> UpdateState {
    let installed = installed_version();
    UpdateState { latest_version: installed.clone(), installed_version: installed, in_progress: false }
}

struct Work {
    flags: Arc<Flags>,
    device: Arc<Device>,
    /// None where nobody launched this as a release: then nobody judges it either.
    release: Option<String>,
    inbox: PathBuf,
    board: String,
    out: SyncSender<Message>,
    said: Option<Health>,
    /// The last update's end that was told.
    told: Option<u64>,
    /// As the hub has it.
    state: UpdateState,
    /// Bundles by name, size and the time of their last change, of their owner and mode too: each is hashed once.
    seen: HashMap<(PathBuf, u64, (i64, i64)), Option<Offer>>,
    offer: Option<Offer>,
}

/// A bundle that fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its name in the inbox.
    pub file: String,
    pub version: Version,
    /// Version and build.
    pub release: String,
}

impl Work {
    fn new(flags: Arc<Flags>, device: Arc<Device>, inbox: PathBuf, board: &str, out: SyncSender<Message>) -> Self {
        Self {
            flags,
            device,
            release: std::env::var(RELEASE).ok(),
            inbox,
            board: board.to_string(),
            out,
            said: None,
            told: None,
            state: first_state(),
            seen: HashMap::new(),
            offer: None,
        }
    }

    fn run(mut self) {
        // Whoever brings a bundle finds the place that the documents name. Elsewhere than on a device, its parent is not there.
        if self.inbox.parent().is_some_and(Path::exists)
            && let Err(error) = self.make_inbox()
        {
            log::warn!("{}: {error}", self.inbox.display());
        }
        let mut looks = 0u32;
        // The control loop is gone where its queue is: the program ends.
        loop {
            self.say_health();
            if looks.is_multiple_of(LOOKS_PER_SCAN) && !self.scan() {
                return;
            }
            if self.flags.wanted.swap(false, Relaxed) {
                self.ask();
                if !self.scan() {
                    return;
                }
            }
            looks = looks.wrapping_add(1);
            std::thread::sleep(LOOK);
        }
    }

    fn say_health(&mut self) {
        let Some(release) = self.release.clone().filter(|_| self.flags.known.load(Relaxed)) else { return };
        let health = Health {
            release,
            window: self.flags.window.load(Relaxed),
            microphone: !self.flags.microphone_dead.load(Relaxed),
            outputs: !self.flags.outputs_lost.load(Relaxed),
            outbox: !self.flags.outbox_lost.load(Relaxed),
        };
        if self.said.as_ref() == Some(&health) {
            return;
        }
        let bytes = serde_json::to_vec(&health).unwrap_or_default();
        match files::private_file::write_private(&self.device.health(), &bytes) {
            Ok(()) => self.said = Some(health),
            Err(error) => log::debug!("{error}"),
        }
    }

    /// Looks at the disk and tells what has changed; false where nobody listens any more.
    fn scan(&mut self) -> bool {
        self.offer = self.best_offer();
        self.flags.offered.store(self.offer.is_some(), Relaxed);
        let installed = installed_version();
        let state = UpdateState {
            latest_version: self.offer.as_ref().map_or_else(|| installed.clone(), |offer| offer.version.to_string()),
            installed_version: installed,
            in_progress: self.device.store.on_trial() || self.inbox.join(REQUEST).exists(),
        };
        if self.state != state {
            match self.out.try_send(Message::Update(Notice::State(state.clone()))) {
                Ok(()) => self.state = state,
                Err(std::sync::mpsc::TrySendError::Full(_)) => {}
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return false,
            }
        }
        self.tell_the_end();
        true
    }

    /// How the last update ended, once: what has been told is remembered over restarts.
    fn tell_the_end(&mut self) {
        let Some(last) = self.device.store.last() else { return };
        if self.told == Some(last.seq) {
            return;
        }
        let path = self.inbox.join("told");
        let told = release::read_foreign(&path, 64).and_then(|text| text.trim().parse::<u64>().ok());
        if told == Some(last.seq) {
            self.told = told;
            return;
        }
        let (number, seq) = (last.seq, last.seq.to_string());
        if self.out.try_send(Message::Update(Notice::Ended(last))).is_err() {
            return;
        }
        // Also where it cannot be written down: once a start is enough.
        self.told = Some(number);
        if let Err(error) = self
            .make_inbox()
            .and_then(|()| files::private_file::write_private(&path, seq.as_bytes()).map_err(std::io::Error::other))
        {
            log::warn!("{}: {error}", path.display());
        }
    }

    fn make_inbox(&self) -> std::io::Result<()> {
        if self.inbox.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.inbox)?;
        files::private_file::give(&std::fs::File::open(&self.inbox)?, self.inbox.parent().unwrap_or(&self.inbox))
    }

    fn best_offer(&mut self) -> Option<Offer> {
        let failed = self.device.store.failed();
        let installed = Version::parse(&installed_version()).ok()?;
        let offers: Vec<Offer> =
            latest_bundles(&self.inbox).into_iter().filter_map(|path| self.offer_of(path)).collect();
        let fits = |offer: &Offer| offer.version > installed && !failed.contains(&offer.release);
        offers.into_iter().filter(fits).max_by(|a, b| a.version.cmp(&b.version))
    }

    fn offer_of(&mut self, path: PathBuf) -> Option<Offer> {
        let metadata = std::fs::symlink_metadata(&path).ok()?;
        let key = (path.clone(), metadata.len(), (metadata.ctime(), metadata.ctime_nsec()));
        if let Some(known) = self.seen.get(&key) {
            return known.clone();
        }
        let looked_at = look_into(&self.device, &self.board, &path);
        if let Err(refused) = &looked_at {
            log::warn!("{refused}; not offered");
        }
        // A folder in which files come and go for ever must not fill the memory.
        if self.seen.len() >= 4 * BUNDLES_MAX {
            self.seen.clear();
        }
        self.seen.entry(key).or_insert(looked_at.ok()).clone()
    }

    /// Root does the rest.
    fn ask(&self) {
        let Some(offer) = &self.offer else { return };
        log::info!("update {} is asked for", offer.release);
        let written = files::private_file::write_private(&self.inbox.join(REQUEST), offer.file.as_bytes());
        if let Err(error) = written {
            log::error!("{error}");
        }
    }
}

/// The bundles that came last, the newest first.
fn latest_bundles(inbox: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(inbox).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_bundle = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(serve::is_bundle_name);
    let came = |path: PathBuf| std::fs::symlink_metadata(&path).ok().map(|of| (of.ctime(), of.ctime_nsec(), path));
    let mut found: Vec<_> = paths.filter(is_bundle).filter_map(came).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().take(BUNDLES_MAX).map(|(.., path)| path).collect()
}

/// What a bundle offers this device, after everything that can be checked without root.
///
/// # Errors
/// Signature, machine or board do not fit, or it cannot be read.
pub fn look_into(device: &Device, board: &str, path: &std::path::Path) -> Result<Offer, release::Refused> {
    let keys = device.trusted(&[])?;
    let file = release::bundle::open(path)?;
    let read = |cause| release::Refused::at(path, cause);
    let mut bundle = release::bundle::verify(file, &keys).map_err(read)?;
    let manifest = bundle.manifest().map_err(read)?;
    manifest.is_for(std::env::consts::ARCH, board).map_err(read)?;
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let release = format!("{}-{}", manifest.version, bundle.build);
    Ok(Offer { file, version: manifest.version, release })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn of_many_bundles_the_latest_are_looked_at() {
        let inbox = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..20).map(|number| format!("{}.bundle", 7 * number % 20)).collect();
        for name in &names {
            std::fs::write(inbox.path().join(name), "").unwrap();
            // The kernel's clock for files has ticks of some milliseconds.
            std::thread::sleep(Duration::from_millis(12));
        }
        std::fs::write(inbox.path().join("told"), "1").unwrap();
        let expected: Vec<PathBuf> = names.iter().rev().take(16).map(|name| inbox.path().join(name)).collect();
        assert_eq!(latest_bundles(inbox.path()), expected);
        assert!(latest_bundles(&inbox.path().join("missing")).is_empty());
    }

    /// The service's disk is full, or its folder is another's: what was told is not said again every few seconds.
    #[test]
    fn an_end_that_cannot_be_written_down_is_told_once_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        std::fs::create_dir_all(device.store.folder()).unwrap();
        let inbox = dir.path().join("update");
        std::fs::create_dir_all(inbox.join("told")).unwrap();
        let (out, told) = sync_channel(8);
        let mut work = Work::new(Arc::default(), Arc::new(device), inbox, "generic", out);
        let mut ended = |seq: u64| {
            let last = Outcome { seq, release: "9.1.0-1".into(), ok: false, detail: "no word".into() };
            let path = work.device.store.folder().join("last.json");
            std::fs::write(path, serde_json::to_string(&last).unwrap()).unwrap();
            (0..3).for_each(|_| work.tell_the_end());
            told.try_iter().count()
        };
        assert_eq!((ended(1), ended(1), ended(2)), (1, 0, 1));
    }
}
