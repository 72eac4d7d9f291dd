//! The energy gate: what it skips is quiet, and it costs no scream, not even one that a noise as loud as itself hides.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use files::recording::Recording;
use system_tests::device::Ran;
use system_tests::sound::{hiss, write_wav};
use system_tests::{host_tools, program, recordings, root, test_clips};

const RATE_HZ: u32 = 16_000;
/// Between two screams: several windows of the empty room.
const APART_S: usize = 10;

/// `sound` at `level_dbfs` RMS.
fn at_level(sound: &[f64], level_dbfs: f64) -> Vec<f64> {
    let power = sound.iter().map(|sample| sample * sample).sum::<f64>() / sound.len() as f64;
    let gain = 10f64.powf(level_dbfs / 20.0) / power.sqrt().max(1e-9);
    sound.iter().map(|sample| sample * gain).collect()
}

fn samples(sound: &[f64]) -> Vec<i16> {
    sound.iter().map(|sample| (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16).collect()
}

/// Windows and alarm starts of a run over `wav`.
fn run(dir: &std::path::Path, wav: &std::path::Path, audio: &str) -> Ran {
    let site = dir.join("site.toml");
    let text = format!(
        "[state]\ndir = \"{0}/state\"\n[events]\ndir = \"{0}/events\"\npictures = false\n[decision]\nhold_s = 2.0\ncooldown_s = 0.0\n[audio]\n{audio}",
        dir.display()
    );
    std::fs::write(&site, text).unwrap();
    let mut command = Command::new(program("screamd"));
    command.current_dir(root()).args(["run", "--speed", "max", "--json", "--config"]).arg(&site).arg("--wav").arg(wav);
    let ran = Ran::of(&command.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran
}

#[test]
fn it_loses_no_scream_of_the_test_split_at_0_db() {
    let Some(folder) = recordings() else { return };
    let dir = tempfile::tempdir().unwrap();
    // The empty room: hiss at -66 dBFS.
    let hiss: Vec<f64> = hiss(RATE_HZ, 60.0, 7).iter().map(|sample| f64::from(*sample)).collect();
    let room = at_level(&hiss, -66.0);
    let quiet = dir.path().join("quiet.wav");
    write_wav(&quiet, &samples(&room), RATE_HZ);
    let table = dir.path().join("site-decision.toml");
    let (model, background) = (root().join("models/default"), dir.path().join("background.wav"));
    write_wav(&background, &samples(&at_level(&hiss, -40.0)), RATE_HZ);
    let args = [
        "calibrate".as_ref(),
        "--model".as_ref(),
        model.as_os_str(),
        "--background".as_ref(),
        background.as_os_str(),
        "--quiet".as_ref(),
        quiet.as_os_str(),
        "--false-alarms-per-hour".as_ref(),
        "200".as_ref(),
        "--out".as_ref(),
        table.as_os_str(),
    ];
    let output = host_tools(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = std::fs::read_to_string(&table).unwrap();
    let bounds: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("#   quiet_")).collect();
    assert_eq!(bounds.len(), 2, "{said}");
    let floor = |key: &str| -> f64 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("#   {key} = ")));
        line.unwrap_or_else(|| panic!("{key}: {said}")).parse().unwrap()
    };
    let (level, high) = (floor("level_floor_dbfs"), floor("high_floor_dbfs"));
    assert!((level + 72.0).abs() < 0.2, "6 dB under the room's -66: {level}");
    assert!((-80.0..level).contains(&high), "hiss has most of its power above 2 kHz: {high} of {level}");
    let gate = bounds.iter().map(|bound| format!("quiet_{bound}\n")).collect::<String>();

    // Every scream of the split, each in a noise as loud as itself, from loud to hardly above the room, in the empty room.
    let mut sound = Vec::new();
    let screams = test_clips(&folder).into_iter().filter(|(_, scream)| *scream);
    for (number, (file, _)) in screams.enumerate() {
        let (scream, rate_hz) = Recording::read_all(&file).unwrap();
        assert_eq!(rate_hz, RATE_HZ);
        let scream: Vec<f64> = scream.iter().map(|sample| f64::from(*sample)).collect();
        let scream = &scream[..scream.len().min(3 * RATE_HZ as usize)];
        let level = -20.0 - (number % 5) as f64 * 6.0;
        let noise = at_level(&hiss[..scream.len()], level);
        sound.extend(room.iter().cycle().skip(number * 977).take(APART_S * RATE_HZ as usize));
        sound.extend(at_level(scream, level).iter().zip(&noise).map(|(scream, noise)| scream + noise));
    }
    let wav = dir.path().join("screams.wav");
    write_wav(&wav, &samples(&sound), RATE_HZ);
    let (without, with) = (run(dir.path(), &wav, ""), run(dir.path(), &wav, &gate));
    let starts = |ran: &Ran| {
        ran.of_type("alarm")
            .iter()
            .filter(|line| line["state"] == "start")
            .map(|line| line["t_s"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(starts(&without), starts(&with), "the same alarms at the same times");
    let (plain, gated) = (without.of_type("window"), with.of_type("window"));
    let skipped = gated.iter().filter(|line| line["skipped"] == true).count();
    for (plain, gated) in plain.iter().zip(&gated) {
        match gated["skipped"] == true {
            true => assert!(gated["score"] == 0.0 && plain["score"].as_f64().unwrap() < 0.5, "{plain} {gated}"),
            false => assert_eq!(plain["score"], gated["score"]),
        }
    }
    println!("{} alarms, {skipped} of {} windows without the network", starts(&with).len(), gated.len());
    assert!(skipped * 3 > gated.len(), "most of this room is empty: {skipped} of {}", gated.len());
    assert!(starts(&with).len() >= 60, "screams at 0 dB are heard at all: {} of 135", starts(&with).len());
    assert_eq!(with.lines.last().unwrap()["skipped"], skipped);
}
