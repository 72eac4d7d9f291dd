//! `host-tools fleet --devices N --broker HOST:PORT [--alerts 10] [--every-s 10] [--username NAME --password-file FILE]
//! [--ca-file FILE] [--wait-s 60] [--state DIR] [--json FILE]`
//!
//! N simulated devices at one broker: each is the very session that `screamd` runs (outbox, connection, discovery,
//! states) without a microphone. They raise numbered alerts, somebody listens, and the time from alert to listener is
//! measured. Exit 1 where one was lost. The broker keeps what devices retain: everything is taken away again at the end,
//! also after Ctrl-C; still, a broker that a real Home Assistant listens to is no place for it. The listener is one more
//! client: what a broker that is restarted acknowledges before the listener is back counts as lost.
//!
//! *Lost*: raised, and never heard by the listener. *Doubled*: heard more than once, with the same id.

mod ledger;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use files::{say, tell};
use hub::topics::{self, Topics};
use hub::{Event, EventType, Hub, Incoming, Options, State};
use indicatif::ProgressBar;
use rayon::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::broker::{Access, BrokerArgs, Line, News, token};
use crate::out_file;
use crate::progress;
use ledger::{Ledger, Spread};

/// Open files of one device: socket, poll, wake-ups, lock and segments of its outbox; six were counted.
const FILES_PER_DEVICE: u64 = 7;
/// How long the listener is waited for at the start and the end.
const LISTENER: Duration = Duration::from_secs(10);
/// What a device leaves with the broker.
const RETAINED: [&str; 12] = [
    topics::STATUS,
    topics::AUDIO_STATUS,
    topics::SCREAM_STATE,
    topics::ALARM_STATE,
    topics::SIREN_STATE,
    topics::ARMED_STATE,
    topics::THRESHOLD_STATE,
    topics::COOLDOWN_STATE,
    topics::AUDIO_FAULT,
    topics::STARTED,
    topics::SCREAM_ATTRIBUTES,
    topics::UPDATE_STATE,
];

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// How many
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    devices: u32,
    /// Alerts of each device
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    alerts: u32,
    /// From one alert of a device to its next, seconds; devices are spread evenly over it
    #[arg(long, default_value_t = 10.0)]
    every_s: f64,
    /// How long devices are waited for: to connect, and at the end for what is on its way, seconds
    #[arg(long, default_value_t = 60.0)]
    wait_s: f64,
    /// Folder of the outboxes [default: a temporary one, in memory where /dev/shm is]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    devices: u32,
    alerts: usize,
    heard: usize,
    lost: usize,
    doubled: usize,
    /// Raised and not acknowledged by the broker when the time was over.
    unacknowledged: usize,
    connected_s: f64,
    reconnects: u64,
    alerts_per_s: f64,
    latency_ms: Spread,
    rss_mib: f64,
    threads: u64,
}

/// Runs; false where an alert was lost.
pub fn run(args: &Args) -> anyhow::Result<bool> {
    out_file::check(args.json.as_deref())?;
    if !(args.every_s > 0.0 && args.every_s <= 86_400.0 && args.wait_s >= 0.0 && args.wait_s <= 86_400.0) {
        bail!("--every-s must be above 0, --wait-s at least 0, both at most a day");
    }
    let access = args.broker.read()?;
    allow_files(u64::from(args.devices) * FILES_PER_DEVICE + 256)?;
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&over)).context("signal handler")?;
    }
    let temporary = match &args.state {
        Some(_) => None,
        None if std::path::Path::new("/dev/shm").is_dir() => Some(tempfile::tempdir_in("/dev/shm")),
        None => Some(tempfile::tempdir()),
    };
    let temporary = temporary.transpose().context("a folder for the outboxes")?;
    let state = args.state.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_path_buf()));
    let state = state.context("a folder for the outboxes")?;

    let listener = Line::open(&access, "screamd-fleet", vec!["screamd/+/event".into(), ready_topic()])?;
    wait_for_listener(&listener)?;
    let mut fleet = Fleet::start(args, &access, &state, listener)?;
    let done = fleet.measure(args, &over);
    fleet.leave();
    let figures = done?;
    out_file::json(args.json.as_deref(), &figures)?;
    say(&figures);
    if over.load(Relaxed) {
        bail!("stopped before the end");
    }
    Ok(figures.lost == 0 && figures.unacknowledged == 0)
}

/// The listener's own topic: what comes back on it came through the broker after everything before it.
fn ready_topic() -> String {
    format!("screamd-fleet/{}", std::process::id())
}

