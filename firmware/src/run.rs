//! `screamd run`: everything is opened and checked here, in the order in which it may fail; then the control loop runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context;
use detector::pipeline::Pipeline;
use files::quiet_hours::QuietHours;
use files::recording::Recording;
use files::tell;
use hub::Hub;

use crate::control::{Control, Message, Parts};
use crate::crash::Crash;
use crate::event_log::EventLog;
use crate::events::{EventStore, Retention};
use crate::faults::Fault;
use crate::inputs::Inputs;
use crate::last_good::{self, SourceKind, Startup};
use crate::listen::{Listener, Source};
use crate::outputs::{Outputs, show_on_stderr};
use crate::quiet::Quiet;
use crate::recorder::Recorder;
use crate::settings::{Paths, Settings};
use crate::starts::Start;
use crate::state_lock::{self, Holder};
use crate::supervisor::Supervisor;
use crate::update::agent::Agent;
use crate::{EXIT_CONFIG, capture};

/// Messages to the control loop that wait at the most.
const MESSAGES: usize = 64;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    paths: Paths,
    /// A recording in place of the microphone: WAV, FLAC or Ogg Vorbis, `-` for standard input
    #[arg(long)]
    wav: Option<PathBuf>,
    /// Pace of the recording
    #[arg(long, value_enum, default_value = "realtime", requires = "wav")]
    speed: Speed,
    /// Where site file or model are refused: start with the last site file that checked, the package's own model, and say
    /// so as faults
    #[arg(long)]
    last_good: bool,
    /// One JSON object a line on standard output, and nothing else
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Speed {
    /// As a microphone would
    Realtime,
    /// As fast as it goes
    Max,
}

