//! The running service, stopped while somebody tries its microphone and its lines by hand.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// The unit's name.
const UNIT: &str = "screamd.service";

/// Starts the service again when dropped, where it was this that stopped it.
pub struct Paused {
    shared: Arc<Shared>,
    signals: Option<Handle>,
}

/// What the thread that listens to signals has to know.
#[derive(Default)]
struct Shared {
    /// Locked while `systemctl` is at work: a signal in between would start what is just being stopped.
    stopped: Mutex<bool>,
    /// Something is lit that must be put out first.
    busy: AtomicBool,
    /// A signal has come meanwhile.
    asked: AtomicBool,
}

impl Shared {
    fn stop(&self, what: &str) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if !rustix::process::geteuid().is_root() || !is_up() {
            return;
        }
        log::info!("{UNIT} is stopped for the time of {what}");
        // Whatever `systemctl` says: where it is broken off, the service manager goes on with what it was asked for, and an alarm that was
        // stopped by request is started again by nobody else.
        *stopped = true;
        if !systemctl(&["stop", UNIT]) {
            log::warn!("{UNIT} could not be stopped: its lines and its microphone may be busy");
        }
    }

    fn start(&self) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *stopped) && !systemctl(&["start", UNIT]) {
            log::error!("{UNIT} could not be started again: systemctl start {UNIT}");
        }
    }

    fn leave(&self, signal: i32) -> ! {
        self.start();
        std::process::exit(128 + signal)
    }
}

impl Paused {
    /// Stops the service for the time of `what`, where it runs and the rights are there.
    pub fn new(what: &str) -> Self {
        let paused = Self { shared: Arc::default(), signals: None };
        paused.shared.stop(what);
        paused
    }

    /// Where nobody else listens to signals: Ctrl-C, a closed terminal or SIGTERM ends the program as always, and starts the service again
    /// before that.
    pub fn until_signalled(what: &str) -> Self {
        let shared = Arc::<Shared>::default();
        // Listened to first: a signal in between would leave the service stopped.
        let signals = listen(&shared).inspect_err(|error| log::warn!("signals: {error}")).ok();
        shared.stop(what);
        Self { shared, signals }
    }

    /// Does something that a signal must not break off: it is told by the flag, and the program ends behind it.
    pub fn whole<T>(&self, does: impl FnOnce(&AtomicBool) -> T) -> T {
        self.shared.busy.store(true, SeqCst);
        let done = does(&self.shared.asked);
        self.shared.busy.store(false, SeqCst);
        if self.shared.asked.load(SeqCst) {
            self.shared.leave(SIGINT);
        }
        done
    }
}

/// A thread that starts the service and ends the program at a signal; closed, it is gone.
fn listen(shared: &Arc<Shared>) -> std::io::Result<Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (handle, shared) = (signals.handle(), Arc::clone(shared));
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            shared.asked.store(true, SeqCst);
            if !shared.busy.load(SeqCst) {
                shared.leave(signal);
            }
        }
    })?;
    Ok(handle)
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some(signals) = &self.signals {
            signals.close();
        }
        self.shared.start();
    }
}

/// Whether the service runs, or is about to: one that crashes again and again waits for its next start, and would take lines and microphone
/// back in the middle.
fn is_up() -> bool {
    let state = command(&["is-active", UNIT]).stdout(Stdio::piped()).output();
    let state = state.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default();
    ["active", "activating", "reloading", "deactivating"].contains(&state.as_str())
}

/// Whether it succeeds; a system without systemd has no service to stop.
fn systemctl(args: &[&str]) -> bool {
    command(args).status().is_ok_and(|status| status.success())
}

/// In a process group of its own: Ctrl-C is for us, who start again what was stopped.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new("systemctl");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}
