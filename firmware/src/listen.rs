//! The listening thread: from the source's samples to reports of windows.
//!
//! It allocates nothing after its start: reports are boxes that travel to the control loop and come back. Where the source
//! is a recording it waits for a free report, so that no window is dropped; behind a microphone it skips to the newest
//! window when it has fallen behind, and counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use detector::level::level_dbfs;
use detector::manifest::Manifest;
use detector::pipeline::{Pipeline, Scorer};
use detector::sound_health::{Floor, SoundHealth};
use detector::window::Span;
use files::recording::Recording;

use crate::capture::Capture;
use crate::control::Message;

/// Reports on their way at the most.
const REPORTS: usize = 4;
/// How often an empty ring is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What one window was given.
#[derive(Debug, Clone)]
pub struct Report {
    /// Place in the sound, samples of the model's rate.
    pub span: Span,
    /// Seconds of the sound.
    pub t_start_s: f64,
    /// Seconds of the sound.
    pub t_end_s: f64,
    /// One a label.
    pub scores: Vec<f64>,
    /// Of the alarm labels together; none where the network gave no number.
    pub score: Option<f64>,
    /// Place of the alarm label.
    pub label: usize,
    /// RMS, dBFS.
    pub level_dbfs: f32,
    /// Time for the picture.
    pub front_end_ms: f64,
    /// Time for the network.
    pub inference_ms: f64,
    /// Sound was lost inside it.
    pub gap: bool,
    /// When its last sample was there.
    pub complete: Instant,
    /// Its picture before normalisation, `[n_mels, frames]`.
    pub log_mel: Vec<f32>,
    /// Its sound, where clips are kept; empty otherwise.
    pub sound: Vec<f32>,
}

/// Where the sound comes from.
pub enum Source {
    /// A recording, as fast as it goes or at the pace of a microphone.
    Recording {
        /// Opened.
        recording: Recording,
        /// At the pace of a microphone.
        paced: bool,
    },
    /// The microphone.
    Microphone(Capture),
}

impl Source {
    /// Hertz.
    pub fn rate_hz(&self) -> u32 {
        match self {
            Self::Recording { recording, .. } => recording.rate_hz(),
            Self::Microphone(capture) => capture.rate_hz,
        }
    }
}

/// Counters of the listening thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Windows that were not scored.
    pub dropped: AtomicU64,
    /// Source samples taken.
    pub samples: AtomicU64,
    /// Grows while the thread works or waits for sound.
    pub beats: AtomicU64,
    /// The program ends.
    pub stop: AtomicBool,
}

/// The thread's other end.
pub struct Listener {
    /// Counters.
    pub counters: Arc<Counters>,
    free: SyncSender<Box<Report>>,
}

impl Listener {
    /// Starts the thread; reports come as [`Message::Window`], then [`Message::SourceEnded`].
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        source: Source,
        pipeline: Pipeline,
        manifest: &Manifest,
        keep_sound: bool,
        floor: Option<Floor>,
        out: SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let (free, reports) = sync_channel(REPORTS);
        let config = &manifest.front_end;
        for _ in 0..REPORTS {
            let report = Report {
                span: Span { seq: 0, start: 0, end: 0 },
                t_start_s: 0.0,
                t_end_s: 0.0,
                scores: vec![0.0; manifest.labels.len()],
                score: None,
                label: 0,
                level_dbfs: 0.0,
                front_end_ms: 0.0,
                inference_ms: 0.0,
                gap: false,
                complete: Instant::now(),
                log_mel: vec![0.0; config.n_mels * config.frames()],
                sound: Vec::with_capacity(if keep_sound { config.window_samples() } else { 0 }),
            };
            // The channel was made with room for all of them.
            let _ = free.try_send(Box::new(report));
        }
        let work = Work {
            rate_hz: f64::from(config.sample_rate_hz),
            keep_sound,
            reports,
            out,
            counters: Arc::clone(&counters),
            lost: 0,
            gap_until: 0,
        };
        let health = SoundHealth::new(source.rate_hz(), floor);
        std::thread::Builder::new().name("listen".into()).spawn(move || work.run(source, pipeline, health))?;
        Ok(Self { counters, free })
    }

    /// Gives a report back for another window.
    pub fn give_back(&self, report: Box<Report>) {
        // Full only where a report was made elsewhere; then it is dropped.
        let _ = self.free.try_send(report);
    }
}

struct Work {
    rate_hz: f64,
    keep_sound: bool,
    reports: Receiver<Box<Report>>,
    out: SyncSender<Message>,
    counters: Arc<Counters>,
    /// Lost source frames that windows have been marked for.
    lost: u64,
    /// Windows that begin before this model sample hold a gap.
    gap_until: u64,
}

