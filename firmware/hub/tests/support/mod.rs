//! A real mosquitto, somebody who listens, a gate in between. Every wait is for a condition; the limit is only there so
//! that a broken test ends.

// Each test file takes what it needs.
#![allow(dead_code)]

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use hub::{Hub, Incoming, Options};
use rumqttc::{Client, Event, MqttOptions, Packet, PublishOptions, QoS};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Far beyond what a slow machine needs.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where mosquitto is, or a word that the test is left out. In CI its absence is a failure.
pub fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join("mosquitto"))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has no mosquitto");
        eprintln!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
    }
    found
}

pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The kernel may give one twice, and a broker listens on several.
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// A broker of our own, without persistence, on loopback.
pub struct Broker {
    program: PathBuf,
    child: Option<Child>,
    pub port: u16,
    pub dir: TempDir,
}

impl Broker {
    pub fn start() -> Option<Self> {
        Self::start_with("allow_anonymous true\n")
    }

    /// `more` is put into its configuration, behind the plain listener.
    pub fn start_with(more: &str) -> Option<Self> {
        let broker = Self::prepare(more)?;
        Some(broker.started())
    }

    /// Everything but the process.
    pub fn prepare(more: &str) -> Option<Self> {
        let program = mosquitto()?;
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        // As root mosquitto would become a user who cannot read a temporary folder.
        let text = format!("user root\npersistence false\nlistener {port} 127.0.0.1\n{more}");
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        Some(Self { program, child: None, port, dir })
    }

    pub fn started(mut self) -> Self {
        self.run();
        self
    }

    pub fn run(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("mosquitto ended with {status}: {}", self.log());
            }
            assert!(began.elapsed() < LIMIT, "mosquitto does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
}

impl Seen {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

#[derive(Default)]
struct Log {
    seen: Mutex<(Vec<Seen>, u64)>,
    news: Condvar,
}

/// Somebody who has subscribed to everything, and comes back after the broker does. QoS 0: the broker keeps no window for
/// it, so that what it has acknowledged to the device is on its way here.
pub struct Observer {
    client: Client,
    log: Arc<Log>,
    over: Arc<AtomicBool>,
}

impl Observer {
    pub fn new(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("observer-{port}"), ("127.0.0.1", port));
        options.set_keep_alive(30).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::builder(options).capacity(1000).build();
        let (log, over) = (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)));
        let observer = Self { client: client.clone(), log: Arc::clone(&log), over: Arc::clone(&over) };
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => client.subscribe("#", QoS::AtMostOnce).unwrap(),
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        log.seen.lock().unwrap().1 += 1;
                        log.news.notify_all();
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        log.seen.lock().unwrap().0.push(Seen {
                            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
                            payload: publish.payload.to_vec(),
                            retain: publish.retain,
                        });
                        log.news.notify_all();
                    }
                    Ok(_) => {}
                    Err(_) if over.load(SeqCst) => return,
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        observer.wait_subscribed(1);
        observer
    }

    /// Until it has subscribed for the `count`th time.
    pub fn wait_subscribed(&self, count: u64) {
        self.wait_inner(&format!("subscription {count}"), |_, subscriptions| (subscriptions >= count).then_some(()));
    }

    pub fn subscriptions(&self) -> u64 {
        self.log.seen.lock().unwrap().1
    }

    /// Until `find` finds something in all that was seen.
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[Seen]) -> Option<T>) -> T {
        self.wait_inner(what, |seen, _| find(seen))
    }

    fn wait_inner<T>(&self, what: &str, find: impl Fn(&[Seen], u64) -> Option<T>) -> T {
        let began = Instant::now();
        let mut seen = self.log.seen.lock().unwrap();
        loop {
            if let Some(found) = find(&seen.0, seen.1) {
                return found;
            }
            if began.elapsed() > LIMIT {
                let lines: Vec<_> = seen
                    .0
                    .iter()
                    .map(|seen| {
                        format!(
                            "{} {}",
                            seen.topic,
                            String::from_utf8_lossy(&seen.payload[..seen.payload.len().min(200)])
                        )
                    })
                    .collect();
                panic!("waited for {what}; seen:\n{}", lines.join("\n"));
            }
            seen = self.log.news.wait_timeout(seen, Duration::from_secs(1)).unwrap().0;
        }
    }

    pub fn wait_message(&self, leaf: &str, payload: &str) -> Seen {
        self.wait(&format!("{leaf} {payload}"), |all| {
            all.iter().find(|seen| seen.topic.ends_with(leaf) && seen.payload == payload.as_bytes()).cloned()
        })
    }

    pub fn all(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().0.clone()
    }

    pub fn forget(&self) {
        self.log.seen.lock().unwrap().0.clear();
    }

    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        self.client.publish(topic, payload.into(), options).unwrap();
    }
}

