//! The microphone's health, judged by its sound alone: what no working microphone gives for a whole minute.
//!
//! Terms: a *block* is half a second of the source's own samples; a *defect* is something wrong with them; a defect
//! *stands* once it has filled a minute, and is over after a few well blocks in a row. Blocks that are wrong now and then
//! raise nothing, and a defect that comes and goes needs a whole new minute each time: no storm of faults.
//!
//! | defect | a block shows it where | of a minute's 120 blocks | over after |
//! |---|---|---|---|
//! | [`Defect::Zeros`] | every sample is digital silence | all | 2 s |
//! | [`Defect::Repeating`] | each sample is that of one period before, to the bit; or one value alone | half | 2 s |
//! | [`Defect::StuckBit`] | one of the upper 16 bits never changes while bits above and below it do | all | 2 s |
//! | [`Defect::Offset`] | the mean is a twentieth of full scale or more | all | 2 s |
//! | [`Defect::Clipping`] | a fiftieth of the samples lies at a loud rail | three quarters | 10 s |
//! | [`Defect::Covered`] | (by minutes:) level and high band lie under the site's floor | 12 hours | 1 min |
//!
//! That it is not covered is told once, too, as if a cover were over: after the first minute that shows it.
//!
//! A tone computed by a program repeats itself to the bit as well; it is told from a frozen buffer by being periodic
//! within the repetition. Nothing is allocated after [`SoundHealth::new`].

mod block;
mod likeness;

use crate::level::LEVEL_DBFS_MIN;
use block::{Block, TONE_SAMPLES_MAX};
use likeness::Likeness;

/// Blocks in a second.
const BLOCKS_PER_S: u32 = 2;
/// Blocks in the minute that a defect has to fill.
const MINUTE: u32 = 60 * BLOCKS_PER_S;
/// Minutes under the floor until a microphone counts as covered: a home falls 20 dB at bedtime, and rises again.
const COVERED_MINUTES: u32 = 12 * 60;
/// Longest repetition that is looked for, in blocks: four times what the kernel's buffer holds.
const REPEAT_BLOCKS_MAX: usize = 4;
/// Where the high band begins, hertz: cloth and tape take it first.
pub const HIGH_BAND_HZ: f64 = 2_000.0;

const _: () = assert!(MINUTE < u128::BITS, "a minute's blocks are bits of a u128");

/// Those that a block shows by itself.
const BY_BLOCK: [Defect; 5] = [Defect::Zeros, Defect::Repeating, Defect::StuckBit, Defect::Offset, Defect::Clipping];

/// What is wrong with a microphone's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Nothing but zeros.
    Zeros,
    /// The same samples again and again.
    Repeating,
    /// A bit of the samples never changes.
    StuckBit,
    /// A constant offset.
    Offset,
    /// Cut off at a rail.
    Clipping,
    /// Muffled for half a day.
    Covered,
}

/// A defect has come to stand, or is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub defect: Defect,
    /// True where it stands from now on.
    pub stands: bool,
}

/// Levels that a working microphone at its place never stays under, dBFS; the site's, from its own calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// RMS of the whole sound.
    pub level_dbfs: f64,
    /// RMS above [`HIGH_BAND_HZ`].
    pub high_dbfs: f64,
}

/// Watches one source.
pub struct SoundHealth {
    /// The last [`REPEAT_BLOCKS_MAX`] blocks, then the one that fills now.
    sound: Vec<f32>,
    block_len: usize,
    /// Samples of `sound`, from its end, that hold sound by now.
    known: usize,
    filled: usize,
    conditions: [Condition; BY_BLOCK.len()],
    cover: Option<Cover>,
    likeness: Likeness,
    rate_hz: u32,
}

