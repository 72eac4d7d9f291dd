//! From the source's samples to the score of each window: one piece of code for microphone, recording and `eval`.

use crate::front_end::FrontEnd;
use crate::manifest::Manifest;
use crate::model::{Model, RunError};
use crate::resample::{ResampleError, Resampler};
use crate::window::{SlidingWindow, Span};

/// Scores are compared and reported with six decimals: what a reader of the JSON lines compares with a threshold is the
/// very number that was compared.
const SCORE_STEPS: f64 = 1e6;

/// Resampler, sliding window and scorer with all their buffers.
pub struct Pipeline {
    resampler: Resampler,
    window: SlidingWindow,
    scorer: Scorer,
    rate_hz: u32,
    source_hz: u32,
    /// Model samples of the rates before this one.
    before: u64,
}

/// Picture and score of one window.
pub struct Scorer {
    front_end: FrontEnd,
    model: Model,
    picture: Vec<f32>,
    scores: Vec<f64>,
}

/// What a window was given.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// One a label, in the manifest's order, 0..1, six decimals.
    pub scores: &'a [f64],
    /// Of the alarm labels together, 0..1, six decimals.
    pub score: f64,
    /// Place of the alarm label that has the most of it.
    pub label: usize,
}

impl Pipeline {
    /// For a source of `rate_hz`; `stride_s` is the manifest's or the site's.
    ///
    /// # Errors
    /// Where the rate cannot be converted.
    pub fn new(manifest: &Manifest, model: Model, rate_hz: u32, stride_s: f64) -> Result<Self, ResampleError> {
        let config = &manifest.front_end;
        Ok(Self {
            resampler: Resampler::new(rate_hz, config.sample_rate_hz)?,
            window: SlidingWindow::new(config.window_samples(), stride_s * f64::from(config.sample_rate_hz)),
            rate_hz: config.sample_rate_hz,
            source_hz: rate_hz,
            before: 0,
            scorer: Scorer::new(manifest, model),
        })
    }

    /// Takes the source's next samples and calls `on_window` with each window that they fill: its place, its samples at
    /// the model's rate, and the scorer to ask. Allocates nothing itself.
    pub fn feed(&mut self, samples: &[f32], mut on_window: impl FnMut(Span, &[f32], &mut Scorer)) {
        let Self { resampler, window, scorer, .. } = self;
        resampler.push(samples, |piece| fill(window, piece, |span, sound| on_window(span, sound, scorer)));
    }

    /// The source goes on at another rate: a microphone that came back as another one. What the resampler still held is
    /// given first.
    ///
    /// # Errors
    /// Where the rate cannot be converted; the old one then stays.
    pub fn set_source_rate(
        &mut self,
        rate_hz: u32,
        mut on_window: impl FnMut(Span, &[f32], &mut Scorer),
    ) -> Result<(), ResampleError> {
        if rate_hz == self.source_hz {
            return Ok(());
        }
        let new = Resampler::new(rate_hz, self.rate_hz)?;
        let Self { resampler, window, scorer, .. } = self;
        resampler.finish(|piece| fill(window, piece, |span, sound| on_window(span, sound, scorer)));
        self.before += self.resampler.due();
        (self.resampler, self.source_hz) = (new, rate_hz);
        Ok(())
    }

    /// Model samples that the sound fed by now comes to.
    pub fn position(&self) -> u64 {
        self.before + self.resampler.due()
    }

    /// The source has ended: zeros up to the next window's end, so that every sample is scored.
    pub fn finish(&mut self, mut on_window: impl FnMut(Span, &[f32], &mut Scorer)) {
        let Self { resampler, window, scorer, .. } = self;
        resampler.finish(|piece| fill(window, piece, |span, sound| on_window(span, sound, scorer)));
        // In small pieces: a buffer of a whole window for this alone would be waste.
        let zeros = [0.0; 1024];
        let mut missing = window.missing();
        while missing > 0 {
            let piece = &zeros[..missing.min(zeros.len())];
            missing -= piece.len();
            fill(window, piece, |span, sound| on_window(span, sound, scorer));
        }
    }

    /// Seconds of the sound at model sample `sample`.
    pub fn seconds(&self, sample: u64) -> f64 {
        sample as f64 / f64::from(self.rate_hz)
    }

    /// The front end, for the axes of pictures.
    pub fn front_end(&self) -> &FrontEnd {
        &self.scorer.front_end
    }
}

fn fill(window: &mut SlidingWindow, mut piece: &[f32], mut on_window: impl FnMut(Span, &[f32])) {
    while !piece.is_empty() {
        let (rest, span) = window.push(piece);
        piece = rest;
        if let Some(span) = span {
            on_window(span, window.samples());
        }
    }
}

impl Scorer {
    /// With the manifest's front end.
    pub fn new(manifest: &Manifest, model: Model) -> Self {
        let front_end = FrontEnd::new(&manifest.front_end);
        let picture = vec![0.0; manifest.input_shape().iter().product()];
        Self { front_end, model, picture, scores: vec![0.0; manifest.labels.len()] }
    }

    /// First half: the picture of `window`, kept for [`Self::score`].
    pub fn picture(&mut self, window: &[f32]) -> &[f32] {
        self.picture.copy_from_slice(self.front_end.picture(window));
        &self.picture
    }

    /// Second half: the network over the last picture.
    ///
    /// # Errors
    /// [`RunError`]: such a window is no detection, and a fault.
    pub fn score(&mut self) -> Result<Scored<'_>, RunError> {
        let rounded = |score: f32| (f64::from(score) * SCORE_STEPS).round() / SCORE_STEPS;
        for (out, score) in self.scores.iter_mut().zip(self.model.run(&self.picture)?) {
            *out = rounded(*score);
        }
        Ok(Scored { score: rounded(self.model.alarm_score()), label: self.model.alarm_label(), scores: &self.scores })
    }

    /// The front end, whose `log_mel` is still the last picture's.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }
}
