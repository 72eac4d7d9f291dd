//! `host-tools explain` from outside, with the tiny network. What it makes of screams in noise: host-tools/src/explain/tests.rs.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use files::picture::kept::Kept;
use serde_json::Value;
use system_tests::device::Device;
use system_tests::sound::{hiss, silence, soft_hiss, write_wav};
use system_tests::{host_tools_ok, program};

const RATE_HZ: u32 = 16_000;

fn explain(file: &Path, model: &str) -> Value {
    let (png, json) = (file.with_extension("png"), file.with_extension("json"));
    let text = |path: &Path| path.to_str().unwrap().to_string();
    host_tools_ok(&["explain", &text(file), "--model", model, "--out", &text(&png), "--json", &text(&json)]);
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap()
}

#[test]
fn the_tiny_network_rests_on_the_bands_that_it_hears() {
    let device = Device::tiny("");
    let file = device.path("a.wav");
    let sound = [soft_hiss(RATE_HZ, 3.2, 200, 2), hiss(RATE_HZ, 0.4, 1), soft_hiss(RATE_HZ, 2.4, 200, 3)].concat();
    write_wav(&file, &sound, RATE_HZ);
    let figures = explain(&file, device.path("model").to_str().unwrap());
    let (t_s, hz) = (figures["peak_t_s"].as_f64().unwrap(), figures["peak_hz"].as_f64().unwrap());
    assert!((3.2..=3.6).contains(&t_s), "{t_s} s");
    assert!((1500.0..=4000.0).contains(&hz), "{hz} Hz");
    let start_s = figures["t_start_s"].as_f64().unwrap();
    assert!((2.6..=3.2).contains(&start_s) && figures["score"].as_f64().unwrap() > 0.0, "{start_s}");
    // Rows from low to high: the highest bands and the lowest carry less than those it listens to.
    let map: Vec<Vec<f64>> = serde_json::from_value(figures["map"].clone()).unwrap();
    assert_eq!((map.len(), map[0].len()), (64, 32));
    let row = |band: usize| map[band].iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert!(row(39) > 1.5 * row(5) && row(39) > 1.5 * row(60), "{} {} {}", row(5), row(39), row(60));
}

/// A file shorter than the window: what the network makes of the padding is no evidence.
#[test]
fn nothing_rests_on_what_lies_behind_the_files_end() {
    let device = Device::tiny("");
    let file = device.path("a.wav");
    write_wav(&file, &[soft_hiss(RATE_HZ, 0.4, 200, 2), hiss(RATE_HZ, 0.2, 1)].concat(), RATE_HZ);
    let figures = explain(&file, device.path("model").to_str().unwrap());
    let map: Vec<Vec<f64>> = serde_json::from_value(figures["map"].clone()).unwrap();
    let profile: Vec<f64> = serde_json::from_value(figures["profile"].clone()).unwrap();
    let heard = (0.6 / figures["frame_s"].as_f64().unwrap()) as usize + 1;
    assert!(heard < profile.len() && figures["peak_t_s"].as_f64().unwrap() <= 0.63, "{figures}");
    assert!(map.iter().chain([&profile]).all(|row| row[heard..].iter().all(|fall| *fall == 0.0)));
}

#[test]
fn silence_rests_on_nothing() {
    let device = Device::tiny("");
    let file = device.path("a.wav");
    write_wav(&file, &silence(RATE_HZ, 0.5), RATE_HZ);
    let figures = explain(&file, device.path("model").to_str().unwrap());
    assert!(figures["peak_t_s"].is_null() && figures["peak_hz"].is_null(), "{figures}");
}

