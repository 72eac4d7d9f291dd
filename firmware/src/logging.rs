//! The log, on standard error. The alarm's own threads say their words into a queue: standard error is a journal that may hang with the disk, and
//! neither the siren's loop, nor its guard, nor the supervisor may wait for that.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use env_logger::{Builder, Env, Target, WriteStyle};

use crate::queued::{self, Queue};

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// For commands that a person waits for: each line at once, in its place among what else is said.
pub fn direct() {
    builder().init();
}

/// For the alarm.
pub fn queued() {
    let Ok(queue) = Queue::start("log", |line| drop(io::stderr().write_all(line.as_bytes()))) else { return direct() };
    // A pipe is never taken for a terminal: what stands behind it decides.
    let style = if io::stderr().is_terminal() { WriteStyle::Always } else { WriteStyle::Never };
    let pipe = Pipe(QUEUE.get_or_init(|| queue).clone());
    builder().write_style(style).target(Target::Pipe(Box::new(pipe))).init();
}

/// A line that is no word of the log, on standard error all the same: behind those that wait, or at once where none does. Nothing is wrong with
/// whoever says it where nobody can read it.
pub fn say(line: String) {
    match QUEUE.get() {
        // One that is lost is counted there.
        Some(queue) => drop(queue.say(line)),
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

/// Waits, not for long, until what was said is written.
pub fn flush() {
    flush_until(queued::after(queued::END_WAIT, || false));
}

/// Waits until what was said is written, or `over` says so.
pub fn flush_until(over: impl Fn() -> bool) {
    let Some(queue) = QUEUE.get() else { return };
    let lost = queue.flush(&over);
    if lost > 0 {
        log::warn!("{lost} line(s) of the log are lost: nobody read them in time");
        queue.flush(over);
    }
}

fn builder() -> Builder {
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    builder.format_target(false);
    builder
}

/// The logger gives a whole line at a time.
struct Pipe(Queue);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One that is lost is counted there.
        let _ = self.0.say(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
