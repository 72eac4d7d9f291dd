//! A microphone's level, live: opened plainly, apart from the capture that the alarm runs on, and closed again.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::{Direction, ValueOr};
use detector::level::level_dbfs;

use super::ask::Ask;

/// How long it is shown: time to clap twice.
const SHOWN: Duration = Duration::from_secs(5);
/// One bar.
const BAR_MS: u32 = 100;
/// Bars begin here, dBFS.
const FLOOR_DBFS: f32 = -80.0;
/// Places of a full bar.
const PLACES: f32 = 40.0;

/// Shows the level of `device` for some seconds; the loudest, dBFS.
///
/// # Errors
/// It cannot be opened or read, in words.
pub fn show(ask: &mut Ask<impl BufRead, impl Write>, device: &str) -> Result<f32, String> {
    let name = crate::capture::device::alsa_name(device)?;
    let pcm = PCM::new(&name, Direction::Capture, false).map_err(|error| error.to_string())?;
    let (rate_hz, channels) = configure(&pcm).map_err(|error| error.to_string())?;
    let io = pcm.io_i16().map_err(|error| error.to_string())?;
    let frames = (rate_hz * BAR_MS / 1000) as usize;
    let mut samples = vec![0i16; frames * channels as usize];
    let mut first = Vec::with_capacity(frames);
    let (until, mut loudest) = (Instant::now() + SHOWN, f32::NEG_INFINITY);
    ask.say("Clap your hands:");
    while Instant::now() < until {
        let read = match io.readi(&mut samples) {
            Ok(read) => read,
            // An overrun: a terminal that is slow is no fault of the microphone.
            Err(error) => match pcm.try_recover(error, true) {
                Ok(()) => continue,
                Err(error) => return Err(error.to_string()),
            },
        };
        first.clear();
        let heard = samples[..read * channels as usize].iter().step_by(channels as usize);
        first.extend(heard.map(|sample| f32::from(*sample) / 32768.0));
        let level = level_dbfs(&first);
        loudest = loudest.max(level);
        if ask.terminal {
            ask.show(&bar(level));
        }
    }
    if ask.terminal {
        ask.say("");
    }
    Ok(loudest)
}

/// 16 bits, and as few channels and as near to 48 kHz as the card has: what a meter needs.
fn configure(pcm: &PCM) -> alsa::Result<(u32, u32)> {
    let params = HwParams::any(pcm)?;
    params.set_access(Access::RWInterleaved)?;
    params.set_format(Format::s16())?;
    let channels = params.set_channels_near(1)?;
    let rate_hz = params.set_rate_near(48_000, ValueOr::Nearest)?;
    pcm.hw_params(&params)?;
    Ok((rate_hz, channels))
}

fn bar(level_dbfs: f32) -> String {
    let full = ((level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS * PLACES).clamp(0.0, PLACES) as usize;
    format!("[{}{}] {level_dbfs:6.1} dBFS", "#".repeat(full), " ".repeat(PLACES as usize - full))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_stay_within_their_brackets() {
        for (level, full) in [(-120.0, 0), (-80.0, 0), (-40.0, 20), (0.0, 40), (3.0, 40)] {
            let shown = bar(level);
            assert_eq!((shown.matches('#').count(), shown.find(']')), (full, Some(41)), "{shown}");
        }
    }
}
