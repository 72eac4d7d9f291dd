//! How far the clip figures could have come out otherwise: the bootstrap by group.
//!
//! Clips of one recording are no independent evidence, so whole *groups* are drawn, with replacement, as many as there are.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

use super::clips::Scored;
use super::figures;

const RESAMPLES: u64 = 1000;

/// The middle 95 % of each figure over the resamples.
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
        let name = if clip.row.group.is_empty() { &clip.row.file } else { &clip.row.group };
        groups.entry(name).or_default().push((truth, clip.score));
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
    let middle = |figure: fn(&figures::ClipFigures) -> f64| {
        let mut values: Vec<f64> = drawn.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
        [at(0.025), at(0.975)]
    };
    (!drawn.is_empty()).then(|| Intervals {
        accuracy: middle(|figures| figures.accuracy),
        balanced_accuracy: middle(|figures| figures.balanced_accuracy),
        precision: middle(|figures| figures.precision),
        recall: middle(|figures| figures.recall),
        f1: middle(|figures| figures.f1),
        roc_auc: middle(|figures| figures.roc_auc),
        average_precision: middle(|figures| figures.average_precision),
        groups: groups.len(),
        resamples: drawn.len(),
    })
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
}
