//! A microphone's level, live: opened plainly, apart from the capture that the alarm runs on, and closed again.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use alsa::pcm::{Access, HwParams, PCM};
use alsa::{Direction, ValueOr};
use detector::level::level_dbfs;

use super::ask::Ask;
use crate::capture::card;
use crate::capture::sample::Sample;

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
    let (rate_hz, channels, sample) = configure(&pcm)?;
    let io = pcm.io_bytes();
    let frame = channels * sample.bytes();
    let mut bytes = vec![0; (rate_hz * BAR_MS / 1000) as usize * frame];
    let (until, mut loudest) = (Instant::now() + SHOWN, f32::NEG_INFINITY);
    ask.say("Clap your hands:");
    while Instant::now() < until {
        let read = match io.readi(&mut bytes) {
            Ok(read) => read,
            // An overrun: a terminal that is slow is no fault of the microphone.
            Err(error) => match pcm.try_recover(error, true) {
                Ok(()) => continue,
                Err(error) => return Err(error.to_string()),
            },
        };
        let level = level(sample, channels, &bytes[..read * frame]);
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

/// Samples as capture takes them, as few channels and as near to 48 kHz as the card has: what a meter needs.
fn configure(pcm: &PCM) -> Result<(u32, usize, Sample), String> {
    let text = |error: alsa::Error| error.to_string();
    let params = HwParams::any(pcm).map_err(text)?;
    params.set_access(Access::RWInterleaved).map_err(text)?;
    let sample = card::set_format(&params)?;
    let channels = params.set_channels_near(1).map_err(text)?;
    let rate_hz = params.set_rate_near(48_000, ValueOr::Nearest).map_err(text)?;
    pcm.hw_params(&params).map_err(text)?;
    Ok((rate_hz, channels as usize, sample))
}

/// Level of interleaved `bytes`, their channels averaged, as the alarm will hear them.
fn level(sample: Sample, channels: usize, bytes: &[u8]) -> f32 {
    level_dbfs(&sample.mono(bytes, channels).collect::<Vec<_>>())
}

fn bar(level_dbfs: f32) -> String {
    let full = ((level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS * PLACES).clamp(0.0, PLACES) as usize;
    format!("[{}{}] {level_dbfs:6.1} dBFS", "#".repeat(full), " ".repeat(PLACES as usize - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microphone_on_the_right_of_a_card_of_32_bits_is_heard() {
        // Left silent, right an eighth and its negative.
        let frames = [[0, 0x1000_0000], [0, -0x1000_0000_i32]];
        let bytes: Vec<u8> = frames.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        assert!((level(Sample::S32, 2, &bytes) - 20.0 * (0.125f32 / 2.0).log10()).abs() < 1e-3);
    }

    #[test]
    fn bars_stay_within_their_brackets() {
        for (level, full) in [(-120.0, 0), (-80.0, 0), (-40.0, 20), (0.0, 40), (3.0, 40)] {
            let shown = bar(level);
            assert_eq!((shown.matches('#').count(), shown.find(']')), (full, Some(41)), "{shown}");
        }
    }
}
