//! The errors, and then the clips that are right by the least, as one sheet of pictures: to be looked at and grouped by a
//! person.

use std::path::Path;

use detector::front_end::FrontEnd;
use detector::manifest::Manifest;
use detector::viridis::{VIRIDIS, index};
use files::picture::canvas::{Alignment, Canvas, FONT_6X13, FONT_9X15_BOLD, Rgb, fitted, look};
use rayon::prelude::*;

use super::clips::{self, Scored};

/// Clips shown, at the most.
const SHOWN: usize = 50;
const COLUMNS: usize = 5;
/// A cell's picture and its caption, pixels.
const WIDTH: usize = 252;
const HEIGHT: usize = 128;
const CAPTION: usize = 34;
const GAP: usize = 8;
const HEAD: usize = 36;
/// Of the model's name in the title, pixels: what follows it needs the rest.
const MODEL_WIDTH: i32 = 300;
/// Under the loudest cell everything is as dark as silence, in log2 of power: 60 dB.
const RANGE: f32 = 20.0;

const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [38, 42, 51];
const MISSED: Rgb = [0, 114, 178];
const FLAGGED: Rgb = [213, 94, 0];
const RIGHT: Rgb = [150, 155, 165];

/// Draws the sheet: screams missed at the manifest's threshold, others flagged, then what was right by little; each kind the
/// worst first, the window that counted, with a frame of its own colour.
pub fn write(path: &Path, manifest: &Manifest, data: &Path, scored: &[Scored], cut_s: f64) -> anyhow::Result<()> {
    let threshold = manifest.decision.threshold_on;
    let colour = |clip: &Scored| match (clip.truth(), clip.score >= threshold) {
        (Some(true), false) => MISSED,
        (Some(false), true) => FLAGGED,
        _ => RIGHT,
    };
    let off = |clip: &Scored| clip.truth().map_or(0.0, |truth| (f64::from(u8::from(truth)) - clip.score).abs());
    let mut worst: Vec<&Scored> = scored.iter().filter(|clip| clip.truth().is_some()).collect();
    let clips = worst.len();
    let errors = worst.iter().filter(|clip| colour(clip) != RIGHT).count();
    // An error near the threshold is nearer to the truth than what is right by little on the other side: errors first.
    worst.sort_by(|a, b| (colour(a) == RIGHT).cmp(&(colour(b) == RIGHT)).then(off(b).total_cmp(&off(a))));
    worst.truncate(SHOWN);
    worst.sort_by_key(|clip| [MISSED, FLAGGED, RIGHT].iter().position(|kind| *kind == colour(clip)));
    let tiles: Vec<Vec<f32>> = worst
        .par_iter()
        .map_init(
            || FrontEnd::new(&manifest.front_end),
            |front_end, clip| {
                let sound = clips::laid(manifest, data, &clip.row.file, cut_s)?.sound;
                let stride = manifest.decision.stride_s * f64::from(manifest.front_end.sample_rate_hz);
                let start = (clip.window as f64 * stride).round() as usize;
                front_end.picture(&sound[start..][..manifest.front_end.window_samples()]);
                Ok(front_end.log_mel().to_vec())
            },
        )
        .collect::<anyhow::Result<_>>()?;

    let rows = worst.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (COLUMNS * (WIDTH + GAP) + GAP, HEAD + rows * (HEIGHT + CAPTION + GAP));
    let mut canvas = Canvas::new(width, height, PAPER);
    let model = format!("{} {}", manifest.name, manifest.version);
    let title = format!(
        "{}: {errors} errors of {clips} at {threshold}, {} shown. Blue: missed. Orange: flagged. Grey: right.",
        fitted(&model, MODEL_WIDTH, &FONT_9X15_BOLD),
        errors.min(worst.len())
    );
    canvas.text(&title, GAP as i32, 18, &look(&FONT_9X15_BOLD, INK, Alignment::Left));
    for (place, (&clip, log_mel)) in worst.iter().zip(&tiles).enumerate() {
        let left = (GAP + place % COLUMNS * (WIDTH + GAP)) as i32;
        let top = (HEAD + place / COLUMNS * (HEIGHT + CAPTION + GAP)) as i32;
        tile(&mut canvas, left, top, log_mel, manifest.front_end.n_mels);
        let kind = colour(clip);
        canvas.frame(left - 2, top - 2, WIDTH as i32 + 4, HEIGHT as i32 + 4, kind);
        canvas.frame(left - 1, top - 1, WIDTH as i32 + 2, HEIGHT as i32 + 2, kind);
        let caption = fitted(&format!("{:.3} {}", clip.score, clip.row.class), WIDTH as i32, &FONT_6X13);
        canvas.text(&caption, left, top + HEIGHT as i32 + 10, &look(&FONT_6X13, kind, Alignment::Left));
        let name = fitted(&clip.row.file, WIDTH as i32, &FONT_6X13);
        canvas.text(&name, left, top + HEIGHT as i32 + 24, &look(&FONT_6X13, INK, Alignment::Left));
    }
    Ok(canvas.write(path)?)
}

fn tile(canvas: &mut Canvas, left: i32, top: i32, log_mel: &[f32], bands: usize) {
    let frames = log_mel.len() / bands;
    let loudest = log_mel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for y in 0..HEIGHT {
        let band = (HEIGHT - 1 - y) * bands / HEIGHT;
        for x in 0..WIDTH {
            let value = log_mel[band * frames + x * frames / WIDTH];
            canvas.set(left + x as i32, top + y as i32, VIRIDIS[index(1.0 + (value - loudest) / RANGE)]);
        }
    }
}
