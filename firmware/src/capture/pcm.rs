//! One session with a card: negotiate, read, recover.

use std::sync::atomic::Ordering::Relaxed;

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::{Direction, ValueOr};

use super::Status;

/// Formats in the order in which they are tried. 24 bits in 32 are read as S32 where a card has that.
const FORMATS: [Format; 3] = [Format::S16LE, Format::S32LE, Format::FloatLE];
/// A card that gives no frames for this long is taken for dead, ms.
const STALLED_MS: u32 = 1_500;

/// An open card.
pub struct Session {
    pcm: PCM,
    /// What the card really runs at.
    pub rate_hz: u32,
    channels: usize,
    format: Format,
    period: usize,
    bytes: Vec<u8>,
}

impl Session {
    /// Opens `name` for capture. `fixed_hz` is the rate of the session before, which the pipeline was built for.
    ///
    /// # Errors
    /// Call and cause.
    pub fn open(
        name: &str,
        fixed_hz: Option<u32>,
        model_hz: u32,
        max_hz: u32,
        period_frames: u32,
    ) -> Result<Self, String> {
        let text = |error: alsa::Error| error.to_string();
        let pcm = PCM::new(name, Direction::Capture, false).map_err(text)?;
        let (rate_hz, channels, format, period) = {
            let hw = HwParams::any(&pcm).map_err(text)?;
            hw.set_access(Access::RWInterleaved).map_err(text)?;
            // plughw resamples by dropping samples; ours is band-limited.
            hw.set_rate_resample(false).map_err(text)?;
            let format = FORMATS.into_iter().find(|format| hw.test_format(*format).is_ok());
            let format = format.ok_or("the card has neither 16-bit, 32-bit nor float samples")?;
            hw.set_format(format).map_err(text)?;
            let channels = hw.set_channels_near(1).map_err(text)?;
            let wanted = fixed_hz.unwrap_or(model_hz);
            let rate_hz = match hw.test_rate(wanted) {
                Ok(()) => hw.set_rate_near(wanted, ValueOr::Nearest).map_err(text)?,
                Err(_) => hw.set_rate_near(max_hz, ValueOr::Nearest).map_err(text)?,
            };
            if fixed_hz.is_some_and(|fixed| fixed != rate_hz) {
                return Err(format!("the card came back at {rate_hz} Hz, not at {wanted}"));
            }
            let period = hw.set_period_size_near(i64::from(period_frames), ValueOr::Nearest).map_err(text)?;
            // Half a second in the kernel: what a stopped process may miss without a gap.
            hw.set_buffer_size_near((i64::from(rate_hz) / 2).max(4 * period)).map_err(text)?;
            pcm.hw_params(&hw).map_err(text)?;
            (rate_hz, channels as usize, format, period.max(1) as usize)
        };
        pcm.prepare().and_then(|()| pcm.start()).map_err(text)?;
        let bytes = vec![0; period * channels * width(format)];
        Ok(Self { pcm, rate_hz, channels, format, period, bytes })
    }

    /// What was negotiated.
    pub fn describe(&self, device: &str) -> String {
        format!(
            "{device}: {} Hz, {} channel(s), {:?}, periods of {} frames",
            self.rate_hz, self.channels, self.format, self.period
        )
    }

    /// Reads until the card fails or the reader stops; returns the cause.
    pub fn run(&mut self, ring: &mut rtrb::Producer<f32>, status: &Status) -> String {
        while !status.stop.load(Relaxed) {
            match self.pcm.wait(Some(STALLED_MS)) {
                Ok(true) => {}
                Ok(false) => return format!("no frames for {STALLED_MS} ms"),
                Err(error) => match self.recover(error, status) {
                    Ok(()) => continue,
                    Err(cause) => return cause,
                },
            }
            let read = self.pcm.io_bytes().readi(&mut self.bytes);
            match read {
                Ok(frames) => push(
                    &self.bytes[..frames * self.channels * width(self.format)],
                    self.channels,
                    self.format,
                    ring,
                    status,
                ),
                Err(error) => {
                    if let Err(cause) = self.recover(error, status) {
                        return cause;
                    }
                }
            }
        }
        "stopped".into()
    }

    /// An xrun or a suspended card is started again; anything else ends the session.
    fn recover(&mut self, error: alsa::Error, status: &Status) -> Result<(), String> {
        const EPIPE: i32 = 32;
        const EAGAIN: i32 = 11;
        const EINTR: i32 = 4;
        const ESTRPIPE: i32 = 86;
        match error.errno() {
            EINTR | EAGAIN => Ok(()),
            EPIPE | ESTRPIPE => {
                // What was in the kernel's buffer and what has come since is gone; the buffer's length is the least of it.
                let lost = self.pcm.hw_params_current().and_then(|hw| hw.get_buffer_size()).unwrap_or(0).max(0) as u64;
                status.xruns.fetch_add(1, Relaxed);
                status.lost_frames.fetch_add(lost, Relaxed);
                self.pcm.prepare().and_then(|()| self.pcm.start()).map_err(|error| error.to_string())
            }
            _ => Err(error.to_string()),
        }
    }
}

fn width(format: Format) -> usize {
    if format == Format::S16LE { 2 } else { 4 }
}

/// Averages the channels into the ring. A full ring drops the newest and counts: capture waits for nobody.
fn push(bytes: &[u8], channels: usize, format: Format, ring: &mut rtrb::Producer<f32>, status: &Status) {
    let width = width(format);
    let sample = |bytes: &[u8]| match (format, bytes) {
        (Format::S16LE, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32_768.0,
        (Format::S32LE, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 / 2_147_483_648.0,
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => 0.0,
    };
    for frame in bytes.chunks_exact(width * channels) {
        let mean = frame.chunks_exact(width).map(sample).sum::<f32>() / channels as f32;
        // A float card may give anything; what is no number would poison every window it touches.
        let mean = if mean.is_finite() { mean.clamp(-1.0, 1.0) } else { 0.0 };
        if ring.push(mean).is_err() {
            status.lost_frames.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_becomes_the_same_floats_and_a_full_ring_counts() {
        let check = |format, bytes: &[u8], channels, expect: &[f32]| {
            let (mut producer, mut consumer) = rtrb::RingBuffer::new(2);
            let status = Status::default();
            push(bytes, channels, format, &mut producer, &status);
            let got: Vec<f32> = std::iter::from_fn(|| consumer.pop().ok()).collect();
            assert_eq!(got, expect, "{format:?}");
            status.lost_frames.load(Relaxed)
        };
        assert_eq!(check(Format::S16LE, &[0, 0x40, 0, 0xC0], 1, &[0.5, -0.5]), 0);
        assert_eq!(check(Format::S16LE, &[0, 0x40, 0, 0xC0], 2, &[0.0]), 0);
        assert_eq!(check(Format::S32LE, &[0, 0, 0, 0x40], 1, &[0.5]), 0);
        assert_eq!(check(Format::FloatLE, &0.25f32.to_le_bytes(), 1, &[0.25]), 0);
        assert_eq!(check(Format::FloatLE, &f32::NAN.to_le_bytes(), 1, &[0.0]), 0);
        assert_eq!(check(Format::S16LE, &[0; 10], 1, &[0.0, 0.0]), 3);
    }
}
