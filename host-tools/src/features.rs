//! `host-tools features FILE --model DIR --out X.npy|X.png`
//!
//! The very picture that the network sees: float32 `[channels, n_mels, frames]`, lowest band first, of the first `window_s`
//! of the recording, zero-padded or cut. As `.png` it is what matplotlib's `imsave` makes of that array: a pixel a cell, the first row
//! the lowest band. (The pictures of events and reports are for people: lowest band at the bottom, with axes.)

use std::path::PathBuf;

use anyhow::ensure;
use detector::front_end::FrontEnd;
use files::{model_dir, picture};

use crate::out_file;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The recording: WAV, FLAC or Ogg Vorbis, 1 to 768 kHz
    file: PathBuf,
    /// Model folder: its manifest says how the picture is made
    #[arg(long, value_parser = crate::model_place)]
    model: PathBuf,
    /// Where to: .npy or .png
    #[arg(long)]
    out: PathBuf,
}

/// Colours of 0..1 again, where the network gets them behind ImageNet's normalisation.
fn uncentred(values: &[f32], config: &detector::manifest::FrontEnd) -> Vec<f32> {
    let (Some(mean), Some(deviation)) = (config.rgb_mean, config.rgb_deviation) else { return values.to_vec() };
    let channels = values.chunks_exact(values.len() / mean.len()).zip(mean.into_iter().zip(deviation));
    channels
        .flat_map(|(channel, (mean, deviation))| channel.iter().map(move |value| value * deviation + mean))
        .collect()
}

/// Writes the picture.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let png = args.out.extension().is_some_and(|ending| ending == "png");
    let npy = args.out.extension().is_some_and(|ending| ending == "npy");
    ensure!(png || npy, "{}: --out must end in .npy or .png", args.out.display());
    out_file::check(Some(&args.out))?;
    let manifest = model_dir::read_manifest(&args.model)?;
    let config = &manifest.front_end;
    // The rest of the recording may be hours.
    let mut sound = crate::audio::first_at(&args.file, config.sample_rate_hz, config.window_samples())?;
    sound.resize(config.window_samples(), 0.0);
    let mut front_end = FrontEnd::new(config);
    let values = front_end.picture(&sound);
    if npy {
        return crate::npy::write(&args.out, &manifest.input_shape()[1..], values);
    }
    let colours = uncentred(values, config);
    Ok(picture::write_picture(&args.out, &colours, config.channels(), config.n_mels, config.frames())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_refused_before_anything_is_read() {
        for (out, expect) in
            [("x.jpg", "x.jpg: --out must end in .npy or .png"), ("/no/such/x.npy", "/no/such: No such")]
        {
            let args = Args { file: "nowhere.wav".into(), model: "nowhere".into(), out: out.into() };
            let cause = run(&args).map_err(|error| format!("{error:#}"));
            assert!(cause.as_ref().is_err_and(|cause| cause.starts_with(expect)), "{cause:?}");
        }
    }
}
