//! Recordings at a model's rate.

use std::path::Path;

use detector::resample::Resampler;
use files::recording::Recording;

/// All of a recording, channels averaged, at `rate_hz`.
pub fn read_at(path: &Path, rate_hz: u32) -> anyhow::Result<Vec<f32>> {
    first_at(path, rate_hz, usize::MAX)
}

/// As [`read_at`], but of a longer recording the first `samples` alone: behind what the resampler needs for them nothing is read,
/// and no damage there is seen.
pub fn first_at(path: &Path, rate_hz: u32, samples: usize) -> anyhow::Result<Vec<f32>> {
    let mut recording = Recording::open(path)?;
    let mut resampler = Resampler::new(recording.rate_hz(), rate_hz)?;
    let mut out = Vec::new();
    while out.len() < samples {
        let Some(piece) = recording.next_piece()? else {
            resampler.finish(|piece| out.extend_from_slice(piece));
            break;
        };
        resampler.push(piece, |piece| out.extend_from_slice(piece));
    }
    out.truncate(samples);
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A recording in 32-bit floats.
    fn write(path: &Path, rate_hz: u32, samples: &[f32]) {
        let bytes = 4 * samples.len() as u32;
        let head = [36 + bytes, 16, 3 | (1 << 16), rate_hz, 4 * rate_hz, 4 | (32 << 16), bytes].map(u32::to_le_bytes);
        let [riff, format @ .., data] = &head;
        let sound: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let all = [&b"RIFF"[..], riff, b"WAVEfmt ", &format.concat(), b"data", data, &sound].concat();
        std::fs::write(path, all).unwrap();
    }

    #[test]
    fn the_first_samples_are_those_of_the_whole_and_what_lies_behind_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        for rate_hz in [16_000, 44_100, 8_000] {
            let mut sound: Vec<f32> =
                (0..8 * rate_hz).map(|n| ((n % 977 * (n % 977) % 977) as f32 / 977.0 - 0.5) * 0.8).collect();
            write(&path, rate_hz, &sound);
            let whole = read_at(&path, 16_000).unwrap();
            assert_eq!(whole.len(), 8 * 16_000);
            for samples in [0, 1, 31_999, 32_000, whole.len(), whole.len() + 1] {
                let first = first_at(&path, 16_000, samples).unwrap();
                assert!(first == whole[..samples.min(whole.len())], "{samples} at {rate_hz} Hz");
            }
            // A sample that is no number is refused where it is come upon.
            *sound.last_mut().unwrap() = f32::NAN;
            write(&path, rate_hz, &sound);
            assert!(read_at(&path, 16_000).unwrap_err().to_string().contains("damaged after"));
            assert!(first_at(&path, 16_000, 32_000).unwrap() == whole[..32_000], "{rate_hz} Hz");
        }
    }
}
