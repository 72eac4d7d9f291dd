//! `host-tools eval --model DIR --data DIR [--split test] [--cut 2.5] [--background DIR] [--full] [--scores FILE.csv]
//! [--plots DIR] [--json FILE] [--write-measured]`
//!
//! Accuracy on labelled clips, laid so that neither length nor padding gives the label away (`lay`), once more whole and
//! zero-padded, by class and by source, with bootstrap intervals by group. With `--background` false alarms per hour of
//! scream-free sound run through the whole product, and stream figures over soundscapes with the split's screams in it
//! (`stream`). With `--full` these also without `--background`, and recall by signal-to-noise ratio and by distance
//! (`robustness`). Figures at the manifest's `threshold_on`, never at the best one. All cores.

mod background;
mod bed;
mod bootstrap;
pub mod clips;
mod figures;
pub mod lay;
mod plots;
mod reliability;
mod robustness;
pub mod stream;
pub mod table;
mod worst;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use detector::manifest::Manifest;
use detector::model::{Executor, Model};
use files::model_dir;
use files::{say, tell};
use serde::Serialize;

use crate::out_file;
use crate::trace::{Cores, Trace};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_parser = crate::model_place)]
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
    /// Also recall by signal-to-noise ratio and distance, and stream figures without --background
    #[arg(long)]
    full: bool,
    /// Every clip's score as CSV
    #[arg(long)]
    scores: Option<PathBuf>,
    /// Folder for the figures as pictures
    #[arg(long)]
    plots: Option<PathBuf>,
    /// All figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Puts the main figures into the model's manifest, as [measured.eval]
    #[arg(long)]
    write_measured: bool,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<stream::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<robustness::NoiseFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<robustness::DistanceFigures>,
}

/// Scores, counts, prints and writes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    for file in [&args.scores, &args.json] {
        out_file::check(file.as_deref())?;
    }
    ensure!(args.cut >= 0.0 && args.cut.is_finite(), "--cut {}: must be 0 or more seconds", args.cut);
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let (manifest, model) = model_dir::load(&args.model, Executor::SingleThread)?;
    let mut rows: Vec<table::Clip> = table::read(&args.data, args.split.as_deref())?;
    // Without a label a clip is scored for whoever asks (`--scores`), where it is there.
    let all = rows.len();
    rows.retain(|row| row.truth().is_some() || args.data.join(&row.file).exists());
    if rows.len() < all {
        tell!("warning: {}: {} row(s) without a label have no recording", args.data.display(), all - rows.len());
    }
    ensure!(!rows.is_empty(), "{}: none of its {all} recordings is there", args.data.join("manifest.csv").display());
    // Before the clips are scored, which takes minutes.
    let background = args
        .background
        .as_deref()
        .map(|folder| Ok::<_, anyhow::Error>((folder, table::read(folder, args.split.as_deref())?)))
        .transpose()?;
    let scored = clips::score(&manifest, &model, &args.data, &rows, args.cut)?;
    ensure!(!scored.is_empty(), "{}: none of its recordings can be read", args.data.join("manifest.csv").display());
    // Before the figures: a folder without labels has scores all the same.
    if let Some(path) = &args.scores {
        write_scores(path, &scored).with_context(|| path.display().to_string())?;
    }
    let threshold = manifest.decision.threshold_on;
    let laid = figures::labelled(&scored, |clip| clip.score);
    let clip_figures = figures::clips(&laid, threshold);
    ensure!(
        clip_figures.has_both() || !args.write_measured,
        "{}: --write-measured needs clips with label 1 and clips with label 0",
        args.data.join("manifest.csv").display()
    );
    let heard = background.map(|(folder, rows)| background::hear(&manifest, &model, folder, rows)).transpose()?;
    let streams = (args.full || heard.is_some())
        .then(|| Streams::hear(args, &manifest, &model, &rows, heard.as_ref()))
        .transpose()?;
    let (noise, distance) = match args.full {
        true => {
            let screams = screams(&rows);
            let bed = bed(args, &manifest, &rows, heard.as_ref());
            (
                Some(robustness::noise(&manifest, &model, &args.data, &screams, args.cut, &bed)?),
                Some(robustness::distance(&manifest, &model, &args.data, &screams, args.cut)?),
            )
        }
        false => (None, None),
    };
    let report = Report {
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: manifest.sha256.clone(),
        split: args.split.clone(),
        cut_s: args.cut,
        clips: clip_figures,
        ci95: bootstrap::intervals(&scored, threshold),
        whole: figures::clips(&figures::labelled(&scored, |clip| clip.whole), threshold),
        classes: figures::classes(&scored, threshold),
        sources: figures::sources(&scored, threshold),
        reliability: reliability::of(&laid),
        background: heard.as_ref().map(|heard| background::figures(&manifest, heard)),
        stream: streams.as_ref().map(|streams| stream::figures(&manifest, &streams.soundscapes, streams.quiet(&heard))),
        noise,
        distance,
    };
    out_file::json(args.json.as_deref(), &report)?;
    if let Some(folder) = &args.plots {
        let curve =
            streams.as_ref().map(|streams| stream::curve(&manifest, &streams.soundscapes, streams.quiet(&heard)));
        plots::write(folder, &manifest, &args.data, &report, &scored, curve.as_deref())?;
    }
    print(&report);
    if args.write_measured {
        crate::measured::write(&args.model, "eval", &measured(&report))?;
    }
    Ok(())
}

