//! Occlusion: what the network's answer loses where a patch of its picture is hidden (Zeiler and Fergus 2014).
//!
//! A hidden cell takes the colour that its band has where little is to be heard: that of the frame at the band's lower
//! quartile. Not the median, since a long scream fills more than half of a window; not zero, which no picture holds. The
//! cells are taken from the picture that the network sees, so normalisation and colour map may be any.
//!
//! *Evidence* is the fall of the log-odds of the alarm labels against all others: a score near 1 hardly moves, its log-odds
//! do. Two kinds of patch are hidden, and the map of a cell is the mean of both means: *slices*, all bands at once, say when
//! (most of a scream is harmonics, and hiding a few leaves the others), *tiles* say in which bands.

use std::ops::Range;

use detector::front_end::FrontEnd;
use detector::manifest::{Manifest, Output};
use detector::model::{Model, RunError};
use indicatif::ProgressBar;
use rayon::prelude::*;

/// Lengths of the slices, seconds, and their distance as a share of the length.
const SLICES_S: [f64; 2] = [0.4, 0.8];
const SLICE_STEP: f64 = 0.25;
/// Tiles: seconds long, a share of the bands high, and their distance as a share of both.
const TILE_S: f64 = 0.5;
const TILE_BANDS: f64 = 0.25;
const TILE_STEP: f64 = 0.5;
/// Where slices show less than this share of the most, tiles are not tried: their evidence is the slices'.
const WORTH: f32 = 0.05;
/// Which frame of a band shows what it holds where little is to be heard.
const QUIET_QUANTILE: f64 = 0.25;
/// Log-odds beyond this are as sure as f32 says: a softmax's scores are exact down to e^-87, 1 less a probability to e^-16.
const LOG_ODDS_MAX: f32 = 80.0;
const LOG_ODDS_OF_PROBABILITY_MAX: f32 = 20.0;

/// What a window's score rests on.
pub struct Occlusion {
    /// The score, 0..1.
    pub score: f64,
    /// Fall of the log-odds where a cell is hidden, `[n_mels, frames]`, lowest band first; below 0 where it rises, 0 in what is padding.
    pub map: Vec<f32>,
    /// The same for a frame as a whole.
    pub profile: Vec<f32>,
}

/// Cells that are hidden together.
#[derive(Debug, Clone, PartialEq)]
struct Patch {
    bands: Range<usize>,
    frames: Range<usize>,
}

impl Occlusion {
    /// Of the picture that `front_end` made last, whose first `heard` frames are sound and whose others are padding.
    pub fn of(
        manifest: &Manifest,
        model: &Model,
        front_end: &FrontEnd,
        heard: usize,
        bar: &ProgressBar,
    ) -> Result<Self, RunError> {
        let config = &manifest.front_end;
        let (bands, frames) = (config.n_mels, config.frames());
        let frame_s = config.hop as f64 / f64::from(config.sample_rate_hz);
        let picture = front_end.last_picture();
        let mut model_of_whole = model.clone();
        let whole = log_odds(manifest, &mut model_of_whole, picture)?;
        let score = f64::from(model_of_whole.alarm_score());
        let quiet = quiet_frames(front_end.log_mel(), frames, heard.clamp(1, frames));
        let hider = Hider { manifest, model, quiet, picture, whole };
        let in_frames = |seconds: f64| ((seconds / frame_s).round() as usize).clamp(1, frames);
        let slices: Vec<Patch> = SLICES_S
            .into_iter()
            .flat_map(|seconds| {
                let length = in_frames(seconds);
                steps(frames, length, SLICE_STEP).map(move |frames| Patch { bands: 0..bands, frames })
            })
            .collect();
        let tile = ((bands as f64 * TILE_BANDS).round() as usize).clamp(1, bands);
        let tiles: Vec<Patch> = steps(frames, in_frames(TILE_S), TILE_STEP)
            .flat_map(|frames| steps(bands, tile, TILE_STEP).map(move |bands| Patch { bands, frames: frames.clone() }))
            .collect();

        bar.set_length(slices.len() as u64);
        let falls = hider.falls(&slices, bar)?;
        let by_slices = mean_over(&slices, &falls, bands, frames);
        let mut profile = by_slices[..frames].to_vec();
        let worth = WORTH * profile.iter().copied().fold(0.0, f32::max);
        let matters = |patch: &Patch| profile[patch.frames.clone()].iter().any(|fall| *fall > worth);
        let tiles: Vec<Patch> = tiles.into_iter().filter(matters).collect();
        bar.set_prefix("tiles");
        bar.set_position(0);
        bar.set_length(tiles.len() as u64);
        let falls = hider.falls(&tiles, bar)?;
        let by_tiles = mean_over(&tiles, &falls, bands, frames);
        let mut map: Vec<f32> = by_slices.iter().zip(&by_tiles).map(|(slice, tile)| (slice + tile) / 2.0).collect();
        // What lies behind a short file's end is at a time that the file does not have: nothing rests on it.
        for row in map.chunks_exact_mut(frames).chain([&mut profile[..]]) {
            row[heard.clamp(1, frames)..].fill(0.0);
        }
        Ok(Self { score, map, profile })
    }

