//! Root's side: applies what the service has asked for and judges what is on trial. A path unit starts it when there is
//! a request or `current` has changed, and every boot does; it ends when nothing is left to do.

use std::path::Path;
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
/// How long until a request that cannot be taken away is looked at again.
const STUCK: Duration = Duration::from_secs(30);
/// The name of a bundle, bytes.
const NAME_BYTES_MAX: u64 = 256;

/// Until nothing is on trial and nobody asks.
pub fn serve(device: &Device) -> ExitCode {
    let mut failed = false;
    loop {
        let asked = take_request(&device.inbox());
        if let Asked::Bundle(name) = &asked {
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
            Ok(Verdict::Settled) if asked == Asked::Nothing => break,
            Ok(Verdict::Settled) if asked == Asked::Stuck => std::thread::sleep(STUCK),
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

/// What lies in the request's place.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    /// The bundle of that name.
    Bundle(String),
    /// Something that asks for nothing; it is gone.
    Odd,
    /// Something that cannot be taken away: it would start this service for ever.
    Stuck,
}

/// Takes the request. The folder is the service's own: no link in it is followed, its words are names only. Whatever lies there goes:
/// the path unit starts this service as long as something does.
fn take_request(inbox: &Path) -> Asked {
    let path = inbox.join(REQUEST);
    if std::fs::symlink_metadata(&path).is_err() {
        return Asked::Nothing;
    }
    let text = release::read_foreign(&path, NAME_BYTES_MAX);
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let gone = rustix::fs::open(inbox, flags, Mode::empty()).and_then(|folder| {
        rustix::fs::unlinkat(&folder, REQUEST, AtFlags::empty())
            .or_else(|_| rustix::fs::unlinkat(&folder, REQUEST, AtFlags::REMOVEDIR))
    });
    if let Err(error) = gone {
        log::error!("{}: {error}", path.display());
        return Asked::Stuck;
    }
    match text.as_deref().map(str::trim) {
        Some(name) if is_bundle_name(name) => Asked::Bundle(name.to_string()),
        other => {
            log::error!("{}: `{}` is no bundle's name", path.display(), other.unwrap_or_default().escape_debug());
            Asked::Odd
        }
    }
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whatever_lies_in_the_requests_place_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let (inbox, target) = (folder.path().join("inbox"), folder.path().join("target"));
        std::fs::create_dir(&inbox).unwrap();
        std::fs::write(&target, "screamd-1.2.0.bundle").unwrap();
        let request = inbox.join(REQUEST);
        assert_eq!(take_request(&inbox), Asked::Nothing);
        std::fs::write(&request, "screamd-1.2.0.bundle\n").unwrap();
        assert_eq!(take_request(&inbox), Asked::Bundle("screamd-1.2.0.bundle".into()));
        std::os::unix::fs::symlink(&target, &request).unwrap();
        assert_eq!(take_request(&inbox), Asked::Odd, "a link asks for nothing");
        for odd in [vec![b'a'; 300], vec![0xff], b"../x.bundle".to_vec()] {
            std::fs::write(&request, odd).unwrap();
            assert_eq!(take_request(&inbox), Asked::Odd);
        }
        std::fs::create_dir(&request).unwrap();
        assert_eq!(take_request(&inbox), Asked::Odd);
        assert!(!request.exists() && target.exists());
        std::fs::create_dir(&request).unwrap();
        std::fs::write(request.join("x"), "").unwrap();
        assert_eq!(take_request(&inbox), Asked::Stuck, "what somebody filled is theirs");
        assert!(request.exists());
    }

    #[test]
    fn a_request_is_a_name_and_never_a_path() {
        assert!(is_bundle_name("screamd-1.2.0.bundle"));
        for bad in ["", ".bundle", "a.txt", "../a.bundle", "/a.bundle", "a b.bundle", ".a.bundle", "a.bundle\n"] {
            assert!(!is_bundle_name(bad), "{bad:?}");
        }
    }
}
