//! The start of the service: `begin` counts as root, `exec` hands over to the current release.
//!
//! Whatever is broken here, something is started: a release that cannot be executed is passed over, and behind them all
//! stands the package's own program.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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

/// `check` and `selftest` typed in a shell are those of the release that the service runs: its program, model and boards are what the site
/// file is read by. Returns where none is installed, where this program is not the package's, and where the release cannot be started.
pub fn hand_over() {
    let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let device = Device::below(&root);
    let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let package = std::fs::canonicalize(device.path("/usr/bin/screamd")).ok();
    if std::env::var_os(RELEASE).is_some() || own.is_none() || own != package || device.store.package_on_trial() {
        return;
    }
    let Some(release) = device.store.current() else { return };
    // The next start takes the package: it was upgraded, and the service has not started since.
    if device.store.takes_package(&package_version()) {
        return;
    }
    let args = with_whole_paths(std::env::args_os().skip(1));
    let error = start(&device, &release.id, &program(&release), &release.folder, &args);
    log::error!("{}: {error}; the package's own program answers", program(&release).display());
}

/// The release starts in a folder of its own.
fn with_whole_paths(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const PATHS: [&str; 3] = ["--config", "--model", "--board"];
    // What is not there is looked for elsewhere: a model, in the package's folder.
    let whole = |path: &OsStr| match std::path::absolute(path) {
        Ok(whole) if whole.exists() => whole.into_os_string(),
        _ => path.to_owned(),
    };
    let mut is_path = false;
    args.map(|arg| {
        let after_a_flag = std::mem::replace(&mut is_path, PATHS.iter().any(|flag| arg == *flag));
        let text = arg.to_str().unwrap_or_default();
        let joined = text.split_once('=').filter(|(flag, _)| PATHS.contains(flag));
        match joined {
            _ if after_a_flag => whole(&arg),
            Some((flag, path)) => OsString::from_iter([OsStr::new(flag), OsStr::new("="), &whole(OsStr::new(path))]),
            None => arg,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_those_of_the_shell() {
        let here = std::env::current_dir().unwrap_or_default().display().to_string();
        let args = ["check", "--config", "Cargo.toml", "--model=src", "--board", "none.toml", "--no-siren"];
        let args = args.map(OsString::from);
        let whole = [
            "check".into(),
            "--config".into(),
            format!("{here}/Cargo.toml"),
            format!("--model={here}/src"),
            "--board".into(),
            "none.toml".into(),
            "--no-siren".into(),
        ];
        assert_eq!(with_whole_paths(args.into_iter()), whole.map(OsString::from));
    }
}
