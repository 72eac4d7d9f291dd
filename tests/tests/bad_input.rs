//! What is refused: one clear error that names file, key and cause; exit status 2; nothing on standard output.
#![allow(clippy::unwrap_used)]

use system_tests::device::Device;
use system_tests::host_tools;
use system_tests::sound::{one_scream, wav};

const RATE_HZ: u32 = 16_000;

/// Runs the device over `sound`; it must be refused with all of `named` in what it says.
#[track_caller]
fn refused(device: &Device, sound: &[u8], named: &[&str]) {
    let ran = device.hear(sound);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.lines.is_empty(), "{:?}", ran.lines);
    for name in named {
        assert!(ran.stderr.contains(name), "`{name}` is not in: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("siren ON"), "{}", ran.stderr);
    assert!(device.events().is_empty());
}

fn good() -> Vec<u8> {
    wav(&one_scream(RATE_HZ), RATE_HZ, 1)
}

#[test]
fn recordings_that_are_none() {
    let device = Device::tiny("");
    refused(&device, b"", &["sound.wav", "empty"]);
    refused(&device, b"this is a letter, not a recording, however long it may be. ", &["sound.wav"]);
    refused(&device, &good()[..44], &["sound.wav"]);
    let missing = device.hear_file(&device.path("nowhere.wav"));
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("nowhere.wav"), "{}", missing.stderr);
}

#[test]
fn a_truncated_recording_says_so() {
    let device = Device::tiny("");
    let sound = good();
    refused(&device, &sound[..sound.len() / 2], &["sound.wav", "truncated"]);
    refused(&device, &sound[..20], &["sound.wav"]);
}

#[test]
fn weights_with_one_flipped_bit() {
    let device = Device::tiny("");
    let path = device.path("model/model.nnef.tgz");
    let weights = std::fs::read(&path).unwrap();
    for place in [0, weights.len() / 3, weights.len() - 1] {
        let mut flipped = weights.clone();
        flipped[place] ^= 0x10;
        std::fs::write(&path, flipped).unwrap();
        refused(&device, &good(), &["model.nnef.tgz", "sha256"]);
    }
    std::fs::write(&path, &weights[..weights.len() / 2]).unwrap();
    refused(&device, &good(), &["model.nnef.tgz", "sha256"]);
    std::fs::remove_file(&path).unwrap();
    refused(&device, &good(), &["model.nnef.tgz"]);
}

#[test]
fn a_manifest_of_another_shape() {
    let device = Device::tiny("");
    let path = device.path("model/manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, key) in [
        ("window_s = 1.0", "window_s = 2.0", "front_end.window_s"),
        ("n_mels = 64", "n_mels = 32", "front_end.n_mels"),
        ("colormap = \"none\"", "colormap = \"viridis\"", "front_end.colormap"),
        ("[\"other\", \"scream\"]", "[\"other\", \"shout\", \"scream\"]", "labels"),
    ] {
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        refused(&device, &good(), &["model.nnef.tgz", key]);
    }
    for (from, to, key) in [
        ("threshold_on", "treshold_on", "treshold_on"),
        ("hop = 512", "hop = 0", "hop"),
        ("alarm_labels = [\"scream\"]", "alarm_labels = [\"yell\"]", "alarm_labels"),
        ("threshold_off = 0.50", "threshold_off = 0.90", "threshold_off"),
        // The softmax of one number is 1: it would alarm at every window.
        ("[\"other\", \"scream\"]", "[\"scream\"]", "one label of logits"),
        ("name = \"tiny\"", "name = \"ti\\nny\"", "`name`"),
    ] {
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        refused(&device, &good(), &["manifest.toml", key]);
    }
}

#[test]
fn site_keys() {
    let device = Device::tiny("");
    for (more, named) in [
        ("max_mb = 3", &["max_mb", "max_mib"][..]),
        ("max_mib = \"much\"", &["max_mib"]),
        ("[siren]\nquiet_hours = [\"9 to 5\"]", &["quiet_hours", "9 to 5"]),
        ("[audio]\ndevice = \"hw:1\"", &["audio.device", "CARD="]),
        ("[decision]\nthreshold_on = 1.5", &["threshold_on"]),
        ("[sirne]\narmed = true", &["sirne", "siren"]),
        ("[mqtt]\nport = 1883", &["mqtt.host"]),
        ("[siren", &["line"]),
    ] {
        device.site(more);
        refused(&device, &good(), &[&["site.toml"], named].concat());
    }
}

