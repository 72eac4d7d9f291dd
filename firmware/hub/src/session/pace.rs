//! When to do the next thing: the alerts' rate, the wait between two attempts to connect. Time comes in as arguments.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::limits::{BACK_OFF_MAX, BACK_OFF_MIN, DRAIN_INTERVAL, REFUSED_LOGGED_MAX, REFUSED_WHILE, SESSION_GOOD};

/// A generator with a seed of its own: a thousand devices that wake up together must not do the same.
pub fn random() -> SmallRng {
    SmallRng::seed_from_u64(RandomState::new().build_hasher().finish())
}

/// At most 20 alerts in any second: one each [`DRAIN_INTERVAL`], and one that was late may catch up.
#[derive(Debug)]
pub struct Pace {
    next: Instant,
}

impl Pace {
    /// Lets one through at once.
    pub fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// When the next may go.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Takes a turn, where there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let turn = now >= self.next;
        if turn {
            self.next = (self.next + DRAIN_INTERVAL).max(now);
        }
        turn
    }
}

/// The wait before the next attempt: doubling, with jitter, short again after a good session.
#[derive(Debug)]
pub struct BackOff {
    wait: Duration,
}

impl BackOff {
    /// The shortest wait is next.
    pub fn new() -> Self {
        Self { wait: BACK_OFF_MIN }
    }

    /// A session has ended after so long.
    pub fn session_lasted(&mut self, lasted: Duration) {
        if lasted >= SESSION_GOOD {
            self.wait = BACK_OFF_MIN;
        }
    }

    /// The next wait: up to half longer than its turn, within the bounds.
    pub fn next(&mut self, random: &mut SmallRng) -> Duration {
        let wait = self.wait.mul_f64(random.random_range(1.0..1.5)).min(BACK_OFF_MAX);
        self.wait = (self.wait * 2).min(BACK_OFF_MAX);
        wait
    }
}

/// Words of the log that a stranger causes: [`REFUSED_LOGGED_MAX`] of a [`REFUSED_WHILE`], since a journal that he fills forgets all else.
#[derive(Debug, Default)]
pub struct Words {
    until: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Words {
    /// Whether one more is said; counted where it is not.
    pub fn may_say(&mut self, now: Instant) -> bool {
        self.until.get_or_insert(now + REFUSED_WHILE);
        let may = self.said < REFUSED_LOGGED_MAX;
        self.said += u32::from(may);
        self.unsaid += u64::from(!may);
        may
    }

    /// Once, when the while is over: how many were not said, where any.
    pub fn over(&mut self, now: Instant) -> Option<u64> {
        self.until.take_if(|until| *until <= now)?;
        Some(std::mem::take(self).unsaid).filter(|unsaid| *unsaid > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_the_first_are_said_and_the_others_counted() {
        let (mut words, now) = (Words::default(), Instant::now());
        assert_eq!(words.over(now), None);
        let said = (0..20_000).filter(|_| words.may_say(now)).count();
        assert_eq!((said, words.over(now + REFUSED_WHILE / 2)), (REFUSED_LOGGED_MAX as usize, None));
        assert_eq!(words.over(now + REFUSED_WHILE), Some(20_000 - u64::from(REFUSED_LOGGED_MAX)));
        assert!(words.may_say(now + REFUSED_WHILE));
        assert_eq!(words.over(now + REFUSED_WHILE * 3), None, "all of them were said");
    }

    #[test]
    fn never_more_than_twenty_in_any_second() {
        // Polled at awkward times, idle in between.
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut sent: Vec<u64> = Vec::new();
        for ms in (0..20_000).step_by(7).chain((40_000..60_000).step_by(13)) {
            while pace.take(start + Duration::from_millis(ms)) {
                sent.push(ms);
            }
        }
        for (index, ms) in sent.iter().enumerate() {
            let within = sent[index..].iter().take_while(|&&later| later < ms + 1000).count();
            assert!(within <= 20, "{within} from {ms}");
        }
        // 10,000 within ten minutes.
        assert!(sent.len() as f64 / 40.0 > 10_000.0 / 600.0, "{}", sent.len());
    }

    #[test]
    fn waits_grow_within_their_bounds() {
        let (mut back_off, mut random) = (BackOff::new(), random());
        let mut waits = Vec::new();
        for _ in 0..20 {
            waits.push(back_off.next(&mut random));
        }
        assert!(waits.iter().all(|wait| (BACK_OFF_MIN..=BACK_OFF_MAX).contains(wait)), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| *wait == BACK_OFF_MAX), "{waits:?}");
        back_off.session_lasted(SESSION_GOOD / 2);
        assert!(back_off.next(&mut random) > BACK_OFF_MIN * 2);
        back_off.session_lasted(SESSION_GOOD);
        assert!(back_off.next(&mut random) < BACK_OFF_MIN * 2);
    }
}
