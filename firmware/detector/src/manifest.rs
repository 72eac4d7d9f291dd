//! The model manifest: everything about a model that is not weights.
//!
//! Front-end parameters stand here and nowhere else: the device, the tools and the training recipe read this file.

use serde::{Deserialize, Serialize};

use crate::golden::Golden;
use crate::keys::{self, KeyError};
use crate::limits;

/// `models/<name>/manifest.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this file's form: 1.
    pub schema: u32,
    /// The model's name.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// The weights' file name, beside the manifest: `.nnef.tgz` or `.onnx`. Empty in what `convert` takes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// SHA-256 of the weights file, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// One label an output of the network.
    pub labels: Vec<String>,
    /// The labels whose scores together are the alarm's score.
    pub alarm_labels: Vec<String>,
    /// What the network puts out.
    #[serde(default)]
    pub output: Output,
    /// Divides the logits before softmax; 1 leaves them as they are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub temperature: f64,
    /// How the device computes the network.
    #[serde(default, skip_serializing_if = "is_float")]
    pub arithmetic: Arithmetic,
    /// From sound to picture.
    pub front_end: FrontEnd,
    /// From scores to alarms.
    pub decision: Decision,
    /// Written by `convert`: what these weights make of a known sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
    /// Written by `eval` and `bench`, read by people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<toml::Table>,
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn is_float(value: &Arithmetic) -> bool {
    *value == Arithmetic::Float
}

/// How the device computes the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// In f32, whatever the weights are stored in.
    #[default]
    Float,
    /// Convolutions in 8-bit integers where weights are stored in 8 bits and activations are never negative: several times
    /// faster, and another rounding of the network. Only where `quant-check` and `eval` have shown that it costs nothing.
    Integer,
}

impl From<Arithmetic> for kernels::Arithmetic {
    fn from(arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::Float => Self::Float,
            Arithmetic::Integer => Self::Integer,
        }
    }
}

/// What the network puts out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Unbounded numbers: softmax is ours.
    #[default]
    Logits,
    /// Numbers of 0..1 already.
    Probabilities,
}

/// From sound to picture: torchaudio's `MelSpectrogram` and what follows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEnd {
    /// Sampling rate of the window, hertz.
    pub sample_rate_hz: u32,
    /// Length of the window, seconds.
    pub window_s: f64,
    /// FFT length and Hann window length, samples.
    pub n_fft: usize,
    /// Distance of two frames, samples.
    pub hop: usize,
    /// Mel bands.
    pub n_mels: usize,
    /// Lower end of the lowest band, hertz.
    pub f_min_hz: f64,
    /// Upper end of the highest band, hertz.
    pub f_max_hz: f64,
    /// Formula between hertz and mel.
    pub mel_scale: MelScale,
    /// Logarithm of the mel power.
    pub log: Log,
    /// How the picture's values are brought to a common scale.
    pub normalisation: Normalisation,
    /// For `fixed`: one number, or one a band, in log2 units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<PerBand>,
    /// For `fixed`: one number, or one a band, in log2 units, above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<PerBand>,
    /// One channel, or three of Viridis.
    #[serde(default)]
    pub colormap: Colormap,
    /// With Viridis: subtracted from R, G, B.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rgb_mean: Option<[f32; 3]>,
    /// With Viridis: divides R, G, B after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rgb_deviation: Option<[f32; 3]>,
}

/// Formula between hertz and mel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MelScale {
    /// 2595 log10(1 + f / 700).
    Htk,
    /// Linear to 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    Slaney,
}

/// Logarithm of the mel power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// log2(x + 1e-10).
    Log2,
}

/// How the picture's values are brought to a common scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// The window's own extremes become 0 and 1; where they are equal: zeros.
    MinMax,
    /// (x - mean) / deviation with the manifest's numbers.
    Fixed,
    /// As they are.
    None,
}

/// Channels of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colormap {
    /// One channel.
    #[default]
    None,
    /// R, G, B of 0..1 as matplotlib's imsave writes them.
    Viridis,
}

/// One number for all bands, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerBand {
    /// For all bands.
    One(f32),
    /// One a band, lowest first.
    Each(Vec<f32>),
}

impl PerBand {
    /// The number of band `band`.
    pub fn of(&self, band: usize) -> f32 {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values.get(band).copied().unwrap_or_default(),
        }
    }
}

