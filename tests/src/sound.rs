//! Sounds that the tests compute, and WAV files of them.

use std::path::Path;

/// `seconds` of silence.
pub fn silence(rate_hz: u32, seconds: f64) -> Vec<i16> {
    vec![0; (f64::from(rate_hz) * seconds) as usize]
}

/// `seconds` of loud hiss, which the tiny network of `tests/data` takes for a scream. The same for the same seed.
pub fn hiss(rate_hz: u32, seconds: f64, seed: u32) -> Vec<i16> {
    let mut state = seed;
    (0..(f64::from(rate_hz) * seconds) as usize)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) % 16384) as i16 - 8192
        })
        .collect()
}

/// The same, so much weaker that the network takes it for none: in digital silence the rest of a window would outweigh any sound.
pub fn soft_hiss(rate_hz: u32, seconds: f64, divisor: i16, seed: u32) -> Vec<i16> {
    hiss(rate_hz, seconds, seed).into_iter().map(|sample| sample / divisor).collect()
}

/// Silence, one second and a half of hiss, silence: one incident of the tiny network, ended before the recording is.
pub fn one_scream(rate_hz: u32) -> Vec<i16> {
    [silence(rate_hz, 3.0), hiss(rate_hz, 1.5, 1), silence(rate_hz, 6.0)].concat()
}

/// The bytes of a 16-bit WAV with the same samples in each channel.
pub fn wav(samples: &[i16], rate_hz: u32, channels: u16) -> Vec<u8> {
    let frame = 2 * u32::from(channels);
    let bytes = samples.len() as u32 * frame;
    let mut out = Vec::with_capacity(44 + bytes as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + bytes).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&rate_hz.to_le_bytes());
    out.extend_from_slice(&(rate_hz * frame).to_le_bytes());
    out.extend_from_slice(&(frame as u16).to_le_bytes());
    out.extend_from_slice(b"\x10\0data");
    out.extend_from_slice(&bytes.to_le_bytes());
    for sample in samples {
        for _ in 0..channels {
            out.extend_from_slice(&sample.to_le_bytes());
        }
    }
    out
}

/// The same as FLAC, by the reference encoder; none where it is not installed, which in CI is a failure.
#[allow(clippy::unwrap_used)]
pub fn write_flac(path: &Path, samples: &[i16], rate_hz: u32) -> Option<()> {
    let plain = path.with_extension("wav");
    write_wav(&plain, samples, rate_hz);
    let encoded = std::process::Command::new("flac").args(["--silent", "--force", "-o"]).arg(path).arg(&plain).status();
    match encoded {
        Ok(status) => assert!(status.success(), "flac gave {status}"),
        Err(error) => {
            crate::skip(&format!("no flac: {error}"));
            return None;
        }
    }
    Some(())
}

/// Writes [`wav`].
#[allow(clippy::unwrap_used)]
pub fn write_wav(path: &Path, samples: &[i16], rate_hz: u32) {
    std::fs::write(path, wav(samples, rate_hz, 1)).unwrap();
}
