//! When the siren sounded, as far back as a window that is still to come may reach: what holds it is no evidence of a scream.

use std::collections::VecDeque;

/// Stretches that are remembered. A siren switched more often than that within seconds counts as one long sound.
const STRETCHES: usize = 8;
/// A window's end is never so far back, seconds.
const KEPT_S: f64 = 60.0;

/// How long it is heard after its line is off: what is on its way through the card, and the room's echo. Seconds.
const TAIL_S: f64 = 0.5;

/// Stretches of sound time, oldest first; the last one has no end while the siren sounds.
#[derive(Debug, Default)]
pub struct Sounded(VecDeque<(f64, Option<f64>)>);

impl Sounded {
    /// It sounds, or does not, since `now_s`.
    pub fn follow(&mut self, on: bool, now_s: f64) {
        match (on, self.0.back_mut()) {
            (true, Some((_, None))) | (false, None | Some((_, Some(_)))) => {}
            (false, Some((_, until))) => *until = Some(now_s),
            (true, _) => {
                self.0.retain(|(_, until)| until.is_none_or(|until| now_s - until < KEPT_S));
                if self.0.len() == STRETCHES
                    && let Some((from, _)) = self.0.pop_front()
                    && let Some(next) = self.0.front_mut()
                {
                    next.0 = from;
                }
                self.0.push_back((now_s, None));
            }
        }
    }

    /// The sound's time goes on from a moment that lies `by_s` back: a pipe stood still, somewhere between `last_s`, the end of the last window, and
    /// `now_s`, as the time goes on. The siren's times, which went on meanwhile, follow; what had sounded before stays where it stands in the
    /// sound, and what sounded meanwhile stands where the pipe did, at the widest.
    pub fn rewind(&mut self, by_s: f64, last_s: f64, now_s: f64) {
        let back = |at_s: f64, stood_s: f64| at_s.min(stood_s).max(at_s - by_s);
        for (from, until) in &mut self.0 {
            *from = back(*from, last_s);
            *until = until.map(|until| back(until, now_s));
        }
    }

    /// Whether a window from `start_s` to `end_s` holds some of it.
    pub fn within(&self, start_s: f64, end_s: f64) -> bool {
        self.0.iter().any(|&(from, until)| end_s > from && until.is_none_or(|until| start_s < until + TAIL_S))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_told_late_holds_the_sound_before_the_last() {
        let mut sounded = Sounded::default();
        assert!(!sounded.within(0.0, 2.0));
        sounded.follow(false, 1.0);
        sounded.follow(true, 10.0);
        sounded.follow(true, 11.0);
        assert!(sounded.within(9.0, 11.0) && !sounded.within(8.0, 10.0));
        sounded.follow(false, 12.0);
        sounded.follow(true, 15.0);
        // It ended before the siren went on again, and is told only now.
        assert!(sounded.within(10.2, 12.2));
        assert!(sounded.within(12.4, 14.4), "the echo");
        assert!(!sounded.within(12.5, 14.5), "between the two");
        sounded.follow(false, 16.0);
        assert!(sounded.within(15.9, 17.9) && !sounded.within(16.5, 18.5));
    }

    /// Sound stands still at 101 s, between the windows that end at 100 and 102 s, for a minute.
    #[test]
    fn a_siren_that_sounded_while_a_pipe_stood_still_masks_no_later_sound() {
        let stood = |stretches: &[(f64, bool)]| {
            let mut sounded = Sounded::default();
            stretches.iter().for_each(|&(at_s, on)| sounded.follow(on, at_s));
            sounded.rewind(60.0, 100.0, 102.0);
            sounded
        };
        // An alarm's, that ended meanwhile: silent since, and in the sound from before.
        let ended = stood(&[(99.0, true), (130.0, false)]);
        assert!(ended.within(98.0, 102.0) && ended.within(100.0, 104.0), "what had sounded before");
        assert!(!ended.within(103.0, 107.0), "a scream that comes then is one");
        // Tried by somebody meanwhile, and sounding still.
        let tried = stood(&[(150.0, true)]);
        assert!(tried.within(98.0, 102.0) && tried.within(150.0, 154.0) && !tried.within(95.0, 99.0));
        let before = stood(&[(80.0, true), (90.0, false)]);
        assert!(before.within(89.0, 93.0) && !before.within(95.0, 99.0));
        let over = stood(&[(161.5, true), (162.0, false)]);
        assert!(over.within(98.0, 102.0) && !over.within(103.0, 107.0), "after it went on");
    }

    #[test]
    fn one_that_is_switched_again_and_again_is_one_long_sound() {
        let mut sounded = Sounded::default();
        for n in 0..100 {
            sounded.follow(true, f64::from(n));
            sounded.follow(false, f64::from(n) + 0.1);
        }
        assert_eq!(sounded.0.len(), STRETCHES);
        assert!(sounded.within(60.0, 62.0) && sounded.within(41.0, 41.5));
        sounded.follow(true, 1000.0);
        assert!(!sounded.within(98.0, 100.0), "long ago");
    }
}
