//! Scores over time, and the alarms that the product's decision stage makes of them.
//!
//! A *trace* is the score of every window of a sound, with the windows' ends. It is what costs time; deciding is free, so
//! thresholds, votes and hold can be swept over one trace.

use std::path::{Path, PathBuf};

use anyhow::Context;
use detector::alarm::{Action, Alarm, Event, SirenSettings, us};
use detector::manifest::{Decision, Manifest};
use detector::model::{Model, RunError};
use detector::pipeline::Scorer;
use detector::resample::Resampler;
use detector::sound_health::{Defect, SoundHealth};
use detector::window::SlidingWindow;
use files::recording::Recording;
use rayon::prelude::*;

/// Windows that wait to be scored together, bytes at the most: all cores work on one recording, however long.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_WINDOWS_MAX: usize = 64;

/// Where windows are scored. Work that is already spread over the cores asks for one: spread twice, every waiting thread
/// would begin yet another recording and hold on to its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// The caller's.
    One,
    /// All, for one sound at a time.
    All,
}

/// Scores of one sound.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Length of the sound, seconds; the last window may end behind it.
    pub seconds: f64,
    /// Of them, those in which no microphone heard anything: zeros, or the same again and again, for a minute at least.
    pub dead_s: f64,
    /// End of each window (seconds) and its score (0..1), in order.
    pub windows: Vec<(f64, f64)>,
}

impl Trace {
    /// Of recordings, in their order, on all cores; `done` is called after each.
    pub fn of_files(
        manifest: &Manifest,
        model: &Model,
        paths: &[PathBuf],
        done: impl Fn() + Sync,
    ) -> anyhow::Result<Vec<Self>> {
        let of = |path: &PathBuf, cores| {
            let trace = Self::of_file(manifest, model, path, cores);
            done();
            trace
        };
        // Few long recordings would leave cores idle, many short ones are best taken whole.
        match paths.len() < 2 * rayon::current_num_threads() {
            true => paths.iter().map(|path| of(path, Cores::All)).collect(),
            false => paths.par_iter().map(|path| of(path, Cores::One)).collect(),
        }
    }

    /// Of a recording; windows and zero-padding are those of `screamd run`.
    fn of_file(manifest: &Manifest, model: &Model, path: &Path, cores: Cores) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let mut recording = Recording::open(path)?;
        let rate_hz = recording.rate_hz();
        let mut resampler = Resampler::new(rate_hz, manifest.front_end.sample_rate_hz)?;
        let mut tracing = Tracing::new(manifest, model, cores);
        let mut dead = DeadTime::new(rate_hz);
        let (mut samples, mut failed) = (0, None);
        let mut keep = |done: Result<(), RunError>| failed = failed.take().or(done.err());
        while let Some(piece) = recording.next_piece()? {
            samples += piece.len();
            dead.push(piece);
            resampler.push(piece, |piece| keep(tracing.push(piece)));
        }
        resampler.finish(|piece| keep(tracing.push(piece)));
        match failed {
            Some(error) => Err(error).with_context(named),
            None => Ok(Self {
                seconds: samples as f64 / f64::from(rate_hz),
                dead_s: dead.finish(),
                windows: tracing.finish().with_context(named)?,
            }),
        }
    }

    /// Of `sound`, which has the model's rate.
    pub fn of_sound(manifest: &Manifest, model: &Model, sound: &[f32], cores: Cores) -> Result<Self, RunError> {
        let mut tracing = Tracing::new(manifest, model, cores);
        tracing.push(sound)?;
        let seconds = sound.len() as f64 / f64::from(manifest.front_end.sample_rate_hz);
        Ok(Self { seconds, dead_s: 0.0, windows: tracing.finish()? })
    }

    /// When alarms start under `decision`, seconds; armed, from a fresh start.
    pub fn starts(&self, decision: Decision) -> Vec<f64> {
        let mut alarm = Alarm::new(decision, SirenSettings { on_us: 0, max_us: 0 }, true, false);
        let mut starts = Vec::new();
        for &(end_s, score) in &self.windows {
            let actions = alarm.step(us(end_s), Event::Window { score: Some(score), masked: false });
            starts.extend(actions.iter().filter(|action| matches!(action, Action::Start { .. })).map(|_| end_s));
        }
        starts
    }
}

/// Alarms of several traces together.
pub fn count<'a>(traces: impl IntoIterator<Item = &'a Trace>, decision: Decision) -> u64 {
    traces.into_iter().map(|trace| trace.starts(decision).len() as u64).sum()
}

/// Hours of several traces together.
pub fn hours<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> f64 {
    traces.into_iter().map(|trace| trace.seconds).sum::<f64>() / 3600.0
}

/// Counts the time in which a recording is no microphone's, by the rules of the device's own faults.
struct DeadTime {
    health: SoundHealth,
    rate_hz: f64,
    heard: u64,
    /// Defects that stand, and since when, samples.
    standing: u32,
    since: u64,
    dead: u64,
}

impl DeadTime {
    fn new(rate_hz: u32) -> Self {
        let health = SoundHealth::new(rate_hz, None);
        Self { health, rate_hz: f64::from(rate_hz), heard: 0, standing: 0, since: 0, dead: 0 }
    }

