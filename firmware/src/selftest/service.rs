//! The running service, stopped for the time of a self-test.

use std::process::{Command, Stdio};

/// The unit's name.
const UNIT: &str = "screamd.service";

/// Starts the service again when dropped, where it was this that stopped it.
pub struct Paused(bool);

impl Paused {
    /// Stops the service where it runs and the rights are there.
    pub fn new() -> Self {
        if !rustix::process::geteuid().is_root() || !systemctl(&["is-active", "--quiet", UNIT]) {
            return Self(false);
        }
        log::info!("{UNIT} is stopped for the time of this test");
        let stopped = systemctl(&["stop", UNIT]);
        if !stopped {
            log::warn!("{UNIT} could not be stopped: its lines and its microphone are busy");
        }
        Self(stopped)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if self.0 && !systemctl(&["start", UNIT]) {
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
