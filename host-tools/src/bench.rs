//! `host-tools bench --model DIR [--threads N] [--windows N] [--budget-ms 2000] [--json FILE]`
//!
//! Latency of front end and inference over seeded sound, load time, and the memory resident while windows run. The budget
//! is for one window altogether; exit 1 where its p99 is over it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use detector::model::Executor;
use detector::pipeline::Scorer;
use files::model_dir;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Threads for matrix products
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Windows to run
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    windows: u64,
    /// What one window may take, milliseconds
    #[arg(long, default_value_t = 2000.0)]
    budget_ms: f64,
    /// Also as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Figures {
    model: String,
    model_sha256: String,
    machine: String,
    load_ms: f64,
    rss_mib: f64,
    threads: u64,
    windows: u64,
    front_end_ms: Quantiles,
    inference_ms: Quantiles,
    total_ms: Quantiles,
    budget_ms: f64,
    ok: bool,
}

/// Measures; false where the budget is broken.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    let executor = match args.threads {
        1 => Executor::SingleThread,
        n => Executor::multithread(n as usize),
    };
    let began = Instant::now();
    let (manifest, model) = model_dir::load(&args.model, executor)?;
    let load_ms = ms(began);
    println!("{}", model.engine());
    let mut scorer = Scorer::new(&manifest, model);
    let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
    let mut sound = vec![0f32; manifest.front_end.window_samples()];
    let (mut front_end, mut inference, mut total) = (Vec::new(), Vec::new(), Vec::new());
    let mut rss_mib = 0f64;
    let bar = crate::progress::bar(args.windows, "windows");
    // The first window pages memory in; it is run, and not counted.
    for window in 0..=args.windows {
        let level: f32 = rng.random_range(0.001..0.3);
        sound.fill_with(|| level * rng.random_range(-1.0..1.0f32));
        let began = Instant::now();
        scorer.picture(&sound);
        let front_end_ms = ms(began);
        let middle = Instant::now();
        scorer.score()?;
        if window > 0 {
            front_end.push(front_end_ms);
            inference.push(ms(middle));
            total.push(ms(began));
            bar.inc(1);
        }
        rss_mib = rss_mib.max(resident_mib()?);
    }
    bar.finish_and_clear();
    let total_ms = quantiles(&mut total);
    let figures = Figures {
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: manifest.sha256.clone(),
        machine: machine(),
        load_ms,
        rss_mib,
        threads: args.threads,
        windows: args.windows,
        front_end_ms: quantiles(&mut front_end),
        inference_ms: quantiles(&mut inference),
        ok: total_ms.p99 <= args.budget_ms,
        total_ms,
        budget_ms: args.budget_ms,
    };
    println!("{} on {}", figures.model, figures.machine);
    println!(
        "load {:.0} ms, {:.1} MiB resident, {} thread(s), {} windows",
        figures.load_ms, figures.rss_mib, figures.threads, figures.windows
    );
    println!("{:12} {:>9} {:>9} {:>9} {:>9}   ms", "", "p50", "p95", "p99", "max");
    for (name, q) in
        [("front end", &figures.front_end_ms), ("inference", &figures.inference_ms), ("total", &figures.total_ms)]
    {
        println!("{name:12} {:9.3} {:9.3} {:9.3} {:9.3}", q.p50, q.p95, q.p99, q.max);
    }
    println!(
        "p99 {:.1} ms against a budget of {} ms: {}",
        figures.total_ms.p99,
        figures.budget_ms,
        if figures.ok { "ok" } else { "over" }
    );
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?).with_context(|| path.display().to_string())?;
    }
    Ok(figures.ok)
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Nearest-rank quantiles; `values` is not empty.
fn quantiles(values: &mut [f64]) -> Quantiles {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
    Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
}

/// Resident memory of this process, MiB.
fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.context("/proc/self/status: no VmRSS")? / 1024.0)
}

/// Processor, cores and architecture, as the system names them.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name").or(line.strip_prefix("Model")))
        .and_then(|rest| rest.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim())
        .to_string();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cores} core(s), {}", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let q = quantiles(&mut (1..=100).rev().map(f64::from).collect::<Vec<_>>());
        assert_eq!((q.p50, q.p95, q.p99, q.max), (50.0, 95.0, 99.0, 100.0));
        let q = quantiles(&mut [3.0]);
        assert_eq!((q.p50, q.max), (3.0, 3.0));
    }
}
