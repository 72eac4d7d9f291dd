//! The listening thread: from the source's samples to reports of windows.
//!
//! It allocates nothing after its start, but where a microphone goes on at another rate: reports are boxes that travel to the control loop and
//! come back. Where the source is a recording at full speed it waits for a free report, so that no window is dropped; behind a microphone, or what
//! keeps a microphone's pace, it skips to the newest window when it has fallen behind, and counts.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use detector::level::level_dbfs;
use detector::manifest::Manifest;
use detector::pipeline::{Pipeline, Scorer};
use detector::quiet_gate::QuietGate;
use detector::sound_health::{Floor, SoundHealth};
use detector::window::Span;
use files::recording::Recording;

use crate::capture::{Capture, Mark, Notice};
use crate::control::Message;
use crate::timeline::Timeline;

/// Reports on their way at the most.
const REPORTS: usize = 4;
/// How often an empty ring is looked at.
const POLL: Duration = Duration::from_millis(5);
/// More than this behind, seconds, or a stride where that is longer: a newer window is there, and this one is skipped.
pub const BEHIND_S: f64 = 2.0;
/// A microphone that has come back counts as heard after this long: not each time that a loose plug touches.
const HEARD_S: f64 = 0.5;
/// And after this long where the session before it was shorter: one that dies again and again must not be told as well each time.
const HEARD_AGAIN_S: f64 = 5.0;
/// Samples that are looked at in one go.
const PIECE: u64 = 1024;

/// What one window was given.
#[derive(Debug, Clone)]
pub struct Report {
    /// Place in the sound, samples of the model's rate.
    pub span: Span,
    /// Seconds of the sound.
    pub t_start_s: f64,
    /// Seconds of the sound.
    pub t_end_s: f64,
    /// One score per label in the manifest's order, 0..=1, six decimals.
    pub scores: Vec<f64>,
    /// Of the alarm labels together; none where the network gave no number.
    pub score: Option<f64>,
    /// Index of the alarm label that scores highest.
    pub label: usize,
    /// RMS, dBFS.
    pub level_dbfs: f32,
    /// Time for the picture, milliseconds.
    pub front_end_ms: f64,
    /// Time for the network, milliseconds.
    pub inference_ms: f64,
    /// So quiet that the network was not asked: scored 0.
    pub skipped: bool,
    /// Sound was lost inside it.
    pub gap: bool,
    /// Seconds of its sound until the first such place; none without one.
    pub gap_after_s: Option<f64>,
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

/// What the thread is told at its start.
pub struct Options<'a> {
    /// The model's.
    pub manifest: &'a Manifest,
    /// Seconds between two windows.
    pub stride_s: f64,
    /// Reports bring their sound along.
    pub keep_sound: bool,
    /// The site's.
    pub floor: Option<Floor>,
    /// The site's.
    pub gate: Option<QuietGate>,
}

impl Source {
    /// Hertz; a microphone's is not known before it is open, and is taken for the model's.
    pub fn rate_hz(&self, model_rate_hz: u32) -> u32 {
        match self {
            Self::Recording { recording, .. } => recording.rate_hz(),
            Self::Microphone(_) => model_rate_hz,
        }
    }
}

/// Counters of the listening thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Windows that were not scored.
    pub dropped: AtomicU64,
    /// Sound taken, microseconds.
    pub audio_us: AtomicU64,
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
        options: &Options,
        out: SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let Options { manifest, stride_s, keep_sound, floor, gate } = *options;
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
                skipped: false,
                gap: false,
                gap_after_s: None,
                complete: Instant::now(),
                log_mel: vec![0.0; config.n_mels * config.frames()],
                sound: Vec::with_capacity(if keep_sound { config.window_samples() } else { 0 }),
            };
            // The channel was made with room for all of them.
            let _ = free.try_send(Box::new(report));
        }
        let rate_hz = source.rate_hz(config.sample_rate_hz);
        let work = Work {
            behind_s: BEHIND_S.max(stride_s),
            timeline: Timeline::new(f64::from(config.sample_rate_hz)),
            keep_sound,
            gate,
            reports,
            out,
            counters: Arc::clone(&counters),
        };
        let ear = Ear { pipeline, health: SoundHealth::new(rate_hz, floor), rate_hz: f64::from(rate_hz) };
        std::thread::Builder::new().name("listen".into()).spawn(move || work.run(source, ear))?;
        Ok(Self { counters, free })
    }

    /// Gives a report back for another window.
    pub fn give_back(&self, report: Box<Report>) {
        // Full only where a report was made elsewhere; then it is dropped.
        let _ = self.free.try_send(report);
    }
}

