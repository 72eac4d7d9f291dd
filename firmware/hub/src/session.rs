//! The hub's thread: outbox, link, states and commands in one loop that never waits for one of them alone.
//!
//! ```text
//!            +--------- back-off, cut short by a fresh alarm ----------+
//!            v                                                         |
//!         Waiting --time--> Connecting --CONNACK--> Subscribing --SUBACK--> Up
//!            ^                   |                       |                  |
//!            +------ lost: everything is offered again --+------------------+
//! ```
//! Order on a new connection: subscribe (and its SUBACK: the client may send what comes after it first), discovery,
//! states, `status` online, then the outbox from its oldest on. Nothing of a dead link is kept but what the outbox and
//! the states hold.

pub mod delay;
mod deliver;
pub mod dial;
mod intake;
pub mod link;
mod oversized;
pub mod pace;
pub mod states;
pub mod tls;
mod up;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::Rng;
use rand::rngs::SmallRng;
use rumqttc::tokio_rustls::rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};

use crate::Incoming;
use crate::alert::{CommandResult, Live, Telemetry, with_delay};
use crate::command::Gate;
use crate::limits::{
    ACK_WAIT, ALARM_BACK_OFF_MAX, ALARM_NEWS, ALERTS_IN_FLIGHT_MAX, BACK_OFF_MIN, BEAT, BIRTH_DELAY_MS, DISK_WAIT,
    HURRY, OTHERS_IN_FLIGHT_MAX, PAYLOAD_BYTES_READ_MAX, SUBSCRIBE_WAIT,
};
use crate::mailbox::Mailbox;
use crate::options::{Access, Options};
use crate::outbox::disk::Folder;
use crate::outbox::patient::Patient;
use crate::outbox::{Bounds, Outbox};
use crate::topics::{self, Topics};
use delay::{Moment, delayed_s, holds_since, uptime_ms};
use deliver::Deliveries;
use dial::Dialer;
use link::{Link, LinkEvent, Message, Ticket};
use oversized::Oversized;
use pace::{BackOff, Pace, Words};
use states::States;
use up::Up;

/// The session's runtime: everything on one thread, names resolved beside it.
pub fn runtime() -> io::Result<Runtime> {
    // Two blocked look-ups at most: a third waits, and its attempt ends by its own time.
    Builder::new_current_thread().enable_all().max_blocking_threads(2).build()
}

/// The thread's body; `opened` hears when the outbox is read.
pub fn run(
    runtime: Runtime,
    options: Options,
    tls: Option<Arc<ClientConfig>>,
    mailbox: Arc<Mailbox>,
    incoming: SyncSender<Incoming>,
    opened: SyncSender<()>,
) {
    let mut session = Session::new(options, tls, mailbox, incoming);
    session.account(0);
    // The caller may have stopped waiting.
    let _ = opened.try_send(());
    runtime.block_on(session.main());
    // A look-up may hang in the C library for half a minute.
    runtime.shutdown_background();
}

enum Phase {
    Waiting { until: Instant },
    Connecting { link: Link },
    Subscribing { link: Link, until: Instant },
    Up(Up),
}

#[derive(PartialEq)]
enum Path {
    Unknown,
    Up,
    Down,
}

struct Session {
    options: Options,
    topics: Topics,
    tls: Option<Arc<ClientConfig>>,
    dialer: Arc<Dialer>,
    mailbox: Arc<Mailbox>,
    deliveries: Deliveries,
    outbox: Outbox<Patient<Folder>>,
    /// What of the outbox the mailbox's figures already count.
    counted: (usize, u64),
    states: States,
    telemetry: Option<Telemetry>,
    live: Option<Live>,
    results: VecDeque<CommandResult>,
    gate: Gate,
    refusals: Words,
    path: Path,
    phase: Phase,
    pace: Pace,
    back_off: BackOff,
    hurried: Option<Instant>,
    oversized: Oversized,
    /// Why the path is of little use, once commands that were asked for again are known to come.
    deaf_then: Option<String>,
    random: SmallRng,
    stop: Option<Instant>,
}

impl Session {
    fn new(
        options: Options,
        tls: Option<Arc<ClientConfig>>,
        mailbox: Arc<Mailbox>,
        incoming: SyncSender<Incoming>,
    ) -> Self {
        let now = Instant::now();
        let disk = Patient::new(Folder::new(options.state_dir.join("outbox")), DISK_WAIT);
        let mut states = States::default();
        let wall = options.clock_set.then(Timestamp::now);
        for state in &options.states {
            states.set(state.clone(), holds_since(state, wall, now));
        }
        Self {
            topics: Topics::new(&options.device_id),
            dialer: Arc::new(Dialer::new(&options.host, options.port)),
            deliveries: Deliveries::new(incoming),
            outbox: Outbox::open(disk, Bounds::default(), now),
            counted: (0, 0),
            states,
            telemetry: None,
            live: None,
            results: VecDeque::new(),
            gate: Gate::remembering(&options.command_ids),
            refusals: Words::default(),
            path: Path::Unknown,
            phase: Phase::Waiting { until: now },
            pace: Pace::new(now),
            back_off: BackOff::new(),
            hurried: None,
            oversized: Oversized::default(),
            deaf_then: None,
            random: pace::random(),
            stop: None,
            options,
            tls,
            mailbox,
        }
    }

