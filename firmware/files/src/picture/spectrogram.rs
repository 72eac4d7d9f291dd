//! What a person sees of an incident: the spectrogram with its axes, and the score under it on the same time axis.

pub mod evidence;

use std::path::Path;

use super::canvas::{Alignment, Canvas, FONT_6X13, FONT_7X13, FONT_7X13_BOLD, FONT_9X15_BOLD, Rgb, look, text_width};
use super::scale::{covers, pixel};
use super::{PictureError, expect_count, finite_range, kept};
use crate::event_record::EventWindow;
use crate::private_file::write_private;
use detector::viridis::{VIRIDIS, index};

/// One incident's sound and scores. All times are seconds of the sound, on one axis.
#[derive(Debug, Clone, Copy)]
pub struct Spectrogram<'a> {
    /// log2 of mel power, `[n_mels, frames]`, lowest band first.
    pub log_mel: &'a [f32],
    /// Bands.
    pub n_mels: usize,
    /// Frames, evenly spaced: the first stands at `t_start_s`, the last at `t_end_s`.
    pub frames: usize,
    /// Centre of each band, hertz, rising.
    pub mel_centres_hz: &'a [f32],
    /// The first frame's time, seconds.
    pub t_start_s: f64,
    /// The last frame's time, seconds.
    pub t_end_s: f64,
    /// The windows' scores, in order. Each is drawn over the stride that led to it.
    pub scores: &'a [WindowScore],
    /// Score at which a window is a hit, 0..1.
    pub threshold_on: f64,
    /// When the alarm started, seconds.
    pub alarm_t_s: Option<f64>,
    /// One line over the picture; letters outside ISO 8859-1 show as `?`, what does not fit is cut off.
    pub title: &'a str,
}

/// One window's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowScore {
    /// The window's end, seconds.
    pub t_end_s: f64,
    /// 0..1.
    pub score: f32,
    /// It holds the device's own siren: whatever its score, it is no hit.
    pub masked: bool,
}

impl From<&EventWindow> for WindowScore {
    fn from(window: &EventWindow) -> Self {
        Self { t_end_s: window.t_end_s, score: window.score, masked: window.masked }
    }
}

// Where things stand, pixels. 256 is four a band for the usual 64.
const WIDTH: i32 = 960;
const HEIGHT: i32 = 448;
const LEFT: i32 = 68;
const PANEL_WIDTH: i32 = 788;
const SOUND_TOP: i32 = 52;
const SOUND_HEIGHT: i32 = 256;
const SCORE_TOP: i32 = SOUND_TOP + SOUND_HEIGHT + 18;
const SCORE_HEIGHT: i32 = 76;
const BOTTOM: i32 = SCORE_TOP + SCORE_HEIGHT;
const BAR_LEFT: i32 = LEFT + PANEL_WIDTH + 18;
const BAR_WIDTH: i32 = 14;

const PAPER: Rgb = [255, 255, 255];
const INK: Rgb = [38, 42, 51];
const FAINT: Rgb = [226, 229, 234];
const QUIET_LINE: Rgb = [62, 92, 138];
const QUIET_FILL: Rgb = [219, 228, 241];
const HIT_LINE: Rgb = [200, 36, 44];
const HIT_FILL: Rgb = [250, 214, 208];
const MASKED_LINE: Rgb = [120, 124, 132];
const MASKED_FILL: Rgb = [234, 235, 238];

/// What is more than this under the loudest cell is drawn as dark as silence, dB: digital silence lies 100 dB under a
/// whisper, and with it in the scale a whole room would be one shade.
const RANGE_DB_MAX: f32 = 80.0;
/// The shortest scale, dB: what differs less is as good as one shade.
const RANGE_DB_MIN: f32 = 10.0;
/// One step of log2 power, dB.
const DB_PER_LOG2: f32 = 3.010_3;
const FREQUENCY_TICKS_HZ: [(f32, &str); 8] = [
    (125.0, "125"),
    (250.0, "250"),
    (500.0, "500"),
    (1000.0, "1k"),
    (2000.0, "2k"),
    (4000.0, "4k"),
    (8000.0, "8k"),
    (16000.0, "16k"),
];
const TIME_TICKS_MAX: f64 = 9.0;

