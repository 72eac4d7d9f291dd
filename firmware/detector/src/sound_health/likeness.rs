//! How much a block is like itself a while later, for all lags at once.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Autocorrelation by FFT (Wiener-Khinchin). Lag by lag a frozen 48 kHz card took a tenth of a desktop's core, and starved
/// the network on a slower one.
pub struct Likeness {
    len: usize,
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    time: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    /// Power of the first n samples.
    power: Vec<f64>,
}

impl Likeness {
    /// For blocks of `len` samples.
    pub fn new(len: usize) -> Self {
        // Zeros behind the block, as many: its end does not meet its beginning.
        let size = (2 * len).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            len,
            time: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            scratch: vec![Complex::default(); scratch],
            power: vec![0.0; len + 1],
            forward,
            inverse,
        }
    }

    /// For the first samples of `block`, as many as this was made for: the lag (below their number) to the correlation
    /// of what is left of them with what lies that many samples later, -1 to 1; their mean over all is taken off.
    pub fn of<'a>(&'a mut self, block: &[f32]) -> impl Fn(usize) -> f64 + 'a {
        let block = &block[..block.len().min(self.len)];
        let mean = super::block::mean(block);
        self.time.fill(0.0);
        for (n, sample) in block.iter().enumerate() {
            let value = f64::from(*sample) - mean;
            self.time[n] = value;
            self.power[n + 1] = self.power[n] + value * value;
        }
        // All lengths are those of the plans: neither can fail.
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.spectrum, &mut self.scratch);
        for bin in &mut self.spectrum {
            *bin = Complex::new(bin.norm_sqr(), 0.0);
        }
        let _ = self.inverse.process_with_scratch(&mut self.spectrum, &mut self.time, &mut self.scratch);
        let (len, size) = (block.len(), self.time.len() as f64);
        move |lag| {
            let (first, second) = (self.power[len - lag], self.power[len] - self.power[lag]);
            self.time[lag] / size / (first * second).sqrt().max(f64::MIN_POSITIVE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_correlation_by_its_definition() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.3
        };
        let block: Vec<f32> = (0..1000).map(|n| (n as f32 * 0.1).sin() + 0.3 * noise()).collect();
        let mut likeness = Likeness::new(900);
        let _ = likeness.of(&block[..700]);
        let likeness = likeness.of(&block);
        let used: Vec<f64> = block[..900].iter().map(|x| f64::from(*x)).collect();
        let mean = used.iter().sum::<f64>() / 900.0;
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
        for lag in [1, 17, 63, 126, 450, 899] {
            let (first, second) = (&used[..900 - lag], &used[lag..]);
            let expect = product(first, second) / (product(first, first) * product(second, second)).sqrt();
            assert!((likeness(lag) - expect).abs() < 1e-9, "{lag}: {} for {expect}", likeness(lag));
        }
    }
}
