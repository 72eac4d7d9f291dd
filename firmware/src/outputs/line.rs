//! One output line: a real one of a GPIO chip, one that is only shown, or a fake of the tests.

use crate::inputs::Sense;
use files::board::{Bias, Board, InputLine, Labels, LineRef, OutputLine};
use gpiocdev::line::{self, Info, Value};
use gpiocdev::request::Builder;
use gpiocdev::{Chip, Request};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name under which `gpioinfo` shows our lines.
const CONSUMER: &str = "screamd";

/// A line that can be driven. Both the control loop and the siren's guard hold it, so it takes no `&mut`, and it may
/// wait for nothing but the kernel.
pub trait Line: Send + Sync {
    /// Drives the line to a logical level.
    ///
    /// # Errors
    /// What the kernel said.
    fn set(&self, active: bool) -> Result<(), String>;

    /// Whether it has answered that its chip is gone. It will say nothing else, also once that chip is plugged in again: only
    /// a line that is opened then obeys. Any other error may pass, and is this line's to get over.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Where an output's line lies: any thread drives it, the control loop alone replaces it.
///
/// Its lock is held to copy or change one pointer, never over a call and never where anything can panic: whoever drives a
/// line waits for the kernel and for nobody else.
#[derive(Default)]
pub(super) struct Place(Mutex<Option<Arc<dyn Line>>>);

impl Place {
    /// The line that is open now. Kept by whoever drives it until that call is over, also where it is let go meanwhile.
    pub(super) fn line(&self) -> Option<Arc<dyn Line>> {
        self.pointer().clone()
    }

    pub(super) fn is_open(&self) -> bool {
        self.pointer().is_some()
    }

    /// Whether a line is open that may obey. One that is gone is let go: nothing is lost with it, and where the kernel
    /// holds it as ours still, it could not be asked for again.
    pub(super) fn keeps(&self) -> bool {
        let gone = self.line().is_some_and(|line| line.is_gone());
        if gone {
            // Closed outside of the lock.
            let old = self.pointer().take();
            drop(old);
        }
        self.is_open()
    }

    /// Puts a newly opened line here.
    pub(super) fn put(&self, line: Box<dyn Line>) {
        let old = self.pointer().replace(Arc::from(line));
        drop(old);
    }

