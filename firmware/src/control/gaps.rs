//! Sound that is missing, told as one line for all of a second: a card that stutters must not flood who reads.

use std::time::{Duration, Instant};

use crate::lines::Line;

/// Gaps nearer to each other are told as one.
const EVERY: Duration = Duration::from_secs(1);

/// What is missing and has not been told yet.
#[derive(Debug, Default)]
pub struct Gaps {
    /// From when on, and how much, seconds of the sound.
    untold: Option<(f64, f64)>,
    told_at: Option<Instant>,
}

impl Gaps {
    /// `length_s` are missing at `t_s`.
    pub fn add(&mut self, t_s: f64, length_s: f64) {
        let (first_s, sum_s) = self.untold.unwrap_or((t_s, 0.0));
        self.untold = Some((first_s, sum_s + length_s));
    }

    /// The line that is due at `now`, once.
    pub fn due(&mut self, now: Instant) -> Option<Line<'static>> {
        if self.told_at.is_some_and(|told| now < told + EVERY) {
            return None;
        }
        let (t_s, length_s) = self.untold.take()?;
        self.told_at = Some(now);
        Some(Line::Gap { t_s, length_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_of_a_second_together() {
        let (mut gaps, began) = (Gaps::default(), Instant::now());
        assert!(gaps.due(began).is_none());
        gaps.add(1.0, 0.25);
        assert!(matches!(gaps.due(began), Some(Line::Gap { t_s: 1.0, length_s: 0.25 })));
        gaps.add(2.0, 0.25);
        gaps.add(2.5, 0.5);
        assert!(gaps.due(began + EVERY / 2).is_none());
        assert!(matches!(gaps.due(began + EVERY), Some(Line::Gap { t_s: 2.0, length_s: 0.75 })));
        assert!(gaps.due(began + EVERY * 3).is_none());
    }
}
