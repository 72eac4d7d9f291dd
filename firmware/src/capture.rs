//! The microphone: one thread reads the card and pushes samples into a ring; it speaks only through that ring and atomics.
//!
//! Terms: a *period* is what one read takes; an *xrun* is sound that the kernel dropped because nobody read in time; a
//! *session* runs from opening the card until it fails; a *gap* is sound that is missing, for whatever reason. The card
//! is opened by a stable name, again and again for ever: a device that listens to nothing says so and goes on trying.
//!
//! Inside a session the thread neither allocates nor locks nor logs.

pub mod card;
pub mod device;
mod realtime;
pub mod sample;
mod session;
mod sink;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use card::Wanted;
use session::{Agreed, Card, End, Session};
pub use sink::{Mark, Sound};

use crate::clock;
use crate::listen::BEHIND_S;

/// Seconds of sound that the ring holds at the highest rate that a card is taken with, 16 s at 48 kHz: longer than any pause
/// of the reader that is not a failure.
const RING_S: usize = 4;
/// Samples of the ring: 3 MB. All of it is in memory once sound has gone round it, however little waits there.
const RING_LEN: usize = RING_S * *detector::limits::RATE_HZ.end() as usize;
/// First and longest wait before the card is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often a wait looks whether a card has come.
const LOOK: Duration = Duration::from_millis(250);
/// A session shorter than this counts as failed: the back-off goes on growing.
const SESSION_MIN: Duration = Duration::from_secs(5);
/// Sessions in a row that ended without frames until it is a fault.
const STALLS: u32 = 3;
/// How long a card may take to be opened or to begin anew; one that takes longer is lost.
pub const CARD_PATIENCE: Duration = Duration::from_secs(2);
/// Rate that is asked of a card where it does not have the model's, hertz.
const RATE_HZ_MAX: u32 = 48_000;

const _: () = assert!(RING_S as f64 >= 2.0 * BEHIND_S, "a reader who is behind sees it before the ring is full");

/// What the capture thread tells, without a lock.
#[derive(Debug, Default)]
pub struct Status {
    /// Times that the kernel dropped sound.
    pub xruns: AtomicU64,
    /// Frames that had no room in the ring.
    pub full_frames: AtomicU64,
    /// Grows while the thread works, or waits for a card to come.
    pub beats: AtomicU64,
    /// The thread is in a call that opens the card, starts it anew or closes it.
    waits: AtomicBool,
    /// The reader has ended; the thread ends after its period.
    pub stop: AtomicBool,
}

impl Status {
    /// A number that has grown between two looks while the thread makes progress, for a watchdog. It grows while the card does not answer,
    /// too: a new process would wait for the very same card, while this one drives the siren and obeys the hub.
    pub fn progress(self: &Arc<Self>) -> impl Fn() -> u64 + Send + 'static {
        let (status, looks) = (Arc::clone(self), AtomicU64::new(0));
        move || {
            let waits = u64::from(status.waits.load(Relaxed));
            status.beats.load(Relaxed) + looks.fetch_add(waits, Relaxed) + waits
        }
    }

    /// Since which turn of its loop the thread waits for the card to answer; none where it does not.
    pub fn at_card(&self) -> Option<u64> {
        self.waits.load(Relaxed).then(|| self.beats.load(Relaxed))
    }

    /// Does what a card may leave without an answer, and says so to whoever watches.
    fn waiting<T>(&self, call: impl FnOnce() -> T) -> T {
        self.waits.store(true, Relaxed);
        let done = call();
        self.waits.store(false, Relaxed);
        done
    }
}

/// What happened to the card; rare, and never sent from inside a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is open; whether it gives sound has to be seen.
    Opened {
        /// What was agreed, in words.
        detail: String,
    },
    /// It is gone, or was not there.
    Lost {
        /// The call and the cause.
        detail: String,
    },
    /// It is open and gives nothing, again and again.
    Stalled {
        /// For how long.
        detail: String,
    },
    /// It has given sound for a while.
    Heard,
}

