//! Scores of labelled clips, each heard twice: cut and laid (`lay`), and whole and zero-padded as the write-up did.

use std::path::Path;

use anyhow::Context;
use detector::manifest::Manifest;
use detector::model::{Model, RunError};
use detector::pipeline::Scorer;
use detector::window::SlidingWindow;
use files::tell;
use rayon::prelude::*;

use super::lay;
use super::table::Clip;

/// A clip and its scores.
pub struct Scored {
    /// The row.
    pub row: Clip,
    /// Cut and laid: its largest window's, 0..1.
    pub score: f64,
    /// Which window that is, from 0.
    pub window: usize,
    /// Its first `window_s`, zero-padded where it is shorter: one window, 0..1.
    pub whole: f64,
}

impl Scored {
    /// Whether it is a scream; none where nobody says.
    pub fn truth(&self) -> Option<bool> {
        self.row.truth()
    }
}

/// Scores all rows, on all cores, in the rows' order. A recording that cannot be read is told and left out where it has no label:
/// it is in no figure.
pub fn score(
    manifest: &Manifest,
    model: &Model,
    folder: &Path,
    rows: &[Clip],
    cut_s: f64,
) -> anyhow::Result<Vec<Scored>> {
    let bar = crate::progress::bar(rows.len() as u64, "clips");
    let scored = rows
        .par_iter()
        .map_init(
            || Scorer::new(manifest, model.clone()),
            |scorer, row| {
                let laid = match laid(manifest, folder, &row.file, cut_s) {
                    Err(cause) if row.truth().is_none() => {
                        bar.suspend(|| tell!("warning: {cause:#}; it has no label, and is left out"));
                        bar.inc(1);
                        return Ok(None);
                    }
                    laid => laid?,
                };
                let named = || format!("{}: the model {}", folder.join(&row.file).display(), manifest.file);
                let scores = scores(manifest, scorer, &laid.sound).with_context(named)?;
                let score = largest(&scores);
                let window = scores.iter().position(|of| *of == score).unwrap_or(0);
                scorer.picture(&laid.whole);
                let whole = scorer.score().with_context(named)?.score;
                bar.inc(1);
                Ok(Some(Scored { row: row.clone(), score, window, whole }))
            },
        )
        .collect::<anyhow::Result<Vec<Option<Scored>>>>();
    bar.finish_and_clear();
    Ok(scored?.into_iter().flatten().collect())
}

/// A clip as the network hears it.
pub struct Laid {
    /// Cut and laid, as long as whole windows need.
    pub sound: Vec<f32>,
    /// One window: the clip from its start, cut or zero-padded.
    pub whole: Vec<f32>,
}

/// Reads `file` of `folder` at the model's rate and lays it.
pub fn laid(manifest: &Manifest, folder: &Path, file: &str, cut_s: f64) -> anyhow::Result<Laid> {
    let rate_hz = manifest.front_end.sample_rate_hz;
    let window = manifest.front_end.window_samples();
    let mut whole = crate::audio::read_at(&folder.join(file), rate_hz)?;
    let clip = lay::loudest(&whole, (cut_s * f64::from(rate_hz)).round() as usize);
    let stride = manifest.decision.stride_s * f64::from(rate_hz);
    let sound = lay::lay(clip, file, window, stride);
    whole.resize(window, 0.0);
    Ok(Laid { sound, whole })
}

/// The loudest part of `file`, at the model's rate.
pub fn cut(manifest: &Manifest, folder: &Path, file: &str, cut_s: f64) -> anyhow::Result<Vec<f32>> {
    let rate_hz = manifest.front_end.sample_rate_hz;
    let sound = crate::audio::read_at(&folder.join(file), rate_hz)?;
    Ok(lay::loudest(&sound, (cut_s * f64::from(rate_hz)).round() as usize).to_vec())
}

/// Scores of every full window of `sound`.
pub fn scores(manifest: &Manifest, scorer: &mut Scorer, sound: &[f32]) -> Result<Vec<f64>, RunError> {
    let stride = manifest.decision.stride_s * f64::from(manifest.front_end.sample_rate_hz);
    let mut window = SlidingWindow::new(manifest.front_end.window_samples(), stride);
    let mut scores = Vec::new();
    let mut rest = sound;
    while !rest.is_empty() {
        let (left, span) = window.push(rest);
        rest = left;
        if span.is_some() {
            scorer.picture(window.samples());
            scores.push(scorer.score()?.score);
        }
    }
    Ok(scores)
}

/// The largest; 0 of none.
pub fn largest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use detector::model::Executor;

    #[test]
    fn a_damaged_clip_without_a_label_costs_itself_alone() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default");
        let (manifest, model) = files::model_dir::load(&model, Executor::SingleThread).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let whole = files::wav::bytes(&[0.1; 1_600], 16_000);
        std::fs::write(folder.path().join("whole.wav"), &whole).unwrap();
        std::fs::write(folder.path().join("short.wav"), &whole[..1_000]).unwrap();
        let row = |file: &str, label: &str| Clip { file: file.into(), label: label.into(), ..Clip::default() };
        let score = |rows: &[Clip]| super::score(&manifest, &model, folder.path(), rows, 2.5);
        let scored = score(&[row("short.wav", ""), row("whole.wav", "1"), row("whole.wav", "")]).unwrap();
        let labels: Vec<_> = scored.iter().map(|clip| clip.row.label.as_str()).collect();
        assert_eq!(labels, ["1", ""]);
        assert!(score(&[row("short.wav", "0")]).is_err(), "a figure would be of fewer clips than it says");
    }
}
