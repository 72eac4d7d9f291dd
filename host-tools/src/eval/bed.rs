//! A *bed*: everyday sound without a scream, as long as is asked for, to set screams into.
//!
//! Background recordings where there are some, else the split's own clips that are no screams, one after another in a
//! seeded order. Pink noise far under them: a bed is never digitally silent.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::lay::{self, rms};
use super::table::{Background, Clip};

/// RMS of the noise, of full scale: -70 dB.
const FLOOR: f32 = 3.2e-4;
/// What is so far under its surroundings is a gap in them, dB.
const GAP_DB: f32 = 6.0;

/// Files in the order in which they are laid.
pub struct Bed {
    files: Vec<PathBuf>,
    rate_hz: u32,
}

impl Bed {
    /// Of background recordings.
    pub fn recordings(folder: &Path, rows: &[Background], rate_hz: u32) -> Self {
        Self::new(rows.iter().map(|row| folder.join(&row.file)).collect(), rate_hz)
    }

    /// Of the clips that are no screams.
    pub fn clips(folder: &Path, rows: &[Clip], rate_hz: u32) -> Self {
        let others = rows.iter().filter(|row| row.truth() == Some(false));
        Self::new(others.map(|row| folder.join(&row.file)).collect(), rate_hz)
    }

    fn new(mut files: Vec<PathBuf>, rate_hz: u32) -> Self {
        files.shuffle(&mut SmallRng::seed_from_u64(1));
        Self { files, rate_hz }
    }

    /// How many files it is made of.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// `samples` of it from the start of file number `first` on (counted round and round), one file after another.
    pub fn stretch(&self, first: usize, samples: usize) -> anyhow::Result<Vec<f32>> {
        let mut sound: Vec<f32> = Vec::with_capacity(samples);
        let mut next = first;
        while sound.len() < samples && !self.files.is_empty() {
            let piece = crate::audio::read_at(&self.files[next % self.files.len()], self.rate_hz)?;
            let room = samples - sound.len();
            sound.extend(&piece[..piece.len().min(room)]);
            next += 1;
        }
        sound.resize(samples, 0.0);
        let floor = lay::pink_noise(&format!("bed {first}"), samples);
        sound.iter_mut().zip(floor).for_each(|(x, noise)| *x += FLOOR * noise);
        Ok(sound)
    }

    /// As [`stretch`](Self::stretch), from the first of the files from `first` on that sounds within `span`: there its level is at
    /// the most [`GAP_DB`] under that of the whole stretch. To a gap no signal-to-noise ratio can be set: scaled up until the gap
    /// is as loud as is asked for, all around it would be far louder. The loudest gap where nothing else is found.
    pub fn sounding(&self, first: usize, samples: usize, span: Range<usize>) -> anyhow::Result<Vec<f32>> {
        let mut best = (f32::NEG_INFINITY, Vec::new());
        for next in first..first + self.files.len().max(1) {
            let sound = self.stretch(next, samples)?;
            // No sound, no gap.
            if span.is_empty() {
                return Ok(sound);
            }
            let over_db = 20.0 * (rms(&sound[span.clone()]) / rms(&sound)).log10();
            if over_db >= -GAP_DB {
                return Ok(sound);
            }
            if over_db > best.0 {
                best = (over_db, sound);
            }
        }
        Ok(best.1)
    }

    /// All files once, one after another.
    pub fn whole(&self) -> anyhow::Result<Vec<f32>> {
        let mut sound = Vec::new();
        for file in &self.files {
            sound.extend(crate::audio::read_at(file, self.rate_hz)?);
        }
        let floor = lay::pink_noise("bed", sound.len());
        sound.iter_mut().zip(floor).for_each(|(x, noise)| *x += FLOOR * noise);
        Ok(sound)
    }
}

/// Adds `clip` times `gain` to `sound` from `start` on.
pub fn add(sound: &mut [f32], start: usize, clip: &[f32], gain: f32) {
    for (out, x) in sound[start..].iter_mut().zip(clip) {
        *out += gain * x;
    }
}

/// Brings `sound` back under full scale where the sum within `span` went over: all of it is weakened by what the span needs,
/// which keeps the ratio there, and what is louder elsewhere is clipped, as a converter does. One door that slams two seconds
/// before a scream must not make a whisper of it.
pub fn limit(sound: &mut [f32], span: Range<usize>) {
    let peak = sound[span].iter().fold(1.0f32, |peak, x| peak.max(x.abs()));
    sound.iter_mut().for_each(|x| *x = (*x / peak).clamp(-1.0, 1.0));
}

/// The gain that lifts `clip` so many dB over `bed`.
pub fn gain_over(clip: &[f32], bed: f32, snr_db: f32) -> f32 {
    bed / rms(clip).max(1e-9) * 10f32.powf(snr_db / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of 16 kHz, named `name`.
    fn recording(folder: &Path, name: &str, samples: &[f32]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, files::wav::bytes(samples, 16_000)).unwrap();
        path
    }

    #[test]
    fn a_scream_is_never_set_into_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let gap = [vec![0.3; 8_000], vec![0.0; 4_000], vec![0.3; 4_000]].concat();
        let steady = vec![-0.1; 16_000];
        let files = vec![recording(folder.path(), "gap.wav", &gap), recording(folder.path(), "steady.wav", &steady)];
        let bed = Bed { files: files.clone(), rate_hz: 16_000 };
        // In the gap the next recording is taken, beside it the first.
        assert!(bed.sounding(0, 16_000, 8_000..12_000).unwrap()[9_000] < -0.05);
        assert!(bed.sounding(0, 16_000, 0..4_000).unwrap()[0] > 0.25);
        // Nothing but gaps: what there is.
        let gaps = Bed { files: files[..1].to_vec(), rate_hz: 16_000 };
        assert!(gaps.sounding(0, 16_000, 8_000..12_000).unwrap()[0] > 0.25);
    }

    #[test]
    fn a_bang_beside_the_scream_does_not_weaken_it() {
        let mut sound = [vec![8.0; 10], vec![0.5; 10], vec![-8.0; 10]].concat();
        limit(&mut sound, 10..20);
        assert_eq!([sound[0], sound[10], sound[29]], [1.0, 0.5, -1.0]);
        let mut sound = vec![1.0, 2.0, -4.0, 8.0];
        limit(&mut sound, 1..3);
        assert_eq!(sound, [0.25, 0.5, -1.0, 1.0]);
    }
}
