//! `host-tools` from outside, with the tiny network and sounds whose right answer is known.
#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use system_tests::device::Device;
use system_tests::sound::{hiss, one_scream, silence, write_wav};
use system_tests::{host_tools, host_tools_ok, program};

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn features_are_float32_of_the_networks_shape() {
    let device = Device::tiny("");
    write_wav(&device.path("a.wav"), &hiss(16_000, 0.4, 1), 16_000);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    host_tools_ok(&["features", &path("a.wav"), "--model", &path("model"), "--out", &path("a.npy")]);
    let bytes = std::fs::read(path("a.npy")).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let header = String::from_utf8_lossy(&bytes[10..10 + length]);
    assert!(header.contains("'<f4'") && header.contains("(1, 64, 32)"), "{header}");
    let values: Vec<f32> =
        bytes[10 + length..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values.len(), 64 * 32);
    // Behind 0.4 s come zeros, whose logarithm is log2(1e-10).
    assert!((values[31] - 1e-10f32.log2()).abs() < 1e-3 && values[5] > -20.0, "{} {}", values[31], values[5]);
    host_tools_ok(&["features", &path("a.wav"), "--model", &path("model"), "--out", &path("a.png")]);
    assert!(std::fs::read(path("a.png")).unwrap().starts_with(b"\x89PNG"));
    // The same colours, pixel for pixel, whether or not the network gets them normalised.
    let manifest = device.path("model/manifest.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let coloured = |more: &str| {
        let text = text.replace("normalisation = \"none\"", "normalisation = \"min_max\"");
        std::fs::write(&manifest, text.replace("colormap = \"none\"", &format!("colormap = \"viridis\"{more}")))
            .unwrap();
        host_tools_ok(&["features", &path("a.wav"), "--model", &path("model"), "--out", &path("b.png")]);
        std::fs::read(path("b.png")).unwrap()
    };
    let plain = coloured("");
    assert!(plain == coloured("\nrgb_mean = [0.485, 0.456, 0.406]\nrgb_deviation = [0.229, 0.224, 0.225]"));
}

#[test]
fn weights_in_16_and_8_bits_give_the_same_alarm() {
    let device = Device::tiny("");
    write_wav(&device.path("a.wav"), &one_scream(16_000), 16_000);
    let whole = std::fs::metadata(device.path("model/model.nnef.tgz")).unwrap().len();
    let scores = || -> Vec<f64> {
        let ran = device.hear_file(&device.path("a.wav"));
        assert_eq!(ran.alarms().len(), 2, "{}", ran.stderr);
        ran.of_type("window").iter().map(|line| line["score"].as_f64().unwrap()).collect()
    };
    let reference = scores();
    for weights in ["f16", "int8"] {
        device.convert("tiny", weights);
        assert!(std::fs::metadata(device.path("model/model.nnef.tgz")).unwrap().len() < whole, "{weights}");
        let worst = scores().iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.02, "{weights}: a score moved by {worst}");
    }
}

