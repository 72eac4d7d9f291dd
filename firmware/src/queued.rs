//! Lines on their way to somebody who may not read: a terminal that is stopped, a pipe, a journal that hangs. Whoever says one never waits,
//! but where he says for how long he can.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that wait for a reader who stands still, at the most; later ones are lost.
pub const WAITING_MAX: usize = 1024;
/// How long the end waits for that reader, unless a signal hurries it.
pub const END_WAIT: Duration = Duration::from_secs(2);
/// Between two looks whether he has read.
const LOOK: Duration = Duration::from_millis(2);

/// The end that says.
#[derive(Debug, Clone)]
pub struct Queue {
    lines: SyncSender<String>,
    /// Said, and not written yet.
    waiting: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    /// The reader was waited for once, in vain.
    given_up: Arc<AtomicBool>,
}

/// Until `over` says so, and no longer than `most` from now on.
pub fn after(most: Duration, over: impl Fn() -> bool) -> impl Fn() -> bool {
    let until = Instant::now() + most;
    move || Instant::now() >= until || over()
}

impl Queue {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(name: &str, mut write: impl FnMut(&str) + Send + 'static) -> io::Result<Self> {
        let (lines, inbox) = sync_channel::<String>(WAITING_MAX);
        let waiting = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&waiting);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for line in inbox {
                write(&line);
                left.fetch_sub(1, SeqCst);
            }
        })?;
        Ok(Self { lines, waiting, lost: Arc::default(), given_up: Arc::default() })
    }

    /// Hands in a line; how many have been lost so far, where this one is.
    pub fn say(&self, line: String) -> Result<(), u64> {
        self.waiting.fetch_add(1, SeqCst);
        match self.lines.try_send(line) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.waiting.fetch_sub(1, SeqCst);
                match error {
                    TrySendError::Full(_) => Err(self.lost.fetch_add(1, SeqCst) + 1),
                    TrySendError::Disconnected(_) => Ok(()),
                }
            }
        }
    }

    /// As [`Queue::say`], waiting for room until `over` says so.
    pub fn say_until(&self, line: String, over: impl Fn() -> bool) -> Result<(), u64> {
        while self.waiting.load(SeqCst) >= WAITING_MAX as u64 && !over() {
            std::thread::sleep(LOOK);
        }
        self.say(line)
    }

    /// Waits until all is written, or `over` says so; how many lines were lost. A reader who was waited for in vain is not waited for again.
    pub fn flush(&self, over: impl Fn() -> bool) -> u64 {
        while self.waiting.load(SeqCst) > 0 && !self.given_up.load(SeqCst) {
            self.given_up.store(over(), SeqCst);
            std::thread::sleep(LOOK);
        }
        self.lost.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn who_can_wait_for_a_reader_loses_no_line() {
        let (read, lines) = channel();
        let write = move |line: &str| {
            std::thread::sleep(Duration::from_micros(100));
            let _ = read.send(line.to_string());
        };
        let queue = Queue::start("test", write).unwrap();
        let all = 2 * WAITING_MAX;
        assert!((0..all).all(|n| queue.say_until(n.to_string(), || false).is_ok()));
        assert_eq!(queue.flush(|| false), 0);
        assert_eq!(lines.try_iter().count(), all);
    }

    #[test]
    fn a_reader_who_stands_still_holds_nobody_and_gets_the_first_lines_later() {
        let (go, wait) = channel::<()>();
        let (read, lines) = channel();
        let write = move |line: &str| {
            let _ = wait.recv();
            let _ = read.send(line.to_string());
        };
        let queue = Queue::start("test", write).unwrap();
        let began = Instant::now();
        let lost = (0..WAITING_MAX + 100).filter_map(|n| queue.say(n.to_string()).err()).count();
        assert!(began.elapsed() < END_WAIT, "{:?}", began.elapsed());
        // One may be with the reader.
        assert!((99..=100).contains(&lost), "{lost}");
        // In vain, and not again: the end has two seconds for all that it waits for.
        queue.flush(|| true);
        queue.flush(|| panic!("waited for again"));
        drop(go);
        drop(queue);
        let read: Vec<String> = lines.iter().collect();
        assert!(read.len() >= WAITING_MAX && read.iter().enumerate().all(|(n, line)| *line == n.to_string()));
    }
}