/// A thousand devices need more open files than a shell allows.
fn allow_files(wanted: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum })
        .context("raising the limit of open files")?;
    if allowed < wanted {
        bail!("so many devices need {wanted} open files, and this system allows {allowed} (ulimit -Hn)");
    }
    Ok(())
}

fn wait_for_listener(listener: &Line) -> anyhow::Result<()> {
    let until = Instant::now() + LISTENER;
    let mut cause = "it does not answer".to_string();
    while let Ok(news) = listener.news.recv_timeout(until.saturating_duration_since(Instant::now())) {
        match news {
            News::Up => return Ok(()),
            News::Down(why) => cause = why,
            News::Message { .. } => {}
        }
    }
    bail!("--broker: {cause}")
}

struct Fleet {
    hubs: Vec<Hub>,
    incoming: Receiver<Incoming>,
    listener: Line,
    run: String,
    ids: Vec<String>,
    reconnects: u64,
    /// When the first device was started.
    began: Instant,
}

impl Fleet {
    fn start(args: &Args, access: &Access, state: &std::path::Path, listener: Line) -> anyhow::Result<Self> {
        let run = token();
        let ids: Vec<_> = (0..args.devices).map(|number| format!("fleet-{run}-{number:05}")).collect();
        let (tell, incoming) = sync_channel(64 * 1024);
        let bar = progress::bar(u64::from(args.devices), "starting");
        let began = Instant::now();
        let mut fleet = Self { hubs: Vec::new(), incoming, listener, run, ids, reconnects: 0, began };
        for id in &fleet.ids {
            bar.inc(1);
            match Hub::start(options(id, access, state), tell.clone()).context("a device") {
                Ok(hub) => fleet.hubs.push(hub),
                // Those before it may have left something at the broker already.
                Err(error) => {
                    bar.finish_and_clear();
                    fleet.leave();
                    return Err(error);
                }
            }
        }
        bar.finish_and_clear();
        Ok(fleet)
    }

    fn measure(&mut self, args: &Args, over: &AtomicBool) -> anyhow::Result<Figures> {
        let wait = Duration::from_secs_f64(args.wait_s);
        let connected_s = self.connect(wait, over)?;
        let total = args.devices * args.alerts;
        let mut ledger = Ledger::new(args.devices, args.alerts);
        let every = Duration::from_secs_f64(args.every_s);
        let bar = progress::bar(u64::from(total), "alerts heard");
        let (began, mut raised) = (Instant::now(), 0);
        let (mut rss_mib, mut threads) = own_size()?;
        let mut waited_since: Option<Instant> = None;
        loop {
            // Alert k of device d is due at k * every, and d's share of it later.
            while raised < total && !over.load(Relaxed) {
                let (round, device) = (raised / args.devices, raised % args.devices);
                let due = every.mul_f64(f64::from(round) + f64::from(device) / f64::from(args.devices));
                if began.elapsed() < due {
                    break;
                }
                self.hubs[device as usize].alert(self.event(device, round));
                ledger.raised(device, round, Instant::now());
                raised += 1;
            }
            if raised == total || over.load(Relaxed) {
                let since = *waited_since.get_or_insert_with(Instant::now);
                let left: usize = self.hubs.iter().map(Hub::outbox_len).sum();
                if left == 0 && ledger.heard() == raised as usize || since.elapsed() >= wait || over.load(Relaxed) {
                    break;
                }
            }
            self.listen(&mut ledger, Duration::from_millis(2), &bar);
            self.count_reconnects();
            if raised % 256 == 0 {
                let (rss, count) = own_size()?;
                (rss_mib, threads) = (rss_mib.max(rss), threads.max(count));
            }
        }
        bar.finish_and_clear();
        let elapsed_s = began.elapsed().as_secs_f64();
        Ok(Figures {
            devices: args.devices,
            alerts: raised as usize,
            heard: ledger.heard(),
            lost: raised as usize - ledger.heard(),
            doubled: ledger.doubled(),
            unacknowledged: self.hubs.iter().map(Hub::outbox_len).sum(),
            connected_s,
            reconnects: self.reconnects,
            alerts_per_s: f64::from(raised) / elapsed_s,
            latency_ms: ledger.latency_ms(),
            rss_mib,
            threads,
        })
    }

