//! Sounds that no working microphone gives, through the whole program: named faults after a minute, each with its restore.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::Value;
use system_tests::broker::Broker;
use system_tests::device::{Device, Ran};
use system_tests::sound::{hiss, silence, wav};

const RATE_HZ: u32 = 16_000;

/// `seconds` of a quiet room: noise of a few steps of 16 bits.
fn quiet(seconds: f64, seed: u32) -> Vec<i16> {
    hiss(RATE_HZ, seconds, seed).into_iter().map(|sample| sample / 500).collect()
}

/// `fault` and `restore` lines as (type, name).
fn told(ran: &Ran) -> Vec<(&str, &str)> {
    ran.lines
        .iter()
        .filter(|line| line["type"] == "fault" || line["type"] == "restore")
        .map(|line| (line["type"].as_str().unwrap(), line["fault"].as_str().unwrap()))
        .collect()
}

#[test]
fn each_sick_sound_is_a_named_fault_with_its_restore() {
    let device = Device::tiny("");
    let repeated = || hiss(RATE_HZ, 0.02, 3).into_iter().map(|x| x / 8).cycle().take(70 * RATE_HZ as usize).collect();
    let cases: [(&str, Vec<i16>); 4] = [
        ("MicSilent", silence(RATE_HZ, 70.0)),
        ("MicFrozen", repeated()),
        ("MicDegraded", quiet(70.0, 1).into_iter().map(|x| x + 8_000).collect()),
        ("MicDegraded", quiet(70.0, 1).into_iter().map(|x| x.saturating_mul(20_000)).collect()),
    ];
    for (name, sick) in cases {
        let ran = device.hear(&wav(&[quiet(5.0, 7), sick, quiet(15.0, 8)].concat(), RATE_HZ, 1));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(told(&ran), [("fault", name), ("restore", name)]);
        assert_eq!(ran.of_type("window").len(), 179, "every window is scored all the same");
        let at = ran.lines.iter().position(|line| line["type"] == "fault").unwrap();
        let before = ran.lines[..at].iter().rev().find(|line| line["type"] == "window").unwrap();
        let t_s = before["t_end_s"].as_f64().unwrap();
        assert!((64.0..=68.0).contains(&t_s), "{name} after {t_s} s");
        assert!(!ran.lines[at]["detail"].as_str().unwrap().is_empty());
    }
}

/// One that was bad when the program last ran is well again after a minute and a half, where nothing can be covered: the site has no floor.
#[test]
fn a_fault_of_before_has_its_restore_after_the_restart() {
    let device = Device::tiny("");
    let sick = quiet(70.0, 1).into_iter().map(|x| x + 8_000).collect::<Vec<_>>();
    assert_eq!(told(&device.hear(&wav(&sick, RATE_HZ, 1))), [("fault", "MicDegraded")]);
    assert_eq!(told(&device.hear(&wav(&quiet(20.0, 2), RATE_HZ, 1))), []);
    assert_eq!(told(&device.hear(&wav(&quiet(95.0, 3), RATE_HZ, 1))), [("restore", "MicDegraded")]);
}

#[test]
fn a_quiet_room_and_a_minutes_pause_raise_nothing() {
    let device = Device::tiny("");
    let sound = [quiet(100.0, 1), silence(RATE_HZ, 55.0), quiet(20.0, 2)].concat();
    for channels in [1, 2] {
        let ran = device.hear(&wav(&sound, RATE_HZ, channels));
        assert_eq!((ran.code, told(&ran)), (0, vec![]), "{}", ran.stderr);
    }
}

#[test]
fn an_absent_card_is_a_fault_at_once_and_no_failed_start() {
    let device = Device::tiny("[audio]\ndevice = \"hw:CARD=NoSuchCard\"");
    let mut child = device.spawn(&["--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["type"], "start");
    let fault = next();
    assert_eq!((&fault["type"], &fault["fault"]), (&"fault".into(), &"CaptureLost".into()));
    assert!(fault["detail"].as_str().unwrap().contains("NoSuchCard"), "{fault}");
    // It goes on trying, for ever; only a signal ends it.
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none());
    system_tests::signal(child.id(), "-TERM");
    let stop = next();
    assert_eq!((&stop["type"], &stop["windows"]), (&"stop".into(), &0.into()), "told once: {stop}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_hub_sees_a_dead_microphone_and_a_bad_one_apart() {
    let states = |sound: Vec<i16>| {
        // A broker for each: what is retained is the last device's.
        let broker = Broker::start()?;
        let device = Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.port));
        let sound = wav(&sound, RATE_HZ, 1);
        let run = || drop(device.hear(&sound));
        let heard = broker.listen("test-1", run, |topic, payload| topic == "status" && payload == "offline");
        let last = |name: &str| {
            heard.iter().rev().find(|(topic, _)| topic == name).map(|(_, payload)| payload.clone()).unwrap()
        };
        Some((last("audio/status"), last("audio/fault")))
    };
    let offset = quiet(65.0, 1).into_iter().map(|x| x + 8_000).collect();
    let cases =
        [(silence(RATE_HZ, 65.0), "offline", "ON"), (offset, "online", "ON"), (quiet(65.0, 1), "online", "OFF")];
    for (sound, status, fault) in cases {
        let Some(found) = states(sound) else { return };
        assert_eq!(found, (status.to_owned(), fault.to_owned()), "a bad microphone may still hear a scream");
    }
}
