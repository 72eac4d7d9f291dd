//! `host-tools calibrate --model DIR --background FILE... [--screams FILE...] --false-alarms-per-hour X --out FILE.toml
//! [--json FILE]`
//!
//! A site's own threshold and votes, from recordings of its everyday sound in which nobody screams (WAV, FLAC or Ogg; the
//! more hours, the better). They run through the whole product, each from a fresh start. Taken is the lowest threshold of
//! which the recordings show, with 95 % confidence, that it alarms at most X times an hour; but never one under the model's own
//! `threshold_off`, since a quiet recording says nothing of sounds that are not in it. T hours without an alarm show no rate
//! under 3 / T: for less than that more hours are asked for, and nothing is written. Hours in which no microphone heard anything
//! (digital zeros, the same sound again and again) are none. A recording that is named twice is refused.
//!
//! With `--screams` (recordings of screams, as the site's microphone hears them) votes are chosen too, those that leave the
//! most of them, and the recall that is left is said: each is cut to its loudest 2.5 s and laid between windows of quiet pink
//! noise, each at another phase of the stride. (Several votes are then tried on the same hours: the 95 % hold for each, not for the best
//! of all.) FILE.toml is a `[decision]` table to paste into the site file, with how it was found as comments.
//!
//! With `--quiet` (recordings of the same room while nobody is there) the bounds of the energy gate are measured too: a window under
//! both is scored 0 without the network; and the floor under which, for half a day, the microphone counts as covered. They stand as
//! comments, since a site file has its `[audio]` table already.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use detector::front_end::FrontEnd;
use detector::manifest::{Decision, Manifest, Votes};
use detector::model::{Executor, Model};
use detector::quiet_gate;
use detector::sound_health;
use files::model_dir;
use files::recording::Recording;
use files::{say, tell};
use rayon::prelude::*;
use serde::Serialize;

use crate::eval::{lay, stream};
use crate::out_file;
use crate::poisson;
use crate::trace::{self, Cores, Trace};

/// Votes that are tried beside the manifest's. More would delay an alarm past what the product promises.
const VOTES: [Votes; 3] = [Votes { needed: 1, of: 1 }, Votes { needed: 2, of: 2 }, Votes { needed: 2, of: 3 }];
/// A threshold lies this far above the score that it must not reach, where there is room.
const MARGIN: f64 = 0.02;
/// The gate's bounds lie this far above the empty room.
const QUIET_MARGIN_DB: f64 = 3.0;
/// The floor lies this far under the empty room's quietest minute: the same room is quieter yet at night, and cloth or tape over a
/// microphone takes more than that of what lies above 2 kHz.
const FLOOR_MARGIN_DB: f64 = 6.0;
/// Screams are cut to their loudest seconds, as in `eval`.
const CUT_S: f64 = 2.5;
const GOLDEN_SECTION: f64 = 0.618_033_988_749_895;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_parser = crate::model_place)]
    model: PathBuf,
    /// Recordings of the site without a scream
    #[arg(long, required = true, num_args = 1..)]
    background: Vec<PathBuf>,
    /// Recordings of screams at the site, one each
    #[arg(long, num_args = 1..)]
    screams: Vec<PathBuf>,
    /// Recordings of the empty room, for the energy gate
    #[arg(long, num_args = 1..)]
    quiet: Vec<PathBuf>,
    /// The rate of false alarms to keep under
    #[arg(long)]
    false_alarms_per_hour: f64,
    /// The table to write
    #[arg(long)]
    out: PathBuf,
    /// Also as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Figures {
    model: String,
    model_sha256: String,
    hours: f64,
    false_alarms_per_hour: f64,
    threshold_on: f64,
    threshold_off: f64,
    votes: Votes,
    /// What the recordings give with these.
    alarms: u64,
    per_hour: f64,
    ci95: [f64; 2],
    /// The highest score of a window without a scream, and where it is.
    highest: f64,
    highest_file: String,
    highest_t_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    screams: Option<Screams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
}

/// Bounds of [`detector::quiet_gate::QuietGate`].
#[derive(Serialize, Clone, Copy)]
struct Gate {
    quiet_level_dbfs: f64,
    quiet_band_db: f64,
    /// Of the empty room, how many of which lie under both.
    windows: usize,
    skipped: usize,
    /// Under both for half a day, a microphone is covered.
    level_floor_dbfs: f64,
    high_floor_dbfs: f64,
}