/// What the source's own samples go through.
struct Ear {
    pipeline: Pipeline,
    health: SoundHealth,
    /// Of the source.
    rate_hz: f64,
}

impl Ear {
    /// The source goes on at another rate.
    fn set_rate(&mut self, rate_hz: u32, on_window: impl FnMut(Span, &[f32], &mut Scorer)) {
        match self.pipeline.set_source_rate(rate_hz, on_window) {
            Ok(()) => {
                self.health.set_rate(rate_hz);
                self.rate_hz = f64::from(rate_hz);
            }
            Err(error) => log::error!("{error}"),
        }
    }
}

struct Work {
    behind_s: f64,
    timeline: Timeline,
    keep_sound: bool,
    gate: Option<QuietGate>,
    reports: Receiver<Box<Report>>,
    out: SyncSender<Message>,
    counters: Arc<Counters>,
}

impl Work {
    fn run(mut self, source: Source, mut ear: Ear) {
        let ended = match source {
            Source::Recording { recording, paced } => self.recording(&mut ear, recording, paced),
            Source::Microphone(capture) => {
                self.microphone(&mut ear, capture);
                Ok(())
            }
        };
        let _ = self.out.send(Message::SourceEnded(ended));
    }

    fn recording(&mut self, ear: &mut Ear, mut recording: Recording, paced: bool) -> Result<(), String> {
        let mut began = Instant::now();
        let rate_hz = recording.rate_hz();
        let mut samples = 0u64;
        // Small pieces at a microphone's pace, so that a window is scored when it is full and not when a block is.
        let piece_max = if paced { (rate_hz / 50).max(1) as usize } else { usize::MAX };
        let ended = loop {
            if self.counters.stop.load(Relaxed) {
                return Ok(());
            }
            let asked = Instant::now();
            let piece = match recording.next_piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                // What came before it breaks off is heard to its end: a scream may be in it.
                Err(error) => break Err(error.to_string()),
            };
            // A pipe whose writer paused brings its sound late for ever after: that is the source's lateness, not ours.
            let late = Instant::now().saturating_duration_since(began + seconds(samples, rate_hz));
            began += late.min(asked.elapsed());
            for piece in piece.chunks(piece_max.min(piece.len())) {
                if self.counters.stop.load(Relaxed) {
                    return Ok(());
                }
                samples += piece.len() as u64;
                let due = began + seconds(samples, rate_hz);
                if paced {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                let now = Instant::now();
                // As from a microphone: complete when its last sample is due, however late it is looked at.
                let complete = if paced { due.min(now) } else { now };
                let behind = now.saturating_duration_since(complete).as_secs_f64() > self.behind_s;
                self.progress(samples as f64 / f64::from(rate_hz));
                self.hear(ear, piece, behind, complete);
            }
        };
        // The zeros behind a recording take no time.
        let complete = Instant::now();
        ear.pipeline.finish(|span, sound, scorer| self.window(span, sound, scorer, complete));
        ended
    }

    fn microphone(&mut self, ear: &mut Ear, mut capture: Capture) {
        let status = Arc::clone(&capture.status);
        let (mut taken, mut audio_s, mut heard) = (0u64, 0.0, Heard { session: 0, length_s: 0.0, wanted_s: HEARD_S });
        while !self.counters.stop.load(Relaxed) {
            self.progress(audio_s);
            // Samples first: a mark is written before the sample that it stands before.
            let waiting = capture.sound.samples.slots() as u64;
            let mark = capture.sound.marks.peek().ok().copied();
            if let Some(mark) = mark.filter(|mark| mark.at == taken) {
                let _ = capture.sound.marks.pop();
                heard.begin(mark.session);
                self.mark(ear, mark);
                continue;
            }
            let count = mark.map_or(PIECE, |mark| (mark.at - taken).min(PIECE)).min(waiting);
            let Some(chunk) = capture.sound.samples.read_chunk(count as usize).ok().filter(|chunk| !chunk.is_empty())
            else {
                std::thread::sleep(POLL);
                continue;
            };
            taken += count;
            // What waits behind it came later: that long ago this piece was complete.
            let backlog = Duration::from_secs_f64((waiting - count) as f64 / ear.rate_hz);
            let now = Instant::now();
            let complete = now.checked_sub(backlog).unwrap_or(now);
            let (first, second) = chunk.as_slices();
            for piece in [first, second] {
                self.hear(ear, piece, backlog.as_secs_f64() > self.behind_s, complete);
            }
            chunk.commit_all();
            let length_s = count as f64 / ear.rate_hz;
            audio_s += length_s;
            if heard.sound(length_s) {
                let _ = self.out.send(Message::Capture(Notice::Heard));
            }
        }
        status.stop.store(true, Relaxed);
    }

