//! One session with a card, from its first frame until it fails: wait, read, recover.
//!
//! ```text
//!            frames                 xrun: prepare, start
//!   +------> Ready ----+     +----> (gap as long as nothing was heard)
//!   |                  v     |
//!  wait <----------- Reading-+----> suspended: resume, else as an xrun
//!   |                        |
//!   +--> nothing for long: Stalled   gone, or an error without a cure: Lost
//! ```
//! Nothing in here allocates, locks or logs; the card is a trait, so that a simulated one can do its worst.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::io::Errno;

use super::sample::Sample;
use super::sink::Sink;
use super::{CARD_PATIENCE, Status};

/// How long one wait may last, so that a stop is seen and the watchdog fed.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Shortest time without frames after which a card is taken for stalled; eight periods where that is longer.
const STALLED_MIN: Duration = Duration::from_secs(1);
/// Ready and nothing to read, so often in a row: then the card is given a moment, or it would take a whole core.
const SPURIOUS_MAX: u32 = 8;
/// Between two tries to resume a suspended card, and how long it is tried.
const RESUME: (Duration, u32) = (Duration::from_millis(50), 20);
/// Restarts and resumptions in a row that brought no frame until the card is given up and opened anew, and the rest before each but the first.
const RESTARTS: (u32, Duration) = (20, Duration::from_millis(50));

/// What a session asks of a card.
pub trait Card {
    /// Waits until there are frames; false where none came within `limit`.
    ///
    /// # Errors
    /// As the kernel says: EPIPE after an xrun, ESTRPIPE while suspended, ENODEV once unplugged, ..
    fn wait(&mut self, limit: Duration) -> Result<bool, Errno>;
    /// Reads what is there into `bytes`; frames read.
    ///
    /// # Errors
    /// As [`Card::wait`].
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Errno>;
    /// Frames that can be read now.
    fn waiting(&mut self) -> usize;
    /// Begins anew after an xrun.
    ///
    /// # Errors
    /// Where the card does not.
    fn restart(&mut self) -> Result<(), Errno>;
    /// Goes on after a suspend; EAGAIN: not yet.
    ///
    /// # Errors
    /// Where the card cannot: then it is restarted.
    fn resume(&mut self) -> Result<(), Errno>;
    /// Monotonic time.
    fn now(&self) -> Duration;
    /// Sleeps.
    fn rest(&mut self, time: Duration);
}

/// What was agreed with the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The rate it really runs at, Hz.
    pub rate_hz: u32,
    /// Interleaved channels in a frame.
    pub channels: usize,
    /// How a sample is stored.
    pub sample: Sample,
    /// Frames of one period.
    pub period: usize,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nobody wants sound any more.
    Stopped,
    /// No frames for so long.
    Stalled(Duration),
    /// The card is gone, or fails.
    Lost(Errno),
}

/// A session.
pub struct Session<C> {
    card: C,
    agreed: Agreed,
    bytes: Vec<u8>,
    stalled: Duration,
    /// Time of the last frame that was heard, or of the start.
    heard_until: Duration,
    /// When frames last came, or the card began anew.
    fed: Duration,
    spurious: u32,
    /// Restarts since the last frame.
    restarts: u32,
    /// Any frame has come.
    pub heard: bool,
}

/// What one look at the card gave.
enum Poll {
    Pending,
    Ready(usize),
    Xrun,
    Suspended,
    Gone(Errno),
    Stalled,
}

impl<C: Card> Session<C> {
    /// With a card that was started just now.
    pub fn new(card: C, agreed: Agreed) -> Self {
        let now = card.now();
        let period = Duration::from_secs_f64(agreed.period as f64 / f64::from(agreed.rate_hz.max(1)));
        Self {
            bytes: vec![0; agreed.period * agreed.channels * agreed.sample.bytes()],
            stalled: STALLED_MIN.max(8 * period),
            heard_until: now,
            fed: now,
            spurious: 0,
            restarts: 0,
            heard: false,
            card,
            agreed,
        }
    }

