//! How long the end may take once a signal has come: two seconds for all of it (faults.md H6), however much gives no answer at once. The service
//! manager kills after five, and what was not said by then is never said.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hub::Hub;

/// Disk and broker, which are waited for side by side: [`hub::limits::HURRIED`] and its goodbye fit in.
pub const KEPT: Duration = Duration::from_millis(1600);
/// Behind them whoever reads standard output.
pub const LINES: Duration = Duration::from_millis(1700);
/// And whoever reads the log.
pub const LOG: Duration = Duration::from_millis(1800);

const _: () =
    assert!(KEPT.as_millis() < LINES.as_millis() && LINES.as_millis() < LOG.as_millis(), "one after the other");
const _: () = assert!(LOG.as_millis() < 2000, "the contract's figure, and a turn of the control loop before it");
const _: () = assert!(
    hub::limits::HURRIED.as_millis() + hub::limits::GOODBYE.as_millis() < KEPT.as_millis(),
    "a hub that only lacks its broker ends by itself"
);

/// For how long a signal has asked for the end. It may also come during the end of a recording, whose user waits for his files.
#[derive(Debug, Clone)]
pub struct Ending {
    terminate: Arc<AtomicBool>,
    since: Arc<OnceLock<Instant>>,
}

impl Ending {
    /// A signal sets `terminate`.
    pub fn new(terminate: Arc<AtomicBool>) -> Self {
        Self { terminate, since: Arc::default() }
    }

    /// A signal has come.
    pub fn signalled(&self) -> bool {
        self.terminate.load(Relaxed)
    }

    /// It came that long ago; counted from the first time that somebody asked here and it had.
    pub fn over(&self, after: Duration) -> bool {
        self.signalled() && self.since.get_or_init(Instant::now).elapsed() >= after
    }
}

/// The hub's end, while others wait for the disk.
pub struct Goodbye(Receiver<usize>);

impl Goodbye {
    /// Has the hub wait for what is not acknowledged, say `offline` and end.
    pub fn start(hub: Hub, wait: Duration, ending: &Ending) -> Self {
        let (told, left) = sync_channel(1);
        let ending = ending.clone();
        let stop = move || {
            // Whoever waited may have stopped waiting.
            let _ = told.send(hub.stop(wait, || ending.signalled()));
        };
        if let Err(error) = std::thread::Builder::new().name("goodbye".into()).spawn(stop) {
            log::error!("no thread for the hub's end: {error}; the broker tells of it");
        }
        Self(left)
    }

    /// Waits for it.
    pub fn wait(&self, ending: &Ending) {
        loop {
            match self.0.recv_timeout(hub::limits::HURRY_LOOK) {
                Ok(0) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(left) => return log::warn!("{left} alert(s) stay in the outbox and go out at the next start"),
                Err(RecvTimeoutError::Timeout) if ending.over(KEPT) => {
                    return log::warn!(
                        "the hub does not end in time; what is in its outbox goes out at the next start"
                    );
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_from_the_signal_on() {
        let asked = Arc::<AtomicBool>::default();
        let ending = Ending::new(Arc::clone(&asked));
        assert!(!ending.over(Duration::ZERO) && !ending.signalled());
        asked.store(true, Relaxed);
        assert!(ending.over(Duration::ZERO) && !ending.clone().over(Duration::from_secs(3600)));
        let began = Instant::now();
        while !ending.over(Duration::from_millis(20)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(began.elapsed() >= Duration::from_millis(10), "one clock for all who ask");
    }
}
