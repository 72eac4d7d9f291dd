//! The real program at a real broker, at the pace of a microphone: what it says on connect, and what it obeys.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::broker::{Broker, Ear, Heard, READY};
use system_tests::device::{Device, Running};
use system_tests::sound::{hiss, silence, soft_hiss};

const RATE_HZ: u32 = 16_000;

/// A device at `broker` with `more` in its site file.
fn device(broker: &Broker, more: &str) -> Device {
    Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n{more}", broker.port))
}

/// A board whose lines are on a chip that no machine has.
fn board_without_lines(device: &Device) -> std::path::PathBuf {
    let text = std::fs::read_to_string(system_tests::root().join("boards/raspberry-pi-5.toml")).unwrap();
    let path = device.path("board.toml");
    std::fs::write(&path, text.replace("pinctrl-rp1", "no-such-chip")).unwrap();
    path
}

/// Two minutes in which nothing happens.
fn quiet_room() -> Vec<i16> {
    soft_hiss(RATE_HZ, 120.0, 1000, 7)
}

/// A scream after two seconds, then quiet.
fn scream_then_quiet() -> Vec<i16> {
    [silence(RATE_HZ, 2.0), hiss(RATE_HZ, 1.5, 1), quiet_room()].concat()
}

/// A device that has said `online`.
fn online(device: &Device, ear: &Ear, sound: &[i16]) -> Running {
    let running = device.listens_to(sound);
    ear.hears("status", "online");
    running
}

fn send(broker: &Broker, leaf: &str, payload: &str) {
    broker.publish(&format!("screamd/test-1/{leaf}"), payload, false);
}

/// Sends a command, and the answer to it: the next one that comes.
#[track_caller]
fn answer(broker: &Broker, ear: &Ear, leaf: &str, payload: &str) -> Value {
    let before = ear.on("command/result").len();
    let sent = Instant::now();
    send(broker, leaf, payload);
    let result = ear.wait(&format!("an answer to {leaf} {payload}"), |all| {
        all.iter().filter(|heard| heard.topic == "command/result").nth(before).map(Heard::json)
    });
    eprintln!("{leaf} {payload:.80}: answered after {:.0} ms", sent.elapsed().as_secs_f64() * 1e3);
    assert_eq!(result["topic"], format!("screamd/test-1/{leaf}"), "{result}");
    result
}

#[track_caller]
fn obeyed(broker: &Broker, ear: &Ear, leaf: &str, payload: &str) {
    let result = answer(broker, ear, leaf, payload);
    assert_eq!((&result["ok"], &result["reason"]), (&true.into(), &"".into()), "{leaf} {payload}");
}

#[track_caller]
fn refused(broker: &Broker, ear: &Ear, leaf: &str, payload: &str, reason: &str) {
    let result = answer(broker, ear, leaf, payload);
    assert_eq!(result["ok"], false, "{leaf} {payload}");
    assert!(result["reason"].as_str().unwrap().contains(reason), "{leaf} {payload}: {result}");
}

fn events(all: &[Heard]) -> Vec<String> {
    let events = all.iter().filter(|heard| heard.topic == "event");
    events.map(|heard| heard.json()["event_type"].as_str().unwrap().to_string()).collect()
}

#[track_caller]
fn hears_event(ear: &Ear, kind: &str) {
    ear.wait(kind, |all| events(all).iter().any(|event| event == kind).then_some(()));
}

/// A looping automation must not fill the outbox: each word of it is a write to the card.
#[test]
fn silencing_nothing_again_and_again_is_told_once() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let running = online(&device, &ear, &quiet_room());
    for _ in 0..3 {
        obeyed(&broker, &ear, "silence/press", "PRESS");
    }
    obeyed(&broker, &ear, "test_siren/press", "PRESS");
    hears_event(&ear, "test");
    // Nor does an update make a siren fall silent.
    obeyed(&broker, &ear, "siren/set", "ON");
    refused(&broker, &ear, "update/install", "INSTALL", "the siren sounds");
    // Something to silence: told however short ago the last was.
    obeyed(&broker, &ear, "silence/press", "PRESS");
    running.stop();
    let silenced = |all: &[Heard]| events(all).iter().filter(|event| *event == "silenced").count();
    assert_eq!(silenced(&ear.all()), 2, "{:?}", events(&ear.all()));
}

