//! `bench --profile`: the time of each step of the network, and how near it comes to what the machine can do.

use std::time::Instant;

use detector::model::{Layer, Model};
use files::say;
use kernels::{Arithmetic, Kernels};
use serde::{Deserialize, Serialize};

use super::figures::Quantiles;

/// Rounds of one measurement of the peak: some milliseconds.
const SPIN_ROUNDS: usize = 4_000;
/// The peak is the best of so many: everything that disturbs makes it smaller.
const SPIN_TRIES: usize = 12;

/// All steps.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    /// What the kernels can do with data in the L1 data cache, on one thread: additions and multiplications, 1e9 a second.
    pub peak_gflops: f64,
    /// The same in 8-bit integers.
    pub peak_gops_int8: f64,
    pub layers: Vec<Timed>,
}

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub struct Timed {
    pub name: String,
    pub kind: String,
    /// Height, width, channels of its output.
    pub output: [usize; 3],
    /// Median, ms.
    pub p50_ms: f64,
    /// Share of all steps' medians, percent.
    pub share_percent: f64,
    /// Additions and multiplications, 1e9 a second; 0 for steps that are not counted.
    pub gflops: f64,
    /// Of the machine's peak in that arithmetic, over all threads, percent.
    pub peak_percent: f64,
}

/// Runs `windows` pictures and times each step. Empty where tract runs the network.
pub fn measure(model: &mut Model, picture: &[f32], windows: u64, threads: u64) -> anyhow::Result<Profile> {
    let layers = model.layers();
    let mut times = vec![Vec::with_capacity(windows as usize); layers.len()];
    for window in 0..=windows {
        let mut before = Instant::now();
        let mut after = |place: usize| {
            let now = Instant::now();
            // The first window pages memory in.
            if window > 0 {
                times[place].push((now - before).as_secs_f64() * 1000.0);
            }
            before = now;
        };
        model.run_watched(picture, &mut after)?;
    }
    let medians: Vec<f64> = times.into_iter().map(|times| Quantiles::of(times).p50).collect();
    let all: f64 = medians.iter().sum();
    let (float, integer) = (peak(Arithmetic::Float), peak(Arithmetic::Integer));
    let timed = |(layer, p50_ms): (Layer, f64)| {
        let gflops = 2.0 * layer.macs as f64 / p50_ms / 1e6;
        let peak = if layer.kind.contains("int8") { integer } else { float };
        Timed {
            name: layer.name,
            kind: layer.kind.to_string(),
            output: layer.output,
            p50_ms,
            share_percent: p50_ms / all * 100.0,
            gflops,
            peak_percent: gflops / (peak * threads as f64) * 100.0,
        }
    };
    Ok(Profile {
        peak_gflops: float,
        peak_gops_int8: integer,
        layers: layers.into_iter().zip(medians).map(timed).collect(),
    })
}

fn peak(arithmetic: Arithmetic) -> f64 {
    let once = || {
        let began = Instant::now();
        let macs = Kernels::best().spin(arithmetic, SPIN_ROUNDS);
        2.0 * macs as f64 / began.elapsed().as_secs_f64() / 1e9
    };
    (0..SPIN_TRIES).map(|_| once()).fold(0.0, f64::max)
}

impl Profile {
    /// As a table for people.
    pub fn print(&self) {
        if self.layers.is_empty() {
            say!("no profile: tract runs this network");
            return;
        }
        say!("peak on one thread: {:.0} GFLOP/s in f32, {:.0} Gop/s in int8", self.peak_gflops, self.peak_gops_int8);
        say!("{:44} {:24} {:>12} {:>9} {:>6} {:>8} {:>6}", "step", "kind", "output", "ms", "%", "GFLOP/s", "% peak");
        for layer in &self.layers {
            let output = layer.output.map(|extent| extent.to_string()).join("x");
            let (gflops, peak) = match layer.gflops {
                0.0 => (String::new(), String::new()),
                gflops => (format!("{gflops:.1}"), format!("{:.0}", layer.peak_percent)),
            };
            say!(
                "{:44} {:24} {output:>12} {:9.4} {:6.1} {gflops:>8} {peak:>6}",
                layer.name,
                layer.kind,
                layer.p50_ms,
                layer.share_percent
            );
        }
    }
}