#[derive(Serialize)]
struct Screams {
    n: usize,
    found: usize,
    recall: f64,
    /// Those that are not found.
    missed: Vec<String>,
}

/// Threshold and votes that were found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    decision: Decision,
    found: usize,
}

/// Measures, writes the table.
pub fn run(args: &Args) -> anyhow::Result<()> {
    out_file::check(Some(&args.out))?;
    out_file::check(args.json.as_deref())?;
    let rate = args.false_alarms_per_hour;
    ensure!(rate > 0.0 && rate.is_finite(), "--false-alarms-per-hour {rate}: must be above 0");
    for (flag, files) in [("--background", &args.background), ("--screams", &args.screams), ("--quiet", &args.quiet)] {
        once(flag, files)?;
    }
    // Where all headers state a length, a refusal need not wait for the network.
    let stated: Option<f64> = args
        .background
        .iter()
        // A pipe is read once.
        .map(|path| if path.is_file() { Ok(Recording::open(path)?.stated_s()) } else { Ok(None) })
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .sum();
    if let Some(seconds) = stated {
        enough(seconds / 3600.0, rate)?;
    }
    let manifest = model_dir::read_manifest(&args.model)?;
    // A room that is too loud for it is known in seconds, and must not cost the threshold that took an hour.
    let gate = if args.quiet.is_empty() {
        None
    } else {
        let spinner = crate::progress::spinner("the quiet room");
        let gate = gate(&manifest, &args.quiet)?;
        spinner.finish_and_clear();
        Some(gate)
    };
    let model = model_dir::load_weights(&args.model, &manifest, Executor::SingleThread)?;
    let bar = crate::progress::slow_bar((args.background.len() + args.screams.len()) as u64, "recordings");
    let background = Trace::of_files(&manifest, &model, &args.background, || bar.inc(1))?;
    for (path, trace) in args.background.iter().zip(&background).filter(|(_, trace)| trace.dead_s > 0.0) {
        let hours = trace.dead_s / 3600.0;
        tell!(
            "warning: {}: {hours:.2} h of it are no microphone's sound and do not count: nothing but zeros, or the same again and again",
            path.display()
        );
    }
    let hours = heard_hours(&background);
    enough(hours, rate)?;
    let screams: Vec<Trace> = args
        .screams
        .par_iter()
        .enumerate()
        .map(|(number, path)| {
            let trace = laid_scream(&manifest, &model, path, number);
            bar.inc(1);
            trace
        })
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let windows = background.iter().map(|trace| trace.windows.len() as u64).sum();
    let Some(choice) = choose(manifest.decision, &background, &screams, allowed(rate * hours, windows)) else {
        let (highest, file, t_s) = highest(&args.background, &background);
        bail!(
            "{file}: a window that ends at {t_s:.1} s scores {highest}: no threshold keeps under {rate} an hour; is somebody screaming in it?"
        );
    };
    let figures = Figures { gate, ..figures(args, &manifest, &background, &screams, choice) };
    let text = table(args, &figures, &manifest);
    std::fs::write(&args.out, &text).with_context(|| args.out.display().to_string())?;
    out_file::json(args.json.as_deref(), &figures)?;
    say!("{}", text.trim_end());
    Ok(())
}

/// Refuses a recording that is named twice, as two globs do that overlap: each hour of it would count as two, and a rate be shown
/// that nobody has heard. A pipe's contents are not known from its name.
fn once(flag: &str, files: &[PathBuf]) -> anyhow::Result<()> {
    let mut seen: HashMap<(u64, u64), &PathBuf> = HashMap::new();
    for path in files {
        // What is not there says so where it is opened.
        let Some(file) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) else { continue };
        if let Some(first) = seen.insert((file.dev(), file.ino()), path) {
            let also = if first == path { String::new() } else { format!(", first as {}", first.display()) };
            bail!("{}: {flag} names this recording twice{also}", path.display());
        }
    }
    Ok(())
}

/// Hours of everyday sound: those of a dead microphone would show any rate.
fn heard_hours(background: &[Trace]) -> f64 {
    background.iter().map(|trace| trace.seconds - trace.dead_s).sum::<f64>() / 3600.0
}