    fn push(&mut self, piece: &[f32]) {
        // A block at a time: a finding's time is the block's.
        let block = (self.rate_hz / 2.0) as usize;
        for samples in piece.chunks(block.max(1)) {
            self.heard += samples.len() as u64;
            let (standing, since, dead, heard) = (&mut self.standing, &mut self.since, &mut self.dead, self.heard);
            let minute = (60.0 * self.rate_hz) as u64;
            self.health.push(samples, |finding| {
                match (finding.defect, finding.stands) {
                    (Defect::Zeros | Defect::Repeating, true) => {
                        if *standing == 0 {
                            *since = heard.saturating_sub(minute);
                        }
                        *standing += 1;
                    }
                    (Defect::Zeros | Defect::Repeating, false) => {
                        *standing -= 1;
                        if *standing == 0 {
                            *dead += heard - *since;
                        }
                    }
                    // Bad sound, and sound all the same: the device goes on listening to it.
                    _ => {}
                }
            });
        }
    }

    /// Seconds.
    fn finish(self) -> f64 {
        let open = if self.standing > 0 { self.heard - self.since } else { 0 };
        (self.dead + open) as f64 / self.rate_hz
    }
}

struct Tracing<'a> {
    manifest: &'a Manifest,
    model: &'a Model,
    window: SlidingWindow,
    cores: Cores,
    /// One core's.
    scorer: Scorer,
    /// End of each waiting window (samples), and its sound.
    waiting: Vec<(u64, Vec<f32>)>,
    waiting_max: usize,
    scored: Vec<(f64, f64)>,
}

impl<'a> Tracing<'a> {
    fn new(manifest: &'a Manifest, model: &'a Model, cores: Cores) -> Self {
        let samples = manifest.front_end.window_samples();
        let stride = manifest.decision.stride_s * f64::from(manifest.front_end.sample_rate_hz);
        Self {
            manifest,
            model,
            window: SlidingWindow::new(samples, stride),
            cores,
            scorer: Scorer::new(manifest, model.clone()),
            waiting: Vec::new(),
            waiting_max: (BATCH_BYTES / (4 * samples)).clamp(1, BATCH_WINDOWS_MAX),
            scored: Vec::new(),
        }
    }

    fn push(&mut self, mut sound: &[f32]) -> Result<(), RunError> {
        while !sound.is_empty() {
            let (rest, span) = self.window.push(sound);
            sound = rest;
            match (span, self.cores) {
                (None, _) => {}
                (Some(span), Cores::One) => {
                    let end_s = self.seconds(span.end);
                    self.scorer.picture(self.window.samples());
                    self.scored.push((end_s, self.scorer.score()?.score));
                }
                (Some(span), Cores::All) => {
                    self.waiting.push((span.end, self.window.samples().to_vec()));
                    if self.waiting.len() >= self.waiting_max {
                        self.score_waiting()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn score_waiting(&mut self) -> Result<(), RunError> {
        let scored: Result<Vec<(f64, f64)>, RunError> = self
            .waiting
            .par_iter()
            .with_min_len(4)
            .map_init(
                || Scorer::new(self.manifest, self.model.clone()),
                |scorer, (end, sound)| {
                    scorer.picture(sound);
                    Ok((self.seconds(*end), scorer.score()?.score))
                },
            )
            .collect();
        self.waiting.clear();
        self.scored.extend(scored?);
        Ok(())
    }

    fn seconds(&self, sample: u64) -> f64 {
        sample as f64 / f64::from(self.manifest.front_end.sample_rate_hz)
    }

    fn finish(mut self) -> Result<Vec<(f64, f64)>, RunError> {
        let zeros = vec![0.0; self.window.missing()];
        self.push(&zeros)?;
        self.score_waiting()?;
        Ok(self.scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use detector::manifest::Votes;

    #[test]
    fn time_without_a_microphone_is_none() {
        let rate_hz = 8_000;
        let minutes = |minutes: usize| minutes * 60 * rate_hz as usize;
        let noise: Vec<f32> =
            (0u32..).map(|i| (i.wrapping_mul(2_654_435_761) as i32) as f32 * 1e-11).take(minutes(2)).collect();
        let sound =
            [&noise[..], &vec![0.0; minutes(3)], &noise, &vec![0.0; minutes(2)], &noise[..minutes(1) / 2]].concat();
        let mut dead = DeadTime::new(rate_hz);
        sound.chunks(1000).for_each(|piece| dead.push(piece));
        assert!((dead.finish() - 300.0).abs() < 10.0);
        let mut dead = DeadTime::new(rate_hz);
        dead.push(&vec![0.0; minutes(4)]);
        assert!((dead.finish() - 240.0).abs() < 1.0, "to its end");
    }

    #[test]
    fn votes_hold_and_cooldown_are_the_products() {
        let decision = |needed, of, cooldown_s| Decision {
            stride_s: 1.0,
            threshold_on: 0.8,
            threshold_off: 0.5,
            votes: Votes { needed, of },
            hold_s: 2.0,
            cooldown_s,
        };
        let scores = [0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1];
        let windows = scores.iter().enumerate().map(|(i, score)| (i as f64 + 1.0, *score)).collect();
        let trace = Trace { seconds: 12.0, dead_s: 0.0, windows };
        assert_eq!(trace.starts(decision(1, 1, 0.0)), [2.0, 7.0]);
        assert_eq!(trace.starts(decision(2, 2, 0.0)), [8.0]);
        assert_eq!(trace.starts(decision(1, 1, 30.0)), [2.0]);
        assert_eq!((count([&trace, &trace], decision(1, 1, 0.0)), hours([&trace])), (4, 12.0 / 3600.0));
    }
}