impl Spectrogram<'_> {
    /// The picture as a PNG of 960 x 448 pixels, with its numbers inside ([`kept`]).
    ///
    /// # Errors
    /// Where the numbers do not fit `n_mels` and `frames`, there are none, or time does not run forwards.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        self.check()?;
        let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, PAPER);
        self.draw_title(&mut canvas);
        let scale = DecibelScale::of(self.log_mel);
        self.draw_sound(&mut canvas, &scale);
        self.draw_frequencies(&mut canvas);
        scale.draw(&mut canvas);
        self.draw_scores(&mut canvas);
        self.draw_times(&mut canvas);
        self.draw_alarm(&mut canvas);
        canvas.to_png_with(kept::chunk(self)?)
    }

    fn check(&self) -> Result<(), PictureError> {
        let (n_mels, frames) = (self.n_mels, self.frames);
        if n_mels == 0 || frames == 0 {
            return Err(PictureError::Unsupported { channels: 1, n_mels, frames });
        }
        expect_count("log_mel", self.log_mel.len(), n_mels.saturating_mul(frames))?;
        expect_count("mel_centres_hz", self.mel_centres_hz.len(), n_mels)?;
        let (t_start_s, t_end_s) = (self.t_start_s, self.t_end_s);
        let span = t_end_s - t_start_s;
        if !span.is_finite() || span <= 0.0 {
            return Err(PictureError::Time { t_start_s, t_end_s });
        }
        Ok(())
    }

    /// Writes the picture to `path`, for its owner alone (mode 0600).
    ///
    /// # Errors
    /// As [`to_png`](Self::to_png), and where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PictureError> {
        Ok(write_private(path, &self.to_png()?)?)
    }

    fn draw_title(&self, canvas: &mut Canvas) {
        let room = ((WIDTH - LEFT) / text_width("x", &FONT_9X15_BOLD) - 1) as usize;
        let letters = || self.title.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut title: String = letters().take(room).collect();
        if letters().count() > room {
            title = letters().take(room - 3).chain("...".chars()).collect();
        }
        canvas.text(&title, LEFT, 17, &look(&FONT_9X15_BOLD, INK, Alignment::Left));
    }

    fn draw_sound(&self, canvas: &mut Canvas, scale: &DecibelScale) {
        let values: Vec<f32> = self.log_mel.iter().map(|&v| scale.position(v)).collect();
        // A frame stands at its middle: the axis runs from the first frame's middle to the last one's.
        let frames = self.frames as f64;
        let (from, to) = if self.frames > 1 { (0.5, frames - 0.5) } else { (0.0, 1.0) };
        let columns = covers(PANEL_WIDTH as usize, self.frames, from, to);
        let rows = covers(SOUND_HEIGHT as usize, self.n_mels, 0.0, self.n_mels as f64);
        for (row, y) in rows.iter().zip((SOUND_TOP..SOUND_TOP + SOUND_HEIGHT).rev()) {
            for (column, x) in columns.iter().zip(LEFT..) {
                canvas.set(x, y, VIRIDIS[index(pixel(&values, self.frames, row, column))]);
            }
        }
        outline(canvas, LEFT, SOUND_TOP, PANEL_WIDTH, SOUND_HEIGHT);
    }

    fn draw_frequencies(&self, canvas: &mut Canvas) {
        let mut last_y = i32::MAX;
        for (hz, name) in FREQUENCY_TICKS_HZ {
            let Some(height) = self.height_of(hz) else { continue };
            let y = SOUND_TOP + SOUND_HEIGHT - 1 - (height * f64::from(SOUND_HEIGHT - 1)).round() as i32;
            canvas.fill(LEFT - 6, y, 5, 1, INK);
            // Low bands lie close together: a name that would touch the one below it is left out, its tick stays.
            if last_y.saturating_sub(y) >= 13 {
                canvas.text(name, LEFT - 9, y, &look(&FONT_7X13, INK, Alignment::Right));
                last_y = y;
            }
        }
        let middle = SOUND_TOP + SOUND_HEIGHT / 2;
        canvas.text_upwards("frequency (Hz)", 16, middle, &look(&FONT_7X13, INK, Alignment::Left));
    }

    /// Where `hz` lies between the lower edge (0) and the upper edge (1) of the sound's panel; `None` outside it.
    fn height_of(&self, hz: f32) -> Option<f64> {
        let centres = self.mel_centres_hz;
        let above = centres.partition_point(|&centre| centre < hz).clamp(1, centres.len().max(2) - 1);
        let (low, high) = (*centres.get(above - 1)?, *centres.get(above)?);
        let band = (above - 1) as f64 + f64::from((hz - low) / (high - low));
        // The outer triangles reach a whole band beyond their centres, the panel half a one.
        let (bottom, top) = (-1.05, centres.len() as f64 + 0.05);
        (bottom..=top).contains(&band).then(|| ((band + 0.5) / centres.len() as f64).clamp(0.0, 1.0))
    }

    fn draw_scores(&self, canvas: &mut Canvas) {
        for (score, name) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
            let y = score_y(score);
            canvas.fill(LEFT, y, PANEL_WIDTH, 1, FAINT);
            canvas.fill(LEFT - 6, y, 5, 1, INK);
            canvas.text(name, LEFT - 9, y, &look(&FONT_7X13, INK, Alignment::Right));
        }
        let steps = self.score_steps();
        for step in &steps {
            let (fill, _) = step.colours(self.threshold_on);
            canvas.fill(step.x_from, step.y, step.x_to - step.x_from, BOTTOM - step.y, fill);
        }
        self.draw_threshold(canvas);
        for step in &steps {
            let (_, line) = step.colours(self.threshold_on);
            canvas.fill(step.x_from, step.y - 1, step.x_to - step.x_from, 2, line);
        }
        // Dots last, so that no line crosses one. A window that ends outside the picture has none.
        for step in steps.iter().filter(|step| step.ends_inside) {
            dot(canvas, step.x_to, step.y, step.colours(self.threshold_on).1);
        }
        outline(canvas, LEFT, SCORE_TOP, PANEL_WIDTH, SCORE_HEIGHT);
        let middle = SCORE_TOP + SCORE_HEIGHT / 2;
        canvas.text_upwards("score", 16, middle, &look(&FONT_7X13, INK, Alignment::Left));
    }

    fn draw_threshold(&self, canvas: &mut Canvas) {
        let y = score_y(self.threshold_on as f32);
        for x in (LEFT..LEFT + PANEL_WIDTH).step_by(10) {
            canvas.fill(x, y, 6.min(LEFT + PANEL_WIDTH - x), 1, INK);
        }
        let name = format!("threshold {}", (self.threshold_on * 1000.0).round() / 1000.0);
        canvas.text(&name, LEFT + PANEL_WIDTH + 8, y, &look(&FONT_6X13, INK, Alignment::Left));
        if self.scores.iter().any(|window| window.masked) {
            let middle = SCORE_TOP + SCORE_HEIGHT / 2;
            let y = if y < middle { BOTTOM - 10 } else { SCORE_TOP + 10 };
            canvas.text("grey: own siren", LEFT + PANEL_WIDTH + 8, y, &look(&FONT_6X13, MASKED_LINE, Alignment::Left));
        }
    }

    fn score_steps(&self) -> Vec<Step> {
        let mut scores: Vec<_> =
            self.scores.iter().filter(|window| window.t_end_s.is_finite() && window.score.is_finite()).collect();
        scores.sort_by(|a, b| a.t_end_s.total_cmp(&b.t_end_s));
        // The shortest distance of two windows is the stride; a dropped window leaves a gap and no long step.
        let distances = scores.windows(2).map(|pair| pair[1].t_end_s - pair[0].t_end_s).filter(|d| *d > 0.0);
        let stride = distances.fold(f64::INFINITY, f64::min);
        let mut before = f64::NEG_INFINITY;
        let mut steps = Vec::with_capacity(scores.len());
        for &&WindowScore { t_end_s: t_end, score, masked } in &scores {
            let t_from = before.max(t_end - stride).max(self.t_start_s);
            before = t_end;
            if t_end >= self.t_start_s && t_from < self.t_end_s {
                steps.push(Step {
                    x_from: self.time_x(t_from),
                    x_to: self.time_x(t_end),
                    y: score_y(score),
                    score,
                    masked,
                    ends_inside: t_end <= self.t_end_s + self.almost_s(),
                });
            }
        }
        steps
    }

    fn draw_times(&self, canvas: &mut Canvas) {
        let span = self.t_end_s - self.t_start_s;
        let step = round_step(span / TIME_TICKS_MAX);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.t_start_s / step - 1e-6).ceil(), (self.t_end_s / step + 1e-6).floor());
        for i in 0..=(last - first).max(0.0) as u32 {
            // Adding 0 makes a zero of a negative zero.
            let t = (first + f64::from(i)) * step + 0.0;
            let x = self.time_x(t);
            canvas.fill(x, SOUND_TOP + SOUND_HEIGHT + 1, 1, 5, INK);
            canvas.fill(x, BOTTOM + 1, 1, 5, INK);
            canvas.text(&format!("{t:.decimals$}"), x, BOTTOM + 14, &look(&FONT_7X13, INK, Alignment::Center));
        }
        canvas.text("time (s)", LEFT + PANEL_WIDTH / 2, BOTTOM + 32, &look(&FONT_7X13, INK, Alignment::Center));
    }

    fn draw_alarm(&self, canvas: &mut Canvas) {
        let shown = self.t_start_s - self.almost_s()..=self.t_end_s + self.almost_s();
        let Some(t) = self.alarm_t_s.filter(|t| shown.contains(t)) else { return };
        let x = self.time_x(t).clamp(LEFT + 1, LEFT + PANEL_WIDTH - 2);
        // White at its sides: red alone would drown in the middle of Viridis.
        canvas.fill(x - 2, SOUND_TOP, 4, SOUND_HEIGHT, PAPER);
        canvas.fill(x - 1, SOUND_TOP - 5, 2, BOTTOM - SOUND_TOP + 5, HIT_LINE);
        let name = format!("alarm {t:.1} s");
        let half = text_width(&name, &FONT_7X13_BOLD) / 2;
        let at = x.clamp(LEFT + half, LEFT + PANEL_WIDTH - half);
        canvas.text(&name, at, SOUND_TOP - 13, &look(&FONT_7X13_BOLD, HIT_LINE, Alignment::Center));
    }

    /// A window ends within a frame's distance behind its last frame's middle: what ends there is still in the picture.
    fn almost_s(&self) -> f64 {
        (self.t_end_s - self.t_start_s) / (self.frames.max(2) - 1) as f64
    }

    /// Column of a time, those beside the picture at its edges.
    fn time_x(&self, t_s: f64) -> i32 {
        let share = ((t_s - self.t_start_s) / (self.t_end_s - self.t_start_s)).clamp(0.0, 1.0);
        LEFT + (share * f64::from(PANEL_WIDTH - 1)).round() as i32
    }
}

