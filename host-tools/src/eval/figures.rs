//! Figures of scored clips.

use std::collections::BTreeMap;

use anyhow::ensure;
use serde::Serialize;

use super::clips::Scored;

/// Figures of all clips with a label.
#[derive(Serialize)]
pub struct ClipFigures {
    pub n_pos: usize,
    pub n_neg: usize,
    pub accuracy: f64,
    pub balanced_accuracy: f64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub roc_auc: f64,
    pub average_precision: f64,
    pub threshold: f64,
}

/// How many clips of a class reach the threshold.
#[derive(Serialize)]
pub struct ClassFigures {
    pub class: String,
    pub n: usize,
    pub flagged: usize,
}

/// Figures at `threshold` and over all thresholds.
pub fn clips(scored: &[Scored], threshold: f64) -> anyhow::Result<ClipFigures> {
    let labelled: Vec<(bool, f64)> = scored.iter().filter_map(|clip| Some((clip.truth()?, clip.score))).collect();
    let count = |truth: bool, flagged: bool| {
        labelled.iter().filter(|(t, score)| *t == truth && (*score >= threshold) == flagged).count() as f64
    };
    let (hit, missed, wrong, right) = (count(true, true), count(true, false), count(false, true), count(false, false));
    ensure!(hit + missed > 0.0 && wrong + right > 0.0, "figures need clips with label 1 and clips with label 0");
    let (recall, specificity) = (hit / (hit + missed), right / (wrong + right));
    let precision = if hit + wrong > 0.0 { hit / (hit + wrong) } else { 0.0 };
    Ok(ClipFigures {
        n_pos: (hit + missed) as usize,
        n_neg: (wrong + right) as usize,
        accuracy: (hit + right) / labelled.len() as f64,
        balanced_accuracy: (recall + specificity) / 2.0,
        precision,
        recall,
        f1: if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 },
        roc_auc: roc_auc(&labelled),
        average_precision: average_precision(&labelled),
        threshold,
    })
}

/// By class, in the order of names.
pub fn classes(scored: &[Scored], threshold: f64) -> Vec<ClassFigures> {
    let mut classes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for clip in scored.iter().filter(|clip| clip.truth().is_some()) {
        let (n, flagged) = classes.entry(&clip.row.class).or_default();
        *n += 1;
        *flagged += usize::from(clip.score >= threshold);
    }
    classes.into_iter().map(|(class, (n, flagged))| ClassFigures { class: class.into(), n, flagged }).collect()
}

/// Groups of equal scores from the highest down: how many screams and how many others each holds.
fn ties(labelled: &[(bool, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = labelled.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    sorted
        .chunk_by(|a, b| a.1 == b.1)
        .map(|tie| tie.iter().fold((0.0, 0.0), |(p, n), (truth, _)| if *truth { (p + 1.0, n) } else { (p, n + 1.0) }))
        .collect()
}

/// Area under the ROC curve: the chance that a scream scores above another clip, ties counted half.
fn roc_auc(labelled: &[(bool, f64)]) -> f64 {
    let groups = ties(labelled);
    let positives: f64 = groups.iter().map(|group| group.0).sum();
    let negatives: f64 = groups.iter().map(|group| group.1).sum();
    let mut above = 0.0;
    let mut area = 0.0;
    for (p, n) in groups {
        area += n * (above + p / 2.0);
        above += p;
    }
    area / (positives * negatives)
}

/// Area under precision over recall by steps, as scikit-learn's `average_precision_score`.
fn average_precision(labelled: &[(bool, f64)]) -> f64 {
    let groups = ties(labelled);
    let positives: f64 = groups.iter().map(|group| group.0).sum();
    let (mut hits, mut flagged, mut area) = (0.0, 0.0, 0.0);
    for (p, n) in groups {
        hits += p;
        flagged += p + n;
        area += p / positives * hits / flagged;
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_agree_with_scikit_learn() {
        // sklearn 1.7: roc_auc_score and average_precision_score of these, worked by hand as well.
        let labelled = [(true, 0.9), (false, 0.8), (true, 0.7), (true, 0.7), (false, 0.7), (false, 0.1)];
        assert!((roc_auc(&labelled) - (1.0 * 3.0 + 2.0 * 1.0 + 2.0 * 0.5) / 9.0).abs() < 1e-12);
        assert!((average_precision(&labelled) - (1.0 / 3.0 + 2.0 / 3.0 * 3.0 / 5.0)).abs() < 1e-12);
        assert_eq!(roc_auc(&[(true, 0.5), (false, 0.5)]), 0.5);
        assert_eq!(roc_auc(&[(true, 0.6), (false, 0.5)]), 1.0);
    }
}