/// Ids of the events, and how many events there were.
pub fn event_ids(all: &[Seen]) -> (HashSet<String>, usize) {
    let events: Vec<_> = all.iter().filter(|seen| seen.topic.ends_with("/event")).collect();
    (events.iter().map(|seen| seen.json()["id"].as_str().unwrap().to_owned()).collect(), events.len())
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        let _ = self.client.try_disconnect_now();
    }
}

/// A hub under test with what it tells.
pub struct Device {
    pub hub: Option<Hub>,
    pub incoming: Receiver<Incoming>,
    pub options: Options,
    told: Vec<Incoming>,
}

impl Device {
    pub fn start(options: Options) -> Self {
        let (sender, incoming) = sync_channel(256);
        let hub = Hub::start(options.clone(), sender).unwrap();
        Self { hub: Some(hub), incoming, options, told: Vec::new() }
    }

    pub fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    pub fn wait<T>(&mut self, what: &str, find: impl Fn(&Incoming) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            match self.incoming.recv_timeout(Duration::from_secs(1)) {
                Ok(incoming) => {
                    self.told.push(incoming.clone());
                    if let Some(found) = find(&incoming) {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    assert!(began.elapsed() < LIMIT, "waited for {what}; told: {:?}", self.told);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the hub ended; waited for {what}; told: {:?}", self.told)
                }
            }
        }
    }

    pub fn wait_connected(&mut self) {
        self.wait("Connected", |incoming| (*incoming == Incoming::Connected).then_some(()));
    }

    pub fn wait_disconnected(&mut self) -> String {
        self.wait("Disconnected", |incoming| match incoming {
            Incoming::Disconnected { cause } => Some(cause.clone()),
            _ => None,
        })
    }

    /// Everything told so far and not yet waited over.
    pub fn told(&mut self) -> Vec<Incoming> {
        self.told.extend(self.incoming.try_iter());
        self.told.clone()
    }

    pub fn wait_empty_outbox(&self) {
        let began = Instant::now();
        while self.hub().outbox_len() > 0 {
            assert!(began.elapsed() < LIMIT, "{} alerts are left", self.hub().outbox_len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stop(&mut self, wait: Duration) -> usize {
        self.hub.take().unwrap().stop(wait, || false)
    }
}

/// TCP in between: shut, it drops every connection; open, it passes them on.
pub struct Gate {
    pub port: u16,
    open: Arc<AtomicBool>,
    swallows: Arc<AtomicBool>,
    bytes_per_s: Arc<AtomicU32>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    pub fn new(broker_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, streams) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (swallows, bytes_per_s) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let gate = Self {
            port,
            open: Arc::clone(&open),
            swallows: Arc::clone(&swallows),
            bytes_per_s: Arc::clone(&bytes_per_s),
            streams: Arc::clone(&streams),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !open.load(SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker_port)) else { continue };
                let mut streams = streams.lock().unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (swallows, bytes_per_s) = (Arc::clone(&swallows), Arc::clone(&bytes_per_s));
                    std::thread::spawn(move || pass(from, to, &swallows, &bytes_per_s));
                }
                streams.extend([client, server]);
            }
        });
        gate
    }

    /// Ends every connection and lets none through.
    pub fn shut(&self) {
        self.open.store(false, SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes everything and passes nothing on, as a dead route does; a connection never ends by that.
    pub fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, SeqCst);
    }

    /// Lets so much through in a second, each way; 0: all.
    pub fn slow(&self, bytes_per_s: u32) {
        self.bytes_per_s.store(bytes_per_s, SeqCst);
    }

    pub fn open(&self) {
        self.open.store(true, SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, swallows: &AtomicBool, bytes_per_s: &AtomicU32) {
    let mut bytes = [0; 4096];
    loop {
        let slow = bytes_per_s.load(SeqCst);
        // A slow link takes little at a time, so that the sender's own buffers fill.
        let room = if slow > 0 { 64 } else { bytes.len() };
        let Ok(count @ 1..) = from.read(&mut bytes[..room]) else { break };
        if slow > 0 {
            std::thread::sleep(Duration::from_secs_f64(count as f64 / f64::from(slow)));
        }
        if !swallows.load(SeqCst) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
