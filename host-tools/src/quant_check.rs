//! `host-tools quant-check --reference DIR --candidate DIR --data DIR [--split test] [--cut 2.5] [--json FILE]`
//!
//! Whether a smaller model may take the place of the one it was made from, on real recordings. Exit 1 where it may not.
//!
//! Both models hear every clip laid as `eval` lays it, each through its own front end; a clip's score is its largest
//! window's. *Equal false alarms*: the reference flags so many of the other clips at its `threshold_on`; both recalls are
//! taken at the lowest threshold that flags no more than that. Refused are a recall more than one point lower, a window
//! that takes over 10 % longer, and a candidate whose own threshold is no longer in the right place: a device has no other. Speed is one thread's, front end and network together, in pairs of runs that take turns;
//! the ratio is the median pair's, measured anew before it refuses. Both ratios are the candidate's over the reference's:
//! above 1 is slower, larger.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use detector::manifest::Manifest;
use detector::model::{Executor, Model, RunError};
use detector::pipeline::Scorer;
use files::model_dir;
use files::say;
use rayon::prelude::*;
use serde::Serialize;

use crate::eval::clips::{laid, largest, scores};
use crate::eval::table::{self, Clip};
use crate::out_file;

/// More recall lost than this refuses, share of the screams.
const RECALL_LOST_MAX: f64 = 0.01;
/// More recall lost than this refuses, each model at its own threshold: a calibration that does not fit the weights, not the rounding of a
/// few clips beside the threshold.
const OWN_RECALL_LOST_MAX: f64 = 0.05;
/// So many more of the other clips flagged refuse, each model at its own threshold, in standard deviations of the reference's
/// count; two clips more are always allowed. A share of all other clips would let a false alarm's sixfold pass.
const OWN_FLAGGED_MORE_MAX: f64 = 2.0;
const OWN_FLAGGED_MORE_MIN: usize = 2;
/// A window that takes more than this times as long refuses.
const SPEED_RATIO_MAX: f64 = 1.10;
/// Pairs of runs that are timed: enough for a median, then more while they are short.
const PAIRS_MIN: usize = 31;
const PAIRS_MAX: usize = 501;
const PAIRS_S: f64 = 2.0;
/// Recordings that are timed over, in turn.
const TIMED_SOUNDS: usize = 16;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder of the one that is trusted
    #[arg(long, value_parser = crate::model_place)]
    reference: PathBuf,
    /// Model folder of the one that would replace it
    #[arg(long, value_parser = crate::model_place)]
    candidate: PathBuf,
    /// Folder with manifest.csv (file, label 1 or 0, split) and the clips
    #[arg(long)]
    data: PathBuf,
    /// Rows of this split alone
    #[arg(long)]
    split: Option<String>,
    /// Clips are cut to their loudest seconds; 0 leaves them whole
    #[arg(long, default_value_t = 2.5)]
    cut: f64,
    /// Also as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What the comparison found. Ratios are the candidate's over the reference's.
#[derive(Serialize)]
struct Figures {
    reference: String,
    candidate: String,
    clips: usize,
    /// Of a clip's score.
    max_abs_score_diff: f64,
    /// The clip in question.
    max_abs_score_diff_file: String,
    /// Share of the clips that both flag or both do not, each at its manifest's threshold.
    agreement: f64,
    /// Other clips flagged by the reference at its threshold; both recalls allow as many.
    false_alarms: usize,
    /// Other clips flagged by the candidate at its own threshold.
    false_alarms_candidate: usize,
    recall_reference: f64,
    recall_candidate: f64,
    reference_ms: f64,
    candidate_ms: f64,
    speed_ratio: f64,
    size_ratio: f64,
    accepted: bool,
    reasons: Vec<String>,
}

/// One side of the comparison.
struct Side {
    manifest: Manifest,
    model: Model,
    bytes: u64,
}

