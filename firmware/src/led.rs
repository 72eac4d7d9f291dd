//! What the LED says, as a function of time alone.
//!
//! ```text
//!            0 s       1 s       2 s            10 s
//! armed      ##........##........##...          slow heartbeat: a tenth of a second each 2 s
//! disarmed   #..............................    one blink in 10 s
//! alarm      ##############################     steady
//! fault      #.#.......#.#.......#.#.......     double blink each second
//! ```

/// What the LED shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedPattern {
    /// Armed and well: a slow heartbeat.
    HeartbeatArmed,
    /// Disarmed: one blink in 10 s.
    Disarmed,
    /// Alarm: steady.
    Alarm,
    /// At least one fault: a double blink.
    Fault,
}

impl LedPattern {
    /// Words for a terminal that stands in for the LED.
    pub fn words(self) -> &'static str {
        match self {
            Self::HeartbeatArmed => "slow heartbeat (armed and well)",
            Self::Disarmed => "one blink in 10 s (disarmed)",
            Self::Alarm => "steady (alarm)",
            Self::Fault => "double blink (fault)",
        }
    }
}

/// How long one flash is: long enough for a control loop that looks every 50 ms, short enough to save power.
const FLASH_MS: u64 = 100;
/// A control loop that calls [`level`] at least this often loses no flash.
pub const TICK_MS_MAX: u64 = FLASH_MS / 2;

/// Whether the LED is lit `t_ms` after any fixed moment.
pub fn level(pattern: LedPattern, t_ms: u64) -> bool {
    match pattern {
        LedPattern::HeartbeatArmed => t_ms % 2_000 < FLASH_MS,
        LedPattern::Disarmed => t_ms % 10_000 < FLASH_MS,
        LedPattern::Alarm => true,
        LedPattern::Fault => {
            let phase = t_ms % 1_000;
            phase < FLASH_MS || (2 * FLASH_MS..3 * FLASH_MS).contains(&phase)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flashes in 10 s, seen by a loop that looks every `step_ms`, and how long it is lit.
    fn seen(pattern: LedPattern, step_ms: u64) -> (usize, u64) {
        let levels: Vec<bool> = (0..10_000 / step_ms).map(|tick| level(pattern, tick * step_ms)).collect();
        let rises = levels.windows(2).filter(|pair| !pair[0] && pair[1]).count() + usize::from(levels[0]);
        (rises, levels.iter().filter(|lit| **lit).count() as u64 * step_ms)
    }

    #[test]
    fn each_pattern_can_be_told_from_the_others() {
        for step_ms in [1, TICK_MS_MAX] {
            assert_eq!(seen(LedPattern::HeartbeatArmed, step_ms), (5, 500));
            assert_eq!(seen(LedPattern::Disarmed, step_ms), (1, 100));
            assert_eq!(seen(LedPattern::Alarm, step_ms), (1, 10_000));
            assert_eq!(seen(LedPattern::Fault, step_ms), (20, 2_000));
        }
    }

    #[test]
    fn a_double_blink_is_two_near_flashes() {
        let lit: Vec<u64> = (0..1_000).step_by(100).filter(|t| level(LedPattern::Fault, *t)).collect();
        assert_eq!(lit, [0, 200]);
    }

    #[test]
    fn patterns_go_on_for_ever() {
        let century_ms = 100 * 366 * 86_400_000;
        for pattern in [LedPattern::HeartbeatArmed, LedPattern::Disarmed, LedPattern::Alarm, LedPattern::Fault] {
            assert_eq!(level(pattern, century_ms), level(pattern, century_ms % 10_000));
        }
    }
}
