//! The room itself: its reverberation and its hum.

use std::f64::consts::TAU;

use super::RATE_HZ;
use super::noise::{Noise, Pink};

/// The time in which the sound of a furnished living room falls by 60 dB.
const RT60_S: f64 = 0.35;
/// Pulses a second of the reverberation.
const PULSES_HZ: f64 = 1500.0;
/// First reflection: a wall two metres away.
const FIRST_S: f64 = 0.009;
/// Energy of the reverberation against that of the direct sound, for a device some metres away.
const WET: f64 = 0.35;

/// `sound` as heard in the room; longer than it by the reverberation. Velvet noise, sparse pulses of random sign, one in each
/// slot, that decay: as smooth as dense noise at this density and a tenth of the work (Karjalainen & Järveläinen 2007,
/// "Reverberation modeling using velvet noise", AES 30th Conf.).
pub fn reverberate(sound: &[f64]) -> Vec<f64> {
    let rate_hz = f64::from(RATE_HZ);
    let mut noise = Noise::new(0x0072_6f6f_6d00);
    let slot = rate_hz / PULSES_HZ;
    let slots = (RT60_S * PULSES_HZ) as usize;
    let pulses: Vec<(usize, f64)> = (0..slots)
        .map(|n| {
            let place = FIRST_S * rate_hz + slot * (n as f64 + noise.between(0.0, 1.0));
            // 60 dB are a factor of 1000, whose logarithm is 6.908.
            let sign = noise.white().signum();
            (place as usize, sign * (-6.908 * place / rate_hz / RT60_S).exp())
        })
        .collect();
    let energy: f64 = pulses.iter().map(|(_, gain)| gain * gain).sum();
    let gain = (WET / energy).sqrt();
    let last = pulses.last().map_or(0, |(place, _)| *place);
    let mut out = vec![0.0; sound.len() + last];
    out[..sound.len()].copy_from_slice(sound);
    // Walls, curtains and air swallow the treble of what they send back: one pole at 3 kHz.
    let pole = (-TAU * 3000.0 / rate_hz).exp();
    let mut dull = Vec::with_capacity(sound.len());
    let mut state = 0.0;
    for sample in sound {
        state += (1.0 - pole) * (sample - state);
        dull.push(state);
    }
    for (place, pulse) in pulses {
        for (out, sample) in out[place..].iter_mut().zip(&dull) {
            *out += gain * pulse * sample;
        }
    }
    out
}

/// Quiet: pink noise of RMS 1, and mains hum, mostly the even multiples of 50 Hz that transformers sing.
pub fn tone(samples: usize) -> Vec<f64> {
    const HUM: [(f64, f64); 4] = [(50.0, 0.35), (100.0, 0.5), (150.0, 0.15), (200.0, 0.2)];
    let mut pink = Pink::new(0x0071_7569_6574);
    (0..samples)
        .map(|i| {
            let t_s = i as f64 / f64::from(RATE_HZ);
            pink.sample() + HUM.iter().map(|(hz, loudness)| loudness * (TAU * hz * t_s).sin()).sum::<f64>()
        })
        .collect()
}
