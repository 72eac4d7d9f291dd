//! A disk or a card that gives no answer at all is no error of any call: the thread waits in one and the same turn of its loop.

use std::time::{Duration, Instant};

/// In which turn a thread waits, and since when.
#[derive(Debug, Default)]
pub struct Standstill(Option<(u64, Instant)>);

impl Standstill {
    /// For how long it has waited in the turn that it waits in at `now`; none where it does not wait.
    pub fn waits(&mut self, turn: Option<u64>, now: Instant) -> Option<Duration> {
        let known = self.0.take();
        let turn = turn?;
        let since = known.filter(|(before, _)| *before == turn).map_or(now, |(_, since)| since);
        self.0 = Some((turn, since));
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_the_same_turn_adds_up() {
        let (mut watch, began) = (Standstill::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(watch.waits(Some(7), began), Some(Duration::ZERO));
        assert_eq!(watch.waits(Some(7), began + second), Some(second));
        assert_eq!(watch.waits(Some(8), began + second * 2), Some(Duration::ZERO));
        assert_eq!(watch.waits(None, began + second * 3), None);
        assert_eq!(watch.waits(Some(8), began + second * 4), Some(Duration::ZERO));
    }
}