    async fn main(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        loop {
            mailbox.beats.fetch_add(1, Relaxed);
            let before = Instant::now();
            self.at_disk(|session| session.take_mail(before));
            let now = Instant::now();
            // Meanwhile nobody has read what the broker acknowledged.
            if let Phase::Up(up) = &mut self.phase {
                up.heard += now - before;
            }
            self.timers(now);
            self.send(now);
            self.deliveries.retry();
            if mailbox.abandoned.load(Relaxed) {
                return;
            }
            if self.is_finished(now) {
                break;
            }
            let wake_at = tokio::time::Instant::from_std(self.wake_at(now));
            tokio::select! {
                () = mailbox.wake.notified() => {}
                event = next_event(&mut self.phase) => self.on_event(event, Instant::now()),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.goodbye().await;
        self.outbox.close(Instant::now());
    }

    /// Does what may wait for the disk, and says so to whoever watches.
    fn at_disk<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let mailbox = Arc::clone(&self.mailbox);
        mailbox.at_disk.store(true, Relaxed);
        let done = work(self);
        mailbox.at_disk.store(false, Relaxed);
        done
    }

    /// A fresh alarm, or the end, does not wait for the back-off.
    fn hurry(&mut self, now: Instant) {
        if let Phase::Waiting { until } = &mut self.phase
            && *until > now
            && self.hurried.is_none_or(|then| now.duration_since(then) >= HURRY)
        {
            *until = now;
            self.hurried = Some(now);
        }
    }

    fn timers(&mut self, now: Instant) {
        if let Some(unsaid) = self.refusals.over(now) {
            log::warn!("hub: {unsaid} more command(s) refused or ignored within a minute");
        }
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => match self.at_disk(Self::renew_access) {
                Ok(()) => {
                    let options = link::mqtt_options(&self.options, self.tls.as_ref(), &self.dialer);
                    self.phase = Phase::Connecting { link: Link::open(options) };
                }
                Err(cause) => self.lose(&cause, now),
            },
            Phase::Subscribing { until, .. } if *until <= now => self.lose("no SUBACK in time", now),
            Phase::Up(up) if up.in_flight() > 0 && now.duration_since(up.heard) >= ACK_WAIT => {
                self.lose(&format!("nothing acknowledged for {} s", ACK_WAIT.as_secs()), now);
            }
            Phase::Up(up) if self.oversized.asks_again(now) && up.link.subscribe(&self.topics).is_err() => {
                self.lose_full(now);
            }
            Phase::Up(_) if self.oversized.is_over(now) => {
                let deaf = self.deaf_then.take();
                self.tell_path(deaf);
            }
            Phase::Up(up) if up.birth.is_some_and(|at| at <= now) => {
                up.birth = None;
                self.introduce(now);
            }
            _ => {}
        }
    }

    /// Password and certificates as they are now; as they were where they cannot be had now and could before: a disk that
    /// dies, a file that is being written, must not cost the hub.
    fn renew_access(&mut self) -> Result<(), String> {
        let Some(source) = &self.options.access_source else { return Ok(()) };
        let renewed = source.read().and_then(|access| {
            // The same material keeps its configuration, and with it what the broker gave for a shorter handshake.
            let tls = match access.tls == self.options.access.tls {
                true => self.tls.clone(),
                false => access.tls.as_ref().map(tls::config).transpose()?,
            };
            self.options.check_access(&access).map_err(|error| error.to_string())?;
            Ok((access, tls))
        });
        match renewed {
            Ok((access, tls)) => (self.options.access, self.tls) = (access, tls),
            Err(cause) if self.options.access != Access::default() => {
                log::warn!("hub: {cause}; goes on with what it had")
            }
            Err(cause) => return Err(cause),
        }
        Ok(())
    }