/// From scores to alarms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Distance of two windows, seconds.
    pub stride_s: f64,
    /// A window with at least this score is a hit.
    pub threshold_on: f64,
    /// A window with at least this score keeps an incident going; never above `threshold_on`.
    pub threshold_off: f64,
    /// `needed` hits among the last `of` windows start an alarm.
    pub votes: Votes,
    /// An incident ends this long after its last window at `threshold_off` or above, seconds.
    pub hold_s: f64,
    /// No alarm starts for this long after an end, seconds.
    pub cooldown_s: f64,
}

/// m of n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Votes {
    /// Hits needed, from 1.
    pub needed: u32,
    /// Windows looked at, from `needed`.
    pub of: u32,
}

impl Manifest {
    /// Parses and checks a manifest that stands beside its weights.
    ///
    /// # Errors
    /// Every mistake found, at least one.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<KeyError>> {
        let manifest = Self::parse_unconverted(file, text)?;
        let mut wrong = Vec::new();
        if manifest.file.is_empty() {
            wrong.push(
                KeyError::new(file, "file", "missing").hint("the weights' file name; `host-tools convert` writes it"),
            );
        } else if manifest.file.contains(['/', '\\']) || manifest.file.starts_with('.') {
            wrong.push(KeyError::new(file, "file", "must be a plain file name beside the manifest"));
        } else if !(manifest.file.ends_with(".nnef.tgz") || manifest.file.ends_with(".onnx")) {
            wrong.push(KeyError::new(file, "file", "must end in .nnef.tgz or .onnx"));
        }
        if manifest.sha256.len() != 64 || !manifest.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            wrong.push(KeyError::new(file, "sha256", "must be 64 hexadecimal digits"));
        }
        if wrong.is_empty() { Ok(manifest) } else { Err(wrong) }
    }

    /// Parses and checks a manifest that has no weights yet, as `convert --manifest` takes it.
    ///
    /// # Errors
    /// Every mistake found, at least one.
    pub fn parse_unconverted(file: &str, text: &str) -> Result<Self, Vec<KeyError>> {
        keys::parse_checked(file, text, |manifest: &Self| manifest.mistakes(file))
    }

    fn mistakes(&self, file: &str) -> Vec<KeyError> {
        let mut found = Mistakes::of(file, "");
        found.check(self.schema == 1, "schema", format!("is {}, this program knows 1", self.schema));
        found.check(!self.name.is_empty(), "name", "must not be empty".into());
        // They stand in every alert, whose size is bounded.
        let texts = [("name", &self.name), ("version", &self.version)];
        for (key, text) in texts.into_iter().chain(self.labels.iter().map(|label| ("labels", label))) {
            let fits = text.len() <= limits::TEXT_BYTES_MAX && !text.chars().any(char::is_control);
            found.check(
                fits,
                key,
                format!("must be of {} bytes at most, without control characters", limits::TEXT_BYTES_MAX),
            );
        }
        // The softmax of one number is 1, whatever was heard.
        found.check(
            self.labels.len() != 1 || self.output != Output::Logits,
            "labels",
            "one label of logits scores 1 always: end the network with a sigmoid and write output = \"probabilities\""
                .into(),
        );
        found.check(
            (1..=limits::LABELS_MAX).contains(&self.labels.len()),
            "labels",
            format!("must be 1 to {}", limits::LABELS_MAX),
        );
        for (place, label) in self.labels.iter().enumerate() {
            found.check(!self.labels[..place].contains(label), "labels", format!("`{label}` stands twice"));
        }
        found.check(!self.alarm_labels.is_empty(), "alarm_labels", "must name one label at least".into());
        for (place, label) in self.alarm_labels.iter().enumerate() {
            found.check(self.labels.contains(label), "alarm_labels", format!("`{label}` is not among `labels`"));
            found.check(!self.alarm_labels[..place].contains(label), "alarm_labels", format!("`{label}` stands twice"));
        }
        // In the precision it is used in: what becomes 0 there makes no score.
        let temperature = self.temperature as f32;
        found.check(
            temperature.is_normal() && temperature > 0.0,
            "temperature",
            format!("is {}, must be above 0", self.temperature),
        );
        let mut wrong = found.wrong;
        wrong.extend(self.front_end.mistakes(file));
        wrong.extend(self.decision.mistakes(file));
        wrong
    }

    /// Places of `alarm_labels` among `labels`.
    pub fn alarm_places(&self) -> impl Iterator<Item = usize> + '_ {
        self.alarm_labels.iter().filter_map(|alarm| self.labels.iter().position(|label| label == alarm))
    }

    /// A stride beyond the window leaves sound between two windows that no score tells of: allowed, and said.
    pub fn unheard(&self, decision: &Decision, file: &str) -> Option<KeyError> {
        let (stride_s, window_s) = (decision.stride_s, self.front_end.window_s);
        let cause =
            || format!("is {stride_s}, longer than the model's window of {window_s} s: sound between is never heard");
        (stride_s > window_s).then(|| KeyError::new(file, "decision.stride_s", cause()))
    }

    /// Shape of the network's input: batch, channels, mel bands, frames.
    pub fn input_shape(&self) -> [usize; 4] {
        [1, self.front_end.channels(), self.front_end.n_mels, self.front_end.frames()]
    }
}

