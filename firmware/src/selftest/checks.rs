//! Each check of the self-test.

use std::path::Path;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use detector::model::Executor;
use detector::pipeline::Scorer;
use detector::sound_health;
use files::board::Board;
use files::model_dir;

use super::{Stop, Verdict};
use crate::capture::{self, Notice};
use crate::faults;
use crate::inputs::{Change, Inputs};
use crate::led::LedPattern;
use crate::outputs::{OutputProblem, Outputs};
use crate::settings::Settings;

/// Sound that is judged, seconds, after what a card gives while it wakes up.
const LISTEN_S: f64 = 2.0;
const WAKE_S: f64 = 0.3;
/// How long a card may take to give that.
const CARD_PATIENCE: Duration = Duration::from_secs(8);
/// A card that is not there may be busy for a moment still: the service has just let go of it.
const LOST_PATIENCE: Duration = Duration::from_secs(2);
/// How long a lamp is lit and a relay held.
const SEEN: Duration = Duration::from_secs(1);
/// A blip: heard, and over before anybody jumps.
const BLIP: Duration = Duration::from_millis(300);
/// How long the inputs are watched.
const WATCHED: Duration = Duration::from_millis(300);

/// Level of the microphone, and whether it is what a working one gives.
pub fn microphone(settings: &Settings, config: &Path, stop: &Stop) -> Verdict {
    let Some(device) = &settings.site.audio.device else {
        return Verdict::Failed(format!("{}: `audio.device`: missing", config.display()));
    };
    match listen(device, settings, stop) {
        Err(cause) => Verdict::Failed(cause),
        Ok((sound, rate_hz)) => {
            let (level_dbfs, high_dbfs) = sound_health::levels_dbfs(&sound, rate_hz);
            let levels = format!("{level_dbfs:.1} dBFS, above 2 kHz {high_dbfs:.1} dBFS");
            match sound_health::shown(&sound, rate_hz).next() {
                Some(defect) => Verdict::Failed(format!("{}: {levels}", faults::defect_words(defect).shown)),
                None => Verdict::Ok(format!("{levels}; {device} at {rate_hz} Hz")),
            }
        }
    }
}

fn listen(device: &str, settings: &Settings, stop: &Stop) -> Result<(Vec<f32>, u32), String> {
    let source = capture::Source {
        device: device.to_string(),
        model_rate_hz: settings.manifest.front_end.sample_rate_hz,
        period_frames: settings.board.period_frames,
    };
    let (notices, inbox) = channel();
    let mut capture = capture::start(source, move |notice| drop(notices.send(notice)))
        .map_err(|error| format!("the capture thread: {error}"))?;
    let began = Instant::now();
    let (mut sound, mut rate_hz, mut skip, mut cause) = (Vec::new(), 0, 0, None);
    let outcome = loop {
        match inbox.try_recv() {
            Ok(Notice::Lost { detail } | Notice::Stalled { detail }) => cause = Some(detail),
            Ok(Notice::Opened { .. }) => cause = None,
            Ok(Notice::Heard) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        while let Ok(mark) = capture.sound.marks.pop() {
            rate_hz = mark.rate_hz;
            skip = (WAKE_S * f64::from(rate_hz)) as usize;
        }
        while let Ok(sample) = capture.sound.samples.pop() {
            sound.push(sample);
        }
        if rate_hz > 0 && sound.len() >= skip + (LISTEN_S * f64::from(rate_hz)) as usize {
            break Ok((sound.split_off(skip), rate_hz));
        }
        let patience = if cause.is_some() && sound.is_empty() { LOST_PATIENCE } else { CARD_PATIENCE };
        if began.elapsed() >= patience {
            break Err(cause.unwrap_or_else(|| format!("{device}: no frames for {} s", patience.as_secs())));
        }
        if stop.asked() {
            break Err("interrupted".into());
        }
        stop.sleep(Duration::from_millis(20));
    };
    capture.status.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    outcome
}

/// One window against the board's budget.
pub fn inference(settings: &Settings) -> Verdict {
    let model = match model_dir::load_weights(&settings.model_dir, &settings.manifest, Executor::SingleThread) {
        Ok(model) => model,
        Err(error) => return Verdict::Failed(error.to_string()),
    };
    let mut scorer = Scorer::new(&settings.manifest, model);
    // Noise of the usual generator: what is in the window makes no difference to the time.
    let mut state = 1u32;
    let noise: Vec<f32> = (0..settings.manifest.front_end.window_samples())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) % 2048) as f32 / 65_536.0 - 1.0 / 64.0
        })
        .collect();
    // The first one fills caches and plans; the service pays that once.
    for timed in [false, true] {
        let began = Instant::now();
        scorer.picture(&noise);
        if let Err(error) = scorer.score() {
            return Verdict::Failed(error.to_string());
        }
        if timed {
            let (took_ms, budget_ms) = (began.elapsed().as_secs_f64() * 1e3, settings.board.latency_budget_ms);
            let detail = format!("{took_ms:.1} ms of {budget_ms} ms, {}", settings.manifest.name);
            return if took_ms <= f64::from(budget_ms) { Verdict::Ok(detail) } else { Verdict::Failed(detail) };
        }
    }
    unreachable!("the second turn returns")
}

