//! `host-tools eval` from outside: stream, noise and distance figures, pictures, `[measured]`; with the tiny network.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use system_tests::device::Device;
use system_tests::sound::{hiss, soft_hiss, write_wav};
use system_tests::{host_tools, host_tools_ok};

/// Four screams (loud hiss), four others (soft hiss) and two minutes of softer hiss without a scream. Only the columns that
/// the contract asks for.
fn recordings(device: &Device) {
    let (data, background) = (device.path("data"), device.path("background"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::create_dir_all(&background).unwrap();
    let mut manifest = String::from("file,label\n");
    for i in 0..4u32 {
        write_wav(&data.join(format!("loud{i}.wav")), &hiss(16_000, 1.2, i), 16_000);
        write_wav(&data.join(format!("soft{i}.wav")), &soft_hiss(16_000, 1.2, 200, i), 16_000);
        manifest.push_str(&format!("loud{i}.wav,1\nsoft{i}.wav,0\n"));
    }
    // A blank label is in no figure, and its recording may be gone.
    manifest.push_str("gone.wav,\n");
    std::fs::write(data.join("manifest.csv"), manifest).unwrap();
    write_wav(&background.join("still.wav"), &soft_hiss(16_000, 120.0, 400, 9), 16_000);
    std::fs::write(background.join("manifest.csv"), "file\nstill.wav\n").unwrap();
}

#[test]
fn everything_that_eval_knows_of_a_model() {
    let device = Device::tiny("");
    recordings(&device);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let (model, data) = (path("model"), path("data"));
    let text = host_tools_ok(&[
        "eval",
        "--model",
        &model,
        "--data",
        &data,
        "--background",
        &path("background"),
        "--full",
        "--plots",
        &path("plots"),
        "--write-measured",
        "--json",
        &path("e.json"),
    ]);
    let figures: Value = serde_json::from_slice(&std::fs::read(device.path("e.json")).unwrap()).unwrap();
    let number =
        |place: &str| figures.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("{place}: {text}"));
    assert_eq!((number("/clips/accuracy"), number("/clips/n_pos")), (1.0, 4.0));
    // Four of four is no certainty.
    assert!(number("/ci95/recall/0") < 0.6 && number("/stream/recall_ci95/0") < number("/stream/recall_ci95/1"));
    assert!(number("/noise/snrs/0/ci95/0") < 0.6);
    assert_eq!(number("/whole/recall"), 1.0, "a second of 1.2 s of hiss fills the window");

    // Two minutes without an alarm: 3 / T and no more is known.
    assert_eq!((number("/stream/alarms"), number("/stream/events")), (0.0, 4.0));
    assert!((number("/stream/hours") - 120.0 / 3600.0).abs() < 1e-9);
    assert!((number("/stream/ci95/1") - 3.6889 * 30.0).abs() < 0.01);
    assert_eq!(number("/stream/recall"), number("/stream/found") / 4.0);
    assert!(number("/stream/found") >= 1.0, "{text}");
    let (median, p95) = (number("/stream/onset_to_alarm_s/median"), number("/stream/onset_to_alarm_s/p95"));
    assert!(0.0 < median && median <= p95 && p95 <= 2.0, "{median} {p95}");
    let rates = figures["stream"]["rates"].as_array().unwrap();
    assert_eq!(rates.len(), 3);
    assert!(rates.iter().all(|at| at["recall"].is_null() && at["hours_needed"].as_f64().unwrap() >= 2.0), "{rates:?}");
    // More votes find no more screams.
    let sweep = figures["stream"]["sweep"].as_array().unwrap();
    let recall = |needed: u64| {
        let of = |at: &&Value| at["votes"]["needed"] == needed && at["threshold"] == 0.8;
        sweep.iter().filter(of).map(|at| at["recall"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    assert!(recall(1) >= recall(2) && recall(2) >= recall(3), "{sweep:?}");

    // The scream keeps its level at every SNR: it is as loud as ever, and near.
    let snrs: Vec<f64> =
        figures["noise"]["snrs"].as_array().unwrap().iter().map(|at| at["snr_db"].as_f64().unwrap()).collect();
    assert_eq!(
        (snrs, number("/noise/snrs/0/recall"), number("/noise/alone")),
        (vec![20.0, 10.0, 5.0, 0.0, -5.0], 1.0, 0.0)
    );
    let recall = |i: usize| number(&format!("/distance/distances/{i}/recall"));
    assert!(recall(0) == 1.0 && recall(0) >= recall(1) && recall(1) >= recall(2), "{text}");

    for name in ["det", "roc", "reliability", "classes", "stream", "noise", "worst"] {
        let png = std::fs::read(device.path("plots").join(format!("{name}.png"))).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{name}");
    }
    let manifest = std::fs::read_to_string(device.path("model/manifest.toml")).unwrap();
    assert!(
        manifest.contains("[measured.eval]") && manifest.contains("accuracy = 1.0") && manifest.contains("cut_s = 2.5"),
        "{manifest}"
    );
    assert_eq!(device.command("check").output().unwrap().status.code(), Some(0), "the manifest is one still");
}

#[test]
fn without_background_it_measures_clips_alone_and_leaves_the_model_as_it_is() {
    let device = Device::tiny("");
    recordings(&device);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let before = std::fs::read(device.path("model/manifest.toml")).unwrap();
    host_tools_ok(&["eval", "--model", &path("model"), "--data", &path("data"), "--json", &path("e.json")]);
    let figures: Value = serde_json::from_slice(&std::fs::read(device.path("e.json")).unwrap()).unwrap();
    for key in ["background", "stream", "noise", "distance"] {
        assert!(figures.get(key).is_none(), "{key}");
    }
    assert_eq!(std::fs::read(device.path("model/manifest.toml")).unwrap(), before);
    // A folder that is not there is no reason to lose the work: it is said before.
    for flag in ["--json", "--scores"] {
        let args = ["eval", "--model", &path("model"), "--data", &path("data"), flag, &path("missing/file")];
        let refused = host_tools(&args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(refused.stdout.is_empty() && said.contains("/missing: No such file"), "{said}");
    }
    let refused = host_tools(&["eval", "--model", &path("model"), "--data", &path("data"), "--split", "test"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no row of split `test`"));
}

/// A figure is of all its clips or of none; a clip that is in no figure may be damaged.
#[test]
fn a_damaged_recording_is_told_before_the_work_or_left_out_where_it_has_no_label() {
    let device = Device::tiny("");
    recordings(&device);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let truncated = |name: &str| {
        let bytes = std::fs::read(device.path(name)).unwrap();
        std::fs::write(device.path(name), &bytes[..bytes.len() / 2]).unwrap();
    };
    let (model, data, background, json) = (path("model"), path("data"), path("background"), path("e.json"));
    let eval = |more: &[&str]| {
        let ran = host_tools(&[&["eval", "--model", &model, "--data", &data, "--json", &json], more].concat());
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    std::fs::copy(device.path("data/soft0.wav"), device.path("data/gone.wav")).unwrap();
    truncated("data/gone.wav");
    let (code, said) = eval(&[]);
    assert!(code == Some(0) && said.contains("warning: ") && said.contains("gone.wav: truncated"), "{said}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&figures["clips"]["n_pos"], &figures["clips"]["n_neg"]), (&4.into(), &4.into()));
    // Before a clip is scored: there is no file of scores.
    truncated("background/still.wav");
    let scores = path("s.csv");
    let (code, said) = eval(&["--background", &background, "--scores", &scores]);
    assert!(code == Some(2) && said.contains("still.wav: truncated"), "{said}");
    assert!(!device.path("s.csv").exists(), "{said}");
    truncated("data/loud2.wav");
    let (code, said) = eval(&[]);
    assert!(code == Some(2) && said.contains("loud2.wav: truncated"), "{said}");
}

/// Of no screams there is no recall: null, not the 0 of a model that is deaf.
#[test]
fn without_screams_no_recall_is_told() {
    let device = Device::tiny("");
    recordings(&device);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    std::fs::write(device.path("data/manifest.csv"), "file,label\nsoft0.wav,0\nsoft1.wav,0\n").unwrap();
    let (model, data, json, plots) = (path("model"), path("data"), path("e.json"), path("plots"));
    let args = ["eval", "--model", &model, "--data", &data, "--full", "--json", &json, "--plots", &plots];
    let text = host_tools_ok(&args);
    assert!(!text.contains("NaN"), "{text}");
    let figures: Value = serde_json::from_slice(&std::fs::read(device.path("e.json")).unwrap()).unwrap();
    for place in [
        "/clips/recall",
        "/stream/recall",
        "/stream/sweep/0/recall",
        "/noise/snrs/0/recall",
        "/distance/distances/0/recall",
    ] {
        assert_eq!(figures.pointer(place), Some(&Value::Null), "{place}");
    }
    assert_eq!(figures.pointer("/stream/alarms"), Some(&Value::from(0)));
    assert!(device.path("plots/worst.png").exists() && !device.path("plots/noise.png").exists());
}
