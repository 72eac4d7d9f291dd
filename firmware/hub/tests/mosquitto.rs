//! The hub against a real mosquitto: what arrives, in which order, and what survives.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hub::{
    Access, AccessSource, Command, CommandResult, Event, EventType, Incoming, Options, ScreamAttributes, State,
    Telemetry,
};
use rustix::process::Signal;
use support::{Broker, Device, Gate, Observer, event_ids};
use tempfile::TempDir;

fn options(id: &str, port: u16, dir: &TempDir) -> Options {
    let mut options = Options::new(id, "Hallway", "127.0.0.1", dir.path());
    options.port = port;
    options.device.sw_version = "1.0.0".into();
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
        State::Started("2026-01-02T03:04:05Z".into()),
    ];
    options
}

fn scream(id: &str) -> Event {
    let mut event = Event::new(EventType::ScreamStart, id, "2026-01-02T03:04:05Z", true);
    event.score = Some(0.9);
    event
}

fn stated(leaf: &str, id: &str) -> String {
    format!("screamd/{id}/{leaf}")
}

#[test]
fn an_alert_arrives_and_the_device_leaves_cleanly() {
    let Some(broker) = Broker::start() else { return };
    let (observer, dir) = (Observer::new(broker.port), tempfile::tempdir().unwrap());
    let mut device = Device::start(options("a", broker.port, &dir));
    device.wait_connected();
    let mut latencies_ms = Vec::new();
    for number in 0..50 {
        let (id, began) = (format!("alert-{number}"), Instant::now());
        device.hub().alert(scream(&id));
        let seen = observer.wait(&id, |all| {
            all.iter().find(|seen| seen.topic == "screamd/a/event" && seen.text().contains(&format!("{id}\""))).cloned()
        });
        latencies_ms.push(began.elapsed().as_secs_f64() * 1e3);
        let json = seen.json();
        assert_eq!(json["event_type"], "scream_start");
        assert_eq!(json["zone"], "Hallway");
        assert_eq!(json["score"].to_string(), "0.9");
        assert!(json["delayed_s"].as_f64().unwrap() < 60.0);
        assert!(!seen.retain);
        std::thread::sleep(Duration::from_millis(60));
    }
    latencies_ms.sort_by(f64::total_cmp);
    println!("alert() to subscriber: p50 {:.1} ms, largest of 50 {:.1} ms", latencies_ms[25], latencies_ms[49]);
    device.wait_empty_outbox();

    let attributes = ScreamAttributes {
        id: "alert-0".into(),
        score: 0.9,
        label: "scream".into(),
        level_dbfs: -20.5,
        t_utc: "2026-01-02T03:04:05Z".into(),
        model: "m 1".into(),
    };
    device.hub().state(State::Attributes(attributes));
    let seen =
        observer.wait("attributes", |all| all.iter().find(|seen| seen.topic.ends_with("scream/attributes")).cloned());
    assert!(seen.json()["delayed_s"].is_number() && seen.json()["level_dbfs"] == -20.5);
    device.hub().telemetry(Telemetry {
        score_max: 0.25,
        level_dbfs: -40.0,
        inference_ms_p95: 120.0,
        windows: 30,
        skipped: 0,
        dropped: 0,
        xruns: 0,
        outbox: 99,
        refused: 99,
        alerts_lost: 99,
        cpu_c: None,
        uptime_s: 60,
        version: "1.0.0".into(),
        model: "m 1".into(),
    });
    let seen = observer.wait("telemetry", |all| all.iter().find(|seen| seen.topic.ends_with("/telemetry")).cloned());
    assert_eq!(["outbox", "refused", "alerts_lost"].map(|figure| seen.json()[figure].clone()), [0; 3]);
    assert_eq!(device.stop(Duration::from_secs(10)), 0);
    observer.wait_message("a/status", "offline");
    // Whoever comes later sees it too.
    let late = Observer::new(broker.port);
    assert!(late.wait_message("a/status", "offline").retain);
}

