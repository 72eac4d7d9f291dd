//! From the source's samples to the score of each window: one piece of code for microphone, recording and `eval`.

use crate::front_end::FrontEnd;
use crate::manifest::Manifest;
use crate::model::{Model, RunError};
use crate::resample::{ResampleError, Resampler};
use crate::second_look::Looks;
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
    looks: Option<Looks>,
    alarm_places: Vec<usize>,
    scores: Vec<f64>,
}

/// How often a window is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The network runs once.
    Once,
    /// A second time where the manifest's `[second_look]` wants it: the product.
    AsScored,
    /// A second time wherever there is a `[second_look]`: the longest that a window takes.
    Twice,
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

/// A score as it is compared and reported.
pub(crate) fn rounded(score: f64) -> f64 {
    (score * SCORE_STEPS).round() / SCORE_STEPS
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
        Self {
            front_end,
            model,
            picture,
            looks: manifest.second_look.map(|settings| Looks::new(settings, manifest)),
            alarm_places: manifest.alarm_places().collect(),
            scores: vec![0.0; manifest.labels.len()],
        }
    }

    /// First half: the picture of `window`, kept for [`Self::score`].
    pub fn picture(&mut self, window: &[f32]) -> &[f32] {
        self.picture.copy_from_slice(self.front_end.picture(window));
        &self.picture
    }

    /// Second half: the network over the last picture, and over its parts where the manifest asks for a second look at such
    /// a score.
    ///
    /// # Errors
    /// [`RunError`]: such a window is no detection, and a fault.
    pub fn score(&mut self) -> Result<Scored<'_>, RunError> {
        self.look(Look::AsScored)
    }

    /// [`Self::score`] with a say in how often it is looked at: for who measures what a window takes.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn look(&mut self, look: Look) -> Result<Scored<'_>, RunError> {
        for (out, score) in self.scores.iter_mut().zip(self.model.run(&self.picture)?) {
            *out = f64::from(*score);
        }
        let first = self.alarm_score();
        let wanted = |looks: &&mut Looks| match look {
            Look::Once => false,
            Look::AsScored => looks.wanted(first),
            Look::Twice => true,
        };
        if let Some(looks) = self.looks.as_mut().filter(wanted) {
            looks.take(&mut self.model, &self.picture, &mut self.scores)?;
        }
        let score = rounded(self.alarm_score());
        for out in &mut self.scores {
            *out = rounded(*out);
        }
        let of_label = |place: &usize| self.scores[*place];
        let label = self.alarm_places.iter().copied().max_by(|a, b| of_label(a).total_cmp(&of_label(b))).unwrap_or(0);
        Ok(Scored { score, label, scores: &self.scores })
    }

    fn alarm_score(&self) -> f64 {
        self.alarm_places.iter().map(|place| self.scores[*place]).sum::<f64>().clamp(0.0, 1.0)
    }

    /// The front end, whose `log_mel` is still the last picture's.
    pub fn front_end(&self) -> &FrontEnd {
        &self.front_end
    }
}
