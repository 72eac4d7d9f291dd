//! `delayed_s`: how old an alert is when it is sent, by the best clock that covers the whole time.

use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;

use crate::alert::State;
use crate::outbox::Offer;

/// The clocks at the time of sending.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Monotonic.
    pub now: Instant,
    /// The wall clock, where it is set.
    pub wall: Option<Timestamp>,
    /// This boot's id.
    pub boot_id: Option<&'a str>,
    /// Since boot, milliseconds.
    pub uptime_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Stamp {
    t_utc: String,
    clock_set: bool,
    boot_id: Option<String>,
    t_mono_ms: Option<u64>,
}

/// Seconds from the event to `moment`, never negative. Of an alert that an earlier run left behind: by the clock since
/// boot, where it is the same boot; else by the wall clock, where it was set then and is now; else since it was read from
/// the disk, which is too little.
pub fn delayed_s(offer: &Offer<'_>, moment: &Moment<'_>) -> f64 {
    let since = moment.now.saturating_duration_since(offer.since).as_secs_f64();
    if !offer.recovered {
        return since;
    }
    let Ok(stamp) = serde_json::from_slice::<Stamp>(offer.payload) else {
        return since;
    };
    if let (Some(then), Some(now)) = (stamp.t_mono_ms, moment.uptime_ms)
        && stamp.boot_id.is_some()
        && stamp.boot_id.as_deref() == moment.boot_id
        && now >= then
    {
        return (now - then) as f64 / 1e3;
    }
    if let (true, Some(wall), Ok(then)) = (stamp.clock_set, moment.wall, stamp.t_utc.parse::<Timestamp>()) {
        return wall.duration_since(then).as_secs_f64().max(since);
    }
    since
}

/// Since when a state holds that is known at the start: the attributes of an incident that an earlier run heard say when it was.
pub fn holds_since(state: &State, wall: Option<Timestamp>, now: Instant) -> Instant {
    let State::Attributes(attributes) = state else { return now };
    let age = wall.zip(attributes.t_utc.parse::<Timestamp>().ok()).map(|(wall, then)| wall.duration_since(then));
    age.and_then(|age| now.checked_sub(age.try_into().ok()?)).unwrap_or(now)
}

/// Milliseconds since boot, sleep included, by the kernel's text file: no call of libc for a figure of 10 ms.
pub fn uptime_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some((seconds * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::alert::ScreamAttributes;

    #[test]
    fn the_attributes_of_an_earlier_run_are_as_old_as_they_say() {
        let (now, wall) = (Instant::now(), "2026-01-01T00:01:00Z".parse().ok());
        let since = |t_utc: &str, wall| {
            let (id, label, model) = ("a".into(), "scream".into(), "m 1".into());
            let attributes = ScreamAttributes { id, score: 0.9, label, level_dbfs: -12.5, t_utc: t_utc.into(), model };
            now.duration_since(holds_since(&State::Attributes(attributes), wall, now)).as_secs()
        };
        assert_eq!(since("2026-01-01T00:00:00Z", wall), 60);
        assert_eq!(since("2026-01-01T00:00:00Z", None), 0, "the clock is not set");
        assert_eq!(since("2026-01-02T00:00:00Z", wall), 0, "it was put back");
        assert_eq!(since("yesterday", wall), 0);
        assert_eq!(holds_since(&State::Siren(true), wall, now), now);
    }

    #[test]
    fn the_best_clock_is_taken() {
        let since = Instant::now();
        let moment = |boot_id: &'static str, wall: Option<&str>| Moment {
            now: since + Duration::from_secs(2),
            wall: wall.map(|text| text.parse().unwrap()),
            boot_id: Some(boot_id),
            uptime_ms: Some(61_000),
        };
        let stored = |clock_set| {
            format!(r#"{{"t_utc":"2026-01-01T00:00:00Z","clock_set":{clock_set},"boot_id":"b","t_mono_ms":1000}}"#)
        };
        let check = |clock_set, recovered, moment: Moment<'_>, expect: f64| {
            let payload = stored(clock_set);
            let offer = Offer { key: 1, payload: payload.as_bytes(), since, recovered };
            assert_eq!(delayed_s(&offer, &moment), expect);
        };
        let hour_later = Some("2026-01-01T01:00:00Z");
        check(true, false, moment("b", hour_later), 2.0);
        check(true, true, moment("b", hour_later), 60.0);
        check(true, true, moment("other", hour_later), 3600.0);
        check(false, true, moment("other", hour_later), 2.0);
        check(true, true, moment("other", None), 2.0);
        // A clock that was put back.
        check(true, true, moment("other", Some("2025-01-01T00:00:00Z")), 2.0);
        assert!(uptime_ms().unwrap() > 0);
    }
}
