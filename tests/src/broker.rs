//! A real mosquitto on a port of its own, and somebody who listens.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::LIMIT;

/// The topic on which a subscriber hears that it is subscribed.
pub const READY: &str = "ready/set";

/// mosquitto, gone when dropped.
pub struct Broker {
    child: Child,
    dir: TempDir,
    /// On loopback.
    pub port: u16,
    /// How the test itself logs in: `-u NAME -P PASSWORD`.
    pub login: Vec<String>,
}

impl Broker {
    /// None where mosquitto is not installed; in CI that is a failure.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| "allow_anonymous true\n".into())
    }

    /// The same with a configuration of one's own behind the listener; `more` is told the broker's folder.
    pub fn start_with(more: impl FnOnce(&Path) -> String) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = dir.path().join("mosquitto.conf");
        // As root mosquitto would become a user who cannot read a temporary folder.
        let text = format!("user root\nlistener {port} 127.0.0.1\n{}", more(dir.path()));
        std::fs::write(&config, text).unwrap();
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let started = Command::new("mosquitto").env("PATH", path).arg("-c").arg(config).stderr(Stdio::null()).spawn();
        let Ok(child) = started else {
            crate::skip("mosquitto is not installed (apt-get install mosquitto)");
            return None;
        };
        let broker = Self { child, dir, port, login: Vec::new() };
        let until = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Listens to everything of device `id` until `last` says so; `(topic, payload)` in order. `meanwhile` runs once the
    /// listener is subscribed.
    pub fn listen(
        &self,
        id: &str,
        meanwhile: impl FnOnce(),
        last: impl Fn(&str, &str) -> bool,
    ) -> Vec<(String, String)> {
        let topic = format!("screamd/{id}/#");
        let limit = LIMIT.as_secs().to_string();
        let mut child = Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-t",
                &topic,
                "-t",
                "ready",
                "-q",
                "1",
                "-W",
                &limit,
            ])
            .args(["-F", "%t %p"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A retained message comes with the subscription: from then on nothing is missed.
        self.publish("ready", "yes", true);
        // Before it come what a device that runs already has retained.
        while lines.next().unwrap().unwrap() != "ready yes" {}
        meanwhile();
        let mut heard = Vec::new();
        for line in lines {
            let line = line.unwrap();
            let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
            let topic = topic.rsplit_once(&format!("{id}/")).map_or(topic, |(_, rest)| rest).to_string();
            let done = last(&topic, payload);
            heard.push((topic, payload.to_string()));
            if done {
                break;
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        heard
    }

    /// Somebody who listens to everything of device `id`, and to its discovery, from now on.
    pub fn ear(&self, id: &str) -> Ear {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-F", "%r %q %t %p"])
            .args(["-t", &format!("screamd/{id}/#"), "-t", "homeassistant/#"])
            .args(&self.login)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (prefix, shared) = (format!("screamd/{id}/"), Arc::clone(&heard));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut words = line.splitn(4, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (retained, qos, topic, payload) = (word() == "1", word() == "1", word(), word());
                let topic = topic.strip_prefix(&prefix).unwrap_or(topic).to_string();
                shared.0.lock().unwrap().push(Heard {
                    topic,
                    payload: payload.to_string(),
                    retained,
                    acknowledged: qos,
                });
                shared.1.notify_all();
            }
        });
        let ear = Ear { child, heard };
        // A retained message comes with the subscription: from then on nothing is missed.
        self.publish(&format!("screamd/{id}/{READY}"), "yes", true);
        ear.wait("its own subscription", |all| all.iter().any(|heard| heard.topic == READY).then_some(()));
        ear
    }

    /// Publishes with QoS 1.
    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-m", payload, "-q", "1"]);
        command.args(&self.login);
        if retain {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success());
    }

    /// Publishes each line with QoS 1, as fast as it goes.
    pub fn publish_lines(&self, topic: &str, lines: &str) {
        let port = self.port.to_string();
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-q", "1", "-l"])
            .args(&self.login)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Below the device's root.
    pub topic: String,
    /// As text.
    pub payload: String,
    /// It was kept by the broker from before the subscription.
    pub retained: bool,
    /// QoS 1.
    pub acknowledged: bool,
}

impl Heard {
    /// The payload as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|error| panic!("{error}: {} {}", self.topic, self.payload))
    }
}

/// A subscriber that keeps all it hears; gone when dropped.
pub struct Ear {
    child: Child,
    heard: Arc<(Mutex<Vec<Heard>>, Condvar)>,
}

impl Ear {
    /// Until `find` finds something in all that was heard.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[Heard]) -> Option<T>) -> T {
        let until = Instant::now() + LIMIT * 2;
        let mut heard = self.heard.0.lock().unwrap();
        loop {
            if let Some(found) = find(&heard) {
                return found;
            }
            if Instant::now() > until {
                let lines: Vec<_> = heard.iter().map(|heard| format!("{} {}", heard.topic, heard.payload)).collect();
                panic!("waited for {what}; heard:\n{}", lines.join("\n"));
            }
            heard = self.heard.1.wait_timeout(heard, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// Until `payload` comes on `topic`.
    #[track_caller]
    pub fn hears(&self, topic: &str, payload: &str) {
        self.wait(&format!("{topic} {payload}"), |all| {
            all.iter().any(|heard| heard.topic == topic && heard.payload == payload).then_some(())
        });
    }

    /// All so far.
    pub fn all(&self) -> Vec<Heard> {
        self.heard.0.lock().unwrap().clone()
    }

    /// All so far on one topic.
    pub fn on(&self, topic: &str) -> Vec<String> {
        self.all().into_iter().filter(|heard| heard.topic == topic).map(|heard| heard.payload).collect()
    }

    /// Forgets all so far.
    pub fn forget(&self) {
        self.heard.0.lock().unwrap().clear();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
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