#[test]
fn eval_of_clips_whose_answer_is_known() {
    let device = Device::tiny("");
    let data = device.path("data");
    std::fs::create_dir_all(&data).unwrap();
    let mut manifest = String::from("file,label,class,split\n");
    for i in 0..4u32 {
        write_wav(&data.join(format!("hiss{i}.wav")), &hiss(16_000, 1.0, i), 16_000);
        manifest.push_str(&format!("hiss{i}.wav,1,scream,test\n"));
        let tone: Vec<i16> =
            (0..16_000).map(|n| (8000.0 * (f64::from(n) * (0.05 + 0.01 * f64::from(i))).sin()) as i16).collect();
        write_wav(&data.join(format!("tone{i}.wav")), &tone, 16_000);
        manifest.push_str(&format!("tone{i}.wav,0,tone,test\n"));
    }
    // In no figure: a blank label, another split.
    manifest.push_str("tone0.wav,,unknown,test\nhiss0.wav,0,wrong,train\n");
    std::fs::write(data.join("manifest.csv"), manifest).unwrap();
    let background = device.path("background");
    std::fs::create_dir_all(&background).unwrap();
    write_wav(&background.join("still.wav"), &silence(16_000, 18.0), 16_000);
    write_wav(&background.join("loud.wav"), &one_scream(16_000), 16_000);
    std::fs::write(background.join("manifest.csv"), "file,kind,split\nstill.wav,still,test\nloud.wav,loud,test\n")
        .unwrap();

    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let (model, data, background) = (path("model"), path("data"), path("background"));
    let (figures, scores) = (path("eval.json"), path("scores.csv"));
    host_tools_ok(&[
        "eval",
        "--model",
        &model,
        "--data",
        &data,
        "--split",
        "test",
        "--background",
        &background,
        "--scores",
        &scores,
        "--json",
        &figures,
    ]);
    let figures = json(&device.path("eval.json"));
    let clips = &figures["clips"];
    assert_eq!((clips["n_pos"].as_u64(), clips["n_neg"].as_u64()), (Some(4), Some(4)), "{clips}");
    for key in ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"] {
        assert_eq!(clips[key].as_f64(), Some(1.0), "{key} in {clips}");
    }
    assert_eq!(clips["threshold"].as_f64(), Some(0.8));
    let background = &figures["background"];
    assert_eq!(background["alarms"].as_u64(), Some(1), "{background}");
    let hours = background["hours"].as_f64().unwrap();
    assert!((hours - 28.5 / 3600.0).abs() < 1e-6, "{hours}");
    assert!((background["per_hour"].as_f64().unwrap() - 1.0 / hours).abs() < 1e-3);
    let scores = std::fs::read_to_string(scores).unwrap();
    assert_eq!(scores.lines().count(), 1 + 9, "blank labels too: {scores}");
    assert!(scores.starts_with("file,label,class,score\n"));
}

/// A set without labels, or of one label, has no ROC; everything else it has.
#[test]
fn eval_of_clips_that_have_one_label_or_none() {
    let device = Device::tiny("");
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    for name in ["data", "background"] {
        std::fs::create_dir_all(device.path(name)).unwrap();
    }
    write_wav(&device.path("data/a.wav"), &hiss(16_000, 1.0, 1), 16_000);
    write_wav(&device.path("data/b.wav"), &silence(16_000, 1.0), 16_000);
    write_wav(&device.path("background/loud.wav"), &one_scream(16_000), 16_000);
    std::fs::write(device.path("background/manifest.csv"), "file,kind,split\nloud.wav,loud,test\n").unwrap();
    for (labels, n, accuracy, recall) in [
        (["1", ""], (1, 0), Some(1.0), Some(1.0)),
        (["", "0"], (0, 1), Some(1.0), None),
        (["", ""], (0, 0), None, None),
    ] {
        let rows = format!("file,label,class,split\na.wav,{},x,test\nb.wav,{},y,test\n", labels[0], labels[1]);
        std::fs::write(device.path("data/manifest.csv"), rows).unwrap();
        let folders =
            ["--model", &path("model"), "--data", &path("data"), "--background", &path("background")].map(String::from);
        let files =
            ["--scores", &path("s.csv"), "--json", &path("e.json"), "--plots", &path("plots")].map(String::from);
        host_tools_ok(&[&["eval".to_string(), "--full".into()][..], &folders, &files].concat());
        let figures = json(&device.path("e.json"));
        let clips = &figures["clips"];
        assert_eq!((clips["n_pos"].as_u64(), clips["n_neg"].as_u64()), (Some(n.0), Some(n.1)));
        assert_eq!((clips["accuracy"].as_f64(), clips["recall"].as_f64()), (accuracy, recall), "{clips}");
        assert!(clips["roc_auc"].is_null() && clips.get("roc_auc").is_some(), "{clips}");
        assert_eq!(figures["background"]["alarms"].as_u64(), Some(1), "{figures}");
        assert_eq!(std::fs::read_to_string(path("s.csv")).unwrap().lines().count(), 3);
    }
}

