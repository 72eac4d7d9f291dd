//! `host-tools monitor` in a real terminal (tmux), and `host-tools fleet`, against a real mosquitto.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::broker::Broker;
use system_tests::device::Device;
use system_tests::sound::{hiss, silence};
use system_tests::{host_tools, program, skip};

/// A terminal with a program in it; gone when dropped.
struct Terminal {
    name: String,
}

impl Terminal {
    /// None where tmux is not installed; in CI that is a failure.
    fn start(command: &str) -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("screamd-test-{}-{}", std::process::id(), STARTED.fetch_add(1, Relaxed));
        let run = Command::new("tmux")
            .args(["-L", &name, "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", command])
            .status();
        if run.is_err() {
            skip("tmux is not installed (apt-get install tmux)");
            return None;
        }
        assert!(run.unwrap().success());
        Some(Self { name })
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.name]).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn wait(&self, part: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.tmux(&["capture-pane", "-p"]);
            if shown.contains(part) {
                return;
            }
            assert!(Instant::now() < until, "waited for {part:?}; shown:\n{shown}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn what_a_device_hears_is_seen_and_silenced_in_a_terminal() {
    let Some(broker) = Broker::start() else { return };
    let command = format!(
        "{} monitor --broker 127.0.0.1:{}; echo it is over; sleep 60",
        program("host-tools").display(),
        broker.port
    );
    let Some(terminal) = Terminal::start(&command) else { return };
    terminal.wait("connected");
    terminal.wait("waiting for a device");
    let device =
        Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[decision]\nhold_s = 20", broker.port));
    let ear = broker.ear("test-1");
    let sound = [silence(16_000, 8.0), hiss(16_000, 1.5, 1), silence(16_000, 110.0)].concat();
    let _running = device.listens_to(&sound);
    terminal.wait("Hall (test-1)");
    terminal.wait("score of each window: 0.");
    terminal.wait("SCREAM");
    terminal.wait("scream_start");
    terminal.wait("siren ON");
    terminal.press("s");
    ear.hears("alarm/state", "OFF");
    terminal.wait("silence/press obeyed");
    terminal.wait("siren off");
    terminal.press("t");
    terminal.wait("test_siren/press obeyed");
    ear.wait("a test", |all| {
        all.iter().any(|heard| heard.topic == "event" && heard.payload.contains("\"test\"")).then_some(())
    });
    // The broker goes, and the device with it as far as anybody can see.
    drop(broker);
    terminal.wait("no broker: ");
    terminal.press("t");
    terminal.wait("not sent: no broker");
    terminal.press("q");
    terminal.wait("it is over");
}

/// The window is closed, or the connection to it is cut: nothing goes on at a keyboard's end, at full speed, for ever.
#[test]
fn a_terminal_that_goes_takes_the_monitor_with_it() {
    let Some(broker) = Broker::start() else { return };
    let at = format!("127.0.0.1:{}", broker.port);
    // The shell keeps the signal of the hangup from it.
    let command = format!("trap '' HUP; {} monitor --broker {at}", program("host-tools").display());
    let Some(terminal) = Terminal::start(&command) else { return };
    terminal.wait("connected");
    let runs = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
        lines.filter(|line| line.contains("monitor\0") && line.contains(&at)).count()
    };
    assert!(runs() > 0);
    drop(terminal);
    let until = Instant::now() + Duration::from_secs(30);
    while runs() > 0 {
        assert!(Instant::now() < until, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A log, a script: what it would draw is said, a line a message, and control characters of whoever may publish do nothing.
#[test]
fn without_a_terminal_each_message_is_a_line() {
    let Some(broker) = Broker::start() else { return };
    let at = format!("127.0.0.1:{}", broker.port);
    let mut monitor = Command::new(program("host-tools"))
        .args(["monitor", "--broker", &at])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines().map(Result::unwrap);
    broker.publish("screamd/hall-1/status", "on\u{1b}line", true);
    assert_eq!(lines.next().unwrap(), "screamd/hall-1/status on line");
    broker.publish("screamd/hall-1/scream/state", "ON", false);
    assert_eq!(lines.next().unwrap(), "screamd/hall-1/scream/state ON");
    system_tests::signal(monitor.id(), "-TERM");
    assert!(monitor.wait().unwrap().success());
}

#[test]
fn a_fleet_loses_nothing_and_leaves_nothing() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("fleet.json");
    let at = format!("127.0.0.1:{}", broker.port);
    let args = [
        "fleet",
        "--devices",
        "30",
        "--alerts",
        "4",
        "--every-s",
        "1",
        "--broker",
        &at,
        "--json",
        json.to_str().unwrap(),
    ];
    let output = host_tools(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for (key, expect) in [("devices", 30), ("alerts", 120), ("heard", 120), ("lost", 0), ("unacknowledged", 0)] {
        assert_eq!(figures[key], expect, "{key} in {figures}");
    }
    assert!(figures["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{figures}");
    let kept = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "#", "-W", "1", "-v"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "what devices retain is taken away again");

    let nobody = host_tools(&["fleet", "--devices", "2", "--broker", "127.0.0.1:9"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("--broker"), "{nobody:?}");
}