    /// Where the evidence is largest: seconds from the window's start, and hertz. None where hiding costs nothing.
    pub fn peak(&self, manifest: &Manifest, front_end: &FrontEnd) -> Option<(f64, f32)> {
        let frames = self.profile.len();
        let largest = self.map.iter().copied().fold(0.0, f32::max);
        // Tiles leave plateaus: their middle.
        let top: Vec<usize> = (0..self.map.len()).filter(|cell| self.map[*cell] >= largest).collect();
        let cell = *top.get(top.len() / 2)?;
        let frame_s = manifest.front_end.hop as f64 / f64::from(manifest.front_end.sample_rate_hz);
        (largest > 0.0).then(|| ((cell % frames) as f64 * frame_s, front_end.centres_hz()[cell / frames]))
    }
}

/// Places of patches `length` long over `0..all`, each a share `step` of the length behind the last; the last ends at the end.
fn steps(all: usize, length: usize, step: f64) -> impl Iterator<Item = Range<usize>> + Clone {
    let room = all - length;
    let count = (room as f64 / (length as f64 * step)).ceil().max(if room > 0 { 1.0 } else { 0.0 }) as usize;
    (0..=count).map(move |i| {
        let start = (room * i + count / 2).checked_div(count).unwrap_or(0);
        start..start + length
    })
}

/// For each band the frame, of the first `heard` ones, whose power lies at the lower quartile.
fn quiet_frames(log_mel: &[f32], frames: usize, heard: usize) -> Vec<usize> {
    let place = (QUIET_QUANTILE * (heard - 1) as f64).round() as usize;
    log_mel
        .chunks_exact(frames)
        .map(|band| {
            let mut order: Vec<usize> = (0..heard).collect();
            order.sort_by(|a, b| band[*a].total_cmp(&band[*b]));
            order[place]
        })
        .collect()
}

struct Hider<'a> {
    manifest: &'a Manifest,
    model: &'a Model,
    /// The picture that the network sees, `[channels, n_mels, frames]`.
    picture: &'a [f32],
    /// The frame that each band's hidden cells are copied from.
    quiet: Vec<usize>,
    /// Log-odds of the whole picture.
    whole: f32,
}

impl Hider<'_> {
    /// Fall of the log-odds for each patch, on all cores.
    fn falls(&self, patches: &[Patch], bar: &ProgressBar) -> Result<Vec<f32>, RunError> {
        patches
            .par_iter()
            .map_init(
                || (self.model.clone(), self.picture.to_vec()),
                |(model, picture), patch| {
                    hide(picture, self.picture, self.manifest.front_end.frames(), &self.quiet, patch);
                    let left = log_odds(self.manifest, model, picture)?;
                    picture.copy_from_slice(self.picture);
                    bar.inc(1);
                    Ok(self.whole - left)
                },
            )
            .collect()
    }
}