/// Compares, prints, writes; false where the candidate is refused.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    out_file::check(args.json.as_deref())?;
    ensure!(args.cut >= 0.0 && args.cut.is_finite(), "--cut {}: must be 0 or more seconds", args.cut);
    let (reference, candidate) = (Side::load(&args.reference)?, Side::load(&args.candidate)?);
    let mut rows: Vec<Clip> = table::read(&args.data, args.split.as_deref())?;
    // A blank label is in no figure.
    rows.retain(|row| row.truth().is_some());
    for (label, name) in [(true, "1"), (false, "0")] {
        ensure!(
            rows.iter().any(|row| row.truth() == Some(label)),
            "{}: no clip with label {name}: recall at equal false alarms needs both",
            args.data.join("manifest.csv").display()
        );
    }
    let bar = crate::progress::bar(2 * rows.len() as u64, "clips");
    let [of_reference, of_candidate] =
        [&reference, &candidate].map(|side| side.scores(&args.data, &rows, args.cut, &bar));
    let (of_reference, of_candidate) = (of_reference?, of_candidate?);
    bar.finish_and_clear();

    let mut reasons = Vec::new();
    let silent = of_candidate.iter().filter(|score| score.is_none()).count();
    if silent > 0 {
        reasons.push(format!("{silent} clips got no finite number from the candidate"));
    }
    ensure!(of_reference.iter().all(Option::is_some), "the reference puts out values that are not finite");
    let heard = Heard {
        truth: rows.iter().map(Clip::truth).collect(),
        scores: [of_reference, of_candidate].map(plain),
        thresholds: [&reference, &candidate].map(|side| side.manifest.decision.threshold_on),
    };
    let [false_alarms, false_alarms_candidate] = heard.flagged_others();
    let [recall_reference, recall_candidate] = heard.recall_at(false_alarms);
    reasons.extend(heard.reasons());
    let mut speed = Speed::measure(&args.data, &rows, args.cut, [&reference, &candidate])?;
    if speed.ratio > SPEED_RATIO_MAX {
        let again = Speed::measure(&args.data, &rows, args.cut, [&reference, &candidate])?;
        if again.ratio < speed.ratio {
            speed = again;
        }
    }
    if speed.ratio > SPEED_RATIO_MAX {
        reasons.push(format!(
            "a window takes {:.2} ms against {:.2}: {:.0} % slower, at most 10 are allowed",
            speed.candidate_ms,
            speed.reference_ms,
            100.0 * (speed.ratio - 1.0)
        ));
    }
    let (place, largest_diff) = heard.largest_difference();
    let figures = Figures {
        reference: reference.name(),
        candidate: candidate.name(),
        clips: rows.len(),
        max_abs_score_diff: largest_diff,
        max_abs_score_diff_file: rows[place].file.clone(),
        agreement: heard.agreement(),
        false_alarms,
        false_alarms_candidate,
        recall_reference,
        recall_candidate,
        reference_ms: speed.reference_ms,
        candidate_ms: speed.candidate_ms,
        speed_ratio: speed.ratio,
        size_ratio: candidate.bytes as f64 / reference.bytes as f64,
        accepted: reasons.is_empty(),
        reasons,
    };
    print(&figures);
    out_file::json(args.json.as_deref(), &figures)?;
    Ok(figures.accepted)
}

/// A window without a number is no detection on the device.
fn plain(scores: Vec<Option<f64>>) -> Vec<f64> {
    scores.into_iter().map(|score| score.unwrap_or(0.0)).collect()
}

/// What both said of the same clips: the reference first, the candidate second.
struct Heard {
    truth: Vec<Option<bool>>,
    scores: [Vec<f64>; 2],
    thresholds: [f64; 2],
}

impl Heard {
    /// Clips that are no screams and are flagged, by each at its own threshold.
    fn flagged_others(&self) -> [usize; 2] {
        [0, 1].map(|side| {
            let (scores, on) = (&self.scores[side], self.thresholds[side]);
            self.truth.iter().zip(scores).filter(|(truth, score)| **truth == Some(false) && **score >= on).count()
        })
    }

    /// Recall of each where so many other clips may be flagged.
    fn recall_at(&self, false_alarms: usize) -> [f64; 2] {
        [0, 1].map(|side| recall_at(&self.truth, &self.scores[side], false_alarms))
    }

    /// Recall of each at its own threshold.
    fn own_recall(&self) -> [f64; 2] {
        [0, 1].map(|side| recall_from(&self.truth, &self.scores[side], self.thresholds[side]))
    }

    /// Share of the clips that both flag, or neither.
    fn agreement(&self) -> f64 {
        let [of_reference, of_candidate] = &self.scores;
        let hit = |(a, b): &(&f64, &f64)| (**a >= self.thresholds[0]) == (**b >= self.thresholds[1]);
        of_reference.iter().zip(of_candidate).filter(hit).count() as f64 / self.truth.len() as f64
    }

    /// Which clip's two scores lie furthest apart, and how far.
    fn largest_difference(&self) -> (usize, f64) {
        let [of_reference, of_candidate] = &self.scores;
        let apart = of_reference.iter().zip(of_candidate).map(|(a, b)| (a - b).abs()).enumerate();
        apart.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
    }

