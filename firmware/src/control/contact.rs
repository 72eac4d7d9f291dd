//! The case, as it is told: each change is an alert of the highest class, kept on the disk and never dropped before another. A contact that is
//! loose, or somebody who plays with it, must not wear out the card, nor push out of log and outbox who opened the case.
//!
//! The first changes are told at once. Beyond that one a minute is, which says how the case is by then, and how often it changed before.

use std::time::{Duration, Instant};

/// Changes that are told at once: three times open and closed again.
const AT_ONCE: u32 = 6;
/// Beyond that, and until as many may be again, one in this time.
const EVERY: Duration = Duration::from_secs(60);

/// What is told of the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// It is open; or was, where it has been closed again by now, which is told next.
    pub open: bool,
    /// Changes before this one that were not told.
    pub untold: u64,
}

/// What is known of the contact and what was told of it.
#[derive(Debug)]
pub struct Contact {
    open: bool,
    told_open: bool,
    changes: u64,
    /// Changes that may be told now, and since when the next one is waited for.
    spare: u32,
    since: Option<Instant>,
}

impl Default for Contact {
    fn default() -> Self {
        Self { open: false, told_open: false, changes: 0, spare: AT_ONCE, since: None }
    }
}

impl Contact {
    /// The case was opened, or closed again.
    pub fn change(&mut self, open: bool) {
        self.open = open;
        self.changes += 1;
    }

    /// What is to be told at `now`, once.
    pub fn due(&mut self, now: Instant) -> Option<Told> {
        while let Some(since) = self.since.filter(|since| now.saturating_duration_since(*since) >= EVERY) {
            self.spare += 1;
            self.since = (self.spare < AT_ONCE).then_some(since + EVERY);
        }
        // Closed, opened and open again is what people know.
        if self.changes == 0 || self.spare == 0 || (self.open && self.told_open) {
            return None;
        }
        self.spare -= 1;
        self.since.get_or_insert(now);
        // It was opened and is closed by now: two words, of which this is the first.
        let closes_later = !self.open && !self.told_open;
        let told = Told { open: !self.told_open, untold: self.changes - 1 - u64::from(closes_later) };
        self.told_open = told.open;
        self.changes = u64::from(closes_later);
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(open: bool, untold: u64) -> Option<Told> {
        Some(Told { open, untold })
    }

    #[test]
    fn who_opens_the_case_is_told_at_once_and_who_closes_it() {
        let (mut contact, began) = (Contact::default(), Instant::now());
        for n in 0..AT_ONCE {
            let now = began + Duration::from_secs(2) * n;
            assert_eq!(contact.due(now), None, "nothing has changed");
            contact.change(n % 2 == 0);
            assert_eq!((contact.due(now), contact.due(now)), (told(n % 2 == 0, 0), None));
        }
    }

    #[test]
    fn a_loose_contact_is_told_once_a_minute_and_how_it_ends() {
        let (mut contact, began) = (Contact::default(), Instant::now());
        let (mut words, mut counted) = (Vec::new(), 0);
        let hour = 3600 * 6;
        for n in 0..hour {
            contact.change(n % 2 == 0);
            if let Some(told) = contact.due(began + Duration::from_millis(1000 / 6) * n) {
                counted += told.untold + 1;
                words.push(told.open);
            }
        }
        assert!((60..=66).contains(&words.len()), "{}", words.len());
        assert!(words.is_sorted_by(|before, after| before != after), "open and closed take turns");
        assert!(u64::from(hour) - counted < 720, "each is counted: {counted}");
        // It is left open, and shut ten minutes later.
        contact.change(true);
        let later = |minutes: u64| began + Duration::from_secs(3600 + 60 * minutes);
        let last = std::iter::from_fn(|| contact.due(later(2))).last();
        assert!(last.is_some_and(|told| told.open) || contact.told_open, "{last:?}");
        contact.change(false);
        assert_eq!(contact.due(later(12)).map(|told| told.open), Some(false), "and soon at once again");
        assert_eq!(contact.spare, AT_ONCE - 1);
    }

    #[test]
    fn what_was_open_for_a_moment_meanwhile_is_told_too() {
        let (mut contact, began) = (Contact::default(), Instant::now());
        for n in 0..AT_ONCE {
            contact.change(n % 2 == 0);
            assert!(contact.due(began).is_some());
        }
        [true, false, true, false].into_iter().for_each(|open| contact.change(open));
        assert_eq!(contact.due(began + EVERY / 2), None);
        assert_eq!((contact.due(began + EVERY), contact.due(began + EVERY)), (told(true, 2), None));
        assert_eq!(contact.due(began + 2 * EVERY), told(false, 0));
        assert_eq!(contact.due(began + 9 * EVERY), None);
    }
}