    /// Sound is missing here, or goes on at another rate.
    fn mark(&mut self, ear: &mut Ear, mark: Mark) {
        let now = Instant::now();
        ear.set_rate(mark.rate_hz, |span, sound, scorer| self.window(span, sound, scorer, now));
        if !mark.gap.is_zero() {
            let (at, length_s) = (ear.pipeline.position(), mark.gap.as_secs_f64());
            let t_s = self.timeline.place(&Span { seq: 0, start: 0, end: at }).t_end_s;
            self.timeline.gap(at, length_s);
            let _ = self.out.send(Message::Gap { t_s, length_s });
        }
    }

    fn progress(&self, audio_s: f64) {
        self.counters.audio_us.store((audio_s * 1e6).round() as u64, Relaxed);
        self.counters.beats.fetch_add(1, Relaxed);
    }

    /// The source's next samples: is this what a working microphone gives, and is there a scream in it?
    fn hear(&mut self, ear: &mut Ear, piece: &[f32], behind: bool, complete: Instant) {
        ear.health.push(piece, |finding| drop(self.out.send(Message::Sound(finding))));
        ear.pipeline.feed(piece, |span, sound, scorer| match behind {
            true => {
                self.counters.dropped.fetch_add(1, Relaxed);
                let _ = self.out.try_send(Message::Dropped);
            }
            false => self.window(span, sound, scorer, complete),
        });
    }

    fn window(&mut self, span: Span, sound: &[f32], scorer: &mut Scorer, complete: Instant) {
        // The control loop is gone where nothing comes back: the program ends.
        let Ok(mut report) = self.reports.recv() else { return };
        let began = Instant::now();
        scorer.picture(sound);
        let pictured = Instant::now();
        report.front_end_ms = ms(pictured - began);
        report.skipped = self.gate.is_some_and(|gate| gate.is_quiet(sound, scorer.front_end().log_mel()));
        match (!report.skipped).then(|| scorer.score()) {
            None => {
                report.scores.fill(0.0);
                (report.score, report.label) = (Some(0.0), 0);
            }
            Some(Ok(scored)) => {
                report.scores.copy_from_slice(scored.scores);
                report.score = Some(scored.score);
                report.label = scored.label;
            }
            Some(Err(_)) => {
                // Not those of a window before.
                report.scores.fill(0.0);
                report.score = None;
            }
        }
        report.inference_ms = ms(pictured.elapsed());
        report.span = span;
        let place = self.timeline.place(&span);
        (report.t_start_s, report.t_end_s) = (place.t_start_s, place.t_end_s);
        (report.gap, report.gap_after_s) = (place.gap, place.gap_after_s);
        report.level_dbfs = level_dbfs(sound);
        report.complete = complete;
        report.log_mel.copy_from_slice(scorer.front_end().log_mel());
        if self.keep_sound {
            report.sound.clear();
            report.sound.extend_from_slice(sound);
        }
        let _ = self.out.send(Message::Window(report));
    }
}

/// How much of a session of the card has been heard.
struct Heard {
    session: u32,
    length_s: f64,
    wanted_s: f64,
}

impl Heard {
    /// A mark of this session.
    fn begin(&mut self, session: u32) {
        if self.session != session {
            // The first one of all has none before it.
            let short = self.session != 0 && self.length_s < HEARD_AGAIN_S;
            *self = Self { session, length_s: 0.0, wanted_s: if short { HEARD_AGAIN_S } else { HEARD_S } };
        }
    }

    /// Sound has come; true where it is enough by now, once in a session.
    fn sound(&mut self, length_s: f64) -> bool {
        let before = self.length_s;
        self.length_s += length_s;
        before < self.wanted_s && self.length_s >= self.wanted_s
    }
}

fn seconds(samples: u64, rate_hz: u32) -> Duration {
    Duration::from_secs_f64(samples as f64 / f64::from(rate_hz))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_dies_again_and_again_is_heard_once_it_lives() {
        let mut heard = Heard { session: 0, length_s: 0.0, wanted_s: HEARD_S };
        // (session, seconds of sound, heard)
        for (session, length_s, told) in [
            (1, 0.25, false),
            (1, 0.25, true),
            (1, 0.5, false),
            (2, 1.0, false),
            (3, 4.0, false),
            (4, 4.0, false),
            (4, 1.0, true),
            (4, 1.0, false),
            // It has lived: the next one is believed at once.
            (5, 0.5, true),
        ] {
            heard.begin(session);
            assert_eq!(heard.sound(length_s), told, "session {session}, {length_s} s");
        }
    }
}
