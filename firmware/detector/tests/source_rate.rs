//! A microphone that comes back at another rate: the sound goes on, sample for sample of the model's rate.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use detector::manifest::Manifest;
use detector::model::{Executor, Model, sha256_hex};
use detector::pipeline::Pipeline;

fn tone(rate_hz: u32, seconds: f64) -> Vec<f32> {
    let w = std::f64::consts::TAU * 500.0 / f64::from(rate_hz);
    (0..(f64::from(rate_hz) * seconds) as usize).map(|i| (0.5 * (w * i as f64).sin()) as f32).collect()
}

#[test]
fn the_sound_goes_on_at_another_rate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny");
    let bytes = std::fs::read(folder.join("model.onnx")).unwrap();
    let text = std::fs::read_to_string(folder.join("manifest-in.toml")).unwrap();
    let mut manifest = Manifest::parse_unconverted("manifest-in.toml", &text).unwrap();
    (manifest.file, manifest.sha256) = ("model.onnx".into(), sha256_hex(&bytes));
    let model = Model::load(&manifest, &bytes, Executor::SingleThread).unwrap();
    let mut pipeline = Pipeline::new(&manifest, model, 16_000, manifest.decision.stride_s).unwrap();
    let (mut spans, mut peaks) = (Vec::new(), Vec::new());
    for rate_hz in [16_000, 48_000, 44_100, 44_100, 8_000] {
        let mut note = |span: detector::window::Span, sound: &[f32]| {
            spans.push((span.start, span.end));
            peaks.push(sound.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs())));
        };
        let before = pipeline.position();
        pipeline.set_source_rate(rate_hz, |span, sound, _| note(span, sound)).unwrap();
        assert_eq!(pipeline.position(), before, "nothing is lost at the seam");
        pipeline.feed(&tone(rate_hz, 3.0), |span, sound, _| note(span, sound));
        assert_eq!(pipeline.position(), before + 48_000);
    }
    pipeline.finish(|span, sound, _| {
        spans.push((span.start, span.end));
        peaks.push(sound.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs())));
    });
    // 15 s: the first window ends at 1 s, one follows every 0.5 s.
    let expect: Vec<(u64, u64)> = (0..29).map(|seq| (seq * 8_000, seq * 8_000 + 16_000)).collect();
    assert_eq!(spans, expect);
    assert!(peaks.iter().all(|peak| (0.45..0.6).contains(peak)), "{peaks:?}");
    assert!(pipeline.set_source_rate(0, |_, _, _| {}).is_err());
}
