//! Our own kernels against tract, over the shipped model and over graphs that they must take or leave.
#![allow(clippy::unwrap_used)]

mod support;

use detector::manifest::Arithmetic;
use detector::model::{Engine, Executor, Model};

/// A picture as the front end makes them: slow waves and noise within three deviations.
fn picture(cells: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..cells)
        .map(|cell| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            (cell as f32 * 0.01 * seed as f32).sin() + noise
        })
        .collect()
}

#[test]
fn the_shipped_model_scores_as_in_tract() {
    let (mut manifest, bytes) = support::shipped();
    let cells = manifest.input_shape().iter().product();
    let mut tract = Model::load_for(&manifest, &bytes[..], Executor::SingleThread, Engine::Tract).unwrap();
    for (arithmetic, allowed) in [(Arithmetic::Float, 1e-4), (Arithmetic::Integer, 0.1)] {
        manifest.arithmetic = arithmetic;
        let mut own = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
        assert!(own.engine().starts_with("kernels"), "{}", own.engine());
        let mut worst = 0f32;
        for seed in 1..6 {
            let picture = picture(cells, seed);
            let expected = tract.run(&picture).unwrap().to_vec();
            for (a, b) in own.run(&picture).unwrap().iter().zip(&expected) {
                worst = worst.max((a - b).abs());
            }
        }
        println!("{arithmetic:?} on {}: scores within {worst:.1e}", own.engine());
        assert!(worst <= allowed, "{arithmetic:?}: {worst}");
    }
}

#[test]
fn what_fits_runs_in_our_kernels_and_everything_else_in_tract() {
    use support::Twist;
    for (twist, ours) in [
        (Twist::None, true),
        (Twist::Softmax, true),
        (Twist::Groups, false),
        (Twist::Dilated, false),
        (Twist::Floor, false),
        (Twist::MaxOfChannel, false),
    ] {
        let (manifest, bytes) = support::manifest_and_bytes(twist);
        let mut best = Model::load(&manifest, &bytes, Executor::multithread(2)).unwrap();
        let mut tract = Model::load_for(&manifest, &bytes[..], Executor::SingleThread, Engine::Tract).unwrap();
        assert_eq!(best.engine().starts_with("kernels"), ours, "{twist:?}: {}", best.engine());
        assert_eq!(best.layers().is_empty(), !ours, "{twist:?}");
        let (mut least, mut most) = (1f32, 0f32);
        for level in [-33.0, -16.0, -10.0, -5.0, 2.0] {
            let noise = picture(manifest.input_shape().iter().product(), 3);
            let picture: Vec<f32> = noise.iter().map(|x| x + level).collect();
            let expected = tract.run(&picture).unwrap().to_vec();
            for (a, b) in best.run(&picture).unwrap().iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{twist:?}: {a}, in tract {b}");
            }
            (least, most) = (least.min(expected[1]), most.max(expected[1]));
        }
        assert!(least < 0.2 && most > 0.8, "{twist:?}: scores of {least} to {most} compare nothing");
    }
}

#[test]
fn a_picture_that_is_no_number_gets_no_score() {
    let (manifest, bytes) = support::manifest_and_bytes(support::Twist::None);
    let mut model = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
    let mut picture = picture(manifest.input_shape().iter().product(), 3);
    assert!(model.run(&picture).is_ok());
    picture[17] = f32::NAN;
    assert!(model.run(&picture).is_err());
}
