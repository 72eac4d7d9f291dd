//! A human scream, from formulae alone.
//!
//! What makes one (Schwartz, Engelberg & Gouzoules 2019, Bioacoustics; Arnal et al. 2015, "Human screams occupy a privileged
//! niche in the communication soundscape", Curr. Biol. 25): a pitch that leaps to about 1 kHz within a tenth of a second, stays
//! there wavering and drops at the end; *roughness*, loudness that beats 30 to 150 times a second; harmonics up to the highest
//! bands through a wide-open mouth; and breath. Pressed voices also slip into period doubling and noise for moments
//! (*nonlinear phenomena*: Fitch, Neubauer & Herzel 2002, Anim. Behav. 63).

use std::f64::consts::TAU;

use super::RATE_HZ;
use super::curve;
use super::filter::BandPass;
use super::noise::Noise;

/// Formants of a wide-open mouth: hertz, bandwidth, loudness.
const FORMANTS: [(f64, f64, f64); 4] =
    [(1200.0, 450.0, 1.0), (2800.0, 600.0, 0.8), (4000.0, 800.0, 0.55), (5900.0, 1200.0, 0.25)];
/// Harmonics end under half the sampling rate: sines above it would come back mirrored.
const HARMONIC_HZ_MAX: f64 = 7600.0;
/// The roughness's rate strays by this share, or it would be a tone of its own.
const BEAT_STRAY: f64 = 0.35;
/// How far the pitch strays in a random walk, and how fast the walk forgets, seconds.
const PITCH_STRAY: f64 = 0.02;
const STRAY_S: f64 = 0.02;

/// How somebody screams.
#[derive(Debug, Clone, Copy)]
pub struct Scream {
    /// Of the plateau.
    pub pitch_hz: f64,
    /// Beats of the loudness.
    pub roughness_hz: f64,
    /// How deep they are, 0..1.
    pub roughness: f64,
    /// Noise of the breath against the harmonics.
    pub breath: f64,
    /// How much each harmonic is weaker than the last: loudness n^-tilt; 1 is 6 dB an octave. Effort makes it small.
    pub tilt: f64,
    /// Depth of the period doubling in the middle, 0..1.
    pub doubling: f64,
    /// Its length.
    pub seconds: f64,
}

impl Scream {
    /// The one of the demo's scene: in the middle of what models were seen to hear (`scene::tests::sweep`), and longer than
    /// the usual stride, so that the window after the one in which it begins is mostly scream.
    pub const TYPICAL: Self = Self {
        pitch_hz: 1350.0,
        roughness_hz: 75.0,
        roughness: 0.6,
        breath: 0.35,
        tilt: 1.0,
        doubling: 0.3,
        seconds: 2.5,
    };

    /// Its sound.
    pub fn sound(&self, seed: u64) -> Vec<f64> {
        let rate_hz = f64::from(RATE_HZ);
        let end_s = self.seconds;
        let pitch = [(0.0, 0.5), (0.13, 0.97), (0.3, 1.04), (0.55 * end_s, 1.0), (end_s - 0.22, 0.93), (end_s, 0.5)];
        let loudness = [(0.0, 0.0), (0.09, 0.8), (0.3, 1.0), (0.7 * end_s, 0.9), (end_s - 0.16, 0.7), (end_s, 0.0)];
        // Pressed at first, doubled in the middle, clearer towards the end.
        let doubling =
            [(0.28 * end_s, 0.0), (0.36 * end_s, self.doubling), (0.5 * end_s, self.doubling), (0.58 * end_s, 0.0)];
        let roughness = [(0.05, 0.4), (0.2, 1.0), (0.6 * end_s, 1.0), (0.8 * end_s, 0.6)];

        let mut noise = Noise::new(seed);
        let mut mouth: [BandPass; 4] = Default::default();
        let (mut cycle, mut beat, mut stray, mut beat_stray) = (0.0f64, 0.0f64, 0.0, 0.0);
        let keep = (-1.0 / (STRAY_S * rate_hz)).exp();
        let push = (1.0 - keep * keep).sqrt() * 3f64.sqrt();
        let sample = |i: usize| {
            let t_s = i as f64 / rate_hz;
            stray = keep * stray + push * noise.white();
            beat_stray = keep * beat_stray + push * noise.white();
            let waver = 1.0 + 0.012 * (TAU * 6.0 * t_s).sin() + PITCH_STRAY * 0.5 * stray;
            let pitch_hz = self.pitch_hz * curve::at(&pitch, t_s) * waver;
            cycle += pitch_hz / rate_hz;
            beat += self.roughness_hz * (1.0 + BEAT_STRAY * beat_stray) / rate_hz;
            let rough = self.roughness * curve::at(&roughness, t_s) * (0.5 + 0.5 * (TAU * beat).sin());
            let source = (1.0 - rough)
                * (self.harmonics(cycle, pitch_hz, curve::at(&doubling, t_s)) + self.breath * noise.white());
            let sound: f64 = mouth
                .iter_mut()
                .zip(FORMANTS)
                .map(|(formant, (hz, wide_hz, gain))| gain * formant.step(source, hz, wide_hz))
                .sum();
            curve::at(&loudness, t_s) * (sound + 0.1 * source)
        };
        (0..(end_s * rate_hz) as usize).map(sample).collect()
    }

    /// The pressed voice: harmonics, and with period doubling their halves between them.
    fn harmonics(&self, cycle: f64, pitch_hz: f64, doubling: f64) -> f64 {
        let count = (HARMONIC_HZ_MAX / pitch_hz) as usize;
        let harmonic = |n: f64| (TAU * n * cycle).sin() * n.powf(-self.tilt);
        let whole: f64 = (1..=count).map(|n| harmonic(n as f64)).sum();
        if doubling <= 0.0 {
            return whole;
        }
        whole + doubling * (1..count).map(|n| harmonic(n as f64 + 0.5)).sum::<f64>()
    }
}
