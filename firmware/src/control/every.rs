//! What is done again and again, at a distance.

use std::time::{Duration, Instant};

/// Due once a `period`, first one period after `now`.
#[derive(Debug)]
pub struct Every {
    period: Duration,
    next: Instant,
}

impl Every {
    /// From `now` on.
    pub fn new(period: Duration, now: Instant) -> Self {
        Self { period, next: now + period }
    }

    /// Whether it is time; the next one is a period from `now`, so that what was held up is not done twice in a row.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.period;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_done_once() {
        let (period, began) = (Duration::from_secs(5), Instant::now());
        let mut every = Every::new(period, began);
        assert!(!every.due(began));
        assert!(every.due(began + period * 3) && !every.due(began + period * 3));
        assert!(every.due(began + period * 4));
    }
}
