//! From the source's rate to the model's, band-limited.
//!
//! rubato's synchronous FFT resampler: the ratio of two clocks that state their rates is fixed. Its delay is cut off at the
//! start and made up for at the end, so that sample n of the output lies where sample n * from / to of the input did.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Input frames a call of rubato takes, about: 10 ms, so that a period's sound is not kept back. At 48 kHz and under; at higher rates as many
/// milliseconds, since the filter is as long as a block, and a shorter one would begin to fall far under the model's own half rate.
const CHUNK: usize = 512;
/// The rate up to which a block has that many frames.
const CHUNK_HZ: usize = 48_000;

const WINDOW: WindowFunction = WindowFunction::BlackmanHarris2;

/// Input frames of a block, near [`CHUNK`]: an even number of the smallest blocks that both rates divide into, so that the
/// filter's delay, half a block, is a whole number of samples on either side and can be cut off exactly.
fn chunk(from_hz: u32, to_hz: u32) -> usize {
    let (mut a, mut b) = (from_hz as usize, to_hz as usize);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let smallest = from_hz as usize / a;
    let wanted = (CHUNK * from_hz as usize).div_ceil(CHUNK_HZ).max(CHUNK);
    smallest * wanted.div_ceil(smallest).next_multiple_of(2)
}

/// Why no resampler can be made.
#[derive(Debug, thiserror::Error)]
#[error("no resampling from {from_hz} to {to_hz} Hz: {cause}")]
pub struct ResampleError {
    from_hz: u32,
    to_hz: u32,
    cause: String,
}

/// A resampler of one channel with its buffers.
pub struct Resampler {
    /// None where the rates are equal: the samples pass unchanged.
    fft: Option<Fft<f32>>,
    ratio: f64,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output samples still to be cut off: the delay of the filter.
    delay: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// From `from_hz` to `to_hz`.
    ///
    /// # Errors
    /// Where rubato knows no way between the two.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResampleError> {
        if from_hz == 0 || to_hz == 0 {
            return Err(ResampleError { from_hz, to_hz, cause: "a rate of 0".into() });
        }
        let fft = match from_hz == to_hz {
            true => None,
            false => Some(
                Fft::new_custom(from_hz as usize, to_hz as usize, chunk(from_hz, to_hz), 1, 1, WINDOW, FixedSync::Both)
                    .map_err(|error| ResampleError { from_hz, to_hz, cause: error.to_string() })?,
            ),
        };
        let (input, output, delay) = match &fft {
            Some(fft) => (fft.input_frames_next(), fft.output_frames_next(), fft.output_delay()),
            None => (0, 0, 0),
        };
        let ratio = f64::from(to_hz) / f64::from(from_hz);
        Ok(Self {
            fft,
            ratio,
            input: vec![0.0; input],
            filled: 0,
            output: vec![0.0; output],
            delay,
            taken: 0,
            given: 0,
        })
    }

    /// Resamples `samples` and hands the result to `sink`, in pieces. Allocates nothing.
    pub fn push(&mut self, mut samples: &[f32], mut sink: impl FnMut(&[f32])) {
        self.taken += samples.len() as u64;
        if self.fft.is_none() {
            self.given += samples.len() as u64;
            return sink(samples);
        }
        while !samples.is_empty() {
            let take = (self.input.len() - self.filled).min(samples.len());
            self.input[self.filled..self.filled + take].copy_from_slice(&samples[..take]);
            self.filled += take;
            samples = &samples[take..];
            if self.filled == self.input.len() {
                self.chunk(u64::MAX, &mut sink);
            }
        }
    }

    /// Samples that what was pushed by now comes to, given already or not.
    pub fn due(&self) -> u64 {
        (self.taken as f64 * self.ratio).round() as u64
    }

    /// The source has ended: gives what the filter still holds, as long as the input was, to the sample.
    pub fn finish(&mut self, mut sink: impl FnMut(&[f32])) {
        let due = self.due();
        while self.fft.is_some() && self.given < due {
            self.input[self.filled..].fill(0.0);
            self.filled = self.input.len();
            self.chunk(due, &mut sink);
        }
    }

    /// One chunk through rubato; at most `due` samples are given in all.
    fn chunk(&mut self, due: u64, sink: &mut impl FnMut(&[f32])) {
        let (Some(fft), input_len, output_len) = (&mut self.fft, self.input.len(), self.output.len()) else { return };
        self.filled = 0;
        let (Ok(input), Ok(mut output)) = (
            SequentialSlice::new(&self.input, 1, input_len),
            SequentialSlice::new_mut(&mut self.output, 1, output_len),
        ) else {
            unreachable!("the buffers were made with these lengths")
        };
        let written = fft.process_into_buffer(&input, &mut output, None).map_or(0, |(_, written)| written);
        let cut = self.delay.min(written);
        self.delay -= cut;
        let left = due.saturating_sub(self.given).min((written - cut) as u64) as usize;
        self.given += left as u64;
        sink(&self.output[cut..cut + left]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resampled(from_hz: u32, to_hz: u32, sound: &[f32]) -> Vec<f32> {
        let mut resampler = Resampler::new(from_hz, to_hz).unwrap();
        let mut out = Vec::new();
        for part in sound.chunks(777) {
            resampler.push(part, |part| out.extend_from_slice(part));
        }
        resampler.finish(|part| out.extend_from_slice(part));
        out
    }

    fn tone(hz: f64, rate_hz: u32, seconds: f64) -> Vec<f32> {
        (0..(seconds * f64::from(rate_hz)) as usize)
            .map(|i| (0.5 * (std::f64::consts::TAU * hz * i as f64 / f64::from(rate_hz)).sin()) as f32)
            .collect()
    }

    fn rms(sound: &[f32]) -> f64 {
        (sound.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / sound.len() as f64).sqrt()
    }

    #[test]
    fn tones_keep_length_level_and_place() {
        for from_hz in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 16_000] {
            let out = resampled(from_hz, 16_000, &tone(1000.0, from_hz, 2.0));
            assert_eq!(out.len(), 32_000, "{from_hz} Hz");
            let expected = tone(1000.0, 16_000, 2.0);
            let middle = 4_000..28_000;
            let error: Vec<f32> = out[middle.clone()].iter().zip(&expected[middle]).map(|(a, b)| a - b).collect();
            assert!(rms(&error) < 1e-4, "{from_hz} Hz: off by {}", rms(&error));
        }
    }

    /// The network's upper bands are in what it was trained on; a card that gives nothing under 192 kHz must not take them away.
    #[test]
    fn no_rate_takes_the_upper_bands_away() {
        for from_hz in [44_100, 48_000, 96_000, 192_000, 384_000] {
            let out = resampled(from_hz, 16_000, &tone(7_000.0, from_hz, 1.0));
            let level_db = 20.0 * (rms(&out[4_000..12_000]) / 0.353_55).log10();
            assert!(level_db > -1.0, "{from_hz} Hz: {level_db:.1} dB");
        }
    }

    #[test]
    fn aliases_lie_under_80_db() {
        for from_hz in [44_100, 48_000, 96_000] {
            for hz in [8_600.0, 9_500.0, 12_000.0, 16_000.0, 17_000.0, 21_000.0, 23_000.0, 31_000.0, 47_000.0] {
                if hz < f64::from(from_hz) / 2.0 {
                    let out = resampled(from_hz, 16_000, &tone(hz, from_hz, 2.0));
                    let alias_db = 20.0 * (rms(&out[4_000..28_000]) / 0.353_55).log10();
                    assert!(alias_db < -80.0, "{hz} Hz from {from_hz}: {alias_db:.1} dB");
                }
            }
        }
    }
}
