//! A talking throat: glottal pulses and breath through formants in cascade, as in Klatt's synthesiser.
//!
//! A *target* is what the mouth aims at, at an instant; between two targets everything glides.

use super::RATE_HZ;
use super::curve;
use super::filter::{BandPass, Resonator};
use super::noise::Noise;

/// Bandwidths of the five formants, hertz (Klatt 1980, table II and III, rounded).
const BANDWIDTHS_HZ: [f64; 5] = [70.0, 90.0, 130.0, 250.0, 300.0];
/// The fourth and fifth formant hardly move (Klatt 1980, table II).
const UPPER_FORMANTS_HZ: [f64; 2] = [3500.0, 4500.0];
/// Share of a period in which the glottis is open.
const OPEN_QUOTIENT: f64 = 0.6;
/// Cycle-to-cycle change of the period in healthy voices is about 1 % (Titze 1994, "Principles of Voice Production").
const JITTER: f64 = 0.012;

/// What the mouth aims at.
#[derive(Clone, Copy)]
pub struct Target {
    /// When, seconds from the start.
    pub t_s: f64,
    /// Pitch.
    pub pitch_hz: f64,
    /// First three formants.
    pub formants_hz: [f64; 3],
    /// Loudness of the glottal pulses, 0..1.
    pub voice: f64,
    /// Loudness of breath through the formants, 0..1.
    pub breath: f64,
    /// Loudness of friction at the teeth, 0..1, and its band's middle.
    pub friction: (f64, f64),
}

/// Speaks through `targets` until the last one.
pub fn speak(targets: &[Target], seed: u64) -> Vec<f64> {
    let curve_of = |value: fn(&Target) -> f64| -> Vec<(f64, f64)> {
        targets.iter().map(|target| (target.t_s, value(target))).collect()
    };
    let pitch = curve_of(|target| target.pitch_hz);
    let formants = [
        curve_of(|target| target.formants_hz[0]),
        curve_of(|target| target.formants_hz[1]),
        curve_of(|target| target.formants_hz[2]),
    ];
    let (voice, breath) = (curve_of(|target| target.voice), curve_of(|target| target.breath));
    let (friction, friction_hz) = (curve_of(|target| target.friction.0), curve_of(|target| target.friction.1));

    let mut noise = Noise::new(seed);
    let (mut phase, mut stretch) = (0.0, 1.0);
    let mut tract: [Resonator; 5] = Default::default();
    let mut teeth = BandPass::default();
    let rate_hz = f64::from(RATE_HZ);
    let samples = targets.last().map_or(0, |last| (last.t_s * rate_hz) as usize);
    let sample = |i: usize| {
        let t_s = i as f64 / rate_hz;
        phase += curve::at(&pitch, t_s) * stretch / rate_hz;
        if phase >= 1.0 {
            phase -= 1.0;
            stretch = 1.0 + JITTER * noise.white();
        }
        let mut sound =
            curve::at(&voice, t_s) * glottal_flow_change(phase) + 0.3 * curve::at(&breath, t_s) * noise.white();
        let [f1, f2, f3] = [0, 1, 2].map(|n: usize| curve::at(&formants[n], t_s));
        for ((resonator, hz), bandwidth_hz) in
            tract.iter_mut().zip([f1, f2, f3, UPPER_FORMANTS_HZ[0], UPPER_FORMANTS_HZ[1]]).zip(BANDWIDTHS_HZ)
        {
            sound = resonator.step(sound, hz, bandwidth_hz);
        }
        let hz = curve::at(&friction_hz, t_s);
        sound + curve::at(&friction, t_s) * teeth.step(noise.white(), hz, hz * 0.4)
    };
    (0..samples).map(sample).collect()
}

/// Change of the air flow through the glottis at `phase` 0..1 of a period: that of the flow x^2 - x^3 over the open part, none
/// while closed (KLGLOTT88: Klatt & Klatt 1990, J. Acoust. Soc. Am. 87, appendix). The change and not the flow, because lips
/// radiate the change.
fn glottal_flow_change(phase: f64) -> f64 {
    let x = phase / OPEN_QUOTIENT;
    if x < 1.0 { 2.0 * x - 3.0 * x * x } else { 0.0 }
}
