//! Siren, LED and fault relay: opened at their safe levels first thing, driven by the control loop, bounded by a guard.
//!
//! A line that is missing or busy is an [`OutputProblem`] and no failure: the alarm still goes out over MQTT.
//! Nothing in here waits for disk, network or a lock that another holds over a call; what switches a line is one `ioctl` at most. Only where
//! a line is missing, or its chip was taken away, are the chips of /dev looked through again, every few seconds.
//!
//! | output | at its safe level | at the other |
//! |---|---|---|
//! | siren | silent | sounds |
//! | led | dark | lit |
//! | fault | **fault**: what a crash, a cut wire and a power cut look like too | all is well |

use crate::crash::Crash;
use crate::led::{self, LedPattern};
use files::board::{Board, Labels, OutputLine};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod guard;
mod line;
#[cfg(test)]
mod tests;

use guard::{Guard, Siren, SirenError};
use line::Place;
pub use line::{Line, OutputProblem, Show, open_input, show_on_stderr};

/// Until a line that was let go is opened anew, where it was not free at once.
const LET_GO: Duration = Duration::from_millis(20);

/// Opens the line of a board's table, at its safe level.
type Opener = Box<dyn Fn(&'static str, &OutputLine) -> Result<Box<dyn Line>, OutputProblem> + Send>;

/// All outputs of the device. Dropping it drives them safe.
pub struct Outputs {
    board: Board,
    opener: Opener,
    siren: Arc<Siren>,
    /// None where its thread could not start: the siren then stays silent.
    guard: Option<Guard>,
    led: Switch,
    fault: Switch,
    show: Show,
    pattern: Option<LedPattern>,
}

impl Outputs {
    /// Opens the outputs of `board`, the siren first; `show` says what the simulated ones do.
    ///
    /// The lines that could not be opened are told beside it; [`Outputs::reopen`] tries them again.
    pub fn open(board: &Board, show: Show) -> (Self, Vec<OutputProblem>) {
        let (simulated, shown) = (board.simulated, Arc::clone(&show));
        let own = board.clone();
        let opener: Opener = Box::new(move |output, wanted| match simulated {
            true => Ok(Box::new(line::SimulatedLine::new(output, !wanted.safe_level.is_active(), Arc::clone(&shown)))),
            false => line::open(output, wanted, &own),
        });
        Self::with_opener(board, show, opener, Duration::from_secs(board.siren_on_s_max.into()))
    }

    fn with_opener(board: &Board, show: Show, opener: Opener, siren_on_max: Duration) -> (Self, Vec<OutputProblem>) {
        let mut board = board.clone();
        if board.simulated {
            // A simulated board has no lines of its own, and a siren all the same.
            board.siren = Some(simulated_line());
        }
        let on_level = |line: &Option<OutputLine>| line.as_ref().is_none_or(|line| !line.safe_level.is_active());
        let siren = Siren::new(on_level(&board.siren), siren_on_max);
        let guard = Guard::start(Arc::clone(&siren));
        let mut outputs = Self {
            led: Switch::new(on_level(&board.led)),
            fault: Switch::new(on_level(&board.fault)),
            guard: None,
            siren,
            opener,
            show,
            pattern: None,
            board,
        };
        let mut problems = Vec::new();
        match guard {
            Ok(guard) => outputs.guard = Some(guard),
            // Without its second bound the siren is not opened at all.
            Err(error) => {
                problems.push(outputs.problem("siren", format!("its guard cannot start, it stays silent: {error}")))
            }
        }
        problems.extend(outputs.reopen(false));
        (outputs, problems)
    }

    /// Tries the outputs that are not open again, and those whose chip is gone. Returns those that still are not, and those that
    /// refused what they were driven to last; the fault is over where none is left.
    /// A line that is opened anew goes where the one before it was to be, and a siren that has its line at last sounds at once
    /// where `siren_on` says that it should.
    pub fn reopen(&mut self, siren_on: bool) -> Vec<OutputProblem> {
        let mut problems = Vec::new();
        for (output, wanted) in self.board.outputs() {
            let (had, is_open, may_open) = match output {
                "siren" => (self.siren.is_attached(), self.siren.keeps_line(), self.guard.is_some()),
                "led" => (self.led.shared.place.is_open(), self.led.keeps_line(), true),
                _ => (self.fault.shared.place.is_open(), self.fault.keeps_line(), true),
            };
            if is_open || !may_open {
                continue;
            }
            let mut opened = (self.opener)(output, wanted);
            // The guard or the panic hook may hold for one call more what was let go just now.
            if had && opened.is_err() {
                std::thread::sleep(LET_GO);
                opened = (self.opener)(output, wanted);
            }
            match (opened, output) {
                (Ok(line), "siren") => self.siren.attach(line),
                (Ok(line), "led") => self.led.attach(line),
                (Ok(line), _) => self.fault.attach(line),
                (Err(problem), _) => problems.push(problem),
            }
        }
        for (output, cause) in [("led", &self.led.refused), ("fault", &self.fault.refused)] {
            problems.extend(cause.as_ref().map(|cause| self.problem(output, cause.clone())));
        }
        if self.siren.refuses_off() {
            problems.push(self.problem("siren", "does not go off".into()));
        }
        // One that is to sound and says nothing but errors: not over, whoever drove it last.
        if self.siren.is_on()
            && let Err(SirenError::Line(cause)) = self.siren.obey()
        {
            problems.push(self.problem("siren", cause));
        }
        if siren_on && self.siren.is_attached() && !self.siren.is_on() {
            problems.extend(self.set_siren(true).err());
        }
        problems
    }

    /// Switches the siren. On again while on moves no bound; on after the guard has silenced it does nothing, and says
    /// so, until it has been switched off.
    ///
    /// # Errors
    /// The line is not open, refused, or the guard has silenced it.
    pub fn set_siren(&self, on: bool) -> Result<(), OutputProblem> {
        let done = if on { self.siren.on() } else { self.siren.off() };
        if let Some(guard) = &self.guard {
            guard.wake();
        }
        done.map_err(|error| match error {
            SirenError::NoLine => self.problem("siren", "not open".into()),
            SirenError::Tripped => self.problem("siren", "silenced by its guard until it is switched off".into()),
            SirenError::Held => self.problem("siren", "held silent: a thread of the program stands still".into()),
            SirenError::Line(cause) => self.problem("siren", cause),
        })
    }

    /// Whether the siren is driven to sound now (the guard may have ended it, an emergency may hold it).
    pub fn siren_is_on(&self) -> bool {
        self.siren.is_on()
    }

    /// Whether the siren is only shown: it makes no sound that a window could hold.
    pub fn siren_simulated(&self) -> bool {
        self.board.simulated
    }

    /// How often the guard had to silence the siren.
    pub fn siren_guard_trips(&self) -> u32 {
        self.siren.trips()
    }

    /// Lights the LED or darkens it. A board without one does nothing.
    ///
    /// # Errors
    /// The line is not open or refused.
    pub fn set_led(&mut self, lit: bool) -> Result<(), OutputProblem> {
        let done = self.led.set(lit);
        self.switch_result("led", self.board.led.is_some(), done)
    }

    /// Shows `pattern` as it is `t_ms` after any fixed moment; to be called every [`led::TICK_MS_MAX`] at least. A
    /// simulated LED says its pattern when that changes, since a terminal that blinks would help nobody.
    ///
    /// # Errors
    /// As [`Outputs::set_led`].
    pub fn show_led(&mut self, pattern: LedPattern, t_ms: u64) -> Result<(), OutputProblem> {
        if self.board.simulated {
            if self.pattern.replace(pattern) != Some(pattern) {
                (self.show)(&format!("LED {}", pattern.words()), true);
            }
            return Ok(());
        }
        self.pattern = Some(pattern);
        self.set_led(led::level(pattern, t_ms))
    }

    /// Says over the fault relay whether there is a fault. It holds only while all is well.
    ///
    /// # Errors
    /// The line is not open or refused.
    pub fn set_fault(&mut self, fault: bool) -> Result<(), OutputProblem> {
        let done = self.fault.set(!fault);
        self.switch_result("fault", self.board.fault.is_some(), done)
    }

    /// Drives every output to its safe level, where it stays: [`Emergency::all_safe`].
    pub fn all_safe(&mut self) {
        self.emergency().all_safe();
    }

    /// A handle for a panic hook or a signal's thread. It sees lines that [`Outputs::reopen`] opens later.
    pub fn emergency(&self) -> Emergency {
        Emergency {
            siren: Arc::clone(&self.siren),
            led: Arc::clone(&self.led.shared),
            fault: Arc::clone(&self.fault.shared),
        }
    }

    fn problem(&self, output: &'static str, cause: String) -> OutputProblem {
        let wanted = self.board.outputs().find(|(table, _)| *table == output).map(|(_, line)| line);
        OutputProblem {
            output,
            chip: wanted.map(|line| self.board.chip_of(&line.chip).to_string()).unwrap_or_default(),
            line: wanted.map(|line| line.line.to_string()).unwrap_or_default(),
            cause,
            hint: None,
            held_by_screamd: false,
        }
    }

    fn switch_result(
        &self,
        output: &'static str,
        exists: bool,
        done: Option<Result<(), String>>,
    ) -> Result<(), OutputProblem> {
        match done {
            Some(Err(cause)) => Err(self.problem(output, cause)),
            None if exists => Err(self.problem(output, "not open".into())),
            _ => Ok(()),
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.all_safe();
    }
}

/// Drives all outputs safe from wherever something has gone wrong. Takes no lock that anybody holds over a call.
#[derive(Clone)]
pub struct Emergency {
    siren: Arc<Siren>,
    led: Arc<SwitchShared>,
    fault: Arc<SwitchShared>,
}

impl Emergency {
    /// From now on a panic anywhere drives the outputs safe, has its words kept in `crash` and aborts: a device that half
    /// works is not to be trusted, and the service starts a whole one.
    pub fn abort_on_panic(self, crash: Crash) {
        let report = std::panic::take_hook();
        detector::guarded::set_hook(move |info| {
            self.all_safe();
            report(info);
            let thread = std::thread::current();
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let words = info.payload_as_str().unwrap_or("a panic without words");
            crash.keep(&format!("thread `{}`, {place}: {words}", thread.name().unwrap_or("unnamed")));
            std::process::abort();
        });
    }

    /// Siren silent, LED dark, fault relay released, and held so whatever the control loop wants: it may be well, and would undo it. What
    /// refuses is passed over.
    pub fn all_safe(&self) {
        // Also where it is off already: the word may be wrong, the safe level never is.
        let _ = self.siren.hold_off();
        for switch in [&self.led, &self.fault] {
            switch.held.store(true, Ordering::SeqCst);
            switch.overruled.store(true, Ordering::SeqCst);
            switch.make_safe();
        }
    }

    /// It was none after all. The siren goes on where it is to sound still, LED and fault relay with the loop's next turn.
    pub fn all_clear(&self) {
        self.siren.let_sound();
        for switch in [&self.led, &self.fault] {
            switch.held.store(false, Ordering::SeqCst);
        }
    }
}

/// An output without a bound: LED and fault relay.
struct Switch {
    shared: Arc<SwitchShared>,
    /// What it is to be, for a line that comes later.
    wanted: Option<bool>,
    /// What it was driven to, so that a blinking loop makes one call a change.
    last: Option<bool>,
    /// Why the last call failed. The next one tries again, whatever is wanted then.
    refused: Option<String>,
}

struct SwitchShared {
    place: Place,
    on_level: bool,
    /// An [`Emergency`] holds it at its safe level.
    held: AtomicBool,
    /// An [`Emergency`] has driven it since the loop last did, which then drives it anew.
    overruled: AtomicBool,
}

impl SwitchShared {
    fn make_safe(&self) {
        if let Some(line) = self.place.line() {
            let _ = line.set(!self.on_level);
        }
    }
}

impl Switch {
    /// Whether its line is there still: asked by driving it to where it is to be, since a steady one would be missed until its next change.
    fn keeps_line(&mut self) -> bool {
        if let Some(on) = self.wanted {
            self.last = None;
            let _ = self.set(on);
        }
        self.shared.place.keeps()
    }

    fn new(on_level: bool) -> Self {
        let [held, overruled] = [(); 2].map(|()| AtomicBool::new(false));
        let shared = SwitchShared { place: Place::default(), on_level, held, overruled };
        Self { shared: Arc::new(shared), wanted: None, last: None, refused: None }
    }

    fn attach(&mut self, line: Box<dyn Line>) {
        self.shared.place.put(line);
        self.last = None;
        // Only a line that obeys ends what the one before it refused.
        if let Some(on) = self.wanted {
            let _ = self.set(on);
        }
    }

    /// None where there is no line. One that is held stays where it is, and goes there later.
    fn set(&mut self, on: bool) -> Option<Result<(), String>> {
        self.wanted = Some(on);
        let line = self.shared.place.line()?;
        if self.shared.held.load(Ordering::SeqCst) {
            return Some(Ok(()));
        }
        let overruled = self.shared.overruled.swap(false, Ordering::SeqCst);
        if self.last == Some(on) && !overruled {
            return Some(Ok(()));
        }
        let done = line.set(on == self.shared.on_level);
        // An emergency that came in between has the last word.
        if self.shared.held.load(Ordering::SeqCst) {
            self.shared.make_safe();
        }
        self.last = done.is_ok().then_some(on);
        self.refused = done.as_ref().err().cloned();
        Some(done)
    }
}

fn simulated_line() -> OutputLine {
    OutputLine {
        line: files::board::LineRef::Name("simulated".into()),
        chip: files::board::Labels::default(),
        active_low: false,
        safe_level: files::board::Level::Inactive,
        header_pin: None,
    }
}

/// At least one output could not be driven safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SafeOutputsError {
    /// Those that were, in words.
    pub driven: Vec<String>,
    /// Those that were not, with who holds them.
    pub problems: Vec<OutputProblem>,
}

/// Drives every output of `boards` to its safe level and lets go: for the service, after a crash. The last board is today's;
/// one before it is what the dead process may have driven, and only those of its lines that are no longer today's count.
///
/// Where the driver lets a released line go to an input, the wiring's pull resistor means the same level.
///
/// # Errors
/// Where a line is held by another or does not exist; all the others have been driven.
pub fn safe_outputs(boards: &[&Board]) -> Result<Vec<String>, SafeOutputsError> {
    let (mut driven, mut problems) = (Vec::new(), Vec::new());
    for (place, board) in boards.iter().enumerate() {
        let later = &boards[place + 1..];
        if board.simulated {
            if later.is_empty() {
                driven.push(format!("the outputs of board `{}` are simulated: nothing to drive", board.name));
            }
            continue;
        }
        let of_today = |line: &OutputLine| later.iter().any(|today| has(today, line, board.chip_of(&line.chip)));
        for (output, wanted) in board.outputs().filter(|(_, line)| !of_today(line)) {
            match open_patiently(|| line::open(output, wanted, board)) {
                Ok(line) => {
                    let chip = board.chip_of(&wanted.chip);
                    let level = if wanted.safe_level.is_active() { "active" } else { "inactive" };
                    driven.push(format!("{output}: line {} of chip {chip} is {level}", wanted.line));
                    drop(line);
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() { Ok(driven) } else { Err(SafeOutputsError { driven, problems }) }
}

/// Whether `board` has that very line among its outputs.
fn has(board: &Board, line: &OutputLine, chip: &Labels) -> bool {
    !board.simulated && board.outputs().any(|(_, own)| own.line == line.line && board.chip_of(&own.chip) == chip)
}

/// A killed holder's lines are free a moment after it is gone from the process table; half a second is well within the
/// two that a siren may go on.
fn open_patiently<L>(mut open: impl FnMut() -> Result<L, OutputProblem>) -> Result<L, OutputProblem> {
    const TRIES: u32 = 5;
    let mut last = open();
    for _ in 1..TRIES {
        match &last {
            Err(problem) if problem.held_by_screamd => {
                std::thread::sleep(Duration::from_millis(100));
                last = open();
            }
            _ => break,
        }
    }
    last
}
