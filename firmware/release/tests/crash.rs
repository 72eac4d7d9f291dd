//! Power cuts: the process is killed at 100 places of an update, by strace, on the way into a system call that changes
//! the disk. After each one whole release is current, the one that ran before is whole, and the next attempt succeeds.
//!
//! A killed process leaves its writes to the kernel, a power cut does not: the last test looks at the calls themselves,
//! and asks that everything was stored before the rename that counts.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Device, Key, bundle, now, well};
use release::manifest::Manifest;
use release::store::{Fit, Store};
use release::unpack::hex;
use semver::Version;
use sha2::{Digest, Sha256};

/// Calls that change what is on the disk (opening a file to write included: it makes it).
const CHANGES: &str = "write,rename,renameat,renameat2,mkdir,mkdirat,symlink,symlinkat,unlink,unlinkat,rmdir,fsync,\
                       fchmod,chmod,fchmodat,ftruncate,copy_file_range,sendfile,flock";
const POINTS: usize = 100;
const ROOT: &str = "CRASH_ROOT";
const WHAT: &str = "CRASH_WHAT";

/// The part that is killed: this test's own program again, with a device to work on.
#[test]
fn victim() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    let store = Store::below(&root);
    let package = Version::new(1, 0, 0);
    match std::env::var(WHAT).unwrap().as_str() {
        "apply" => {
            let keys = release::keys::in_folder(&root.join("keys")).unwrap();
            let fit = Fit { package: &package, arch: "test", board: "generic", allow_downgrade: false };
            store.apply(&root.join("new.bundle"), &keys, &fit, None, &mut |_| {}).unwrap();
        }
        "begin" => drop(store.begin(&now("boot", 0), &package).unwrap()),
        "good" => {
            let id = store.current().unwrap().id;
            store.judge(&now("boot", 0), Some(&well(&id)), false).unwrap();
        }
        "back" => drop(store.judge(&now("boot", 0), None, true).unwrap()),
        _ => drop(store.rollback().unwrap()),
    }
}

/// Runs the victim under strace, in one thread, so that calls are counted as they come.
fn traced(root: &Path, what: &str, inject: Option<&str>, log: &Path) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "0", "-o"]).arg(log).arg("-e").arg(format!("trace={CHANGES},openat"));
    if let Some(inject) = inject {
        command.arg("-e").arg(format!("inject={inject}"));
    }
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "victim", "--test-threads=1"]);
    command.env(ROOT, root).env(WHAT, what).output().unwrap()
}

/// Whether processes may be traced here; in CI it is a failure where not.
fn can_trace() -> bool {
    let can = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "CI cannot run strace (apt-get install strace)");
    if !can {
        // Past the harness, which keeps what a test that passes prints to itself.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: strace is not installed or may not trace (apt-get install strace)");
    }
    can
}

/// The calls that change the disk, as strace counts them: the name, and which of that name it is. Those of the victim's
/// own thread alone, from the first that touches the device on.
fn points(log: &Path, root: &Path) -> Vec<(String, usize)> {
    let text = std::fs::read_to_string(log).unwrap();
    let root = root.to_str().unwrap();
    let mut calls = text.lines().filter_map(|line| {
        let (pid, call) = line.split_once(' ')?;
        let name = call.trim_start().split_once('(')?.0;
        Some((pid.to_string(), name.to_string(), line.contains(root)))
    });
    let all: Vec<_> = calls.by_ref().collect();
    let (thread, ..) = all.iter().find(|(.., ours)| *ours).expect("a call that touches the device").clone();
    let mut count = std::collections::HashMap::new();
    let mut points = Vec::new();
    let mut begun = false;
    for (_, name, ours) in all.into_iter().filter(|(pid, ..)| *pid == thread) {
        let nth = count.entry(name.clone()).and_modify(|nth| *nth += 1).or_insert(1);
        begun |= ours;
        if begun && name != "openat" {
            points.push((name, *nth));
        }
    }
    points
}

/// Calls of the log that change the disk below `root`, in order.
fn changes(log: &Path, root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    let change = |line: &&str| line.contains(root) && !line.contains(" openat(");
    text.lines().filter(change).map(String::from).collect()
}

