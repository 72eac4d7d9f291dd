//! The spectrogram of one window with what its score rests on.
//!
//! *Evidence* is how much the network's answer loses when a cell is hidden, one number a cell. What matters keeps its
//! colours inside a white line, what does not is dimmed, the peak is a cross; the panel below is the evidence over time.

use super::{
    Alignment, BOTTOM, Canvas, DecibelScale, FAINT, FONT_6X13, FONT_7X13, FONT_7X13_BOLD, HEIGHT, HIT_FILL, HIT_LINE,
    INK, LEFT, PANEL_WIDTH, PAPER, PictureError, SCORE_HEIGHT, SCORE_TOP, SOUND_HEIGHT, SOUND_TOP, Spectrogram,
    VIRIDIS, WIDTH, covers, expect_count, index, look, outline, pixel, score_y, text_width,
};

/// Cells with at least this share of the largest evidence are what the score rests on.
const SHARE: f32 = 0.5;
/// What is left of the colours elsewhere.
const DIMMED: f32 = 0.55;

/// A window's spectrogram and its evidence. `sound.scores` and `sound.alarm_t_s` are not drawn.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The window.
    pub sound: Spectrogram<'a>,
    /// `[n_mels, frames]` as `sound.log_mel`; what is not above 0 counts as none.
    pub map: &'a [f32],
    /// The evidence of each frame, all bands together, log-odds.
    pub profile: &'a [f32],
    /// Where the evidence is largest: seconds and hertz; `None` where there is none.
    pub peak: Option<(f64, f32)>,
}

impl Evidence<'_> {
    /// The picture as a PNG of the size of [`Spectrogram::to_png`].
    ///
    /// # Errors
    /// As there, and where `map` or `profile` do not fit.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        self.draw()?.to_png()
    }

    fn draw(&self) -> Result<Canvas, PictureError> {
        let sound = &self.sound;
        sound.check()?;
        expect_count("map", self.map.len(), sound.n_mels * sound.frames)?;
        expect_count("profile", self.profile.len(), sound.frames)?;
        let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, PAPER);
        sound.draw_title(&mut canvas);
        let scale = DecibelScale::of(sound.log_mel);
        self.draw_sound(&mut canvas, &scale);
        sound.draw_frequencies(&mut canvas);
        scale.draw(&mut canvas);
        self.draw_profile(&mut canvas);
        sound.draw_times(&mut canvas);
        self.draw_peak(&mut canvas);
        Ok(canvas)
    }

    fn draw_sound(&self, canvas: &mut Canvas, scale: &DecibelScale) {
        let frames = self.sound.frames;
        let values: Vec<f32> = self.sound.log_mel.iter().map(|&v| scale.position(v)).collect();
        let largest = largest(self.map);
        let shares: Vec<f32> = self.map.iter().map(|&v| share(v, largest)).collect();
        let (from, to) = if frames > 1 { (0.5, frames as f64 - 0.5) } else { (0.0, 1.0) };
        let columns = covers(PANEL_WIDTH as usize, frames, from, to);
        let rows = covers(SOUND_HEIGHT as usize, self.sound.n_mels, 0.0, self.sound.n_mels as f64);
        let inside: Vec<Vec<bool>> = rows
            .iter()
            .map(|row| columns.iter().map(|column| pixel(&shares, frames, row, column) >= SHARE).collect())
            .collect();
        for (y, row) in rows.iter().enumerate() {
            for (x, column) in columns.iter().enumerate() {
                let colour = VIRIDIS[index(pixel(&values, frames, row, column))];
                let at = |dy: i32, dx: i32| {
                    let y = (y as i32 + dy).clamp(0, SOUND_HEIGHT - 1) as usize;
                    let x = (x as i32 + dx).clamp(0, PANEL_WIDTH - 1) as usize;
                    inside[y][x]
                };
                let rim = at(0, 0) && !(at(2, 0) && at(-2, 0) && at(0, 2) && at(0, -2));
                let shown = match (rim, at(0, 0)) {
                    (true, _) => PAPER,
                    (_, true) => colour,
                    _ => colour.map(|c| (f32::from(c) * DIMMED) as u8),
                };
                canvas.set(LEFT + x as i32, SOUND_TOP + SOUND_HEIGHT - 1 - y as i32, shown);
            }
        }
        outline(canvas, LEFT, SOUND_TOP, PANEL_WIDTH, SOUND_HEIGHT);
    }

    fn draw_profile(&self, canvas: &mut Canvas) {
        let most = largest(self.profile);
        let ticks = [Some((0.0, "0".to_owned())), (most > 0.0).then(|| (1.0, format!("{most:.1}")))];
        for (at, name) in ticks.into_iter().flatten() {
            canvas.fill(LEFT, score_y(at), PANEL_WIDTH, 1, FAINT);
            canvas.fill(LEFT - 6, score_y(at), 5, 1, INK);
            canvas.text(&name, LEFT - 9, score_y(at), &look(&FONT_7X13, INK, Alignment::Right));
        }
        let frames = self.profile.len();
        let (from, to) = if frames > 1 { (0.5, frames as f64 - 0.5) } else { (0.0, 1.0) };
        let row = &covers(1, 1, 0.0, 1.0)[0];
        for (column, x) in covers(PANEL_WIDTH as usize, frames, from, to).iter().zip(LEFT..) {
            let value = share(pixel(self.profile, frames, row, column), most);
            let y = score_y(value);
            canvas.fill(x, y, 1, BOTTOM - y, HIT_FILL);
            canvas.fill(x, y - 1, 1, 2, HIT_LINE);
        }
        outline(canvas, LEFT, SCORE_TOP, PANEL_WIDTH, SCORE_HEIGHT);
        let middle = SCORE_TOP + SCORE_HEIGHT / 2;
        canvas.text_upwards("evidence", 16, middle, &look(&FONT_7X13, INK, Alignment::Left));
        for (line, text) in ["what the score", "loses when a", "moment is hidden", "(log-odds)"].iter().enumerate() {
            let y = SCORE_TOP + 16 + 14 * line as i32;
            canvas.text(text, LEFT + PANEL_WIDTH + 4, y, &look(&FONT_6X13, INK, Alignment::Left));
        }
    }

    fn draw_peak(&self, canvas: &mut Canvas) {
        let Some((t_s, hz)) = self.peak else { return };
        let Some(height) = self.sound.height_of(hz) else { return };
        let x = self.sound.time_x(t_s);
        let y = SOUND_TOP + SOUND_HEIGHT - 1 - (height * f64::from(SOUND_HEIGHT - 1)).round() as i32;
        for (thick, colour) in [(6, PAPER), (2, HIT_LINE)] {
            canvas.line((x - 9, y), (x + 9, y), thick, colour);
            canvas.line((x, y - 9), (x, y + 9), thick, colour);
        }
        canvas.fill(x - 1, SOUND_TOP - 5, 2, 5, HIT_LINE);
        let name = format!("{t_s:.2} s, {hz:.0} Hz");
        let half = text_width(&name, &FONT_7X13_BOLD) / 2;
        let at = x.clamp(LEFT + half, LEFT + PANEL_WIDTH - half);
        canvas.text(&name, at, SOUND_TOP - 13, &look(&FONT_7X13_BOLD, HIT_LINE, Alignment::Center));
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max)
}

