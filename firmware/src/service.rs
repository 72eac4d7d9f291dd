//! The running service, stopped while somebody tries its microphone and its lines by hand.

use std::process::{Command, Stdio};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// The unit's name.
const UNIT: &str = "screamd.service";

/// Starts the service again when dropped, where it was this that stopped it.
pub struct Paused {
    stopped: bool,
    signals: Option<Handle>,
}

impl Paused {
    /// Stops the service for the time of `what`, where it runs and the rights are there.
    pub fn new(what: &str) -> Self {
        Self { stopped: runs() && stop(what), signals: None }
    }

    /// Where nobody else listens to signals: Ctrl-C, a closed terminal or SIGTERM ends the program as always, and starts the service again
    /// before that.
    pub fn until_signalled(what: &str) -> Self {
        if !runs() {
            return Self { stopped: false, signals: None };
        }
        // Listened to first: a signal in between would leave the service stopped.
        let signals = listen().inspect_err(|error| log::warn!("Ctrl-C would leave {UNIT} stopped: {error}")).ok();
        Self { stopped: stop(what), signals }
    }
}

/// Whether it runs, and this may stop it.
fn runs() -> bool {
    rustix::process::geteuid().is_root() && systemctl(&["is-active", "--quiet", UNIT])
}

fn stop(what: &str) -> bool {
    log::info!("{UNIT} is stopped for the time of {what}");
    let stopped = systemctl(&["stop", UNIT]);
    if !stopped {
        log::warn!("{UNIT} could not be stopped: its lines and its microphone are busy");
    }
    stopped
}

/// A thread that starts the service and ends the program at the first signal; closed, it is gone.
fn listen() -> std::io::Result<Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            drop(Paused { stopped: true, signals: None });
            std::process::exit(128 + signal);
        }
    })?;
    Ok(handle)
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some(signals) = &self.signals {
            signals.close();
        }
        if self.stopped && !systemctl(&["start", UNIT]) {
            log::error!("{UNIT} could not be started again: systemctl start {UNIT}");
        }
    }
}

/// Whether it succeeds; a system without systemd has no service to stop.
fn systemctl(args: &[&str]) -> bool {
    let mut command = Command::new("systemctl");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