/// The reading end.
pub struct Capture {
    /// Samples and marks.
    pub sound: Sound,
    /// Counters.
    pub status: Arc<Status>,
}

/// The device and what is wished of it.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the site file has it.
    pub device: String,
    /// Hertz.
    pub model_rate_hz: u32,
    /// Frames.
    pub period_frames: u32,
}

/// Starts the thread.
///
/// # Errors
/// Where no thread can be started.
pub fn start(source: Source, notify: impl Fn(Notice) + Send + 'static) -> std::io::Result<Capture> {
    let status = Arc::new(Status::default());
    let (sink, sound) = sink::ring(RING_LEN);
    let shared = Arc::clone(&status);
    std::thread::Builder::new().name("capture".into()).spawn(move || {
        realtime::claim();
        let wanted = Wanted { rate_hz: source.model_rate_hz, rate_hz_max: RATE_HZ_MAX, period: source.period_frames };
        let open = || device::alsa_name(&source.device).and_then(|name| card::open(&name, wanted));
        Worker { device: &source.device, sink, status: &shared, notify: &notify }.run(open);
    })?;
    Ok(Capture { sound, status })
}

struct Worker<'a> {
    device: &'a str,
    sink: sink::Sink,
    status: &'a Status,
    notify: &'a dyn Fn(Notice),
}

impl Worker<'_> {
    fn run<C: Card>(mut self, open: impl Fn() -> Result<(C, Agreed), String>) {
        let (mut wait, mut stalls) = (BACK_OFF.0, 0);
        let (mut last_heard, missed_from) = (None, clock::since_boot());
        while !self.status.stop.load(Relaxed) {
            self.status.beats.fetch_add(1, Relaxed);
            let began = Instant::now();
            // ALSA's own words about a card that is not there would fill the log; what counts is in the error.
            let _quiet = alsa::Output::local_error_handler();
            let device = self.device;
            match self.status.waiting(&open) {
                Ok((card, agreed)) => {
                    (self.notify)(Notice::Opened { detail: words(device, agreed) });
                    let mut session = Session::new(card, agreed);
                    let end = session.run(&mut self.sink, &mut last_heard, self.status);
                    let heard = session.heard;
                    self.status.waiting(|| drop(session));
                    // A card that gives a few frames and then none, again and again, is deaf all the same.
                    stalls = if heard && began.elapsed() >= SESSION_MIN { 0 } else { stalls };
                    match end {
                        End::Stopped => return,
                        End::Stalled(time) => {
                            stalls += 1;
                            if stalls >= STALLS {
                                let detail =
                                    format!("{device}: no frames for {} s, {stalls} times", time.as_secs_f64());
                                (self.notify)(Notice::Stalled { detail });
                            }
                        }
                        End::Lost(cause) => (self.notify)(Notice::Lost { detail: format!("{device}: {cause}") }),
                    }
                }
                Err(cause) => (self.notify)(Notice::Lost { detail: format!("{device}: {cause}") }),
            }
            // A card that is not there from the start on: what passes until it comes is missing too, and counts as time.
            last_heard.get_or_insert(missed_from);
            wait = if began.elapsed() >= SESSION_MIN { BACK_OFF.0 } else { wait };
            wait = if self.wait(wait) { BACK_OFF.0 } else { (wait * 2).min(BACK_OFF.1) };
        }
    }

    /// Waits, and no longer once the list of cards has changed: true then.
    fn wait(&self, time: Duration) -> bool {
        let (until, cards) = (Instant::now() + time, device::cards());
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.status.stop.load(Relaxed) {
                return false;
            }
            std::thread::sleep(left.min(LOOK));
            self.status.beats.fetch_add(1, Relaxed);
            if device::cards() != cards {
                return true;
            }
        }
    }
}

fn words(device: &str, agreed: Agreed) -> String {
    let Agreed { rate_hz, channels, sample, period } = agreed;
    format!("{device}: {rate_hz} Hz, {channels} channel(s), {sample:?}, periods of {period} frames")
}

#[cfg(test)]
mod fake_card;
#[cfg(test)]
mod tests;
