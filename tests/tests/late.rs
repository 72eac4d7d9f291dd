//! A processor that does not keep up: the newest window is scored, those before it are counted, and it is a fault,
//! which the LED shows.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde_json::Value;
use system_tests::device::Device;
use system_tests::sound::{hiss, silence, soft_hiss, wav};

const RATE_HZ: u32 = 16_000;

#[test]
fn a_process_that_was_stopped_skips_to_the_newest_window() {
    let device = Device::tiny("");
    let sound = [silence(RATE_HZ, 1.0), hiss(RATE_HZ, 1.0, 1), soft_hiss(RATE_HZ, 40.0, 1000, 7)].concat();
    std::fs::write(device.path("sound.wav"), wav(&sound, RATE_HZ, 1)).unwrap();
    let path = device.path("sound.wav");
    let mut child = device.spawn(&["--wav", path.to_str().unwrap(), "--speed", "realtime", "--json"]);
    let id = child.id();
    let signal = |name| system_tests::signal(id, name);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |kind: &str| -> Value {
        lines
            .by_ref()
            .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
            .find(|line| line["type"] == kind)
            .unwrap()
    };
    // Its start, its end: what the LED shows then is no alarm.
    assert_eq!([next("alarm")["state"].clone(), next("alarm")["state"].clone()], ["start", "end"]);
    next("window");
    signal("-STOP");
    // Seven windows' time, three of them more than the two seconds that are caught up with.
    std::thread::sleep(Duration::from_millis(3_500));
    signal("-CONT");
    assert_eq!(next("fault")["fault"], "InferenceLate");
    assert_eq!(next("restore")["fault"], "InferenceLate");
    signal("-TERM");
    let stop = next("stop");
    let (windows, dropped) = (stop["windows"].as_u64().unwrap(), stop["dropped"].as_u64().unwrap());
    assert!((1..=7).contains(&dropped), "{dropped} dropped");
    // What was neither scored nor counted would be missing here.
    let audio_s = stop["audio_s"].as_f64().unwrap();
    let due = ((audio_s - 1.0) / 0.5).floor() as u64 + 1;
    assert!((due - 1..=due).contains(&(windows + dropped)), "{windows} + {dropped} of {due} in {audio_s} s");
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let shown: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("LED ")).collect();
    // In this order; a machine that is busy may bring the fault once more.
    let mut rest = shown.iter();
    for pattern in ["slow heartbeat", "steady (alarm)", "slow heartbeat", "double blink (fault)", "slow heartbeat"] {
        assert!(rest.any(|words| words.starts_with(pattern)), "no {pattern} in its turn: {shown:?}");
    }
}

/// Who is late has no siren sooner for it: the time from the window's end to the siren holds what the process stood still.
#[test]
fn the_time_to_the_siren_holds_the_programs_own_lateness() {
    let device = Device::tiny("");
    let sound = [silence(RATE_HZ, 2.0), hiss(RATE_HZ, 30.0, 1)].concat();
    std::fs::write(device.path("sound.wav"), wav(&sound, RATE_HZ, 1)).unwrap();
    let path = device.path("sound.wav");
    let mut child = device.spawn(&["--wav", path.to_str().unwrap(), "--speed", "realtime", "--json"]);
    let id = child.id();
    let signal = |name| system_tests::signal(id, name);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    // The last window of silence; the first that alarms is whole within the next second.
    assert!(lines.any(|line| line["type"] == "window" && line["t_end_s"] == 2.0));
    signal("-STOP");
    std::thread::sleep(Duration::from_millis(1_900));
    signal("-CONT");
    let alarm = lines.find(|line| line["type"] == "alarm").unwrap();
    let latency_ms = alarm["latency_ms"].as_f64().unwrap();
    assert!(latency_ms > 800.0, "{alarm}");
    signal("-TERM");
    assert!(child.wait().unwrap().success());
}