/// One score on the time axis.
struct Step {
    x_from: i32,
    x_to: i32,
    y: i32,
    score: f32,
    masked: bool,
    ends_inside: bool,
}

impl Step {
    /// Its filling's and its line's colour.
    fn colours(&self, threshold_on: f64) -> (Rgb, Rgb) {
        if self.masked {
            (MASKED_FILL, MASKED_LINE)
        } else if f64::from(self.score) >= threshold_on {
            (HIT_FILL, HIT_LINE)
        } else {
            (QUIET_FILL, QUIET_LINE)
        }
    }
}

/// What the colours stand for: dB under the loudest cell. What a microphone hears has no absolute scale here (the
/// level in the record has one), so 0 dB is the loudest.
struct DecibelScale {
    low: f32,
    high: f32,
    loudest: f32,
}

impl DecibelScale {
    fn of(log_mel: &[f32]) -> Self {
        let (low, loudest) = finite_range(log_mel).unwrap_or((0.0, 0.0));
        let low = low.max(loudest - RANGE_DB_MAX / DB_PER_LOG2);
        // Silence is one value: it is drawn dark, on a scale that still has a length.
        Self { low, high: loudest.max(low + RANGE_DB_MIN / DB_PER_LOG2), loudest }
    }

    /// Place of a log2 power on the colour scale, 0..1.
    fn position(&self, log2_power: f32) -> f32 {
        let share = (log2_power - self.low) / (self.high - self.low);
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    fn draw(&self, canvas: &mut Canvas) {
        for row in 0..SOUND_HEIGHT {
            let share = (SOUND_HEIGHT - 1 - row) as f32 / (SOUND_HEIGHT - 1) as f32;
            canvas.fill(BAR_LEFT, SOUND_TOP + row, BAR_WIDTH, 1, VIRIDIS[index(share)]);
        }
        outline(canvas, BAR_LEFT, SOUND_TOP, BAR_WIDTH, SOUND_HEIGHT);
        let span_db = (self.high - self.low) * DB_PER_LOG2;
        let step_db = round_step(f64::from(span_db) / 8.0) as f32;
        for i in -100i32..=100 {
            let db = i as f32 * step_db;
            let share = (self.loudest + db / DB_PER_LOG2 - self.low) / (self.high - self.low);
            if !(-1e-3..=1.001).contains(&share) {
                continue;
            }
            let y = SOUND_TOP + SOUND_HEIGHT - 1 - (share * (SOUND_HEIGHT - 1) as f32).round() as i32;
            canvas.fill(BAR_LEFT + BAR_WIDTH + 1, y, 4, 1, INK);
            let name = format!("{}", db + 0.0);
            canvas.text(&name, BAR_LEFT + BAR_WIDTH + 8, y, &look(&FONT_7X13, INK, Alignment::Left));
        }
        let middle = SOUND_TOP + SOUND_HEIGHT / 2;
        canvas.text_upwards("dB (loudest = 0)", WIDTH - 18, middle, &look(&FONT_7X13, INK, Alignment::Left));
    }
}

/// The next of 1, 2, 5, 10, 20, ... (or 0.1, 0.2, ...) that is not under `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= least * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

fn score_y(score: f32) -> i32 {
    // Room above 1 and under 0, so that neither lies on the panel's border.
    let (zero, one) = (SCORE_TOP + SCORE_HEIGHT - 6, SCORE_TOP + 5);
    zero - (score.clamp(0.0, 1.0) * (zero - one) as f32).round() as i32
}

fn outline(canvas: &mut Canvas, x: i32, y: i32, width: i32, height: i32) {
    canvas.frame(x - 1, y - 1, width + 2, height + 2, INK);
}

/// A round mark of seven pixels with a white rim.
fn dot(canvas: &mut Canvas, x: i32, y: i32, colour: Rgb) {
    for (dy, dx) in (-4i32..=4).flat_map(|dy| (-4i32..=4).map(move |dx| (dy, dx))) {
        match dx * dx + dy * dy {
            0..=10 => canvas.set(x + dx, y + dy, colour),
            11..=18 => canvas.set(x + dx, y + dy, PAPER),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
