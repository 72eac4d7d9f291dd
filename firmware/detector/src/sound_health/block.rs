//! What one block of samples shows.

use super::Defect;
use super::likeness::Likeness;

/// No sample of a silent block is larger: 24 bits have their last one below it.
const SILENT: f32 = 1e-6;
/// Mean of a block with an offset. Cheap cards have a hundredth.
const OFFSET: f64 = 0.05;
/// A rail lies this far out at the least; what is softer is a limiter's or a codec's doing.
const RAIL: f32 = 0.25;
/// Samples this near to the largest lie at the rail: one and a half steps of 16 bits.
const RAIL_WIDTH: f32 = 1.5 / 32_768.0;
/// Share of the samples at the rails. A sine has 0.012 of them there at the softest rail, whatever its rate.
const RAIL_SHARE: f64 = 0.02;
/// Below this level low bits may rest by chance: -72 dBFS.
const BITS_RMS: f64 = 2.5e-4;
/// A frozen buffer is no shorter than a card's shortest period, samples; what repeats faster is a tone.
const REPEAT_MIN: usize = 64;
/// A repetition is a tone where it is periodic inside itself to this degree: 30 dB above what else it holds, which no
/// microphone's own noise allows for long.
const TONE_CORRELATION: f64 = 0.999;
/// Lowest tone that is looked for, hertz.
const TONE_HZ_MIN: u32 = 20;
/// Samples that a tone is looked for in.
pub const TONE_SAMPLES_MAX: usize = 16_384;

/// The newest block with the sound before it.
pub struct Block<'a> {
    /// All sound that is known, oldest first, the block last.
    pub known: &'a [f32],
    /// Where the block begins.
    pub start: usize,
    /// Of the source.
    pub rate_hz: u32,
}

impl<'a> Block<'a> {
    /// The block alone.
    pub fn samples(&self) -> &'a [f32] {
        &self.known[self.start..]
    }

    /// Whether it shows `defect`; what takes longer than a block, it does not.
    pub fn shows(&self, defect: Defect, likeness: &mut Likeness) -> bool {
        match defect {
            Defect::Zeros => self.is_silent(),
            Defect::Repeating => self.is_repeating(likeness),
            Defect::StuckBit => self.has_stuck_bit(),
            Defect::Offset => self.has_offset(),
            Defect::Clipping => self.is_clipped(),
            Defect::Covered => false,
        }
    }

    /// Digital silence.
    fn is_silent(&self) -> bool {
        self.samples().iter().all(|sample| sample.abs() <= SILENT)
    }

    /// Far from zero on average.
    fn has_offset(&self) -> bool {
        mean(self.samples()).abs() >= OFFSET
    }

    /// Cut off at one rail or both.
    fn is_clipped(&self) -> bool {
        let block = self.samples();
        let (low, high) =
            block.iter().fold((f32::MAX, f32::MIN), |(low, high), sample| (low.min(*sample), high.max(*sample)));
        let at_rail =
            |sample: f32| (high >= RAIL && sample >= high - RAIL_WIDTH) || (low <= -RAIL && sample <= low + RAIL_WIDTH);
        let enough = |count: usize| count as f64 >= RAIL_SHARE * block.len() as f64;
        // A computed tone has few phases, and may peak in one sample of each cycle: there only flat tops count.
        enough(block.iter().filter(|sample| at_rail(**sample)).count())
            && (enough(block.windows(2).filter(|pair| at_rail(pair[0]) && at_rail(pair[1])).count())
                || self.period().is_none())
    }

    /// A bit of the upper 16 rests while one above and one below it change.
    fn has_stuck_bit(&self) -> bool {
        let block = self.samples();
        let power = block.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / block.len() as f64;
        if power < BITS_RMS * BITS_RMS {
            return false;
        }
        // Rounded down, as a wider sample's upper bits are.
        let bits = |sample: &f32| (f64::from(*sample) * 32_768.0).floor() as i16 as u16;
        let (any, all) = block.iter().map(bits).fold((0, u16::MAX), |(any, all), bits| (any | bits, all & bits));
        let changes = any & !all;
        let inner = |bit: u32| changes >> bit & 1 == 0 && changes >> bit > 0 && changes & ((1 << bit) - 1) > 0;
        (0..u16::BITS).any(inner)
    }

    /// The block is the sound of a while before once more, to the bit; or one value alone.
    fn is_repeating(&self, likeness: &mut Likeness) -> bool {
        let block = self.samples();
        if self.is_silent() {
            return false;
        }
        if block.iter().all(|sample| *sample == block[0]) {
            return true;
        }
        self.period().is_some_and(|period| period >= REPEAT_MIN && !self.is_tone(period, likeness))
    }

    /// The smallest repetition, samples.
    fn period(&self) -> Option<usize> {
        let (block, len) = (self.samples(), self.known.len());
        // Compared from the loudest sample on: in near silence most samples are alike, and this one is not.
        let loudest = |(best, peak): (usize, f32), (at, sample): (usize, &f32)| match sample.abs() > peak {
            true => (at, sample.abs()),
            false => (best, peak),
        };
        let loud = self.start + block.iter().enumerate().fold((0, 0.0), loudest).0;
        // At least half a block is compared with what came before it.
        let longest = len - block.len().div_ceil(2);
        (1..=longest).find(|period| {
            let from = self.start.max(*period);
            let at = loud.max(from);
            let same = |a: usize, b: usize| self.known[a..b] == self.known[a - period..b - period];
            same(at, len) && same(from, at)
        })
    }

    /// Periodic inside the repetition: a tone that a program computed, not a frozen buffer.
    fn is_tone(&self, period: usize, likeness: &mut Likeness) -> bool {
        let samples = self.samples().len().min(TONE_SAMPLES_MAX);
        let longest = (period / 2).min((self.rate_hz / TONE_HZ_MIN) as usize).min(samples / 2);
        // Any slow sound resembles itself a few samples later: only after a first dip does likeness mean a period.
        let mut dipped = false;
        (1..=longest).map(likeness.of(self.samples())).any(|likeness| {
            dipped |= likeness < 0.5;
            dipped && likeness >= TONE_CORRELATION
        })
    }
}

/// Arithmetic.
pub fn mean(block: &[f32]) -> f64 {
    block.iter().map(|sample| f64::from(*sample)).sum::<f64>() / block.len().max(1) as f64
}
