//! Which alert was raised when, and heard when and how often.

use std::time::Instant;

use serde::Serialize;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half took no longer.
    pub p50: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// None took longer.
    pub max: f64,
}

/// One entry an alert.
pub struct Ledger {
    rounds: u32,
    raised: Vec<Option<Instant>>,
    heard: Vec<bool>,
    latencies_ms: Vec<f64>,
    doubled: usize,
}

impl Ledger {
    /// Empty, for so many devices and alerts of each.
    pub fn new(devices: u32, rounds: u32) -> Self {
        let count = devices as usize * rounds as usize;
        Self {
            rounds,
            raised: vec![None; count],
            heard: vec![false; count],
            latencies_ms: Vec::with_capacity(count),
            doubled: 0,
        }
    }

    /// An alert was raised.
    pub fn raised(&mut self, device: u32, round: u32, at: Instant) {
        if let Some(slot) = self.index(device, round).and_then(|index| self.raised.get_mut(index)) {
            *slot = Some(at);
        }
    }

    /// An alert was heard; of one that was never raised nothing is kept.
    pub fn heard_one(&mut self, device: u32, round: u32, at: Instant) {
        let Some(index) = self.index(device, round) else { return };
        let (Some(Some(raised)), Some(heard)) = (self.raised.get(index), self.heard.get_mut(index)) else { return };
        if std::mem::replace(heard, true) {
            self.doubled += 1;
        } else {
            self.latencies_ms.push(at.saturating_duration_since(*raised).as_secs_f64() * 1e3);
        }
    }

    /// Different alerts heard.
    pub fn heard(&self) -> usize {
        self.latencies_ms.len()
    }

    /// Heard again.
    pub fn doubled(&self) -> usize {
        self.doubled
    }

    /// From raised to heard the first time.
    pub fn latency_ms(&self) -> Spread {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let value = sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0);
            (value * 1e3).round() / 1e3
        };
        Spread { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }

    /// For people, while it runs: over the last thousand, so that it costs little.
    pub fn line(&self) -> String {
        let from = self.latencies_ms.len().saturating_sub(1000);
        let mut last = self.latencies_ms[from..].to_vec();
        last.sort_by(f64::total_cmp);
        let at = |share: f64| last.get((last.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        format!("p50 {:.1} ms, p99 {:.1} ms, {} doubled", at(0.5), at(0.99), self.doubled)
    }

    fn index(&self, device: u32, round: u32) -> Option<usize> {
        (round < self.rounds).then(|| device as usize * self.rounds as usize + round as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_alert_counts_once() {
        let now = Instant::now();
        let mut ledger = Ledger::new(2, 2);
        for (device, round) in [(0, 0), (1, 0), (1, 1)] {
            ledger.raised(device, round, now);
        }
        ledger.heard_one(0, 0, now + Duration::from_millis(10));
        ledger.heard_one(1, 1, now + Duration::from_millis(30));
        ledger.heard_one(1, 1, now + Duration::from_millis(90));
        // Never raised, and nobody's.
        ledger.heard_one(0, 1, now);
        ledger.heard_one(7, 0, now);
        ledger.heard_one(0, 7, now);
        assert_eq!((ledger.heard(), ledger.doubled()), (2, 1));
        assert_eq!(ledger.latency_ms(), Spread { p50: 10.0, p95: 30.0, p99: 30.0, max: 30.0 });
        assert_eq!(Ledger::new(1, 1).latency_ms(), Spread::default());
    }
}