#[test]
fn sound_that_no_window_would_hold() {
    let device = Device::tiny("");
    device.site("[decision]\nstride_s = 5");
    let ran = device.hear(&good());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("`decision.stride_s`: is 5, longer than the model's window of 1 s"), "{}", ran.stderr);
}

#[test]
fn a_recording_of_more_channels_than_are_read() {
    let device = Device::tiny("");
    for channels in [1_025u16, 2_048] {
        refused(
            &device,
            &wav(&[100; 20_480], RATE_HZ, channels),
            &["sound.wav", &format!("it has {channels} channels")],
        );
    }
}

#[test]
fn a_recording_of_what_is_no_number() {
    let device = Device::tiny("");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut sound = good();
        // The same header for 32-bit floats (WAVE_FORMAT_IEEE_FLOAT).
        let data: Vec<u8> = (0..16_000).flat_map(|n| if n == 8_000 { bad } else { 0.1 }.to_le_bytes()).collect();
        sound.truncate(44);
        sound[4..8].copy_from_slice(&(36 + data.len() as u32).to_le_bytes());
        sound[20..22].copy_from_slice(&3u16.to_le_bytes());
        sound[28..32].copy_from_slice(&(RATE_HZ * 4).to_le_bytes());
        sound[32..36].copy_from_slice(&[4, 0, 32, 0]);
        sound[40..44].copy_from_slice(&(data.len() as u32).to_le_bytes());
        sound.extend(data);
        let ran = device.hear(&sound);
        assert!(ran.code != 0 && ran.stderr.contains("sound.wav: damaged"), "{bad}: {} {}", ran.code, ran.stderr);
    }
}