    fn on_event(&mut self, event: LinkEvent, now: Instant) {
        match event {
            LinkEvent::Open if self.oversized.is_deaf(now) => self.do_without_commands(now),
            LinkEvent::Open => self.subscribe(now),
            LinkEvent::Subscribed { refused } => {
                if !refused.is_empty() {
                    log::error!("hub: the broker does not let this device read {} (access rights)", refused.join(", "));
                }
                let deaf: Vec<&str> =
                    refused.into_iter().filter(|topic| topics::ENDS_AN_ALARM.contains(topic)).collect();
                let deaf = (!deaf.is_empty()).then(|| {
                    format!("the broker does not let this device read {}: the hub cannot end an alarm", deaf.join(", "))
                });
                match self.phase {
                    // Asked for again: it is well once the connection has outlived what the broker sends then.
                    Phase::Up(_) => self.deaf_then = deaf,
                    _ => self.come_up(now, deaf),
                }
            }
            LinkEvent::Message(Message { topic, payload, retain }) => {
                let payload = payload.as_deref().map_err(|size| *size);
                let home_assistant_starts = topic == topics::HOME_ASSISTANT_STATUS && payload == Ok(b"online");
                if let (true, false, Phase::Up(up)) = (home_assistant_starts, retain, &mut self.phase) {
                    let delay = Duration::from_millis(self.random.random_range(BIRTH_DELAY_MS));
                    up.birth.get_or_insert(now + delay);
                }
                if let Some(leaf) = self.topics.leaf(&topic) {
                    self.command(leaf, payload, retain, now);
                }
            }
            LinkEvent::Acked(ticket) => {
                if let Phase::Up(up) = &mut self.phase {
                    match ticket {
                        Ticket::Alert(_) => up.alerts -= 1,
                        Ticket::Other => up.others -= 1,
                    }
                }
                if let Ticket::Alert(key) = ticket {
                    self.at_disk(|session| session.outbox.ack(key, now));
                    self.account(0);
                }
                // After the disk has had its time, in which no other could be read.
                if let Phase::Up(up) = &mut self.phase {
                    up.heard = Instant::now();
                }
            }
            LinkEvent::Closed { cause, oversized } => {
                if oversized {
                    // Whoever sent it gets no answer: its topic was not read.
                    self.mailbox.refused.fetch_add(1, Relaxed);
                    let lasted = match &self.phase {
                        Phase::Up(up) => now.duration_since(up.since),
                        _ => Duration::ZERO,
                    };
                    self.oversized.ended(lasted, now);
                }
                self.lose(&cause, now);
            }
        }
    }

    fn subscribe(&mut self, now: Instant) {
        let Phase::Connecting { link } = std::mem::replace(&mut self.phase, Phase::Waiting { until: now }) else {
            return;
        };
        let subscribed = link.subscribe(&self.topics);
        self.phase = Phase::Subscribing { link, until: now + SUBSCRIBE_WAIT };
        if subscribed.is_err() {
            self.lose_full(now);
        }
    }

    /// Up without a subscription: what the broker keeps on one of its topics cannot be read, and ends the connection.
    fn do_without_commands(&mut self, now: Instant) {
        let Phase::Connecting { link } = std::mem::replace(&mut self.phase, Phase::Waiting { until: now }) else {
            return;
        };
        self.phase = Phase::Subscribing { link, until: now + SUBSCRIBE_WAIT };
        let mib = PAYLOAD_BYTES_READ_MAX / (1024 * 1024);
        self.come_up(now, Some(format!(
            "the broker keeps a message of over {mib} MiB on a topic of commands: none is read, the hub cannot end an alarm"
        )));
    }

    fn come_up(&mut self, now: Instant, deaf: Option<String>) {
        let Phase::Subscribing { link, .. } = std::mem::replace(&mut self.phase, Phase::Waiting { until: now }) else {
            return;
        };
        self.phase = Phase::Up(Up { link, since: now, alerts: 0, others: 0, heard: now, birth: None });
        self.outbox.offer_all();
        self.introduce(now);
        if let Phase::Up(_) = self.phase {
            self.path = Path::Up;
            self.mailbox.connected.store(true, Relaxed);
            self.tell_path(deaf);
        }
    }

    /// That the broker is there; with a cause why it is of little use all the same.
    fn tell_path(&mut self, deaf: Option<String>) {
        self.deliveries.tell(match deaf {
            None => Incoming::Connected,
            Some(cause) => Incoming::Disconnected { cause },
        });
    }