#[test]
fn order_on_connect_and_the_latest_state_wins() {
    let Some(mut broker) = Broker::prepare("allow_anonymous true\n") else { return };
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(broker.port);
    let mut device = Device::start(options("b", gate.port, &dir));
    assert!(!device.wait_disconnected().is_empty());
    for on in [true, false, true] {
        device.hub().state(State::Siren(on));
    }
    device.hub().state(State::Threshold(0.9));
    gate.shut();
    broker.run();
    let observer = Observer::new(broker.port);
    gate.open();
    device.wait_connected();
    observer.wait_message("b/status", "online");
    let lines: Vec<_> = observer
        .all()
        .iter()
        .map(|seen| {
            let text = if seen.topic.starts_with("homeassistant") { "{}" } else { seen.text() };
            format!("{} {text}", seen.topic)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "homeassistant/device/screamd_b/config {}",
            "screamd/b/audio/status online",
            "screamd/b/scream/state OFF",
            "screamd/b/alarm/state OFF",
            "screamd/b/siren/state ON",
            "screamd/b/armed/state ON",
            "screamd/b/threshold/state 0.9",
            "screamd/b/cooldown/state 30",
            "screamd/b/audio/fault OFF",
            "screamd/b/started 2026-01-02T03:04:05Z",
            "screamd/b/status online",
        ]
    );
    // Lost and found are each told once, however many attempts there were.
    assert_eq!(device.told().iter().filter(|told| matches!(told, Incoming::Disconnected { .. })).count(), 1);
    gate.shut();
    device.wait_disconnected();
    observer.wait_message("b/status", "offline");
    gate.open();
    device.wait_connected();

    // Home Assistant starts: discovery again, states and status behind it.
    observer.forget();
    observer.publish("homeassistant/status", "online", false);
    observer.wait("discovery again", |all| {
        let at = |topic: &str| all.iter().position(|seen| seen.topic == topic);
        let (config, status) = (at("homeassistant/device/screamd_b/config")?, at("screamd/b/status")?);
        assert!(config < status);
        Some(())
    });
    device.stop(Duration::from_secs(5));
}

/// Numbered alerts while the broker dies without persistence, twice, and the device's program is started anew.
#[test]
fn three_hundred_alerts_over_dying_brokers() {
    const COUNT: usize = 300;
    let Some(mut broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (observer, gate) = (Observer::new(broker.port), Gate::new(broker.port));
    let mut device = Device::start(options("c", gate.port, &dir));
    for number in 0..COUNT {
        device.hub().alert(scream(&format!("n{number}")));
    }
    for (round, reach) in [40, 120].into_iter().enumerate() {
        observer.wait("enough alerts", |all| (event_ids(all).0.len() >= reach).then_some(()));
        broker.kill();
        gate.shut();
        if round == 1 {
            let left = device.stop(Duration::ZERO);
            assert!(left > 0, "alerts wait for the next start");
            device = Device::start(device.options.clone());
        }
        let before = observer.subscriptions();
        broker.run();
        observer.wait_subscribed(before + 1);
        gate.open();
    }
    device.wait_empty_outbox();
    // What is acknowledged to the device is on its way to the observer.
    let (ids, events) = observer.wait("all alerts", |all| Some(event_ids(all)).filter(|(ids, _)| ids.len() == COUNT));
    println!("{COUNT} alerts over 2 dead brokers and a restart: 0 lost, {} doubled", events - ids.len());
    // A double differs in its delay alone.
    let mut first: HashMap<String, serde_json::Value> = HashMap::new();
    for seen in observer.all().iter().filter(|seen| seen.topic == stated("event", "c")) {
        let mut json = seen.json();
        assert!(json.as_object_mut().unwrap().remove("delayed_s").is_some());
        let id = json["id"].as_str().unwrap().to_owned();
        assert_eq!(*first.entry(id).or_insert_with(|| json.clone()), json);
    }
    assert_eq!(device.stop(Duration::from_secs(5)), 0);
}

#[test]
fn a_frozen_broker_loses_nothing() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let observer = Observer::new(broker.port);
    let mut device = Device::start(options("d", broker.port, &dir));
    device.wait_connected();
    broker.signal(Signal::STOP);
    for number in 0..40 {
        device.hub().alert(scream(&format!("n{number}")));
    }
    // Long enough for several to be sent into the frozen socket.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(device.hub().outbox_len(), 40, "nothing was acknowledged");
    broker.signal(Signal::CONT);
    device.wait_empty_outbox();
    observer.wait("40 alerts", |all| (event_ids(all).0.len() == 40).then_some(()));
    device.stop(Duration::from_secs(5));
}

/// A path that swallows everything looks alive to TCP for many minutes; what is not acknowledged shows it.
#[test]
fn a_path_that_swallows_is_left_and_found_again() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (observer, gate) = (Observer::new(broker.port), Gate::new(broker.port));
    let mut device = Device::start(options("k", gate.port, &dir));
    device.wait_connected();
    gate.swallow(true);
    device.hub().alert(scream("swallowed"));
    let began = Instant::now();
    let cause = device.wait_disconnected();
    println!("dead path noticed after {:.1} s: {cause}", began.elapsed().as_secs_f64());
    assert!(cause.contains("nothing acknowledged"), "{cause}");
    gate.swallow(false);
    // A fresh alarm does not wait for the back-off.
    device.hub().alert(scream("fresh"));
    device.wait_empty_outbox();
    observer.wait("both", |all| (event_ids(all).0.len() == 2).then_some(()));
    device.stop(Duration::from_secs(5));
}

