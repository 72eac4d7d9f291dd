//! A *bed*: everyday sound without a scream, as long as is asked for, to set screams into.
//!
//! Background recordings where there are some, else the split's own clips that are no screams, one after another in a
//! seeded order. Pink noise far under them: a bed is never digitally silent.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::lay::{self, rms};
use super::table::{Background, Clip};

/// RMS of the noise, of full scale: -70 dB.
const FLOOR: f32 = 3.2e-4;

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

/// Brings `sound` back under full scale, all of it, where a sum went over.
pub fn limit(sound: &mut [f32]) {
    let peak = sound.iter().fold(1.0f32, |peak, x| peak.max(x.abs()));
    if peak > 1.0 {
        sound.iter_mut().for_each(|x| *x /= peak);
    }
}

/// The gain that lifts `clip` so many dB over `bed`.
pub fn gain_over(clip: &[f32], bed: f32, snr_db: f32) -> f32 {
    bed / rms(clip).max(1e-9) * 10f32.powf(snr_db / 20.0)
}
