//! PNG pictures of sound: the network's own, cell for cell, and a person's spectrogram with axes and scores.
//!
//! A *cell* is one band of one frame. In memory the lowest band comes first; in an image it is at the **bottom**, as
//! a person expects of a spectrogram.

pub mod canvas;
pub mod kept;
mod scale;
mod spectrogram;

use std::path::Path;

use detector::viridis::{VIRIDIS, index};

pub use spectrogram::evidence::Evidence;
pub use spectrogram::{Spectrogram, WindowScore};

use crate::private_file::{WriteError, write_private};

/// Why a picture could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The numbers do not fit the shape that they are said to have.
    #[error("{what}: there are {found} and not {expected}")]
    Shape {
        /// Which numbers.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many the shape needs.
        expected: usize,
    },
    /// The picture's channels are neither 1 nor 3, or it has no cell.
    #[error("a picture of {channels} channels, {n_mels} bands and {frames} frames cannot be drawn")]
    Unsupported {
        /// Channels.
        channels: usize,
        /// Bands.
        n_mels: usize,
        /// Frames.
        frames: usize,
    },
    /// The time axis does not run forwards.
    #[error("the picture would run from {t_start_s} s to {t_end_s} s")]
    Time {
        /// Its first instant, seconds.
        t_start_s: f64,
        /// Its last instant, seconds.
        t_end_s: f64,
    },
    /// The PNG encoder refused.
    #[error("cannot encode the picture: {0}")]
    Encode(#[from] png::EncodingError),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes the network's picture to a PNG, one pixel a cell, as matplotlib's `imsave` writes such an array: its first row is the
/// lowest band (mode 0600).
///
/// `values` are `[channels, n_mels, frames]`, lowest band first. One channel is scaled from its smallest to its
/// largest value and coloured with Viridis (all equal: the darkest step); three channels are red, green and blue of
/// 0..1 as they are, clipped.
///
/// # Errors
/// Where `values` does not fit the shape, `channels` is neither 1 nor 3, or the file cannot be written.
pub fn write_picture(
    path: &Path,
    values: &[f32],
    channels: usize,
    n_mels: usize,
    frames: usize,
) -> Result<(), PictureError> {
    let png = picture_png(values, channels, n_mels, frames)?;
    Ok(write_private(path, &png)?)
}

fn picture_png(values: &[f32], channels: usize, n_mels: usize, frames: usize) -> Result<Vec<u8>, PictureError> {
    let cells = n_mels.saturating_mul(frames);
    if !matches!(channels, 1 | 3) || cells == 0 {
        return Err(PictureError::Unsupported { channels, n_mels, frames });
    }
    expect_count("values", values.len(), cells.saturating_mul(channels))?;
    let (low, high) = finite_range(values).unwrap_or((0.0, 0.0));
    let colour = |cell: usize| {
        if channels == 3 {
            [0, 1, 2].map(|c| (values[c * cells + cell].clamp(0.0, 1.0) * 255.0).round() as u8)
        } else {
            VIRIDIS[index((values[cell] - low) / (high - low))]
        }
    };
    let rgb: Vec<u8> = (0..cells).flat_map(colour).collect();
    encode(&rgb, frames, n_mels, None)
}

/// A PNG of 8-bit RGB rows from the top, with a text chunk of a keyword where one is given.
fn encode(rgb: &[u8], width: usize, height: usize, text: Option<(String, String)>) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    // Sizes come from shapes that were checked; the encoder refuses what does not fit the pixels.
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    if let Some((keyword, text)) = text {
        encoder.add_ztxt_chunk(keyword, text)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn expect_count(what: &'static str, found: usize, expected: usize) -> Result<(), PictureError> {
    if found == expected { Ok(()) } else { Err(PictureError::Shape { what, found, expected }) }
}

/// The smallest and largest finite value; `None` where there is none.
fn finite_range(values: &[f32]) -> Option<(f32, f32)> {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let low = finite().reduce(f32::min)?;
    Some((low, finite().fold(low, f32::max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        (info.width, info.height, rgb)
    }

    #[test]
    fn one_channel_is_scaled_and_its_lowest_band_is_the_first_row() {
        // Two bands of three frames; the lowest band first.
        let bytes = picture_png(&[-3.0, -3.0, -3.0, 1.0, 1.0, -1.0], 1, 2, 3).unwrap();
        let (width, height, rgb) = decode(&bytes);
        assert_eq!((width, height), (3, 2));
        let expect = [VIRIDIS[0], VIRIDIS[0], VIRIDIS[0], VIRIDIS[255], VIRIDIS[255], VIRIDIS[128]];
        assert_eq!(rgb, expect.concat());
    }

    #[test]
    fn three_channels_are_red_green_and_blue_as_they_are() {
        let values = [1.0, 0.0, 0.5, 2.0, 32.0 / 255.0, f32::NAN];
        let (.., rgb) = decode(&picture_png(&values, 3, 2, 1).unwrap());
        assert_eq!(rgb, [255, 128, 32, 0, 255, 0]);
    }

    #[test]
    fn silence_is_dark_and_not_an_error() {
        for value in [0.0, -33.2, f32::NAN, f32::NEG_INFINITY] {
            let (.., rgb) = decode(&picture_png(&[value; 4], 1, 2, 2).unwrap());
            assert_eq!(rgb, [VIRIDIS[0]; 4].concat(), "{value}");
        }
    }

    #[test]
    fn a_wrong_shape_is_refused_by_name() {
        let error = picture_png(&[0.0; 5], 1, 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "values: there are 5 and not 6");
        for (channels, n_mels, frames) in [(2, 1, 1), (1, 0, 4), (1, usize::MAX, 2)] {
            assert!(picture_png(&[0.0; 2], channels, n_mels, frames).is_err());
        }
    }

    #[test]
    fn the_file_is_written_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        write_picture(&path, &[0.0, 1.0], 1, 1, 2).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let error = write_picture(&folder.path().join("no/x.png"), &[0.0], 1, 1, 1).unwrap_err();
        assert!(error.to_string().contains("no/x.png"), "{error}");
    }
}
