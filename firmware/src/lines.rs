//! Standard output: JSON lines for programs, or words for people. Logs go to standard error.
//!
//! Whoever reads may go away, or stand still: then the lines are lost, the alarm goes on. Where they cannot be written (a full disk) it goes
//! on too, and the run has failed at its end ([`say`]): whoever asked for them must not take what is there for all.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use files::say;
use serde::Serialize;

use crate::queued::{self, Queue};

/// One line; `type` first.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// First.
    Start {
        /// Of the program.
        version: &'a str,
        /// The model's name.
        model: &'a str,
        /// The model's own version.
        model_version: &'a str,
        /// Of the weights.
        model_sha256: &'a str,
        /// The board's name.
        board: &'a str,
        /// This device.
        device_id: &'a str,
        /// Seconds.
        window_s: f64,
        /// Seconds.
        stride_s: f64,
        /// Where the sound comes from.
        source: &'a str,
    },
    /// A scored window.
    Window {
        /// From 0.
        seq: u64,
        /// Seconds of the sound.
        t_start_s: f64,
        /// Seconds of the sound.
        t_end_s: f64,
        /// One a label.
        scores: BTreeMap<&'a str, f64>,
        /// Of the alarm labels together.
        score: f64,
        /// RMS.
        level_dbfs: f32,
        /// Time for the picture.
        front_end_ms: f64,
        /// Time for the network.
        inference_ms: f64,
        /// Sound was lost inside it.
        gap: bool,
        /// Holds the device's own siren.
        masked: bool,
        /// So quiet that the network was not asked (`audio.quiet_level_dbfs`).
        skipped: bool,
    },
    /// An incident begins or ends.
    Alarm {
        /// The same in every message about it.
        id: &'a str,
        /// start or end.
        state: &'a str,
        /// Seconds of the sound.
        t_s: f64,
        /// Of the deciding window; at the end the highest.
        score: f64,
        /// The alarm label.
        label: &'a str,
        /// End of the deciding window to the siren's line.
        latency_ms: f64,
        /// The siren sounds for it.
        siren: bool,
    },
    /// Something is wrong.
    Fault {
        /// Its name.
        fault: &'a str,
        /// What and where.
        detail: &'a str,
    },
    /// It is right again.
    Restore {
        /// Its name.
        fault: &'a str,
        /// What and where.
        detail: &'a str,
    },
    /// The case is opened, or closed again.
    Tamper {
        /// start or end.
        state: &'a str,
        /// Seconds of the sound.
        t_s: f64,
    },
    /// Sound is missing.
    Gap {
        /// Where, seconds of the sound.
        t_s: f64,
        /// How much, seconds.
        length_s: f64,
    },
    /// Last.
    Stop {
        /// Scored.
        windows: u64,
        /// Not scored.
        dropped: u64,
        /// Of the scored, those so quiet that the network was not asked.
        skipped: u64,
        /// Sound that the kernel dropped, times.
        xruns: u64,
        /// Incidents.
        alarms: u64,
        /// Length of the sound.
        audio_s: f64,
        /// Time of the run.
        elapsed_s: f64,
    },
}

/// Where lines go.
pub struct Lines {
    json: bool,
    /// A pipe that nobody empties, or a journal that hangs, must not hold the siren's loop.
    queue: Option<Queue>,
    /// A recording at full speed waits for whoever reads, until this says that the program is to end.
    patience: Option<Arc<AtomicBool>>,
    colour: bool,
    /// Each window's level and score, for who watches; not for the journal, which would write 43,200 of them a day to a card.
    meter: bool,
}

impl Lines {
    /// JSON or words. With `patience` a line waits for its reader, until that says that the program is to end; without it for nobody.
    pub fn new(json: bool, patience: Option<Arc<AtomicBool>>) -> Self {
        let queue = Queue::start("lines", |text| say!("{text}"));
        let told = |error: &std::io::Error| {
            log::warn!("the thread that writes standard output: {error}; a reader who stands still holds the alarm")
        };
        Self {
            queue: queue.inspect_err(told).ok(),
            patience,
            json,
            colour: !json && std::io::stdout().is_terminal(),
            meter: json || !is_journal(std::io::stdout()),
        }
    }