/// Refuses hours that cannot show a rate.
fn enough(hours: f64, rate: f64) -> anyhow::Result<()> {
    // What nobody rounds by hand must not refuse: 6 h for 0.5 an hour.
    ensure!(
        hours * rate >= 3.0 - 1e-9,
        "--false-alarms-per-hour {rate}: {hours:.2} h of background show no rate under {:.2} an hour; this one needs {:.2} h (3 / {rate})",
        3.0 / hours,
        3.0 / rate
    );
    Ok(())
}

/// A scream in quiet pink noise, a whole window of it and a share of a stride before it, and the windows that can hold some of it.
fn laid_scream(manifest: &Manifest, model: &Model, path: &Path, number: usize) -> anyhow::Result<Trace> {
    let rate_hz = manifest.front_end.sample_rate_hz;
    let window = manifest.front_end.window_samples();
    let stride = manifest.decision.stride_s * f64::from(rate_hz);
    // A device's windows meet a scream at any phase. The golden section spreads however many there are evenly.
    let phase = (stride * (number as f64 * GOLDEN_SECTION).fract()) as usize;
    let sound = crate::audio::read_at(path, rate_hz)?;
    let clip = lay::loudest(&sound, (CUT_S * f64::from(rate_hz)).round() as usize);
    let name = path.display().to_string();
    let start = window + phase;
    let laid = lay::lay_at(clip, &name, start, start + clip.len() + window);
    let mut trace = Trace::of_sound(manifest, model, &laid, Cores::One).with_context(|| name)?;
    let seconds = |samples: usize| samples as f64 / f64::from(rate_hz);
    let event = (seconds(start), seconds(start + clip.len()));
    trace.windows.retain(|(end_s, _)| stream::belongs(*end_s, event, manifest.front_end.window_s));
    Ok(trace)
}

