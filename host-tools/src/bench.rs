//! `host-tools bench --model DIR [--threads N] [--windows N] [--budget-ms 2000] [--json FILE]`
//!
//! Latency of every stage over seeded sound, load time, and the memory resident while windows run. The budget is for one
//! window altogether; exit 1 where its p99 is over it. `--pin` keeps the process on as many cores as it has threads,
//! `--scaling` measures 1 to N threads, `--profile` takes the network apart layer by layer beside the machine's peak,
//! `--engine tract` runs in tract what our own kernels would run, `--compare FILE` sets the figures beside an earlier run's.
//! Figures of two runs compare only where nothing else ran; where something did, let both take turns and compare medians.

mod figures;
mod machine;
mod profile;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use detector::alarm::{Alarm, Event, SirenSettings, us};
use detector::front_end::FrontEnd;
use detector::manifest::Manifest;
use detector::model::{Engine, Executor, Model};
use detector::pipeline::Scorer;
use detector::resample::Resampler;
use figures::{Figures, Quantiles, Scaling};
use files::model_dir;
use machine::{Machine, resident_mib};
use rand::{Rng, SeedableRng};

use crate::out_file;

/// What most microphones are captured at.
const SOURCE_HZ: u32 = 48_000;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_parser = crate::model_place)]
    model: PathBuf,
    /// Threads for the network
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Windows to run
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// What one window may take, milliseconds
    #[arg(long, default_value_t = 2000.0)]
    budget_ms: f64,
    /// Keep to as many cores as there are threads
    #[arg(long)]
    pin: bool,
    /// Also on 1, 2, ... up to --threads threads
    #[arg(long)]
    scaling: bool,
    /// Time of each layer, beside the machine's measured peak
    #[arg(long)]
    profile: bool,
    /// What runs the network
    #[arg(long, value_enum, default_value = "best")]
    engine: EngineArg,
    /// An earlier run's --json file to compare with
    #[arg(long)]
    compare: Option<PathBuf>,
    /// Also as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Puts the main figures into the model's manifest, as [measured.bench]
    #[arg(long)]
    write_measured: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EngineArg {
    /// Our own kernels where they know the network, else tract
    Best,
    /// tract
    Tract,
}

impl From<EngineArg> for Engine {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Best => Self::Best,
            EngineArg::Tract => Self::Tract,
        }
    }
}

/// Measures; false where the budget is broken.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    out_file::check(args.json.as_deref())?;
    ensure!(args.budget_ms >= 0.0 && args.budget_ms.is_finite(), "--budget-ms {}: must be 0 or more", args.budget_ms);
    // A run takes minutes, and would be lost to a file that is none.
    let earlier =
        args.compare.as_deref().map(|path| Ok::<_, anyhow::Error>((path, Figures::read(path)?))).transpose()?;
    if args.pin {
        machine::pin(args.threads as usize)?;
    }
    let began = Instant::now();
    let (manifest, model) = load(&args.model, args.threads, args.engine)?;
    let load_ms = ms(began);
    // What the layers do, not what the manifest asks for: f32 weights stay in float.
    let integer = model.layers().iter().any(|layer| layer.kind.contains("int8"));
    let engine = format!("{}, {} arithmetic", model.engine(), if integer { "integer" } else { "float" });
    let (resample, alarm) = around_the_network(&manifest, args.windows)?;
    let windows = windows(&manifest, model, args.windows)?;
    let resample_ms = Quantiles::of(resample);
    // What was timed is a share of a stride where that is long.
    let strides = (manifest.decision.stride_s / RESAMPLED_S_MAX).max(1.0);
    let before = resample_ms.p50 * strides + windows.front_end_ms.p50;
    let mut figures = Figures {
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: manifest.sha256.clone(),
        engine,
        machine: Machine::here(),
        pinned: args.pin,
        load_ms,
        rss_mib: windows.rss_mib,
        rss_peak_mib: resident_mib()?.1,
        threads: args.threads,
        windows: args.windows,
        resample_ms,
        alarm_ms: Quantiles::of(alarm),
        before_network_percent: before / (manifest.decision.stride_s * 10.0),
        budget_ms: args.budget_ms,
        ok: windows.total_ms.p99 <= args.budget_ms,
        front_end_ms: windows.front_end_ms,
        inference_ms: windows.inference_ms,
        total_ms: windows.total_ms,
        scaling: Vec::new(),
        profile: None,
        compared: None,
    };
    if args.scaling {
        figures.scaling = scaling(args)?;
    }
    if args.profile {
        let (manifest, mut model) = load(&args.model, args.threads, args.engine)?;
        let mut front_end = FrontEnd::new(&manifest.front_end);
        let picture = front_end.picture(&hiss(manifest.front_end.window_samples()));
        figures.profile = Some(profile::measure(&mut model, picture, args.windows, args.threads)?);
    }
    if let Some((path, earlier)) = &earlier {
        figures.compared = Some(figures.compare(path, earlier));
    }
    figures.print();
    out_file::json(args.json.as_deref(), &figures)?;
    if args.write_measured {
        crate::measured::write(&args.model, "bench", &figures.measured())?;
    }
    Ok(figures.ok)
}