#[test]
fn order_on_connect_and_what_the_broker_keeps() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let running = online(&device, &ear, &quiet_room());
    let heard: Vec<_> = ear.all().into_iter().filter(|heard| heard.topic != READY).collect();
    let topics: Vec<_> = heard.iter().map(|heard| heard.topic.as_str()).collect();
    let expected = [
        ("homeassistant/device/screamd_test-1/config", ""),
        ("audio/status", "online"),
        ("scream/state", "OFF"),
        ("alarm/state", "OFF"),
        ("siren/state", "OFF"),
        ("armed/state", "ON"),
        ("threshold/state", "0.8"),
        ("cooldown/state", "3"),
        ("audio/fault", "OFF"),
        ("started", ""),
        ("update/state", ""),
        ("status", "online"),
    ];
    assert_eq!(topics, expected.map(|(topic, _)| topic));
    for (heard, (topic, payload)) in heard.iter().zip(expected) {
        assert!(payload.is_empty() || heard.payload == payload, "{topic}: {}", heard.payload);
        assert!(heard.acknowledged && !heard.retained, "{heard:?}");
    }
    let config = heard[0].json();
    assert_eq!(config["components"]["scream"]["unique_id"], "screamd_test-1_scream");
    assert_eq!(config["components"]["siren"]["command_topic"], "screamd/test-1/siren/set");
    assert!(heard[9].payload.ends_with('Z') && heard[9].payload.len() >= 20, "{}", heard[9].payload);
    assert_eq!(heard[10].json()["in_progress"], false);

    // Whoever comes later sees the same, and no command's answer.
    obeyed(&broker, &ear, "silence/press", "PRESS");
    let late = broker.ear("test-1");
    let kept = late.wait("all that is kept", |all| {
        let kept: Vec<_> = all.iter().filter(|heard| heard.topic != READY).cloned().collect();
        (kept.len() >= expected.len()).then_some(kept)
    });
    assert!(kept.iter().all(|heard| heard.retained && heard.acknowledged), "{kept:?}");
    let mut names: Vec<_> = kept.iter().map(|heard| heard.topic.as_str()).collect();
    let mut all = expected.map(|(topic, _)| topic);
    names.sort_unstable();
    all.sort_unstable();
    assert_eq!(names, all);

    // Home Assistant starts: discovery once more, and the states behind it.
    ear.forget();
    broker.publish("homeassistant/status", "online", false);
    ear.hears("status", "online");
    assert_eq!(ear.on("homeassistant/device/screamd_test-1/config").len(), 1);

    // A clean end, then a death.
    ear.forget();
    assert_eq!(running.stop(), Some(0));
    ear.hears("status", "offline");
    ear.forget();
    let running = online(&device, &ear, &quiet_room());
    ear.forget();
    running.kill();
    ear.hears("status", "offline");
}

#[test]
fn a_siren_that_cannot_sound_is_no_success() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let board = board_without_lines(&device);
    let _running = device.listens_to_with(&quiet_room(), &["--board", board.to_str().unwrap()]);
    ear.hears("status", "online");
    for (leaf, payload) in [("siren/set", "ON"), ("test_siren/press", "PRESS")] {
        let result = answer(&broker, &ear, leaf, payload);
        assert_eq!(result["ok"], false, "{result}");
        assert!(result["reason"].as_str().unwrap().contains("its line is missing"), "{result}");
    }
    obeyed(&broker, &ear, "siren/set", "OFF");
}

