#![allow(clippy::unwrap_used)]

use super::*;
use crate::alarm::{Event, SirenSettings};
use crate::manifest::{Decision, Votes};

/// Four windows of 2 s, the newest left out, the second highest of them.
const SETTINGS: Cfar = Cfar { span_s: 8.0, guard_s: 2.0, quantile: 0.75, from_score: 0.1, to_score: 0.5, weight: 0.5 };
const DECISION: Decision = Decision {
    stride_s: 2.0,
    threshold_on: 0.8,
    threshold_off: 0.5,
    votes: Votes { needed: 1, of: 1 },
    hold_s: 4.0,
    cooldown_s: 4.0,
};

struct Stream {
    alarm: Alarm,
    surroundings: Surroundings,
    now_us: Us,
    starts: usize,
}

impl Stream {
    fn new(cfar: Option<Cfar>) -> Self {
        let manifest = Manifest { cfar, ..manifest() };
        Self {
            alarm: Alarm::new(DECISION, SirenSettings { on_us: 0, max_us: 0 }, true, false),
            surroundings: Surroundings::new(&manifest, DECISION.stride_s),
            now_us: 0,
            starts: 0,
        }
    }

    fn hear_as(&mut self, alone: f64, masked: bool) -> f64 {
        self.now_us += us(DECISION.stride_s);
        let score = self.surroundings.hear(&self.alarm, self.now_us, alone, masked, &mut []);
        let actions = self.alarm.step(self.now_us, Event::Window { score: Some(score), masked });
        self.starts += actions.iter().filter(|action| matches!(action, crate::alarm::Action::Start { .. })).count();
        score
    }

    fn hear(&mut self, scores: &[f64]) -> f64 {
        scores.iter().fold(0.0, |_, alone| self.hear_as(*alone, false))
    }
}

fn manifest() -> Manifest {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny");
    let text = std::fs::read_to_string(folder.join("manifest-in.toml")).unwrap();
    Manifest::parse_unconverted("manifest-in.toml", &text).unwrap()
}

fn after(before: &[f64], alone: f64) -> f64 {
    let mut stream = Stream::new(Some(SETTINGS));
    stream.hear(before);
    stream.hear(&[alone])
}

#[test]
fn without_settings_nothing_changes() {
    assert_eq!(Stream::new(None).hear(&[0.7; 9]), 0.7);
}

#[test]
fn one_loud_window_is_no_surroundings_two_are_from_the_guard_on_until_they_are_past() {
    assert_eq!(after(&[], 0.75), 0.75);
    assert_eq!(after(&[0.6, 0.0, 0.0], 0.75), 0.75, "the highest of four is an outlier");
    assert_eq!(after(&[0.6, 0.6], 0.75), 0.75, "the second one is within the guard");
    // (logit 0.5 - logit 0.1) / 2 = ln 3: the odds of 3 become 1.
    assert_eq!(after(&[0.6, 0.6, 0.0], 0.75), 0.5);
    assert_eq!(after(&[0.6, 0.6, 0.0, 0.0, 0.0], 0.75), 0.5);
    assert_eq!(after(&[0.6, 0.6, 0.0, 0.0, 0.0, 0.0], 0.75), 0.75, "one of them is past");
    assert_eq!(after(&[0.1, 0.1, 0.0], 0.75), 0.75, "up to from_score nothing changes");
}

#[test]
fn what_is_taken_away_is_bounded_so_that_a_clear_scream_stays_one() {
    assert_eq!(after(&[0.79; 6], 0.75), after(&[0.51; 6], 0.75));
    assert!(after(&[0.79; 6], CLEAR) >= DECISION.threshold_on);
}

#[test]
fn a_scream_that_goes_on_is_no_surroundings_of_its_own() {
    let mut stream = Stream::new(Some(SETTINGS));
    assert_eq!(stream.hear(&[0.85; 30]), 0.85);
    assert_eq!(stream.starts, 1, "one incident as long as it lasts");
    // Over, and again after the cooldown.
    assert_eq!(stream.hear(&[0.0, 0.0, 0.0, 0.85, 0.85, 0.85]), 0.85);
    assert_eq!(stream.starts, 2);
}

#[test]
fn the_devices_own_siren_is_no_surroundings() {
    let mut stream = Stream::new(Some(SETTINGS));
    for _ in 0..9 {
        stream.hear_as(0.7, true);
    }
    assert_eq!(stream.hear(&[0.75]), 0.75);
}

#[test]
fn what_lies_behind_a_gap_is_forgotten() {
    let mut stream = Stream::new(Some(SETTINGS));
    stream.hear(&[0.7; 6]);
    stream.now_us += us(60.0);
    assert_eq!(stream.hear(&[0.75]), 0.75);
}

#[test]
fn half_the_stride_means_twice_the_windows() {
    let surroundings = Surroundings::new(&Manifest { cfar: Some(SETTINGS), ..manifest() }, 1.0);
    assert_eq!((surroundings.slots, surroundings.last.len()), (8, 11));
}

#[test]
fn all_labels_follow_and_still_add_up() {
    let mut stream = Stream::new(Some(SETTINGS));
    stream.hear(&[0.6; 4]);
    stream.surroundings.alarm_places = vec![0];
    let mut scores = [0.75, 0.15, 0.1];
    let now_us = stream.now_us + us(2.0);
    let score = stream.surroundings.hear(&stream.alarm, now_us, 0.75, true, &mut scores);
    assert_eq!((score, scores), (0.5, [0.5, 0.3, 0.2]));
    let mut certain = [1.0, 0.0, 0.0];
    let score = stream.surroundings.hear(&stream.alarm, now_us, 1.0, true, &mut certain);
    assert!(score < 1.0 && certain[0] == score && certain[1] == 0.0, "{certain:?}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_by_their_key() {
    let manifest = manifest();
    let keys = |settings: Cfar| -> Vec<String> {
        settings.mistakes(&manifest, "manifest.toml").into_iter().filter_map(|wrong| wrong.key).collect()
    };
    assert!(keys(SETTINGS).is_empty());
    assert_eq!(keys(Cfar { span_s: -1.0, guard_s: f64::NAN, ..SETTINGS }), ["cfar.span_s", "cfar.guard_s"]);
    assert_eq!(keys(Cfar { quantile: 1.0, ..SETTINGS }), ["cfar.quantile"]);
    assert_eq!(keys(Cfar { from_score: 0.6, ..SETTINGS }), ["cfar.from_score"]);
    assert_eq!(keys(Cfar { to_score: 1.0, ..SETTINGS }), ["cfar.to_score", "cfar.weight"]);
    assert_eq!(keys(Cfar { weight: f64::NAN, ..SETTINGS }), ["cfar.weight"]);
    assert_eq!(keys(Cfar { from_score: 0.001, weight: 1.0, ..SETTINGS }), ["cfar.weight"], "no scream would be left");
}
