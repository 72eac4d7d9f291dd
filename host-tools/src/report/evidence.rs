//! What each incident's score rests on, worked out again from the numbers inside its picture (`files::picture::kept`).
//!
//! Needs the very model that heard it, by its SHA-256: another one's reasons are not this alarm's. The numbers are rounded,
//! and frames at the window's ends have been heard whole meanwhile, so the score comes out near the device's and is said.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use detector::front_end::FrontEnd;
use detector::manifest::Manifest;
use detector::model::{Executor, Model};
use files::event_record::EventRecord;
use files::model_dir;
use files::picture::kept::Kept;
use indicatif::ProgressBar;

use crate::explain::{self, occlude::Occlusion};

/// Explanations cost seconds each: those of the newest incidents.
const INCIDENTS_MAX: usize = 50;

/// The model that explains.
pub(super) struct Explainer {
    manifest: Manifest,
    model: Model,
    front_end: FrontEnd,
    left: usize,
}

/// A picture and what it says.
pub(super) struct Explained {
    pub(super) png: Vec<u8>,
    /// Where the evidence is largest: seconds of the device's sound, and hertz.
    pub(super) peak: Option<(f64, f32)>,
    /// The score that comes out.
    pub(super) score: f64,
}

impl Explainer {
    /// With the model in `dir`.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let (manifest, model) = model_dir::load(dir, Executor::SingleThread)?;
        let front_end = FrontEnd::new(&manifest.front_end);
        Ok(Self { manifest, model, front_end, left: INCIDENTS_MAX })
    }

    /// What the start of `record` rests on, from its picture.
    pub(super) fn explain(&mut self, record: &EventRecord, png: &[u8]) -> Result<Explained> {
        ensure!(
            record.model_sha256.eq_ignore_ascii_case(&self.manifest.sha256),
            "it was heard by another model (SHA-256 {}): name its folder with --model",
            record.model_sha256.chars().take(12).collect::<String>()
        );
        ensure!(self.left > 0, "only the newest {INCIDENTS_MAX} are explained");
        let kept = Kept::of_png(png).context("its picture does not hold its numbers")?;
        let config = &self.manifest.front_end;
        ensure!(kept.n_mels == config.n_mels, "its picture has {} bands, the model {}", kept.n_mels, config.n_mels);
        let hop_s = config.hop as f64 / f64::from(config.sample_rate_hz);
        // A picture is dark where sound is missing, and the network saw what was there joined.
        let lost = record.windows.iter().any(|window| window.gap && (window.t_end_s - record.start.t_s).abs() < hop_s);
        ensure!(!lost, "sound was lost inside the window that decided");
        let t_start_s = record.start.t_s - config.window_s;
        let last_s = t_start_s + (config.frames() - 1) as f64 * hop_s;
        let log_mel =
            kept.window(last_s, config.frames(), hop_s).context("its picture does not hold the whole window")?;
        self.left -= 1;
        self.front_end.picture_of(&log_mel);
        let bar = ProgressBar::hidden();
        let occlusion = Occlusion::of(&self.manifest, &self.model, &self.front_end, usize::MAX, &bar)?;
        let title = format!("What {} rests on: score {:.3}", record.start.label, occlusion.score);
        Ok(Explained {
            png: explain::picture(&self.manifest, &self.front_end, &occlusion, t_start_s, &title)?,
            peak: occlusion.peak(&self.manifest, &self.front_end).map(|(t_s, hz)| (t_start_s + t_s, hz)),
            score: occlusion.score,
        })
    }
}