#[test]
fn a_fresh_alarm_overtakes_a_backlog() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (observer, gate) = (Observer::new(broker.port), Gate::new(broker.port));
    gate.shut();
    let mut device = Device::start(options("e", gate.port, &dir));
    for number in 0..60 {
        device.hub().alert(Event::new(EventType::Fault, format!("n{number}"), "2026-01-02T03:04:05Z", true));
    }
    gate.open();
    observer.wait("the backlog begins", |all| (event_ids(all).0.len() >= 3).then_some(()));
    device.hub().alert(scream("fresh"));
    device.wait_empty_outbox();
    observer.wait("all", |all| (event_ids(all).0.len() == 61).then_some(()));
    let order: Vec<_> =
        observer.all().iter().filter(|seen| seen.topic.ends_with("/event")).map(support::Seen::json).collect();
    let at = order.iter().position(|json| json["id"] == "fresh").unwrap();
    assert!(at < 59, "the alarm was number {at} of 61");
    device.stop(Duration::from_secs(5));
}

#[test]
fn a_retained_command_does_nothing() {
    let Some(broker) = Broker::start() else { return };
    let (observer, dir) = (Observer::new(broker.port), tempfile::tempdir().unwrap());
    observer.publish("screamd/f/siren/set", "ON", true);
    observer.publish("screamd/f/armed/set", "OFF", true);
    observer.publish("screamd/f/siren/set", vec![b'x'; 5000], true);
    observer.publish("screamd/f/siren/set", "ON", true);
    observer.wait_message("armed/set", "OFF");
    let mut device = Device::start(options("f", broker.port, &dir));
    device.wait_connected();
    // Retained messages come with the subscription, so before this one.
    observer.publish("screamd/f/silence/press", "PRESS", false);
    let command = device.wait("a command", |incoming| match incoming {
        Incoming::Command { command, topic, id } => Some((*command, topic.clone(), id.clone())),
        _ => None,
    });
    assert_eq!(command, (Command::Silence, "screamd/f/silence/press".to_owned(), None));
    assert_eq!(device.hub().refused(), 0);
    assert!(!observer.all().iter().any(|seen| seen.topic.ends_with("command/result")));
    device.stop(Duration::from_secs(5));
}

