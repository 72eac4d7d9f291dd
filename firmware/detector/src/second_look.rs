//! A second look at what may be a scream: the network is asked again with a part of the bands hidden, one part after the
//! other, and its answers are averaged with the first.
//!
//! A scream is harmonics over the whole spectrum and stays one with a quarter of it gone; what is taken for one because of a
//! single band, such as a telephone's bell, does not. It is test-time augmentation (Krizhevsky et al. 2012, section 4.1)
//! whose variants are those of an occlusion map (Zeiler and Fergus 2014). The mean is that of the logarithms of the
//! probabilities, brought back to a sum of 1. Hidden bands hold 0: the mean level, which
//! `normalisation = "fixed"` subtracts.

use serde::{Deserialize, Serialize};

use crate::keys::KeyError;
use crate::limits;
use crate::manifest::{Colormap, Manifest, Normalisation, Output};
use crate::model::{Model, RunError};

/// Below it a probability is taken for this: its logarithm must stay finite.
const PROBABILITY_MIN: f64 = 1e-12;

/// `[second_look]` of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondLook {
    /// Windows whose first score is at least this are looked at again, 0..1.
    pub from_score: f64,
    /// The bands are hidden in so many parts of equal height: as many more runs of the network.
    pub parts: usize,
}

impl SecondLook {
    /// Every mistake of these numbers in `manifest`, which is read from `file`.
    pub(crate) fn mistakes(&self, manifest: &Manifest, file: &str) -> Vec<KeyError> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, key: &str, cause: String| {
            if !good {
                wrong.push(KeyError::new(file, &format!("second_look{key}"), cause));
            }
        };
        // Else a window that was looked at once could pass a threshold that one looked at twice does not.
        let most = manifest.decision.threshold_off;
        check(
            (0.0..=most).contains(&self.from_score),
            ".from_score",
            format!("is {}, must be 0 to threshold_off ({most})", self.from_score),
        );
        let most = limits::SECOND_LOOK_PARTS_MAX.min(manifest.front_end.n_mels);
        check((2..=most).contains(&self.parts), ".parts", format!("is {}, must be 2 to {most}", self.parts));
        let front_end = &manifest.front_end;
        check(
            front_end.normalisation == Normalisation::Fixed && front_end.colormap == Colormap::None,
            "",
            "needs `normalisation = \"fixed\"` and `colormap = \"none\"`: elsewhere no value stands for an ordinary level"
                .into(),
        );
        check(
            manifest.output == Output::Logits,
            "",
            "needs `output = \"logits\"`: the average is that of a softmax".into(),
        );
        wrong
    }
}

/// A [`SecondLook`] with its buffers.
pub(crate) struct Looks {
    settings: SecondLook,
    n_mels: usize,
    /// The picture with a part of it hidden.
    hidden: Vec<f32>,
}

impl Looks {
    pub(crate) fn new(settings: SecondLook, manifest: &Manifest) -> Self {
        let cells = manifest.input_shape().iter().product();
        Self { settings, n_mels: manifest.front_end.n_mels, hidden: vec![0.0; cells] }
    }

    /// Whether a window of this first score is looked at again.
    pub(crate) fn wanted(&self, score: f64) -> bool {
        score >= self.settings.from_score
    }

    /// Turns `scores`, what `model` said of `picture`, into the average of that and of what it says of each part's absence.
    pub(crate) fn take(&mut self, model: &mut Model, picture: &[f32], scores: &mut [f64]) -> Result<(), RunError> {
        let log = |p: f64| p.max(PROBABILITY_MIN).ln();
        for score in scores.iter_mut() {
            *score = log(*score);
        }
        let frames = picture.len() / self.n_mels;
        let edge = |part: usize| part * self.n_mels / self.settings.parts * frames;
        for part in 0..self.settings.parts {
            self.hidden.copy_from_slice(picture);
            self.hidden[edge(part)..edge(part + 1)].fill(0.0);
            for (sum, score) in scores.iter_mut().zip(model.run(&self.hidden)?) {
                *sum += log(f64::from(*score));
            }
        }
        let looks = (self.settings.parts + 1) as f64;
        let mut sum = 0.0;
        for score in scores.iter_mut() {
            *score = (*score / looks).exp();
            sum += *score;
        }
        for score in scores {
            *score /= sum;
        }
        Ok(())
    }
}
