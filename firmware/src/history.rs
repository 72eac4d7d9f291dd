//! The last seconds as people look at them: one stretch of log-mel frames, scores and, where clips are kept, sound.

use std::collections::VecDeque;

use detector::manifest::FrontEnd;
use files::event_record::EventWindow;

use crate::listen::Report;

/// Seconds that a picture shows at the most.
pub const PICTURE_S: f64 = 40.0;
/// Longest sound of a clip, seconds.
pub const CLIP_S: f64 = 120.0;
/// Where there is no sound: the front end's least power, log2 of 1e-10.
const DARK: f32 = -33.219_28;
/// A window's frame is new from so many hops behind the last column on: a half, and what arithmetic loses.
const NEW_COLUMN: f64 = 0.49;
/// So many hops from one column to the next, and there is sound missing between them: neighbours are 1.5 at the most.
const MISSING: f64 = 1.75;
/// Rounds to the nearest place, and halves, as exact as arithmetic is, all upwards.
const UPWARDS: f64 = 0.51;
/// Windows that are kept at the most.
const WINDOWS: usize = 512;

/// What a picture and a clip are made of.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// `[n_mels, frames]`, log2 of the mel power.
    pub log_mel: Vec<f32>,
    /// Frames.
    pub frames: usize,
    /// Of each band.
    pub centres_hz: Vec<f32>,
    /// Time of the first frame, seconds of the sound.
    pub t_start_s: f64,
    /// Time of the last frame.
    pub t_end_s: f64,
    /// Sound of the model's rate; empty where none is kept.
    pub sound: Vec<f32>,
    /// Time of its first sample, seconds of the sound.
    pub sound_start_s: f64,
}

/// What may be missing at a stretch's beginning, seconds: less than two frames of any front end.
const ALMOST_S: f64 = 0.1;

impl Stretch {
    /// Without frames or sound that begin only after `from_s`, as far as they are not of the very beginning.
    pub fn keep_if_from(&mut self, from_s: f64) {
        if self.t_start_s > from_s + ALMOST_S {
            (self.frames, self.log_mel) = (0, Vec::new());
        }
        if self.sound_start_s > from_s + ALMOST_S {
            self.sound = Vec::new();
        }
    }
}

/// Frames, windows and sound of the last seconds.
pub struct History {
    n_mels: usize,
    hop_s: f64,
    rate_hz: f64,
    /// Half an FFT: frames nearer to a window's end hold its reflection.
    edge_s: f64,
    centres_hz: Vec<f32>,
    columns: VecDeque<(f64, Vec<f32>)>,
    windows: VecDeque<EventWindow>,
    sound: VecDeque<f32>,
    sound_end: u64,
    /// The sound's time without what is missing of it lies so far back, seconds.
    missing_s: f64,
}

impl History {
    /// For a front end whose bands have these centres.
    pub fn new(config: &FrontEnd, centres_hz: &[f32]) -> Self {
        let rate_hz = f64::from(config.sample_rate_hz);
        Self {
            n_mels: config.n_mels,
            hop_s: config.hop as f64 / rate_hz,
            rate_hz,
            edge_s: config.n_fft as f64 / 2.0 / rate_hz,
            centres_hz: centres_hz.to_vec(),
            columns: VecDeque::new(),
            windows: VecDeque::new(),
            sound: VecDeque::new(),
            sound_end: 0,
            missing_s: 0.0,
        }
    }

