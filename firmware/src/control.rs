//! The one loop that everything meets in: windows, commands, faults and time go in; the siren comes out first, then words.
//!
//! One owner of each state: the alarm of what is going on, `Faults` of what is wrong, `Saved` of what the hub has set.
//! Nothing here waits for disk or network: the recorder and the hub have threads of their own.

mod commands;
mod contact;
mod ending;
mod every;
mod figures;
mod gaps;
pub(super) mod incident;
mod senses;
mod sounded;
mod standstill;
mod telling;
mod tick;
mod unlogged;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use detector::alarm::{Action, Actions, Alarm, Event, SirenSettings, Us, us};
use detector::sound_health::{Defect, Finding};
use hub::{Hub, State};

use crate::capture::{self, Notice};
use crate::clock;
use crate::faults::{Fault, Faults};
use crate::history::History;
use crate::inputs::Inputs;
use crate::led;
use crate::lines::{Line, Lines};
use crate::listen::{self, Listener, Report};
use crate::logging;
use crate::outputs::{OutputProblem, Outputs};
use crate::quiet::Quiet;
use crate::recorder::{Job, Recorder, Storage};
use crate::saved::Saved;
use crate::settings::Settings;
use crate::supervisor::{self, Stage, Supervisor};
use crate::update;

use contact::Contact;
use ending::{Ending, Goodbye};
use every::Every;
use gaps::Gaps;
use incident::Incident;
use sounded::Sounded;
use standstill::Standstill;
use unlogged::Unlogged;

/// What the loop is told.
pub enum Message {
    /// A window was scored.
    Window(Box<Report>),
    /// A window was not: the listener had fallen behind.
    Dropped,
    /// No more sound; with the cause where the source broke off.
    SourceEnded(Result<(), String>),
    /// The card.
    Capture(Notice),
    /// Sound is missing.
    Gap {
        /// Where, seconds of the sound.
        t_s: f64,
        /// How much.
        length_s: f64,
    },
    /// The sound's own health.
    Sound(Finding),
    /// A file was written, or not.
    Stored(Storage, Result<Option<std::path::PathBuf>, String>),
    /// A release was placed on the device, or an update has ended.
    Update(update::agent::Notice),
}

/// How long an end waits for the disk after a recording, whose user waits for its files; [`ending::KEPT`] once a signal has come.
const RECORDER_WAIT: Duration = Duration::from_secs(60);
/// For the broker's acknowledgements after a recording; [`hub::limits::HURRIED`] once a signal has come. The goodbye may take a second more.
const BROKER_WAIT: Duration = Duration::from_secs(9);
/// Sound that comes so much later than it was due has stood still, microseconds.
const STOOD_US: Us = 1_000_000;
/// Between two words that somebody has silenced a device with nothing left to silence.
const SILENCED_EVERY: Duration = Duration::from_secs(10);

/// What the loop is made of.
pub struct Parts {
    /// Site, board and model settings in force.
    pub settings: Settings,
    /// Siren, LED and fault relay.
    pub outputs: Outputs,
    /// Tamper contact and silence button.
    pub inputs: Inputs,
    /// Those lines that did not open.
    pub output_problems: Vec<OutputProblem>,
    /// What was refused at the start, where something else stands in for it.
    pub faults: Vec<(Fault, String)>,
    /// The broker's session.
    pub hub: Option<Hub>,
    /// What it tells.
    pub hub_inbox: Receiver<hub::Incoming>,
    /// The writing thread.
    pub recorder: Recorder,
    /// Who knows whether it is a quiet hour.
    pub quiet: Quiet,
    /// Tells root and the hub about releases.
    pub update: update::agent::Agent,
    /// Everything else.
    pub inbox: Receiver<Message>,
    /// A signal has come.
    pub terminate: Arc<AtomicBool>,
    /// The capture thread's counters and faults; none for a recording.
    pub capture_status: Option<Arc<capture::Status>>,
    /// Centre of each mel band, Hz.
    pub centres_hz: Vec<f32>,
    /// The recording's path or the ALSA device.
    pub source_name: String,
    /// JSON lines.
    pub json: bool,
    /// Sound time passes as real time does.
    pub realtime: bool,
}

/// Figures since the last telemetry.
#[derive(Default)]
struct Health {
    score_max: f64,
    level_dbfs: f64,
    inference_ms: Vec<f64>,
}