#[test]
fn a_reader_who_goes_away_stops_nothing() {
    let device = Device::tiny("");
    write_wav(&device.path("a.wav"), &one_scream(16_000), 16_000);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (reader, gone) = std::io::pipe().unwrap();
    drop(reader);
    for (name, stdout, expect) in [("gone", Stdio::from(gone), 0), ("full", Stdio::from(full), 2)] {
        let report = device.path(&format!("{name}.json"));
        let ran = Command::new(program("host-tools"))
            .args(["score".as_ref(), device.path("a.wav").as_os_str()])
            .args(["--model".as_ref(), device.path("model").as_os_str(), "--json".as_ref(), report.as_os_str()])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(expect), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
        assert!(report.exists(), "{name}: what else was asked for is done: {said}");
        assert_eq!(said.matches("standard output: ").count(), usize::from(expect == 2), "{name}: {said}");
    }
}

/// Whose lines go into a file would else look at nothing, for as long as it takes.
#[test]
fn a_score_into_a_file_shows_how_far_it_is() {
    let device = Device::tiny("");
    write_wav(&device.path("a.wav"), &[one_scream(16_000), silence(16_000, 30.0)].concat(), 16_000);
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let score = format!("{} score {} --model {}", program("host-tools").display(), path("a.wav"), path("model"));
    let in_terminal = |command: &str| {
        let mut script = Command::new("script");
        script.args(["-qec", command, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm");
        let ran = script.output().unwrap();
        assert!(ran.status.success(), "{command}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    let shown = in_terminal(&format!("{score} > {}", path("lines.txt")));
    assert!(shown.contains("seconds [") && shown.contains("/41 ") && !shown.contains("threshold"), "{shown:?}");
    let lines = std::fs::read_to_string(device.path("lines.txt")).unwrap();
    assert!(lines.contains("threshold") && !lines.contains("seconds ["), "{lines}");
    let shown = in_terminal(&score);
    assert!(shown.contains("threshold") && !shown.contains("seconds ["), "they pass before one's eyes: {shown:?}");
}

/// As where the disk is full that standard error goes to.
#[test]
fn a_warning_that_nobody_can_read_ends_nothing() {
    let device = Device::tiny("");
    let data = device.path("data");
    std::fs::create_dir_all(&data).unwrap();
    write_wav(&data.join("a.wav"), &hiss(16_000, 1.0, 1), 16_000);
    std::fs::write(data.join("manifest.csv"), "file,label\na.wav,1\ngone.wav,\n").unwrap();
    let figures = device.path("e.json");
    for (folder, expect) in [(data.as_path(), 0), (std::path::Path::new("nowhere"), 2)] {
        let ran = Command::new(program("host-tools"))
            .args(["eval".as_ref(), "--model".as_ref(), device.path("model").as_os_str()])
            .args(["--data".as_ref(), folder.as_os_str(), "--json".as_ref(), figures.as_os_str()])
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().write(true).open("/dev/full").unwrap())
            .status()
            .unwrap();
        assert_eq!(ran.code(), Some(expect), "{}", folder.display());
    }
    assert_eq!(json(&figures)["clips"]["n_pos"], 1);
}

#[test]
fn bench_writes_what_people_read_into_the_manifest() {
    let device = Device::tiny("");
    let model = device.path("model").to_str().unwrap().to_string();
    for _ in 0..2 {
        host_tools_ok(&["bench", "--model", &model, "--windows", "5", "--budget-ms", "60000", "--write-measured"]);
    }
    let manifest: toml::Table = std::fs::read_to_string(device.path("model/manifest.toml")).unwrap().parse().unwrap();
    let bench = &manifest["measured"]["bench"];
    assert!(bench["total_ms"]["p99"].as_float().unwrap() > 0.0 && bench["windows"].as_integer() == Some(5), "{bench}");
    let refused = host_tools(&["bench", "--model", &model, "--budget-ms", "nan"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--budget-ms NaN: must be 0 or more"), "{said}");
}

#[test]
fn bench_measures_and_judges() {
    let device = Device::tiny("");
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    host_tools_ok(&[
        "bench",
        "--model",
        &path("model"),
        "--windows",
        "20",
        "--budget-ms",
        "60000",
        "--json",
        &path("bench.json"),
    ]);
    let figures = json(&device.path("bench.json"));
    for stage in ["front_end_ms", "inference_ms", "total_ms"] {
        let of = |key: &str| figures[stage][key].as_f64().unwrap();
        assert!(
            of("p50") > 0.0 && of("p50") <= of("p95") && of("p95") <= of("p99") && of("p99") <= of("max"),
            "{figures}"
        );
    }
    assert_eq!(
        (figures["windows"].as_u64(), figures["threads"].as_u64(), &figures["ok"]),
        (Some(20), Some(1), &true.into())
    );
    assert!(figures["load_ms"].as_f64().unwrap() > 0.0 && figures["rss_mib"].as_f64().unwrap() > 1.0);
    let tight = system_tests::host_tools(&["bench", "--model", &path("model"), "--windows", "20", "--budget-ms", "0"]);
    assert_eq!(tight.status.code(), Some(1), "over the budget");
}

#[test]
fn bench_compares_with_an_earlier_run_and_takes_the_shipped_model_apart() {
    let device = Device::tiny("");
    let path = |name: &str| device.path(name).to_str().unwrap().to_string();
    let shipped = system_tests::root().join("models/default");
    let bench = |json: &str, more: &[&str]| {
        let (model, json) = (shipped.to_str().unwrap().to_string(), path(json));
        host_tools_ok(&[&["bench", "--model", &model, "--windows", "3", "--json", &json], more].concat())
    };
    bench("first.json", &["--engine", "tract"]);
    let text = bench("second.json", &["--threads", "2", "--scaling", "--profile", "--compare", &path("first.json")]);
    let figures = json(&device.path("second.json"));
    let compared = &figures["compared"];
    assert!(compared["inference_ratio"].as_f64().unwrap() > 0.0 && text.contains("beside"), "{text}");
    let differs = compared["differs"].to_string();
    assert!(differs.contains("engine") && differs.contains("threads") && !differs.contains("model was"), "{differs}");
    let scaling: Vec<_> = figures["scaling"].as_array().unwrap().iter().map(|row| row["threads"].as_u64()).collect();
    assert_eq!(scaling, [Some(1), Some(2)]);
    let layers = figures["profile"]["layers"].as_array().unwrap();
    let convolutions = layers.iter().filter(|layer| layer["gflops"].as_f64().unwrap() > 0.0).count();
    assert_eq!(convolutions, 36, "ResNet34 has 33 convolutions of blocks and stem and 3 beside blocks");
    assert!(figures["profile"]["peak_gflops"].as_f64().unwrap() > 0.1);
    // Weights once, in 8 bits: tract alone needs the 85 MiB of their f32 form.
    assert!(figures["rss_mib"].as_f64().unwrap() < 70.0, "{}", figures["rss_mib"]);
    std::fs::write(device.path("first.json"), "{}").unwrap();
    let broken = ["bench", "--model", &path("model"), "--windows", "1", "--compare", &path("first.json")];
    let broken = system_tests::host_tools(&broken);
    assert!(String::from_utf8_lossy(&broken.stderr).contains("first.json: not a file of `bench --json`"));
}

#[test]
fn boards_are_checked() {
    assert!(host_tools_ok(&["boards", "check"]).contains("raspberry-pi-4"));
}
