//! The golden self-test over the shipped model: what agrees with the weights passes, every way of standing beside them that
//! their shapes allow is refused.
#![allow(clippy::unwrap_used)]

mod support;

use detector::golden::{Difference, Golden};
use detector::manifest::{Arithmetic, Manifest, MelScale, Normalisation, Output, PerBand};
use detector::model::{Engine, Executor, Model, ModelError};

fn load(manifest: &Manifest, bytes: &[u8]) -> Result<Model, ModelError> {
    Model::load(manifest, bytes, Executor::SingleThread)
}

#[test]
fn these_weights_pass_in_every_engine_and_at_any_temperature() {
    let (mut manifest, bytes) = support::shipped();
    let mut model = load(&manifest, &bytes).unwrap();
    let here = Golden::measure(&manifest, &mut model).unwrap();
    let shipped = manifest.golden.clone().expect("the shipped model has a self-test");
    let most = here.scores.iter().map(|(label, score)| (score - shipped.scores[label]).abs()).fold(0.0, f64::max);
    let cells = here.picture.iter().zip(&shipped.picture).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("scores off by {most:.1e} here, cells by {cells:.1e}");
    assert!(most < 1e-3 && cells < 1e-3, "between processors they differ by less: {most}, {cells}");

    manifest.temperature = 3.0;
    load(&manifest, &bytes).unwrap();
    manifest.arithmetic = Arithmetic::Float;
    load(&manifest, &bytes).unwrap();
    Model::load_for(&manifest, &bytes[..], Executor::SingleThread, Engine::Tract).unwrap();
}

#[test]
fn a_front_end_or_labels_that_are_not_the_networks_are_refused() {
    let (manifest, bytes) = support::shipped();
    let each = |numbers: &Option<PerBand>, change: fn(f32) -> f32| {
        let bands = 0..manifest.front_end.n_mels;
        Some(PerBand::Each(bands.map(|band| change(numbers.as_ref().unwrap().of(band))).collect()))
    };
    type Change<'a> = Box<dyn Fn(&mut Manifest) + 'a>;
    let changes: Vec<(&str, Change<'_>)> = vec![
        (
            "sample_rate_hz",
            Box::new(|m| {
                m.front_end.window_s *= 16_000.0 / 22_050.0;
                m.front_end.sample_rate_hz = 22_050;
            }),
        ),
        ("n_fft", Box::new(|m| m.front_end.n_fft = 512)),
        ("n_fft, larger", Box::new(|m| m.front_end.n_fft = 2048)),
        (
            "hop and window_s",
            Box::new(|m| {
                m.front_end.hop = 256;
                m.front_end.window_s = 1.0;
            }),
        ),
        ("f_min_hz", Box::new(|m| m.front_end.f_min_hz = 300.0)),
        ("f_max_hz", Box::new(|m| m.front_end.f_max_hz = 4000.0)),
        ("f_max_hz, a little", Box::new(|m| m.front_end.f_max_hz = 7000.0)),
        ("mel_scale", Box::new(|m| m.front_end.mel_scale = MelScale::Slaney)),
        (
            "normalisation min_max",
            Box::new(|m| {
                m.front_end.normalisation = Normalisation::MinMax;
                (m.front_end.mean, m.front_end.deviation) = (None, None);
            }),
        ),
        (
            "normalisation none",
            Box::new(|m| {
                m.front_end.normalisation = Normalisation::None;
                (m.front_end.mean, m.front_end.deviation) = (None, None);
            }),
        ),
        ("mean 0", Box::new(|m| m.front_end.mean = Some(PerBand::One(0.0)))),
        ("mean 3 higher", Box::new(|m| m.front_end.mean = each(&m.front_end.mean, |x| x + 3.0))),
        ("mean 3 lower", Box::new(|m| m.front_end.mean = each(&m.front_end.mean, |x| x - 3.0))),
        ("deviation 1", Box::new(|m| m.front_end.deviation = Some(PerBand::One(1.0)))),
        ("deviation halved", Box::new(|m| m.front_end.deviation = each(&m.front_end.deviation, |x| x / 2.0))),
        ("deviation doubled", Box::new(|m| m.front_end.deviation = each(&m.front_end.deviation, |x| x * 2.0))),
        ("labels turned", Box::new(|m| m.labels.rotate_left(1))),
        ("labels from the end", Box::new(|m| m.labels.reverse())),
        ("output", Box::new(|m| m.output = Output::Probabilities)),
    ];
    let mut passed = Vec::new();
    for (what, change) in &changes {
        let mut changed = manifest.clone();
        change(&mut changed);
        match load(&changed, &bytes).map(drop) {
            Err(ModelError::Golden { cause, .. }) => {
                println!("{what}: {cause}");
                let of_front_end = !(what.starts_with("labels") || *what == "output");
                assert_eq!(matches!(cause, Difference::Picture { .. }), of_front_end, "{what}: {cause}");
            }
            Err(other) => panic!("{what}: {other}"),
            Ok(()) => passed.push(*what),
        }
    }
    assert!(passed.is_empty(), "taken for the network's own: {passed:?}");
}

#[test]
fn a_refusal_names_file_key_and_cause_and_other_weights_are_not_compared() {
    let (mut manifest, bytes) = support::shipped();
    manifest.front_end.mel_scale = MelScale::Slaney;
    let refusal = load(&manifest, &bytes).map(drop).unwrap_err().to_string();
    assert!(
        refusal.starts_with(&format!("{}: manifest key `golden`: of the self-test's sound cell ", manifest.file)),
        "{refusal}"
    );
    manifest.golden.as_mut().unwrap().sha256 = "0".repeat(64);
    load(&manifest, &bytes).unwrap();
}
