//! Whether the wall clock runs true, as far as the monotonic one can tell.
//!
//! A clock that leaps ten years (a bad time server, a dying clock chip) makes every event on disk look ten years old. Before
//! anything is deleted for its age the clock must have gone on from where it leapt to for a day: by then it was either put
//! right, which is another leap, or it is the time. A clock may have leapt before the service started: in its first hour none
//! is believed, so that a time server has had the time to put it right. (A recording at a PC: from the start.)

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// How long a clock must run true after the service's start, and after a leap.
const TRUE_AT_FIRST: Duration = Duration::from_secs(3600);
const TRUE_FOR: Duration = Duration::from_secs(24 * 3600);
/// What is no leap: daylight saving does not show in UTC, and time servers correct seconds.
const LEAP_S: u64 = 600;

/// Watches the wall clock.
#[derive(Debug)]
pub struct Pace {
    began: (Instant, Timestamp),
    /// How long it has to run true from there.
    due: Duration,
}

impl Pace {
    pub fn new(now: Instant, wall: Timestamp) -> Self {
        Self { began: (now, wall), due: TRUE_AT_FIRST }
    }

    /// Of a clock that is known to be right.
    pub fn proven(now: Instant, wall: Timestamp) -> Self {
        Self { began: (now, wall), due: Duration::ZERO }
    }

    /// Whether `wall` may be believed: ask now and then, since a leap there and back between two questions is not seen.
    pub fn is_true(&mut self, now: Instant, wall: Timestamp) -> bool {
        let (then, wall_then) = self.began;
        let passed = now.saturating_duration_since(then);
        let wall_passed = wall.duration_since(wall_then);
        let off = wall_passed - SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        if off.unsigned_abs().as_secs() > LEAP_S {
            log::warn!("the wall clock leapt by {} s: for a day nothing is deleted for its age", off.as_secs());
            *self = Self { began: (now, wall), due: TRUE_FOR };
            return false;
        }
        passed >= self.due
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_believed_after_a_day_and_one_back_is_another() {
        let (began, wall): (Instant, Timestamp) = (Instant::now(), "2026-11-28T12:00:00Z".parse().unwrap());
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        let years = SignedDuration::from_hours(10 * 365 * 24);
        let at = |h: u64, more: SignedDuration| {
            (began + hours(h), wall + more + SignedDuration::try_from(hours(h)).unwrap())
        };
        let mut pace = Pace::new(began, wall);
        for (hour, more, believed) in [
            (0, SignedDuration::ZERO, false),
            (1, SignedDuration::ZERO, true),
            // Seconds, as a time server corrects them.
            (2, SignedDuration::from_secs(-30), true),
            (3, years, false),
            (26, years, false),
            (27, years, true),
            (28, SignedDuration::ZERO, false),
            (51, SignedDuration::ZERO, false),
            (52, SignedDuration::ZERO, true),
            (53, -years, false),
            (54, SignedDuration::ZERO, false),
            (78, SignedDuration::ZERO, true),
        ] {
            let (now, wall) = at(hour, more);
            assert_eq!(pace.is_true(now, wall), believed, "hour {hour}");
        }
    }
}
