//! Somebody talking, and somebody laughing: targets for the voice. No words, but the rhythm, pitch and vowels of words.

use super::noise::Noise;
use super::voice::{Target, speak};

/// Formants of vowels as men speak them, hertz (Peterson & Barney 1952, table II): heed, hid, head, had, hod, hood, who'd, hud.
const VOWELS_HZ: [[f64; 3]; 8] = [
    [270.0, 2290.0, 3010.0],
    [390.0, 1990.0, 2550.0],
    [530.0, 1840.0, 2480.0],
    [660.0, 1720.0, 2410.0],
    [730.0, 1090.0, 2440.0],
    [440.0, 1020.0, 2240.0],
    [300.0, 870.0, 2240.0],
    [640.0, 1190.0, 2390.0],
];
/// Where the second and third formant point while lips, tongue tip or tongue back close (Klatt 1980, table III: b, d, g).
const CLOSURES_HZ: [[f64; 3]; 3] = [[200.0, 1100.0, 2150.0], [200.0, 1600.0, 2600.0], [200.0, 1990.0, 2850.0]];
/// Middle of the friction of s and sh.
const FRICTIONS_HZ: [f64; 2] = [5500.0, 3200.0];

/// A sentence of `syllables`, about five a second as in all languages measured (Ding et al. 2017, Neurosci. Biobehav. Rev. 81),
/// with the pitch falling over it from `pitch_hz`, and accents.
pub fn sentence(syllables: usize, pitch_hz: f64, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let mut targets = Vec::new();
    let mut t_s = 0.02;
    for n in 0..syllables {
        let done = n as f64 / syllables as f64;
        let accent = if n % 3 == 1 { 1.18 } else { 1.0 };
        let pitch_hz = pitch_hz * (1.0 - 0.3 * done) * accent * noise.between(0.96, 1.04);
        let pick = |noise: &mut Noise, of: usize| (noise.between(0.0, of as f64) as usize).min(of - 1);
        let vowel = VOWELS_HZ[pick(&mut noise, VOWELS_HZ.len())];
        let closure = CLOSURES_HZ[pick(&mut noise, CLOSURES_HZ.len())];
        let friction_hz = FRICTIONS_HZ[pick(&mut noise, FRICTIONS_HZ.len())];
        let hisses = noise.between(0.0, 1.0) < 0.35;
        let (onset_s, vowel_s) = (noise.between(0.05, 0.08), noise.between(0.09, 0.17));
        let at = |t_s: f64, formants_hz, voice| Target {
            t_s,
            pitch_hz,
            formants_hz,
            voice,
            breath: 0.02,
            friction: (0.0, friction_hz),
        };
        let consonant = at(t_s, closure, if hisses { 0.0 } else { 0.12 });
        targets.push(consonant);
        let release =
            Target { friction: (if hisses { 0.25 } else { 0.05 }, friction_hz), t_s: t_s + onset_s * 0.7, ..consonant };
        targets.push(release);
        targets.push(at(t_s + onset_s + 0.03, vowel, 0.8 * accent));
        targets.push(at(t_s + onset_s + 0.03 + vowel_s, vowel, 0.6));
        t_s += onset_s + vowel_s + 0.06;
    }
    end(&mut targets, 0.15);
    speak(&targets, seed ^ 1)
}

/// A laugh of `notes`: breath, then a short open vowel, five a second, each lower and softer than the last (Bachorowski,
/// Smoski & Owren 2001, "The acoustic features of human laughter", J. Acoust. Soc. Am. 110).
pub fn laugh(notes: usize, pitch_hz: f64, seed: u64) -> Vec<f64> {
    let mut noise = Noise::new(seed);
    let mut targets = Vec::new();
    let mut t_s = 0.02;
    for n in 0..notes {
        let done = n as f64 / notes as f64;
        let pitch_hz = pitch_hz * (1.0 - 0.35 * done) * noise.between(0.95, 1.05);
        let at = |t_s, voice, breath| Target {
            t_s,
            pitch_hz,
            formants_hz: [640.0, 1300.0, 2450.0],
            voice,
            breath,
            friction: (0.0, 4000.0),
        };
        let length_s = noise.between(0.19, 0.23);
        targets.push(at(t_s, 0.0, 0.1));
        targets.push(at(t_s + 0.3 * length_s, 0.05, 0.5 * (1.0 - 0.5 * done)));
        targets.push(at(t_s + 0.5 * length_s, 0.9 * (1.0 - 0.6 * done), 0.1));
        targets.push(at(t_s + 0.8 * length_s, 0.4 * (1.0 - 0.6 * done), 0.2));
        t_s += length_s;
    }
    end(&mut targets, 0.1);
    speak(&targets, seed ^ 1)
}

/// The last target, gone silent.
fn end(targets: &mut Vec<Target>, after_s: f64) {
    if let Some(last) = targets.last().copied() {
        targets.push(Target {
            t_s: last.t_s + after_s,
            voice: 0.0,
            breath: 0.0,
            friction: (0.0, last.friction.1),
            ..last
        });
    }
}
