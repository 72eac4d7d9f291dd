//! Seeded noise: the same numbers on every machine and with every release of every crate.

/// SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators", fig. 16).
pub struct Noise(u64);

impl Noise {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in -1..1.
    pub fn white(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The upper 53 bits are what a double holds.
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Uniform in `low..high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.white() + 1.0) / 2.0
    }
}

/// Noise whose power falls by 3 dB an octave, as that of quiet rooms roughly does: Paul Kellet's "economy" sum of three
/// low-passes (musicdsp.org, "Pink noise filter", 1999; within 0.5 dB from 9 Hz at 44.1 kHz, at 16 kHz from 3 Hz).
pub struct Pink {
    noise: Noise,
    state: [f64; 3],
}

impl Pink {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { noise: Noise::new(seed), state: [0.0; 3] }
    }

    /// The next sample; RMS is near 1.
    pub fn sample(&mut self) -> f64 {
        const POLES_GAINS: [(f64, f64); 3] = [(0.99765, 0.099_046), (0.963, 0.296_516_4), (0.57, 1.052_691_3)];
        let white = self.noise.white();
        for (state, (pole, gain)) in self.state.iter_mut().zip(POLES_GAINS) {
            *state = pole * *state + gain * white;
        }
        (self.state.iter().sum::<f64>() + 0.1848 * white) * 0.6
    }
}