/// Soundscapes, and scream-free sound where there are no background recordings.
struct Streams {
    soundscapes: Vec<stream::Soundscape>,
    clips: Vec<Trace>,
}

impl Streams {
    fn hear(
        args: &Args,
        manifest: &Manifest,
        model: &Model,
        rows: &[table::Clip],
        heard: Option<&background::Heard>,
    ) -> anyhow::Result<Self> {
        let bed = bed(args, manifest, rows, heard);
        let soundscapes = stream::hear(manifest, model, &args.data, &screams(rows), args.cut, &bed)?;
        let clips = match heard {
            Some(_) => Vec::new(),
            None => {
                let spinner = crate::progress::spinner("the clips that are no screams, one after another");
                let trace = Trace::of_sound(manifest, model, &bed.whole()?, Cores::All)?;
                spinner.finish_and_clear();
                vec![trace]
            }
        };
        Ok(Self { soundscapes, clips })
    }

    fn quiet<'a>(&'a self, heard: &'a Option<background::Heard>) -> &'a [Trace] {
        heard.as_ref().map_or(&self.clips, |heard| &heard.traces)
    }
}

fn screams(rows: &[table::Clip]) -> Vec<&table::Clip> {
    rows.iter().filter(|row| row.truth() == Some(true)).collect()
}

fn bed(args: &Args, manifest: &Manifest, rows: &[table::Clip], heard: Option<&background::Heard>) -> bed::Bed {
    let rate_hz = manifest.front_end.sample_rate_hz;
    match (&args.background, heard) {
        (Some(folder), Some(heard)) => bed::Bed::recordings(folder, &heard.rows, rate_hz),
        _ => bed::Bed::clips(&args.data, rows, rate_hz),
    }
}

/// What a person wants to know of a model, for its manifest.
fn measured(report: &Report) -> toml::Table {
    let rounded = |value: f64| toml::Value::Float((value * 1e4).round() / 1e4);
    let clips = &report.clips;
    let mut table = toml::Table::new();
    let mut put = |key: &str, value: toml::Value| table.insert(key.into(), value);
    put("date", jiff::Timestamp::now().strftime("%Y-%m-%d").to_string().into());
    put("split", report.split.clone().unwrap_or_else(|| "all".into()).into());
    put("cut_s", rounded(report.cut_s));
    put("screams", (clips.n_pos as i64).into());
    put("others", (clips.n_neg as i64).into());
    put("threshold", clips.threshold.into());
    put("accuracy", rounded(clips.accuracy));
    put("recall", rounded(clips.recall));
    put("roc_auc", rounded(clips.roc_auc));
    if let Some(background) = &report.background {
        put("background_hours", rounded(background.hours));
        put("false_alarms", (background.alarms as i64).into());
        put("false_alarms_per_hour_ci95", background.ci95.map(rounded).to_vec().into());
    }
    if let Some(stream) = &report.stream {
        put("event_recall", rounded(stream.recall));
        if let Some(delay) = stream.onset_to_alarm_s {
            put("onset_to_alarm_median_s", rounded(delay.median));
        }
    }
    table
}

