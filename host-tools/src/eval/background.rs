//! False alarms per hour: scream-free recordings through the whole product.

use std::collections::BTreeMap;
use std::path::Path;

use detector::alarm::{Action, Alarm, Event, SirenSettings, us};
use detector::manifest::Manifest;
use detector::model::Model;
use detector::pipeline::Pipeline;
use files::recording::Recording;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::HasSplit;

#[derive(Debug, Clone, Deserialize)]
struct Row {
    file: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    split: String,
}

impl HasSplit for Row {
    fn split(&self) -> &str {
        &self.split
    }
}

/// Alarms over the hours of the recordings.
#[derive(Serialize)]
pub struct Figures {
    pub hours: f64,
    pub alarms: u64,
    pub per_hour: f64,
    /// Exact Poisson interval of the rate (Garwood 1936).
    pub ci95: [f64; 2],
    pub kinds: Vec<Kind>,
    /// The recordings that alarmed, for the one who wants to look.
    pub files: Vec<String>,
}

/// Of one kind.
#[derive(Serialize)]
pub struct Kind {
    pub kind: String,
    pub hours: f64,
    pub alarms: u64,
}

/// Runs every recording from a fresh start.
pub fn run(manifest: &Manifest, model: &Model, folder: &Path, split: Option<&str>) -> anyhow::Result<Figures> {
    let rows: Vec<Row> = super::read_manifest(folder, split)?;
    let bar = crate::progress::bar(rows.len() as u64, "background");
    let counted: Vec<(f64, u64)> = rows
        .par_iter()
        .map(|row| {
            let counted = alarms(manifest, model.clone(), &folder.join(&row.file))?;
            bar.inc(1);
            Ok(counted)
        })
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let mut kinds: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for (row, (hours, alarms)) in rows.iter().zip(&counted) {
        let kind = kinds.entry(&row.kind).or_default();
        kind.0 += hours;
        kind.1 += alarms;
    }
    let hours: f64 = counted.iter().map(|(hours, _)| hours).sum();
    let alarms: u64 = counted.iter().map(|(_, alarms)| alarms).sum();
    let [low, high] = poisson_ci95(alarms);
    Ok(Figures {
        hours,
        alarms,
        per_hour: alarms as f64 / hours,
        ci95: [low / hours, high / hours],
        kinds: kinds.into_iter().map(|(kind, (hours, alarms))| Kind { kind: kind.into(), hours, alarms }).collect(),
        files: rows
            .iter()
            .zip(&counted)
            .filter(|(_, (_, alarms))| *alarms > 0)
            .map(|(row, _)| row.file.clone())
            .collect(),
    })
}

/// Hours and alarm starts of one recording.
fn alarms(manifest: &Manifest, model: Model, path: &Path) -> anyhow::Result<(f64, u64)> {
    let mut recording = Recording::open(path)?;
    let rate_hz = recording.rate_hz();
    let mut pipeline = Pipeline::new(manifest, model, rate_hz, manifest.decision.stride_s)?;
    let mut alarm = Alarm::new(manifest.decision, SirenSettings { on_us: 0, max_us: 0 }, true, false);
    let model_hz = f64::from(manifest.front_end.sample_rate_hz);
    let (mut samples, mut starts, mut failed) = (0usize, 0u64, None);
    let mut on_window = |end: u64, sound: &[f32], scorer: &mut detector::pipeline::Scorer| {
        scorer.picture(sound);
        match scorer.score() {
            Ok(scored) => {
                let event = Event::Window { score: Some(scored.score), masked: false };
                let actions = alarm.step(us(end as f64 / model_hz), event);
                starts += actions.iter().filter(|action| matches!(action, Action::Start { .. })).count() as u64;
            }
            Err(error) => failed = Some(error),
        }
    };
    while let Some(piece) = recording.next_piece()? {
        samples += piece.len();
        pipeline.feed(piece, |span, sound, scorer| on_window(span.end, sound, scorer));
    }
    pipeline.finish(|span, sound, scorer| on_window(span.end, sound, scorer));
    match failed {
        Some(error) => Err(anyhow::Error::new(error).context(path.display().to_string())),
        None => Ok((samples as f64 / f64::from(rate_hz) / 3600.0, starts)),
    }
}

/// The interval of a Poisson mean of which `count` were seen: no mean outside it gives so few or so many in more than
/// 2.5 % of cases.
fn poisson_ci95(count: u64) -> [f64; 2] {
    // P(X <= k) falls as the mean grows; the bounds lie where it, or its complement, is 2.5 %.
    let at_most = |k: f64, mean: f64| {
        let mut term = (-mean).exp();
        let mut sum = term;
        let mut i = 1.0;
        while i <= k {
            term *= mean / i;
            sum += term;
            i += 1.0;
        }
        sum
    };
    let solve = |wanted: f64, k: f64| {
        let (mut low, mut high) = (0.0, 20.0 + 2.0 * k + 10.0 * (k + 1.0).sqrt());
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if at_most(k, middle) > wanted { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let k = count as f64;
    [if count == 0 { 0.0 } else { solve(0.975, k - 1.0) }, solve(0.025, k)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_agree_with_the_tables() {
        // Garwood's table: 0 -> 0..3.689, 1 -> 0.0253..5.572, 10 -> 4.795..18.39.
        for (count, low, high) in [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.391)] {
            let [a, b] = poisson_ci95(count);
            assert!((a - low).abs() < 2e-3 && (b - high).abs() < 2e-3, "{count}: {a} {b}");
        }
    }
}
