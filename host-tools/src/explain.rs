//! `host-tools explain FILE --model DIR --out X.png [--json FILE]`
//!
//! What an alarm rests on: of the recording's highest window one patch of the picture after another is hidden (`occlude`),
//! and what the score loses by it is drawn over the picture: what matters keeps its colours inside a white line, the rest is
//! dimmed, a cross marks the peak, and the panel below shows the same over time. Any model; on all cores.
//!
//! The JSON's `map` is in log-odds (natural logarithm), one row per mel band from low to high, one column per frame; `peak_t_s` is in
//! the file's own time. Where hiding changes nothing for the worse there is no peak: `null`.

pub mod occlude;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use detector::front_end::FrontEnd;
use detector::manifest::Manifest;
use detector::model::{Executor, Model};
use files::model_dir;
use files::picture::{Evidence, PictureError, Spectrogram};
use files::private_file::write_private;
use files::say;
use serde::Serialize;

use crate::out_file;
use crate::trace::{Cores, Trace};
use occlude::Occlusion;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The recording: WAV, FLAC or Ogg Vorbis, 1 to 768 kHz
    file: PathBuf,
    /// Model folder
    #[arg(long, value_parser = crate::model_place)]
    model: PathBuf,
    /// The picture to write
    #[arg(long)]
    out: PathBuf,
    /// Also as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Figures {
    file: String,
    model: String,
    model_sha256: String,
    /// Where the window begins and ends, seconds of the file.
    t_start_s: f64,
    t_end_s: f64,
    score: f64,
    threshold_on: f64,
    peak_t_s: Option<f64>,
    peak_hz: Option<f32>,
    /// Distance of two columns of the map, seconds; the first stands at `t_start_s`.
    frame_s: f64,
    /// Centre of each row, hertz.
    bands_hz: Vec<f32>,
    /// Evidence of each frame, all bands together.
    profile: Vec<f32>,
    map: Vec<Vec<f32>>,
}

/// Looks, draws, writes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    out_file::check(Some(&args.out))?;
    out_file::check(args.json.as_deref())?;
    let png = args.out.extension().is_some_and(|ending| ending == "png");
    ensure!(png, "{}: --out must end in .png", args.out.display());
    let (manifest, model) = model_dir::load(&args.model, Executor::SingleThread)?;
    let spinner = crate::progress::spinner("reading the recording");
    let sound = crate::audio::read_at(&args.file, manifest.front_end.sample_rate_hz)?;
    spinner.set_message("the highest window");
    let window = Highest::of(&manifest, &model, &sound).with_context(|| args.file.display().to_string())?;
    spinner.finish_and_clear();
    let mut front_end = FrontEnd::new(&manifest.front_end);
    front_end.picture(&window.sound);
    let bar = crate::progress::bar(0, "slices");
    let heard = window.heard / manifest.front_end.hop + 1;
    let occlusion =
        Occlusion::of(&manifest, &model, &front_end, heard, &bar).with_context(|| args.file.display().to_string())?;
    bar.finish_and_clear();
    let title = format!("{}: score {:.3}, {} {}", name(&args.file), window.score, manifest.name, manifest.version);
    write_private(&args.out, &picture(&manifest, &front_end, &occlusion, window.t_start_s, &title)?)?;
    let peak = occlusion.peak(&manifest, &front_end);
    match peak {
        Some((t_s, hz)) => say!(
            "{}: score {:.3} from {:.2} to {:.2} s rests on {:.2} s, {hz:.0} Hz: {}",
            args.file.display(),
            window.score,
            window.t_start_s,
            window.t_end_s,
            window.t_start_s + t_s,
            args.out.display()
        ),
        None => say!(
            "{}: score {:.3} from {:.2} to {:.2} s rests on nothing in particular: {}",
            args.file.display(),
            window.score,
            window.t_start_s,
            window.t_end_s,
            args.out.display()
        ),
    }
    if let Some(path) = &args.json {
        let frames = manifest.front_end.frames();
        let figures = Figures {
            file: args.file.display().to_string(),
            model: format!("{} {}", manifest.name, manifest.version),
            model_sha256: manifest.sha256.clone(),
            t_start_s: window.t_start_s,
            t_end_s: window.t_end_s,
            score: window.score,
            threshold_on: manifest.decision.threshold_on,
            peak_t_s: peak.map(|(t_s, _)| window.t_start_s + t_s),
            peak_hz: peak.map(|(_, hz)| hz),
            frame_s: manifest.front_end.hop as f64 / f64::from(manifest.front_end.sample_rate_hz),
            bands_hz: front_end.centres_hz().to_vec(),
            profile: occlusion.profile.clone(),
            map: occlusion.map.chunks(frames).map(<[f32]>::to_vec).collect(),
        };
        std::fs::write(path, serde_json::to_vec(&figures)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The picture of the window that `front_end` saw last, begun at `t_start_s`, with what its score rests on.
pub fn picture(
    manifest: &Manifest,
    front_end: &FrontEnd,
    occlusion: &Occlusion,
    t_start_s: f64,
    title: &str,
) -> Result<Vec<u8>, PictureError> {
    let config = &manifest.front_end;
    let frames = config.frames();
    let last_s = (frames - 1) as f64 * config.hop as f64 / f64::from(config.sample_rate_hz);
    let evidence = Evidence {
        sound: Spectrogram {
            log_mel: front_end.log_mel(),
            n_mels: config.n_mels,
            frames,
            mel_centres_hz: front_end.centres_hz(),
            t_start_s,
            t_end_s: t_start_s + last_s,
            scores: &[],
            threshold_on: manifest.decision.threshold_on,
            alarm_t_s: None,
            title,
        },
        map: &occlusion.map,
        profile: &occlusion.profile,
        peak: occlusion.peak(manifest, front_end).map(|(t_s, hz)| (t_start_s + t_s, hz)),
    };
    evidence.to_png()
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The window of a sound that scores highest, the first of them.
struct Highest {
    t_start_s: f64,
    t_end_s: f64,
    score: f64,
    /// Its samples, zero-padded behind the sound's end.
    sound: Vec<f32>,
    /// How many of them are the sound's own.
    heard: usize,
}

impl Highest {
    fn of(manifest: &Manifest, model: &Model, sound: &[f32]) -> anyhow::Result<Self> {
        let trace = Trace::of_sound(manifest, model, sound, Cores::All)?;
        let mut best = trace.windows.iter();
        let first = *best.next().context("no window")?;
        let (t_end_s, score) = best.fold(first, |best, window| if window.1 > best.1 { *window } else { best });
        let rate_hz = f64::from(manifest.front_end.sample_rate_hz);
        let samples = manifest.front_end.window_samples();
        let end = (t_end_s * rate_hz).round() as usize;
        let start = end - samples;
        let mut own = sound[start.min(sound.len())..end.min(sound.len())].to_vec();
        let heard = own.len();
        own.resize(samples, 0.0);
        Ok(Self { t_start_s: start as f64 / rate_hz, t_end_s, score, sound: own, heard })
    }
}

#[cfg(test)]
mod tests;
