//! The siren, and its second bound.
//!
//! The control loop switches the siren off after `on_s` and never lets it pass `siren_on_s_max`. Where that loop is
//! stuck, a thread of its own does it: it shares nothing with the loop but the line's place and one atomic word, so no disk, no network and
//! no lock that is held over a call can hold it back.
//!
//! ```text
//!          on                     the deadline passes (guard)
//!   OFF ---------> on until t  ---------------------------------> TRIPPED
//!    ^ <-----------                                                 |
//!    |      off                       off                           |
//!    +--------------------------------------------------------------+
//! ```
//! While TRIPPED nothing but an `off` counts: a loop that keeps saying "on" stays silent until it has said "off" once.
//!
//! An `off` that the line refuses leaves REFUSED: the guard drives it off again until it obeys, which is OFF; an `on` counts
//! as from OFF, since the loop has said "off".
//!
//! Beside that, an emergency *holds* the siren: its line is driven off and stays so whatever the state, which goes on meanwhile, until the
//! emergency is over. The supervisor's is, where the thread that stood still goes on after all.
//!
//! A line whose chip is gone is let go, and another put in its place ([`Place`]), by the loop alone. Whoever changes the state drives
//! the line that is open then, whoever puts a line drives it to the state that holds then: whichever comes last, the open line
//! ends where the state does. No deadline moves with it. A line that fails without being gone is never let go: the guard needs it.

use super::line::{Line, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The siren is to be silent.
const OFF: u64 = 0;
/// The guard silenced it.
const TRIPPED: u64 = u64::MAX;
/// It is to be silent, and the line has refused to be.
const REFUSED: u64 = u64::MAX - 1;
/// How often the guard drives the line off again while tripped, or after the line refused.
const RETRY: Duration = Duration::from_millis(250);
/// The guard looks at least this often, whoever forgot to wake it.
const LOOK: Duration = Duration::from_secs(1);

/// The siren's state and line, shared by control loop, guard and panic hook.
pub(super) struct Siren {
    /// Empty while the line could not be opened.
    place: Place,
    /// The level that sounds: the opposite of the safe one.
    on_level: bool,
    on_ms_max: u64,
    epoch: Instant,
    /// [`OFF`], [`TRIPPED`], [`REFUSED`], or the deadline in ms after `epoch` while it sounds.
    state: AtomicU64,
    /// An emergency holds the line off.
    held: AtomicBool,
    /// How often the guard had to act.
    trips: AtomicU32,
    stop: AtomicBool,
}

/// Why the siren does not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SirenError {
    /// The line is not open.
    NoLine,
    /// The guard silenced it and it was not switched off since.
    Tripped,
    /// An emergency holds it off.
    Held,
    /// The line refused.
    Line(String),
}

