//! Constant false-alarm rate: where the last half minute has sounded like screams all along, a window must sound more like
//! one.
//!
//! A playground, a crowd or a song scores higher than a quiet room in every window, and one of their many windows passes any
//! fixed threshold some day; a scream stands out from what was before it. As radar does with clutter, the score is weighed
//! against an order statistic of its neighbours (Rohling 1983, "Radar CFAR Thresholding in Clutter and Multiple Target
//! Situations"): in log-odds, with `c` the `rank`-th largest of the `windows` before,
//!
//! ```text
//! logit(score') = logit(score) - weight * max(0, min(c, logit(to_score)) - logit(from_score))
//! ```
//!
//! Two things keep a scream from hiding those that follow it: one window before a `rank` of 2 changes nothing, and `to_score`
//! bounds what can be taken away, so that a clear scream stays above the threshold after any surroundings. It is a change of
//! the prior and nothing else (Saerens et al. 2002), so all labels' scores follow.

use serde::{Deserialize, Serialize};

use crate::keys::KeyError;
use crate::limits;

/// A score is this far from 0 and 1 at the least before it becomes log-odds: scores have six decimals.
const SCORE_MARGIN: f64 = 5e-7;

/// `[cfar]` of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cfar {
    /// Windows that are looked back upon.
    pub windows: usize,
    /// Which of their scores counts: 1 the largest, 2 the second largest.
    pub rank: usize,
    /// Surroundings up to this score change nothing, 0..1.
    pub from_score: f64,
    /// Surroundings above this score count as this, 0..1.
    pub to_score: f64,
    /// How much of the surroundings' log-odds is taken away, above 0.
    pub weight: f64,
}

impl Cfar {
    /// Every mistake of these numbers, as keys of `[cfar]` in `file`.
    pub(crate) fn mistakes(&self, file: &str) -> Vec<KeyError> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, key: &str, cause: String| {
            if !good {
                wrong.push(KeyError::new(file, &format!("cfar.{key}"), cause));
            }
        };
        let most = limits::CFAR_WINDOWS_MAX;
        check((1..=most).contains(&self.windows), "windows", format!("is {}, must be 1 to {most}", self.windows));
        check(
            (1..=self.windows).contains(&self.rank),
            "rank",
            format!("is {}, must be 1 to windows ({})", self.rank, self.windows),
        );
        for (key, score) in [("from_score", self.from_score), ("to_score", self.to_score)] {
            check(score > 0.0 && score < 1.0, key, format!("is {score}, must be above 0 and below 1"));
        }
        check(
            self.from_score <= self.to_score,
            "from_score",
            format!("is {}, above to_score ({})", self.from_score, self.to_score),
        );
        check(
            self.weight > 0.0 && self.weight <= 1.0,
            "weight",
            format!("is {}, must be above 0, at most 1", self.weight),
        );
        wrong
    }
}

/// What was heard last, for a stream of windows; does nothing where the manifest has no `[cfar]`.
#[derive(Debug, Clone)]
pub struct Surroundings {
    settings: Option<Cfar>,
    alarm_places: Vec<usize>,
    /// Log-odds of the last windows, a ring.
    last: Vec<f64>,
    /// Where the next one goes.
    next: usize,
    sorted: Vec<f64>,
}

impl Surroundings {
    /// Before the first window: quiet.
    pub fn new(settings: Option<Cfar>, alarm_places: impl IntoIterator<Item = usize>) -> Self {
        let windows = settings.map_or(0, |settings| settings.windows);
        let quiet = logit(0.0);
        Self {
            settings,
            alarm_places: alarm_places.into_iter().collect(),
            last: vec![quiet; windows],
            next: 0,
            sorted: vec![quiet; windows],
        }
    }

    /// The next window's `score` (0..1) as it is in its surroundings, six decimals, and `scores` of all labels to match; a
    /// window of 0 is one of quiet. Allocates nothing.
    pub fn weigh(&mut self, score: f64, scores: &mut [f64]) -> f64 {
        let Some(settings) = self.settings else { return score };
        let taken = self.taken(&settings);
        let own = logit(score);
        self.last[self.next] = own;
        self.next = (self.next + 1) % self.last.len();
        if taken == 0.0 {
            return score;
        }
        let weighed = crate::pipeline::rounded(1.0 / (1.0 + (taken - own).exp()));
        let share = |new: f64, old: f64| if old > 0.0 { new / old } else { 0.0 };
        let (alarm, other) = (share(weighed, score), share(1.0 - weighed, 1.0 - score));
        for (place, of_label) in scores.iter_mut().enumerate() {
            let factor = if self.alarm_places.contains(&place) { alarm } else { other };
            *of_label = crate::pipeline::rounded((*of_label * factor).clamp(0.0, 1.0));
        }
        weighed
    }

