//! The mel filter bank, as torchaudio's `melscale_fbanks` builds it (norm `None`), kept sparse.
//!
//! A *filter* is a triangle over FFT bins. torchaudio computes it in f32, and where a spectral peak falls on the foot of
//! a triangle the rounding shows, so the same operations are made here in the same order and width.

use crate::manifest::{FrontEnd, MelScale};

/// The filters of all bands over the bins of a power spectrum.
#[derive(Debug, Clone)]
pub struct MelBank {
    /// For each band the first bin, and where its weights lie in `weights`.
    bands: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<f32>,
    centres_hz: Vec<f32>,
}

impl MelBank {
    /// The bank for `n_fft / 2 + 1` bins.
    pub fn new(config: &FrontEnd) -> Self {
        let bins = config.n_fft / 2 + 1;
        // torchaudio: torch.linspace(0, sample_rate // 2, n_freqs), with integer division.
        let bin_hz = linspace(0.0, (config.sample_rate_hz / 2) as f32, bins);
        let low = to_mel(config.f_min_hz, config.mel_scale) as f32;
        let high = to_mel(config.f_max_hz, config.mel_scale) as f32;
        let corners: Vec<f32> =
            linspace(low, high, config.n_mels + 2).into_iter().map(|mel| to_hz(mel, config.mel_scale)).collect();
        let mut bank = Self {
            bands: Vec::with_capacity(config.n_mels),
            weights: Vec::new(),
            centres_hz: corners[1..=config.n_mels].to_vec(),
        };
        for corner in corners.windows(3) {
            let (rise, fall) = (corner[1] - corner[0], corner[2] - corner[1]);
            let weight = |hz: f32| ((hz - corner[0]) / rise).min((corner[2] - hz) / fall).max(0.0);
            let first = bin_hz.iter().position(|&hz| weight(hz) > 0.0).unwrap_or(0);
            let start = bank.weights.len();
            bank.weights.extend(bin_hz[first..].iter().map(|&hz| weight(hz)).take_while(|&w| w > 0.0));
            bank.bands.push((first, start..bank.weights.len()));
        }
        bank
    }

    /// Mel power of band `band` from a power spectrum.
    pub fn band(&self, band: usize, power: &[f32]) -> f32 {
        let (first, range) = &self.bands[band];
        let weights = &self.weights[range.clone()];
        power[*first..*first + weights.len()].iter().zip(weights).map(|(p, w)| p * w).sum()
    }

    /// Centre of each band, hertz, lowest first.
    pub fn centres_hz(&self) -> &[f32] {
        &self.centres_hz
    }
}

/// torch.linspace: counted from both ends, so that it is symmetric in f32, each value with one rounding (a fused
/// multiply-add).
fn linspace(start: f32, end: f32, steps: usize) -> Vec<f32> {
    let step = (end - start) / (steps - 1) as f32;
    let value = |i: usize| {
        if i < steps / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((steps - 1 - i) as f32, end) }
    };
    (0..steps).map(value).collect()
}

/// Slaney's scale: linear to 1 kHz at 3 mel a 200 Hz, then logarithmic with 27 steps for a factor of 6.4.
const SLANEY_HZ_PER_MEL: f64 = 200.0 / 3.0;
const SLANEY_BREAK_HZ: f64 = 1000.0;

fn to_mel(hz: f64, scale: MelScale) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
        MelScale::Slaney if hz >= SLANEY_BREAK_HZ => {
            SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL + (hz / SLANEY_BREAK_HZ).ln() / (6.4f64.ln() / 27.0)
        }
        MelScale::Slaney => hz / SLANEY_HZ_PER_MEL,
    }
}

/// Powers are rounded from f64, which is what torch's give to the last bit; f32's own miss one in seven by a step, and in
/// the narrow low bands that step is 4e-4 of a weight.
fn to_hz(mel: f32, scale: MelScale) -> f32 {
    let break_mel = (SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL) as f32;
    match scale {
        MelScale::Htk => 700.0 * (10f64.powf(f64::from(mel / 2595.0)) as f32 - 1.0),
        MelScale::Slaney if mel >= break_mel => {
            SLANEY_BREAK_HZ as f32 * f64::from((6.4f64.ln() / 27.0) as f32 * (mel - break_mel)).exp() as f32
        }
        MelScale::Slaney => SLANEY_HZ_PER_MEL as f32 * mel,
    }
}
