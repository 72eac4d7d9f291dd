//! The hub: alerts that are never lost, states that are never stale, commands that cannot hurt, over MQTT 3.1.1.
//!
//! *Alert*: must arrive; outbox, then broker, gone on PUBACK. *State*: what holds now. *Command*: what somebody wants,
//! checked before the caller sees it. *Link*: one connection to the broker.
//!
//! ```text
//! caller --(mailbox, never waits)--> hub thread -> outbox (fsync) -> link -> broker -> PUBACK -> outbox.ack
//! caller <--(bounded channel)------- commands, connected, disconnected, storage
//! ```
//! Read in this order: [`alert`], [`topics`], [`command`], [`outbox`], [`discovery`], [`options`], then `session`.
//! Architecture invariants: no file but the outbox is touched (what opens the
//! broker's door is read by a function of the caller); nothing is configured from the environment; the caller's
//! thread never waits for disk or network.

pub mod alert;
pub mod command;
pub mod discovery;
pub mod limits;
mod mailbox;
pub mod options;
pub mod outbox;
pub mod probe;
mod session;
pub mod topics;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use alert::{CommandResult, Event, EventType, Live, ScreamAttributes, State, Telemetry, UpdateState, as_written};
pub use command::Command;
pub use options::{Access, AccessSource, ClientCertificate, Device, Options, OptionsError, Secret, Tls};
pub use session::pace::random;
pub use session::tls::config as tls_config;

use mailbox::Mailbox;
use topics::Topics;

/// What the hub tells its caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A command that passed every check. Each wants one [`Hub::answer`].
    Command {
        /// What is wanted.
        command: Command,
        /// The whole topic it came on, for the answer.
        topic: String,
        /// The command's own id, for the answer.
        id: Option<String>,
    },
    /// The broker is there, for the first time or again.
    Connected,
    /// The broker is lost, or was not found at the start; or it is there and refuses the commands that end an alarm, so that alerts
    /// go out and nobody can silence them. Once, until [`Incoming::Connected`].
    Disconnected {
        /// What went wrong, for people.
        cause: String,
    },
    /// Alerts are kept in memory alone: full disk, I/O error. Once, until [`Incoming::StorageRestored`].
    StorageFailed {
        /// The call and its error.
        cause: String,
    },
    /// Every alert is on the disk again.
    StorageRestored,
}

/// Why a hub cannot start. A broker or a disk that is not there is no reason: both are reported and tried again.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// An option that cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// TLS material that cannot work.
    #[error("TLS: {0}")]
    Tls(String),
    /// No thread or runtime.
    #[error("cannot start the hub's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running session: one thread, until [`Hub::stop`]. Dropped without it, the thread ends as in a crash: the outbox
/// stays, the broker sends the will.
#[derive(Debug)]
pub struct Hub {
    mailbox: Arc<Mailbox>,
    topics: Topics,
    thread: Option<JoinHandle<()>>,
    done: Receiver<()>,
}

impl Hub {
    /// Starts the thread. It opens the outbox, connects, and goes on trying for ever. Waits for the outbox, so that
    /// [`Hub::outbox_len`] is true from the first call on, but not for a disk that hangs.
    ///
    /// # Errors
    /// Options or TLS material that cannot work, or no thread. What an `access_source` gives later is no error of the start.
    pub fn start(options: Options, incoming: SyncSender<Incoming>) -> Result<Self, HubError> {
        options.check()?;
        let tls = options.access.tls.as_ref().map(session::tls::config).transpose().map_err(HubError::Tls)?;
        let mailbox = Arc::new(Mailbox::default());
        mailbox.clock_set.store(options.clock_set, Relaxed);
        let topics = Topics::new(&options.device_id);
        // Made here, so that a failure is the caller's to see.
        let runtime = session::runtime()?;
        let (finished, done) = sync_channel(1);
        let (opened, is_open) = sync_channel(1);
        let shared = Arc::clone(&mailbox);
        let thread = std::thread::Builder::new().name("hub".to_owned()).spawn(move || {
            session::run(runtime, options, tls, shared, incoming, opened);
            // The receiver may be gone; then nobody waits.
            let _ = finished.send(());
        })?;
        if is_open.recv_timeout(limits::OPEN_WAIT).is_err() {
            log::error!("hub: the outbox does not open; the disk hangs");
        }
        Ok(Self { mailbox, topics, thread: Some(thread), done })
    }

    /// An alert: it will be on the disk, then with the broker. Returns at once.
    pub fn alert(&self, event: Event) {
        self.mailbox.alert(event);
    }

    /// A state as it is now. Returns at once.
    pub fn state(&self, state: State) {
        self.mailbox.state(state);
    }

    /// Health figures; without a connection they are forgotten. Returns at once.
    pub fn telemetry(&self, telemetry: Telemetry) {
        self.mailbox.telemetry(telemetry);
    }

    /// A window for whoever watches; without a connection it is forgotten. Returns at once.
    pub fn live(&self, live: Live) {
        self.mailbox.live(live);
    }