/// The loop and its states.
pub struct Control {
    parts: Parts,
    lines: Lines,
    alarm: Alarm,
    faults: Faults,
    saved: Saved,
    quiet_now: bool,
    history: History,
    incident: Option<Incident>,
    listener: Option<Listener>,
    supervisor: Option<Supervisor>,
    /// Turns of the loop.
    beats: Arc<AtomicU64>,
    began: Instant,
    /// Sound time and real time of the last window's end: between windows, sound time is reckoned from here.
    anchor: (Us, Instant),
    sounded: Sounded,
    defects: Vec<Defect>,
    /// Sound has been above the site's floor for a minute, so that what the microphone had before this start was no cover.
    uncovered: bool,
    gaps: Gaps,
    contact: Contact,
    windows: u64,
    /// Of those, without the network.
    skipped: u64,
    late_until_window: u64,
    guard_trips: u32,
    alarms: u64,
    supervision_seq: u64,
    /// Of those that were to reach the hub, as far as it was told.
    alerts_lost: u64,
    clock_set: bool,
    /// What refuses to be stored now.
    unstored: BTreeSet<Storage>,
    /// What the recorder is to be given: settings that have changed, an incident that it had no room for.
    to_write: BTreeSet<Storage>,
    /// Lines that have been told to be missing or to refuse, by table.
    failed_lines: BTreeSet<&'static str>,
    boot: String,
    health: Health,
    telemetry: Every,
    /// Ids of commands that changed nothing else are to be written.
    ids_wait: bool,
    ids_written: Every,
    /// Somebody watches until then.
    live_until: Option<Instant>,
    /// Lines that could not be opened.
    reopening: Every,
    silenced_at: Option<Instant>,
    disk_wait: Standstill,
    card_wait: Standstill,
    unlogged: Unlogged,
    stored: Vec<std::path::PathBuf>,
    failure: Option<String>,
}

impl Control {
    /// States that hold before anything has been heard: a microphone that was dead is no better for a restart.
    pub fn first_states(settings: &Settings) -> Vec<State> {
        let mut states: Vec<_> = settings.saved.attributes.clone().map(State::Attributes).into_iter().collect();
        states.extend([
            State::AudioOnline(!settings.saved.microphone_dead()),
            State::Scream(false),
            State::Alarm(settings.saved.latched),
            State::Siren(false),
            State::Armed(settings.armed),
            State::Threshold(settings.decision.threshold_on),
            State::Cooldown(settings.decision.cooldown_s),
            State::AudioFault(settings.saved.of_microphone()),
            State::Started(clock::now_utc()),
            State::Update(update::agent::first_state()),
        ]);
        states
    }

