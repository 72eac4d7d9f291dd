//! What `bench` writes, and what it reads again with `--compare`.

use std::path::Path;

use anyhow::Context;
use files::say;
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::profile::Profile;

/// Quantiles of some times, ms, by the nearest rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95 in 100 are no more.
    pub p95: f64,
    /// 99 in 100 are no more.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Quantiles {
    /// Of `values`, which are not empty.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| values[((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figures {
    pub model: String,
    pub model_sha256: String,
    /// What ran the network, and in which arithmetic.
    pub engine: String,
    pub machine: Machine,
    pub pinned: bool,
    pub load_ms: f64,
    /// Resident while the windows ran.
    pub rss_mib: f64,
    /// The most that ever was, loading included.
    pub rss_peak_mib: f64,
    pub threads: u64,
    pub windows: u64,
    /// One stride of sound at 48 kHz to the model's rate.
    pub resample_ms: Quantiles,
    pub front_end_ms: Quantiles,
    pub inference_ms: Quantiles,
    /// One step of the alarm.
    pub alarm_ms: Quantiles,
    /// Front end and inference of one window.
    pub total_ms: Quantiles,
    /// Resampling and front end, percent of one core at the model's stride.
    pub before_network_percent: f64,
    pub budget_ms: f64,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaling: Vec<Scaling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

/// Inference on some number of threads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scaling {
    pub threads: u64,
    pub inference_ms_p50: f64,
    /// Times as fast as one thread.
    pub speedup: f64,
}

/// This run over an earlier one: under 1 is better.
#[derive(Debug, Serialize, Deserialize)]
pub struct Compared {
    pub file: String,
    pub load_ratio: f64,
    pub rss_ratio: f64,
    pub front_end_ratio: f64,
    pub inference_ratio: f64,
    pub total_ratio: f64,
    /// What else differs between the two runs, so that ratios may say nothing.
    pub differs: Vec<String>,
}

impl Figures {
    /// What a person wants to know of a model's speed, for its manifest: milliseconds and MiB, and where they were measured.
    pub fn measured(&self) -> toml::Table {
        let rounded = |value: f64| toml::Value::Float((value * 1e3).round() / 1e3);
        let quantiles = |of: &Quantiles| {
            let rows = [("p50", of.p50), ("p95", of.p95), ("p99", of.p99)];
            toml::Value::Table(rows.into_iter().map(|(name, value)| (name.to_string(), rounded(value))).collect())
        };
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        toml::Table::from_iter([
            ("date".to_string(), date.into()),
            ("machine".into(), format!("{}, {}", self.machine.processor, self.machine.arch).into()),
            ("engine".into(), self.engine.clone().into()),
            ("threads".into(), (self.threads as i64).into()),
            ("windows".into(), (self.windows as i64).into()),
            ("rss_mib".into(), rounded(self.rss_mib)),
            ("front_end_ms".into(), quantiles(&self.front_end_ms)),
            ("inference_ms".into(), quantiles(&self.inference_ms)),
            ("total_ms".into(), quantiles(&self.total_ms)),
        ])
    }

    /// As a table for people.
    pub fn print(&self) {
        say!("{} in {}", self.model, self.engine);
        say!("on {}{}", self.machine, if self.pinned { ", pinned" } else { "" });
        say!(
            "load {:.0} ms, {:.1} MiB resident (most {:.1}), {} thread(s), {} windows",
            self.load_ms,
            self.rss_mib,
            self.rss_peak_mib,
            self.threads,
            self.windows
        );
        say!("{:12} {:>9} {:>9} {:>9} {:>9}   ms", "", "p50", "p95", "p99", "max");
        for (name, q) in [
            ("resampler", &self.resample_ms),
            ("front end", &self.front_end_ms),
            ("inference", &self.inference_ms),
            ("alarm", &self.alarm_ms),
            ("total", &self.total_ms),
        ] {
            say!("{name:12} {:9.3} {:9.3} {:9.3} {:9.3}", q.p50, q.p95, q.p99, q.max);
        }
        say!("resampler and front end: {:.2} % of one core", self.before_network_percent);
        for scaling in &self.scaling {
            say!(
                "{:2} thread(s): inference {:9.3} ms, {:.2} times as fast as one",
                scaling.threads,
                scaling.inference_ms_p50,
                scaling.speedup
            );
        }
        if let Some(profile) = &self.profile {
            profile.print();
        }
        if let Some(compared) = &self.compared {
            say!(
                "beside {}: load x{:.2}, memory x{:.2}, front end x{:.2}, inference x{:.2}, total x{:.2} (medians)",
                compared.file,
                compared.load_ratio,
                compared.rss_ratio,
                compared.front_end_ratio,
                compared.inference_ratio,
                compared.total_ratio
            );
            for difference in &compared.differs {
                say!("  but {difference}");
            }
        }
        say!(
            "p99 {:.1} ms against a budget of {} ms: {}",
            self.total_ms.p99,
            self.budget_ms,
            if self.ok { "ok" } else { "over" }
        );
    }

    /// An earlier run's file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read(path).with_context(|| file.clone())?;
        serde_json::from_slice(&text).with_context(|| format!("{file}: not a file of `bench --json`"))
    }

    /// Beside an earlier run, read from `path`.
    pub fn compare(&self, path: &Path, earlier: &Self) -> Compared {
        let mut differs = Vec::new();
        let mut differ = |what: &str, now: &dyn std::fmt::Display, then: &dyn std::fmt::Display| {
            let (now, then) = (now.to_string(), then.to_string());
            if now != then {
                differs.push(format!("the {what} was {then}, is {now}"));
            }
        };
        differ("machine", &self.machine, &earlier.machine);
        differ("model", &self.model_sha256, &earlier.model_sha256);
        differ("engine", &self.engine, &earlier.engine);
        differ("number of threads", &self.threads, &earlier.threads);
        differ("pinning", &self.pinned, &earlier.pinned);
        Compared {
            file: path.display().to_string(),
            load_ratio: self.load_ms / earlier.load_ms,
            rss_ratio: self.rss_mib / earlier.rss_mib,
            front_end_ratio: self.front_end_ms.p50 / earlier.front_end_ms.p50,
            inference_ratio: self.inference_ms.p50 / earlier.inference_ms.p50,
            total_ratio: self.total_ms.p50 / earlier.total_ms.p50,
            differs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let q = Quantiles::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((q.p50, q.p95, q.p99, q.max), (50.0, 95.0, 99.0, 100.0));
        let q = Quantiles::of(vec![3.0]);
        assert_eq!((q.p50, q.max), (3.0, 3.0));
    }
}
