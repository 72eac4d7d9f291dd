//! How far the figures could have come out otherwise: the bootstrap by group.
//!
//! Clips of one recording are no independent evidence, so whole *groups* are drawn, with replacement, as many as there are.
//! Where all clips came out alike every draw does, however few they are; a share then gets Wilson's interval (1927) for as
//! many clips as there are groups, and the areas under curves, of which nobody knows one, get none.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use super::clips::Scored;
use super::figures;

const RESAMPLES: u64 = 1000;

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_964;

/// The middle 95 % of each figure over the resamples. Not a number, which JSON writes as null, where there is none.
#[derive(Serialize)]
pub struct Intervals {
    pub accuracy: [f64; 2],
    pub balanced_accuracy: [f64; 2],
    pub precision: [f64; 2],
    pub recall: [f64; 2],
    pub f1: [f64; 2],
    pub roc_auc: [f64; 2],
    pub average_precision: [f64; 2],
    /// Groups drawn from; a clip without one is a group of its own.
    pub groups: usize,
    pub resamples: usize,
}

/// Intervals of the figures at `threshold`. A resample without a scream, or without anything else, has no figures and is
/// left out; none are left where the clips are that few.
pub fn intervals(scored: &[Scored], threshold: f64) -> Option<Intervals> {
    let mut groups: BTreeMap<&str, Vec<(bool, f64)>> = BTreeMap::new();
    for clip in scored {
        let Some(truth) = clip.truth() else { continue };
        groups.entry(clip.row.group()).or_default().push((truth, clip.score));
    }
    let groups: Vec<Vec<(bool, f64)>> = groups.into_values().collect();
    let drawn: Vec<figures::ClipFigures> = (0..RESAMPLES)
        .into_par_iter()
        .map(|seed| {
            let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
            let labelled: Vec<(bool, f64)> =
                (0..groups.len()).flat_map(|_| groups[rng.random_range(0..groups.len())].iter().copied()).collect();
            figures::clips(&labelled, threshold)
        })
        .filter(figures::ClipFigures::has_both)
        .collect();
    let all_groups = groups.len();
    let scream_groups = groups.iter().filter(|group| group.iter().any(|(truth, _)| *truth)).count();
    let of = |figure: fn(&figures::ClipFigures) -> f64| middle(drawn.iter().map(figure).collect());
    let share = |figure, groups: usize| or_wilson(of(figure), groups);
    let area = |figure| {
        let [low, high] = of(figure);
        if low == high { [f64::NAN; 2] } else { [low, high] }
    };
    (!drawn.is_empty()).then(|| Intervals {
        accuracy: share(|figures| figures.accuracy, all_groups),
        balanced_accuracy: share(|figures| figures.balanced_accuracy, all_groups),
        precision: share(|figures| figures.precision, scream_groups),
        recall: share(|figures| figures.recall, scream_groups),
        f1: share(|figures| figures.f1, scream_groups),
        roc_auc: area(|figures| figures.roc_auc),
        average_precision: area(|figures| figures.average_precision),
        groups: all_groups,
        resamples: drawn.len(),
    })
}

/// The interval of the share of screams that are found, of `(group, found)`, none without any.
pub fn found_interval<'a>(found: impl IntoIterator<Item = (&'a str, bool)>) -> Option<[f64; 2]> {
    let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (group, found) in found {
        let counts = groups.entry(group).or_default();
        *counts = (counts.0 + usize::from(found), counts.1 + 1);
    }
    let groups: Vec<(usize, usize)> = groups.into_values().collect();
    let drawn = (0..RESAMPLES).map(|seed| {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let (found, all) = (0..groups.len()).fold((0, 0), |(found, all), _| {
            let drawn = groups[rng.random_range(0..groups.len())];
            (found + drawn.0, all + drawn.1)
        });
        found as f64 / all as f64
    });
    (!groups.is_empty()).then(|| or_wilson(middle(drawn.collect()), groups.len()))
}

/// The middle 95 % of values that are numbers.
fn middle(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    if values.is_empty() { [f64::NAN; 2] } else { [at(0.025), at(0.975)] }
}

/// `interval` of a share, or Wilson's of `n` draws where it has no width.
fn or_wilson([low, high]: [f64; 2], n: usize) -> [f64; 2] {
    if low < high || low.is_nan() {
        return [low, high];
    }
    let (p, n) = (low, n as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // At both ends it is exact, and rounding must not leave 0..1.
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::table::Clip;

    fn scored(groups: usize) -> Vec<Scored> {
        // One in ten of either kind is wrong; clips of a group share a fate.
        (0..200)
            .map(|i| {
                let truth = i % 2 == 0;
                let fate = (i / 2) % groups;
                let wrong = fate.is_multiple_of(10);
                let group = format!("{truth}{fate}");
                let row = Clip { file: format!("{i}"), label: u8::from(truth).to_string(), group, ..Clip::default() };
                Scored { row, score: if truth != wrong { 0.9 } else { 0.1 }, window: 0, whole: 0.0 }
            })
            .collect()
    }

    #[test]
    fn an_interval_is_as_wide_as_the_groups_allow() {
        let alone = intervals(&scored(100), 0.5).unwrap();
        let [low, high] = alone.accuracy;
        // 200 clips at 0.9: the binomial's standard deviation is 0.021.
        assert!(low < 0.87 && low > 0.84 && high > 0.92 && high < 0.96, "{low} {high}");
        let together = intervals(&scored(10), 0.5).unwrap();
        assert_eq!((alone.groups, together.groups), (200, 20));
        assert!(together.accuracy[1] - together.accuracy[0] > 1.8 * (high - low), "ten clips a group are one draw");
    }

    /// Nine of nine is no certainty.
    #[test]
    fn all_right_has_an_interval_too() {
        let right = |n: usize| {
            let clip = |i: usize| {
                let row = Clip { file: format!("{i}"), label: (i % 2).to_string(), ..Clip::default() };
                Scored { row, score: if i % 2 == 1 { 0.9 } else { 0.1 }, window: 0, whole: 0.0 }
            };
            intervals(&(0..n).map(clip).collect::<Vec<_>>(), 0.5).unwrap()
        };
        let (few, many) = (right(18), right(180));
        // Wilson's table: 9 of 9 from 0.7009, 90 of 90 from 0.9591.
        assert!((few.recall[0] - 0.7009).abs() < 1e-3 && (many.recall[0] - 0.9591).abs() < 1e-3);
        assert!(few.recall[1] > 0.999 && few.accuracy[0] > few.recall[0]);
        assert!(few.roc_auc[0].is_nan());
    }

    #[test]
    fn screams_of_one_group_are_one_draw() {
        let names: Vec<String> = (0..100).map(|i| format!("{i}")).collect();
        let alone = found_interval((0..100).map(|i| (names[i].as_str(), i % 4 != 0))).unwrap();
        // The binomial's standard deviation is 0.043.
        assert!((alone[0] - 0.66).abs() < 0.03 && (alone[1] - 0.83).abs() < 0.03, "{alone:?}");
        let together = found_interval((0..100).map(|i| (names[i % 4].as_str(), i % 4 != 0))).unwrap();
        assert!(together[1] - together[0] > 0.4, "{together:?}");
        assert!(found_interval([("a", true), ("b", true)]).unwrap()[0] < 0.5);
        assert_eq!(found_interval([]), None);
    }
}
