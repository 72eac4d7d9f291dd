//! Recall where it gets hard: screams in background sound at falling signal-to-noise ratios, and from a distance.
//!
//! Each scream, cut as in the clip figures, stands alone in a stretch that begins a window before it at a seeded phase of
//! the stride; found is one in whose windows the product's decision, fresh with the first of them, starts an alarm. *SNR*
//! is the scream's level over the bed's while it lasts, in beds that have no gap there; the bed is scaled, the scream keeps
//! its level where their sum has room for it. *Distance* takes the clip for a recording from one metre, weakens it, and adds
//! the echoes of a simulated room, in pink noise 40 dB under the level at one metre.

use std::path::Path;

use anyhow::Context;
use detector::manifest::Manifest;
use detector::model::Model;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rayon::prelude::*;
use serde::Serialize;

use super::bed::{self, Bed};
use super::bootstrap::found_interval;
use super::lay::{self, rms};
use super::table::Clip;
use super::{clips, stream};
use crate::rooms::{self, Room};
use crate::trace::{Cores, Trace};

const SNRS_DB: [f32; 5] = [20.0, 10.0, 5.0, 0.0, -5.0];
const DISTANCES_M: [f64; 3] = [1.0, 5.0, 10.0];
/// Noise of a quiet room under a scream at one metre.
const QUIET_DB: f32 = -40.0;

/// Recall by SNR. Of no screams it is not a number, which JSON writes as null.
#[derive(Serialize)]
pub struct NoiseFigures {
    pub n: usize,
    /// Stretches that alarm without their scream, at the bed's own level.
    pub alone: usize,
    pub snrs: Vec<AtSnr>,
}

#[derive(Serialize)]
pub struct AtSnr {
    pub snr_db: f32,
    pub found: usize,
    pub recall: f64,
    /// By group; none without screams.
    pub ci95: Option<[f64; 2]>,
}

/// Recall by distance, as by SNR.
#[derive(Serialize)]
pub struct DistanceFigures {
    pub n: usize,
    pub distances: Vec<AtDistance>,
}

#[derive(Serialize)]
pub struct AtDistance {
    pub distance_m: f64,
    pub found: usize,
    pub recall: f64,
    /// By group; none without screams.
    pub ci95: Option<[f64; 2]>,
}

/// What all stretches have in common.
struct Stretch<'a> {
    manifest: &'a Manifest,
    model: &'a Model,
    window: usize,
    stride: usize,
}

impl<'a> Stretch<'a> {
    fn new(manifest: &'a Manifest, model: &'a Model) -> Self {
        let stride = (manifest.decision.stride_s * f64::from(manifest.front_end.sample_rate_hz)).round() as usize;
        Self { manifest, model, window: manifest.front_end.window_samples(), stride: stride.max(1) }
    }

    /// Where the scream begins, and the stretch's length.
    fn plan(&self, clip: usize, rng: &mut SmallRng) -> (usize, usize) {
        let start = self.window + rng.random_range(0..self.stride);
        (start, start + clip + self.window)
    }

    /// Whether an alarm starts in the windows that hold some of what lies at `start`. Those before it are left out: a bed that
    /// alarms by itself would hide the scream behind its own incident.
    fn found(&self, sound: &[f32], start: usize, clip: usize) -> anyhow::Result<bool> {
        let mut trace = Trace::of_sound(self.manifest, self.model, sound, Cores::One)?;
        let rate_hz = f64::from(self.manifest.front_end.sample_rate_hz);
        let event = (start as f64 / rate_hz, (start + clip) as f64 / rate_hz);
        let reach_s = self.manifest.front_end.window_s;
        trace.windows.retain(|(end_s, _)| stream::belongs(*end_s, event, reach_s));
        Ok(!trace.starts(self.manifest.decision).is_empty())
    }
}

