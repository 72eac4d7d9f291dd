//! False alarms per hour: scream-free recordings through the whole product.

use std::collections::BTreeMap;
use std::path::Path;

use detector::manifest::Manifest;
use detector::model::Model;
use serde::Serialize;

use super::table::Background;
use crate::poisson;
use crate::trace::Trace;

/// Alarms over the hours of the recordings.
#[derive(Serialize)]
pub struct Figures {
    pub hours: f64,
    pub alarms: u64,
    pub per_hour: f64,
    /// Exact Poisson interval of the rate.
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

/// The recordings and what was heard in them, in the same order.
pub struct Heard {
    /// Rows of the manifest.
    pub rows: Vec<Background>,
    /// Their traces.
    pub traces: Vec<Trace>,
}

/// Runs every recording of `folder` from a fresh start.
pub fn hear(manifest: &Manifest, model: &Model, folder: &Path, rows: Vec<Background>) -> anyhow::Result<Heard> {
    let bar = crate::progress::slow_bar(rows.len() as u64, "background");
    let files: Vec<_> = rows.iter().map(|row| folder.join(&row.file)).collect();
    let traces = Trace::of_files(manifest, model, &files, || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(Heard { rows, traces })
}

/// Its alarms, with the manifest's decision.
pub fn figures(manifest: &Manifest, heard: &Heard) -> Figures {
    let mut kinds: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    let (mut hours, mut alarms, mut files) = (0.0, 0, Vec::new());
    for (row, trace) in heard.rows.iter().zip(&heard.traces) {
        let (own_hours, own_alarms) = (trace.seconds / 3600.0, trace.starts(manifest.decision).len() as u64);
        let kind = kinds.entry(&row.kind).or_default();
        *kind = (kind.0 + own_hours, kind.1 + own_alarms);
        (hours, alarms) = (hours + own_hours, alarms + own_alarms);
        if own_alarms > 0 {
            files.push(row.file.clone());
        }
    }
    let [low, high] = poisson::ci95(alarms);
    Figures {
        hours,
        alarms,
        per_hour: alarms as f64 / hours,
        ci95: [low / hours, high / hours],
        kinds: kinds.into_iter().map(|(kind, (hours, alarms))| Kind { kind: kind.into(), hours, alarms }).collect(),
        files,
    }
}
