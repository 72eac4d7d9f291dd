//! `host-tools eval --model DIR --data DIR [--split test] [--cut 2.5] [--background DIR] [--scores FILE.csv] [--json FILE]`
//!
//! Accuracy on labelled clips, laid so that neither length nor padding gives the label away (`lay`), and false alarms per
//! hour of scream-free sound run through the whole product: windows, votes, hold, cooldown. Figures at the manifest's
//! `threshold_on`, never at the best one. All cores.

mod background;
mod bootstrap;
pub mod clips;
mod figures;
pub mod lay;
mod reliability;
pub mod table;

use std::path::PathBuf;

use anyhow::{Context, ensure};
use detector::model::Executor;
use files::model_dir;
use serde::Serialize;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Folder with manifest.csv (file, label 1 or 0, class, split) and the clips
    #[arg(long)]
    data: PathBuf,
    /// Rows of this split alone, in both manifests
    #[arg(long)]
    split: Option<String>,
    /// Clips are cut to their loudest seconds; 0 leaves them whole
    #[arg(long, default_value_t = 2.5)]
    cut: f64,
    /// Folder of scream-free recordings with manifest.csv (file, kind, split)
    #[arg(long)]
    background: Option<PathBuf>,
    /// Every clip's score as CSV
    #[arg(long)]
    scores: Option<PathBuf>,
    /// All figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    model: String,
    model_sha256: String,
    split: Option<String>,
    cut_s: f64,
    clips: figures::ClipFigures,
    #[serde(skip_serializing_if = "Option::is_none")]
    ci95: Option<bootstrap::Intervals>,
    /// Whole and zero-padded to one window, as the write-up did.
    whole: figures::ClipFigures,
    classes: Vec<figures::ClassFigures>,
    sources: Vec<figures::SourceFigures>,
    reliability: reliability::Reliability,
    #[serde(skip_serializing_if = "Option::is_none")]
    background: Option<background::Figures>,
}

/// Scores, counts, prints and writes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.cut >= 0.0 && args.cut.is_finite(), "--cut {}: must be 0 or more seconds", args.cut);
    let (manifest, model) = model_dir::load(&args.model, Executor::SingleThread)?;
    let rows: Vec<table::Clip> = table::read(&args.data, args.split.as_deref())?;
    let scored = clips::score(&manifest, &model, &args.data, &rows, args.cut)?;
    let threshold = manifest.decision.threshold_on;
    let laid = figures::labelled(&scored, |clip| clip.score);
    let heard = args
        .background
        .as_deref()
        .map(|folder| background::hear(&manifest, &model, folder, args.split.as_deref()))
        .transpose()?;
    let report = Report {
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: manifest.sha256.clone(),
        split: args.split.clone(),
        cut_s: args.cut,
        clips: figures::clips(&laid, threshold)?,
        ci95: bootstrap::intervals(&scored, threshold),
        whole: figures::clips(&figures::labelled(&scored, |clip| clip.whole), threshold)?,
        classes: figures::classes(&scored, threshold),
        sources: figures::sources(&scored, threshold),
        reliability: reliability::of(&laid),
        background: heard.as_ref().map(|heard| background::figures(&manifest, heard)),
    };
    if let Some(path) = &args.scores {
        let mut csv = csv::Writer::from_path(path).with_context(|| path.display().to_string())?;
        csv.write_record(["file", "label", "class", "score"])?;
        for clip in &scored {
            csv.write_record([&clip.row.file, &clip.row.label, &clip.row.class, &format!("{:.6}", clip.score)])?;
        }
        csv.flush().with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    print(&report);
    Ok(())
}

fn print(report: &Report) {
    let clips = &report.clips;
    println!("{}: {} screams, {} others, threshold {}", report.model, clips.n_pos, clips.n_neg, clips.threshold);
    println!(
        "accuracy {:.4}  balanced {:.4}  precision {:.4}  recall {:.4}  F1 {:.4}  ROC-AUC {:.4}  AP {:.4}",
        clips.accuracy,
        clips.balanced_accuracy,
        clips.precision,
        clips.recall,
        clips.f1,
        clips.roc_auc,
        clips.average_precision
    );
    for class in &report.classes {
        println!("  {:18} {:4} of {:4} flagged", class.class, class.flagged, class.n);
    }
    if let Some(background) = &report.background {
        let [low, high] = background.ci95;
        println!(
            "background: {} alarms in {:.2} h: {:.2} per hour (95 %: {low:.2} to {high:.2})",
            background.alarms, background.hours, background.per_hour
        );
        for kind in background.kinds.iter().filter(|kind| kind.alarms > 0) {
            println!("  {:20} {:3} in {:.2} h", kind.kind, kind.alarms, kind.hours);
        }
    }
}