/// Alarms that a rate allows in all hours together: so many that the rate is still shown.
fn allowed(expected: f64, windows: u64) -> u64 {
    // The rule of three rounds 2.9957 up: no alarm is always allowed here. More alarms than windows there cannot be.
    let (mut low, mut high) = (0, windows);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if poisson::upper95(middle) <= expected {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// The best of all votes: most screams found, then the manifest's own or fewest votes, in this order.
fn choose(own: Decision, background: &[Trace], screams: &[Trace], allowed: u64) -> Option<Choice> {
    let others = VOTES.into_iter().filter(|votes| *votes != own.votes);
    let mut best: Option<Choice> = None;
    for votes in std::iter::once(own.votes).chain(others) {
        let Some(decision) = lowest(Decision { votes, ..own }, background, allowed) else { continue };
        let found = screams.iter().filter(|trace| !trace.starts(decision).is_empty()).count();
        // Without screams the manifest's votes stay, unless they have no threshold at all.
        if best.is_none_or(|best| found > best.found) {
            best = Some(Choice { decision, found });
        }
    }
    best
}

/// `decision` with the lowest threshold, from its `threshold_off` on, that alarms at most `allowed` times.
pub fn lowest(decision: Decision, background: &[Trace], allowed: u64) -> Option<Decision> {
    let at = |threshold_on: f64| Decision { threshold_on, ..decision };
    let floor = decision.threshold_off;
    let mut scores: Vec<f64> = background.iter().flat_map(|trace| &trace.windows).map(|window| window.1).collect();
    scores.retain(|score| *score >= floor);
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup();
    // From the highest down: the first that alarms too often is what the threshold must stay above.
    let mut above = 1.0;
    for score in scores {
        if trace::count(background, at(score)) > allowed {
            let threshold = between(score, above);
            // No score is above 1: at 1 the site would be deaf.
            return (threshold < 1.0).then(|| at(threshold));
        }
        above = score;
    }
    Some(at(floor))
}

/// A short number above `low`, at most `high`: a margin above `low`, half of the gap where that is less.
fn between(low: f64, high: f64) -> f64 {
    let wanted = low + MARGIN.min((high - low) / 2.0);
    (2..=6)
        .map(|digits| {
            let scale = 10f64.powi(digits);
            (wanted * scale).round() / scale
        })
        .find(|value| *value > low && *value <= high && *value < 1.0)
        .unwrap_or(high)
}

fn highest(files: &[PathBuf], traces: &[Trace]) -> (f64, String, f64) {
    let all = files.iter().zip(traces).flat_map(|(file, trace)| trace.windows.iter().map(move |window| (file, window)));
    all.max_by(|a, b| a.1.1.total_cmp(&b.1.1))
        .map_or((0.0, String::new(), 0.0), |(file, (t_s, score))| (*score, file.display().to_string(), *t_s))
}

fn figures(args: &Args, manifest: &Manifest, background: &[Trace], screams: &[Trace], choice: Choice) -> Figures {
    let hours = heard_hours(background);
    let alarms = trace::count(background, choice.decision);
    let [low, high] = poisson::ci95(alarms);
    let (highest, highest_file, highest_t_s) = highest(&args.background, background);
    let missed = args.screams.iter().zip(screams).filter(|(_, trace)| trace.starts(choice.decision).is_empty());
    Figures {
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: manifest.sha256.clone(),
        hours,
        false_alarms_per_hour: args.false_alarms_per_hour,
        threshold_on: choice.decision.threshold_on,
        threshold_off: choice.decision.threshold_off,
        votes: choice.decision.votes,
        alarms,
        per_hour: alarms as f64 / hours,
        ci95: [low / hours, high / hours],
        highest,
        highest_file,
        highest_t_s,
        screams: (!screams.is_empty()).then(|| Screams {
            n: screams.len(),
            found: choice.found,
            recall: choice.found as f64 / screams.len() as f64,
            missed: missed.map(|(path, _)| path.display().to_string()).collect(),
        }),
        gate: None,
    }
}

/// Bounds 3 dB over what 99 of 100 windows of the empty room stay under: a door somewhere must not switch the gate off for good.
fn gate(manifest: &Manifest, files: &[PathBuf]) -> anyhow::Result<Gate> {
    let mut front_end = FrontEnd::new(&manifest.front_end);
    let (mut levels, mut bands) = (Vec::new(), Vec::new());
    let (mut level_min, mut high_min) = (f64::INFINITY, f64::INFINITY);
    let rate_hz = manifest.front_end.sample_rate_hz;
    for path in files {
        let sound = crate::audio::read_at(path, rate_hz)?;
        // A recording's last, short minute counts where it has a second at least.
        for minute in sound.chunks(60 * rate_hz as usize).filter(|minute| minute.len() >= rate_hz as usize) {
            let (level, high) = sound_health::levels_dbfs(minute, rate_hz);
            (level_min, high_min) = (level_min.min(level), high_min.min(high));
        }
        for window in sound.chunks_exact(manifest.front_end.window_samples()) {
            front_end.picture(window);
            levels.push(quiet_gate::loudest_dbfs(window));
            bands.push(quiet_gate::strongest_db(front_end.log_mel()));
        }
    }
    ensure!(!levels.is_empty(), "--quiet: not one whole window of {} s", manifest.front_end.window_s);
    let bound = |values: &[f32]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        ((f64::from(sorted[place]) + QUIET_MARGIN_DB) * 10.0).round() / 10.0
    };
    let (quiet_level_dbfs, quiet_band_db) = (bound(&levels), bound(&bands));
    let loudest = quiet_gate::LEVEL_DBFS.end();
    ensure!(
        quiet_level_dbfs <= *loudest,
        "--quiet: the empty room reaches {quiet_level_dbfs:.1} dBFS; over {loudest} dBFS nothing is provably quiet, \
         so there is no gate for this room"
    );
    let under = |(level, band): (&f32, &f32)| f64::from(*level) < quiet_level_dbfs && f64::from(*band) < quiet_band_db;
    let skipped = levels.iter().zip(&bands).filter(|pair| under(*pair)).count();
    let floor = |lowest: f64| ((lowest - FLOOR_MARGIN_DB) * 10.0).round().max(-1200.0) / 10.0;
    let (level_floor_dbfs, high_floor_dbfs) = (floor(level_min), floor(high_min));
    Ok(Gate { quiet_level_dbfs, quiet_band_db, windows: levels.len(), skipped, level_floor_dbfs, high_floor_dbfs })
}

/// The table as text. Comments hold one line each: a file's name could hold a line break.
fn table(args: &Args, figures: &Figures, manifest: &Manifest) -> String {
    let line = |text: String| format!("# {}\n", text.replace(['\n', '\r'], " "));
    let own = manifest.decision;
    let [low, high] = figures.ci95;
    let mut text = line(format!(
        "Made by host-tools calibrate {} on {} for {} (SHA-256 {}).",
        env!("CARGO_PKG_VERSION"),
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        figures.model,
        figures.model_sha256.chars().take(12).collect::<String>()
    ));
    text += &line(format!(
        "{:.2} h of background in {} file(s); asked for at most {} false alarms an hour.",
        figures.hours,
        args.background.len(),
        figures.false_alarms_per_hour
    ));
    text += &line(format!(
        "With these numbers it gives {} alarm(s): {:.3} an hour; shown with 95 % confidence: at most {:.3} (from both sides: {low:.3} to {high:.3}).",
        figures.alarms,
        figures.per_hour,
        poisson::upper95(figures.alarms) / figures.hours
    ));
    text += &line(format!(
        "Its highest window scores {:.3}, at {:.1} s of {}.",
        figures.highest, figures.highest_t_s, figures.highest_file
    ));
    if figures.threshold_on < own.threshold_on {
        text += &line(format!(
            "This is lower than the model's own {}: in sound that these hours do not hold it will alarm more often than the model card says.",
            own.threshold_on
        ));
    }
    if figures.threshold_on == own.threshold_off {
        text += &line("Lower is not taken: this is the model's own threshold_off.".into());
    }
    match &figures.screams {
        Some(screams) => {
            text +=
                &line(format!("Of {} scream(s) {} are found: recall {:.3}.", screams.n, screams.found, screams.recall));
            for file in &screams.missed {
                text += &line(format!("  missed: {file}"));
            }
        }
        None => text += &line("What it costs in screams was not measured (--screams).".into()),
    }
    text += &line(format!(
        "The model's own: threshold_on {}, votes {} of {}. Stride, hold and cooldown stay the model's.",
        own.threshold_on, own.votes.needed, own.votes.of
    ));
    if let Some(gate) = &figures.gate {
        let share = 100.0 * gate.skipped as f64 / gate.windows as f64;
        text += &line(format!(
            "The empty room, for the site file's [audio] table (saves {share:.0} % of its inferences; leave them out for none):"
        ));
        text += &line(format!("  quiet_level_dbfs = {:.1}", gate.quiet_level_dbfs));
        text += &line(format!("  quiet_band_db = {:.1}", gate.quiet_band_db));
        text += &line("And where a microphone that stays under both for half a day counts as covered:".into());
        text += &line(format!("  level_floor_dbfs = {:.1}", gate.level_floor_dbfs));
        text += &line(format!("  high_floor_dbfs = {:.1}", gate.high_floor_dbfs));
    }
    text + &format!(
        "[decision]\nthreshold_on = {}\nthreshold_off = {}\nvotes = {{ needed = {}, of = {} }}\n",
        toml_number(figures.threshold_on),
        toml_number(figures.threshold_off),
        figures.votes.needed,
        figures.votes.of
    )
}

/// A float as TOML wants it: with a point.
fn toml_number(value: f64) -> String {
    toml::Value::Float(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(needed: u32, of: u32) -> Decision {
        Decision {
            stride_s: 2.0,
            threshold_on: 0.7,
            threshold_off: 0.5,
            votes: Votes { needed, of },
            hold_s: 0.0,
            cooldown_s: 0.0,
        }
    }

    /// Windows two seconds apart.
    fn trace(scores: &[f64]) -> Trace {
        let windows = scores.iter().enumerate().map(|(i, score)| (4.0 + 2.0 * i as f64, *score)).collect();
        Trace { seconds: 2.0 + 2.0 * scores.len() as f64, dead_s: 0.0, windows }
    }

    #[test]
    fn the_lowest_threshold_that_keeps_the_rate() {
        let background = [trace(&[0.1, 0.9, 0.1, 0.8, 0.1, 0.6, 0.2])];
        let check = |allowed, expect| {
            let found = lowest(decision(1, 1), &background, allowed).map(|decision| decision.threshold_on);
            assert_eq!(found, expect, "{allowed} alarms");
        };
        check(0, Some(0.92));
        check(1, Some(0.82));
        check(2, Some(0.62));
        // Not under threshold_off.
        check(3, Some(0.5));
        assert_eq!(lowest(decision(1, 1), &[trace(&[1.0])], 0), None);
        assert_eq!(lowest(decision(1, 1), &[trace(&[0.999_999])], 0), None, "nothing would ever be above that");
        // Two votes: no two of these windows follow each other.
        assert_eq!(lowest(decision(2, 2), &background, 0).map(|d| d.threshold_on), Some(0.5));
    }

    #[test]
    fn votes_are_those_that_leave_the_most_screams() {
        let background = [trace(&[0.1, 0.9, 0.1, 0.1])];
        let screams = [trace(&[0.1, 0.7, 0.8, 0.1]), trace(&[0.95, 0.1, 0.1, 0.1])];
        let own = decision(1, 1);
        assert_eq!(choose(own, &background, &[], 0).map(|c| c.decision.votes), Some(own.votes));
        // One vote needs 0.92 and finds one of the two; two votes may go down to 0.5 and find the other: no gain.
        assert_eq!(choose(own, &background, &screams, 0).map(|c| (c.decision.votes, c.found)), Some((own.votes, 1)));
        let twice = [trace(&[0.1, 0.7, 0.8, 0.1]), trace(&[0.6, 0.6, 0.1, 0.1])];
        let chosen = choose(own, &background, &twice, 0).map(|c| (c.decision.votes, c.found));
        assert_eq!(chosen, Some((Votes { needed: 2, of: 2 }, 2)));
    }

    #[test]
    fn a_recording_counts_once_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.wav", "b.wav"] {
            std::fs::write(path(name), "the same bytes are no reason").unwrap();
        }
        std::os::unix::fs::symlink("a.wav", path("link.wav")).unwrap();
        let said = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(|name| path(name)).collect();
            once("--quiet", &files).map_err(|error| error.to_string())
        };
        said(&["a.wav", "b.wav"]).unwrap();
        said(&["missing.wav", "missing.wav"]).unwrap();
        once("--quiet", &["/dev/null".into(), "/dev/null".into()]).unwrap();
        let twice = said(&["a.wav", "b.wav", "a.wav"]).unwrap_err();
        assert!(twice.ends_with("/a.wav: --quiet names this recording twice"), "{twice}");
        let linked = said(&["a.wav", "link.wav"]).unwrap_err();
        assert!(linked.contains("/link.wav: ") && linked.ends_with("/a.wav"), "{linked}");
    }

    /// What `calibrate` says of `background` and `quiet` with a model whose weights are missing.
    fn refusal(background: &[PathBuf], quiet: &[PathBuf]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default/manifest.toml");
        std::fs::copy(manifest, folder.path().join("manifest.toml")).unwrap();
        let args = Args {
            model: folder.path().into(),
            background: background.into(),
            screams: Vec::new(),
            quiet: quiet.into(),
            false_alarms_per_hour: 1e6,
            out: folder.path().join("decision.toml"),
            json: None,
        };
        format!("{:#}", run(&args).unwrap_err())
    }

    #[test]
    fn a_recording_that_is_named_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home.wav");
        std::fs::write(&home, files::wav::bytes(&[0.0; 16_000], 16_000)).unwrap();
        let said = refusal(&[home.clone(), home], &[]);
        assert!(said.contains("home.wav: --background names this recording twice"), "{said}");
    }

    #[test]
    fn a_room_too_loud_for_the_gate_is_refused_before_the_network_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (home, loud) = (folder.path().join("home.wav"), folder.path().join("loud.wav"));
        std::fs::write(&home, files::wav::bytes(&[0.0; 16_000], 16_000)).unwrap();
        let square: Vec<f32> = (0..64_000).map(|n| if n / 20 % 2 == 0 { 0.5 } else { -0.5 }).collect();
        std::fs::write(&loud, files::wav::bytes(&square, 16_000)).unwrap();
        let said = refusal(std::slice::from_ref(&home), &[loud]);
        assert!(said.contains("--quiet: the empty room reaches"), "{said}");
        let said = refusal(&[home], &[]);
        assert!(said.contains("model.nnef.tgz"), "without it the weights are what is missing: {said}");
    }

    #[test]
    fn a_rate_allows_as_many_alarms_as_still_show_it() {
        for (expected, count) in [(3.0, 0), (4.7, 0), (4.8, 1), (8.0, 3)] {
            assert_eq!(allowed(expected, 1_000_000), count, "{expected}");
            assert_eq!(allowed(expected, 1), count.min(1), "there are no more alarms than windows");
        }
    }

    #[test]
    fn a_threshold_is_a_short_number() {
        for (low, high, expect) in [
            (0.9, 1.0, 0.92),
            (0.5, 0.51, 0.51),
            (0.991, 1.0, 0.996),
            (0.999_999, 1.0, 1.0),
            (0.7, 0.700_001, 0.700_001),
        ] {
            assert_eq!(between(low, high), expect, "{low} {high}");
        }
        assert_eq!(toml_number(1.0), "1.0");
    }
}
