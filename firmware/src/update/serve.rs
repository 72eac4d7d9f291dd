//! Root's side: applies what the service has asked for and judges what is on trial. A path unit starts it when there is
//! a request or `current` has changed, and every boot does; it ends when nothing is left to do.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use release::Cause;
use release::trial::Verdict;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::{BUNDLE_ENDING, Device, REQUEST, now, read_health};

const SERVICE: &str = "screamd.service";
const WATCHER: &str = "screamd-update.service";
/// How often a trial is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The name of a bundle, bytes.
const NAME_BYTES_MAX: u64 = 256;

/// Until nothing is on trial and nobody asks.
pub fn serve(device: &Device) -> ExitCode {
    let mut failed = false;
    loop {
        let asked = take_request(device);
        if let Some(name) = &asked {
            match device.try_apply(&device.inbox().join(name), false, &[]) {
                Ok(release) => {
                    log::info!("{} is current, on trial", release.id);
                    if device.store.on_trial() && device.is_live() {
                        restart();
                    }
                }
                // Asked for twice.
                Err(refused) if matches!(refused.cause, Cause::Installed(_)) => log::info!("{refused}"),
                Err(refused) => {
                    log::error!("{refused}");
                    failed = true;
                    if let Err(cause) = device.store.note_refused(name, &refused.to_string()) {
                        log::error!("{cause}");
                    }
                }
            }
        }
        match device.store.judge(&now(), read_health(&device.health()).as_ref(), gave_up(device)) {
            Ok(Verdict::Settled) if asked.is_none() => break,
            Ok(Verdict::Settled) => {}
            Ok(Verdict::Pending) => std::thread::sleep(LOOK),
            Ok(Verdict::Good(outcome)) => log::info!("{} is good: {}", outcome.release, outcome.detail),
            Ok(Verdict::Back(outcome)) => {
                log::error!("{}: {}", outcome.release, outcome.detail);
                if device.is_live() {
                    restart();
                }
            }
            Err(cause) => {
                log::error!("{cause}");
                std::thread::sleep(LOOK);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The bundle that is asked for. The folder is the service's own: no link in it is followed, its words are names only.
fn take_request(device: &Device) -> Option<String> {
    let inbox = device.inbox();
    let text = release::read_foreign(&inbox.join(REQUEST), NAME_BYTES_MAX)?;
    let folder =
        rustix::fs::open(&inbox, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    if let Err(error) = rustix::fs::unlinkat(&folder, REQUEST, AtFlags::empty()) {
        log::error!("{}: {error}", inbox.join(REQUEST).display());
        return None;
    }
    let name = text.trim();
    if is_bundle_name(name) {
        return Some(name.to_string());
    }
    log::error!("{}: `{}` is no bundle's name", inbox.join(REQUEST).display(), name.escape_debug());
    None
}

/// A file's name without a path in it.
pub fn is_bundle_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    let ending = name.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && ending == BUNDLE_ENDING);
    ending && name.len() as u64 <= NAME_BYTES_MAX && !name.starts_with('.') && name.bytes().all(plain)
}

/// systemd does not start it any more: exit status 2, or its unit is broken.
fn gave_up(device: &Device) -> bool {
    device.is_live() && systemctl(&["is-failed", "--quiet", SERVICE])
}

/// Restarts the service; its own start counts.
pub fn restart() {
    systemctl(&["reset-failed", SERVICE]);
    if !systemctl(&["--no-block", "restart", SERVICE]) {
        log::error!("{SERVICE} was not restarted; `systemctl restart {SERVICE}` starts what is current");
    }
}

/// Starts the root service that judges.
pub fn watch() {
    systemctl(&["--no-block", "start", WATCHER]);
}

fn systemctl(args: &[&str]) -> bool {
    let ran = Command::new("systemctl").args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::is_bundle_name;

    #[test]
    fn a_request_is_a_name_and_never_a_path() {
        assert!(is_bundle_name("screamd-1.2.0.bundle"));
        for bad in ["", ".bundle", "a.txt", "../a.bundle", "/a.bundle", "a b.bundle", ".a.bundle", "a.bundle\n"] {
            assert!(!is_bundle_name(bad), "{bad:?}");
        }
    }
}