    /// What waits, in the order of its importance: states, answers, alerts, telemetry.
    fn send(&mut self, now: Instant) {
        let Phase::Up(up) = &mut self.phase else {
            // Answers are for those who wait for them now.
            self.results.clear();
            (self.telemetry, self.live) = (None, None);
            return;
        };
        while up.others < OTHERS_IN_FLIGHT_MAX {
            let (leaf, payload, retain) = if let Some(message) = self.states.next(now) {
                (message.leaf, message.payload, true)
            } else if let Some(result) = self.results.pop_front() {
                (topics::COMMAND_RESULT, serde_json::to_vec(&result).unwrap_or_default(), false)
            } else {
                break;
            };
            if up.publish(self.topics.full(leaf), payload, retain, now).is_err() {
                return self.lose_full(now);
            }
        }
        while up.alerts < ALERTS_IN_FLIGHT_MAX && self.outbox.waiting() > 0 && self.pace.take(now) {
            let Some(offer) = self.outbox.offer(now) else { break };
            let moment = Moment {
                now,
                wall: self.mailbox.clock_set.load(Relaxed).then(Timestamp::now),
                boot_id: self.options.boot_id.as_deref(),
                uptime_ms: offer.recovered.then(uptime_ms).flatten(),
            };
            let payload = with_delay(offer.payload, delayed_s(&offer, &moment));
            let key = offer.key;
            if up.publish_alert(self.topics.full(topics::EVENT), payload, key, now).is_err() {
                self.outbox.take_back(key);
                break;
            }
        }
        if let Some(mut telemetry) = self.telemetry.take() {
            telemetry.outbox = self.mailbox.pending.load(Relaxed) as u64;
            telemetry.refused = self.mailbox.refused.load(Relaxed);
            telemetry.alerts_lost = self.mailbox.dropped.load(Relaxed);
            let payload = serde_json::to_vec(&telemetry).unwrap_or_default();
            if up.link.publish_once(self.topics.full(topics::TELEMETRY), payload).is_err() {
                log::debug!("hub: telemetry left out, the client's queue is full");
            }
        }
        if let Some(live) = self.live.take() {
            // Without room it is left out: the next window is newer.
            let payload = serde_json::to_vec(&live).unwrap_or_default();
            let _ = up.link.publish_once(self.topics.full(topics::LIVE), payload);
        }
    }

    /// The client takes nothing more. Where it has come to its end, what ended it stands behind what was not yet read of the connection.
    fn lose_full(&mut self, now: Instant) {
        let closed = match &mut self.phase {
            Phase::Waiting { .. } => None,
            Phase::Connecting { link } | Phase::Subscribing { link, .. } => link.closed(),
            Phase::Up(up) => up.link.closed(),
        };
        match closed {
            Some(closed) => self.on_event(closed, now),
            None => self.lose("the client's queue is full", now),
        }
    }

    fn lose(&mut self, cause: &str, now: Instant) {
        self.oversized.forget_asking();
        self.deaf_then = None;
        if let Phase::Up(up) = &self.phase {
            self.back_off.session_lasted(now.duration_since(up.since));
        }
        let mut wait = self.back_off.next(&mut self.random);
        if self.outbox.holds_alarm(ALARM_NEWS, now) {
            wait = wait.min(ALARM_BACK_OFF_MAX);
        }
        if self.stop.is_some() {
            wait = wait.min(BACK_OFF_MIN);
        }
        log::warn!(
            "hub: {}:{}: {cause}; next attempt in {:.1} s",
            self.options.host,
            self.options.port,
            wait.as_secs_f64()
        );
        self.phase = Phase::Waiting { until: now + wait };
        self.outbox.offer_all();
        self.mailbox.connected.store(false, Relaxed);
        if self.path != Path::Down {
            self.path = Path::Down;
            self.deliveries.tell(Incoming::Disconnected { cause: cause.to_owned() });
        }
    }

    fn is_finished(&self, now: Instant) -> bool {
        let Some(deadline) = self.stop else { return false };
        let settled = match &self.phase {
            Phase::Up(up) => up.others == 0 && !self.states.any_unsent() && self.results.is_empty(),
            // A program that ends before its first attempt has said nothing yet.
            _ => self.path != Path::Unknown,
        };
        now >= deadline || (self.outbox.is_empty() && settled)
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let mut at = now + BEAT;
        let mut sooner = |candidate: Option<Instant>| at = candidate.map_or(at, |candidate| at.min(candidate));
        sooner(self.stop);
        sooner(self.outbox.retry_at());
        sooner(self.deliveries.retry_at(now));
        match &self.phase {
            Phase::Waiting { until } | Phase::Subscribing { until, .. } => sooner(Some(*until)),
            Phase::Connecting { .. } => {}
            Phase::Up(up) => {
                sooner(up.birth);
                sooner(self.oversized.look_at());
                sooner((up.in_flight() > 0).then(|| up.heard + ACK_WAIT));
                let may_send = self.outbox.waiting() > 0 && up.alerts < ALERTS_IN_FLIGHT_MAX;
                sooner(may_send.then(|| self.pace.next()));
            }
        }
        at
    }
}

async fn next_event(phase: &mut Phase) -> LinkEvent {
    match phase {
        Phase::Waiting { .. } => std::future::pending().await,
        Phase::Connecting { link } | Phase::Subscribing { link, .. } => link.event().await,
        Phase::Up(up) => up.link.event().await,
    }
}
