//! The alert arrives: the real program, a real mosquitto, somebody who listens.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::broker::{Broker, free_port};
use system_tests::device::Device;
use system_tests::sound::{hiss, one_scream, silence, wav};

fn events(heard: &[(String, String)]) -> Vec<Value> {
    heard
        .iter()
        .filter(|(topic, _)| topic == "event")
        .map(|(_, payload)| serde_json::from_str(payload).unwrap())
        .collect()
}

#[test]
fn the_alert_arrives() {
    let Some(broker) = Broker::start() else { return };
    let device = Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.port));
    let mut ids = Vec::new();
    let sound = wav(&one_scream(16_000), 16_000, 1);
    let run = || ids = device.hear(&sound).of_type("alarm").iter().map(|line| line["id"].clone()).collect();
    let heard = broker.listen("test-1", run, |topic, payload| topic == "status" && payload == "offline");
    let events = events(&heard);
    let kinds: Vec<_> = events.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["scream_start", "scream_end"], "{heard:?}");
    assert_eq!(
        events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>(),
        ids,
        "the same id as in the JSON lines"
    );
    assert_eq!(events[0]["zone"], "Hall");
    let states =
        |name: &str| heard.iter().filter(|(topic, _)| topic == name).map(|(_, p)| p.as_str()).collect::<Vec<_>>();
    assert_eq!(states("status"), ["online", "offline"]);
    assert_eq!(states("armed/state").last(), Some(&"ON"));
    assert_eq!(states("alarm/state").last(), Some(&"ON"), "latched until somebody silences");
    let attributes: Value = serde_json::from_str(states("scream/attributes").last().unwrap()).unwrap();
    assert_eq!(attributes["id"], ids[0]);
}

#[test]
fn an_alert_without_a_broker_is_kept_and_sent_at_the_next_start() {
    let Some(broker) = Broker::start() else { return };
    let sound = wav(&one_scream(16_000), 16_000, 1);
    // Nobody listens on port 9 (discard) of loopback.
    let device = Device::tiny("[mqtt]\nhost = \"127.0.0.1\"\nport = 9");
    let away = device.hear(&sound);
    assert_eq!(away.code, 0, "{}", away.stderr);
    device.site(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.port));
    let quiet = wav(&[0; 16_000], 16_000, 1);
    let heard = broker.listen(
        "test-1",
        || drop(device.hear(&quiet)),
        |topic, payload| topic == "status" && payload == "offline",
    );
    let late: Vec<_> = events(&heard).into_iter().filter(|event| event["event_type"] == "scream_start").collect();
    assert_eq!(late.len(), 1, "{heard:?}");
    assert_eq!(late[0]["id"], away.of_type("alarm")[0]["id"]);
    assert!(late[0]["delayed_s"].as_f64().unwrap() > 0.0, "{}", late[0]);
}

/// What is never to be lost, and is: somebody must learn of it.
#[test]
fn an_alert_that_the_disk_has_damaged_is_told_as_a_fault() {
    let device = Device::tiny("[mqtt]\nhost = \"127.0.0.1\"\nport = 9\n");
    let sound = wav(&one_scream(16_000), 16_000, 1);
    assert!(device.hear(&sound).of_type("fault").iter().all(|fault| fault["fault"] != "StorageFull"));
    let outbox = std::fs::read_dir(device.path("state/outbox")).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("segment-");
    for segment in outbox.filter(is_segment) {
        let mut bytes = std::fs::read(&segment).unwrap();
        let place = bytes.len() / 4;
        bytes[place] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
    }
    let ran = device.hear(&sound);
    let faults = ran.of_type("fault");
    let lost = faults.iter().find(|fault| fault["fault"] == "StorageFull").unwrap_or_else(|| panic!("{faults:?}"));
    assert!(lost["detail"].as_str().unwrap().contains("lost"), "{lost}");
}

/// A service whose password file is missing and that has heard a scream from its start to its end: the device, the file's path,
/// the process, and the ids of start and end.
fn heard_without_a_password(broker: &Broker) -> (Device, PathBuf, Child, Vec<Value>) {
    let device = Device::tiny("");
    let password = device.path("password");
    device.site(&format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nusername = \"hall\"\npassword_file = \"{}\"",
        broker.port,
        password.display()
    ));
    let sound = [one_scream(16_000), vec![0; 60 * 16_000]].concat();
    let file = device.path("a.wav");
    std::fs::write(&file, wav(&sound, 16_000, 1)).unwrap();
    let args = ["--wav", file.to_str().unwrap(), "--speed", "realtime", "--last-good", "--json"];
    let mut child = device.spawn(&args);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let alarms = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let ids = alarms.filter(|line| line["type"] == "alarm").take(2).map(|line| line["id"].clone()).collect();
    (device, password, child, ids)
}

/// The password is still missing when the power goes: what was alarmed waits in the outbox all the same.
#[test]
fn an_alert_without_a_password_outlives_the_power() {
    let Some(broker) = Broker::start() else { return };
    let (device, password, mut child, ids) = heard_without_a_password(&broker);
    child.kill().unwrap();
    child.wait().unwrap();

    std::fs::write(&password, "secret").unwrap();
    let quiet = wav(&[0; 16_000], 16_000, 1);
    let heard = broker.listen(
        "test-1",
        || drop(device.hear(&quiet)),
        |topic, payload| topic == "status" && payload == "offline",
    );
    let events = events(&heard);
    let late = events.iter().find(|event| event["event_type"] == "scream_start").unwrap();
    assert_eq!(late["id"], ids[0], "{heard:?}");
}

