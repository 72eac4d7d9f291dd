//! Things that sound in a home. What is struck rings in modes: decaying sines that are no multiples of each other (Cook 1997,
//! "Physically informed sonic modeling", Computer Music Journal 21).

use std::f64::consts::TAU;

use super::RATE_HZ;
use super::curve;
use super::filter::BandPass;
use super::noise::{Noise, Pink};

/// A kettle coming to the boil: noise that grows and brightens, then is switched off.
pub fn kettle(seconds: f64, seed: u64) -> Vec<f64> {
    let (mut pink, mut band) = (Pink::new(seed), BandPass::default());
    let loudness = [(0.0, 0.0), (seconds * 0.75, 1.0), (seconds * 0.85, 0.9), (seconds, 0.0)];
    render(seconds, |t_s| {
        let hz = curve::at(&[(0.0, 350.0), (seconds * 0.8, 900.0)], t_s);
        let sound = pink.sample();
        curve::at(&loudness, t_s) * (0.25 * sound + band.step(sound, hz, hz))
    })
}

/// `count` knocks on a wooden door.
pub fn knocks(count: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let mut out = vec![0.0; samples(0.28 * count as f64 + 0.3)];
    for n in 0..count {
        let hit = struck(
            &[(92.0, 0.05, 1.0), (163.0, 0.04, 0.8), (247.0, 0.03, 0.5), (410.0, 0.02, 0.3)],
            0.01,
            0.3,
            &mut noise,
        );
        let loudness = noise.between(0.8, 1.0);
        super::lay(&mut out, 0.27 * n as f64 + noise.between(0.0, 0.02), &hit, loudness);
    }
    out
}

/// `count` clinks of plates and glasses, unevenly.
pub fn dishes(count: usize, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let mut out = vec![0.0; samples(0.35 * count as f64 + 0.5)];
    let mut t_s = 0.0;
    for _ in 0..count {
        let hz = noise.between(1700.0, 3100.0);
        // Ratios near those of a free round plate.
        let modes = [1.0, 1.47, 2.09, 2.56].map(|ratio: f64| (hz * ratio.min(7000.0 / hz), 0.09 / ratio, 1.0 / ratio));
        let loudness = noise.between(0.3, 1.0);
        super::lay(&mut out, t_s, &struck(&modes, 0.004, 0.4, &mut noise), loudness);
        t_s += noise.between(0.08, 0.6);
    }
    out
}

/// A microwave oven that is done: `count` beeps of a piezo buzzer at 2 kHz, a square wave whose third harmonic still passes.
pub fn beeps(count: usize) -> Vec<f64> {
    const BEEP_S: f64 = 0.22;
    render(0.5 * count as f64, |t_s| {
        let in_beep_s = t_s % 0.5;
        let loudness = curve::at(&[(0.0, 0.0), (0.005, 1.0), (BEEP_S - 0.005, 1.0), (BEEP_S, 0.0)], in_beep_s);
        loudness * ((TAU * 2048.0 * t_s).sin() + 0.15 * (TAU * 3.0 * 2048.0 * t_s).sin())
    })
}

/// A blow: modes as (hertz, seconds to 1/e, loudness), and `click_s` of noise.
fn struck(modes: &[(f64, f64, f64)], click_s: f64, seconds: f64, noise: &mut Noise) -> Vec<f64> {
    render(seconds, |t_s| {
        let rung: f64 = modes
            .iter()
            .map(|(hz, decay_s, loudness)| loudness * (-t_s / decay_s).exp() * (TAU * hz * t_s).sin())
            .sum();
        rung + 0.4 * (-t_s / click_s).exp() * noise.white()
    })
}

fn render(seconds: f64, mut sample: impl FnMut(f64) -> f64) -> Vec<f64> {
    (0..samples(seconds)).map(|i| sample(i as f64 / f64::from(RATE_HZ))).collect()
}

fn samples(seconds: f64) -> usize {
    (seconds * f64::from(RATE_HZ)) as usize
}
