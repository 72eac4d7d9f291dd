//! The numbers behind an incident's spectrogram, kept inside its PNG: what was heard can be looked at again, by a model that
//! explains its score, without the sound.
//!
//! They stand in a compressed text chunk, one byte a cell between the smallest and the largest (a step of about half a
//! decibel). Nothing is kept that the picture does not show already, and nothing where no picture is kept.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{PictureError, expect_count, finite_range};
use crate::picture::spectrogram::Spectrogram;

/// Name of the chunk.
const KEYWORD: &str = "screamd log-mel 1";
/// Text of a chunk that is read, bytes: a minute of 128 bands at 100 frames a second.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What a spectrogram was drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// log2 of mel power, `[n_mels, frames]`, lowest band first.
    pub log_mel: Vec<f32>,
    /// Bands.
    pub n_mels: usize,
    /// Frames.
    pub frames: usize,
    /// The first frame's time, seconds.
    pub t_start_s: f64,
    /// The last frame's time, seconds.
    pub t_end_s: f64,
}

impl Kept {
    /// From a PNG's bytes. None where it holds no such chunk, or one that does not hold together: a picture may come from
    /// anywhere.
    #[must_use]
    pub fn of_png(png: &[u8]) -> Option<Self> {
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().ok()?;
        let mut chunk = reader.info().compressed_latin1_text.iter().find(|chunk| chunk.keyword == KEYWORD)?.clone();
        chunk.decompress_text_with_limit(TEXT_BYTES_MAX).ok()?;
        Self::parse(&chunk.get_text().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [n_mels, frames, t_start_s, t_end_s, low, step, cells] = words[..] else { return None };
        let number = |word: &str| word.parse::<f64>().ok().filter(|number| number.is_finite());
        let (low, step) = (number(low)? as f32, number(step)? as f32);
        let cells = BASE64_STANDARD.decode(cells).ok()?;
        let (n_mels, frames): (usize, usize) = (n_mels.parse().ok()?, frames.parse().ok()?);
        let (t_start_s, t_end_s) = (number(t_start_s)?, number(t_end_s)?);
        let whole = n_mels.checked_mul(frames)? == cells.len() && !cells.is_empty() && t_start_s <= t_end_s;
        whole.then(|| Self {
            log_mel: cells.iter().map(|&cell| low + step * f32::from(cell)).collect(),
            n_mels,
            frames,
            t_start_s,
            t_end_s,
        })
    }

    /// The `frames` frames, `hop_s` apart, of the window that ends at `t_end_s`: those nearest in time. None where it is not
    /// all there.
    #[must_use]
    pub fn window(&self, t_end_s: f64, frames: usize, hop_s: f64) -> Option<Vec<f32>> {
        let own_hop_s = (self.t_end_s - self.t_start_s) / (self.frames.max(2) - 1) as f64;
        let first_s = t_end_s - (frames.max(1) - 1) as f64 * hop_s;
        let place = |frame: usize| {
            let place = ((first_s + frame as f64 * hop_s - self.t_start_s) / own_hop_s).round();
            // A frame's rounding at either end is forgiven.
            (-1.0..=self.frames as f64).contains(&place).then(|| (place.max(0.0) as usize).min(self.frames - 1))
        };
        let places: Vec<usize> = (0..frames).map(place).collect::<Option<_>>()?;
        let bands = self.log_mel.chunks_exact(self.frames);
        Some(bands.flat_map(|band| places.iter().map(|&place| band[place])).collect())
    }
}

/// Keyword and text of the chunk for `sound`.
pub(super) fn chunk(sound: &Spectrogram<'_>) -> Result<(String, String), PictureError> {
    expect_count("log_mel", sound.log_mel.len(), sound.n_mels * sound.frames)?;
    let (low, high) = finite_range(sound.log_mel).unwrap_or((0.0, 0.0));
    let step = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
    // NaN becomes 0 by the cast.
    let cells: Vec<u8> = sound.log_mel.iter().map(|&v| ((v - low) / step).round() as u8).collect();
    let text = format!(
        "{} {} {} {} {low} {step} {}",
        sound.n_mels,
        sound.frames,
        sound.t_start_s,
        sound.t_end_s,
        BASE64_STANDARD.encode(cells)
    );
    Ok((KEYWORD.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound<'a>(log_mel: &'a [f32], centres: &'a [f32]) -> Spectrogram<'a> {
        Spectrogram {
            log_mel,
            n_mels: 2,
            frames: log_mel.len() / 2,
            mel_centres_hz: centres,
            t_start_s: 10.0,
            t_end_s: 10.0 + 0.5 * (log_mel.len() / 2 - 1) as f64,
            scores: &[],
            threshold_on: 0.5,
            alarm_t_s: None,
            title: "",
        }
    }

    #[test]
    fn the_picture_gives_its_numbers_back() {
        let log_mel: Vec<f32> = (0..20).map(|cell| -33.2 + 2.1 * cell as f32).collect();
        let png = sound(&log_mel, &[200.0, 900.0]).to_png().unwrap();
        let kept = Kept::of_png(&png).unwrap();
        assert_eq!((kept.n_mels, kept.frames, kept.t_start_s, kept.t_end_s), (2, 10, 10.0, 14.5));
        assert!(kept.log_mel.iter().zip(&log_mel).all(|(a, b)| (a - b).abs() < 0.1), "{:?}", kept.log_mel);
        // The window of three frames that ends at 12 s: 11, 11.5 and 12 s are frames 2 to 4.
        let window = kept.window(12.0, 3, 0.5).unwrap();
        let expect: Vec<f32> = [2, 3, 4, 12, 13, 14].iter().map(|&cell| kept.log_mel[cell]).collect();
        assert_eq!(window, expect);
        assert!(kept.window(10.2, 3, 0.5).is_none() && kept.window(20.0, 3, 0.5).is_none());
    }

    #[test]
    fn silence_and_what_is_no_number_are_kept_too() {
        let kept = Kept::of_png(&sound(&[-33.0, -33.0, f32::NAN, -33.0], &[200.0, 900.0]).to_png().unwrap()).unwrap();
        assert_eq!(kept.log_mel, [-33.0; 4]);
    }

    #[test]
    fn what_does_not_hold_together_is_nothing() {
        for text in ["", "2 2 0 1 0 1 AAAA", "2 2 1 0 0 1 AAAAAA==", "2 2 0 inf 0 1 AAAAAA==", "a 2 0 1 0 1 AAAAAA=="] {
            assert_eq!(Kept::parse(text), None, "{text:?}");
        }
        assert!(Kept::parse("2 2 0 1 0 1 AAAAAA==").is_some());
        assert_eq!(Kept::of_png(b"no picture"), None);
    }
}