    /// Everything but the listener.
    pub fn new(parts: Parts) -> Self {
        let settings = &parts.settings;
        let siren =
            SirenSettings { on_us: us(settings.site.siren.on_s), max_us: us(f64::from(settings.board.siren_on_s_max)) };
        let now = Instant::now();
        Self {
            lines: Lines::new(parts.json, (!parts.realtime).then(|| Arc::clone(&parts.terminate))),
            alarm: Alarm::new(settings.decision, siren, settings.armed, settings.saved.latched),
            faults: Faults::default(),
            saved: settings.saved.clone(),
            quiet_now: false,
            history: History::new(&settings.manifest.front_end, &parts.centres_hz),
            incident: None,
            listener: None,
            supervisor: None,
            beats: Arc::default(),
            began: now,
            anchor: (0, now),
            sounded: Sounded::default(),
            defects: Vec::new(),
            uncovered: settings.site.audio.floor().is_none(),
            gaps: Gaps::default(),
            contact: Contact::default(),
            windows: 0,
            skipped: 0,
            late_until_window: 0,
            guard_trips: 0,
            alarms: 0,
            supervision_seq: 0,
            alerts_lost: 0,
            clock_set: clock::is_set(),
            unstored: BTreeSet::new(),
            to_write: BTreeSet::new(),
            failed_lines: BTreeSet::new(),
            // Unique over restarts without a clock: the kernel's random source.
            boot: format!(
                "{:08x}",
                std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), now) as u32
            ),
            health: Health { level_dbfs: f64::from(detector::level::LEVEL_DBFS_MIN), ..Health::default() },
            telemetry: Every::new(tick::TELEMETRY_EVERY, now),
            ids_wait: false,
            ids_written: Every::new(tick::IDS_EVERY, now),
            live_until: None,
            reopening: Every::new(tick::REOPEN_EVERY, now),
            silenced_at: None,
            disk_wait: Standstill::default(),
            card_wait: Standstill::default(),
            unlogged: Unlogged::default(),
            stored: Vec::new(),
            failure: None,
            parts,
        }
    }

    /// With the listening thread.
    pub fn with(mut self, listener: Listener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// The threads that must make progress: what is there by now.
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |name, beats: Box<dyn Fn() -> u64 + Send>| Stage { name, beats, patience: Duration::ZERO };
        let beats = Arc::clone(&self.beats);
        let mut stages = vec![stage("control", Box::new(move || beats.load(Relaxed)))];
        if let Some(listener) = &self.listener {
            let counters = Arc::clone(&listener.counters);
            stages.push(stage("listen", Box::new(move || counters.beats.load(Relaxed))));
        }
        if let Some(status) = &self.parts.capture_status {
            stages.push(stage("capture", Box::new(status.progress())));
        }
        if let Some(hub) = &self.parts.hub {
            stages.push(Stage { patience: supervisor::DISK_PATIENCE, ..stage("hub", Box::new(hub.beats())) });
        }
        stages
    }

    /// With who watches them.
    pub fn watched_by(mut self, supervisor: Supervisor) -> Self {
        self.supervisor = Some(supervisor);
        self
    }

    /// What the listening thread is to be told.
    pub fn listening(&self) -> listen::Options<'_> {
        let settings = &self.parts.settings;
        listen::Options {
            manifest: &settings.manifest,
            stride_s: settings.decision.stride_s,
            keep_sound: settings.site.events.clips,
            floor: settings.site.audio.floor(),
            gate: settings.site.audio.gate(),
        }
    }

    /// Runs until the source ends or a signal comes; outputs are safe when it returns.
    ///
    /// # Errors
    /// Why the source broke off.
    pub fn run(mut self) -> Result<(), String> {
        self.say_start();
        for (fault, detail) in self.parts.faults.clone() {
            self.fault(fault, &detail);
        }
        for problem in std::mem::take(&mut self.parts.output_problems) {
            self.line_fails(&problem);
        }
        self.parts.update.faults(&self.faults);
        if std::mem::take(&mut self.saved.forgotten) {
            self.save();
        }
        let ready = self.alarm.step(0, Event::Ready);
        self.carry_out(ready, None);
        // The first window may come before the first tick.
        self.keep_quiet_hours();
        self.end_incident_of_before();
        let tick = Duration::from_millis(led::TICK_MS_MAX);
        let mut next_tick = Instant::now();
        let signalled = loop {
            self.beats.fetch_add(1, Relaxed);
            match self.parts.inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Message::SourceEnded(ended)) => {
                    self.failure = ended.err();
                    break false;
                }
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break false,
            }
            // A full inbox must not keep time from passing.
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + tick;
                self.tick();
                if self.parts.terminate.load(Relaxed) {
                    break true;
                }
            }
        };
        self.finish(signalled)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Window(report) => {
                self.window(&report);
                if let Some(listener) = &self.listener {
                    listener.give_back(report);
                }
            }
            Message::Dropped => {
                self.late_until_window = self.windows + 10;
                self.fault(Fault::InferenceLate, "a window was not scored: the processor is behind");
            }
            Message::Capture(notice) => self.capture(notice),
            Message::Gap { t_s, length_s } => self.gaps.add(t_s, length_s),
            Message::Sound(finding) => self.sound(finding),
            Message::Stored(storage, stored) => {
                // Told at the end of a recording; a service would gather them for years.
                if let (Ok(path), None) = (&stored, &self.parts.capture_status) {
                    self.stored.extend(path.clone());
                }
                self.storage(storage, stored.map(|_| ()));
            }
            Message::Update(notice) => self.updated(notice),
            Message::SourceEnded(_) => {}
        }
    }

    fn window(&mut self, report: &Report) {
        self.windows += 1;
        self.skipped += u64::from(report.skipped);
        if report.score.is_some() {
            self.parts.update.scored();
        }
        let now_us = us(report.t_end_s);
        let (last_us, before_us) = (self.anchor.0, self.now_us());
        self.anchor = (now_us, report.complete);
        // A pipe that stood still: the sound's time has stood with it, a person's has not.
        let back_us = before_us.saturating_sub(self.now_us());
        if self.parts.realtime && back_us > STOOD_US {
            self.alarm.rewind(back_us);
            let s = |time_us: Us| time_us as f64 / 1e6;
            self.sounded.rewind(s(back_us), s(last_us), s(self.now_us()));
        }
        let masked = self.holds_siren(report);
        self.health.score_max = self.health.score_max.max(report.score.unwrap_or(0.0));
        self.health.level_dbfs = f64::from(report.level_dbfs);
        // What the network never saw took it no time, and says nothing of it.
        if !report.skipped {
            self.health.inference_ms.push(report.inference_ms);
        }
        self.history.push(report, incident::window_of(report, &self.parts.settings.manifest.labels, masked));

        let actions = self.alarm.step(now_us, Event::Window { score: report.score, masked });
        // The siren first; the window's own line comes before the alarm's all the same, since only the lines are ordered.
        self.switch(&actions);
        self.say_window(report, masked);
        self.announce(actions, Some(report));
        self.incident_goes_on(report);

        match report.score {
            None => self
                .fault(Fault::ModelInvalid, "the network gave no score: a value that is no number, or no probability"),
            // A model that stands in for a refused one may work well, and the refusal stands all the same.
            Some(_) if self.parts.faults.iter().any(|(fault, _)| *fault == Fault::ModelInvalid) => {}
            Some(_) => self.restore(Fault::ModelInvalid, "the network gives numbers again"),
        }
        if self.windows > self.late_until_window {
            self.restore(Fault::InferenceLate, "windows are scored in time");
        }
        self.restore_of_before();
        self.show_live(report);
    }

    /// True where the window holds the device's own siren. A simulated one makes no sound.
    fn holds_siren(&self, report: &Report) -> bool {
        !self.parts.outputs.siren_simulated() && self.sounded.within(report.t_start_s, report.t_end_s)
    }

    /// Sound time now.
    fn now_us(&self) -> Us {
        let (at_us, instant) = self.anchor;
        if self.parts.realtime { at_us + instant.elapsed().as_micros() as Us } else { at_us }
    }

    fn step(&mut self, event: Event) {
        let actions = self.alarm.step(self.now_us(), event);
        self.carry_out(actions, None);
    }

    fn carry_out(&mut self, actions: Actions, report: Option<&Report>) {
        self.switch(&actions);
        self.announce(actions, report);
    }

    /// The part that must not wait: one call per line.
    fn switch(&mut self, actions: &Actions) {
        for action in actions.iter() {
            let Action::Siren(on) = action else { continue };
            let switched = self.parts.outputs.set_siren(on);
            self.follow_siren();
            if let Err(problem) = switched {
                self.line_fails(&problem);
            }
        }
    }

    /// When the siren sounded: by its line, since one that refused masks nothing.
    fn follow_siren(&mut self) {
        self.sounded.follow(self.parts.outputs.siren_is_on(), self.now_us() as f64 / 1e6);
    }

    /// Whether it sounds: what people are told.
    fn siren_sounds(&self) -> bool {
        self.alarm.siren_on() && self.parts.outputs.siren_is_on()
    }

    /// The part that tells people.
    fn announce(&mut self, actions: Actions, report: Option<&Report>) {
        for action in actions.iter() {
            match action {
                Action::Siren(_) => self.state(State::Siren(self.siren_sounds())),
                Action::Start { t_us, score, announced, sounded, .. } => {
                    if let Some(report) = report {
                        let sounded = sounded && self.siren_sounds();
                        self.incident_starts(report, t_us, score, announced, sounded);
                    }
                }
                Action::End { t_us, score, announced, .. } => self.incident_ends(t_us, score, announced),
                Action::Latch(on) => {
                    self.saved.latched = on;
                    self.save();
                    self.state(State::Alarm(on));
                }
                Action::Armed(armed) => {
                    self.state(State::Armed(armed));
                    let kind = if armed { hub::EventType::Armed } else { hub::EventType::Disarmed };
                    self.supervise(kind, None, "");
                }
                // Pressed again and again it says nothing new, and each word is a write to the disk: what ends a noise or the latch stands beside it.
                Action::Silenced(_)
                    if actions.iter().count() == 1
                        && self.silenced_at.is_some_and(|then| then.elapsed() < SILENCED_EVERY) => {}
                Action::Silenced(_) => {
                    self.silenced_at = Some(Instant::now());
                    self.supervise(hub::EventType::Silenced, None, "");
                }
            }
        }
    }

    /// With the next tick: however many settings come at once, they are one file.
    fn save(&mut self) {
        self.ids_wait = false;
        if self.parts.settings.keeps_state {
            self.to_write.insert(Storage::Settings);
        }
    }

    fn settings_file(&self) -> Job {
        let path = Saved::path(&self.parts.settings.site.state.dir);
        // Numbers and flags: their JSON cannot fail.
        Job::File { path, bytes: serde_json::to_vec(&self.saved).unwrap_or_default() }
    }

    /// Gives the recorder a job; the job again where its queue has no room. A recording at full speed can wait for the disk; a room cannot.
    fn give(&self, job: Job) -> Option<Job> {
        let over = || {
            self.beats.fetch_add(1, Relaxed);
            self.parts.realtime || self.parts.terminate.load(Relaxed)
        };
        self.parts.recorder.offer_until(job, over)
    }

    /// Hands in what is to be written; what the recorder's queue does not take waits for the next tick.
    fn hand_in(&mut self) {
        if let Some(job) = self.unlogged.take()
            && let Some(refused) = self.give(job)
        {
            self.unlogged.give_back(refused);
        }
        for storage in std::mem::take(&mut self.to_write) {
            let job = if storage == Storage::Settings { self.settings_file() } else { Job::Missed };
            if self.give(job).is_some() {
                self.to_write.insert(storage);
                self.storage(storage, Err("the disk does not keep up: what is to be written waits".into()));
            }
        }
    }

    /// Siren off, incident closed, then files written and broker told side by side, and the last lines read.
    fn finish(mut self, signalled: bool) -> Result<(), String> {
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.stop();
        }
        if let Some(listener) = &self.listener {
            listener.counters.stop.store(true, Relaxed);
        }
        // A recording ends where its sound does, at whatever pace it was heard.
        let now_us = if signalled { self.now_us() } else { self.anchor.0 };
        let stopped = self.alarm.step(now_us, Event::Stop);
        self.carry_out(stopped, None);
        self.parts.outputs.all_safe();
        let (dropped, skipped, xruns) = (self.dropped_windows(), self.skipped, self.xruns());
        let audio_us = self.listener.as_ref().map_or(0, |listener| listener.counters.audio_us.load(Relaxed));
        let audio_s = audio_us as f64 / 1e6;
        if self.ids_wait {
            self.save();
        }
        let last: Vec<Job> =
            self.to_write.contains(&Storage::Settings).then(|| self.settings_file()).into_iter().collect();
        let Self { parts, lines, windows, alarms, began, mut stored, failure, unstored, mut unlogged, .. } = self;
        let Parts { recorder, hub, inbox, terminate, .. } = parts;
        let (ending, ended) = (Ending::new(terminate), Instant::now());
        let goodbye = hub.map(|hub| Goodbye::start(hub, BROKER_WAIT, &ending));
        recorder.finish(unlogged.take().into_iter().chain(last), || {
            ended.elapsed() >= RECORDER_WAIT || ending.over(ending::KEPT)
        });
        while let Ok(message) = inbox.try_recv() {
            match message {
                Message::Stored(_, Ok(path)) => stored.extend(path),
                // Where it stands already it has been said.
                Message::Stored(_, Err(cause)) if unstored.is_empty() => {
                    lines.write(&Line::Fault { fault: Fault::StorageFull.name(), detail: &cause })
                }
                _ => {}
            }
        }
        if let Some(goodbye) = goodbye {
            goodbye.wait(&ending);
        }
        if lines.for_people() {
            stored.sort();
            stored.dedup();
            for path in stored {
                let kind = if path.extension().is_some_and(|ending| ending == "png") { "picture" } else { "record" };
                lines.say(&format!("{kind}: {}", path.display()));
            }
        }
        lines.write(&Line::Stop {
            windows,
            dropped,
            skipped,
            xruns,
            alarms,
            audio_s,
            elapsed_s: began.elapsed().as_secs_f64(),
        });
        lines.end(|| ending.over(ending::LINES));
        if ending.signalled() {
            logging::flush_until(|| ending.over(ending::LOG));
        }
        failure.map_or(Ok(()), Err)
    }
}
