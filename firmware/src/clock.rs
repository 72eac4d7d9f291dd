//! Wall time, stamped on and never used for a duration; and time since boot, for those.

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;

/// No device of this kind ran before 2025: an earlier clock is one that was never set.
const SET_FROM_UNIX_S: i64 = 1_735_689_600;

/// Now, RFC 3339 in UTC, milliseconds.
pub fn now_utc() -> String {
    utc_before(Duration::ZERO)
}

/// So long ago, by the clock as it is now.
pub fn utc_before(ago: Duration) -> String {
    let then = Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_millisecond(then.as_millisecond()).unwrap_or(then).to_string()
}

/// Whether the wall clock has been set since the device woke up, by a clock that ran on meanwhile or by the network. Looked up in files that
/// are in memory (/run, /sys), until it is so.
pub fn is_set() -> bool {
    static KNOWN: AtomicBool = AtomicBool::new(false);
    static HARDWARE: LazyLock<bool> = LazyLock::new(|| has_hardware_clock(Path::new("/")));
    if !shows_set(Timestamp::now()) {
        return false;
    }
    if !KNOWN.load(Relaxed) {
        KNOWN.store(*HARDWARE || !is_guessed(Path::new("/")), Relaxed);
    }
    KNOWN.load(Relaxed)
}

/// systemd-timesyncd sets a clock that woke up in 1970 to the time at which the device last ran: that looks right and is late by as long as the
/// power was away, until it has heard the network's time.
fn is_guessed(root: &Path) -> bool {
    let timesync = root.join("run/systemd/timesync");
    timesync.is_dir() && !timesync.join("synchronized").exists()
}

/// A clock with a battery. One without (a Raspberry Pi 5 as it is sold) begins in 1970 too.
fn has_hardware_clock(root: &Path) -> bool {
    let text = std::fs::read_to_string(root.join("sys/class/rtc/rtc0/since_epoch"));
    text.ok().and_then(|text| text.trim().parse().ok()).is_some_and(|unix_s: i64| unix_s >= SET_FROM_UNIX_S)
}

/// Whether `time` can have been read from a clock that was set.
pub fn shows_set(time: Timestamp) -> bool {
    time.as_second() >= SET_FROM_UNIX_S
}

/// The local time of day; none while the clock is not set.
pub fn local_time() -> Option<jiff::civil::Time> {
    is_set().then(|| jiff::tz::TimeZone::system().to_datetime(Timestamp::now()).time())
}

/// What quiet hours are measured by, for people: the local time of day and its zone.
pub fn local_words() -> String {
    let zone = jiff::tz::TimeZone::system();
    let time = zone.to_datetime(Timestamp::now()).time();
    // Our image's /etc/localtime is a link to a link: its root cannot be written.
    let linked = std::fs::canonicalize("/etc/localtime").unwrap_or_default();
    let linked = linked.strip_prefix("/usr/share/zoneinfo").ok().and_then(|name| name.to_str());
    format!(
        "{:02}:{:02} ({})",
        time.hour(),
        time.minute(),
        zone.iana_name().or(linked).unwrap_or("a zone without a name")
    )
}

/// Monotonic time since the device booted, its sleep included.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Milliseconds of [`since_boot`].
pub fn uptime_ms() -> u64 {
    since_boot().as_millis() as u64
}

/// The kernel's id of this boot. Read once: no event waits for a file.
pub fn boot_id() -> Option<String> {
    static ID: LazyLock<Option<String>> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_string())
    });
    ID.clone()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_that_was_only_kept_on_the_disk_is_a_guess_until_the_network_has_told_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_guessed(root.path()), "a machine without timesyncd");
        let timesync = root.path().join("run/systemd/timesync");
        std::fs::create_dir_all(&timesync).unwrap();
        assert!(is_guessed(root.path()));
        std::fs::write(timesync.join("synchronized"), "").unwrap();
        assert!(!is_guessed(root.path()));
    }

    #[test]
    fn a_hardware_clock_without_a_battery_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_hardware_clock(root.path()), "a Raspberry Pi 4");
        let rtc = root.path().join("sys/class/rtc/rtc0");
        std::fs::create_dir_all(&rtc).unwrap();
        for (since_epoch, runs) in [("37\n", false), ("1790000000\n", true), ("", false)] {
            std::fs::write(rtc.join("since_epoch"), since_epoch).unwrap();
            assert_eq!(has_hardware_clock(root.path()), runs, "{since_epoch:?}");
        }
    }
}