/// Runs until the source ends or the program is told to stop.
pub fn run(args: &Args) -> ExitCode {
    match start(args) {
        Ok(Started { control, counted, .. }) => match control.run() {
            Ok(()) => {
                counted.iter().for_each(Start::good);
                ExitCode::SUCCESS
            }
            Err(cause) => {
                log::error!("{cause}");
                ExitCode::FAILURE
            }
        },
        Err(wrong) => {
            wrong.iter().for_each(|problem| tell!("{problem}"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// All that runs.
struct Started {
    control: Control,
    /// Of the service.
    counted: Option<Start>,
    /// The state folder is ours until the end.
    _lock: Option<File>,
}

fn start(args: &Args) -> Result<Started, Vec<String>> {
    let kind = if args.wav.is_some() { SourceKind::Recording } else { SourceKind::Microphone };
    let paths = Paths { trial: args.wav.is_some(), ..args.paths.clone() };
    let (counted, crash, lock, mut startup) = if args.last_good {
        let state_dir = last_good::state_dir(&paths.config);
        let lock = lock_of_the_service(&state_dir);
        // Counted before the weights are loaded: that may be what crashes.
        let start = Start::begin(&state_dir);
        let loaded = match start.in_a_loop() {
            true => last_good::safe(&paths, kind, &state_dir, start.before),
            false => last_good::load_or_fall_back(&paths, kind),
        };
        // What is refused in words has not crashed.
        let startup = loaded.inspect_err(|_| start.good())?;
        (Some(start), Crash::in_dir(&state_dir), lock, startup)
    } else {
        let (startup, lock) = load_by_hand(&paths, kind)?;
        (None, Crash::default(), lock, startup)
    };
    startup.settings.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // A hub that lacks its password, or another model, is nothing against the site file.
    let refused = |fault: &Fault| matches!(fault, Fault::ConfigInvalid | Fault::CrashLoop);
    if startup.settings.keeps_state && !startup.faults.iter().any(|(fault, _)| refused(fault)) {
        last_good::keep(&paths.config, &startup.settings.site);
        if let Some(start) = &counted {
            let (config, site) = (paths.config.clone(), startup.settings.site.clone());
            let watched = start.watch(move || last_good::keep_proven(&config, &site));
            watched.map_err(|error| vec![format!("the thread that counts starts: {error}")])?;
        }
    }
    // The crash of the run before is told like the others; site, model and settings stay as they were loaded.
    startup.faults.extend(crash.take().map(|words| (Fault::Crashed, words)));
    let control = start_with(args, startup, crash).map_err(|error| vec![format!("{error:#}")])?;
    Ok(Started { control, counted, _lock: lock })
}

/// The service yields to nobody: where somebody tries the alarm by hand in its folder, both write there for that time.
fn lock_of_the_service(state_dir: &Path) -> Option<File> {
    match state_lock::take(state_dir) {
        Ok(Holder::Us { lock, .. }) => return Some(lock),
        Ok(Holder::Another(lock)) => {
            log::error!("{}: another screamd uses this folder too, until it ends", state_dir.display());
            if let Err(error) = state_lock::take_later(lock, state_dir.to_owned()) {
                log::warn!("the thread that waits for the state folder: {error}");
            }
        }
        Err(cause) => log::warn!("{cause}"),
    }
    None
}

/// What a person starts yields: where another `screamd` keeps the state folder, this one keeps nothing and tells no hub.
fn load_by_hand(paths: &Paths, kind: SourceKind) -> Result<(Startup, Option<File>), Vec<String>> {
    let mut startup = last_good::load(paths, kind)?;
    let settings = &mut startup.settings;
    if !settings.keeps_state && !settings.site.mqtt_enabled() {
        return Ok((startup, None));
    }
    match state_lock::take(&settings.site.state.dir) {
        // Its last settings are written by now.
        Ok(Holder::Us { lock, anew: true }) => Ok((last_good::load(paths, kind)?, Some(lock))),
        Ok(Holder::Us { lock, anew: false }) => Ok((startup, Some(lock))),
        Ok(Holder::Another(_)) => {
            let folder = settings.site.state.dir.display();
            log::warn!(
                "another screamd uses {folder}: this one keeps no settings and no log, removes no event and tells no hub"
            );
            settings.yield_to_another();
            Ok((startup, None))
        }
        Err(cause) => {
            log::warn!("{cause}");
            Ok((startup, None))
        }
    }
}

fn start_with(args: &Args, startup: Startup, crash: Crash) -> anyhow::Result<Control> {
    let Startup { settings, model, mut faults } = startup;
    // What can be refused is refused before a line is opened or a thread runs.
    let recording = args.wav.as_deref().map(Recording::open).transpose()?;

    // Lines at their safe levels first, then everything else.
    let (outputs, mut output_problems) = Outputs::open(&settings.board, show_on_stderr());
    let emergency = outputs.emergency();
    emergency.clone().abort_on_panic(crash.clone());
    let (inputs, input_problems) = Inputs::open(&settings.board);
    output_problems.extend(input_problems);

    let (messages, inbox) = sync_channel::<Message>(MESSAGES);
    let (source, source_name) = open_source(args, &settings, recording, &messages)?;
    let capture_status = match &source {
        Source::Microphone(capture) => Some(Arc::clone(&capture.status)),
        Source::Recording { .. } => None,
    };
    let source_rate_hz = source.rate_hz(settings.manifest.front_end.sample_rate_hz);
    let pipeline = Pipeline::new(&settings.manifest, model, source_rate_hz, settings.decision.stride_s)?;
    let centres_hz = pipeline.front_end().centres_hz().to_vec();
    let recorder = start_recorder(args, &settings, messages.clone())?;

    let quiet = QuietHours::new(&settings.site.siren.quiet_hours);
    let quiet = Quiet::start(quiet).context("the thread that knows quiet hours")?;
    let (commands, hub_inbox) = sync_channel(MESSAGES);
    let hub = match settings.site.mqtt_enabled() {
        true => match start_hub(&settings, args.last_good, commands) {
            // No thread to be had: the siren is the alarm then.
            Err(error) if args.last_good => {
                faults.push((Fault::PathDown, format!("{error:#}")));
                None
            }
            started => Some(started?),
        },
        false => None,
    };
    let board = settings.site.board_name();
    let update = Agent::start(&settings.site, board, messages.clone()).context("the update thread")?;
    let terminate = Arc::new(AtomicBool::new(false));
    // A terminal that is closed is no reason to leave a siren on.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&terminate)).context("signal handler")?;
    }
    let realtime = args.wav.is_none() || args.speed == Speed::Realtime;
    let control = Control::new(Parts {
        settings,
        outputs,
        inputs,
        output_problems,
        faults,
        hub,
        hub_inbox,
        recorder,
        quiet,
        update,
        inbox,
        terminate,
        capture_status,
        centres_hz,
        source_name,
        json: args.json,
        realtime,
    });
    let listener = Listener::start(source, pipeline, &control.listening(), messages).context("the listening thread")?;
    let control = control.with(listener);
    let supervisor = Supervisor::start(control.stages(), move |stage| match stage {
        Some(stage) => {
            emergency.all_safe();
            crash.keep(&format!("{stage} stood still: the watchdog ended the process"));
        }
        None => {
            emergency.all_clear();
            crash.forget();
        }
    });
    Ok(control.watched_by(supervisor))
}

/// The recording, or the microphone that the site names; and its name.
fn open_source(
    args: &Args,
    settings: &Settings,
    recording: Option<Recording>,
    messages: &SyncSender<Message>,
) -> anyhow::Result<(Source, String)> {
    if let Some(recording) = recording {
        let name = args.wav.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        return Ok((Source::Recording { recording, paced: args.speed == Speed::Realtime }, name));
    }
    let device = settings.site.audio.device.clone().context("`audio.device`: missing")?;
    let wanted = capture::Source {
        device: device.clone(),
        model_rate_hz: settings.manifest.front_end.sample_rate_hz,
        period_frames: settings.board.period_frames,
    };
    let notify = messages.clone();
    let capture = capture::start(wanted, move |notice| {
        // Full: the control loop stands still, and the watchdog says so.
        let _ = notify.try_send(Message::Capture(notice));
    });
    Ok((Source::Microphone(capture.context("the capture thread")?), device))
}

fn start_recorder(args: &Args, settings: &Settings, out: SyncSender<Message>) -> anyhow::Result<Recorder> {
    let events = settings.site.events.clone();
    let retention = Retention { max_mib: events.max_mib, max_days: events.max_days };
    // A person at a PC, whose clock is set. On a device, or at a pipe, which may be a microphone's, time must first show that it is true.
    let at_a_desk = settings.board.simulated && args.wav.as_deref().is_some_and(|path| path != Path::new("-"));
    let yields = settings.yields;
    let open = move || {
        let open = if yields { EventStore::open_beside } else { EventStore::open };
        let store = open(&events.dir, retention, events.pictures, events.clips)?;
        if at_a_desk { store.with_proven_clock() } else { Ok(store) }
    };
    let log = EventLog::new(&settings.site.state.dir);
    Recorder::start(open, log, out).context("the recorder's thread")
}

/// Of the service, whose hub may come later: a password or certificate that is gone or spoilt costs it the hub (`PathDown`, tried
/// again and again by the session, alerts in the outbox) and not the siren. Whoever starts by hand is told at once.
fn start_hub(settings: &Settings, service: bool, commands: SyncSender<hub::Incoming>) -> anyhow::Result<Hub> {
    let states = Control::first_states(settings);
    let options = match service {
        true => crate::broker::options(settings, states),
        false => crate::broker::ready(settings, states)?,
    };
    Ok(Hub::start(options, commands)?)
}
