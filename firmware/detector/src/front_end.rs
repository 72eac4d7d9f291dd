//! From a window of sound to the picture that the network sees.
//!
//! Terms: a *frame* is one short-time spectrum, `hop` samples after the one before; frames are centred, the window's
//! ends reflected (torch.stft with `center=True, pad_mode="reflect"`); a *picture* is `[channels, n_mels, frames]`,
//! lowest band first. The FFT is in f64: in f32 its rounding beside a loud tone is as large as the tolerance that this
//! program promises against torchaudio (tests/golden.rs), and it costs under a thousandth of a core. Everything is allocated by `new`; `picture` allocates nothing.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::manifest::{self, Colormap, Normalisation};
use crate::mel::MelBank;
use crate::viridis::{VIRIDIS, index};

/// Added to the mel power before the logarithm.
const LOG_FLOOR: f32 = 1e-10;

/// The front end with its buffers.
pub struct FrontEnd {
    config: manifest::FrontEnd,
    fft: Arc<dyn RealToComplex<f64>>,
    hann: Vec<f32>,
    bank: MelBank,
    frame: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    power: Vec<f32>,
    /// [n_mels, frames]
    mel: Vec<f32>,
    log_mel: Vec<f32>,
    /// [channels, n_mels, frames]
    picture: Vec<f32>,
}

impl FrontEnd {
    /// Plans the transforms and allocates every buffer. `config` has been checked by [`manifest::Manifest::parse`].
    pub fn new(config: &manifest::FrontEnd) -> Self {
        let fft = RealFftPlanner::<f64>::new().plan_fft_forward(config.n_fft);
        let cells = config.n_mels * config.frames();
        Self {
            hann: periodic_hann(config.n_fft),
            bank: MelBank::new(config),
            frame: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; config.n_fft / 2 + 1],
            mel: vec![0.0; cells],
            log_mel: vec![0.0; cells],
            picture: vec![0.0; config.channels() * cells],
            config: config.clone(),
            fft,
        }
    }

    /// The picture of `window`, which must hold exactly `window_samples()` samples.
    ///
    /// # Panics
    /// Where `window` has another length: the caller's fault, not the sound's.
    pub fn picture(&mut self, window: &[f32]) -> &[f32] {
        self.mel_power(window);
        for (log, mel) in self.log_mel.iter_mut().zip(&self.mel) {
            *log = (mel + LOG_FLOOR).log2();
        }
        self.picture_of_levels()
    }

    /// The picture of a window of which only log2 of the mel power is left, `[n_mels, frames]`.
    ///
    /// # Panics
    /// Where `log_mel` has another size.
    pub fn picture_of(&mut self, log_mel: &[f32]) -> &[f32] {
        self.log_mel.copy_from_slice(log_mel);
        self.picture_of_levels()
    }

    fn picture_of_levels(&mut self) -> &[f32] {
        self.normalise();
        if self.config.colormap == Colormap::Viridis {
            self.colour();
        }
        &self.picture
    }

    /// Mel power of `window`, `[n_mels, frames]`: what torchaudio's `MelSpectrogram` gives.
    ///
    /// # Panics
    /// As [`Self::picture`].
    pub fn mel_power(&mut self, window: &[f32]) -> &[f32] {
        assert_eq!(window.len(), self.config.window_samples(), "a window has one length");
        let frames = self.config.frames();
        for t in 0..frames {
            self.spectrum_at(window, t * self.config.hop);
            for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
                *power = bin.norm_sqr() as f32;
            }
            for band in 0..self.config.n_mels {
                self.mel[band * frames + t] = self.bank.band(band, &self.power);
            }
        }
        &self.mel
    }

    /// The picture made last.
    pub fn last_picture(&self) -> &[f32] {
        &self.picture
    }

    /// log2 of the last picture's mel power, `[n_mels, frames]`, before normalisation: for pictures that people look at.
    pub fn log_mel(&self) -> &[f32] {
        &self.log_mel
    }

    /// Centre of each mel band, hertz, lowest first.
    pub fn centres_hz(&self) -> &[f32] {
        self.bank.centres_hz()
    }

    /// The parameters.
    pub fn config(&self) -> &manifest::FrontEnd {
        &self.config
    }

    fn spectrum_at(&mut self, window: &[f32], centre: usize) {
        let half = self.config.n_fft / 2;
        let inside = centre >= half && centre + half <= window.len();
        if inside {
            let samples = &window[centre - half..centre + half];
            for ((out, x), w) in self.frame.iter_mut().zip(samples).zip(&self.hann) {
                *out = f64::from(x * w);
            }
        } else {
            let last = window.len() as isize - 1;
            for (i, (out, w)) in self.frame.iter_mut().zip(&self.hann).enumerate() {
                let place = centre as isize - half as isize + i as isize;
                let reflected = if place < 0 {
                    -place
                } else if place > last {
                    2 * last - place
                } else {
                    place
                };
                *out = f64::from(window[reflected as usize] * w);
            }
        }
        // The lengths were made by the plan itself, the one thing that this call can refuse.
        let done = self.fft.process_with_scratch(&mut self.frame, &mut self.spectrum, &mut self.scratch);
        debug_assert!(done.is_ok());
    }

    fn normalise(&mut self) {
        let frames = self.config.frames();
        let picture = &mut self.picture[..self.log_mel.len()];
        match self.config.normalisation {
            Normalisation::None => picture.copy_from_slice(&self.log_mel),
            Normalisation::MinMax => {
                let low = self.log_mel.iter().copied().fold(f32::INFINITY, f32::min);
                let high = self.log_mel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let span = high - low;
                for (out, x) in picture.iter_mut().zip(&self.log_mel) {
                    *out = if span > 0.0 { (x - low) / span } else { 0.0 };
                }
            }
            Normalisation::Fixed => {
                let (Some(mean), Some(deviation)) = (&self.config.mean, &self.config.deviation) else {
                    unreachable!("Manifest::parse asks for both")
                };
                for (band, (out, x)) in
                    picture.chunks_exact_mut(frames).zip(self.log_mel.chunks_exact(frames)).enumerate()
                {
                    let (mean, deviation) = (mean.of(band), deviation.of(band));
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) / deviation;
                    }
                }
            }
        }
    }

    fn colour(&mut self) {
        let cells = self.log_mel.len();
        let mean = self.config.rgb_mean.unwrap_or([0.0; 3]);
        let deviation = self.config.rgb_deviation.unwrap_or([1.0; 3]);
        for cell in 0..cells {
            // The first channel still holds the grey value; it is overwritten last of what is read.
            let colour = VIRIDIS[index(self.picture[cell])];
            for channel in 0..3 {
                self.picture[channel * cells + cell] =
                    (f32::from(colour[channel]) / 255.0 - mean[channel]) / deviation[channel];
            }
        }
    }
}

/// torch.hann_window(n, periodic=True).
fn periodic_hann(n: usize) -> Vec<f32> {
    (0..n).map(|i| (0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / n as f64).cos()) as f32).collect()
}
