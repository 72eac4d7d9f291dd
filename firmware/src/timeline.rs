//! Where windows lie in time although sound is missing: sound is counted in samples, gaps in seconds between them.
//!
//! Sound around a gap is joined, so that the network sees no hole; its time goes on by the gap's length all the same,
//! since siren, hold and cooldown are people's time.

use std::collections::VecDeque;

use detector::window::Span;

/// Gaps that one window may hold; more are one with the last.
const GAPS_MAX: usize = 64;

/// Gaps of the sound.
pub struct Timeline {
    rate_hz: f64,
    /// Seconds missing before everything that is still asked for.
    before_s: f64,
    /// (sample of the model's rate, seconds missing there), in order.
    gaps: VecDeque<(u64, f64)>,
}

/// A window's place in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Seconds of the source.
    pub t_start_s: f64,
    /// Seconds of the source; more than the window's length later where sound is missing in between.
    pub t_end_s: f64,
    /// Sound is missing inside.
    pub gap: bool,
    /// Seconds of its sound until the first gap inside; none without one.
    pub gap_after_s: Option<f64>,
}

impl Timeline {
    /// Without a gap yet; allocates all that it ever will.
    pub fn new(rate_hz: f64) -> Self {
        Self { rate_hz, before_s: 0.0, gaps: VecDeque::with_capacity(GAPS_MAX) }
    }

    /// `length_s` of sound is missing before sample `at`, which no earlier gap lies behind.
    pub fn gap(&mut self, at: u64, length_s: f64) {
        let full = self.gaps.len() == GAPS_MAX;
        match self.gaps.back_mut() {
            Some((_, last)) if full => *last += length_s,
            _ => self.gaps.push_back((at, length_s)),
        }
    }

    /// Where `span` lies. Spans come in order.
    pub fn place(&mut self, span: &Span) -> Place {
        while let Some((_, length_s)) = self.gaps.front().filter(|(at, _)| *at <= span.start) {
            self.before_s += length_s;
            self.gaps.pop_front();
        }
        let inside = self.gaps.iter().filter(|(at, _)| *at < span.end);
        let first = inside.clone().next().map(|(at, _)| *at);
        let (count, inside_s) = inside.fold((0, 0.0), |(count, sum), (_, length_s)| (count + 1, sum + length_s));
        let seconds = |sample: u64| sample as f64 / self.rate_hz;
        Place {
            t_start_s: seconds(span.start) + self.before_s,
            t_end_s: seconds(span.end) + self.before_s + inside_s,
            gap: count > 0,
            gap_after_s: first.map(|at| seconds(at - span.start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_move_on_by_what_is_missing_before_them() {
        let mut timeline = Timeline::new(10.0);
        let mut check = |gap: Option<(u64, f64)>, start: u64, expect: (f64, f64, bool)| {
            if let Some((at, length_s)) = gap {
                timeline.gap(at, length_s);
            }
            let place = timeline.place(&Span { seq: 0, start, end: start + 40 });
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(near(place.t_start_s, expect.0) && near(place.t_end_s, expect.1), "{place:?}");
            assert_eq!(place.gap, expect.2, "{place:?}");
        };
        check(None, 0, (0.0, 4.0, false));
        check(Some((60, 1.5)), 20, (2.0, 6.0, false));
        check(None, 40, (4.0, 9.5, true));
        check(Some((90, 100.0)), 59, (5.9, 111.4, true));
        check(None, 60, (7.5, 111.5, true));
        check(None, 90, (110.5, 114.5, false));
        check(None, 110, (112.5, 116.5, false));
    }

    #[test]
    fn any_number_of_gaps_has_room() {
        let mut timeline = Timeline::new(10.0);
        let capacity = timeline.gaps.capacity();
        (0..1_000).for_each(|at| timeline.gap(at, 0.1));
        assert_eq!(timeline.gaps.capacity(), capacity);
        let place = timeline.place(&Span { seq: 0, start: 1_000, end: 1_040 });
        assert!((place.t_end_s - 204.0).abs() < 1e-6, "{place:?}");
    }
}