impl Siren {
    pub(super) fn new(on_level: bool, on_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            place: Place::default(),
            on_level,
            on_ms_max: u64::try_from(on_max.as_millis()).unwrap_or(u64::MAX),
            epoch: Instant::now(),
            state: AtomicU64::new(OFF),
            held: AtomicBool::new(false),
            trips: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Gives the siren its line, which is at its safe level. It goes on where one before it was lost: sounds until that
    /// one's deadline, or is silent.
    pub(super) fn attach(&self, line: Box<dyn Line>) {
        self.place.put(line);
        if self.state.load(Ordering::SeqCst) != OFF {
            let _ = self.obey();
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.place.is_open()
    }

    /// Whether its line is there still: asked by driving it to where it is, since one that went while nothing was to be
    /// said to it would be missed until the alarm. One that is gone is let go.
    pub(super) fn keeps_line(&self) -> bool {
        if self.place.is_open() {
            let _ = match self.state.load(Ordering::SeqCst) {
                OFF => self.silence(),
                _ => self.obey(),
            };
        }
        self.place.keeps()
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_driven_on().0
    }

    /// Whether the line is to sound, and the state behind that.
    fn is_driven_on(&self) -> (bool, u64) {
        let state = self.state.load(Ordering::SeqCst);
        (sounds(state) && !self.held.load(Ordering::SeqCst), state)
    }

    /// Whether the line has refused to go off, and has not obeyed since.
    pub(super) fn refuses_off(&self) -> bool {
        self.state.load(Ordering::SeqCst) == REFUSED
    }

    pub(super) fn trips(&self) -> u32 {
        self.trips.load(Ordering::SeqCst)
    }

    /// Switches on: no earlier deadline is ever moved back. Wake the guard afterwards.
    pub(super) fn on(&self) -> Result<(), SirenError> {
        if !self.place.is_open() {
            return Err(SirenError::NoLine);
        }
        if self.held.load(Ordering::SeqCst) {
            return Err(SirenError::Held);
        }
        // The deadline stands before the line is driven: a thread that is stopped in between leaves it bounded.
        let deadline = self.now_ms().saturating_add(self.on_ms_max).clamp(OFF + 1, REFUSED - 1);
        let begins = |state| matches!(state, OFF | REFUSED).then_some(deadline);
        match self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begins) {
            Ok(_) => self.drive().inspect_err(|_| {
                // Not known to sound, so not counted as sounding: the next "on" tries again.
                self.state.store(OFF, Ordering::SeqCst);
                // A call that fails may have been obeyed all the same: silent is what must be sure.
                let _ = self.silence();
            }),
            Err(TRIPPED) => Err(SirenError::Tripped),
            Err(_) => Ok(()),
        }
    }

    /// Switches off, and forgets that the guard tripped.
    pub(super) fn off(&self) -> Result<(), SirenError> {
        // Also without a line: the one that comes is not to sound.
        if self.state.swap(OFF, Ordering::SeqCst) == OFF {
            return Ok(());
        }
        self.silence()
    }

    /// Drives the line to the state; one that refused and obeys now is done with.
    pub(super) fn obey(&self) -> Result<(), SirenError> {
        self.drive()?;
        let _ = self.state.compare_exchange(REFUSED, OFF, Ordering::SeqCst, Ordering::SeqCst);
        Ok(())
    }

    /// Drives a line whose state is [`OFF`].
    fn silence(&self) -> Result<(), SirenError> {
        self.drive().inspect_err(|_| self.has_refused())
    }

    /// Drives the line off whatever the state, and holds it there: at exit, in a panic, where a thread stands still. The guard goes on where
    /// it refuses.
    pub(super) fn hold_off(&self) -> Result<(), SirenError> {
        self.held.store(true, Ordering::SeqCst);
        self.drive()
    }

    /// The emergency is over: the line goes where the state is by now. A deadline has not moved.
    pub(super) fn let_sound(&self) {
        if self.held.swap(false, Ordering::SeqCst) && self.state.load(Ordering::SeqCst) != OFF {
            let _ = self.obey();
        }
    }

    /// The guard goes on trying, unless it is to sound again by now.
    fn has_refused(&self) {
        let _ = self.state.compare_exchange(OFF, REFUSED, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Drives the line to what the state says, and off while it is held; again where either changed meanwhile. With two threads in here the
    /// last one to drive has seen the last state, so the line ends where the state does, without a lock.
    fn drive(&self) -> Result<(), SirenError> {
        loop {
            // Each time anew: it may have been replaced.
            let Some(line) = self.place.line() else { return Err(SirenError::NoLine) };
            let seen = self.is_driven_on();
            line.set(seen.0 == self.on_level).map_err(SirenError::Line)?;
            if self.is_driven_on() == seen {
                return Ok(());
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// One look of the guard; how long it may sleep then.
    fn look(&self) -> Duration {
        let state = self.state.load(Ordering::SeqCst);
        let held = self.held.load(Ordering::SeqCst);
        if held {
            // Its line may have refused.
            let _ = self.drive();
        }
        let rest = if held { RETRY } else { LOOK };
        match state {
            OFF => return rest,
            REFUSED => {
                let _ = self.obey();
                return RETRY;
            }
            TRIPPED => {}
            deadline => {
                let now = self.now_ms();
                if now < deadline {
                    return Duration::from_millis(deadline - now).min(rest);
                }
                if self.state.compare_exchange(deadline, TRIPPED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                    return Duration::ZERO;
                }
                self.trips.fetch_add(1, Ordering::SeqCst);
                // Driven before anything is said: a log may block.
                let driven = self.drive();
                log::warn!("siren: its guard switched it off after {} s", self.on_ms_max as f64 / 1000.0);
                if let Err(SirenError::Line(cause)) = driven {
                    log::error!("siren: the guard could not drive the line: {cause}");
                }
                return RETRY;
            }
        }
        // Said again: a loop that was stopped between its deadline and its line may have driven it on since.
        let _ = self.drive();
        RETRY
    }
}

fn sounds(state: u64) -> bool {
    !matches!(state, OFF | TRIPPED | REFUSED)
}

/// The thread that bounds the siren.
pub(super) struct Guard {
    siren: Arc<Siren>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has none left; the siren must then stay off.
    pub(super) fn start(siren: Arc<Siren>) -> std::io::Result<Self> {
        let shared = Arc::clone(&siren);
        let thread = std::thread::Builder::new().name("siren-guard".into()).spawn(move || {
            while !shared.stop.load(Ordering::SeqCst) {
                let sleep = shared.look();
                if !sleep.is_zero() {
                    std::thread::park_timeout(sleep);
                }
            }
        })?;
        Ok(Self { siren, thread: Some(thread) })
    }

    /// Has the guard look at a new deadline.
    pub(super) fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.siren.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
