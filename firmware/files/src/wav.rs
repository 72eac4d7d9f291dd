//! A WAV file of one channel and 16 bits, to write; [`crate::recording`] reads every kind.

/// The whole file, of `samples` of -1..1 at `rate_hz`. Values beyond are clipped, and what is no number is silence. The format counts bytes
/// in 32 bits: at 192 kHz that is three hours, and longer sound is cut there.
pub fn bytes(samples: &[f32], rate_hz: u32) -> Vec<u8> {
    let samples = &samples[..samples.len().min((u32::MAX as usize - 44) / 2)];
    let data_bytes = samples.len() as u32 * 2;
    let mut bytes = Vec::with_capacity(44 + data_bytes as usize);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes()); // PCM
    bytes.extend(1u16.to_le_bytes()); // channels
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend(rate_hz.saturating_mul(2).to_le_bytes()); // bytes a second
    bytes.extend(2u16.to_le_bytes()); // bytes a sample of all channels
    bytes.extend(16u16.to_le_bytes()); // bits
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    // A cast from float saturates, and takes NaN to silence.
    bytes.extend(samples.iter().flat_map(|sample| ((sample * 32_767.0).round() as i16).to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recording::Recording;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        std::fs::write(&path, bytes(&[0.0, 0.5, -1.0, 3.0, f32::NAN], 8_000)).unwrap();
        let (read, rate_hz) = Recording::read_all(&path).unwrap();
        assert_eq!(rate_hz, 8_000);
        let expected = [0.0, 0.5, -1.0, 1.0, 0.0];
        assert_eq!(read.len(), expected.len());
        assert!(read.iter().zip(expected).all(|(read, wanted)| (read - wanted).abs() < 1e-4), "{read:?}");
    }
}
