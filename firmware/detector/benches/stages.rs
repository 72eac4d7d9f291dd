//! Cost of each stage on the way from sample to decision: `cargo bench -p detector`.
//!
//! Inference runs where a model stands in models/default. Compare figures of one run alone: machines differ.

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use detector::alarm::{Alarm, Event, SirenSettings, us};
use detector::front_end::FrontEnd;
use detector::manifest::Manifest;
use detector::model::{Executor, Model};
use detector::resample::Resampler;
use detector::sound_health::SoundHealth;

fn noise(samples: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

fn stages(criterion: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/default");
    let Ok(text) = std::fs::read_to_string(folder.join("manifest.toml")) else {
        eprintln!("{}: no model, nothing is measured", folder.display());
        return;
    };
    let manifest = Manifest::parse("manifest.toml", &text).expect("the shipped manifest is valid");
    let window = noise(manifest.front_end.window_samples());

    let mut front_end = FrontEnd::new(&manifest.front_end);
    criterion.bench_function("front end, one window", |b| b.iter(|| front_end.picture(&window)[0]));

    let second = noise(48_000);
    let mut resampler = Resampler::new(48_000, manifest.front_end.sample_rate_hz).expect("48 kHz can be converted");
    criterion.bench_function("resampler, one second of 48 kHz", |b| {
        b.iter(|| {
            let mut sum = 0.0;
            resampler.push(&second, |piece| sum += piece[0]);
            sum
        });
    });

    // A card that gives the same two seconds for ever: what the watch over the sound costs at its worst.
    let mut health = SoundHealth::new(48_000, None);
    let frozen = noise(96_000);
    criterion.bench_function("sound health, two seconds of 48 kHz", |b| {
        b.iter_batched_ref(
            || SoundHealth::new(48_000, None),
            |health| health.push(&frozen, |_| ()),
            criterion::BatchSize::LargeInput,
        );
    });
    criterion.bench_function("sound health, two seconds of 48 kHz, frozen", |b| {
        b.iter(|| health.push(&frozen, |_| ()));
    });

    let settings = SirenSettings { on_us: us(30.0), max_us: us(180.0) };
    let mut alarm = Alarm::new(manifest.decision, settings, true, false);
    let mut t_s = 0.0;
    criterion.bench_function("alarm, one step", |b| {
        b.iter(|| {
            t_s += 2.0;
            alarm.step(us(t_s), Event::Window { score: Some(t_s % 1.0), masked: false }).iter().count()
        });
    });

    let bytes = std::fs::read(folder.join(&manifest.file)).expect("the shipped weights stand beside the manifest");
    let mut model = Model::load(&manifest, &bytes, Executor::SingleThread).expect("the shipped model loads");
    let picture = front_end.picture(&window).to_vec();
    criterion.bench_function("inference, one window", |b| b.iter(|| model.run(&picture).expect("it runs")[0]));
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = stages }
criterion_main!(benches);
