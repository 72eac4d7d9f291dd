//! A real mosquitto on a port of its own, and somebody who listens.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far beyond what a slow machine needs; only there so that a broken test ends.
const LIMIT: Duration = Duration::from_secs(60);

/// mosquitto, gone when dropped.
pub struct Broker {
    child: Child,
    _dir: TempDir,
    /// On loopback.
    pub port: u16,
}

impl Broker {
    /// None where mosquitto is not installed; in CI that is a failure.
    pub fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("mosquitto.conf");
        // As root mosquitto would become a user who cannot read a temporary folder.
        std::fs::write(&config, format!("user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n")).unwrap();
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let started = Command::new("mosquitto").env("PATH", path).arg("-c").arg(config).stderr(Stdio::null()).spawn();
        let Ok(child) = started else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has no mosquitto");
            eprintln!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
            return None;
        };
        let broker = Self { child, _dir: dir, port };
        let until = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
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

    /// Publishes with QoS 1.
    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-m", payload, "-q", "1"]);
        if retain {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
