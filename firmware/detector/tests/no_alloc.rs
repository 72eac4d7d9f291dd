//! 10,000 windows through resampler, window, picture, network and alarm: nothing is allocated. Where tract runs the network
//! it allocates inside an inference; that is counted apart and printed (`--nocapture`), and must leave nothing behind.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use detector::alarm::{Alarm, Event, SirenSettings, us};
use detector::manifest::Manifest;
use detector::model::{Executor, Model, sha256_hex};
use detector::pipeline::Pipeline;
use detector::sound_health::SoundHealth;

const WINDOWS: u64 = 10_000;
/// Not the model's rate: the resampler works too.
const SOURCE_HZ: u32 = 48_000;

#[test]
fn ten_thousand_windows_allocate_nothing() {
    let (manifest, bytes) = support::manifest_and_bytes(support::Twist::None);
    let model = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
    assert!(model.engine().starts_with("kernels"), "{}", model.engine());
    let mut pipeline = Pipeline::new(&manifest, model, SOURCE_HZ, manifest.decision.stride_s).unwrap();
    let mut health = SoundHealth::new(SOURCE_HZ, None);
    let mut alarm = Alarm::new(manifest.decision, SirenSettings { on_us: us(30.0), max_us: us(60.0) }, true, false);
    // Silence and hiss in turn, so that alarms start and end; made once, before anything is counted.
    let mut state = 1u32;
    let hiss: Vec<f32> = (0..SOURCE_HZ / 50)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) % 16384) as f32 / 32768.0 - 0.25
        })
        .collect();
    let silence = vec![0.0f32; hiss.len()];

    let (mut windows, mut starts, mut hits) = (0u64, 0u64, 0u64);
    let counted = allocation_counter::measure(|| {
        let mut period = 0u64;
        while windows < WINDOWS {
            let loud = (period / 50) % 20 < 2;
            let piece = if loud { &hiss } else { &silence };
            health.push(piece, |_| {});
            pipeline.feed(piece, |span, sound, scorer| {
                windows += 1;
                scorer.picture(sound);
                let score = scorer.score().ok().map(|scored| scored.score);
                hits += u64::from(score.is_some_and(|score| score >= 0.8));
                let now_us = span.end * 1_000_000 / 16_000;
                let actions = alarm.step(now_us, Event::Window { score, masked: false });
                starts +=
                    actions.iter().filter(|action| matches!(action, detector::alarm::Action::Start { .. })).count()
                        as u64;
            });
            period += 1;
        }
    });
    assert!(
        windows >= WINDOWS && starts > 100 && hits > starts,
        "{windows} windows, {hits} hits, {starts} alarms: the scene is no test"
    );
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "allocated after the start");
}

#[test]
fn an_inference_in_tract_keeps_no_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny");
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    let text = std::fs::read_to_string(folder.join("manifest-in.toml")).unwrap();
    let mut manifest = Manifest::parse_unconverted("manifest-in.toml", &text).unwrap();
    manifest.file = "model.onnx".into();
    manifest.sha256 = sha256_hex(&bytes);
    let mut model = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
    let picture = vec![0.5; manifest.input_shape().iter().product()];
    model.run(&picture).unwrap();
    let inside = allocation_counter::measure(|| {
        model.run(&picture).unwrap();
    });
    println!("tract inside one inference: {} allocations, {} bytes", inside.count_total, inside.bytes_total);
    assert_eq!(inside.count_current, 0, "an inference keeps memory");
}
