//! A card's bytes to samples of -1 to 1.

/// How a card writes a sample; all little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// 16 bits.
    S16,
    /// 24 bits in three bytes.
    S24In3,
    /// 24 bits in the lower three of four bytes; the fourth says nothing.
    S24In4,
    /// 32 bits.
    S32,
    /// A float of -1 to 1.
    Float,
}

impl Sample {
    /// Bytes of one sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S24In3 => 3,
            Self::S24In4 | Self::S32 | Self::Float => 4,
        }
    }

    /// The samples of interleaved `bytes` with `channels` averaged, one a whole frame; always numbers of -1 to 1.
    pub fn mono(self, bytes: &[u8], channels: usize) -> impl Iterator<Item = f32> + '_ {
        let width = self.bytes();
        bytes.chunks_exact(width * channels.max(1)).map(move |frame| {
            let mean = frame.chunks_exact(width).map(|bytes| self.value(bytes)).sum::<f32>() / channels.max(1) as f32;
            // A float card may give anything; what is no number would poison every window it touches.
            if mean.is_finite() { mean.clamp(-1.0, 1.0) } else { 0.0 }
        })
    }

    fn value(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::S16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
            // Shifted into the upper bytes, so that the sign comes out right whatever the fourth byte holds.
            (Self::S24In3, &[a, b, c]) | (Self::S24In4, &[a, b, c, _]) => whole(i32::from_le_bytes([0, a, b, c])),
            (Self::S32, &[a, b, c, d]) => whole(i32::from_le_bytes([a, b, c, d])),
            (Self::Float, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            _ => 0.0,
        }
    }
}

fn whole(value: i32) -> f32 {
    value as f32 / 2_147_483_648.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_becomes_the_same_floats() {
        let check = |sample: Sample, bytes: &[u8], channels, expect: &[f32]| {
            assert_eq!(sample.mono(bytes, channels).collect::<Vec<_>>(), expect, "{sample:?} {bytes:?}");
        };
        check(Sample::S16, &[0, 0x40, 0, 0xC0], 1, &[0.5, -0.5]);
        check(Sample::S16, &[0, 0x40, 0, 0xC0], 2, &[0.0]);
        check(Sample::S16, &[0, 0x40, 0, 0x40, 7], 1, &[0.5, 0.5]);
        check(Sample::S24In3, &[0, 0, 0x40, 0, 0, 0xC0], 1, &[0.5, -0.5]);
        check(Sample::S24In3, &[0, 0, 0x80, 0xFF, 0xFF, 0xFF], 1, &[-1.0, -1.0 / 8_388_608.0]);
        check(Sample::S24In4, &[0, 0, 0x40, 0, 0, 0, 0xC0, 0xFF], 1, &[0.5, -0.5]);
        check(Sample::S24In4, &[0, 0, 0xC0, 0x00], 1, &[-0.5]);
        check(Sample::S32, &[0, 0, 0, 0x40, 0, 0, 0, 0x80], 1, &[0.5, -1.0]);
        check(Sample::Float, &0.25f32.to_le_bytes(), 1, &[0.25]);
        check(Sample::Float, &f32::NAN.to_le_bytes(), 1, &[0.0]);
        check(Sample::Float, &7f32.to_le_bytes(), 1, &[1.0]);
    }
}