/// The resampler is measured on so many strides at the most: its time does not change with them.
const RESAMPLED_MAX: u64 = 200;
/// A stride of it at the most, seconds: one of hours would fill the memory.
const RESAMPLED_S_MAX: f64 = 20.0;

fn load(dir: &Path, threads: u64, engine: EngineArg) -> anyhow::Result<(Manifest, Model)> {
    let executor = match threads {
        1 => Executor::SingleThread,
        n => Executor::multithread(n as usize),
    };
    let manifest = model_dir::read_manifest(dir)?;
    let model = model_dir::load_weights_for(dir, &manifest, executor, engine.into())?;
    Ok((manifest, model))
}

struct Windows {
    front_end_ms: Quantiles,
    inference_ms: Quantiles,
    total_ms: Quantiles,
    rss_mib: f64,
}

/// Windows of seeded sound through front end and network.
fn windows(manifest: &Manifest, model: Model, count: u64) -> anyhow::Result<Windows> {
    let mut scorer = Scorer::new(manifest, model);
    let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
    let mut sound = vec![0f32; manifest.front_end.window_samples()];
    let (mut front_end, mut inference, mut total) = (Vec::new(), Vec::new(), Vec::new());
    let mut rss_mib = 0f64;
    let bar = crate::progress::bar(count, "windows");
    // The first window pages memory in; it is run, and not counted.
    for window in 0..=count {
        let level: f32 = rng.random_range(0.001..0.3);
        sound.fill_with(|| level * rng.random_range(-1.0..1.0f32));
        let began = Instant::now();
        scorer.picture(&sound);
        let front_end_ms = ms(began);
        let middle = Instant::now();
        scorer.score().with_context(|| format!("the model {}", manifest.file))?;
        if window > 0 {
            front_end.push(front_end_ms);
            inference.push(ms(middle));
            total.push(ms(began));
            bar.inc(1);
        }
        rss_mib = rss_mib.max(resident_mib()?.0);
    }
    bar.finish_and_clear();
    Ok(Windows {
        front_end_ms: Quantiles::of(front_end),
        inference_ms: Quantiles::of(inference),
        total_ms: Quantiles::of(total),
        rss_mib,
    })
}

/// Times of the resampler, a stride at a time, and of the alarm, a window at a time.
fn around_the_network(manifest: &Manifest, count: u64) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let decision = manifest.decision;
    let mut resampler = Resampler::new(SOURCE_HZ, manifest.front_end.sample_rate_hz)?;
    let stride = hiss((decision.stride_s.min(RESAMPLED_S_MAX) * f64::from(SOURCE_HZ)) as usize);
    let mut alarm = Alarm::new(decision, SirenSettings { on_us: us(30.0), max_us: us(180.0) }, true, false);
    let (mut resample_ms, mut alarm_ms) = (Vec::new(), Vec::new());
    for window in 0..count.min(RESAMPLED_MAX) {
        let began = Instant::now();
        resampler.push(&stride, |piece| {
            std::hint::black_box(piece);
        });
        resample_ms.push(ms(began));
        let now = us(decision.stride_s * (window + 1) as f64);
        let began = Instant::now();
        std::hint::black_box(alarm.step(now, Event::Window { score: Some(window as f64 % 7.0 / 6.0), masked: false }));
        alarm_ms.push(ms(began));
    }
    Ok((resample_ms, alarm_ms))
}

/// Medians of inference on 1 to `--threads` threads.
fn scaling(args: &Args) -> anyhow::Result<Vec<Scaling>> {
    let mut rows: Vec<Scaling> = Vec::new();
    for threads in 1..=args.threads {
        let (manifest, model) = load(&args.model, threads, args.engine)?;
        let p50 = windows(&manifest, model, args.windows)?.inference_ms.p50;
        let one = rows.first().map_or(p50, |row| row.inference_ms_p50);
        rows.push(Scaling { threads, inference_ms_p50: p50, speedup: one / p50 });
    }
    Ok(rows)
}

/// Seeded sound at half of full scale.
fn hiss(samples: usize) -> Vec<f32> {
    let mut rng = rand::rngs::SmallRng::seed_from_u64(2);
    (0..samples).map(|_| rng.random_range(-0.5..0.5f32)).collect()
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_compared_with_is_refused_before_the_model_is_loaded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}").unwrap();
        let args = Args {
            model: "nowhere".into(),
            threads: 1,
            windows: 1,
            budget_ms: 1.0,
            pin: false,
            scaling: false,
            profile: false,
            engine: EngineArg::Best,
            compare: Some(file.path().into()),
            json: None,
            write_measured: false,
        };
        let cause = format!("{:#}", run(&args).unwrap_err());
        assert!(cause.contains("not a file of `bench --json`"), "{cause}");
    }
}