/// The password comes only after the scream: the siren was the alarm until then, and the hub is told all of it.
#[test]
fn a_hub_whose_password_was_gone_at_the_start_is_told_what_it_missed() {
    let Some(broker) = Broker::start() else { return };
    let (_device, password, mut child, ids) = heard_without_a_password(&broker);
    let heard = broker.listen(
        "test-1",
        || std::fs::write(&password, "secret").unwrap(),
        |topic, payload| topic == "event" && payload.contains("\"restore\""),
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let events = events(&heard);
    let of = |kind: &str| events.iter().find(|event| event["event_type"] == kind).unwrap();
    assert_eq!([of("scream_start")["id"].clone(), of("scream_end")["id"].clone()].to_vec(), ids);
    assert!(of("scream_start")["delayed_s"].as_f64().unwrap() > 2.0, "{heard:?}");
    assert_eq!((of("fault")["fault"].as_str(), of("restore")["fault"].as_str()), (Some("PathDown"), Some("PathDown")));
    let state = |name: &str| heard.iter().rfind(|(topic, _)| topic == name).map(|(_, payload)| payload.as_str());
    assert_eq!((state("armed/state"), state("alarm/state")), (Some("ON"), Some("ON")), "{heard:?}");
    let update: Value = serde_json::from_str(state("update/state").unwrap()).unwrap();
    assert_eq!(update["latest_version"], update["installed_version"]);
}

/// The next attempt that the log speaks of: `hub: HOST:PORT: CAUSE; next attempt in X s`.
fn next_wait(log: &mut impl Iterator<Item = String>) -> f64 {
    let words = log.find_map(|line| line.split_once("next attempt in ").map(|(_, rest)| rest.to_string())).unwrap();
    words.trim_end_matches(" s").parse().unwrap()
}

/// A broker that is away for long: an alarm does not wait for the attempt that is due by then, nor does one that waits
/// be left for the back-off.
#[test]
fn an_alarm_cuts_the_wait_for_the_broker_short_and_keeps_it_short() {
    let device = Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", free_port()));
    let mut child = device.spawn(&["--wav", "-", "--speed", "realtime", "--json"]);
    let sound = wav(&[silence(16_000, 1.0), hiss(16_000, 30.0, 1)].concat(), 16_000, 1);
    let mut pipe = child.stdin.take().unwrap();
    let quiet = 44 + 2 * 16_000;
    pipe.write_all(&sound[..quiet]).unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let long = std::iter::repeat_with(|| next_wait(&mut log)).find(|wait| *wait >= 8.0).unwrap();
    let said = Instant::now();
    // Two seconds, an alarm within them.
    pipe.write_all(&sound[quiet..quiet + 2 * 2 * 16_000]).unwrap();
    assert!(log.any(|line| line.starts_with("siren ON")));
    let next = next_wait(&mut log);
    let came = said.elapsed();
    assert!(came < Duration::from_secs_f64(0.75 * long), "the next attempt after {came:?} of {long} s");
    assert!(next <= 4.0, "and {next} s to the one after it");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The first packet that a device sends whose hub wants a password: CONNECT.
fn connect_packet(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A type, a length of one byte or two, and so many more.
    let mut byte = || {
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        usize::from(one[0])
    };
    assert_eq!(byte(), 0x10, "CONNECT");
    let (low, mut length) = (byte(), 0);
    length += low & 0x7f;
    if low & 0x80 != 0 {
        length += byte() << 7;
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).unwrap();
    packet
}

/// N6: half as long again as the keep-alive a broker waits for a device that says nothing more, then it publishes the
/// will. And the password goes there and nowhere else: not into a log of everything either.
#[test]
fn a_device_that_falls_silent_is_missed_within_45_seconds_and_its_password_is_in_no_log() {
    const PASSWORD: &str = "canary-7Lq2";
    let broker = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let device = Device::tiny("");
    std::fs::write(device.path("password"), PASSWORD).unwrap();
    device.site(&format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nusername = \"hall\"\npassword_file = \"{}\"",
        broker.local_addr().unwrap().port(),
        device.path("password").display()
    ));
    std::fs::write(device.path("sound.wav"), wav(&silence(16_000, 60.0), 16_000, 1)).unwrap();
    let mut command = device.command("run");
    command.arg("--wav").arg(device.path("sound.wav")).args(["--speed", "realtime", "--json"]).env("RUST_LOG", "trace");
    let log = std::fs::File::create(device.path("log")).unwrap();
    let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let (mut stream, _) = broker.accept().unwrap();
    let packet = connect_packet(&mut stream);
    // Its name with a length before it, version, flags; then the keep-alive.
    assert_eq!(&packet[..6], b"\0\x04MQTT");
    let keep_alive_s = u16::from_be_bytes([packet[8], packet[9]]);
    assert!((1..=30).contains(&keep_alive_s), "{keep_alive_s} s");
    assert!(packet.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "it was read");
    // Refused: not authorised. That is told.
    stream.write_all(b"\x20\x02\0\x05").unwrap();
    let said = || String::from_utf8_lossy(&std::fs::read(device.path("log")).unwrap()).into_owned();
    let until = Instant::now() + Duration::from_secs(30);
    while !said().contains("next attempt in ") {
        assert!(Instant::now() < until, "{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    system_tests::signal(child.id(), "-TERM");
    child.wait().unwrap();
    assert!(!said().contains(PASSWORD), "{}", said());
    assert!(said().contains("TRACE") || said().contains("DEBUG"), "a log of everything");
}