/// Gives the cells of `patch` in `picture` the quiet cells' colours of `whole`, in every channel.
fn hide(picture: &mut [f32], whole: &[f32], frames: usize, quiet: &[usize], patch: &Patch) {
    // One row per band, one channel after the other.
    for (row, values) in picture.chunks_exact_mut(frames).enumerate() {
        let band = row % quiet.len();
        if patch.bands.contains(&band) {
            values[patch.frames.clone()].fill(whole[row * frames + quiet[band]]);
        }
    }
}

/// Log-odds of the alarm labels together against all others.
fn log_odds(manifest: &Manifest, model: &mut Model, picture: &[f32]) -> Result<f32, RunError> {
    let scores = model.run(picture)?;
    let places: Vec<usize> = manifest.alarm_places().collect();
    let alarm: f32 = places.iter().map(|place| scores[*place]).sum();
    // Softmax leaves small scores exact, so the others' sum says more than 1 - alarm.
    let others: f32 = match manifest.output {
        Output::Logits => (0..scores.len()).filter(|place| !places.contains(place)).map(|place| scores[place]).sum(),
        Output::Probabilities => 1.0 - alarm.min(1.0),
    };
    let odds = alarm.max(f32::MIN_POSITIVE).ln() - others.max(f32::MIN_POSITIVE).ln();
    let most = match manifest.output {
        Output::Logits => LOG_ODDS_MAX,
        Output::Probabilities => LOG_ODDS_OF_PROBABILITY_MAX,
    };
    Ok(odds.clamp(-most, most))
}

/// For each cell the mean fall of the patches that cover it; 0 where none does.
fn mean_over(patches: &[Patch], falls: &[f32], bands: usize, frames: usize) -> Vec<f32> {
    let mut sum = vec![0.0; bands * frames];
    let mut covered = vec![0.0f32; bands * frames];
    for (patch, fall) in patches.iter().zip(falls) {
        for band in patch.bands.clone() {
            for frame in patch.frames.clone() {
                sum[band * frames + frame] += fall;
                covered[band * frames + frame] += 1.0;
            }
        }
    }
    sum.iter().zip(covered).map(|(sum, count)| sum / count.max(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_cover_everything_evenly() {
        for (all, length, step) in [(126, 13, 0.25), (64, 16, 0.5), (32, 32, 0.5), (10, 9, 0.25), (1, 1, 0.5)] {
            let places: Vec<_> = steps(all, length, step).collect();
            assert_eq!((places[0].start, places.last().unwrap().end), (0, all));
            let widest = (length as f64 * step).ceil() as usize;
            assert!(
                places.windows(2).all(|pair| (1..=widest).contains(&(pair[1].start - pair[0].start))),
                "{places:?}"
            );
        }
    }

    #[test]
    fn quiet_is_the_lower_quartile_of_what_was_heard() {
        // One band; the last three frames are padding.
        let log_mel = [5.0, -2.0, 9.0, 1.0, 7.0, -33.0, -33.0, -33.0];
        assert_eq!(quiet_frames(&log_mel, 8, 5), [3]);
        assert_eq!(quiet_frames(&log_mel, 8, 1), [0]);
    }

    #[test]
    fn every_channel_of_a_patch_is_hidden() {
        // Three channels, two bands, three frames; the quiet frames are the third and the first.
        let whole: Vec<f32> = (0..18).map(|cell| cell as f32).collect();
        let mut picture = whole.clone();
        hide(&mut picture, &whole, 3, &[2, 0], &Patch { bands: 0..2, frames: 0..2 });
        let expect = [2, 2, 2, 3, 3, 5, 8, 8, 8, 9, 9, 11, 14, 14, 14, 15, 15, 17];
        assert_eq!(picture, expect.map(|cell| cell as f32));
    }

    #[test]
    fn a_cell_has_the_mean_of_its_patches() {
        let patches = [Patch { bands: 0..2, frames: 0..2 }, Patch { bands: 0..1, frames: 1..3 }];
        assert_eq!(mean_over(&patches, &[2.0, 4.0], 2, 3), [2.0, 3.0, 4.0, 2.0, 2.0, 0.0]);
    }
}
