//! Scores of labelled clips.

use std::path::Path;

use detector::manifest::Manifest;
use detector::model::Model;
use detector::pipeline::Scorer;
use detector::window::SlidingWindow;
use rayon::prelude::*;
use serde::Deserialize;

use super::{HasSplit, lay};

/// A row of the clips' manifest.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// Path under the folder.
    pub file: String,
    /// 1 scream, 0 not, blank: left out of the figures.
    pub label: String,
    /// What the clip is.
    #[serde(default)]
    pub class: String,
    /// Train, validation or test.
    #[serde(default)]
    pub split: String,
}

impl HasSplit for Row {
    fn split(&self) -> &str {
        &self.split
    }
}

/// A clip and its score: its largest window's.
pub struct Scored {
    /// The row.
    pub row: Row,
    /// 0..1.
    pub score: f64,
}

impl Scored {
    /// Whether it is a scream; none where nobody says.
    pub fn truth(&self) -> Option<bool> {
        match self.row.label.trim() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }
}

/// Scores all rows, on all cores, in the rows' order.
pub fn score(
    manifest: &Manifest,
    model: &Model,
    folder: &Path,
    rows: &[Row],
    cut_s: f64,
) -> anyhow::Result<Vec<Scored>> {
    let bar = crate::progress::bar(rows.len() as u64, "clips");
    let scored = rows
        .par_iter()
        .map_init(
            || Scorer::new(manifest, model.clone()),
            |scorer, row| {
                let score = score_one(manifest, scorer, folder, row, cut_s)?;
                bar.inc(1);
                Ok(Scored { row: row.clone(), score })
            },
        )
        .collect();
    bar.finish_and_clear();
    scored
}

fn score_one(manifest: &Manifest, scorer: &mut Scorer, folder: &Path, row: &Row, cut_s: f64) -> anyhow::Result<f64> {
    let rate_hz = manifest.front_end.sample_rate_hz;
    let sound = crate::audio::read_at(&folder.join(&row.file), rate_hz)?;
    let clip = lay::loudest(&sound, (cut_s * f64::from(rate_hz)).round() as usize);
    let stride = manifest.decision.stride_s * f64::from(rate_hz);
    let laid = lay::lay(clip, &row.file, manifest.front_end.window_samples(), stride.round() as usize);
    let mut window = SlidingWindow::new(manifest.front_end.window_samples(), stride);
    let mut largest = 0f64;
    let mut rest = &laid[..];
    while !rest.is_empty() {
        let (left, span) = window.push(rest);
        rest = left;
        if span.is_some() {
            scorer.picture(window.samples());
            largest = largest.max(scorer.score()?.score);
        }
    }
    Ok(largest)
}