impl SoundHealth {
    /// For a source of `rate_hz` (1 at least); without a `floor` nothing counts as covered.
    pub fn new(rate_hz: u32, floor: Option<Floor>) -> Self {
        let block_len = (rate_hz / BLOCKS_PER_S).max(1) as usize;
        Self {
            sound: vec![0.0; (REPEAT_BLOCKS_MAX + 1) * block_len],
            block_len,
            known: 0,
            filled: 0,
            conditions: BY_BLOCK.map(Condition::new),
            cover: floor.map(|floor| Cover::new(floor, rate_hz)),
            likeness: likeness(block_len),
            rate_hz,
        }
    }

    /// The source goes on at another rate: what stands goes on standing, sound of the old rate is forgotten.
    pub fn set_rate(&mut self, rate_hz: u32) {
        if rate_hz != self.rate_hz {
            let fresh = Self::new(rate_hz, self.cover.as_ref().map(|cover| cover.floor));
            let (conditions, cover) = (self.conditions, self.cover.take());
            *self = Self { conditions, ..fresh };
            if let (Some(new), Some(old)) = (&mut self.cover, cover) {
                (new.minutes, new.stands) = (old.minutes, old.stands);
            }
        }
    }

    /// Takes the source's next samples and tells what changed.
    pub fn push(&mut self, mut samples: &[f32], mut on_finding: impl FnMut(Finding)) {
        let start = REPEAT_BLOCKS_MAX * self.block_len;
        while !samples.is_empty() {
            let take = (self.block_len - self.filled).min(samples.len());
            let at = start + self.filled;
            self.sound[at..at + take].copy_from_slice(&samples[..take]);
            self.filled += take;
            samples = &samples[take..];
            if self.filled == self.block_len {
                self.known = (self.known + self.block_len).min(self.sound.len());
                self.judge(&mut on_finding);
                self.sound.copy_within(self.block_len.., 0);
                self.filled = 0;
            }
        }
    }

    fn judge(&mut self, on_finding: &mut impl FnMut(Finding)) {
        let known = &self.sound[self.sound.len() - self.known..];
        let block = Block { known, start: known.len() - self.block_len, rate_hz: self.rate_hz };
        for condition in &mut self.conditions {
            if let Some(stands) = condition.push(block.shows(condition.defect, &mut self.likeness)) {
                on_finding(Finding { defect: condition.defect, stands });
            }
        }
        if let Some(cover) = &mut self.cover
            && let Some(stands) = cover.push(block.samples())
        {
            on_finding(Finding { defect: Defect::Covered, stands });
        }
    }
}

/// One defect's last minute.
#[derive(Clone, Copy)]
struct Condition {
    defect: Defect,
    /// Wrong blocks that a minute must have.
    needed: u32,
    /// Well blocks in a row that end it.
    calm: u32,
    /// A bit a block, the newest lowest; set where it was wrong.
    wrong: u128,
    stands: bool,
}

impl Condition {
    fn new(defect: Defect) -> Self {
        let (needed, calm_s) = match defect {
            // Half: a stretch that is nearly a tone hides its repetition.
            Defect::Repeating => (MINUTE / 2, 2),
            // Three quarters: speech pauses, however loud it is.
            Defect::Clipping => (MINUTE * 3 / 4, 10),
            _ => (MINUTE, 2),
        };
        Self { defect, needed, calm: calm_s * BLOCKS_PER_S, wrong: 0, stands: false }
    }

    /// Takes in a block; whether the defect stands, where that has changed.
    fn push(&mut self, wrong: bool) -> Option<bool> {
        let minute = (1u128 << MINUTE) - 1;
        self.wrong = (self.wrong << 1 | u128::from(wrong)) & minute;
        let began_a_minute_ago = self.wrong >> (MINUTE - 1) == 1;
        let calm = self.wrong & ((1 << self.calm) - 1) == 0;
        // What half a minute showed and is over is no fault of now.
        if !self.stands && began_a_minute_ago && !calm && self.wrong.count_ones() >= self.needed {
            self.stands = true;
            return Some(true);
        }
        if self.stands && calm {
            // Forgotten as a whole: the next one needs a minute of its own.
            (self.stands, self.wrong) = (false, 0);
            return Some(false);
        }
        None
    }
}

