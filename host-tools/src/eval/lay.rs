//! How a clip is laid before it is scored: its loudest seconds in the middle of quiet pink noise.
//!
//! Half of the screams are longer than every other clip, so length alone tells the label; and digital zeros around a clip
//! are something that no microphone gives.

use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Level of the noise under the clip's own, dB.
const UNDER_DB: f64 = 40.0;
/// RMS of the noise around digital silence, of full scale: -100 dB. No microphone gives zeros there either.
const NOISE_OF_SILENCE: f32 = 1e-5;

/// The `length` samples of largest energy, the first of them where several are equal.
pub fn loudest(sound: &[f32], length: usize) -> &[f32] {
    if sound.len() <= length || length == 0 {
        return sound;
    }
    let square = |x: f32| f64::from(x) * f64::from(x);
    let mut energy: f64 = sound[..length].iter().map(|&x| square(x)).sum();
    let (mut best, mut start) = (energy, 0);
    for end in length..sound.len() {
        energy += square(sound[end]) - square(sound[end - length]);
        if energy > best {
            (best, start) = (energy, end + 1 - length);
        }
    }
    &sound[start..start + length]
}

/// `clip` in the middle of pink noise seeded by `name`, as long as whole windows need: one at least, then a stride each (samples,
/// which need be no whole number).
pub fn lay(clip: &[f32], name: &str, window: usize, stride: f64) -> Vec<f32> {
    let stride = stride.max(1.0);
    let beyond = (clip.len().saturating_sub(window) as f64 / stride).ceil();
    let length = window + (beyond * stride).ceil() as usize;
    lay_at(clip, name, (length - clip.len()) / 2, length)
}

/// `clip` from sample `start` on in `length` samples of such noise.
///
/// # Panics
/// Where it does not fit.
pub fn lay_at(clip: &[f32], name: &str, start: usize, length: usize) -> Vec<f32> {
    let level = match rms(clip) {
        0.0 => NOISE_OF_SILENCE,
        rms => (f64::from(rms) * 10f64.powf(-UNDER_DB / 20.0)) as f32,
    };
    let mut laid = pink_noise(name, length);
    laid.iter_mut().for_each(|x| *x *= level);
    for (out, x) in laid[start..start + clip.len()].iter_mut().zip(clip) {
        *out += x;
    }
    laid
}

/// Noise whose power falls by 3 dB an octave (Paul Kellet's filter over white noise), RMS 1, the same for the same name.
pub fn pink_noise(name: &str, length: usize) -> Vec<f32> {
    let digest = Sha256::digest(name.as_bytes());
    let seed = digest.iter().take(8).fold(0u64, |seed, &byte| seed << 8 | u64::from(byte));
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    const POLES: [(f64, f64); 6] = [
        (0.99886, 0.0555179),
        (0.99332, 0.0750759),
        (0.96900, 0.1538520),
        (0.86650, 0.3104856),
        (0.55000, 0.5329522),
        (-0.7616, -0.0168980),
    ];
    let mut state = [0f64; 6];
    let mut delayed = 0.0;
    let mut noise: Vec<f32> = (0..length)
        .map(|_| {
            let white: f64 = rng.random_range(-1.0..1.0);
            let mut sum = delayed + white * 0.5362;
            for (state, (pole, gain)) in state.iter_mut().zip(POLES) {
                *state = pole * *state + gain * white;
                sum += *state;
            }
            delayed = white * 0.115926;
            sum as f32
        })
        .collect();
    let rms = rms(&noise).max(1e-12);
    noise.iter_mut().for_each(|x| *x /= rms);
    noise
}

/// Root of the mean square; 0 of nothing.
pub fn rms(sound: &[f32]) -> f32 {
    let sum: f64 = sound.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sum / sound.len().max(1) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loudest_part_is_found() {
        let sound = [0.0, 0.1, 0.9, 0.8, 0.0, 0.2];
        assert_eq!(loudest(&sound, 2), &[0.9, 0.8]);
        assert_eq!(loudest(&sound, 0), &sound);
        assert_eq!(loudest(&sound, 10), &sound);
        let equal = [1.0, 1.0, 1.0];
        assert_eq!(loudest(&equal, 1).as_ptr(), equal.as_ptr());
    }

    #[test]
    fn a_clip_lies_in_the_middle_of_noise_40_db_down() {
        let clip = vec![0.5f32; 1000];
        let laid = lay(&clip, "a.flac", 4000, 2000.0);
        assert_eq!(laid.len(), 4000);
        assert!((laid[2000] - 0.5).abs() < 0.05);
        let rms = (laid[..1500].iter().map(|x| x * x).sum::<f32>() / 1500.0).sqrt();
        assert!((20.0 * (rms / 0.5).log10() + 40.0).abs() < 3.0, "{rms}");
        assert!(laid.iter().all(|&x| x != 0.0), "no digital zeros");
        assert!(lay(&[0.0; 1000], "a.flac", 4000, 2000.0).iter().all(|&x| x != 0.0), "nor around digital silence");
        assert_eq!(laid, lay(&clip, "a.flac", 4000, 2000.0));
        assert_ne!(laid, lay(&clip, "b.flac", 4000, 2000.0));
        assert_eq!(lay(&vec![0.1; 4001], "c", 4000, 2000.0).len(), 6000);
        // Of a stride that is no whole number the window that ends last is whole, too.
        assert_eq!(lay(&vec![0.1; 4001], "c", 4000, 333.3).len(), 4334);
        assert_eq!(lay(&vec![0.1; 4700], "c", 4000, 333.3).len(), 5000);
    }

    #[test]
    fn pink_noise_falls_by_3_db_an_octave() {
        let noise = pink_noise("x", 1 << 16);
        // Energy of differences at lag 1 against the whole: white noise gives 2, brown noise near 0.
        let differences: f32 = noise.windows(2).map(|w| (w[1] - w[0]).powi(2)).sum::<f32>() / noise.len() as f32;
        assert!((0.1..0.8).contains(&differences), "{differences}");
    }
}