/// Screams of `rows` in `bed`.
pub fn noise(
    manifest: &Manifest,
    model: &Model,
    folder: &Path,
    rows: &[&Clip],
    cut_s: f64,
    bed: &Bed,
) -> anyhow::Result<NoiseFigures> {
    let stretch = Stretch::new(manifest, model);
    let bar = crate::progress::bar((rows.len() * (SNRS_DB.len() + 1)) as u64, "noise");
    // A row a scream: found at each SNR, and without the scream.
    let found: Vec<[bool; SNRS_DB.len() + 1]> = rows
        .par_iter()
        .enumerate()
        .map(|(i, row)| -> anyhow::Result<_> {
            let clip = clips::cut(manifest, folder, &row.file, cut_s)?;
            let mut rng = SmallRng::seed_from_u64(i as u64);
            let (start, length) = stretch.plan(clip.len(), &mut rng);
            let span = start..start + clip.len();
            let own = bed.sounding(i, length, span.clone())?;
            let level = rms(&own[span.clone()]).max(1e-9);
            let mut found = [false; SNRS_DB.len() + 1];
            for (found, snr_db) in found.iter_mut().zip(SNRS_DB) {
                let gain = rms(&clip) / level * 10f32.powf(-snr_db / 20.0);
                let mut sound: Vec<f32> = own.iter().map(|x| gain * x).collect();
                bed::add(&mut sound, start, &clip, 1.0);
                bed::limit(&mut sound, span.clone());
                *found = stretch.found(&sound, start, clip.len()).with_context(|| row.file.clone())?;
                bar.inc(1);
            }
            found[SNRS_DB.len()] = stretch.found(&own, start, clip.len())?;
            bar.inc(1);
            Ok(found)
        })
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let count = |column: usize| found.iter().filter(|row| row[column]).count();
    let snrs = SNRS_DB.into_iter().enumerate().map(|(column, snr_db)| AtSnr {
        snr_db,
        found: count(column),
        recall: count(column) as f64 / rows.len() as f64,
        ci95: interval(rows, &found, column),
    });
    Ok(NoiseFigures { n: rows.len(), snrs: snrs.collect(), alone: count(SNRS_DB.len()) })
}

/// Screams of `rows` from some metres away.
pub fn distance(
    manifest: &Manifest,
    model: &Model,
    folder: &Path,
    rows: &[&Clip],
    cut_s: f64,
) -> anyhow::Result<DistanceFigures> {
    let stretch = Stretch::new(manifest, model);
    let rate_hz = manifest.front_end.sample_rate_hz;
    let bar = crate::progress::bar((rows.len() * DISTANCES_M.len()) as u64, "distance");
    let found: Vec<[bool; DISTANCES_M.len()]> = rows
        .par_iter()
        .enumerate()
        .map(|(i, row)| -> anyhow::Result<_> {
            let clip = clips::cut(manifest, folder, &row.file, cut_s)?;
            let mut rng = SmallRng::seed_from_u64(i as u64);
            let (start, length) = stretch.plan(clip.len(), &mut rng);
            let room = Room::long(&mut rng);
            let quiet = lay::pink_noise(&row.file, length);
            let mut found = [false; DISTANCES_M.len()];
            for (found, distance_m) in found.iter_mut().zip(DISTANCES_M) {
                let heard = rooms::convolve(&clip, &room.response(distance_m, rate_hz, &mut rng));
                let noise = bed::gain_over(&quiet, rms(&clip), QUIET_DB);
                let mut sound: Vec<f32> = quiet.iter().map(|x| noise * x).collect();
                bed::add(&mut sound, start, &heard, 1.0);
                bed::limit(&mut sound, start..start + clip.len());
                *found = stretch.found(&sound, start, clip.len()).with_context(|| row.file.clone())?;
                bar.inc(1);
            }
            Ok(found)
        })
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let distances = DISTANCES_M.into_iter().enumerate().map(|(column, distance_m)| {
        let count = found.iter().filter(|row| row[column]).count();
        let ci95 = interval(rows, &found, column);
        AtDistance { distance_m, found: count, recall: count as f64 / rows.len() as f64, ci95 }
    });
    Ok(DistanceFigures { n: rows.len(), distances: distances.collect() })
}

/// Of the recall in one column of `found`, which has a row a scream.
fn interval<const N: usize>(rows: &[&Clip], found: &[[bool; N]], column: usize) -> Option<[f64; 2]> {
    found_interval(rows.iter().zip(found).map(|(row, found)| (row.group(), found[column])))
}