/// A second of light.
pub fn led(outputs: &mut Outputs, board: &Board, problems: &[OutputProblem], stop: &Stop) -> Verdict {
    if let Some(verdict) = unusable("led", board.led.is_some(), board, problems) {
        return verdict;
    }
    if board.simulated {
        // A simulated LED knows patterns alone.
        return verdict(outputs.show_led(LedPattern::Alarm, 0), board, "lit");
    }
    let driven = outputs.set_led(true).and_then(|()| {
        stop.sleep(SEEN);
        outputs.set_led(false)
    });
    verdict(driven, board, "lit for a second")
}

/// A blip of the siren.
pub fn siren(outputs: &Outputs, board: &Board, problems: &[OutputProblem], stop: &Stop) -> Verdict {
    if let Some(verdict) = unusable("siren", board.siren.is_some(), board, problems) {
        return verdict;
    }
    let on = outputs.set_siren(true);
    if on.is_ok() {
        stop.sleep(BLIP);
    }
    // Off also where "on" was refused: the word may be wrong.
    let off = outputs.set_siren(false);
    verdict(on.and(off), board, "sounded for 0.3 s")
}

/// The relay holds for a second.
pub fn fault_relay(outputs: &mut Outputs, problems: &[OutputProblem], stop: &Stop) -> Verdict {
    if let Some(problem) = problems.iter().find(|problem| problem.output == "fault") {
        return Verdict::Failed(problem.to_string());
    }
    let driven = outputs.set_fault(false).and_then(|()| {
        stop.sleep(SEEN);
        outputs.set_fault(true)
    });
    match driven {
        Ok(()) => Verdict::Ok("held for a second".into()),
        Err(problem) => Verdict::Failed(problem.to_string()),
    }
}

/// The case is closed, and nobody presses the button.
pub fn inputs(inputs: &mut Inputs, problems: &[OutputProblem], stop: &Stop) -> Verdict {
    let of_input = |problem: &&OutputProblem| matches!(problem.output, "tamper" | "silence");
    if let Some(problem) = problems.iter().find(of_input) {
        return Verdict::Failed(problem.to_string());
    }
    let (began, mut active, mut wrong) = (Instant::now(), Vec::new(), Vec::new());
    while began.elapsed() < WATCHED && !stop.asked() {
        wrong.extend(inputs.poll(began.elapsed(), |change| active.push(change)));
        stop.sleep(Duration::from_millis(20));
    }
    match (wrong.first(), active.first()) {
        (Some(problem), _) => Verdict::Failed(problem.to_string()),
        (_, Some(Change::Tamper(_))) => Verdict::Failed("tamper: the case is open, or its contact is not wired".into()),
        (_, Some(Change::SilencePressed)) => Verdict::Failed("silence: the button is pressed, or wired wrong".into()),
        _ => Verdict::Ok("at rest".into()),
    }
}

/// A message to the broker and back.
pub fn broker(settings: &Settings, stop: &Stop) -> Verdict {
    if !settings.site.mqtt_enabled() {
        return Verdict::Skipped("[mqtt] is off".into());
    }
    let options = match crate::broker::ready(settings, Vec::new()) {
        Ok(options) => options,
        Err(error) => return Verdict::Failed(format!("{error:#}")),
    };
    let place = format!("{}:{}", options.host, options.port);
    let (sender, answer) = channel();
    // In a thread of its own, so that a broker that swallows packets does not hold up Ctrl-C.
    let started = std::thread::Builder::new().name("probe".into()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(hub::probe::round_trip(&options));
    });
    if let Err(error) = started {
        return Verdict::Failed(format!("no thread: {error}"));
    }
    loop {
        match answer.recv_timeout(Duration::from_millis(50)) {
            Ok(Ok(time)) => {
                return Verdict::Ok(format!("a message to {place} and back in {:.1} ms", time.as_secs_f64() * 1e3));
            }
            Ok(Err(error)) => return Verdict::Failed(error.to_string()),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) if !stop.asked() => {}
            Err(_) => return Verdict::Failed("interrupted".into()),
        }
    }
}

/// Why an output is not tried.
fn unusable(table: &str, exists: bool, board: &Board, problems: &[OutputProblem]) -> Option<Verdict> {
    if let Some(problem) = problems.iter().find(|problem| problem.output == table) {
        return Some(Verdict::Failed(problem.to_string()));
    }
    (!exists && !board.simulated).then(|| Verdict::Skipped(format!("board `{}` has none", board.name)))
}

fn verdict(driven: Result<(), OutputProblem>, board: &Board, done: &str) -> Verdict {
    match driven {
        // Green would say that there is a siren.
        Ok(()) if board.simulated => {
            Verdict::Skipped(format!("simulated: board `{}` has no lines to drive", board.name))
        }
        Ok(()) => Verdict::Ok(done.into()),
        Err(problem) => Verdict::Failed(problem.to_string()),
    }
}
