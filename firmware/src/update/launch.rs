//! The start of the service: `begin` counts as root, `exec` hands over to the current release.
//!
//! Whatever is broken here, something is started: a release that cannot be executed is passed over, and behind them all
//! stands the package's own program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use release::store::{PACKAGE, Release};

use super::{Device, now, package_version, read_health};

/// The release that was started, for its agent.
pub const RELEASE: &str = "SCREAMD_RELEASE";
/// The device's root, for its agent.
pub const ROOT: &str = "SCREAMD_ROOT";

/// Counts a start. Fails where it could not, which the unit passes over: an alarm that starts uncounted is better than none.
pub fn begin(device: &Device) -> ExitCode {
    let before = read_health(&device.health());
    // What the last run said of itself is no word of this one.
    if let Err(error) = std::fs::remove_file(device.health())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::warn!("{}: {error}", device.health().display());
    }
    match device.store.begin_after(&now(), &package_version(), before) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(outcome)) => {
            log::warn!("update {}: {}", outcome.release, outcome.detail);
            ExitCode::SUCCESS
        }
        Err(cause) => {
            log::error!("this start is not counted: {cause}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the current release in place of this process; returns only where nothing at all could be started.
pub fn exec(device: &Device, args: &[OsString]) -> ExitCode {
    // A new package on trial comes before the release that was good: behind it, it would never be started.
    if device.store.package_on_trial() {
        start_package(device, args);
    }
    for release in [device.store.current(), device.store.good()].into_iter().flatten() {
        let error = start(device, &release.id, &program(&release), &release.folder, args);
        log::error!("{}: {error}; passed over", program(&release).display());
    }
    start_package(device, args);
    ExitCode::FAILURE
}

fn start_package(device: &Device, args: &[OsString]) {
    let share = device.path("/usr/share/screamd");
    let error = match std::env::current_exe() {
        Ok(own) => start(device, PACKAGE, &own, &share, args),
        Err(error) => error,
    };
    log::error!("the package's own program: {error}");
}

fn program(release: &Release) -> std::path::PathBuf {
    release.folder.join(release::manifest::PROGRAM)
}

fn start(device: &Device, id: &str, program: &Path, folder: &Path, args: &[OsString]) -> std::io::Error {
    let mut command = Command::new(program);
    command.args(args).env(RELEASE, id).env(ROOT, &device.root);
    // Models and boards are looked for here first.
    if folder.is_dir() {
        command.current_dir(folder);
    }
    command.exec()
}
