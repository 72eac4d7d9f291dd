//! `host-tools quant-check` and `calibrate` from outside, with the tiny network and sounds whose right answer is known.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;
use system_tests::device::Device;
use system_tests::sound::{hiss, silence, soft_hiss, write_wav};
use system_tests::{host_tools, host_tools_ok};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// Loud hiss that the tiny network takes for a scream, and soft hiss, which is none.
fn clips(device: &Device) -> String {
    let data = device.path("data");
    std::fs::create_dir_all(&data).unwrap();
    // No class, no group, no source: the columns that the contract does not ask for.
    let mut manifest = String::from("file,label,split\n");
    for i in 0..6u32 {
        write_wav(&data.join(format!("loud{i}.wav")), &hiss(16_000, 0.9, i), 16_000);
        write_wav(&data.join(format!("soft{i}.wav")), &soft_hiss(16_000, 0.9, 200, i), 16_000);
        manifest.push_str(&format!("loud{i}.wav,1,test\nsoft{i}.wav,0,test\n"));
    }
    // A blank label is in no figure.
    manifest.push_str("gone.wav,,test\n");
    std::fs::write(data.join("manifest.csv"), manifest).unwrap();
    text(&data)
}

fn quant_check(reference: &Path, candidate: &Path, data: &str, out: &Path) -> (Option<i32>, Value) {
    let ran = host_tools(&[
        "quant-check",
        "--reference",
        &text(reference),
        "--candidate",
        &text(candidate),
        "--data",
        data,
        "--split",
        "test",
        "--json",
        &text(out),
    ]);
    let figures = if out.exists() { json(out) } else { panic!("{}", String::from_utf8_lossy(&ran.stderr)) };
    (ran.status.code(), figures)
}

#[test]
fn a_model_may_take_its_own_place_and_its_8_bit_form_is_smaller() {
    let (device, eight) = (Device::tiny(""), Device::tiny(""));
    eight.convert("tiny", "int8");
    let data = clips(&device);
    for (candidate, smaller) in [(&device, false), (&eight, true)] {
        let out = candidate.path("q.json");
        let (code, figures) = quant_check(&device.path("model"), &candidate.path("model"), &data, &out);
        // Whether a window of a tenth of a millisecond takes 10 % longer is the machine's mood: no test fails on time.
        let timed = figures["reasons"].as_array().unwrap().iter().all(|r| r.as_str().unwrap().contains("slower"));
        assert!(timed && (code == Some(0)) == figures["accepted"].as_bool().unwrap(), "{figures}");
        assert_eq!(figures["agreement"], 1.0);
        assert_eq!((&figures["recall_reference"], &figures["recall_candidate"]), (&1.0.into(), &1.0.into()));
        assert_eq!(figures["size_ratio"].as_f64().unwrap() < 1.0, smaller, "{figures}");
        assert_eq!(figures["max_abs_score_diff"].as_f64().unwrap() > 0.0, smaller, "{figures}");
        assert!(
            figures["max_abs_score_diff"].as_f64().unwrap() < 0.02 && figures["speed_ratio"].as_f64().unwrap() > 0.0
        );
    }
}

/// `file`, `sha256` and `[golden]` are put into the author's own text; where that cannot be done nothing is written.
#[test]
fn a_manifest_that_cannot_be_completed_is_refused() {
    let device = Device::tiny("");
    let root = system_tests::root().join("tests/data/tiny");
    let whole = std::fs::read_to_string(root.join("manifest-in.toml")).unwrap();
    let (manifest, out) = (device.path("in.toml"), device.path("out"));
    for toml in [
        whole.replace("version = \"1.0.0\"", "\"version\" = \"1.0.0\""),
        format!("{whole}\n[ golden ]\nsha256 = \"x\"\n"),
    ] {
        std::fs::write(&manifest, &toml).unwrap();
        let onnx = text(&root.join("model.onnx"));
        let ran = host_tools(&["convert", "--onnx", &onnx, "--manifest", &text(&manifest), "--out", &text(&out)]);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains("in.toml") && !out.exists(), "{said}");
    }
}

