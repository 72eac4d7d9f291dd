//! A second look is the average of what the network says of the picture and of the picture with each part hidden.
#![allow(clippy::unwrap_used)]

mod support;

use detector::manifest::{Manifest, Normalisation, Output, PerBand};
use detector::model::{Executor, Model};
use detector::pipeline::{Look, Scorer};
use detector::second_look::SecondLook;

const PARTS: usize = 4;

/// The tiny network, whose pictures are the same under `fixed` with nothing subtracted.
fn twice(from_score: f64) -> (Manifest, Model) {
    let (mut manifest, bytes) = support::manifest_and_bytes(support::Twist::None);
    manifest.front_end.normalisation = Normalisation::Fixed;
    (manifest.front_end.mean, manifest.front_end.deviation) = (Some(PerBand::One(0.0)), Some(PerBand::One(1.0)));
    manifest.second_look = Some(SecondLook { from_score, parts: PARTS });
    let model = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
    (manifest, model)
}

fn hiss(samples: usize, level: f32) -> Vec<f32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            level * ((state >> 16) as f32 / 32_768.0 - 1.0)
        })
        .collect()
}

/// The definition, with plain loops.
fn expected(model: &mut Model, picture: &[f32], n_mels: usize) -> Vec<f64> {
    let frames = picture.len() / n_mels;
    let mut looks = vec![picture.to_vec()];
    for part in 0..PARTS {
        let mut hidden = picture.to_vec();
        for band in n_mels * part / PARTS..n_mels * (part + 1) / PARTS {
            hidden[band * frames..(band + 1) * frames].fill(0.0);
        }
        looks.push(hidden);
    }
    let mut product = [1.0f64; 2];
    for look in &looks {
        for (product, score) in product.iter_mut().zip(model.run(look).unwrap()) {
            *product *= f64::from(*score);
        }
    }
    let mean = product.map(|product| product.powf(1.0 / looks.len() as f64));
    mean.iter().map(|p| p / (mean[0] + mean[1])).collect()
}

#[test]
fn it_is_the_mean_of_the_looks_and_taken_from_its_score_on() {
    let (manifest, model) = twice(0.0);
    let mut plain = model.clone();
    let mut scorer = Scorer::new(&manifest, model.clone());
    // The network says how loud it is: a level that it is in two minds about.
    let (sound, picture, first) = (1..40)
        .map(|n| {
            let sound = hiss(manifest.front_end.window_samples(), 1e-5 * 1.2f32.powi(n));
            let picture = scorer.picture(&sound).to_vec();
            let first = f64::from(plain.run(&picture).unwrap()[1]);
            (sound, picture, first)
        })
        .min_by(|a, b| (a.2 - 0.5).abs().total_cmp(&(b.2 - 0.5).abs()))
        .unwrap();
    scorer.picture(&sound);
    let scored = scorer.score().unwrap();
    let want = expected(&mut plain, &picture, manifest.front_end.n_mels);
    for (score, want) in scored.scores.iter().zip(&want) {
        assert!((score - want).abs() < 2e-6, "{score}, {want}");
    }
    assert_eq!((scored.score, scored.label), (scored.scores[1], 1));
    let twice_seen = scored.score;
    assert!((twice_seen - first).abs() > 0.01, "the scene is no test: {first}, {twice_seen}");

    for (from_score, want) in [(first - 1e-3, twice_seen), (first + 1e-3, (first * 1e6).round() / 1e6)] {
        let (manifest, _) = twice(from_score);
        let mut scorer = Scorer::new(&manifest, model.clone());
        scorer.picture(&sound);
        assert_eq!(scorer.score().unwrap().score, want, "from {from_score}, first {first}");
        assert_eq!(scorer.look(Look::Once).unwrap().score, (first * 1e6).round() / 1e6);
        assert_eq!(scorer.look(Look::Twice).unwrap().score, twice_seen);
    }
}

#[test]
fn a_picture_without_a_neutral_value_has_no_second_look() {
    let causes = |change: fn(&mut Manifest)| -> Vec<String> {
        let (mut manifest, _) = twice(0.5);
        change(&mut manifest);
        let text = toml::to_string(&manifest).unwrap();
        let wrong = Manifest::parse("manifest.toml", &text).err().unwrap_or_default();
        wrong.iter().map(ToString::to_string).collect()
    };
    assert!(causes(|_| ()).is_empty());
    let front_end = causes(|manifest| {
        manifest.front_end.normalisation = Normalisation::None;
        (manifest.front_end.mean, manifest.front_end.deviation) = (None, None);
    });
    assert!(front_end.len() == 1 && front_end[0].contains("`second_look`: needs `normalisation"), "{front_end:?}");
    let output = causes(|manifest| manifest.output = Output::Probabilities);
    assert!(output.len() == 1 && output[0].contains("needs `output = \"logits\"`"), "{output:?}");
    let numbers = causes(|manifest| manifest.second_look = Some(SecondLook { from_score: 1.5, parts: 65 }));
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    assert!(
        numbers[0].contains("`second_look.from_score`: is 1.5") && numbers[1].contains("`second_look.parts`: is 65")
    );
}