/// A device with 1.1.0 that is good and 1.2.0 that waits; with things that no update may touch.
fn prepare(key: &Key) -> Device {
    let device = Device::new(&[key]);
    device.settle(&bundle(key, "1.1.0"));
    device.place(&bundle(key, "1.2.0"));
    let root = device.root.path();
    std::fs::create_dir(root.join("keys")).unwrap();
    std::fs::write(root.join("keys/a.pub"), key.text()).unwrap();
    std::fs::create_dir_all(root.join("var/lib/screamd")).unwrap();
    for name in ["settings.json", "outbox"] {
        std::fs::write(root.join("var/lib/screamd").join(name), name).unwrap();
    }
    device
}

/// Every file of a release has the content that its manifest says.
fn assert_whole(folder: &Path, when: &str) {
    let manifest = Manifest::parse(&std::fs::read_to_string(folder.join("manifest.toml")).unwrap()).unwrap();
    for file in &manifest.files {
        let bytes = std::fs::read(folder.join(&file.path)).unwrap();
        assert_eq!(hex(&Sha256::digest(&bytes)), file.sha256, "{when}: {}", file.path);
    }
    assert!(folder.join("models/default/manifest.toml").exists(), "{when}: the default model");
}

/// What must hold after a cut, whatever was being done.
fn assert_comes_up(device: &Device, when: &str) {
    let store = &device.store;
    for name in ["current", "good"] {
        let linked = std::fs::read_link(store.folder().join(name)).ok();
        let release = if name == "current" { store.current() } else { store.good() };
        assert_eq!(linked.is_some(), release.is_some(), "{when}: {name} leads to a whole release or is none");
        release.inspect(|release| assert_whole(&release.folder, when));
    }
    for name in ["settings.json", "outbox"] {
        let kept = std::fs::read_to_string(device.root.path().join("var/lib/screamd").join(name)).unwrap();
        assert_eq!(kept, name, "{when}");
    }
}

#[test]
fn killed_at_a_hundred_places_of_an_update() {
    if !can_trace() {
        return;
    }
    let key = Key::new();
    let log = tempfile::NamedTempFile::new().unwrap();
    let whole = prepare(&key);
    let ran = traced(whole.root.path(), "apply", None, log.path());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
    let points = points(log.path(), whole.root.path());
    let total = points.len();
    assert!(total >= POINTS, "an update has {total} calls");
    let (mut before, mut after) = (0, 0);
    for at in (0..POINTS).map(|point| point * (total - 1) / (POINTS - 1)) {
        let device = prepare(&key);
        let (call, nth) = &points[at];
        let when = format!("killed at call {at} of {total}, {call} {nth}");
        let ran = traced(device.root.path(), "apply", Some(&format!("{call}:signal=KILL:when={nth}")), log.path());
        assert!(!ran.status.success(), "{when}: it was killed");
        assert_comes_up(&device, &when);
        let version = device.store.current().unwrap().manifest.version;
        if version == Version::new(1, 1, 0) {
            before += 1;
            // The next attempt is not in the way of what was left.
            device.apply_path(&device.root.path().join("new.bundle"), "generic", false).expect(&when);
        } else {
            after += 1;
            assert!(device.store.on_trial(), "{when}: and has to prove itself");
        }
        assert_comes_up(&device, &format!("{when}, then applied"));
        let left: Vec<_> = std::fs::read_dir(device.store.folder()).unwrap().flatten().collect();
        let folders = left.iter().filter(|entry| entry.file_type().unwrap().is_dir()).count();
        assert!(folders <= 3, "{when}: nothing piles up: {left:?}");
    }
    println!("{POINTS} of {total} calls: {before} times the old release, {after} times the new one, never half of one");
    assert!(before > 0 && after > 0, "both sides of the switch were reached: {before} {after}");
}

