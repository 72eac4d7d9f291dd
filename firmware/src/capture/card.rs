//! The card as ALSA has it: opened, agreed with, and the calls of a session.

use std::time::Duration;

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::{Direction, ValueOr};
use rustix::io::Errno;

use super::sample::Sample;
use super::session::{Agreed, Card};
use crate::clock;

/// Widest first: a quiet room at an I2S microphone lies under the last of 16 bits.
const FORMATS: [(Format, Sample); 5] = [
    (Format::S32LE, Sample::S32),
    (Format::S243LE, Sample::S24In3),
    (Format::S24LE, Sample::S24In4),
    (Format::FloatLE, Sample::Float),
    (Format::S16LE, Sample::S16),
];

/// An open card.
pub struct AlsaCard(PCM);

/// What is wanted of a card.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The model's rate, taken where the card has it.
    pub rate_hz: u32,
    /// Else the nearest to this.
    pub rate_hz_max: u32,
    /// Frames of one period.
    pub period: u32,
}

/// Opens `name` for capture, agrees and starts.
///
/// # Errors
/// Call and cause.
pub fn open(name: &str, wanted: Wanted) -> Result<(AlsaCard, Agreed), String> {
    let text = |error: alsa::Error| error.to_string();
    // Not blocking: a card that another holds is an error now, and not a wait without an end.
    let pcm = PCM::new(name, Direction::Capture, true).map_err(text)?;
    let sample = {
        let hw = HwParams::any(&pcm).map_err(text)?;
        hw.set_access(Access::RWInterleaved).map_err(text)?;
        // plughw resamples by dropping samples; ours is band-limited.
        hw.set_rate_resample(false).map_err(text)?;
        let sample = set_format(&hw)?;
        hw.set_channels_near(1).map_err(text)?;
        let rate_hz = if hw.test_rate(wanted.rate_hz).is_ok() { wanted.rate_hz } else { wanted.rate_hz_max };
        hw.set_rate_near(rate_hz, ValueOr::Nearest).map_err(text)?;
        let rate_hz = hw.get_rate().map_err(text)?;
        let period = hw.set_period_size_near(i64::from(wanted.period), ValueOr::Nearest).map_err(text)?;
        // Half a second in the kernel: what a stopped process may miss without a gap.
        hw.set_buffer_size_near((i64::from(rate_hz) / 2).max(4 * period)).map_err(text)?;
        pcm.hw_params(&hw).map_err(text)?;
        sample
    };
    // Read back: what the card took counts, not what was asked.
    let agreed = {
        let hw = pcm.hw_params_current().map_err(text)?;
        Agreed {
            rate_hz: hw.get_rate().map_err(text)?,
            channels: hw.get_channels().map_err(text)? as usize,
            sample,
            period: hw.get_period_size().map_err(text)?.max(1) as usize,
        }
    };
    if !detector::limits::RATE_HZ.contains(&agreed.rate_hz) {
        return Err(format!("the card runs at {} Hz", agreed.rate_hz));
    }
    pcm.prepare().and_then(|()| pcm.start()).map_err(text)?;
    Ok((AlsaCard(pcm), agreed))
}

/// Asks for the first of [`FORMATS`] that the card has.
///
/// # Errors
/// It has none of them, or the call's.
pub fn set_format(hw: &HwParams<'_>) -> Result<Sample, String> {
    let format = FORMATS.into_iter().find(|(format, _)| hw.test_format(*format).is_ok());
    let (format, sample) = format.ok_or("the card has samples of neither 16, 24 or 32 bits nor floats")?;
    hw.set_format(format).map_err(|error| error.to_string())?;
    Ok(sample)
}

fn errno(error: alsa::Error) -> Errno {
    Errno::from_raw_os_error(error.errno().abs())
}

impl Card for AlsaCard {
    fn wait(&mut self, limit: Duration) -> Result<bool, Errno> {
        self.0.wait(Some(limit.as_millis().max(1) as u32)).map_err(errno)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.0.io_bytes().readi(bytes).map_err(errno)
    }

    fn waiting(&mut self) -> usize {
        self.0.avail_update().map_or(0, |frames| frames.max(0) as usize)
    }

    fn restart(&mut self) -> Result<(), Errno> {
        self.0.prepare().and_then(|()| self.0.start()).map_err(errno)
    }

    fn resume(&mut self) -> Result<(), Errno> {
        self.0.resume().map_err(errno)?;
        // Where the card went on by itself, it is running already.
        match self.0.start().map_err(errno) {
            Err(Errno::BADFD) | Ok(()) => Ok(()),
            other => other,
        }
    }

    fn now(&self) -> Duration {
        // Sound is missing while the system sleeps, too: not CLOCK_MONOTONIC.
        clock::since_boot()
    }

    fn rest(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