    /// Takes in what is new in a window.
    pub fn push(&mut self, report: &Report, window: EventWindow) {
        let frames = report.log_mel.len() / self.n_mels;
        // The last frames of the window before were half reflection; this window has them whole.
        let whole_until = self.columns.back().map_or(f64::NEG_INFINITY, |(t, _)| t - self.edge_s);
        while self.columns.back().is_some_and(|(t, _)| *t > whole_until.max(report.t_start_s + self.edge_s)) {
            self.columns.pop_back();
        }
        let last = self.columns.back().map_or(f64::NEG_INFINITY, |(t, _)| *t);
        for frame in 0..frames {
            let after_s = frame as f64 * self.hop_s;
            let t_s = match report.gap_after_s {
                // What came after sound that is missing is known by the window's end.
                Some(gap_after_s) if after_s >= gap_after_s => {
                    report.t_end_s - (frames - 1 - frame) as f64 * self.hop_s
                }
                _ => report.t_start_s + after_s,
            };
            if t_s > last + NEW_COLUMN * self.hop_s {
                let column = (0..self.n_mels).map(|band| report.log_mel[band * frames + frame]).collect();
                self.columns.push_back((t_s, column));
            }
        }
        while self.columns.front().is_some_and(|(t, _)| *t < report.t_end_s - PICTURE_S) {
            self.columns.pop_front();
        }
        self.windows.push_back(window);
        while self.windows.len() > WINDOWS {
            self.windows.pop_front();
        }
        if !report.sound.is_empty() {
            let new = (report.span.end.saturating_sub(self.sound_end)).min(report.sound.len() as u64) as usize;
            self.sound.extend(&report.sound[report.sound.len() - new..]);
            self.sound_end = report.span.end;
            self.missing_s = report.t_end_s - self.sound_end as f64 / self.rate_hz;
            while self.sound.len() as f64 > CLIP_S * self.rate_hz {
                self.sound.pop_front();
            }
        }
    }

    /// Windows that end after `from_s`.
    pub fn windows_since(&self, from_s: f64) -> Vec<EventWindow> {
        self.windows.iter().filter(|window| window.t_end_s > from_s).cloned().collect()
    }