#[test]
fn bad_commands_are_refused_counted_answered_and_the_connection_stays() {
    let Some(broker) = Broker::start() else { return };
    let (observer, dir) = (Observer::new(broker.port), tempfile::tempdir().unwrap());
    let mut device = Device::start(options("g", broker.port, &dir));
    device.wait_connected();
    let bad: [(&str, Vec<u8>, &str); 7] = [
        ("siren/set", vec![b'x'; 4097], "over 4096"),
        ("siren/set", vec![b'x'; 200 * 1024], "over 4096"),
        ("siren/set", vec![0xff, 0xfe, 0x00], "UTF-8"),
        ("siren/set", br#"{"state":"ON","tone":"x"}"#.to_vec(), "unknown field"),
        ("threshold/set", b"1.5".to_vec(), "out of range"),
        ("armed/set", br#"{"state":"OFF","expires":"2020-01-01T00:00:00Z"}"#.to_vec(), "expired"),
        ("test_siren/press", "[".repeat(4000).into_bytes(), "JSON"),
    ];
    for (leaf, payload, _) in &bad {
        observer.publish(&stated(leaf, "g"), payload.clone(), false);
    }
    let results = observer.wait("answers", |all| {
        let results: Vec<_> = all.iter().filter(|seen| seen.topic == "screamd/g/command/result").cloned().collect();
        (results.len() == bad.len()).then_some(results)
    });
    for (result, (leaf, _, reason)) in results.iter().zip(&bad) {
        let json = result.json();
        assert_eq!((&json["topic"], &json["ok"]), (&stated(leaf, "g").into(), &false.into()));
        assert!(json["reason"].as_str().unwrap().contains(reason), "{json}");
    }
    assert_eq!(device.hub().refused(), bad.len() as u64);

    // The same connection obeys; a repeated id is refused; the caller's answer arrives.
    for _ in 0..2 {
        observer.publish("screamd/g/siren/set", r#"{"state":"ON","duration":100000,"id":"once"}"#, false);
    }
    let (topic, id) = device.wait("siren", |incoming| match incoming {
        Incoming::Command { command, topic, id } => {
            assert_eq!(*command, Command::Siren { on: true, duration_s: Some(180.0) });
            Some((topic.clone(), id.clone()))
        }
        _ => None,
    });
    device.hub().answer(CommandResult { topic, ok: true, reason: String::new(), id });
    observer.wait("both answers", |all| {
        let results: Vec<_> = all.iter().filter(|seen| seen.topic == "screamd/g/command/result").collect();
        let texts: Vec<_> = results[bad.len()..].iter().map(|seen| seen.text().to_owned()).collect();
        (texts.len() == 2).then(|| {
            assert!(texts.iter().any(|text| text.contains(r#""ok":true"#)), "{texts:?}");
            assert!(texts.iter().any(|text| text.contains("taken already")), "{texts:?}");
        })
    });

    // A flood: one was taken above, so nine more; silence passes.
    for _ in 0..60 {
        observer.publish("screamd/g/siren/set", "ON", false);
    }
    observer.publish("screamd/g/silence/press", "", false);
    let mut taken = 0;
    device.wait("silence", |incoming| {
        matches!(incoming, Incoming::Command { command: Command::Silence, .. }).then_some(())
    });
    for told in device.told() {
        taken += usize::from(matches!(told, Incoming::Command { command: Command::Siren { .. }, .. }));
        assert!(!matches!(told, Incoming::Disconnected { .. }), "the connection stayed");
    }
    assert!((10..=20).contains(&taken), "{taken} of 61 taken");
    device.stop(Duration::from_secs(5));
}

#[test]
fn a_device_that_dies_leaves_its_will() {
    let Some(broker) = Broker::start() else { return };
    let (observer, dir) = (Observer::new(broker.port), tempfile::tempdir().unwrap());
    let mut device = Device::start(options("h", broker.port, &dir));
    device.wait_connected();
    observer.wait_message("h/status", "online");
    device.hub().alert(scream("x"));
    device.wait_empty_outbox();
    drop(device.hub.take());
    observer.wait_message("h/status", "offline");
}

#[test]
fn a_disk_that_fails_costs_nothing_while_the_broker_is_there() {
    let Some(broker) = Broker::start() else { return };
    let (observer, dir) = (Observer::new(broker.port), tempfile::tempdir().unwrap());
    let in_the_way = dir.path().join("outbox");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let mut device = Device::start(options("i", broker.port, &dir));
    device.wait("StorageFailed", |incoming| match incoming {
        Incoming::StorageFailed { cause } => (!cause.is_empty()).then_some(()),
        _ => None,
    });
    device.hub().alert(scream("kept-in-memory"));
    observer.wait("the alert", |all| event_ids(all).0.contains("kept-in-memory").then_some(()));
    std::fs::remove_file(&in_the_way).unwrap();
    device.wait("StorageRestored", |incoming| (*incoming == Incoming::StorageRestored).then_some(()));
    device.stop(Duration::from_secs(5));
}

#[test]
fn user_name_and_password() {
    let Some(broker) = Broker::prepare("allow_anonymous false\npassword_file passwords\n") else { return };
    // A relative path would be looked for in the working directory.
    let conf = broker.dir.path().join("mosquitto.conf");
    let passwords = broker.dir.path().join("passwords");
    let text = std::fs::read_to_string(&conf)
        .unwrap()
        .replace("password_file passwords", &format!("password_file {}", passwords.display()));
    std::fs::write(&conf, text).unwrap();
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&passwords)
        .args(["hall", "canary"])
        .status();
    assert!(made.unwrap().success());
    let broker = broker.started();
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = options("j", broker.port, &dir);
    wrong.username = Some("hall".into());
    wrong.access.password = Some(hub::Secret::new("wrong"));
    let mut device = Device::start(wrong);
    let cause = device.wait_disconnected();
    assert!(cause.contains("does not let this user in") || cause.contains("refuses user name"), "{cause}");
    assert!(!cause.contains("wrong"), "{cause}");
    device.stop(Duration::ZERO);
    let mut right = device.options.clone();
    right.access.password = Some(hub::Secret::new("canary"));
    let mut device = Device::start(right);
    device.wait_connected();
    device.stop(Duration::from_secs(5));

    // A password that is missing, comes, is exchanged while the device runs, and is gone again.
    let password = |text: &str| Ok(Access { password: Some(hub::Secret::new(text)), tls: None });
    let now = Arc::new(Mutex::new(Err("no such file".to_owned())));
    let (mut later, shown) = (device.options.clone(), Arc::clone(&now));
    later.access = Access::default();
    later.access_source = Some(AccessSource::new(move || shown.lock().unwrap().clone()));
    let mut device = Device::start(later);
    assert_eq!(device.wait_disconnected(), "no such file");
    device.hub().alert(scream("before-the-password"));
    *now.lock().unwrap() = password("wrong");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((device.hub().connected(), device.hub().outbox_len()), (false, 1));
    *now.lock().unwrap() = password("canary");
    device.wait_connected();
    device.wait_empty_outbox();
    *now.lock().unwrap() = Err("no such file".to_owned());
    let mut broker = broker;
    broker.kill();
    device.wait_disconnected();
    broker.run();
    device.wait_connected();
    device.stop(Duration::from_secs(5));
}