/// Minutes under the site's floor.
struct Cover {
    floor: Floor,
    high: HighPass,
    blocks: u32,
    power: f64,
    high_power: f64,
    minutes: u32,
    /// None until a minute has shown that it does not.
    stands: Option<bool>,
}

impl Cover {
    fn new(floor: Floor, rate_hz: u32) -> Self {
        Self { floor, high: HighPass::new(rate_hz), blocks: 0, power: 0.0, high_power: 0.0, minutes: 0, stands: None }
    }

    fn push(&mut self, block: &[f32]) -> Option<bool> {
        self.power += power_without_offset(block);
        self.high_power += mean_power(block.iter().map(|sample| self.high.step(*sample)));
        self.blocks += 1;
        if self.blocks < MINUTE {
            return None;
        }
        let mean_dbfs = |sum: f64| dbfs(sum / f64::from(MINUTE));
        let under = mean_dbfs(self.power) < self.floor.level_dbfs && mean_dbfs(self.high_power) < self.floor.high_dbfs;
        (self.blocks, self.power, self.high_power) = (0, 0.0, 0.0);
        self.minutes = if under { (self.minutes + 1).min(COVERED_MINUTES) } else { 0 };
        let stood = self.stands;
        if !under || self.minutes == COVERED_MINUTES {
            self.stands = Some(under);
        }
        self.stands.filter(|_| self.stands != stood)
    }
}

/// Level of `sound` and of its high band, dBFS, without its offset: what a [`Floor`] is compared with.
pub fn levels_dbfs(sound: &[f32], rate_hz: u32) -> (f64, f64) {
    let mut high = HighPass::new(rate_hz);
    let level = dbfs(power_without_offset(sound));
    (level, dbfs(mean_power(sound.iter().map(|sample| high.step(*sample)))))
}

/// What every block of a short `sound` shows, for a test that has no minute.
pub fn shown(sound: &[f32], rate_hz: u32) -> impl Iterator<Item = Defect> + '_ {
    let block_len = (rate_hz / BLOCKS_PER_S).max(1) as usize;
    let blocks = move || (block_len..=sound.len()).step_by(block_len);
    let mut likeness = likeness(block_len);
    BY_BLOCK.into_iter().filter(move |defect| {
        let block = |end: usize| Block { known: &sound[..end], start: end - block_len, rate_hz };
        blocks().next().is_some() && blocks().all(|end| block(end).shows(*defect, &mut likeness))
    })
}

/// For blocks of a source.
fn likeness(block_len: usize) -> Likeness {
    Likeness::new(block_len.min(TONE_SAMPLES_MAX))
}

/// A card's offset stays where its microphone is covered: it is no sound.
fn power_without_offset(sound: &[f32]) -> f64 {
    let offset = block::mean(sound);
    mean_power(sound.iter().map(|sample| (f64::from(*sample) - offset) as f32))
}

fn mean_power(sound: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = sound.len().max(1) as f64;
    sound.map(|sample| f64::from(sample).powi(2)).sum::<f64>() / count
}

fn dbfs(power: f64) -> f64 {
    (10.0 * power.max(1e-30).log10()).max(f64::from(LEVEL_DBFS_MIN))
}

/// First order, at [`HIGH_BAND_HZ`].
struct HighPass {
    keep: f32,
    last_in: f32,
    last_out: f32,
}

impl HighPass {
    fn new(rate_hz: u32) -> Self {
        let w = std::f64::consts::TAU * HIGH_BAND_HZ / f64::from(rate_hz.max(1));
        Self { keep: (1.0 / (1.0 + w)) as f32, last_in: 0.0, last_out: 0.0 }
    }

    fn step(&mut self, sample: f32) -> f32 {
        self.last_out = self.keep * (self.last_out + sample - self.last_in);
        self.last_in = sample;
        self.last_out
    }
}

#[cfg(test)]
mod tests;