fn print(report: &Report) {
    let clips = &report.clips;
    say!("{}: {} screams, {} others, threshold {}", report.model, clips.n_pos, clips.n_neg, clips.threshold);
    print_clips("", clips);
    if let Some(ci95) = &report.ci95 {
        let of = |[low, high]: [f64; 2]| if low.is_nan() { "-".into() } else { format!("{low:.4} to {high:.4}") };
        say!(
            "  95 % by group: accuracy {}, recall {}, ROC-AUC {}",
            of(ci95.accuracy),
            of(ci95.recall),
            of(ci95.roc_auc)
        );
    }
    print_clips("whole: ", &report.whole);
    say!("calibration error {}, Brier {}", figure(report.reliability.ece), figure(report.reliability.brier));
    for class in &report.classes {
        say!("  {:18} {:4} of {:4} flagged", class.class, class.flagged, class.n);
    }
    for source in &report.sources {
        say!(
            "  {:44} {:3} of {:3} screams found, {:3} of {:3} others flagged",
            source.source,
            source.found,
            source.n_pos,
            source.flagged,
            source.n_neg
        );
    }
    if let Some(background) = &report.background {
        let [low, high] = background.ci95;
        say!(
            "background: {} alarms in {:.2} h: {:.2} per hour (95 %: {low:.2} to {high:.2})",
            background.alarms,
            background.hours,
            background.per_hour
        );
        for kind in background.kinds.iter().filter(|kind| kind.alarms > 0) {
            say!("  {:20} {:3} in {:.2} h", kind.kind, kind.alarms, kind.hours);
        }
    }
    if let Some(stream) = &report.stream {
        print_stream(stream);
    }
    if let Some(noise) = &report.noise {
        say!("screams in background sound ({} of {} stretches alarm without one):", noise.alone, noise.n);
        for at in &noise.snrs {
            say!("  {:3} dB {:4} of {:4} found{}", at.snr_db, at.found, noise.n, interval(at.ci95));
        }
    }
    if let Some(distance) = &report.distance {
        say!("screams in simulated rooms:");
        for at in &distance.distances {
            say!("  {:3} m  {:4} of {:4} found{}", at.distance_m, at.found, distance.n, interval(at.ci95));
        }
    }
}

fn write_scores(path: &Path, scored: &[clips::Scored]) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_path(path)?;
    csv.write_record(["file", "label", "class", "score"])?;
    for clip in scored {
        csv.write_record([&clip.row.file, &clip.row.label, &clip.row.class, &format!("{:.6}", clip.score)])?;
    }
    Ok(csv.flush()?)
}

/// The interval of a share, in brackets.
fn interval(ci95: Option<[f64; 2]>) -> String {
    ci95.map_or_else(String::new, |[low, high]| format!(" ({low:.2} to {high:.2})"))
}

/// A figure of four decimals; without screams, or without others, some of them say nothing.
fn figure(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{value:.4}") }
}

fn print_clips(name: &str, clips: &figures::ClipFigures) {
    say!(
        "{name}accuracy {}  balanced {}  precision {}  recall {}  F1 {}  ROC-AUC {}  AP {}",
        figure(clips.accuracy),
        figure(clips.balanced_accuracy),
        figure(clips.precision),
        figure(clips.recall),
        figure(clips.f1),
        figure(clips.roc_auc),
        figure(clips.average_precision)
    );
}

fn print_stream(stream: &stream::Figures) {
    let delay = |delay: &Option<stream::Delay>| match delay {
        Some(delay) => format!("onset to alarm {:.2} s median, {:.2} s p95", delay.median, delay.p95),
        None => "none found".into(),
    };
    say!(
        "stream: {} of {} screams found{} in {:.2} h of soundscape ({} false alarms), {}; {} false alarms in {:.2} h without a scream",
        stream.found,
        stream.events,
        interval(stream.recall_ci95),
        stream.soundscape_hours,
        stream.soundscape_false_alarms,
        delay(&stream.onset_to_alarm_s),
        stream.alarms,
        stream.hours
    );
    if let Some(snr) = stream.snr_db {
        say!("  screams over their beds: {:.1} dB median, {:.1} p5, {:.1} p95", snr.median, snr.p5, snr.p95);
    }
    for at in &stream.rates {
        match (at.threshold, at.recall, at.shown_per_hour) {
            (Some(threshold), Some(recall), Some(shown)) => {
                say!(
                    "  {:13} threshold {threshold:.3}: recall {}, {}; shown are at most {shown:.2} per hour",
                    at.rate,
                    figure(recall),
                    delay(&at.onset_to_alarm_s)
                );
            }
            _ if stream.hours < at.hours_needed => {
                say!(
                    "  {:13} needs {:.0} h without a scream, {:.0} h to be shown",
                    at.rate,
                    at.hours_needed,
                    at.hours_to_show
                );
            }
            _ => say!("  {:13} no threshold keeps it", at.rate),
        }
    }
    say!("  settings to choose from:");
    for setting in &stream.sweep {
        say!(
            "  votes {} of {}, threshold {:.2}, hold {:4.1} s: {:3} false alarms ({} per hour), recall {}, {}",
            setting.votes.needed,
            setting.votes.of,
            setting.threshold,
            setting.hold_s,
            setting.alarms,
            if setting.per_hour.is_finite() { format!("{:6.2}", setting.per_hour) } else { "     -".into() },
            figure(setting.recall),
            delay(&setting.onset_to_alarm_s)
        );
    }
}