impl Work {
    fn run(mut self, source: Source, mut pipeline: Pipeline, mut health: SoundHealth) {
        let ended = match source {
            Source::Recording { recording, paced } => self.recording(&mut pipeline, &mut health, recording, paced),
            Source::Microphone(capture) => {
                self.microphone(&mut pipeline, &mut health, capture);
                Ok(())
            }
        };
        let _ = self.out.send(Message::SourceEnded(ended));
    }

    fn recording(
        &mut self,
        pipeline: &mut Pipeline,
        health: &mut SoundHealth,
        mut recording: Recording,
        paced: bool,
    ) -> Result<(), String> {
        let began = Instant::now();
        let rate_hz = recording.rate_hz();
        let mut samples = 0u64;
        // Small pieces at a microphone's pace, so that a window is scored when it is full and not when a block is.
        let piece_max = if paced { (rate_hz / 50).max(1) as usize } else { usize::MAX };
        loop {
            if self.counters.stop.load(Relaxed) {
                return Ok(());
            }
            let piece = match recording.next_piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Err(error.to_string()),
            };
            for piece in piece.chunks(piece_max.min(piece.len())) {
                if self.counters.stop.load(Relaxed) {
                    return Ok(());
                }
                samples += piece.len() as u64;
                if paced {
                    let due = began + Duration::from_secs_f64(samples as f64 / f64::from(rate_hz));
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                self.counters.samples.store(samples, Relaxed);
                self.counters.beats.fetch_add(1, Relaxed);
                let complete = Instant::now();
                self.examine(health, piece);
                pipeline.feed(piece, |span, sound, scorer| self.window(span, sound, scorer, complete));
            }
        }
        // The zeros behind a recording take no time.
        let complete = Instant::now();
        pipeline.finish(|span, sound, scorer| self.window(span, sound, scorer, complete));
        Ok(())
    }

    fn microphone(&mut self, pipeline: &mut Pipeline, health: &mut SoundHealth, mut capture: Capture) {
        let status = Arc::clone(&capture.status);
        let rate_hz = f64::from(capture.rate_hz);
        while !self.counters.stop.load(Relaxed) {
            self.counters.beats.fetch_add(1, Relaxed);
            let waiting = capture.ring.slots();
            if waiting == 0 {
                std::thread::sleep(POLL);
                continue;
            }
            let lost = status.lost_frames.load(Relaxed);
            let Ok(chunk) = capture.ring.read_chunk(waiting.min(1024)) else { continue };
            let taken = self.counters.samples.fetch_add(chunk.len() as u64, Relaxed);
            if lost > self.lost {
                self.lost = lost;
                // Until the sound after the gap has left the window.
                self.gap_until = ((taken as f64 / rate_hz) * self.rate_hz) as u64;
            }
            let behind = waiting as f64 > rate_hz * BEHIND_S;
            let complete = Instant::now();
            let (first, second) = chunk.as_slices();
            for piece in [first, second] {
                self.examine(health, piece);
                pipeline.feed(piece, |span, sound, scorer| match behind {
                    true => {
                        self.counters.dropped.fetch_add(1, Relaxed);
                        let _ = self.out.try_send(Message::Dropped);
                    }
                    false => self.window(span, sound, scorer, complete),
                });
            }
            chunk.commit_all();
        }
        status.stop.store(true, Relaxed);
    }

    /// Whether this is what a working microphone gives.
    fn examine(&self, health: &mut SoundHealth, piece: &[f32]) {
        health.push(piece, |finding| drop(self.out.send(Message::Sound(finding))));
    }

    fn window(&mut self, span: Span, sound: &[f32], scorer: &mut Scorer, complete: Instant) {
        // The control loop is gone where nothing comes back: the program ends.
        let Ok(mut report) = self.reports.recv() else { return };
        let began = Instant::now();
        scorer.picture(sound);
        let pictured = Instant::now();
        report.front_end_ms = ms(pictured - began);
        match scorer.score() {
            Ok(scored) => {
                report.scores.copy_from_slice(scored.scores);
                report.score = Some(scored.score);
                report.label = scored.label;
            }
            Err(_) => report.score = None,
        }
        report.inference_ms = ms(pictured.elapsed());
        report.span = span;
        report.t_start_s = span.start as f64 / self.rate_hz;
        report.t_end_s = span.end as f64 / self.rate_hz;
        report.level_dbfs = level_dbfs(sound);
        report.gap = span.start < self.gap_until && self.lost > 0 && span.end > self.gap_until.saturating_sub(1);
        report.complete = complete;
        report.log_mel.copy_from_slice(scorer.front_end().log_mel());
        if self.keep_sound {
            report.sound.clear();
            report.sound.extend_from_slice(sound);
        }
        let _ = self.out.send(Message::Window(report));
    }
}

/// More sound than this waiting: the next window is skipped.
const BEHIND_S: f64 = 2.0;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
