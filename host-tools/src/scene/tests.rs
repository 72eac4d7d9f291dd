use std::path::Path;

use detector::model::Executor;
use detector::pipeline::Pipeline;
use files::model_dir;

use super::*;

fn rms_dbfs(sound: &[f32]) -> f64 {
    let power: f64 = sound.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / sound.len() as f64;
    10.0 * power.log10()
}

fn between(scene: &Scene, range_s: Range<f64>) -> &[f32] {
    let sample = |t_s: f64| (t_s * f64::from(RATE_HZ)) as usize;
    &scene.sound[sample(range_s.start)..sample(range_s.end)]
}

#[test]
fn the_same_bytes_twice_and_as_long_and_loud_as_stated() {
    let scene = Scene::new(30);
    assert_eq!(wav::bytes(&scene.sound, RATE_HZ), wav::bytes(&Scene::new(30).sound, RATE_HZ));
    assert_eq!(scene.sound.len(), 30 * 16_000);
    assert_eq!(wav::bytes(&scene.sound, RATE_HZ).len(), 44 + 2 * 30 * 16_000);
    let peak = scene.sound.iter().fold(0f32, |peak, sample| sample.abs().max(peak));
    let peak_dbfs = 20.0 * f64::from(peak).log10();
    assert!((-6.1..-5.9).contains(&peak_dbfs), "{peak_dbfs}");
    // A longer one begins alike.
    assert_eq!(Scene::new(40).sound[..scene.sound.len()], scene.sound[..]);
}

#[test]
fn the_scream_is_where_it_is_said_to_be_and_the_rest_is_quieter() {
    let scene = Scene::new(30);
    let Range { start, end } = scene.scream_s.clone();
    assert!((19.5..20.5).contains(&start) && (1.5..=2.6).contains(&(end - start)), "{start} {end}");
    let scream = rms_dbfs(between(&scene, start..end));
    assert!(scream > -22.0, "{scream}");
    for from in 0..30 {
        let from = f64::from(from);
        if from + 1.0 < start || from > end + 0.1 {
            let level = rms_dbfs(between(&scene, from..from + 1.0));
            assert!(level < scream - 10.0, "{from} s: {level}, the scream {scream}");
        }
    }
    for quiet in [0.5..1.5, start - 0.5..start - 0.05, 24.0..29.0] {
        let level = rms_dbfs(between(&scene, quiet.clone()));
        assert!((-67.0..-62.0).contains(&level), "{quiet:?}: {level}");
    }
}

#[test]
fn the_recording_reader_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scene.wav");
    run(&Args { out: path.clone(), seconds: 26 }).unwrap();
    let (sound, rate_hz) = files::recording::Recording::read_all(&path).unwrap();
    assert_eq!((sound.len(), rate_hz), (26 * 16_000, RATE_HZ));
}

/// The scores of windows that overlap the scream, and the largest of the others.
fn heard(model: &str, scene: &Scene) -> (Vec<f64>, f64) {
    let (manifest, model) = model_dir::load(Path::new(model), Executor::SingleThread).unwrap();
    let mut pipeline = Pipeline::new(&manifest, model, RATE_HZ, manifest.decision.stride_s).unwrap();
    let rate_hz = f64::from(manifest.front_end.sample_rate_hz);
    let (mut of_scream, mut of_others) = (Vec::new(), 0f64);
    pipeline.feed(&scene.sound, |span, window, scorer| {
        scorer.picture(window);
        let score = scorer.score().unwrap().score;
        let overlap_s =
            scene.scream_s.end.min(span.end as f64 / rate_hz) - scene.scream_s.start.max(span.start as f64 / rate_hz);
        if overlap_s > 0.0 { of_scream.push(score) } else { of_others = of_others.max(score) }
    });
    (of_scream, of_others)
}

/// For whoever tunes the scream: `SCENE_MODEL=DIR cargo test --release -p host-tools scene::tests::sweep -- --ignored --nocapture`
#[test]
#[ignore = "prints what a model hears; judges nothing"]
fn sweep() {
    let model = std::env::var("SCENE_MODEL").unwrap();
    type Turn = fn(&mut Scream, f64);
    let dials: [(&str, &[f64], Turn); 7] = [
        ("pitch Hz", &[800.0, 900.0, 1000.0, 1100.0, 1200.0, 1300.0, 1400.0, 1500.0, 1600.0], |it, to| {
            it.pitch_hz = to
        }),
        ("roughness Hz", &[35.0, 50.0, 75.0, 100.0, 140.0], |it, to| it.roughness_hz = to),
        ("roughness", &[0.0, 0.3, 0.6, 0.9], |it, to| it.roughness = to),
        ("breath", &[0.0, 0.1, 0.2, 0.35, 0.5, 0.8], |it, to| it.breath = to),
        ("tilt", &[0.0, 0.5, 1.0, 1.5], |it, to| it.tilt = to),
        ("doubling", &[0.0, 0.3, 0.6, 1.0], |it, to| it.doubling = to),
        ("seconds", &[1.6, 1.9, 2.2, 2.4, 2.5, 2.6, 3.0], |it, to| it.seconds = to),
    ];
    for (dial, values, turn) in dials {
        for value in values {
            let mut scream = Scream::TYPICAL;
            turn(&mut scream, *value);
            let (of_scream, of_others) = heard(&model, &Scene::with(scream, 1, 30));
            println!("{dial:12} {value:6}  {of_scream:.3?}  others {of_others:.3}");
        }
    }
    for seed in 1..6 {
        let (of_scream, of_others) = heard(&model, &Scene::with(Scream::TYPICAL, seed, 30));
        println!("{:12} {seed:6}  {of_scream:.3?}  others {of_others:.3}", "seed");
    }
}
