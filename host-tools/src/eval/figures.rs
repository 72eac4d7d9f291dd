//! Figures of scored clips.

use std::collections::BTreeMap;

use serde::Serialize;

use super::clips::Scored;

/// Figures of all clips with a label. What needs screams, or others, is NaN where there are none, which JSON has as null.
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
    /// Its clips are screams: flagged is what they should be.
    pub screams: bool,
}

/// How a source's clips fare.
#[derive(Serialize)]
pub struct SourceFigures {
    pub source: String,
    pub n_pos: usize,
    pub n_neg: usize,
    /// Screams that reach the threshold.
    pub found: usize,
    /// Others that reach it.
    pub flagged: usize,
    pub accuracy: f64,
}

/// A place on the ROC curve: what is flagged from `threshold` on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub threshold: f64,
    /// Share of the screams.
    pub recall: f64,
    /// Share of the others.
    pub false_positive_rate: f64,
}

/// Truth and score of the clips that have a label.
pub fn labelled(scored: &[Scored], score: impl Fn(&Scored) -> f64) -> Vec<(bool, f64)> {
    scored.iter().filter_map(|clip| Some((clip.truth()?, score(clip)))).collect()
}

impl ClipFigures {
    /// Whether there are screams and others.
    pub fn has_both(&self) -> bool {
        self.n_pos > 0 && self.n_neg > 0
    }
}

/// Figures at `threshold` and over all thresholds.
pub fn clips(labelled: &[(bool, f64)], threshold: f64) -> ClipFigures {
    let count = |truth: bool, flagged: bool| {
        labelled.iter().filter(|(t, score)| *t == truth && (*score >= threshold) == flagged).count() as f64
    };
    let (hit, missed, wrong, right) = (count(true, true), count(true, false), count(false, true), count(false, false));
    let (recall, specificity) = (hit / (hit + missed), right / (wrong + right));
    let precision = if hit + wrong > 0.0 { hit / (hit + wrong) } else { 0.0 };
    let groups = ties(labelled);
    ClipFigures {
        n_pos: (hit + missed) as usize,
        n_neg: (wrong + right) as usize,
        accuracy: (hit + right) / labelled.len() as f64,
        balanced_accuracy: (recall + specificity) / 2.0,
        precision,
        recall,
        f1: if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) },
        roc_auc: roc_auc(&groups),
        average_precision: average_precision(&groups),
        threshold,
    }
}

/// By class, in the order of names.
pub fn classes(scored: &[Scored], threshold: f64) -> Vec<ClassFigures> {
    let mut classes: BTreeMap<&str, ClassFigures> = BTreeMap::new();
    for clip in scored {
        let Some(truth) = clip.truth() else { continue };
        let name = &clip.row.class;
        let new = || ClassFigures { class: name.clone(), n: 0, flagged: 0, screams: truth };
        let class = classes.entry(name).or_insert_with(new);
        class.n += 1;
        class.flagged += usize::from(clip.score >= threshold);
        class.screams |= truth;
    }
    classes.into_values().collect()
}

/// By source, the largest first.
pub fn sources(scored: &[Scored], threshold: f64) -> Vec<SourceFigures> {
    let mut sources: BTreeMap<&str, SourceFigures> = BTreeMap::new();
    for clip in scored.iter().filter(|clip| !clip.row.source_repo.is_empty()) {
        let Some(truth) = clip.truth() else { continue };
        let name = &clip.row.source_repo;
        let source = sources.entry(name).or_insert_with(|| SourceFigures {
            source: name.clone(),
            n_pos: 0,
            n_neg: 0,
            found: 0,
            flagged: 0,
            accuracy: 0.0,
        });
        let (n, at) =
            if truth { (&mut source.n_pos, &mut source.found) } else { (&mut source.n_neg, &mut source.flagged) };
        *n += 1;
        *at += usize::from(clip.score >= threshold);
    }
    let mut sources: Vec<_> = sources.into_values().collect();
    for source in &mut sources {
        let right = source.found + source.n_neg - source.flagged;
        source.accuracy = right as f64 / (source.n_pos + source.n_neg) as f64;
    }
    sources.sort_by_key(|source| std::cmp::Reverse(source.n_pos + source.n_neg));
    sources
}