/// Nobody writes to them: opening one would wait for ever.
#[test]
fn pipes_in_the_place_of_files() {
    let device = Device::tiny("");
    for name in ["site.toml", "model/model.nnef.tgz"] {
        let path = device.path(name);
        let kept = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(&device, &good(), &[name.rsplit('/').next().unwrap(), "is a pipe, not a file"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, kept).unwrap();
    }
}

#[test]
fn check_says_who_has_the_last_word() {
    let device = Device::tiny("");
    let check = || String::from_utf8(device.command("check").output().unwrap().stdout).unwrap();
    let row = |key: &str| {
        let said = check();
        let line = said.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap_or("none").to_string();
        line.split_whitespace().skip(key.split(' ').count()).map(String::from).collect::<Vec<_>>().join(" ")
    };
    device.site("[audio]\ndevice = \"default\"");
    assert_eq!((row("armed"), row("siren on_s")), ("true built-in".into(), "30 built-in".into()));
    device.site("[audio]\ndevice = \"default\"\n[siren]\narmed = true\non_s = 2000\n[decision]\nthreshold_on = 0.3");
    assert_eq!((row("armed"), row("siren on_s")), ("true site".into(), "180 board".into()));
    assert_eq!((row("threshold_on"), row("threshold_off")), ("0.3 site".into(), "0.3 site".into()));
    assert_eq!((row("hold_s"), row("siren_on_s_max")), ("2 model manifest".into(), "180 board".into()));
}

/// A fresh system's time zone is hardly ever the house's: who sets quiet hours sees which it is.
#[test]
fn check_says_by_which_clock_the_siren_is_quiet() {
    let check = |device: &Device, zone: &str| {
        let output = device.command("check").env("TZ", zone).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let quiet = Device::tiny("[siren]\nquiet_hours = [\"22:00-06:30\"]");
    let said = check(&quiet, "Asia/Tokyo");
    assert!(said.contains("here it is ") && said.contains(" (Asia/Tokyo)"), "{said}");
    assert!(!check(&Device::tiny(""), "Asia/Tokyo").contains("local time"));
}

#[test]
fn check_tells_every_problem_at_once() {
    let device = Device::tiny("");
    device.site("max_mb = 3\n[siren]\non_s = -1\n[audio]\ndevice = \"hw:1\"");
    let output = device.command("check").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{said}");
    for name in ["site.toml", "max_mb", "max_mib", "siren.on_s", "audio.device"] {
        assert!(said.contains(name), "`{name}` is not in: {said}");
    }
    // Also where the board is refused, and where a key of another table is misspelt.
    device.site("[decision]\nthreshold_on = 1.5\n[mqtt]\nport = 1883\n[audio]\ndevise = \"default\"");
    let output = device.command("check").args(["--board", "none.toml"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for name in ["none.toml", "decision.threshold_on", "mqtt.host", "audio.devise"] {
        assert!(said.contains(name), "`{name}` is not in: {said}");
    }
    // Also the folders, though a key is misspelt.
    std::fs::write(device.path("events"), "").unwrap();
    device.site("max_mb = 3");
    let said = device.command("check").output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    for name in ["max_mb", "`events.dir`", "is a file, and no folder can be there"] {
        assert!(said.contains(name), "`{name}` is not in: {said}");
    }
    std::fs::remove_file(device.path("events")).unwrap();
    // An editor's byte order mark is no part of a key; a zone stands in every alert, whose size is bounded.
    device.site("[audio]\ndevice = \"hw:DEV=0,CARD=1\"");
    let rest = std::fs::read_to_string(device.path("site.toml")).unwrap();
    let marked = format!("\u{feff}zonne = \"x\"\nzone = \"{}\"\n{rest}", "z".repeat(5_000));
    std::fs::write(device.path("site.toml"), marked).unwrap();
    let output = device.command("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    for name in ["`zonne`", "`zone`: must be of 256 bytes", "card number 1"] {
        assert!(said.contains(name), "`{name}` is not in: {said}");
    }
    device.site("[audio]\ndevice = \"default\"");
    let output = device.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A recording needs no siren, a house does.
#[test]
fn check_warns_of_an_alarm_that_would_not_sound() {
    let device = Device::tiny("");
    for (more, board, warns) in [
        ("", None, false),
        ("[audio]\ndevice = \"default\"", None, true),
        ("[audio]\ndevice = \"default\"", Some("boards/raspberry-pi-4.toml"), false),
    ] {
        device.site(more);
        let output = device.command("check").args(board.iter().flat_map(|file| ["--board", *file])).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("`board`: with \"generic\" no line is driven and NO SIREN SOUNDS"), warns, "{said}");
    }
}

/// tract panics on it: in `run` that would be the hook's abort, at every start anew.
#[test]
fn a_network_that_tract_panics_on_is_refused_by_its_file_name() {
    let device = Device::tiny("[audio]\ndevice = \"default\"");
    device.onnx("no_stride");
    let (check, run) = (device.command("check").output().unwrap(), device.hear(&good()));
    let checked = String::from_utf8_lossy(&check.stderr);
    for (code, said) in [(check.status.code(), &*checked), (Some(run.code), &run.stderr)] {
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("model.onnx: not a network that can be run: ") && !said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_network_that_gives_no_number_is_a_fault_and_no_alarm() {
    let device = Device::tiny("");
    device.onnx("nan");
    let ran = device.hear(&good());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.alarms().is_empty());
    assert!(ran.of_type("window").len() == 20, "every window has its line");
    let faults: Vec<_> = ran.of_type("fault").iter().map(|line| line["fault"].as_str().unwrap()).collect();
    assert_eq!(faults, ["ModelInvalid"]);
    assert_eq!(ran.of_type("restore").len(), 1, "numbers come again with the silence");
}

#[test]
fn tools_name_the_file_too() {
    let device = Device::tiny("");
    let recording = device.path("good.wav");
    std::fs::write(&recording, good()).unwrap();
    let recording = recording.to_str().unwrap();
    let npy = device.path("x.npy");
    let npy = npy.to_str().unwrap();
    for (args, named) in [
        (&["features", "Cargo.toml", "--model", "models/default", "--out", npy][..], "Cargo.toml"),
        (&["features", recording, "--model", "boards", "--out", npy], "boards"),
        (&["eval", "--model", "models/default", "--data", "boards"], "manifest.csv"),
        (&["report", "--events", "nowhere", "--out", "/dev/null"], "nowhere"),
        (
            &[
                "convert",
                "--onnx",
                "Cargo.toml",
                "--manifest",
                "tests/data/tiny/manifest-in.toml",
                "--out",
                "/tmp/none",
            ],
            "Cargo.toml",
        ),
        (
            &[
                "convert",
                "--onnx",
                "tests/data/nan/model.onnx",
                "--manifest",
                "tests/data/tiny/manifest-in.toml",
                "--out",
                "/tmp/none",
            ],
            "model.onnx: ",
        ),
        (
            &[
                "convert",
                "--onnx",
                "tests/data/no_stride/model.onnx",
                "--manifest",
                "tests/data/tiny/manifest-in.toml",
                "--out",
                "/tmp/none",
            ],
            "model.onnx: ",
        ),
    ] {
        let output = host_tools(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named) && !said.contains("panicked"), "{args:?}: {said}");
    }
}