#[test]
fn every_command_is_obeyed_echoed_and_answered() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let running = online(&device, &ear, &quiet_room());

    for (leaf, state, written) in [
        ("threshold/set", "threshold/state", "0.9"),
        ("threshold/set", "threshold/state", "0.35"),
        ("cooldown/set", "cooldown/state", "45"),
        ("cooldown/set", "cooldown/state", "7.5"),
        ("armed/set", "armed/state", "OFF"),
        ("armed/set", "armed/state", "ON"),
        ("siren/set", "siren/state", "ON"),
        ("siren/set", "siren/state", "OFF"),
    ] {
        ear.forget();
        obeyed(&broker, &ear, leaf, written);
        ear.hears(state, written);
    }
    // A duration ends by itself; one over the bound is cut to it and taken.
    ear.forget();
    obeyed(&broker, &ear, "siren/set", r#"{"state":"ON","duration":1,"id":"a"}"#);
    ear.hears("siren/state", "ON");
    ear.hears("siren/state", "OFF");
    ear.forget();
    obeyed(&broker, &ear, "siren/set", r#"{"state":"ON","duration":1e9,"expires":"2126-01-01T00:00:00Z"}"#);
    ear.hears("siren/state", "ON");
    obeyed(&broker, &ear, "silence/press", "PRESS");
    ear.hears("siren/state", "OFF");
    // An alert follows the one before it by 55 ms: none of before is to be counted below.
    hears_event(&ear, "silenced");
    // The blip, reported.
    ear.forget();
    obeyed(&broker, &ear, "test_siren/press", "PRESS");
    ear.hears("siren/state", "ON");
    ear.hears("siren/state", "OFF");
    // Disarmed for a while; it arms again by itself.
    obeyed(&broker, &ear, "armed/set", r#"{"state":"OFF","for_s":1}"#);
    ear.hears("armed/state", "OFF");
    ear.hears("armed/state", "ON");
    ear.wait("both reports", |all| {
        let said: Vec<_> = all.iter().filter(|heard| heard.topic == "event").map(Heard::json).collect();
        assert!(said.iter().all(|event| event["zone"] == "Hall" && event["clock_set"] == true), "{said:?}");
        let kinds: Vec<_> = said.iter().map(|event| event["event_type"].clone()).collect();
        (kinds.len() == 3).then(|| assert_eq!(kinds, ["test", "disarmed", "armed"]))
    });
    refused(&broker, &ear, "update/install", "INSTALL", "no update");
    // Somebody watches for a moment: a message a window, not kept, and none before.
    assert!(ear.on("live").is_empty());
    obeyed(&broker, &ear, "live/set", "60");
    let live = ear.wait("live", |all| all.iter().find(|heard| heard.topic == "live").cloned());
    assert!(
        live.json()["score"].is_number() && live.json()["level_dbfs"].is_number() && !live.acknowledged,
        "{live:?}"
    );
    obeyed(&broker, &ear, "live/set", "0");

    // What was set outlives the program, cut off without a word.
    obeyed(&broker, &ear, "armed/set", "OFF");
    wait_for_file(&device, "\"armed\":{\"value\":false");
    running.kill();
    ear.hears("status", "offline");
    ear.forget();
    let _running = online(&device, &ear, &quiet_room());
    for (topic, expect) in [("threshold/state", "0.35"), ("cooldown/state", "7.5"), ("armed/state", "OFF")] {
        assert_eq!(ear.on(topic), [expect], "{topic}");
    }
    // A command of before is not obeyed again.
    refused(&broker, &ear, "siren/set", r#"{"state":"ON","duration":1,"id":"a"}"#, "taken already");
}

#[test]
fn what_is_no_command_is_refused_counted_and_answered() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &quiet_room());
    let long = "x".repeat(5000);
    let nested = format!("{{\"state\":{}1{}}}", "[".repeat(1500), "]".repeat(1500));
    let cases = [
        ("siren/set", "on", "neither ON nor OFF"),
        ("siren/set", r#"{"state":"ON","duration":0}"#, "out of range"),
        ("siren/set", r#"{"state":"ON","duration":-5}"#, "out of range"),
        ("siren/set", r#"{"state":"ON","duration":"5"}"#, "invalid type"),
        ("siren/set", r#"{"state":"ON","tone":"loud"}"#, "unknown field"),
        ("siren/set", r#"{"duration":5}"#, "state"),
        ("siren/set", r#"{"state":"ON""#, "EOF"),
        ("siren/set", &long, "over 4096"),
        ("siren/set", &nested, ""),
        ("armed/set", "MAYBE", "neither ON nor OFF"),
        ("armed/set", r#"{"state":"OFF","for_s":-1}"#, "out of range"),
        ("armed/set", r#"{"state":"OFF","expires":"2020-01-01T00:00:00Z"}"#, "expired"),
        ("threshold/set", "1.01", "out of range"),
        ("threshold/set", "-0.1", "out of range"),
        ("threshold/set", "nan", "not a number"),
        ("threshold/set", "high", "not a number"),
        ("cooldown/set", "-1", "out of range"),
        ("cooldown/set", "1e300", "out of range"),
        ("test_siren/press", "{}x", "trailing"),
        ("silence/press", r#"{"expires":"yesterday"}"#, "RFC 3339"),
        ("live/set", "1e9", "out of range"),
    ];
    for (leaf, payload, reason) in cases {
        refused(&broker, &ear, leaf, payload, reason);
    }
    obeyed(&broker, &ear, "armed/set", r#"{"state":"ON","id":"once"}"#);
    refused(&broker, &ear, "armed/set", r#"{"state":"OFF","id":"once"}"#, "taken already");
    assert_eq!(ear.on("siren/state"), ["OFF"], "nothing sounded");
    assert_eq!(ear.on("status"), ["online"], "the connection stayed");
    let telemetry = ear.wait("telemetry", |all| all.iter().find(|heard| heard.topic == "telemetry").map(Heard::json));
    assert_eq!(telemetry["refused"], cases.len() + 1);
    check_telemetry(&telemetry);
    let telemetry = ear.all().into_iter().find(|heard| heard.topic == "telemetry").unwrap();
    assert!(!telemetry.acknowledged, "QoS 0");
}

fn check_telemetry(telemetry: &Value) {
    for key in ["score_max", "level_dbfs", "inference_ms_p95", "windows", "dropped", "xruns", "outbox", "uptime_s"] {
        assert!(telemetry[key].is_number(), "{key} in {telemetry}");
    }
    assert!(telemetry["cpu_c"].is_number() || telemetry["cpu_c"].is_null(), "{telemetry}");
    // A busy machine may be late, never early.
    assert!(telemetry["uptime_s"].as_u64().unwrap() >= 59, "every minute: {telemetry}");
    assert!(telemetry["windows"].as_u64().unwrap() > 0, "{telemetry}");
    assert_eq!((&telemetry["version"], &telemetry["model"]), (&"0.1.0".into(), &"tiny 1.0.0".into()));
}

#[test]
fn ten_commands_are_taken_then_the_limit_and_off_always_passes() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &quiet_room());
    let batch = |count: usize, leaf: &str, payload: &str| {
        ear.forget();
        let line = format!("{payload}\n").repeat(count);
        broker.publish_lines(&format!("screamd/test-1/{leaf}"), &line);
        ear.wait("all answers", |all| {
            let answers: Vec<_> = all.iter().filter(|heard| heard.topic == "command/result").map(Heard::json).collect();
            (answers.len() == count).then(|| answers.iter().filter(|answer| answer["ok"] == true).count())
        })
    };
    assert_eq!(batch(10, "siren/set", "ON"), 10);
    assert_eq!(batch(30, "siren/set", "OFF"), 30);
    assert_eq!(batch(30, "silence/press", "PRESS"), 30);
    assert!(batch(40, "test_siren/press", "PRESS") <= 20);
    assert_eq!(batch(1, "siren/set", "OFF"), 1);
    ear.hears("siren/state", "OFF");
}

/// More settings in one moment than the recorder's queue takes: the last one counts, and the disk is not blamed.
#[test]
fn of_many_settings_at_once_the_last_is_kept() {
    let Some(broker) = Broker::start() else { return };
    let ear = broker.ear("test-1");
    let device = device(&broker, "");
    let running = online(&device, &ear, &quiet_room());
    ear.forget();
    broker.publish_lines("screamd/test-1/armed/set", &format!("{}ON\n", "OFF\n".repeat(40)));
    ear.wait("all answers", |all| {
        (all.iter().filter(|heard| heard.topic == "command/result").count() == 41).then_some(())
    });
    assert_eq!(ear.on("armed/state").last().map(String::as_str), Some("ON"));
    wait_for_file(&device, "\"armed\":{\"value\":true");
    running.kill();
    assert!(!device.log().contains("StorageFull"), "{}", device.log());
}

/// An automation that keeps a device disarmed while somebody is at home, with an id of its own each time: a card wears out by what is written.
#[test]
fn ids_of_disarmings_that_change_nothing_are_written_now_and_then() {
    let Some(broker) = Broker::start() else { return };
    let ear = broker.ear("test-1");
    let device = device(&broker, "");
    let running = online(&device, &ear, &quiet_room());
    // What disarms is known after a power cut in the next moment.
    obeyed(&broker, &ear, "armed/set", r#"{"state":"OFF","for_s":600,"id":"first"}"#);
    wait_for_file(&device, "\"first\"");
    let began = Instant::now();
    let mut written = std::collections::BTreeSet::new();
    for number in 0..30 {
        obeyed(&broker, &ear, "armed/set", &format!(r#"{{"state":"OFF","for_s":600,"id":"n{number}"}}"#));
        written.insert(std::fs::metadata(device.path("state/settings.json")).unwrap().modified().unwrap());
    }
    let turns = began.elapsed().as_secs() / 10 + 1;
    assert!(written.len() as u64 <= 1 + turns, "{} files in {:?}", written.len(), began.elapsed());
    // None of them is forgotten: the end does not wait.
    running.stop();
    wait_for_file(&device, "\"n0\"");
    wait_for_file(&device, "\"n29\"");
}

#[test]
fn a_scream_is_told_whole_and_silence_ends_this_incident_alone() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "[decision]\nhold_s = 5\ncooldown_s = 1");
    let ear = broker.ear("test-1");
    let second = [scream_then_quiet()[..RATE_HZ as usize * 15].to_vec(), scream_then_quiet()].concat();
    let _running = online(&device, &ear, &second);
    ear.forget();
    ear.hears("alarm/state", "ON");
    hears_event(&ear, "scream_start");
    // A looping automation: told once.
    for _ in 0..3 {
        obeyed(&broker, &ear, "silence/press", "PRESS");
    }
    ear.hears("alarm/state", "OFF");
    ear.hears("siren/state", "OFF");
    assert_eq!(ear.on("scream/state"), ["ON"], "the incident itself goes on");
    // An update would cut it.
    refused(&broker, &ear, "update/install", "INSTALL", "an alarm goes on");
    ear.hears("scream/state", "OFF");
    // The next one sounds again.
    ear.wait("a second incident", |all| {
        (all.iter().filter(|heard| heard.topic == "siren/state" && heard.payload == "ON").count() == 2).then_some(())
    });
    ear.wait("events", |all| (all.iter().filter(|heard| heard.topic == "event").count() >= 4).then_some(()));
    assert_eq!(events(&ear.all())[..4], ["scream_start", "silenced", "scream_end", "scream_start"]);
    let said: Vec<_> = ear.all().into_iter().filter(|heard| heard.topic == "event").collect();
    assert!(said.iter().all(|heard| heard.acknowledged && !heard.retained));
    let (start, end) = (said[0].json(), said[2].json());
    assert_eq!(start["id"], end["id"]);
    assert!(start["id"].is_string() && start["delayed_s"].as_f64().unwrap() < 5.0 && start["score"].is_number());
    // Before the state: a hub that acts on ON reads them then.
    let of_screams: Vec<_> = ear.all().into_iter().filter(|heard| heard.topic.starts_with("scream/")).collect();
    let topics: Vec<_> = of_screams.iter().map(|heard| heard.topic.as_str()).collect();
    assert_eq!(topics[..3], ["scream/attributes", "scream/state", "scream/state"]);
    assert_eq!(topics[3..5], ["scream/attributes", "scream/state"]);
    assert_eq!(of_screams[3].json()["id"], said[3].json()["id"]);
    let attributes = of_screams[0].json();
    let mut keys: Vec<_> = attributes.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["delayed_s", "id", "label", "level_dbfs", "model", "score", "t_utc"]);
    assert_eq!((&attributes["id"], &attributes["score"]), (&start["id"], &start["score"]));
}

#[test]
fn an_alarm_that_nobody_silenced_outlives_the_program() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let running = online(&device, &ear, &scream_then_quiet());
    ear.hears("alarm/state", "ON");
    wait_for_file(&device, "\"latched\":true");
    running.kill();
    ear.hears("status", "offline");
    let attributes = |ear: &Ear| serde_json::from_str::<Value>(&ear.on("scream/attributes").concat()).unwrap();
    let before = attributes(&ear);
    ear.forget();
    let _running = online(&device, &ear, &quiet_room());
    // Of the alarm that stands, as old as it is.
    let after = attributes(&ear);
    assert_eq!((&after["id"], &after["score"], &after["t_utc"]), (&before["id"], &before["score"], &before["t_utc"]));
    assert!(after["delayed_s"].as_f64().unwrap() > before["delayed_s"].as_f64().unwrap(), "{after} {before}");
    assert_eq!((ear.on("alarm/state"), ear.on("siren/state")), (vec!["ON".to_string()], vec!["OFF".to_string()]));
    obeyed(&broker, &ear, "silence/press", "PRESS");
    ear.hears("alarm/state", "OFF");
}

/// Until the persisted settings hold `part`.
#[track_caller]
fn wait_for_file(device: &Device, part: &str) {
    let saved = device.path("state/settings.json");
    let until = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&saved).is_ok_and(|text| text.contains(part)) {
        assert!(Instant::now() < until, "{:?}", std::fs::read_to_string(&saved));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn disarmed_it_listens_and_sounds_nothing_until_it_arms_again() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "[siren]\narmed = false");
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &scream_then_quiet());
    ear.hears("armed/state", "OFF");
    ear.hears("scream/state", "ON");
    // A person's own command sounds all the same.
    obeyed(&broker, &ear, "siren/set", r#"{"state":"ON","duration":1}"#);
    ear.hears("siren/state", "ON");
    ear.wait("the end", |all| {
        let scream: Vec<_> = all.iter().filter(|heard| heard.topic == "scream/state").collect();
        (scream.len() == 3).then(|| assert_eq!(scream[2].payload, "OFF"))
    });
    assert!(!events(&ear.all()).iter().any(|kind| kind.starts_with("scream")), "{:?}", events(&ear.all()));
    assert_eq!(ear.on("alarm/state"), ["OFF"]);
}

#[test]
fn quiet_hours_stop_the_siren_alone() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "[siren]\nquiet_hours = [\"00:00-12:00\", \"12:00-00:00\"]");
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &scream_then_quiet());
    ear.hears("alarm/state", "ON");
    hears_event(&ear, "scream_start");
    assert_eq!(ear.on("siren/state"), ["OFF"]);
    obeyed(&broker, &ear, "test_siren/press", "PRESS");
    ear.hears("siren/state", "ON");
}

#[test]
fn a_site_may_refuse_to_be_disarmed_from_afar() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "[siren]\nremote_disarm = false");
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &scream_then_quiet());
    refused(&broker, &ear, "armed/set", "OFF", "remote_disarm");
    refused(&broker, &ear, "armed/set", r#"{"state":"OFF","for_s":60,"id":"no"}"#, "remote_disarm");
    obeyed(&broker, &ear, "armed/set", "ON");
    // Nor to be made as good as deaf; more alert than its file says it may be.
    refused(&broker, &ear, "threshold/set", "0.9", "remote_disarm");
    refused(&broker, &ear, "cooldown/set", "86400", "remote_disarm");
    obeyed(&broker, &ear, "threshold/set", "0.7");
    obeyed(&broker, &ear, "threshold/set", "0.8");
    obeyed(&broker, &ear, "cooldown/set", "1");
    wait_for_file(&device, "\"cooldown_s\":{");
    assert!(!std::fs::read_to_string(device.path("state/settings.json")).unwrap().contains("\"no\""), "not obeyed");
    ear.hears("alarm/state", "ON");
    assert!(!ear.on("armed/state").contains(&"OFF".to_string()));
}

#[test]
fn retained_commands_are_ignored_with_a_warning() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    for (leaf, payload) in
        [("siren/set", "ON"), ("armed/set", "OFF"), ("threshold/set", "0.1"), ("test_siren/press", "PRESS")]
    {
        broker.publish(&format!("screamd/test-1/{leaf}"), payload, true);
    }
    let ear = broker.ear("test-1");
    let _running = online(&device, &ear, &quiet_room());
    // Retained ones come with the subscription, so before this one and its answer.
    obeyed(&broker, &ear, "silence/press", "PRESS");
    assert_eq!((ear.on("siren/state"), ear.on("armed/state")), (vec!["OFF".to_string()], vec!["ON".to_string()]));
    assert_eq!(ear.on("threshold/state"), ["0.8"]);
    assert_eq!(ear.on("command/result").len(), 1);
    for leaf in ["siren/set", "armed/set", "threshold/set", "test_siren/press"] {
        assert!(device.log().contains(&format!("retained command on {leaf} ignored")), "{}", device.log());
    }
}

#[test]
fn a_dead_microphone_is_said() {
    let Some(broker) = Broker::start() else { return };
    let device = device(&broker, "");
    let ear = broker.ear("test-1");
    let path = device.path("zeros.wav");
    system_tests::sound::write_wav(&path, &silence(RATE_HZ, 70.0), RATE_HZ);
    assert_eq!(device.hear_file(&path).code, 0);
    ear.hears("status", "offline");
    assert_eq!(ear.on("audio/status").last().unwrap(), "offline");
    assert_eq!(ear.on("audio/fault").last().unwrap(), "ON");
    let fault = ear.all().into_iter().find(|heard| heard.topic == "event").unwrap().json();
    assert_eq!((&fault["event_type"], &fault["fault"]), (&json!("fault"), &json!("MicSilent")));
    // A restart makes it no better, and a minute of sound does.
    let states = |sound: &[i16]| {
        ear.forget();
        system_tests::sound::write_wav(&path, sound, RATE_HZ);
        assert_eq!(device.hear_file(&path).code, 0);
        ear.hears("status", "offline");
        (ear.on("audio/status"), ear.on("audio/fault"))
    };
    let (status, fault) = states(&silence(RATE_HZ, 5.0));
    assert_eq!((status.concat(), fault.concat()), ("offline".into(), "ON".into()));
    let (status, fault) = states(&soft_hiss(RATE_HZ, 95.0, 1000, 7));
    assert_eq!((status[0].as_str(), fault[0].as_str()), ("offline", "ON"));
    assert_eq!((status.last().unwrap().as_str(), fault.last().unwrap().as_str()), ("online", "OFF"));
}