/// Ranks alone would not tell: it alarms at everything.
#[test]
fn a_threshold_that_flags_the_other_clips_is_refused() {
    let (device, shifted) = (Device::tiny(""), Device::tiny(""));
    let manifest = shifted.path("model/manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let number = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_string();
    let low = text
        .replace(&number("threshold_on"), "threshold_on = 0.0")
        .replace(&number("threshold_off"), "threshold_off = 0.0");
    std::fs::write(&manifest, low).unwrap();
    let data = clips(&device);
    let out = device.path("q.json");
    let (code, figures) = quant_check(&device.path("model"), &shifted.path("model"), &data, &out);
    assert_eq!((code, &figures["recall_candidate"]), (Some(1), &figures["recall_reference"]), "{figures}");
    assert!(figures["reasons"].to_string().contains("6 of 6 other clips are flagged"), "{figures}");
}

#[test]
fn a_model_that_gives_no_number_is_refused_with_the_reasons() {
    let (device, broken) = (Device::tiny(""), Device::tiny(""));
    broken.onnx("nan");
    let data = clips(&device);
    let out = device.path("q.json");
    let (code, figures) = quant_check(&device.path("model"), &broken.path("model"), &data, &out);
    assert_eq!((code, &figures["accepted"]), (Some(1), &false.into()), "{figures}");
    let reasons = figures["reasons"].to_string();
    assert!(reasons.contains("finite") && reasons.contains("recall"), "{reasons}");
    assert_eq!(figures["recall_candidate"], 0.0);
}

#[test]
fn models_of_other_front_ends_are_compared_each_with_its_own_picture() {
    let device = Device::tiny("");
    let data = clips(&device);
    let shipped = system_tests::root().join("models/default");
    let out = device.path("q.json");
    // Four seconds of ResNet34 against one of a dense layer: hundreds of times slower on any machine.
    let (code, figures) = quant_check(&device.path("model"), &shipped, &data, &out);
    assert_eq!(code, Some(1), "{figures}");
    assert!(figures["reasons"].to_string().contains("slower") && figures["speed_ratio"].as_f64().unwrap() > 2.0);
}

/// Two minutes of silence with soft hiss twice: scores well under the loud one's and above `threshold_off`.
fn home(path: &Path, divisor: i16) {
    let quiet = || silence(16_000, 39.0);
    let sound =
        [quiet(), soft_hiss(16_000, 2.0, divisor, 7), quiet(), soft_hiss(16_000, 2.0, divisor, 8), quiet()].concat();
    write_wav(path, &sound, 16_000);
}

#[test]
fn a_calibrated_site_is_still_at_home_and_alarms_at_a_scream() {
    let device = Device::tiny("");
    let path = |name: &str| text(&device.path(name));
    home(&device.path("home.wav"), 10);
    write_wav(&device.path("scream.wav"), &hiss(16_000, 1.0, 3), 16_000);
    let before = device.hear_file(&device.path("home.wav"));
    assert_eq!(before.alarms().len(), 4, "without calibration it alarms twice: {}", before.stderr);
    host_tools_ok(&[
        "calibrate",
        "--model",
        &path("model"),
        "--background",
        &path("home.wav"),
        "--screams",
        &path("scream.wav"),
        "--false-alarms-per-hour",
        "100",
        "--out",
        &path("decision.toml"),
        "--json",
        &path("c.json"),
    ]);
    let figures = json(&device.path("c.json"));
    assert_eq!((&figures["alarms"], &figures["screams"]["found"]), (&0.into(), &1.into()), "{figures}");
    assert!(figures["threshold_on"].as_f64().unwrap() > 0.8, "{figures}");
    let table = std::fs::read_to_string(device.path("decision.toml")).unwrap();
    assert!(table.contains("recall 1.000") && table.contains("[decision]"), "{table}");
    device.site(&table);
    let check = device.command("check").output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(device.hear_file(&device.path("home.wav")).alarms().is_empty(), "{table}");
    assert_eq!(device.hear_file(&device.path("scream.wav")).alarms().len(), 2, "{table}");
}

#[test]
fn a_rate_that_the_hours_cannot_show_is_refused() {
    let device = Device::tiny("");
    let path = |name: &str| text(&device.path(name));
    home(&device.path("home.wav"), 10);
    let calibrate = |rate: &str| {
        let args = ["--false-alarms-per-hour", rate, "--out", &path("decision.toml")];
        let model = ["calibrate", "--model", &path("model"), "--background", &path("home.wav")];
        host_tools(&[&model[..], &args[..]].concat())
    };
    // 121 s are 0.0336 h: 0.5 an hour needs six.
    for (rate, expect) in
        [("0.5", "needs 6.00 h"), ("80", "needs 0.04 h"), ("0", "must be above 0"), ("nan", "must be above 0")]
    {
        let refused = calibrate(rate);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains(expect), "{rate}: {said}");
        assert!(!device.path("decision.toml").exists(), "nothing is written");
    }
    assert!(calibrate("100").status.success());
}