    fn pointer(&self) -> MutexGuard<'_, Option<Arc<dyn Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that could not be opened, driven or read: names the output, its chip and its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{output}: line {line} of chip {chip}: {cause}{}", .hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct OutputProblem {
    /// The board file's table: `siren`, `led`, `fault`, `tamper` or `silence`.
    pub output: &'static str,
    /// The chip, by the label that the board gives.
    pub chip: String,
    /// The line, by name or offset.
    pub line: String,
    /// What is wrong; for a busy line, who holds it.
    pub cause: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Held by a `screamd`: another one, or a dead one whose lines are not free yet.
    pub held_by_screamd: bool,
}

/// Shows a simulated output to a person: the output's name and whether it is on.
pub type Show = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// Says a simulated output's changes on standard error (standard output may be JSON), and waits for no reader of it.
pub fn show_on_stderr() -> Show {
    Arc::new(|output, on| {
        let name = match output {
            "led" => "LED".to_string(),
            other => other.to_string(),
        };
        crate::logging::say(format!("{name} {} (simulated)\n", if on { "ON" } else { "off" }));
    })
}

/// A line that is only shown, when it changes.
pub struct SimulatedLine {
    output: &'static str,
    active_is_on: bool,
    is_on: AtomicBool,
    show: Show,
}

impl SimulatedLine {
    /// A line of the board's table `output`.
    pub fn new(output: &'static str, active_is_on: bool, show: Show) -> Self {
        Self { output, active_is_on, is_on: AtomicBool::new(false), show }
    }
}

impl Line for SimulatedLine {
    fn set(&self, active: bool) -> Result<(), String> {
        let on = active == self.active_is_on;
        if self.is_on.swap(on, Ordering::SeqCst) != on {
            (self.show)(self.output, on);
        }
        Ok(())
    }
}

struct GpioLine {
    request: Request,
    gone: AtomicBool,
}

impl GpioLine {
    fn of(request: Request) -> Self {
        Self { request, gone: AtomicBool::new(false) }
    }
}

impl Line for GpioLine {
    fn set(&self, active: bool) -> Result<(), String> {
        self.request.set_lone_value(value(active)).map_err(|error| {
            let cause = error.to_string();
            if says_gone(&cause) {
                self.gone.store(true, Ordering::SeqCst);
            }
            cause
        })
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// Whether an error of gpiocdev is ENODEV, the kernel's answer on every line of a chip that was taken away. By its words:
/// the number lies in a type that gpiocdev does not show.
fn says_gone(cause: &str) -> bool {
    cause.ends_with(&std::io::Error::from(rustix::io::Errno::NODEV).to_string())
}

/// Requests the line of the table `output` as an output at its safe level, in one call: it is never driven otherwise.
///
/// # Errors
/// No such chip or line, no rights, or held by another.
pub fn open(output: &'static str, wanted: &OutputLine, board: &Board) -> Result<Box<dyn Line>, OutputProblem> {
    let request = request(output, board.chip_of(&wanted.chip), &wanted.line, |request| {
        request.as_output(value(wanted.safe_level.is_active()));
        if wanted.active_low {
            request.as_active_low();
        }
    })?;
    Ok(Box::new(GpioLine::of(request)))
}

impl Sense for GpioLine {
    fn active(&self) -> Result<bool, String> {
        self.request.lone_value().map(|value| value == Value::Active).map_err(|error| error.to_string())
    }
}

/// Requests the line of the table `input` as an input.
///
/// # Errors
/// As [`open`].
pub fn open_input(input: &'static str, wanted: &InputLine, board: &Board) -> Result<Box<dyn Sense>, OutputProblem> {
    let request = request(input, board.chip_of(&wanted.chip), &wanted.line, |request| {
        request.as_input();
        if wanted.active_low {
            request.as_active_low();
        }
        match wanted.bias {
            Bias::AsIs => {}
            Bias::PullUp => drop(request.with_bias(line::Bias::PullUp)),
            Bias::PullDown => drop(request.with_bias(line::Bias::PullDown)),
            Bias::Disabled => drop(request.with_bias(line::Bias::Disabled)),
        }
    })?;
    Ok(Box::new(GpioLine::of(request)))
}

/// Finds a line and requests it as `configure` says.
fn request(
    table: &'static str,
    labels: &Labels,
    wanted: &LineRef,
    configure: impl FnOnce(&mut Builder),
) -> Result<Request, OutputProblem> {
    let problem = |cause: String, hint: Option<&str>| OutputProblem {
        output: table,
        chip: labels.to_string(),
        line: wanted.to_string(),
        cause,
        hint: hint.map(str::to_string),
        held_by_screamd: false,
    };
    let path = chip_path(labels).map_err(|(cause, hint)| problem(cause, hint))?;
    let chip = Chip::from_path(&path).map_err(|error| problem(format!("{}: {error}", path.display()), None))?;
    let offset = offset(&chip, wanted).map_err(|(cause, hint)| problem(cause, hint))?;

    let mut request = Request::builder();
    request.on_chip(&path).with_consumer(CONSUMER).with_line(offset);
    configure(&mut request);
    match request.request() {
        Ok(request) => Ok(request),
        // The holder is asked for only now: asking first and requesting then would be a race.
        Err(error) => Err(match chip.line_info(offset).ok().and_then(|info| holder(&info)) {
            Some((holder, held_by_screamd)) => {
                let busy = problem(format!("held by {holder}"), Some("end it, or name another line"));
                OutputProblem { held_by_screamd, ..busy }
            }
            None => problem(error.to_string(), None),
        }),
    }
}

type Refusal = (String, Option<&'static str>);

/// The path of the first chip with one of `labels`, in the labels' order.
fn chip_path(labels: &Labels) -> Result<PathBuf, Refusal> {
    let paths = gpiocdev::chip::chips().unwrap_or_default();
    let mut seen = Vec::new();
    let mut denied = None;
    for path in paths {
        match label(&path) {
            Ok(label) => seen.push((label, path)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => denied = Some(path),
            Err(_) => {}
        }
    }
    if let Some((_, path)) = labels.0.iter().find_map(|wanted| seen.iter().find(|(label, _)| label == wanted)) {
        return Ok(path.clone());
    }
    if let Some(path) = denied {
        return Err((
            format!("no right to open {}", path.display()),
            Some("the user must be in the group that owns it, commonly gpio"),
        ));
    }
    if seen.is_empty() {
        return Err(("this machine has no GPIO chip".into(), Some("is the board right? `gpiodetect` lists the chips")));
    }
    let labels: Vec<String> = seen.into_iter().map(|(label, _)| label).collect();
    Err((format!("no such chip; there are {}", labels.join(", ")), Some("is the board right?")))
}

fn label(path: &Path) -> std::io::Result<String> {
    // Opened first by hand: gpiocdev's error hides which errno it was.
    std::fs::File::open(path)?;
    let info = Chip::from_path(path).and_then(|chip| chip.info()).map_err(std::io::Error::other)?;
    Ok(info.label)
}

fn offset(chip: &Chip, wanted: &LineRef) -> Result<u32, Refusal> {
    let count = chip.info().map_err(|error| (error.to_string(), None))?.num_lines;
    match wanted {
        LineRef::Offset(offset) if *offset < count => Ok(*offset),
        LineRef::Offset(_) => Err((format!("no such line: the chip has {count}, numbered from 0"), None)),
        LineRef::Name(name) => chip
            .find_line_info(name)
            .map(|info| info.offset)
            .ok_or((format!("no line of that name among the chip's {count}"), Some("`gpioinfo` lists them"))),
    }
}

/// Who holds a line, in words, and whether that is a `screamd`.
fn holder(info: &Info) -> Option<(String, bool)> {
    match (info.used, info.consumer.as_str()) {
        (false, _) => None,
        (true, "") => Some(("the kernel or another program".into(), false)),
        (true, consumer) => Some((format!("`{consumer}`"), consumer == CONSUMER)),
    }
}

fn value(active: bool) -> Value {
    if active { Value::Active } else { Value::Inactive }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chip_that_is_gone_is_taken_for_one() {
        let says = |errno: rustix::io::Errno| gpiocdev::Error::from(std::io::Error::from(errno)).to_string();
        assert!(says_gone(&says(rustix::io::Errno::NODEV)));
        // As `set_lone_value` puts it.
        assert!(says_gone(&format!("uAPI set_line_values returned: {}", says(rustix::io::Errno::NODEV))));
        for passing in [rustix::io::Errno::IO, rustix::io::Errno::REMOTEIO, rustix::io::Errno::NXIO] {
            assert!(!says_gone(&says(passing)), "{passing}");
        }
    }

    #[test]
    fn a_holder_is_named_and_only_screamd_itself_is_taken_for_it() {
        let held = |used: bool, consumer: &str| holder(&Info { used, consumer: consumer.into(), ..Info::default() });
        assert_eq!(held(true, "screamd"), Some(("`screamd`".into(), true)));
        assert_eq!(held(true, "not-screamd"), Some(("`not-screamd`".into(), false)));
        assert_eq!(held(true, ""), Some(("the kernel or another program".into(), false)));
        assert_eq!(held(false, "screamd"), None);
    }
}
