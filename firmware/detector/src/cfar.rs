//! Constant false-alarm rate: where it has sounded like screams all along, a window must sound more like one.
//!
//! A playground, a crowd or a song scores higher than a quiet room in every window, and one of their many windows passes any
//! fixed threshold some day; a scream stands out from what was before it. As radar does with clutter, a window is weighed
//! against an order statistic of its neighbours (Rohling 1983, "Radar CFAR Thresholding in Clutter and Multiple Target
//! Situations"): in log-odds, with `c` the `quantile` of the scores over `span_s`, of which the last `guard_s` are left out,
//!
//! ```text
//! logit(score') = logit(score) - weight * max(0, min(c, logit(to_score)) - logit(from_score))
//! ```
//!
//! It is a change of the prior and nothing else (Saerens et al. 2002), so all labels' scores follow. A scream must not hide
//! itself or those that follow it: it is no surroundings of its own while `guard_s` last, nor as long as it keeps an alarm
//! going; `to_score` bounds what is taken away, so that a clear scream is one anywhere. The device's own siren is none either.
//! What was not heard (a gap, the time before the start) counts as quiet.

use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Us, us};
use crate::keys::KeyError;
use crate::limits;
use crate::manifest::Manifest;
use crate::pipeline::rounded;

/// A score is this far from 0 and 1 at the least before it becomes log-odds: scores have six decimals.
const SCORE_MARGIN: f64 = 5e-7;
/// A window that by itself has this score is an alarm in any surroundings.
const CLEAR: f64 = 0.99;

/// `[cfar]` of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cfar {
    /// How far is looked back, beyond `guard_s`, seconds.
    pub span_s: f64,
    /// What ended so lately is left out, seconds.
    pub guard_s: f64,
    /// Which of the scores counts: 0.9 the one that a tenth of them exceed, 0..1.
    pub quantile: f64,
    /// Surroundings up to this score change nothing, 0..1.
    pub from_score: f64,
    /// Surroundings above this score count as this, 0..1.
    pub to_score: f64,
    /// How much of the surroundings' log-odds is taken away, above 0.
    pub weight: f64,
}

impl Cfar {
    /// Every mistake of these numbers in `manifest`, which is read from `file`.
    pub(crate) fn mistakes(&self, manifest: &Manifest, file: &str) -> Vec<KeyError> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, key: &str, cause: String| {
            if !good {
                wrong.push(KeyError::new(file, &format!("cfar.{key}"), cause));
            }
        };
        let most = limits::CFAR_S_MAX;
        for (key, seconds) in [("span_s", self.span_s), ("guard_s", self.guard_s)] {
            check((0.0..=most).contains(&seconds), key, format!("is {seconds}, must be 0 to {most}"));
        }
        check(
            self.quantile > 0.0 && self.quantile < 1.0,
            "quantile",
            format!("is {}, must be above 0 and below 1", self.quantile),
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
        let threshold = manifest.decision.threshold_on;
        let left = score_of(logit(CLEAR) - self.most_taken());
        check(
            left >= threshold.min(CLEAR) || left.is_nan(),
            "weight",
            format!("leaves {left:.3} of a score of {CLEAR} where it is loudest: under threshold_on ({threshold})"),
        );
        wrong
    }

    /// Log-odds.
    fn most_taken(&self) -> f64 {
        self.weight * (logit(self.to_score) - logit(self.from_score))
    }
}

/// What was heard last, for a stream of windows; does nothing where the manifest has no `[cfar]`.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    settings: Option<Cfar>,
    alarm_places: Vec<usize>,
    /// Windows in `span_s`.
    slots: usize,
    /// End and log-odds of the last windows, a ring.
    last: Vec<Option<(Us, f64)>>,
    /// Where the next one goes.
    next: usize,
    /// Those that count now.
    around: Vec<f64>,
}

impl Surroundings {
    /// Before the first window: quiet. `stride_s` is the one in force.
    pub fn new(manifest: &Manifest, stride_s: f64) -> Self {
        let Some(settings) = manifest.cfar else { return Self::default() };
        let windows = |seconds: f64| (seconds / stride_s).round().max(0.0) as usize;
        Self {
            settings: Some(settings),
            alarm_places: manifest.alarm_places().collect(),
            slots: windows(settings.span_s),
            last: vec![None; windows(settings.span_s + settings.guard_s) + 1],
            next: 0,
            around: Vec::with_capacity(windows(settings.span_s + settings.guard_s) + 1),
        }
    }

    /// The score in its surroundings of the window that ends at `now_us` and by itself has `alone`, and `scores` of all labels
    /// to match (0..1, six decimals). It becomes surroundings of the next ones, unless it is `masked` by the device's own siren
    /// or keeps `alarm`, which has not been told of it yet, going. Allocates nothing.
    pub fn hear(&mut self, alarm: &Alarm, now_us: Us, alone: f64, masked: bool, scores: &mut [f64]) -> f64 {
        let Some(settings) = self.settings else { return alone };
        let score = self.weigh(&settings, now_us, alone, scores);
        let screams_on = !alarm.at_rest(now_us) && score >= alarm.decision().threshold_off;
        if !masked && !screams_on {
            self.last[self.next] = Some((now_us, logit(alone)));
            self.next = (self.next + 1) % self.last.len();
        }
        score
    }

    fn weigh(&mut self, settings: &Cfar, now_us: Us, alone: f64, scores: &mut [f64]) -> f64 {
        let taken = self.taken(settings, now_us);
        if taken == 0.0 {
            return alone;
        }
        let weighed = rounded(score_of(logit(alone) - taken));
        let share = |new: f64, old: f64| if old > 0.0 { new / old } else { 0.0 };
        let (alarm, other) = (share(weighed, alone), share(1.0 - weighed, 1.0 - alone));
        for (place, of_label) in scores.iter_mut().enumerate() {
            let factor = if self.alarm_places.contains(&place) { alarm } else { other };
            *of_label = rounded((*of_label * factor).clamp(0.0, 1.0));
        }
        weighed
    }

    /// Log-odds that a window loses which ends at `now_us`.
    fn taken(&mut self, settings: &Cfar, now_us: Us) -> f64 {
        let (guard_us, span_us) = (us(settings.guard_s), us(settings.span_s));
        // Half a window's share of room: ends are rounded to microseconds.
        let slack_us = if self.slots > 0 { span_us / self.slots as u64 / 2 } else { 0 };
        self.around.clear();
        self.around.extend(self.last.iter().flatten().filter_map(|&(end_us, log_odds)| {
            let age_us = now_us.saturating_sub(end_us);
            (age_us > guard_us + slack_us && age_us <= guard_us + span_us + slack_us).then_some(log_odds)
        }));
        // Nearest rank from above; slots without a window are quiet ones.
        let louder = self.slots - (settings.quantile * self.slots as f64).ceil() as usize;
        if louder >= self.around.len() {
            return 0.0;
        }
        let (_, around, _) = self.around.select_nth_unstable_by(louder, |a, b| b.total_cmp(a));
        let from = logit(settings.from_score);
        settings.weight * (around.min(logit(settings.to_score)) - from).max(0.0)
    }
}

fn logit(score: f64) -> f64 {
    let score = score.clamp(SCORE_MARGIN, 1.0 - SCORE_MARGIN);
    (score / (1.0 - score)).ln()
}

fn score_of(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests;
