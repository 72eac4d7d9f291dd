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
/// Comparisons of one search, in block lengths: several times what ordinary sound takes. A computed tone with a click in it
/// would take thousands; it is given up, and no frozen buffer either.
const COMPARED_MAX: usize = 40;
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

    /// The smallest repetition, samples; none where [`COMPARED_MAX`] did not find it.
    fn period(&self) -> Option<usize> {
        self.search().0
    }

    /// [`Block::period`], and how many samples were compared.
    fn search(&self) -> (Option<usize>, usize) {
        let (block_len, len) = (self.samples().len(), self.known.len());
        let (edge, mut compared) = (self.start + self.edge(), 0);
        // At least half a block is compared with what came before it.
        let longest = len - block_len.div_ceil(2);
        for period in 1..=longest {
            if compared > COMPARED_MAX * block_len {
                break;
            }
            let from = self.start.max(period);
            let at = edge.max(from);
            let mut same = |a: usize, b: usize| {
                let pairs = self.known[a..b].iter().zip(&self.known[a - period..b - period]);
                let alike = pairs.take_while(|(sample, before)| sample == before).count();
                compared += alike + 1;
                alike == b - a
            };
            if same(at, len) && same(from, at) {
                return (Some(period), compared);
            }
        }
        (None, compared)
    }

    /// Place of the sample before the largest step, in the block. Comparisons begin there: most samples of near silence, of a
    /// constant and of a signal at its rails are alike, and these two beside each other are not.
    fn edge(&self) -> usize {
        let steps = self.samples().windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let largest = |(best, most): (usize, f32), (at, step): (usize, f32)| match step > most {
            true => (at, step),
            false => (best, most),
        };
        steps.enumerate().fold((0, 0.0), largest).0
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

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 8_000;

    /// Two and a half seconds at 16 kHz, the last half second the block.
    fn search(known: &[f32]) -> (Option<usize>, usize) {
        Block { known, start: known.len() - BLOCK, rate_hz: 16_000 }.search()
    }

    /// `value`, but for dips of three samples: the place of each, and its first sample.
    fn dipped(value: f32, dips: impl IntoIterator<Item = (usize, f32)>) -> Vec<f32> {
        let mut sound = vec![value; 5 * BLOCK];
        for (place, first) in dips {
            sound[place..place + 3].copy_from_slice(&[first, first - 0.2, first - 0.1]);
        }
        sound
    }

    #[test]
    fn one_value_with_a_dip_in_each_block_takes_no_longer_than_any_sound() {
        // 36,000 periods are tried. From the loudest sample on each would take thousands of comparisons.
        for value in [1.0, -1.0, 0.05] {
            let dips = [(1_000, 0.31), (10_100, 0.35), (17_300, 0.33), (28_700, 0.34), (37_900, 0.3)];
            let (period, compared) = search(&dipped(value, dips));
            assert_eq!(period, None, "{value}");
            assert!(compared < 4 * 5 * BLOCK, "{value}: {compared}");
        }
    }

    #[test]
    fn one_value_with_a_dip_that_comes_again_and_again_is_a_repetition() {
        for (period, first) in [(6_500, 1_000), (8_000, 7_500), (16_000, 4_000), (20_000, 15_000)] {
            let (found, compared) =
                search(&dipped(1.0, (first..5 * BLOCK - 3).step_by(period).map(|place| (place, 0.3))));
            assert_eq!(found, Some(period));
            assert!(compared < 4 * 5 * BLOCK, "{period}: {compared}");
        }
    }

    #[test]
    fn long_stretches_at_both_rails_that_come_again_are_a_repetition() {
        let piece = [(1.0, 3_000), (-1.0, 5_100), (1.0, 700), (-1.0, 4_200)];
        let piece = piece.iter().flat_map(|(value, count)| std::iter::repeat_n(*value, *count));
        let sound: Vec<f32> = piece.collect::<Vec<_>>().into_iter().cycle().take(5 * BLOCK).collect();
        assert_eq!(search(&sound).0, Some(13_000));
    }

    #[test]
    fn a_fast_tone_with_a_click_is_given_up() {
        // Each of 6,000 multiples of its period fits up to the click, which is no larger a step than the tone's own.
        let mut sound: Vec<f32> = [0.0, 0.5, 0.5, 0.0, -0.5, -0.5].into_iter().cycle().take(5 * BLOCK).collect();
        sound[5 * BLOCK - 8] = 0.45;
        let (period, compared) = search(&sound);
        assert_eq!(period, None);
        assert!(compared <= (COMPARED_MAX + 2) * BLOCK, "{compared}");
    }
}
