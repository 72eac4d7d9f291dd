//! The aarch64 programs beside this machine's: what they ask of a board, and that they see and hear the same. `tests/aarch64.sh`
//! builds them and runs these; by themselves they would test whatever an older build has left.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use system_tests::sound::wav;
use system_tests::{program, root};

/// JetPack 5's, the oldest system of a supported board.
const GLIBC_MAX: (u32, u32) = (2, 31);
/// Largest difference of a picture's cell (log2 of power, normalised) and of a score.
const TOLERANCE: f64 = 1e-4;

fn aarch64(name: &str) -> PathBuf {
    // Beside target/release, where this machine's programs lie.
    let path = program(name).parent().unwrap().parent().unwrap().join("aarch64-unknown-linux-gnu/release").join(name);
    let head =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error} (.cargo/build-aarch64.sh)", path.display()));
    // e_machine of an ELF file: AArch64.
    assert_eq!(&head[18..20], &[183, 0], "{} is no aarch64 program", path.display());
    path
}

/// `host-tools` of both machines with the same arguments, but for `out`, which is the last and differs.
fn on_both(args: &[&str], out: &[PathBuf; 2]) {
    let runner = root().join(".cargo/aarch64-run");
    let mut commands = [Command::new(program("host-tools")), Command::new(runner)];
    commands[1].arg(aarch64("host-tools"));
    for (command, out) in commands.iter_mut().zip(out) {
        let output = command.args(args).arg(out).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What `screamd` says of `sound`, line by line, and the kinds of files that it leaves.
fn lines_and_files(mut screamd: Command, dir: &Path, sound: &Path) -> (Vec<Value>, Vec<String>) {
    std::fs::create_dir(dir).unwrap();
    let site = format!("[state]\ndir = \"{0}/state\"\n[events]\ndir = \"{0}/events\"\n", dir.display());
    std::fs::write(dir.join("site.toml"), site).unwrap();
    screamd.args(["run", "--speed", "max", "--json", "--model", "models/default", "--config"]);
    let output = screamd.arg(dir.join("site.toml")).arg("--wav").arg(sound).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let files = std::fs::read_dir(dir.join("events")).unwrap();
    let kind = |path: PathBuf| path.extension().map(|kind| kind.to_str().unwrap().to_string());
    let mut kinds: Vec<String> = files.filter_map(|file| kind(file.unwrap().path())).collect();
    kinds.sort();
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), kinds)
}

/// Six seconds of the demo's scene around its scream: two windows of the default model.
fn scream(dir: &Path) -> PathBuf {
    const RATE_HZ: usize = 16_000;
    let scene = dir.join("scene.wav");
    let out = Command::new(program("host-tools")).arg("scene").arg("--out").arg(&scene).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let bytes = std::fs::read(&scene).unwrap();
    let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
    let path = dir.join("scream.wav");
    std::fs::write(&path, wav(&samples[18 * RATE_HZ..24 * RATE_HZ], RATE_HZ as u32, 1)).unwrap();
    path
}

fn floats(npy: &Path) -> Vec<f32> {
    let bytes = std::fs::read(npy).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
#[ignore = "needs the aarch64 build: tests/aarch64.sh"]
fn no_program_asks_for_a_newer_glibc_than_a_board_has() {
    for name in ["screamd", "host-tools"] {
        let output = Command::new("readelf").args(["-W", "--dyn-syms"]).arg(aarch64(name)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let asked: Vec<(u32, u32)> = text
            .split("GLIBC_")
            .skip(1)
            .filter_map(|rest| {
                let mut parts = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
                Some((parts.next()?.ok()?, parts.next()?.ok()?))
            })
            .collect();
        let newest = *asked.iter().max().unwrap_or_else(|| panic!("{name}: no glibc symbols in {}", text.len()));
        println!("{name}: glibc {}.{}", newest.0, newest.1);
        assert!(newest <= GLIBC_MAX, "{name} asks for glibc {}.{}", newest.0, newest.1);
    }
}

#[test]
#[ignore = "needs the aarch64 build: tests/aarch64.sh"]
fn pictures_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let sound = scream(dir.path());
    let out = [dir.path().join("here.npy"), dir.path().join("there.npy")];
    on_both(&["features", sound.to_str().unwrap(), "--model", "models/default", "--out"], &out);
    let (here, there) = (floats(&out[0]), floats(&out[1]));
    assert!(here.len() >= 64 && here.len() == there.len(), "{} and {} cells", here.len(), there.len());
    assert!(there.iter().all(|cell| cell.is_finite()));
    let worst = here.iter().zip(&there).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    println!("{} cells, largest difference {worst:.1e}", here.len());
    assert!(worst <= TOLERANCE, "a cell differs by {worst:e}");
}

#[test]
#[ignore = "needs the aarch64 build: tests/aarch64.sh"]
fn scores_of_the_default_model_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let sound = scream(dir.path());
    let out = [dir.path().join("here.json"), dir.path().join("there.json")];
    on_both(&["score", sound.to_str().unwrap(), "--model", "models/default", "--json"], &out);
    let [here, there] = out.map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap());
    let (here, there) = (here["windows"].as_array().unwrap(), there["windows"].as_array().unwrap());
    assert!(!here.is_empty() && here.len() == there.len(), "{} and {} windows", here.len(), there.len());
    let (mut worst, mut compared) = (0.0, 0);
    for (here, there) in here.iter().zip(there) {
        for (label, score) in here["scores"].as_object().unwrap() {
            worst = f64::max(worst, (score.as_f64().unwrap() - there["scores"][label].as_f64().unwrap()).abs());
            compared += 1;
        }
    }
    println!("{compared} scores of {} windows, largest difference {worst:.1e}", here.len());
    assert!(worst <= TOLERANCE, "a score differs by {worst:e}");
    assert!(here.iter().any(|window| window["score"].as_f64().unwrap() > 0.5), "nothing was heard: {here:?}");
}

#[test]
#[ignore = "needs the aarch64 build: tests/aarch64.sh"]
fn screamd_raises_the_same_alarm_and_leaves_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    let sound = scream(dir.path());
    let mut emulated = Command::new(root().join(".cargo/aarch64-run"));
    emulated.arg(aarch64("screamd"));
    let (here, files_here) = lines_and_files(Command::new(program("screamd")), &dir.path().join("here"), &sound);
    let (there, files_there) = lines_and_files(emulated, &dir.path().join("there"), &sound);
    assert_eq!(files_here, files_there);
    assert_eq!(files_here, ["json", "png"]);
    let kinds = |lines: &[Value]| -> Vec<String> { lines.iter().map(|line| line["type"].to_string()).collect() };
    assert_eq!(kinds(&here), kinds(&there));
    let worst = here.iter().zip(&there).filter_map(|(a, b)| Some((a["score"].as_f64()? - b["score"].as_f64()?).abs()));
    let worst = worst.fold(0.0, f64::max);
    let started = there.iter().any(|line| line["type"] == "alarm" && line["state"] == "start" && line["siren"] == true);
    println!("{} lines, largest difference of a score {worst:.1e}", there.len());
    assert!(started && worst <= TOLERANCE, "{worst:e} in {there:?}");
}