/// Share of the largest, 0..1; 0 where nothing is above 0.
fn share(value: f32, largest: f32) -> f32 {
    if largest > 0.0 && value.is_finite() { (value / largest).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::decode;
    use super::*;

    fn evidence<'a>(log_mel: &'a [f32], map: &'a [f32], profile: &'a [f32]) -> Evidence<'a> {
        let sound = Spectrogram {
            log_mel,
            n_mels: 4,
            frames: 8,
            mel_centres_hz: &[200.0, 1000.0, 2500.0, 6000.0],
            t_start_s: 3.0,
            t_end_s: 5.0,
            scores: &[],
            threshold_on: 0.7,
            alarm_t_s: None,
            title: "a.wav",
        };
        Evidence { sound, map, profile, peak: Some((4.0, 2500.0)) }
    }

    /// Colour of the pixel in the middle of a cell.
    fn at(rgb: &[u8], band: usize, frame: usize) -> [u8; 3] {
        let y = SOUND_TOP + SOUND_HEIGHT - 1 - (SOUND_HEIGHT * (2 * band as i32 + 1)) / 8;
        let x = LEFT + (f64::from(PANEL_WIDTH) * frame as f64 / 7.0) as i32;
        let place = ((y * WIDTH + x.min(LEFT + PANEL_WIDTH - 1)) * 3) as usize;
        [rgb[place], rgb[place + 1], rgb[place + 2]]
    }

    #[test]
    fn what_matters_keeps_its_colours() {
        let log_mel: Vec<f32> = (0..32).map(|cell| if cell == 8 + 6 { 0.0 } else { -20.0 }).collect();
        let mut map = vec![0.0; 32];
        map[8 + 6] = 2.0;
        let mut evidence = evidence(&log_mel, &map, &[0.0; 8]);
        evidence.peak = None;
        let (.., rgb) = decode(&evidence.to_png().unwrap());
        assert_eq!(at(&rgb, 1, 6), VIRIDIS[255]);
        assert_eq!(at(&rgb, 3, 1), VIRIDIS[0].map(|c| (f32::from(c) * DIMMED) as u8));
    }

    #[test]
    fn no_evidence_is_a_picture_too_and_a_wrong_shape_is_none() {
        let log_mel = [-33.2; 32];
        for value in [0.0, -1.0, f32::NAN] {
            assert!(evidence(&log_mel, &[value; 32], &[value; 8]).to_png().is_ok(), "{value}");
        }
        let error = evidence(&log_mel, &[0.0; 31], &[0.0; 8]).to_png().unwrap_err();
        assert_eq!(error.to_string(), "map: there are 31 and not 32");
    }
}