    /// Frames from `from_s` on, and sound from `sound_from_s` on.
    pub fn stretch(&self, from_s: f64, sound_from_s: f64) -> Stretch {
        let columns: Vec<_> = self.columns.iter().filter(|(t, _)| *t >= from_s).collect();
        let t_start_s = columns.first().map_or(0.0, |(t, _)| *t);
        // A picture's columns stand evenly. A window is no whole number of hops long, so that the columns of one may
        // lie half a hop beside those of the last: each takes the place that is next to it, the later one of two.
        let mut even: Vec<Option<&Vec<f32>>> = Vec::with_capacity(columns.len());
        let mut before: Option<&(f64, Vec<f32>)> = None;
        for &next in &columns {
            let place = ((next.0 - t_start_s) / self.hop_s + UPWARDS).floor() as usize;
            // Between two columns that are neighbours nothing is missing; where sound is, it is dark.
            let between = before.filter(|(t_s, _)| next.0 - t_s < MISSING * self.hop_s).map(|(_, column)| column);
            // Shorter by one where the place is taken.
            even.resize(place, between);
            even.push(Some(&next.1));
            before = Some(next);
        }
        let frames = even.len();
        let mut log_mel = Vec::with_capacity(frames * self.n_mels);
        for band in 0..self.n_mels {
            log_mel.extend(even.iter().map(|column| column.map_or(DARK, |column| column[band])));
        }
        let sound_start = self.sound_end - self.sound.len() as u64;
        let skip =
            (((sound_from_s - self.missing_s).max(0.0) * self.rate_hz) as u64).saturating_sub(sound_start) as usize;
        let sound_start_s = (sound_start + skip as u64) as f64 / self.rate_hz + self.missing_s;
        Stretch {
            log_mel,
            frames,
            centres_hz: self.centres_hz.clone(),
            t_start_s,
            t_end_s: t_start_s + frames.saturating_sub(1) as f64 * self.hop_s,
            sound: self.sound.iter().skip(skip).copied().collect(),
            sound_start_s,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use detector::manifest::Manifest;
    use detector::window::Span;

    use super::*;

    fn manifest() -> Manifest {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default");
        files::model_dir::read_manifest(&model).unwrap()
    }

    /// A window of the shipped front end, each of whose columns holds its own time; half of its sound came before what is missing in it.
    fn window(config: &FrontEnd, t_start_s: f64, t_end_s: f64) -> Report {
        let (frames, hop_s) = (config.frames(), config.hop as f64 / f64::from(config.sample_rate_hz));
        let missing_s = t_end_s - t_start_s - config.window_s;
        let gap_after_s = (missing_s > 1e-9).then_some(config.window_s / 2.0);
        let column = |frame: usize| {
            let after_s = frame as f64 * hop_s;
            let behind_s = if gap_after_s.is_some_and(|gap_after_s| after_s >= gap_after_s) { missing_s } else { 0.0 };
            (t_start_s + after_s + behind_s) as f32
        };
        Report {
            span: Span { seq: 0, start: 0, end: 0 },
            t_start_s,
            t_end_s,
            scores: Vec::new(),
            score: Some(0.0),
            label: 0,
            level_dbfs: -60.0,
            front_end_ms: 0.0,
            inference_ms: 0.0,
            skipped: false,
            gap: gap_after_s.is_some(),
            gap_after_s,
            complete: Instant::now(),
            log_mel: (0..config.n_mels).flat_map(|_| (0..frames).map(column)).collect(),
            sound: Vec::new(),
        }
    }

    /// A stride longer than the window leaves sound between two windows, a microphone that was away leaves it out of one.
    #[test]
    fn each_column_of_a_picture_stands_at_its_time_whatever_is_missing() {
        let config = manifest().front_end;
        let hop_s = config.hop as f64 / f64::from(config.sample_rate_hz);
        for spans in [[(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.0), (2.0, 9.0)], [(0.0, 2.0), (2.0, 4.0)]] {
            let mut history = History::new(&config, &vec![0.0; config.n_mels]);
            for (t_start_s, t_end_s) in spans {
                let report = window(&config, t_start_s, t_end_s);
                history.push(&report, crate::control::incident::window_of(&report, &[], false));
            }
            let stretch = history.stretch(0.0, 0.0);
            let each_s = (stretch.t_end_s - stretch.t_start_s) / (stretch.frames - 1) as f64;
            assert!((each_s - hop_s).abs() < 0.01 * hop_s, "{spans:?}: {each_s}");
            let row = &stretch.log_mel[..stretch.frames];
            let dark = row.iter().filter(|cell| **cell == DARK).count() as f64 * hop_s;
            let missing_s = spans[1].1 - spans[0].1 - config.window_s;
            assert!((dark - missing_s).abs() < 3.0 * hop_s, "{spans:?}: {dark} s are dark");
            for (frame, cell) in row.iter().enumerate().filter(|(_, cell)| **cell != DARK) {
                let t_s = stretch.t_start_s + frame as f64 * each_s;
                assert!((f64::from(*cell) - t_s).abs() < 2.0 * hop_s, "{spans:?}: {cell} stands at {t_s}");
            }
        }
    }

    /// A window of 2 s at 16 kHz is 62.5 hops of 512 samples, one at 22,050 Hz 86.13: its columns fall between those of the last.
    #[test]
    fn where_nothing_is_missing_nothing_is_dark_however_late_it_is() {
        for (rate_hz, stride_s) in [(16_000, 2.0), (22_050, 2.0), (16_000, 1.0), (16_000, 0.7)] {
            let mut config = manifest().front_end;
            config.sample_rate_hz = rate_hz;
            let hop_s = config.hop as f64 / f64::from(rate_hz);
            for began_s in [0.0, 66.0, 622.0, 1999.3, 50_000.0, 864_000.1, 31_536_000.0] {
                let mut history = History::new(&config, &vec![0.0; config.n_mels]);
                for window_n in 0..30 {
                    let t_start_s = began_s + f64::from(window_n) * stride_s;
                    let report = window(&config, t_start_s, t_start_s + config.window_s);
                    history.push(&report, crate::control::incident::window_of(&report, &[], false));
                }
                let stretch = history.stretch(began_s + 4.0, 0.0);
                let row = &stretch.log_mel[..stretch.frames];
                let spanned_s = stretch.t_end_s - stretch.t_start_s;
                assert!(
                    (spanned_s - (29.0 * stride_s + config.window_s - 4.0).min(PICTURE_S)).abs() < 0.1,
                    "{spanned_s}"
                );
                assert_eq!(stretch.frames, (spanned_s / hop_s).round() as usize + 1);
                assert!(row.iter().all(|cell| *cell != DARK), "{rate_hz} Hz, each {stride_s} s, from {began_s} s on");
                for (frame, cell) in row.iter().enumerate().filter(|_| began_s < 1000.0) {
                    let t_s = stretch.t_start_s + frame as f64 * hop_s;
                    assert!((f64::from(*cell) - t_s).abs() < 1.6 * hop_s, "{cell} stands at {t_s}");
                }
            }
        }
    }
}
