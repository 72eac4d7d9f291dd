//! A short scream set anywhere in a noise is found within half a second, nine times in ten. With the shipped network.

use std::io::Write;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::eval::{lay, table};
use crate::scene::Scene;

const RATE_HZ: u32 = 16_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How many of `screams` are found when about a second of each is set somewhere in ten of noise, 5 to 20 dB above it; every
/// other noise is white, every other brown.
fn found(screams: &[Vec<f32>]) -> usize {
    let (manifest, model) = model_dir::load(&root().join("models/default"), Executor::SingleThread).unwrap();
    assert_eq!(manifest.front_end.sample_rate_hz, RATE_HZ, "the sounds of this test have this rate");
    let mut front_end = FrontEnd::new(&manifest.front_end);
    let mut rng = SmallRng::seed_from_u64(7);
    let mut found = 0;
    for (i, scream) in screams.iter().enumerate() {
        let length = (rng.random_range(0.6..1.1) * f64::from(RATE_HZ)) as usize;
        let scream = lay::loudest(scream, length);
        let mut brown = 0.0;
        let mut sound: Vec<f32> = (0..10 * RATE_HZ)
            .map(|_| {
                let white = rng.random_range(-1.0..1.0f32);
                brown = 0.98 * brown + 0.2 * white;
                if i % 2 == 0 { white } else { brown }
            })
            .collect();
        let snr_db = rng.random_range(5.0..20.0f32);
        let (gain, noise) = (0.1 / rms(scream), 0.1 * 10f32.powf(-snr_db / 20.0) / rms(&sound));
        sound.iter_mut().for_each(|x| *x *= noise);
        let start = rng.random_range(0..sound.len() - scream.len());
        sound[start..].iter_mut().zip(scream).for_each(|(out, x)| *out += gain * x);
        sound.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));

        let window = Highest::of(&manifest, &model, &sound).unwrap();
        front_end.picture(&window.sound);
        let occlusion =
            Occlusion::of(&manifest, &model, &front_end, usize::MAX, &indicatif::ProgressBar::hidden()).unwrap();
        let peak_s = occlusion.peak(&manifest, &front_end).map_or(f64::NEG_INFINITY, |(t_s, _)| window.t_start_s + t_s);
        let (from_s, to_s) = (start as f64 / 16e3, (start + scream.len()) as f64 / 16e3);
        let near = (from_s - 0.5..=to_s + 0.5).contains(&peak_s);
        println!(
            "{i}: {from_s:.2} to {to_s:.2} s at {snr_db:.0} dB, score {:.2}, peak {peak_s:.2} s: {near}",
            window.score
        );
        found += usize::from(near);
    }
    found
}

fn rms(sound: &[f32]) -> f32 {
    (sound.iter().map(|x| x * x).sum::<f32>() / sound.len() as f32).sqrt()
}

#[test]
fn a_synthesised_scream_is_found_where_it_is() {
    let scene = Scene::new(30);
    let at = |t_s: f64| (t_s * f64::from(RATE_HZ)) as usize;
    let scream = scene.sound[at(scene.scream_s.start)..at(scene.scream_s.end)].to_vec();
    let found = found(&vec![scream; 10]);
    assert!(found >= 9, "{found} of 10");
}

#[test]
fn a_recorded_scream_is_found_where_it_is() {
    let folder = root().join("../shared/data");
    if !folder.join("manifest.csv").is_file() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI has no recordings at ../shared/data");
        // Past the harness, which keeps what a test that passes prints to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: no recordings at ../shared/data");
        return;
    }
    let mut rows: Vec<table::Clip> = table::read(&folder, Some("val")).unwrap();
    rows.retain(|row| row.truth() == Some(true));
    let screams: Vec<Vec<f32>> = (0..20)
        .map(|i| crate::audio::read_at(&folder.join(&rows[i * rows.len() / 20].file), RATE_HZ).unwrap())
        .collect();
    let found = found(&screams);
    assert!(found >= 18, "{found} of 20");
}
