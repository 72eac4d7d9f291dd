//! Whether it is a quiet hour now. Local time is read from files (the zone's rules), so a thread of its own asks for it: a disk that hangs
//! leaves the last answer standing and holds nobody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use files::quiet_hours::QuietHours;

use crate::clock;

/// Quiet hours begin and end with a minute.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the thread has seen last; it ends when this is dropped.
#[derive(Debug, Default)]
pub struct Quiet(Arc<AtomicBool>);

impl Quiet {
    /// Looks once, and again every second from then on. Nobody looks where there are no quiet hours.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(hours: QuietHours) -> io::Result<Self> {
        if hours.is_empty() {
            return Ok(Self::default());
        }
        let is_quiet = move || clock::local_time().is_some_and(|time| hours.contain(time));
        Self::watch(is_quiet, LOOK_EVERY)
    }

    fn watch(is_quiet: impl Fn() -> bool + Send + 'static, every: Duration) -> io::Result<Self> {
        let now = Arc::new(AtomicBool::new(is_quiet()));
        let told = Arc::downgrade(&now);
        std::thread::Builder::new().name("quiet hours".into()).spawn(move || {
            loop {
                std::thread::sleep(every);
                let Some(now) = told.upgrade() else { return };
                now.store(is_quiet(), Relaxed);
            }
        })?;
        Ok(Self(now))
    }

    /// Whether it is one.
    pub fn now(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_first_answer_is_there_at_once_and_the_next_ones_come() {
        assert!(!Quiet::start(QuietHours::default()).unwrap().now());
        let hour = Arc::new(AtomicBool::new(true));
        let clock = Arc::clone(&hour);
        let quiet = Quiet::watch(move || clock.load(Relaxed), Duration::from_millis(5)).unwrap();
        assert!(quiet.now());
        hour.store(false, Relaxed);
        let until = Instant::now() + Duration::from_secs(20);
        while quiet.now() {
            assert!(Instant::now() < until, "the hour is over");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(quiet);
        // The thread has let go of its clock.
        while Arc::strong_count(&hour) > 1 {
            assert!(Instant::now() < until, "the thread goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