#[test]
fn the_report_shows_what_an_alarm_rests_on_where_its_model_is_at_hand() {
    let device = Device::tiny("");
    let sound = [soft_hiss(RATE_HZ, 5.0, 200, 2), hiss(RATE_HZ, 1.5, 1), soft_hiss(RATE_HZ, 8.0, 200, 3)].concat();
    write_wav(&device.path("a.wav"), &sound, RATE_HZ);
    let ran = device.hear_file(&device.path("a.wav"));
    assert_eq!(ran.alarms().len(), 2, "{}", ran.stderr);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let (events, out) = (path("events"), path("r.html"));
    host_tools_ok(&["report", "--events", &events, "--out", &out, "--model", &path("model")]);
    let page = std::fs::read_to_string(device.path("r.html")).unwrap();
    assert!(page.contains("The score rests most of all on what was heard at") && page.matches("<img ").count() == 2);
    // The shipped model did not hear it: its reasons would be another's.
    host_tools_ok(&["report", "--events", &events, "--out", &out, "--model", "models/default"]);
    let page = std::fs::read_to_string(device.path("r.html")).unwrap();
    assert!(page.contains("heard by another model") && page.matches("<img ").count() == 1);
}

/// Its page is as private as a recording; what is left of one would lie about under a name that nobody looks for.
#[test]
fn a_report_that_is_broken_off_leaves_nothing() {
    let device = Device::tiny("");
    let sound = [soft_hiss(RATE_HZ, 5.0, 200, 2), hiss(RATE_HZ, 1.5, 1), soft_hiss(RATE_HZ, 8.0, 200, 3)].concat();
    write_wav(&device.path("a.wav"), &sound, RATE_HZ);
    device.hear_file(&device.path("a.wav"));
    // As many as are explained, so that it takes a while.
    let record = device.events().into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    for copy in 0..50 {
        std::fs::copy(&record, device.path(&format!("events/copy{copy}.json"))).unwrap();
    }
    let folder = device.path("reports");
    std::fs::create_dir(&folder).unwrap();
    let mut report = Command::new(program("host-tools"))
        .args(["report".as_ref(), "--events".as_ref(), device.path("events").as_os_str()])
        .args(["--model".as_ref(), device.path("model").as_os_str()])
        .args(["--out".as_ref(), folder.join("r.html").as_os_str()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    system_tests::signal(report.id(), "-INT");
    report.wait().unwrap();
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "r.html"), "{left:?}");
}

/// The history of the last seconds no longer holds the window that decided when such an incident ends; what is kept must not be less
/// than of a short one.
#[test]
fn a_long_incident_keeps_the_picture_and_the_sound_of_its_beginning() {
    let device = Device::tiny("clips = true");
    let sound = [soft_hiss(RATE_HZ, 5.0, 200, 2), hiss(RATE_HZ, 150.0, 1), soft_hiss(RATE_HZ, 8.0, 200, 3)].concat();
    write_wav(&device.path("a.wav"), &sound, RATE_HZ);
    let ran = device.hear_file(&device.path("a.wav"));
    assert_eq!(ran.alarms().len(), 2, "{}", ran.stderr);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    host_tools_ok(&["report", "--events", &path("events"), "--out", &path("r.html"), "--model", &path("model")]);
    let page = std::fs::read_to_string(device.path("r.html")).unwrap();
    assert!(page.contains("The score rests most of all on what was heard at"), "its picture holds the window");
    let of_kind =
        |kind: &str| device.events().into_iter().find(|path| path.extension().is_some_and(|own| own == kind)).unwrap();
    let kept = Kept::of_png(&std::fs::read(of_kind("png")).unwrap()).unwrap();
    assert!(kept.t_start_s <= 5.0 && kept.t_end_s >= 35.0, "{} to {} s", kept.t_start_s, kept.t_end_s);
    let clip = of_kind("wav");
    let clip_s = std::fs::metadata(&clip).unwrap().len() as f64 / 2.0 / f64::from(RATE_HZ);
    assert!((110.0..=121.0).contains(&clip_s), "{clip_s} s of sound");
    let heard = device.hear_file(&clip);
    let first = heard.of_type("window")[0]["score"].as_f64().unwrap();
    assert!(first < 0.5 && heard.alarms().len() == 2, "it begins before the scream: {first}");
}
