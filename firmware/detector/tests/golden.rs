//! The front end against torchaudio's own output (models/training/golden.py writes the numbers).
#![allow(clippy::unwrap_used)]

use std::path::Path;

use detector::front_end::FrontEnd;
use detector::manifest::Manifest;

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// `f32::max` takes what is no number for the smaller: a picture full of it would be no different.
fn larger(worst: f32, off: f32) -> f32 {
    if off <= worst { worst } else { off }
}

#[test]
fn pictures_equal_torchaudio() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        cases += 1;
        let name = path.file_stem().unwrap().to_str().unwrap();
        let manifest = Manifest::parse_unconverted(name, &std::fs::read_to_string(&path).unwrap()).unwrap();
        let sound = floats(&folder.join(format!("{name}.sound.f32")));
        let mel = floats(&folder.join(format!("{name}.mel.f32")));
        let picture = floats(&folder.join(format!("{name}.picture.f32")));
        let mut front_end = FrontEnd::new(&manifest.front_end);

        // The contract's tolerance: 1e-4 of torchaudio's value + 1e-10 of the window's largest.
        let largest = mel.iter().copied().fold(0.0, f32::max);
        let ours = front_end.mel_power(&sound);
        assert_eq!(ours.len(), mel.len(), "{name}");
        let worst = ours.iter().zip(&mel).map(|(a, b)| (a - b).abs() / (1e-4 * b + 1e-10 * largest)).fold(0.0, larger);
        println!("{name}: mel power at {:.3} of the tolerance", worst);
        assert!(worst <= 1.0, "{name}: mel power off by {worst} tolerances");

        let ours = front_end.picture(&sound);
        assert_eq!(ours.len(), picture.len(), "{name}");
        assert_eq!(picture.len(), manifest.input_shape().iter().product::<usize>(), "{name}");
        let off = ours.iter().zip(&picture).map(|(a, b)| (a - b).abs());
        if manifest.front_end.channels() == 1 {
            let worst = off.fold(0.0, larger);
            println!("{name}: picture off by {worst:.2e}");
            assert!(worst < 1e-3, "{name}: picture off by {worst}");
        } else {
            // A value that falls on the edge of one of the 256 colours may take the neighbour's.
            let cells = ours.len() as f32;
            let other = off.filter(|off| off.is_nan() || *off > 1e-3).count() as f32;
            println!("{name}: {:.3} % of the cells have the neighbouring colour", 100.0 * other / cells);
            assert!(other / cells < 0.005, "{name}: {other} of {cells} cells have another colour");
        }
    }
    assert!(cases >= 5, "only {cases} cases in {}", folder.display());
}

#[test]
fn a_constant_window_is_all_zeros_after_min_max() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let manifest =
        Manifest::parse_unconverted("default", &std::fs::read_to_string(folder.join("default.toml")).unwrap()).unwrap();
    let silence = vec![0.0; manifest.front_end.window_samples()];
    assert!(FrontEnd::new(&manifest.front_end).picture(&silence).iter().all(|&x| x == 0.0));
}
