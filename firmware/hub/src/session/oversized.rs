//! Messages that are too large to be read. The client ends the connection at one, and one that the broker keeps (*retained*) comes with every
//! subscription: the device would never stay. After it has ended two connections in a row, the next one does without commands, so that alerts
//! and states go out; after a while they are asked for again.

use std::time::{Duration, Instant};

use crate::limits::DEAF;

/// A connection that lasted longer was not ended by what the broker keeps.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Connections in a row that were ended at once.
const IN_A_ROW: u32 = 2;

/// What such messages have done to the session.
#[derive(Debug, Default)]
pub struct Oversized {
    in_a_row: u32,
    deaf_until: Option<Instant>,
    /// When the commands were asked for again, until that has gone well for a while.
    asked: Option<Instant>,
}

impl Oversized {
    /// One has ended a connection that had lasted so long.
    pub fn ended(&mut self, lasted: Duration, now: Instant) {
        let asked = self.asked.take().is_some();
        self.in_a_row = if asked || lasted < AT_ONCE { self.in_a_row + 1 } else { 1 };
        if self.in_a_row >= IN_A_ROW {
            self.deaf_until = Some(now + DEAF);
        }
    }

    /// Whether to do without commands.
    pub fn is_deaf(&self, now: Instant) -> bool {
        self.deaf_until.is_some_and(|until| now < until)
    }

    /// When to look at [`Self::asks_again`] and [`Self::is_over`].
    pub fn look_at(&self) -> Option<Instant> {
        self.deaf_until.or(self.asked.map(|asked| asked + AT_ONCE))
    }

    /// True once, when it is time to ask for them again.
    pub fn asks_again(&mut self, now: Instant) -> bool {
        let asks = self.deaf_until.take_if(|until| *until <= now).is_some();
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// True once, when it has.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let over = self.asked.take_if(|asked| now.duration_since(*asked) >= AT_ONCE).is_some();
        if over {
            self.in_a_row = 0;
        }
        over
    }

    /// The connection is over: what was asked for on it tells nothing any more.
    pub fn forget_asking(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_row_are_what_the_broker_keeps_and_one_now_and_then_is_not() {
        let (mut oversized, now) = (Oversized::default(), Instant::now());
        for _ in 0..5 {
            oversized.ended(Duration::from_secs(60), now);
            assert!(!oversized.is_deaf(now));
        }
        oversized.ended(Duration::from_millis(100), now);
        assert!(oversized.is_deaf(now) && oversized.is_deaf(now + DEAF / 2));
        assert!(!oversized.asks_again(now + DEAF / 2));
        assert!(!oversized.is_deaf(now + DEAF) && oversized.asks_again(now + DEAF));
        assert!(!oversized.asks_again(now + DEAF), "once");
        // It is still there, and ends a connection that has lasted long.
        assert!(!oversized.is_over(now + DEAF));
        oversized.ended(DEAF, now + DEAF);
        assert!(oversized.is_deaf(now + DEAF) && oversized.asked.is_none());
        let later = now + 2 * DEAF;
        assert!(
            oversized.asks_again(later) && oversized.is_over(later + AT_ONCE) && !oversized.is_over(later + AT_ONCE)
        );
        // Asked for on a connection that has just come up.
        let mut oversized = Oversized { in_a_row: 2, deaf_until: Some(now), asked: None };
        assert!(oversized.asks_again(now));
        oversized.ended(Duration::ZERO, now);
        assert!(!oversized.is_over(now + AT_ONCE), "it is deaf, and not well");
        let mut oversized = Oversized::default();
        oversized.ended(Duration::ZERO, later + DEAF);
        assert!(!oversized.is_deaf(later + DEAF), "one alone, after all was well");
    }
}