impl FrontEnd {
    /// Window length in samples.
    pub fn window_samples(&self) -> usize {
        (self.window_s * f64::from(self.sample_rate_hz)).round() as usize
    }

    /// Frames of a picture: centred, so one more than whole hops.
    pub fn frames(&self) -> usize {
        1 + self.window_samples() / self.hop
    }

    /// Channels of a picture.
    pub fn channels(&self) -> usize {
        match self.colormap {
            Colormap::None => 1,
            Colormap::Viridis => 3,
        }
    }

    fn mistakes(&self, file: &str) -> Vec<KeyError> {
        let mut found = Mistakes::of(file, "front_end.");
        self.check_spectrogram(&mut found);
        self.check_normalisation(&mut found);
        self.check_colours(&mut found);
        found.wrong
    }

    fn check_spectrogram(&self, found: &mut Mistakes) {
        let rate = self.sample_rate_hz;
        let rates = limits::RATE_HZ;
        found.check(
            rates.contains(&rate),
            "sample_rate_hz",
            format!("is {rate}, must be {} to {}", rates.start(), rates.end()),
        );
        found.check(
            self.window_s > 0.0 && self.window_s <= limits::WINDOW_S_MAX,
            "window_s",
            format!("is {}, must be above 0, at most {}", self.window_s, limits::WINDOW_S_MAX),
        );
        found.check(
            (2..=limits::N_FFT_MAX).contains(&self.n_fft) && self.n_fft.is_multiple_of(2),
            "n_fft",
            format!("is {}, must be even, 2 to {}", self.n_fft, limits::N_FFT_MAX),
        );
        found.check(
            self.hop >= 1 && self.hop <= limits::N_FFT_MAX,
            "hop",
            format!("is {}, must be 1 to {}", self.hop, limits::N_FFT_MAX),
        );
        found.check(
            (1..=limits::N_MELS_MAX).contains(&self.n_mels),
            "n_mels",
            format!("is {}, must be 1 to {}", self.n_mels, limits::N_MELS_MAX),
        );
        let nyquist = f64::from(rate) / 2.0;
        found.check(
            self.f_min_hz >= 0.0 && self.f_min_hz < self.f_max_hz,
            "f_min_hz",
            format!("is {}, must be 0 or more and under f_max_hz ({})", self.f_min_hz, self.f_max_hz),
        );
        found.check(
            self.f_max_hz.is_finite() && self.f_max_hz <= nyquist,
            "f_max_hz",
            format!("is {}, must be at most half the sampling rate ({nyquist})", self.f_max_hz),
        );
        if self.hop >= 1 && self.window_s.is_finite() && self.window_s <= limits::WINDOW_S_MAX {
            found.check(
                self.window_samples() > self.n_fft / 2,
                "window_s",
                format!("must be longer than half of n_fft ({} samples): the ends are reflected", self.n_fft / 2),
            );
            found.check(
                self.frames().saturating_mul(self.n_mels) <= limits::PICTURE_CELLS_MAX,
                "hop",
                format!("makes a picture of more than {} cells", limits::PICTURE_CELLS_MAX),
            );
        }
    }