#[test]
fn killed_at_every_place_of_a_start_a_verdict_and_a_rollback() {
    if !can_trace() {
        return;
    }
    let key = Key::new();
    let log = tempfile::NamedTempFile::new().unwrap();
    for what in ["begin", "good", "back", "rollback"] {
        let ready = || {
            let device = prepare(&key);
            if what != "rollback" {
                device.apply_path(&device.root.path().join("new.bundle"), "generic", false).unwrap();
            }
            device
        };
        let whole = ready();
        assert!(traced(whole.root.path(), what, None, log.path()).status.success(), "{what}");
        let points = points(log.path(), whole.root.path());
        for (call, nth) in &points {
            let device = ready();
            let ran = traced(device.root.path(), what, Some(&format!("{call}:signal=KILL:when={nth}")), log.path());
            let when = format!("{what} killed at {call} {nth}");
            assert!(!ran.status.success(), "{when}: it was killed");
            assert_comes_up(&device, &when);
            // Whatever was cut off: three starts and a fourth, and something that is not on trial runs.
            for _ in 0..4 {
                device.store.begin(&now("boot", 0), &device.package).expect(&when);
            }
            assert!(!device.store.on_trial(), "{when}");
            assert_comes_up(&device, &when);
        }
        println!("{what}: killed at each of {} calls", points.len());
    }
}

#[test]
fn a_disk_that_fills_or_fails_at_any_call_leaves_the_old_release() {
    if !can_trace() {
        return;
    }
    let key = Key::new();
    let log = tempfile::NamedTempFile::new().unwrap();
    let whole = prepare(&key);
    traced(whole.root.path(), "apply", None, log.path());
    let (mut refused, mut tried) = (0, 0);
    // Every other one: the calls of two files are the same calls.
    for (call, nth) in points(log.path(), whole.root.path()).into_iter().step_by(2) {
        // What removes and unlocks cannot fill a disk.
        let error = match call.as_str() {
            "fsync" => "EIO",
            "unlink" | "unlinkat" | "rmdir" | "flock" => continue,
            _ => "ENOSPC",
        };
        let device = prepare(&key);
        let ran = traced(device.root.path(), "apply", Some(&format!("{call}:error={error}:when={nth}")), log.path());
        let when = format!("{error} at {call} {nth}");
        assert_comes_up(&device, &when);
        tried += 1;
        if device.store.current().unwrap().manifest.version == Version::new(1, 1, 0) {
            refused += 1;
            assert!(!ran.status.success() && !device.store.on_trial(), "{when}: it said so");
            assert!(!device.store.folder().join(".staging").exists(), "{when}: nothing is left");
        } else {
            assert!(device.store.on_trial(), "{when}: {}", String::from_utf8_lossy(&ran.stdout));
        }
    }
    println!("{tried} failing calls: {refused} times refused with the old release whole");
    // The last fsync is behind the switch.
    assert!(refused > 40 && tried - refused <= 2, "{refused} of {tried}");
}

#[test]
fn everything_is_stored_before_the_rename_that_counts() {
    if !can_trace() {
        return;
    }
    let key = Key::new();
    let log = tempfile::NamedTempFile::new().unwrap();
    let device = prepare(&key);
    let root = device.root.path().canonicalize().unwrap();
    assert!(traced(&root, "apply", None, log.path()).status.success());
    let calls = changes(log.path(), &root);
    let at = calls.iter().position(|line| line.contains("rename") && line.contains("/current\"")).expect("the switch");
    let synced: HashSet<&str> =
        calls[..at].iter().filter(|line| line.contains(" fsync(")).filter_map(|line| path_of(line)).collect();
    let staged = root.join("var/lib/screamd-releases/.staging/release");
    let release = device.store.current().unwrap();
    for file in release.manifest.files.iter().map(|file| file.path.as_str()).chain(["manifest.toml"]) {
        let path = staged.join(file);
        for stored in path.ancestors().take_while(|path| path.starts_with(&staged)) {
            assert!(synced.contains(stored.to_str().unwrap()), "{} is not stored before the switch", stored.display());
        }
    }
    let folder = root.join("var/lib/screamd-releases");
    let renamed = calls.iter().position(|line| line.contains("rename") && line.contains(".staging/release")).unwrap();
    let store_synced = |line: &String| line.contains(" fsync(") && path_of(line) == folder.to_str();
    assert!(calls[renamed..at].iter().any(store_synced), "the folder between the two renames");
    assert!(calls[at..].iter().any(store_synced), "and after the last one");
}

/// The path that `-y` writes behind a descriptor: `fsync(5</tmp/x>)`.
fn path_of(line: &str) -> Option<&str> {
    line.split_once('<')?.1.split_once('>').map(|(path, _)| path)
}
