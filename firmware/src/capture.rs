//! The microphone: one thread reads ALSA and pushes samples into a ring; it speaks only through that ring and atomics.
//!
//! Terms: a *period* is what one read takes; an *xrun* is sound that the kernel dropped because nobody read in time; a
//! *session* runs from opening the card until it fails. The card is opened by a stable name, again and again for ever:
//! a device that listens to nothing says so and goes on trying.
//!
//! Inside a session the thread neither allocates nor locks nor logs.

pub mod device;
mod pcm;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Seconds of sound that the ring holds: longer than any pause of the reader that is not a failure.
const RING_S: usize = 8;
/// First and longest wait before the card is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A session shorter than this counts as failed: the back-off goes on growing.
const SESSION_MIN: Duration = Duration::from_secs(5);
/// Longest rate that is asked of a card where it does not have the model's, hertz.
const RATE_HZ_MAX: u32 = 48_000;

/// What the capture thread tells, without a lock.
#[derive(Debug, Default)]
pub struct Status {
    /// Times that the kernel dropped sound.
    pub xruns: AtomicU64,
    /// Source frames lost by xruns and by a full ring, since the start.
    pub lost_frames: AtomicU64,
    /// Sessions opened.
    pub sessions: AtomicU32,
    /// Grows while the thread works or waits for the card.
    pub beats: AtomicU64,
    /// A session runs.
    pub open: AtomicBool,
    /// The reader has ended; the thread ends after its period.
    pub stop: AtomicBool,
}

/// What happened to the card; rare, and never sent from inside a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is open at this rate.
    Opened {
        /// What was negotiated, in words.
        detail: String,
    },
    /// It is gone, or was not there.
    Lost {
        /// The call and the cause.
        detail: String,
    },
}

/// The reading end.
pub struct Capture {
    /// Samples of one channel at `rate_hz`.
    pub ring: rtrb::Consumer<f32>,
    /// Hertz; the same in every session (a card that comes back at another rate is refused by name).
    pub rate_hz: u32,
    /// Counters.
    pub status: Arc<Status>,
}

/// Starts the thread. Waits `patience` for the first session, since the rate is the card's to say; where none comes, the
/// model's rate is used and the card must take it once it is there.
///
/// # Errors
/// Where no thread can be started.
pub fn start(
    device: &str,
    model_rate_hz: u32,
    period_frames: u32,
    patience: Duration,
    notify: impl Fn(Notice) + Send + 'static,
) -> std::io::Result<Capture> {
    let status = Arc::new(Status::default());
    let (producer, ring) = rtrb::RingBuffer::new(RING_S * RATE_HZ_MAX as usize);
    let (first, opened) = std::sync::mpsc::sync_channel(1);
    let (shared, device) = (Arc::clone(&status), device.to_string());
    std::thread::Builder::new().name("capture".into()).spawn(move || {
        worker(&device, model_rate_hz, period_frames, producer, &shared, &first, &notify);
    })?;
    let rate_hz = opened.recv_timeout(patience).unwrap_or(model_rate_hz);
    Ok(Capture { ring, rate_hz, status })
}

fn worker(
    device: &str,
    model_rate_hz: u32,
    period_frames: u32,
    mut ring: rtrb::Producer<f32>,
    status: &Status,
    first: &std::sync::mpsc::SyncSender<u32>,
    notify: &dyn Fn(Notice),
) {
    let (mut wait, mut told, mut rate_hz) = (BACK_OFF.0, false, None);
    while !status.stop.load(Relaxed) {
        let began = Instant::now();
        let opened = device::alsa_name(device)
            .and_then(|name| pcm::Session::open(&name, rate_hz, model_rate_hz, RATE_HZ_MAX, period_frames));
        let cause = match opened {
            Ok(mut session) => {
                rate_hz = Some(session.rate_hz);
                // Only the first counts; later sessions have the same rate.
                let _ = first.try_send(session.rate_hz);
                status.sessions.fetch_add(1, Relaxed);
                status.open.store(true, Relaxed);
                notify(Notice::Opened { detail: session.describe(device) });
                told = false;
                let cause = session.run(&mut ring, status);
                status.open.store(false, Relaxed);
                cause
            }
            Err(cause) => cause,
        };
        if status.stop.load(Relaxed) {
            return;
        }
        if !told {
            notify(Notice::Lost { detail: format!("{device}: {cause}") });
            told = true;
        }
        wait = if began.elapsed() >= SESSION_MIN { BACK_OFF.0 } else { (wait * 2).min(BACK_OFF.1) };
        std::thread::sleep(wait);
    }
}