    fn check_normalisation(&self, found: &mut Mistakes) {
        if self.normalisation == Normalisation::Fixed {
            found.check(self.mean.is_some(), "mean", "missing: `normalisation = \"fixed\"` needs it".into());
            found.check(self.deviation.is_some(), "deviation", "missing: `normalisation = \"fixed\"` needs it".into());
        } else {
            found.check(self.mean.is_none(), "mean", "stands here only with `normalisation = \"fixed\"`".into());
            found.check(
                self.deviation.is_none(),
                "deviation",
                "stands here only with `normalisation = \"fixed\"`".into(),
            );
        }
        for (key, numbers) in [("mean", &self.mean), ("deviation", &self.deviation)] {
            if let Some(numbers) = numbers {
                if let PerBand::Each(each) = numbers {
                    found.check(
                        each.len() == self.n_mels,
                        key,
                        format!("has {} numbers, must be one or n_mels ({})", each.len(), self.n_mels),
                    );
                }
                let bands = self.n_mels.min(limits::N_MELS_MAX);
                let fine = |value: f32| value.is_finite() && (key == "mean" || value > 0.0);
                found.check(
                    (0..bands).all(|band| fine(numbers.of(band))),
                    key,
                    if key == "mean" { "must be finite".into() } else { "must be above 0".into() },
                );
            }
        }
    }

    fn check_colours(&self, found: &mut Mistakes) {
        found.check(
            self.rgb_mean.is_some() == self.rgb_deviation.is_some(),
            "rgb_mean",
            "stands together with `rgb_deviation`".into(),
        );
        if self.colormap == Colormap::None {
            found.check(self.rgb_mean.is_none(), "rgb_mean", "stands here only with `colormap = \"viridis\"`".into());
        }
        if let Some(mean) = self.rgb_mean {
            found.check(mean.iter().all(|value| value.is_finite()), "rgb_mean", "must be finite".into());
        }
        if let Some(deviation) = self.rgb_deviation {
            found.check(
                deviation.iter().all(|value| value.is_finite() && *value > 0.0),
                "rgb_deviation",
                "must be above 0".into(),
            );
        }
    }
}

/// Mistakes of one table, as they are found; `prefix` is its name and a dot, or nothing.
struct Mistakes<'a> {
    file: &'a str,
    prefix: &'static str,
    wrong: Vec<KeyError>,
}

impl<'a> Mistakes<'a> {
    fn of(file: &'a str, prefix: &'static str) -> Self {
        Self { file, prefix, wrong: Vec::new() }
    }

    fn check(&mut self, good: bool, key: &str, cause: String) {
        if !good {
            self.wrong.push(KeyError::new(self.file, &format!("{}{key}", self.prefix), cause));
        }
    }
}

impl Decision {
    /// Every mistake of these numbers, as keys of `[decision]` in `file`.
    pub fn mistakes(&self, file: &str) -> Vec<KeyError> {
        let mut found = Mistakes::of(file, "decision.");
        let seconds = limits::DECISION_S_MAX;
        found.check(
            self.stride_s >= 0.1 && self.stride_s <= seconds,
            "stride_s",
            format!("is {}, must be 0.1 to {seconds}", self.stride_s),
        );
        found.check(
            (0.0..=1.0).contains(&self.threshold_on),
            "threshold_on",
            format!("is {}, must be 0 to 1", self.threshold_on),
        );
        found.check(
            (0.0..=1.0).contains(&self.threshold_off),
            "threshold_off",
            format!("is {}, must be 0 to 1", self.threshold_off),
        );
        found.check(
            self.threshold_off <= self.threshold_on,
            "threshold_off",
            format!("is {}, above threshold_on ({})", self.threshold_off, self.threshold_on),
        );
        let Votes { needed, of } = self.votes;
        found.check(
            needed >= 1 && needed <= of && of <= limits::VOTES_MAX,
            "votes",
            format!("{needed} of {of}: must be 1 <= needed <= of <= {}", limits::VOTES_MAX),
        );
        found.check(
            self.hold_s >= 0.0 && self.hold_s <= seconds,
            "hold_s",
            format!("is {}, must be 0 to {seconds}", self.hold_s),
        );
        found.check(
            self.cooldown_s >= 0.0 && self.cooldown_s <= seconds,
            "cooldown_s",
            format!("is {}, must be 0 to {seconds}", self.cooldown_s),
        );
        found.wrong
    }
}