    /// Log-odds that the next window loses.
    fn taken(&mut self, settings: &Cfar) -> f64 {
        self.sorted.copy_from_slice(&self.last);
        let place = self.sorted.len() - settings.rank;
        let (_, around, _) = self.sorted.select_nth_unstable_by(place, f64::total_cmp);
        settings.weight * (around.min(logit(settings.to_score)) - logit(settings.from_score)).max(0.0)
    }
}

fn logit(score: f64) -> f64 {
    let score = score.clamp(SCORE_MARGIN, 1.0 - SCORE_MARGIN);
    (score / (1.0 - score)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Cfar = Cfar { windows: 4, rank: 2, from_score: 0.1, to_score: 0.5, weight: 0.5 };

    fn heard(before: &[f64]) -> Surroundings {
        let mut surroundings = Surroundings::new(Some(SETTINGS), [0]);
        for score in before {
            surroundings.weigh(*score, &mut []);
        }
        surroundings
    }

    #[test]
    fn without_settings_nothing_changes() {
        let mut surroundings = Surroundings::new(None, [0]);
        let mut scores = [0.9, 0.1];
        for _ in 0..9 {
            assert_eq!(surroundings.weigh(0.9, &mut scores), 0.9);
        }
        assert_eq!(scores, [0.9, 0.1]);
    }

    #[test]
    fn one_loud_window_is_no_surroundings_two_are_until_they_are_past() {
        assert_eq!(heard(&[]).weigh(0.9, &mut []), 0.9);
        assert_eq!(heard(&[0.99]).weigh(0.9, &mut []), 0.9);
        // (logit 0.5 - logit 0.1) / 2 = ln 3: the odds of 9 become 3.
        assert_eq!(heard(&[0.5, 0.5]).weigh(0.9, &mut []), 0.75);
        assert_eq!(heard(&[0.5, 0.5, 0.0, 0.0]).weigh(0.9, &mut []), 0.75);
        assert_eq!(heard(&[0.5, 0.5, 0.0, 0.0, 0.0]).weigh(0.9, &mut []), 0.9);
    }

    #[test]
    fn what_is_taken_away_is_bounded_so_that_a_clear_scream_stays_one() {
        let mut loudest = heard(&[1.0; 4]);
        let after_screams = loudest.weigh(0.9, &mut []);
        assert_eq!(after_screams, 0.75, "as after windows of to_score");
        assert!(heard(&[1.0; 4]).weigh(0.999, &mut []) > 0.99);
    }

    #[test]
    fn surroundings_under_from_score_change_nothing() {
        assert_eq!(heard(&[0.1; 4]).weigh(0.9, &mut []), 0.9);
        assert!(heard(&[0.11; 4]).weigh(0.9, &mut []) < 0.9);
    }

    #[test]
    fn all_labels_follow_and_still_add_up() {
        let mut scores = [0.9, 0.06, 0.04];
        let score = heard(&[0.5; 4]).weigh(0.9, &mut scores);
        assert_eq!((score, scores), (0.75, [0.75, 0.15, 0.1]));
        let mut certain = [1.0, 0.0, 0.0];
        let score = heard(&[0.5; 4]).weigh(1.0, &mut certain);
        assert!(score < 1.0 && certain[0] == score && certain[1] == 0.0, "{certain:?}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_their_key() {
        let keys = |settings: Cfar| -> Vec<String> {
            settings.mistakes("manifest.toml").into_iter().filter_map(|wrong| wrong.key).collect()
        };
        assert!(keys(SETTINGS).is_empty());
        assert_eq!(keys(Cfar { windows: 0, rank: 0, ..SETTINGS }), ["cfar.windows", "cfar.rank"]);
        assert_eq!(keys(Cfar { rank: 5, ..SETTINGS }), ["cfar.rank"]);
        assert_eq!(keys(Cfar { from_score: 0.6, ..SETTINGS }), ["cfar.from_score"]);
        assert_eq!(keys(Cfar { to_score: 1.0, ..SETTINGS }), ["cfar.to_score"]);
        assert_eq!(keys(Cfar { weight: f64::NAN, ..SETTINGS }), ["cfar.weight"]);
    }
}
