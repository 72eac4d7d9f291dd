//! Two-pole filters: the resonator of speech synthesis and a band-pass. Their frequency may move from sample to sample.

use std::f64::consts::TAU;

use super::RATE_HZ;

/// Klatt's digital resonator, gain 1 at 0 Hz, for formants in cascade (Klatt 1980, "Software for a cascade/parallel formant
/// synthesizer", J. Acoust. Soc. Am. 67, eq. 1 and 2).
#[derive(Default)]
pub struct Resonator {
    past: [f64; 2],
}

impl Resonator {
    /// The next sample, with the formant at `hz` and `bandwidth_hz` wide.
    pub fn step(&mut self, input: f64, hz: f64, bandwidth_hz: f64) -> f64 {
        let t = 1.0 / f64::from(RATE_HZ);
        let c = -(-TAU * bandwidth_hz * t).exp();
        let b = 2.0 * (-TAU / 2.0 * bandwidth_hz * t).exp() * (TAU * hz * t).cos();
        let output = (1.0 - b - c) * input + b * self.past[0] + c * self.past[1];
        self.past = [output, self.past[0]];
        output
    }
}

/// Band-pass with gain 1 at its middle, for formants side by side and for bands of noise (R. Bristow-Johnson, "Cookbook
/// formulae for audio EQ biquad filter coefficients", BPF with constant 0 dB peak gain).
#[derive(Default)]
pub struct BandPass {
    inputs: [f64; 2],
    outputs: [f64; 2],
}

impl BandPass {
    /// The next sample, with the band around `hz` and `bandwidth_hz` wide.
    pub fn step(&mut self, input: f64, hz: f64, bandwidth_hz: f64) -> f64 {
        let omega = TAU * hz / f64::from(RATE_HZ);
        let alpha = omega.sin() * bandwidth_hz / (2.0 * hz);
        let output = (alpha * (input - self.inputs[1]) + 2.0 * omega.cos() * self.outputs[0]
            - (1.0 - alpha) * self.outputs[1])
            / (1.0 + alpha);
        self.inputs = [input, self.inputs[0]];
        self.outputs = [output, self.outputs[0]];
        output
    }
}
