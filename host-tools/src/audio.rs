//! Recordings at a model's rate.

use std::path::Path;

use detector::resample::Resampler;
use files::recording::Recording;

/// All of a recording, channels averaged, at `rate_hz`.
pub fn read_at(path: &Path, rate_hz: u32) -> anyhow::Result<Vec<f32>> {
    let (sound, own_hz) = Recording::read_all(path)?;
    if own_hz == rate_hz {
        return Ok(sound);
    }
    let mut resampler = Resampler::new(own_hz, rate_hz)?;
    let mut out = Vec::with_capacity((sound.len() as f64 * f64::from(rate_hz) / f64::from(own_hz)) as usize + 1);
    resampler.push(&sound, |piece| out.extend_from_slice(piece));
    resampler.finish(|piece| out.extend_from_slice(piece));
    Ok(out)
}
