//! A WAV file of one channel and 16 bits.

use super::RATE_HZ;

/// The whole file. Values beyond -1..1 are clipped.
pub fn bytes(sound: &[f32]) -> Vec<u8> {
    // The scene is minutes long at the most: far from the format's 4 GiB.
    let data_bytes = sound.len() as u32 * 2;
    let mut bytes = Vec::with_capacity(44 + sound.len() * 2);
    bytes.extend(b"RIFF");
    bytes.extend((36 + data_bytes).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes()); // PCM
    bytes.extend(1u16.to_le_bytes()); // channels
    bytes.extend(RATE_HZ.to_le_bytes());
    bytes.extend((RATE_HZ * 2).to_le_bytes()); // bytes a second
    bytes.extend(2u16.to_le_bytes()); // bytes a sample of all channels
    bytes.extend(16u16.to_le_bytes()); // bits
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    bytes.extend(sound.iter().flat_map(|sample| ((sample * 32_767.0).round() as i16).to_le_bytes()));
    bytes
}