    /// Why the candidate's scores are no good in the reference's place.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let [on_reference, on_candidate] = self.thresholds;
        let [false_alarms, flagged] = self.flagged_others();
        let [reference, candidate] = self.recall_at(false_alarms);
        // One clip's rounding in the subtraction must not decide.
        if reference - candidate > RECALL_LOST_MAX + 1e-9 {
            reasons.push(format!(
                "recall at {false_alarms} false alarms falls from {reference:.4} to {candidate:.4}: {:.1} points, at most 1 is allowed",
                100.0 * (reference - candidate)
            ));
        }
        let [reference, candidate] = self.own_recall();
        if reference - candidate > OWN_RECALL_LOST_MAX + 1e-9 {
            reasons.push(format!(
                "recall at its own threshold, {on_candidate}, is {candidate:.4}, the reference's at {on_reference} is {reference:.4}: `threshold_on` or `temperature` does not fit its scores"
            ));
        }
        let others = self.truth.iter().filter(|truth| **truth == Some(false)).count();
        let more_max = (OWN_FLAGGED_MORE_MAX * (false_alarms as f64).sqrt()) as usize;
        if flagged > false_alarms + more_max.max(OWN_FLAGGED_MORE_MIN) {
            reasons.push(format!(
                "at its own threshold, {on_candidate}, {flagged} of {others} other clips are flagged, by the reference at {on_reference} {false_alarms}: `threshold_on` or `temperature` does not fit its scores"
            ));
        }
        reasons
    }
}

fn print(figures: &Figures) {
    say!("{} in place of {}, {} clips", figures.candidate, figures.reference, figures.clips);
    say!("largest score difference {:.6} ({})", figures.max_abs_score_diff, figures.max_abs_score_diff_file);
    say!("agreement {:.4}", figures.agreement);
    say!(
        "recall at {} false alarms: {:.4}, was {:.4}",
        figures.false_alarms,
        figures.recall_candidate,
        figures.recall_reference
    );
    say!(
        "other clips flagged, each at its own threshold: {}, was {}",
        figures.false_alarms_candidate,
        figures.false_alarms
    );
    say!(
        "a window {:.2} ms, was {:.2}: {:.3} times (median of pairs); size {:.3} times",
        figures.candidate_ms,
        figures.reference_ms,
        figures.speed_ratio,
        figures.size_ratio
    );
    say!("{}", if figures.accepted { "accepted" } else { "refused" });
    for reason in &figures.reasons {
        say!("  {reason}");
    }
}

impl Side {
    fn load(dir: &Path) -> anyhow::Result<Self> {
        let (manifest, model) = model_dir::load(dir, Executor::SingleThread)?;
        let weights = dir.join(&manifest.file);
        let bytes = std::fs::metadata(&weights).with_context(|| weights.display().to_string())?.len();
        Ok(Self { manifest, model, bytes })
    }

    fn name(&self) -> String {
        format!("{} {}", self.manifest.name, self.manifest.version)
    }

    /// Each clip's score; none where a window of it gave no number.
    fn scores(
        &self,
        data: &Path,
        rows: &[Clip],
        cut_s: f64,
        bar: &indicatif::ProgressBar,
    ) -> anyhow::Result<Vec<Option<f64>>> {
        rows.par_iter()
            .map_init(
                || Scorer::new(&self.manifest, self.model.clone()),
                |scorer, row| {
                    let laid = laid(&self.manifest, data, &row.file, cut_s)?;
                    bar.inc(1);
                    match scores(&self.manifest, scorer, &laid.sound) {
                        Ok(scores) => Ok(Some(largest(&scores))),
                        Err(RunError::NotFinite | RunError::NoProbability(_)) => Ok(None),
                        Err(error) => Err(anyhow::Error::new(error).context(self.name())),
                    }
                },
            )
            .collect()
    }
}

/// Recall at the lowest threshold that flags at most `false_alarms` of the clips that are no screams.
fn recall_at(truth: &[Option<bool>], scores: &[f64], false_alarms: usize) -> f64 {
    let mut others = of_label(truth, scores, false);
    others.sort_by(|a, b| b.total_cmp(a));
    // The first that may not be flagged: a scream counts above it.
    let above = others.get(false_alarms).copied().unwrap_or(f64::NEG_INFINITY);
    let screams = of_label(truth, scores, true);
    screams.iter().filter(|score| **score > above).count() as f64 / screams.len() as f64
}

/// Recall at a threshold.
fn recall_from(truth: &[Option<bool>], scores: &[f64], threshold_on: f64) -> f64 {
    let screams = of_label(truth, scores, true);
    screams.iter().filter(|score| **score >= threshold_on).count() as f64 / screams.len() as f64
}

/// Scores of the clips with a label.
fn of_label(truth: &[Option<bool>], scores: &[f64], label: bool) -> Vec<f64> {
    truth.iter().zip(scores).filter(|(truth, _)| **truth == Some(label)).map(|(_, score)| *score).collect()
}