    /// Until every device is there; seconds from the first one's start. They are waited for from the last one's on.
    fn connect(&mut self, wait: Duration, over: &AtomicBool) -> anyhow::Result<f64> {
        let began = Instant::now();
        let bar = progress::bar(self.hubs.len() as u64, "connected");
        loop {
            let there = self.hubs.iter().filter(|hub| hub.connected()).count();
            bar.set_position(there as u64);
            if there == self.hubs.len() {
                bar.finish_and_clear();
                // What was told until now is the first connection of each.
                self.incoming.try_iter().for_each(drop);
                return Ok(self.began.elapsed().as_secs_f64());
            }
            if began.elapsed() >= wait || over.load(Relaxed) {
                let cause = self.incoming.try_iter().find_map(|incoming| match incoming {
                    Incoming::Disconnected { cause } => Some(cause),
                    _ => None,
                });
                let count = self.hubs.len();
                bail!("{there} of {count} devices connected: {}", cause.unwrap_or_else(|| "no cause was told".into()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn event(&self, device: u32, round: u32) -> Event {
        let id = format!("{}-{device}-{round}", self.run);
        let mut event = Event::new(EventType::ScreamStart, id, jiff::Timestamp::now().to_string(), true);
        (event.score, event.label) = (Some(0.95), Some("scream".into()));
        event.level_dbfs = Some(-20.5);
        event
    }

    fn listen(&self, ledger: &mut Ledger, wait: Duration, bar: &ProgressBar) {
        let mut news = self.listener.news.recv_timeout(wait).ok();
        while let Some(heard) = news {
            if let News::Message { payload, .. } = heard
                && let Some((device, round)) = alert_number(&self.run, &payload)
            {
                ledger.heard_one(device, round, Instant::now());
            }
            news = self.listener.news.try_recv().ok();
        }
        bar.set_position(ledger.heard() as u64);
        bar.set_message(ledger.line());
    }

    fn count_reconnects(&mut self) {
        let connected = |incoming: &Incoming| *incoming == Incoming::Connected;
        self.reconnects += self.incoming.try_iter().filter(connected).count() as u64;
    }

    /// Says goodbye, and takes away what the broker has kept.
    fn leave(self) {
        let Self { hubs, listener, ids, incoming, .. } = self;
        drop(incoming);
        hubs.into_par_iter().for_each(|hub| {
            let _left = hub.stop(Duration::from_secs(1), || false);
        });
        let until = Instant::now() + LISTENER;
        for id in &ids {
            let topics = Topics::new(id);
            listener.publish(&topics.discovery(), b"", true);
            for leaf in RETAINED {
                // A full queue empties while one waits, unless the broker is gone.
                while !listener.publish(&topics.full(leaf), b"", true) && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        listener.publish(&ready_topic(), b"done", false);
        while let Ok(news) = listener.news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if matches!(news, News::Message { topic, .. } if topic == ready_topic()) {
                return;
            }
        }
        tell!("fleet: the broker did not confirm that what it keeps of fleet-* was taken away");
    }
}

/// Device and round of one of our alerts.
fn alert_number(run: &str, payload: &[u8]) -> Option<(u32, u32)> {
    let event: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let (device, round) = event["id"].as_str()?.strip_prefix(run)?.strip_prefix('-')?.split_once('-')?;
    Some((device.parse().ok()?, round.parse().ok()?))
}

fn options(id: &str, access: &Access, state: &std::path::Path) -> Options {
    let mut options = Options::new(id, "Fleet", &access.host, state.join(id));
    options.port = access.port;
    options.username.clone_from(&access.username);
    options.access.password = access.secret();
    options.access.tls.clone_from(&access.tls);
    options.device.sw_version = env!("CARGO_PKG_VERSION").into();
    options.clock_set = true;
    options.states = vec![
        State::AudioOnline(true),
        State::Scream(false),
        State::Alarm(false),
        State::Siren(false),
        State::Armed(true),
        State::Threshold(0.8),
        State::Cooldown(30.0),
        State::AudioFault(false),
        State::Started(jiff::Timestamp::now().to_string()),
    ];
    options
}

/// Resident memory, MiB, and threads of this program.
fn own_size() -> anyhow::Result<(f64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let figure = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    Ok((figure("VmRSS").unwrap_or(0) as f64 / 1024.0, figure("Threads").unwrap_or(0)))
}

fn say(figures: &Figures) {
    let Figures { devices, alerts, lost, doubled, unacknowledged, latency_ms: ms, .. } = figures;
    say!("{devices} devices connected in {:.1} s, {} reconnects", figures.connected_s, figures.reconnects);
    say!(
        "{alerts} alerts, {:.1} a second: {lost} lost, {doubled} doubled, {unacknowledged} not acknowledged",
        figures.alerts_per_s
    );
    say!("alert to listener: p50 {:.1} ms, p95 {:.1}, p99 {:.1}, largest {:.1}", ms.p50, ms.p95, ms.p99, ms.max);
    say!("this program: {:.0} MiB, {} threads", figures.rss_mib, figures.threads);
}
