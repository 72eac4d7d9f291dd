//! `host-tools score FILE --model DIR [--json FILE]`
//!
//! What a model hears in a recording: one line per window, its score as a bar with the manifest's `threshold_on` marked, and the
//! three likeliest labels. Windows, padding and scores are those of `screamd run` (it is the same code); votes, hold and
//! cooldown are left out.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;

use detector::manifest::Manifest;
use detector::model::{Executor, Model};
use detector::pipeline::{Pipeline, Scorer};
use detector::window::Span;
use files::model_dir;
use files::recording::Recording;
use files::say;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::out_file;
use crate::progress;

/// Width of the bar, and labels shown beside it.
const BAR_CELLS: usize = 40;
const LABELS_SHOWN: usize = 3;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The recording: WAV, FLAC or Ogg Vorbis, 1 to 768 kHz
    file: PathBuf,
    /// Model folder
    #[arg(long, value_parser = crate::model_place)]
    model: PathBuf,
    /// Also as JSON, with every label's score
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    file: String,
    model: String,
    model_sha256: String,
    threshold_on: f64,
    windows: Vec<Window>,
}

/// Named as in the lines of `screamd run --json`.
#[derive(Serialize)]
struct Window {
    seq: u64,
    t_start_s: f64,
    t_end_s: f64,
    scores: BTreeMap<String, f64>,
    score: f64,
}

/// Scores, prints as it goes, and writes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    out_file::check(args.json.as_deref())?;
    let (manifest, model) = model_dir::load(&args.model, Executor::SingleThread)?;
    let threshold_on = manifest.decision.threshold_on;
    let file = args.file.display().to_string();
    let recording = Recording::open(&args.file)?;
    let bar = unseen(&recording);
    say!("{file}, heard by {} {}; threshold {threshold_on:.2} at |", manifest.name, manifest.version);
    let windows = score(&manifest, model, recording, |window| {
        say!("{}", line(window, threshold_on));
        bar.set_position(window.t_start_s as u64);
    })?;
    bar.finish_and_clear();
    if let Some(path) = &args.json {
        let model = format!("{} {}", manifest.name, manifest.version);
        let report = Report { file, model, model_sha256: manifest.sha256.clone(), threshold_on, windows };
        out_file::json(Some(path), &report)?;
    }
    Ok(())
}

/// How far it is, where the lines go into a file and nobody sees them pass.
fn unseen(recording: &Recording) -> ProgressBar {
    if std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    match recording.stated_s() {
        Some(seconds) => progress::bar(seconds.ceil() as u64, "seconds"),
        None => progress::spinner("scoring"),
    }
}

/// All windows of a recording; each goes to `on_window` as soon as it is scored.
fn score(
    manifest: &Manifest,
    model: Model,
    mut recording: Recording,
    mut on_window: impl FnMut(&Window),
) -> anyhow::Result<Vec<Window>> {
    let mut pipeline = Pipeline::new(manifest, model, recording.rate_hz(), manifest.decision.stride_s)?;
    let model_hz = f64::from(manifest.front_end.sample_rate_hz);
    let (mut windows, mut failed) = (Vec::new(), None);
    let mut take = |span: Span, sound: &[f32], scorer: &mut Scorer| {
        scorer.picture(sound);
        match scorer.score() {
            Ok(scored) => {
                let window = Window {
                    seq: span.seq,
                    t_start_s: span.start as f64 / model_hz,
                    t_end_s: span.end as f64 / model_hz,
                    scores: manifest.labels.iter().cloned().zip(scored.scores.iter().copied()).collect(),
                    score: scored.score,
                };
                on_window(&window);
                windows.push(window);
            }
            Err(error) => failed = failed.take().or(Some(error)),
        }
    };
    while let Some(piece) = recording.next_piece()? {
        pipeline.feed(piece, &mut take);
    }
    pipeline.finish(&mut take);
    match failed {
        Some(error) => Err(anyhow::Error::new(error).context("the model")),
        None => Ok(windows),
    }
}

/// A window as a person reads it.
fn line(window: &Window, threshold: f64) -> String {
    let mut labels: Vec<(&String, f64)> = window.scores.iter().map(|(label, score)| (label, *score)).collect();
    labels.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let labels: Vec<String> =
        labels.iter().take(LABELS_SHOWN).map(|(label, score)| format!("{label} {score:.2}")).collect();
    format!(
        "{:8.2} to {:8.2} s  {:.3} [{}] {}",
        window.t_start_s,
        window.t_end_s,
        window.score,
        bar(window.score, threshold),
        labels.join(", ")
    )
}

/// `score` filled in from the left; the cell of `threshold` is marked while the score is under it.
fn bar(score: f64, threshold: f64) -> String {
    let cell = |value: f64| (value.clamp(0.0, 1.0) * BAR_CELLS as f64) as usize;
    let (filled, mark) = (cell(score), cell(threshold));
    (0..BAR_CELLS)
        .map(|n| {
            if n < filled {
                '#'
            } else if n == mark {
                '|'
            } else {
                ' '
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_score_threshold_and_the_likeliest_labels() {
        let scores = [("a", 0.05), ("b", 0.5), ("c", 0.15), ("d", 0.3)];
        let scores = scores.into_iter().map(|(label, score)| (label.to_string(), score)).collect();
        let window = Window { seq: 1, t_start_s: 2.0, t_end_s: 6.0, scores, score: 0.5 };
        let bar = format!("{}{}|{}", "#".repeat(20), " ".repeat(12), " ".repeat(7));
        assert_eq!(line(&window, 0.8), format!("    2.00 to     6.00 s  0.500 [{bar}] b 0.50, d 0.30, c 0.15"));
    }

    #[test]
    fn a_bar_holds_any_score() {
        for (score, filled) in [(0.0, 0), (0.8, 32), (1.0, 40), (f64::NAN, 0)] {
            let bar = bar(score, 0.8);
            assert_eq!((bar.len(), bar.matches('#').count()), (BAR_CELLS, filled), "{score}");
        }
    }
}
