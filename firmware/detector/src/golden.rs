//! The golden self-test: one window of known sound, its picture, and the scores of it when the network was converted.
//!
//! Shapes and hashes cannot tell that a manifest's mel scale, mean or order of labels is another than the one the network
//! was trained behind, nor that a processor computes it wrongly. A picture and scores can. `host-tools convert` measures
//! them into `[golden]`; whoever loads the model compares, in the time of one inference, before a siren hangs on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::front_end;
use crate::manifest::{FrontEnd, Manifest};
use crate::model::{Model, RunError};

/// `[golden]` of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// SHA-256 of the weights that were measured. Beside other weights the scores say nothing and are not compared.
    pub sha256: String,
    /// [`CELLS`] cells of the picture of [`sound`], evenly from its first to its last, in the picture's own unit.
    pub picture: Vec<f64>,
    /// Each label's score of [`sound`], 0..1, at temperature 1.
    pub scores: BTreeMap<String, f64>,
}

/// Cells of the picture that are kept: enough to meet many bands and frames of a picture of any shape.
const CELLS: usize = 24;
/// What a cell may differ by, as a part of the span from the smallest to the largest that is kept: between processors it
/// is under 1e-3.
const CELL_TOLERANCE: f64 = 0.01;
/// What a label's score may differ by: between processors it is under 1e-4, between 8-bit integers and 32-bit floats up to
/// 0.03 (`quant-check`).
const SCORE_TOLERANCE: f64 = 0.05;

/// How a model differs from what was measured when it was converted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Difference {
    /// The picture is another one already: whatever the network says of it means nothing.
    #[error(
        "cell {cell} of its picture is {value:.3}, was {measured:.3}: [front_end] is not the one that the network was converted with"
    )]
    Picture {
        /// Which of those that are kept, from 0.
        cell: usize,
        /// Here.
        value: f64,
        /// When it was converted; not a number where it was not kept.
        measured: f64,
    },
    /// The picture is the same and the scores are not.
    #[error(
        "the score of `{label}` is {score:.3}, was {measured:.3}: `labels` or `output` are not those that the network was converted with, or this processor computes it wrongly"
    )]
    Score {
        /// The label that differs most.
        label: String,
        /// Here.
        score: f64,
        /// When it was converted; not a number where the label was none of the network's.
        measured: f64,
    },
    /// There are no scores.
    #[error("{0}")]
    Run(#[from] RunError),
}

/// The known sound: one window at the front end's rate, within -1..1. A voice that glides and grows rough, a breath, a
/// falling tone, and a hiss under all of it: something in every band, from loud to faint.
pub fn sound(config: &FrontEnd) -> Vec<f32> {
    let rate_hz = f64::from(config.sample_rate_hz);
    let samples = config.window_samples();
    let mut noise = Noise(1);
    let (mut voice, mut tone) = (0f64, 0f64);
    (0..samples)
        .map(|sample| {
            // The window's part, 0..1, and seconds: one glides with the window, the other is heard as a rate.
            let (part, t_s) = (sample as f64 / samples as f64, sample as f64 / rate_hz);
            let hiss = noise.next();
            voice = (voice + (420.0 + 900.0 * (part * std::f64::consts::PI).sin()) / rate_hz).fract();
            tone = (tone + (3000.0 - 2200.0 * part) / rate_hz).fract();
            let turn = |cycles: f64| (std::f64::consts::TAU * cycles).sin();
            let rough = 1.0 - 0.5 * part * (0.5 + 0.5 * turn(70.0 * t_s));
            let voiced: f64 = (1..=6).map(|k| turn(voice * f64::from(k)) / f64::from(k)).sum();
            let sung = 0.25 * rough * voiced * between(part, 0.1, 0.6);
            let breath = 0.1 * hiss * between(part, 0.62, 0.75);
            let fallen = 0.05 * turn(tone) * between(part, 0.7, 1.0);
            (sung + breath + fallen + 0.002 * hiss) as f32
        })
        .collect()
}

/// 1 between two parts of the window, with ramps of a fiftieth of it.
fn between(part: f64, from: f64, to: f64) -> f64 {
    (((part - from).min(to - part)) * 50.0).clamp(0.0, 1.0)
}

/// Uniform noise of -1..1, the same everywhere (Numerical Recipes' linear congruential generator, its upper bits).
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1u32 << 23) - 1.0
    }
}

impl Golden {
    /// Measures `model` behind `manifest`'s front end.
    ///
    /// # Errors
    /// Where the network puts out no scores.
    pub fn measure(manifest: &Manifest, model: &mut Model) -> Result<Self, RunError> {
        let mut front_end = front_end::FrontEnd::new(&manifest.front_end);
        let picture = front_end.picture(&sound(&manifest.front_end));
        let scores = model.run_uncalibrated(picture)?.iter().copied().map(f64::from);
        let scores = manifest.labels.iter().cloned().zip(scores).collect();
        let cells = (0..CELLS).map(|cell| f64::from(picture[cell * (picture.len() - 1) / (CELLS - 1)]));
        Ok(Self { sha256: manifest.sha256.clone(), picture: cells.collect(), scores })
    }

    /// Whether `model` behind `manifest`'s front end does what was measured. Scores of other weights are not compared.
    ///
    /// # Errors
    /// The largest [`Difference`].
    pub fn check(&self, manifest: &Manifest, model: &mut Model) -> Result<(), Difference> {
        if !self.sha256.eq_ignore_ascii_case(&manifest.sha256) {
            return Ok(());
        }
        let here = Self::measure(manifest, model)?;
        let extreme = |pick: fn(f64, f64) -> f64, from| self.picture.iter().copied().fold(from, pick);
        let span = extreme(f64::max, f64::NEG_INFINITY) - extreme(f64::min, f64::INFINITY);
        let cells = here.picture.iter().enumerate().map(|(cell, &value)| {
            let measured = self.picture.get(cell).copied().unwrap_or(f64::NAN);
            (off(value, measured), Difference::Picture { cell, value, measured })
        });
        let scores = here.scores.into_iter().map(|(label, score)| {
            let measured = self.scores.get(&label).copied().unwrap_or(f64::NAN);
            (off(score, measured), Difference::Score { label, score, measured })
        });
        within(cells, CELL_TOLERANCE * span)?;
        within(scores, SCORE_TOLERANCE)
    }
}

/// What was not measured is as far off as can be.
fn off(value: f64, measured: f64) -> f64 {
    if measured.is_nan() { f64::INFINITY } else { (value - measured).abs() }
}

fn within(differences: impl Iterator<Item = (f64, Difference)>, tolerance: f64) -> Result<(), Difference> {
    match differences.max_by(|a, b| a.0.total_cmp(&b.0)) {
        // What is no number sorts last, and is no agreement.
        Some((off, difference)) if off.is_nan() || off > tolerance => Err(difference),
        _ => Ok(()),
    }
}
