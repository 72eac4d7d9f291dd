//! Whether a window is so quiet that no scream can be in it, so that the network need not be asked.
//!
//! Two bounds, both measured in the room while nobody is there (`host-tools calibrate`), and both must hold: the loudest stretch of
//! 50 ms, so that a short sound in a quiet window is seen, and the strongest cell of the mel picture, so that a high sound is not hidden
//! by what a room hums below.

use std::ops::RangeInclusive;

/// Samples of a stretch, at 16 kHz; at other rates the same count, since only its being short matters.
const STRETCH: usize = 800;
/// Decibels of a doubling of power: the picture is in log2.
const DB_PER_LOG2: f32 = 3.010_3;

/// Where the level's bound may lie: above this a person speaks, and a gate there would not be one for quiet rooms.
pub const LEVEL_DBFS: RangeInclusive<f64> = -120.0..=-45.0;
/// Where the band's may.
pub const BAND_DB: RangeInclusive<f64> = -100.0..=10.0;

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuietGate {
    /// Of the loudest stretch of 800 samples (50 ms at 16 kHz), RMS without the card's offset, dBFS.
    pub level_dbfs: f32,
    /// Of the strongest cell, decibels of mel power.
    pub band_db: f32,
}

impl QuietGate {
    /// Whether both bounds hold for a window; `log_mel` is its picture before normalisation, log2 of mel power.
    pub fn is_quiet(&self, sound: &[f32], log_mel: &[f32]) -> bool {
        loudest_dbfs(sound) < self.level_dbfs && strongest_db(log_mel) < self.band_db
    }
}

/// RMS of the loudest stretch of 800 samples (50 ms at 16 kHz) without the card's offset, dBFS; no number and infinity count as full scale.
pub fn loudest_dbfs(sound: &[f32]) -> f32 {
    // The whole sound's mean: one of 50 ms would take a low hum for an offset.
    let offset = sound.iter().map(|sample| f64::from(*sample)).sum::<f64>() / sound.len().max(1) as f64;
    let level = |stretch: &[f32]| {
        let power = stretch.iter().map(|sample| (f64::from(*sample) - offset).powi(2)).sum::<f64>();
        crate::level::power_dbfs(power / stretch.len().max(1) as f64)
    };
    let loudest =
        sound.chunks(STRETCH).map(level).fold(f32::NEG_INFINITY, |most, level| if level > most { level } else { most });
    if sound.iter().all(|sample| sample.is_finite()) { loudest } else { 0.0 }
}

/// The strongest cell of a picture, decibels of mel power; no number counts as the strongest there is.
pub fn strongest_db(log_mel: &[f32]) -> f32 {
    log_mel.iter().fold(f32::NEG_INFINITY, |most, &cell| if cell.is_nan() { f32::INFINITY } else { most.max(cell) })
        * DB_PER_LOG2
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: QuietGate = QuietGate { level_dbfs: -60.0, band_db: -20.0 };

    #[test]
    fn both_bounds_must_hold() {
        let (quiet, low) = ([1e-4f32; 32_000], [-10.0f32; 64]);
        assert!(GATE.is_quiet(&quiet, &low));
        let offset = quiet.map(|sample| sample + 0.01);
        assert!(GATE.is_quiet(&offset, &low), "a cheap card's offset is no sound");
        let mut click = quiet;
        click[20_000..20_400].fill(0.01);
        assert!(!GATE.is_quiet(&click, &low), "25 ms at -40 dBFS in a window that is quiet on the whole");
        let mut whistle = low;
        whistle[40] = -5.0;
        assert!(!GATE.is_quiet(&quiet, &whistle), "one cell of the picture");
        assert!(
            GATE.is_quiet(&[0.0; 100], &low),
            "digital silence is quiet; the microphone's health is judged elsewhere"
        );
    }

    #[test]
    fn what_is_no_number_is_never_quiet() {
        assert!(!GATE.is_quiet(&[f32::NAN], &[-10.0]) && !GATE.is_quiet(&[f32::INFINITY], &[-10.0]));
        assert!(!GATE.is_quiet(&[0.0], &[-10.0, f32::NAN]) && !GATE.is_quiet(&[0.0], &[f32::NAN, -10.0]));
    }
}