    /// Reads until the card fails or nobody wants sound. `last_heard` is when sound last ended, in an earlier session;
    /// it is kept up to date, so that the next one knows the length of the gap between.
    pub fn run(&mut self, sink: &mut Sink, last_heard: &mut Option<Duration>, status: &Status) -> End {
        sink.begin_session(self.agreed.rate_hz);
        // What is missing is told once, also where this session never hears anything.
        if let Some(before) = last_heard.replace(self.heard_until) {
            sink.gap(self.heard_until.saturating_sub(before));
        }
        loop {
            status.beats.fetch_add(1, Relaxed);
            if status.stop.load(Relaxed) {
                return End::Stopped;
            }
            let recovered = match self.poll() {
                Poll::Pending => Ok(()),
                Poll::Ready(frames) => {
                    self.take(frames, sink, status);
                    Ok(())
                }
                Poll::Xrun => {
                    status.xruns.fetch_add(1, Relaxed);
                    self.recover(status, Self::restart).map(|()| self.missed(sink))
                }
                Poll::Suspended => self.recover(status, Self::resume).map(|()| self.missed(sink)),
                Poll::Gone(cause) => Err(cause),
                Poll::Stalled => return End::Stalled(self.stalled),
            };
            *last_heard = Some(self.heard_until);
            if let Err(cause) = recovered {
                return End::Lost(cause);
            }
        }
    }

    fn poll(&mut self) -> Poll {
        let ready = self.card.wait(WAIT_MAX);
        let read = match ready {
            Ok(true) => self.card.read(&mut self.bytes),
            Ok(false) => Ok(0),
            Err(cause) => Err(cause),
        };
        match read {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => {
                self.spurious = if ready == Ok(false) { 0 } else { self.spurious + 1 };
                if self.spurious >= SPURIOUS_MAX {
                    self.spurious = 0;
                    self.card.rest(Duration::from_millis(1));
                }
                // By time and not by what the wait returned: a card may say "ready" for ever.
                let stalled = self.card.now().saturating_sub(self.fed) >= self.stalled;
                if stalled { Poll::Stalled } else { Poll::Pending }
            }
            Ok(frames) => Poll::Ready(frames.min(self.agreed.period)),
            Err(Errno::PIPE) => Poll::Xrun,
            Err(Errno::STRPIPE) => Poll::Suspended,
            Err(cause) => Poll::Gone(cause),
        }
    }

    fn take(&mut self, frames: usize, sink: &mut Sink, status: &Status) {
        let Agreed { channels, sample, .. } = self.agreed;
        self.heard_until = self.now_heard();
        (self.heard, self.spurious, self.restarts) = (true, 0, 0);
        let bytes = &self.bytes[..frames * channels * sample.bytes()];
        if !sink.push(frames, sample.mono(bytes, channels)) {
            status.full_frames.fetch_add(frames as u64, Relaxed);
        }
    }

    /// Begins anew as `by` does. A card that takes so long that it was given up is opened anew: the next session is heard of.
    fn recover(&mut self, status: &Status, by: fn(&mut Self) -> Result<(), Errno>) -> Result<(), Errno> {
        let began = self.card.now();
        status.waiting(|| by(self))?;
        if self.card.now().saturating_sub(began) < CARD_PATIENCE { Ok(()) } else { Err(Errno::TIMEDOUT) }
    }

    /// Begins anew after an xrun.
    fn restart(&mut self) -> Result<(), Errno> {
        self.again(Errno::PIPE)?;
        self.card.restart()
    }

    /// Counts that the card failed for `cause` since the last frame. One that fails again at once would take a whole core, and never be
    /// missed.
    fn again(&mut self, cause: Errno) -> Result<(), Errno> {
        self.restarts += 1;
        if self.restarts > RESTARTS.0 {
            return Err(cause);
        }
        if self.restarts > 1 {
            self.card.rest(RESTARTS.1);
        }
        Ok(())
    }

    /// The card runs again after a failure: what has passed since the last frame is missing.
    fn missed(&mut self, sink: &mut Sink) {
        let until = self.now_heard();
        sink.gap(until.saturating_sub(self.heard_until));
        self.heard_until = until;
    }

    /// Time of the last frame that has been read: what waits in the kernel came after it.
    fn now_heard(&mut self) -> Duration {
        self.fed = self.card.now();
        let waiting = self.card.waiting() as f64 / f64::from(self.agreed.rate_hz.max(1));
        self.fed.saturating_sub(Duration::from_secs_f64(waiting)).max(self.heard_until)
    }

    /// Until it does not say "not yet"; a card that cannot is started anew.
    fn resume(&mut self) -> Result<(), Errno> {
        self.again(Errno::STRPIPE)?;
        for _ in 0..RESUME.1 {
            match self.card.resume() {
                Err(Errno::AGAIN) => self.card.rest(RESUME.0),
                Ok(()) => return Ok(()),
                Err(_) => break,
            }
        }
        self.card.restart()
    }
}

#[cfg(test)]
mod tests;