    /// Words are wanted.
    pub fn for_people(&self) -> bool {
        !self.json
    }

    /// Writes one line at once: a reader must not wait for a block to fill.
    pub fn write(&self, line: &Line) {
        if !self.meter && matches!(line, Line::Window { .. }) {
            return;
        }
        let text = match self.json {
            true => serde_json::to_string(line).unwrap_or_default(),
            false => self.words(line),
        };
        self.say(&text);
    }

    /// A line of words as it is.
    pub fn say(&self, text: &str) {
        let Some(queue) = &self.queue else { return say!("{text}") };
        let said = match &self.patience {
            Some(ends) => queue.say_until(text.to_string(), || ends.load(Relaxed)),
            None => queue.say(text.to_string()),
        };
        if said == Err(1) {
            log::warn!("nobody reads standard output: its lines are lost");
        }
    }

    /// Waits until all is written, where somebody reads and until `over` says so.
    pub fn end(self, over: impl Fn() -> bool) {
        let flush = |queue: &Queue| match &self.patience {
            Some(_) => queue.flush(over),
            None => queue.flush(queued::after(queued::END_WAIT, over)),
        };
        if let Some(lost) = self.queue.as_ref().map(flush).filter(|lost| *lost > 0) {
            log::warn!("{lost} line(s) of standard output are lost");
        }
    }

    fn words(&self, line: &Line) -> String {
        let bold = |text: String| if self.colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text };
        match line {
            Line::Start { version, model, model_version, board, window_s, stride_s, source, .. } => {
                format!(
                    "screamd {version}: {source}, board {board}, model {model} {model_version}, windows of {window_s} s every {stride_s} s"
                )
            }
            Line::Window { t_end_s, score, level_dbfs, gap, masked, skipped, .. } => {
                let full = (score * 40.0).round() as usize;
                let marks = [(*gap, " gap"), (*masked, " masked"), (*skipped, " quiet")]
                    .iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, mark)| *mark)
                    .collect::<String>();
                format!(
                    "{t_end_s:8.1} s  {level_dbfs:6.1} dBFS  [{}{}] {score:.3}{marks}",
                    "#".repeat(full),
                    " ".repeat(40 - full.min(40))
                )
            }
            Line::Alarm { id, state: "start", t_s, score, label, latency_ms, siren } => {
                let siren = if *siren { "siren on" } else { "siren stays off" };
                bold(format!(
                    "{t_s:8.1} s  ALARM {id}: {label} with score {score:.3}, {siren} {latency_ms:.1} ms after the window's end"
                ))
            }
            Line::Alarm { id, t_s, score, .. } => format!("{t_s:8.1} s  end of {id}, highest score {score:.3}"),
            Line::Fault { fault, detail } => bold(format!("fault {fault}: {detail}")),
            Line::Restore { fault, detail } => format!("restored {fault}: {detail}"),
            Line::Tamper { state: "start", t_s } => bold(format!("{t_s:8.1} s  TAMPER: the case is open")),
            Line::Tamper { t_s, .. } => format!("{t_s:8.1} s  the case is closed again"),
            Line::Gap { t_s, length_s } => format!("{t_s:8.1} s  {length_s:.3} s of sound are missing"),
            Line::Stop { windows, dropped, xruns, alarms, audio_s, elapsed_s, .. } => {
                format!(
                    "{alarms} alarm(s) in {audio_s:.1} s of sound: {windows} windows scored, {dropped} dropped, {xruns} xruns, {elapsed_s:.1} s elapsed"
                )
            }
        }
    }
}

/// Whether systemd connected `stream` to its journal: `JOURNAL_STREAM` names it by device and inode (systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(stream).is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}