    /// The answer to an [`Incoming::Command`]; `ok` false counts as refused. Returns at once.
    pub fn answer(&self, result: CommandResult) {
        if !result.ok {
            self.mailbox.refused.fetch_add(1, Relaxed);
        }
        self.mailbox.result(result);
    }

    /// Whether the wall clock can be trusted from now on: `expires` is judged by it, and the delay of old alerts.
    pub fn set_clock(&self, set: bool) {
        self.mailbox.clock_set.store(set, Relaxed);
    }

    /// Alerts that the broker has not acknowledged.
    pub fn outbox_len(&self) -> usize {
        self.mailbox.pending.load(Relaxed)
    }

    /// Alerts that were lost since the start: dropped for want of room, or damaged on the disk.
    pub fn dropped(&self) -> u64 {
        self.mailbox.dropped.load(Relaxed)
    }

    /// Commands that were refused since the start, by the hub or by its caller's answer.
    pub fn refused(&self) -> u64 {
        self.mailbox.refused.load(Relaxed)
    }

    /// Whether the broker is there.
    pub fn connected(&self) -> bool {
        self.mailbox.connected.load(Relaxed)
    }

    /// A number that has grown between two looks a second apart while the hub's thread makes progress, for a watchdog. It grows while the
    /// thread waits for the disk, too: a new process does not make a disk answer, and cannot even be loaded from it, while this one hears
    /// and sounds.
    pub fn beats(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let (mailbox, looks) = (Arc::clone(&self.mailbox), AtomicU64::new(0));
        move || {
            let waits = u64::from(mailbox.at_disk.load(Relaxed));
            mailbox.beats.load(Relaxed) + looks.fetch_add(waits, Relaxed) + waits
        }
    }

    /// Since which turn of its loop the hub's thread waits for the disk; none where it does not.
    pub fn at_disk(&self) -> Option<u64> {
        self.mailbox.at_disk.load(Relaxed).then(|| self.mailbox.beats.load(Relaxed))
    }

    /// The topics of this device.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Waits at most `wait` for acknowledgements, and [`limits::HURRIED`] more once `hurry` says so; says `offline`, disconnects (a second at most) and
    /// ends the thread. Returns how many alerts are left; they go out at the next start.
    pub fn stop(mut self, wait: Duration, hurry: impl Fn() -> bool) -> usize {
        let (mut until, mut hurried) = (Instant::now() + wait, false);
        self.mailbox.stop(until);
        let ended = loop {
            // A disk that hangs must not hang the exit: then the thread is left to the process's end.
            let left = (until + limits::GOODBYE * 2).saturating_duration_since(Instant::now());
            match self.done.recv_timeout(left.min(limits::HURRY_LOOK)) {
                Err(RecvTimeoutError::Timeout) if left.is_zero() => break false,
                Err(RecvTimeoutError::Timeout) => {}
                ended => break ended.is_ok(),
            }
            if !hurried && hurry() {
                hurried = true;
                until = until.min(Instant::now() + limits::HURRIED);
                self.mailbox.stop(until);
            }
        };
        if ended
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("hub: the thread panicked");
        }
        self.thread = None;
        self.outbox_len()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.mailbox.abandoned.store(true, Relaxed);
            self.mailbox.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// A card that hangs is a fault that is told; a process that is killed for it cannot be started from it again.
    #[test]
    fn who_waits_for_the_disk_says_so_and_does_not_starve_the_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        let (answer, disk) = channel::<()>();
        let disk = Mutex::new(disk);
        let mut options = Options::new("test-1", "Hall", "localhost", dir.path());
        options.access_source = Some(AccessSource::new(move || {
            let _answered = disk.lock().unwrap().recv();
            Err("nothing there".to_string())
        }));
        let hub = Hub::start(options, sync_channel(8).0).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let turn = loop {
            // A turn may wait for its own files, for a moment; one that stays is the one that hangs.
            let first = hub.at_disk();
            std::thread::sleep(Duration::from_millis(200));
            if first.is_some() && hub.at_disk() == first {
                break first;
            }
            assert!(Instant::now() < until);
        };
        let beats = hub.beats();
        assert!(beats() < beats(), "it waits, and is not to be killed for it");
        assert_eq!(hub.at_disk(), turn);
        drop(answer);
        while hub.at_disk().is_some() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        hub.stop(Duration::ZERO, || false);
    }

    /// A recording has ended, its alert waits for a broker that is not there, and somebody presses Ctrl-C.
    #[test]
    fn who_waits_for_acknowledgements_can_be_hurried() {
        let dir = tempfile::tempdir().unwrap();
        // The port of a listener that is gone.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut options = Options::new("test-1", "Hall", "127.0.0.1", dir.path());
        options.port = port;
        let hub = Hub::start(options, sync_channel(8).0).unwrap();
        hub.alert(Event::new(EventType::ScreamStart, "1", "2026-01-01T00:00:00Z", true));
        let began = Instant::now();
        let pressed = || began.elapsed() >= Duration::from_millis(300);
        assert_eq!(hub.stop(Duration::from_secs(600), pressed), 1, "it waits in the outbox");
        assert!((300..60_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
}
