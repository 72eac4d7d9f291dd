//! A disk that gives no answer at all is no error of any file: the hub's thread waits in one and the same call.

use std::time::{Duration, Instant};

/// In which turn the hub's thread waits, and since when.
#[derive(Debug, Default)]
pub struct DiskWatch(Option<(u64, Instant)>);

impl DiskWatch {
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
        let (mut watch, began) = (DiskWatch::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(watch.waits(Some(7), began), Some(Duration::ZERO));
        assert_eq!(watch.waits(Some(7), began + second), Some(second));
        assert_eq!(watch.waits(Some(8), began + second * 2), Some(Duration::ZERO));
        assert_eq!(watch.waits(None, began + second * 3), None);
        assert_eq!(watch.waits(Some(8), began + second * 4), Some(Duration::ZERO));
    }
}
