//! `host-tools scene --out FILE.wav [--seconds N]`
//!
//! The demo's own sound: half a minute of a home that is quiet, busy, talking, laughing, and in which somebody screams at about
//! 20 s. Everything is synthesised from formulae and seeded noise; no recording is used, and the file is the same at every run
//! (between machines it may differ in the last bit of a sample, where their sines do).

mod curve;
mod filter;
mod household;
mod noise;
mod room;
mod scream;
mod speech;
mod voice;

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context;
use files::{say, wav};

use scream::Scream;

/// Sampling rate of the scene.
pub const RATE_HZ: u32 = 16_000;
/// The whole story fits into this; what is asked for beyond it stays a quiet room.
pub const SECONDS_MIN: u32 = 26;
/// Seconds before the scream.
const SCREAM_AT_S: f64 = 20.02;
const SCREAM_PEAK_DBFS: f64 = -6.0;
/// RMS of the quiet room.
const ROOM_DBFS: f64 = -65.0;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The WAV file to write: 16 kHz, one channel, 16 bits
    #[arg(long)]
    out: PathBuf,
    /// Its length; the room stays quiet after the scream
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(i64::from(SECONDS_MIN)..=600))]
    seconds: u32,
}

/// Writes the scene and says what is where.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let scene = Scene::new(args.seconds);
    std::fs::write(&args.out, wav::bytes(&scene.sound, RATE_HZ)).with_context(|| args.out.display().to_string())?;
    say!(
        "{}: {} s, a scream from {:.2} to {:.2} s",
        args.out.display(),
        args.seconds,
        scene.scream_s.start,
        scene.scream_s.end
    );
    Ok(())
}

/// A synthesised stretch of life in a room.
pub struct Scene {
    /// Samples at [`RATE_HZ`], -1..1.
    pub sound: Vec<f32>,
    /// Where the scream is, without its reverberation, seconds.
    pub scream_s: Range<f64>,
}

impl Scene {
    /// Of so many seconds, at least [`SECONDS_MIN`].
    pub fn new(seconds: u32) -> Self {
        Self::with(Scream::TYPICAL, 1, seconds)
    }

    /// With somebody else's scream.
    fn with(scream: Scream, seed: u64, seconds: u32) -> Self {
        let mut sound = room::tone(seconds.max(SECONDS_MIN) as usize * RATE_HZ as usize);
        let room = level(ROOM_DBFS);
        sound.iter_mut().for_each(|sample| *sample *= room);
        // When, how loud at its peak, what.
        let events = [
            (2.0, -34.0, household::kettle(5.0, 11)),
            (5.2, -22.0, household::knocks(3, 12)),
            (7.6, -18.0, speech::sentence(7, 135.0, 13)),
            (9.6, -20.0, speech::sentence(6, 205.0, 14)),
            (11.6, -28.0, household::dishes(5, 15)),
            (13.6, -38.0, household::beeps(3)),
            (15.3, -19.0, speech::sentence(6, 125.0, 16)),
            (17.0, -19.0, speech::laugh(7, 230.0, 17)),
            (SCREAM_AT_S, SCREAM_PEAK_DBFS, scream.sound(seed)),
        ];
        for (at_s, peak_dbfs, dry) in events {
            let heard = room::reverberate(&dry);
            let peak = heard.iter().fold(f64::MIN_POSITIVE, |peak, sample| sample.abs().max(peak));
            lay(&mut sound, at_s, &heard, level(peak_dbfs) / peak);
        }
        Self {
            sound: sound.iter().map(|sample| *sample as f32).collect(),
            scream_s: SCREAM_AT_S..SCREAM_AT_S + scream.seconds,
        }
    }
}

/// Adds `piece` to `sound` from `at_s` on; what is past the end is dropped.
fn lay(sound: &mut [f64], at_s: f64, piece: &[f64], gain: f64) {
    let start = ((at_s * f64::from(RATE_HZ)) as usize).min(sound.len());
    for (sample, added) in sound[start..].iter_mut().zip(piece) {
        *sample += gain * added;
    }
}

/// Amplitude of a level.
fn level(dbfs: f64) -> f64 {
    10f64.powf(dbfs / 20.0)
}

#[cfg(test)]
mod tests;
