//! Our own kernels against tract, over the shipped model and over graphs that they must take or leave.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use detector::manifest::{Arithmetic, Manifest};
use detector::model::{Engine, Executor, Model};

fn shipped() -> (Manifest, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/default");
    let text = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
    let manifest = Manifest::parse("manifest.toml", &text).unwrap();
    let bytes = std::fs::read(folder.join(&manifest.file)).unwrap();
    (manifest, bytes)
}

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
    let (mut manifest, bytes) = shipped();
    let cells = manifest.input_shape().iter().product();
    let mut tract = Model::load_for(&manifest, &bytes, Executor::SingleThread, Engine::Tract).unwrap();
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