/// Time of one window.
struct Speed {
    reference_ms: f64,
    candidate_ms: f64,
    ratio: f64,
}

impl Speed {
    fn measure(data: &Path, rows: &[Clip], cut_s: f64, sides: [&Side; 2]) -> anyhow::Result<Self> {
        let step = rows.len().div_ceil(TIMED_SOUNDS);
        let mut sounds: [Vec<Vec<f32>>; 2] = Default::default();
        for (sounds, side) in sounds.iter_mut().zip(sides) {
            for row in rows.iter().step_by(step) {
                let mut sound = laid(&side.manifest, data, &row.file, cut_s)?.sound;
                sound.truncate(side.manifest.front_end.window_samples());
                sounds.push(sound);
            }
        }
        let mut scorers = sides.map(|side| Scorer::new(&side.manifest, side.model.clone()));
        let mut took: [Vec<f64>; 2] = Default::default();
        let began = Instant::now();
        let bar = crate::progress::bar(PAIRS_MIN as u64 + 1, "timing");
        // The first pair pages memory in and is not counted; who goes first changes from pair to pair.
        for pair in 0..=PAIRS_MAX {
            if pair > PAIRS_MIN && began.elapsed().as_secs_f64() > PAIRS_S {
                break;
            }
            for which in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
                let sound = &sounds[which][pair % sounds[which].len()];
                let began = Instant::now();
                scorers[which].picture(sound);
                // What a window without a number costs is measured all the same.
                let _ = scorers[which].score();
                if pair > 0 {
                    took[which].push(began.elapsed().as_secs_f64() * 1000.0);
                }
            }
            bar.set_length(pairs_expected(pair + 1, began.elapsed().as_secs_f64()) as u64);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let [reference, candidate] = &took;
        let ratios: Vec<f64> =
            reference.iter().zip(candidate).map(|(reference, candidate)| candidate / reference).collect();
        Ok(Self { reference_ms: median(reference), candidate_ms: median(candidate), ratio: median(&ratios) })
    }
}

/// How many pairs it will be, the first among them, by the time that `done` of them took.
fn pairs_expected(done: usize, elapsed_s: f64) -> usize {
    let in_time = (done as f64 * PAIRS_S / elapsed_s) as usize;
    in_time.clamp(PAIRS_MIN + 1, PAIRS_MAX + 1).max(done)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_of_pairs_is_never_shorter_than_what_is_done() {
        for pair_s in [1e-6, 3e-3, 0.02, 1.0] {
            let mut done = 0;
            // As they are run.
            while done <= PAIRS_MAX && !(done > PAIRS_MIN && done as f64 * pair_s > PAIRS_S) {
                done += 1;
                assert!(pairs_expected(done, done as f64 * pair_s) >= done, "{done} of {pair_s} s");
            }
            assert!(pairs_expected(1, pair_s).abs_diff(done) <= 1, "known from the first: {done} of {pair_s} s");
        }
        assert_eq!(pairs_expected(1, 0.0), PAIRS_MAX + 1);
    }

    #[test]
    fn recall_is_taken_at_equal_false_alarms() {
        let truth = [Some(true), Some(true), Some(true), Some(false), Some(false), None];
        let scores = [0.9, 0.6, 0.3, 0.5, 0.2, 0.99];
        for (false_alarms, recall) in [(0, 2.0 / 3.0), (1, 1.0), (2, 1.0)] {
            assert_eq!(recall_at(&truth, &scores, false_alarms), recall, "{false_alarms}");
        }
        // A tie with the first that may not be flagged is no detection.
        assert_eq!(recall_at(&[Some(true), Some(false)], &[0.5, 0.5], 0), 0.0);
    }

    /// Four of 380 flagged is the reference's rate of false alarms; nineteen would be six times that.
    #[test]
    fn a_threshold_that_multiplies_the_false_alarms_is_refused() {
        let heard = |flagged: usize| {
            let others = |flagged: usize| (0..380).map(move |i| if i < flagged { 0.9 } else { 0.1 });
            let with_screams = |others: &mut dyn Iterator<Item = f64>| others.chain([0.99; 20]).collect::<Vec<_>>();
            Heard {
                truth: (0..400).map(|i| Some(i >= 380)).collect(),
                scores: [with_screams(&mut others(4)), with_screams(&mut others(flagged))],
                thresholds: [0.8, 0.8],
            }
        };
        assert!(heard(8).reasons().is_empty(), "{:?}", heard(8).reasons());
        assert!(heard(19).reasons().concat().contains("19 of 380"), "{:?}", heard(19).reasons());
    }
}
