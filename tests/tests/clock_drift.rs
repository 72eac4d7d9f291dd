//! A7 of tests/FAULTS.md: a card whose clock is 500 ppm off. Its samples are taken for the model's rate, so the sound is that much higher or
//! lower and longer or shorter; what the network makes of it must not change.
#![allow(clippy::unwrap_used)]

use std::f64::consts::PI;
use std::process::Command;

use files::recording::Recording;
use system_tests::device::Ran;
use system_tests::sound::write_wav;
use system_tests::{program, recordings, root, test_clips};

const RATE_HZ: u32 = 16_000;
/// Each recording's place: one whole window of the shipped model. Where a window begins is chance, so the drift is that
/// within the window, counted from its middle.
const PLACE: usize = 2 * RATE_HZ as usize;
/// Samples on either side that the interpolation looks at.
const REACH: i64 = 16;

/// `sound` as a card hears it whose clock runs `ppm` faster: read at 1 / (1 + ppm) of a sample a step, from its middle on
/// both sides, by a sinc under Hann's window.
fn drifted(sound: &[f64], ppm: f64) -> Vec<f64> {
    let middle = sound.len() as f64 / 2.0;
    (0..sound.len())
        .map(|i| {
            let place = middle + (i as f64 - middle) / (1.0 + ppm * 1e-6);
            let nearest = place.round() as i64;
            // sin and cos once a sample: a step of one sample changes the sine's sign, and turns the window's angle.
            let (sine, turn) = ((PI * (place - nearest as f64)).sin(), PI / (REACH as f64 + 1.0));
            (-REACH..=REACH)
                .filter_map(|k| Some((k, sound.get(usize::try_from(nearest + k).ok()?)?)))
                .map(|(k, sample)| {
                    let x = place - (nearest + k) as f64;
                    let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
                    let sinc = if x.abs() < 1e-9 { 1.0 } else { sign * sine / (PI * x) };
                    sample * sinc * (0.5 + 0.5 * (turn * x).cos())
                })
                .sum()
        })
        .collect()
}

#[test]
fn a_clock_500_ppm_off_hardly_moves_a_score() {
    let Some(folder) = recordings() else { return };
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site.toml");
    let text = format!(
        "[state]\ndir = \"{0}/state\"\n[events]\ndir = \"{0}/events\"\npictures = false\n",
        dir.path().display()
    );
    std::fs::write(&site, text).unwrap();
    let clips: Vec<_> = test_clips(&folder).into_iter().step_by(2).collect();
    let places: Vec<Vec<f64>> = clips
        .iter()
        .map(|(file, _)| {
            let (sound, rate_hz) = Recording::read_all(file).unwrap();
            assert_eq!(rate_hz, RATE_HZ);
            let mut place: Vec<f64> = sound.iter().take(PLACE).map(|sample| f64::from(*sample)).collect();
            place.resize(PLACE, 0.0);
            place
        })
        .collect();
    let scores = |ppm: f64| -> Vec<f64> {
        let sound = places.iter().flat_map(|place| if ppm == 0.0 { place.clone() } else { drifted(place, ppm) });
        let samples: Vec<i16> =
            sound.map(|sample| (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16).collect();
        let wav = dir.path().join("drift.wav");
        write_wav(&wav, &samples, RATE_HZ);
        let mut command = Command::new(program("screamd"));
        command.current_dir(root()).args(["run", "--speed", "max", "--json", "--config"]).arg(&site);
        let ran = Ran::of(&command.arg("--wav").arg(&wav).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.of_type("window").iter().map(|line| line["score"].as_f64().unwrap()).collect()
    };
    let right = scores(0.0);
    assert_eq!(right.len(), clips.len(), "a place is a window of the shipped model");
    for ppm in [500.0, -500.0] {
        let off = scores(ppm);
        let mut changes: Vec<f64> = right.iter().zip(&off).map(|(right, off)| (right - off).abs()).collect();
        changes.sort_by(f64::total_cmp);
        let at = |share: f64| changes[((changes.len() - 1) as f64 * share) as usize];
        println!(
            "{ppm:+} ppm: {} windows, change p50 {:.4}, p95 {:.4}, p99 {:.4}, most {:.4}",
            changes.len(),
            at(0.5),
            at(0.95),
            at(0.99),
            at(1.0)
        );
        // A score on the steep part of the curve moves by what 8-bit arithmetic rounds differently; one in twenty may.
        assert!(at(0.95) < 0.02 && at(1.0) < 0.1);
    }
}