/// The ROC curve from nothing flagged to everything, a point a distinct score.
pub fn curve(labelled: &[(bool, f64)]) -> Vec<Point> {
    let groups = ties(labelled);
    let positives: f64 = groups.iter().map(|group| group.1).sum();
    let negatives: f64 = groups.iter().map(|group| group.2).sum();
    let (mut hits, mut wrong) = (0.0, 0.0);
    let start = Point { threshold: f64::INFINITY, recall: 0.0, false_positive_rate: 0.0 };
    std::iter::once(start)
        .chain(groups.into_iter().map(|(threshold, p, n)| {
            (hits, wrong) = (hits + p, wrong + n);
            Point { threshold, recall: hits / positives, false_positive_rate: wrong / negatives }
        }))
        .collect()
}

/// Groups of equal scores from the highest down: the score, how many screams and how many others have it.
fn ties(labelled: &[(bool, f64)]) -> Vec<(f64, f64, f64)> {
    let mut sorted = labelled.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    sorted
        .chunk_by(|a, b| a.1 == b.1)
        .map(|tie| {
            let screams = tie.iter().filter(|(truth, _)| *truth).count();
            (tie[0].1, screams as f64, (tie.len() - screams) as f64)
        })
        .collect()
}

/// Area under the ROC curve: the chance that a scream scores above another clip, ties counted half.
fn roc_auc(groups: &[(f64, f64, f64)]) -> f64 {
    let positives: f64 = groups.iter().map(|group| group.1).sum();
    let negatives: f64 = groups.iter().map(|group| group.2).sum();
    let mut above = 0.0;
    let mut area = 0.0;
    for (_, p, n) in groups {
        area += n * (above + p / 2.0);
        above += p;
    }
    area / (positives * negatives)
}

/// Area under precision over recall by steps, as scikit-learn's `average_precision_score`.
fn average_precision(groups: &[(f64, f64, f64)]) -> f64 {
    let positives: f64 = groups.iter().map(|group| group.1).sum();
    if positives == 0.0 {
        return f64::NAN;
    }
    let (mut hits, mut flagged, mut area) = (0.0, 0.0, 0.0);
    for (_, p, n) in groups {
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
        let figures = clips(&labelled, 0.75);
        assert!((figures.roc_auc - (1.0 * 3.0 + 2.0 * 1.0 + 2.0 * 0.5) / 9.0).abs() < 1e-12);
        assert!((figures.average_precision - (1.0 / 3.0 + 2.0 / 3.0 * 3.0 / 5.0)).abs() < 1e-12);
        assert_eq!((figures.recall, figures.precision, figures.accuracy), (1.0 / 3.0, 0.5, 0.5));
        assert_eq!(clips(&[(true, 0.5), (false, 0.5)], 0.5).roc_auc, 0.5);
        assert_eq!(clips(&[(true, 0.6), (false, 0.5)], 0.5).roc_auc, 1.0);
        let screams = clips(&[(true, 0.6), (true, 0.4)], 0.5);
        assert_eq!((screams.recall, screams.accuracy, screams.precision), (0.5, 0.5, 1.0));
        assert!(screams.roc_auc.is_nan() && screams.balanced_accuracy.is_nan() && !screams.has_both());
        let others = clips(&[(false, 0.6)], 0.5);
        assert!(others.recall.is_nan() && others.f1.is_nan() && others.average_precision.is_nan());
        assert_eq!(others.accuracy, 0.0);
        assert_eq!(serde_json::to_value(clips(&[], 0.5)).unwrap()["accuracy"], serde_json::Value::Null);
    }

    #[test]
    fn the_curve_runs_from_nothing_to_everything() {
        let points = curve(&[(true, 0.9), (false, 0.8), (true, 0.7), (false, 0.7)]);
        let places: Vec<_> = points.iter().map(|point| (point.recall, point.false_positive_rate)).collect();
        assert_eq!(places, [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.0, 1.0)]);
    }
}
