//! What an installed device is made of: the unit's sandbox, the default site file, what the package holds.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{program, root, skip};
use toml::Value;

fn packaging(name: &str) -> PathBuf {
    root().join("firmware/packaging").join(name)
}

/// The value of a key that stands once.
fn unit(key: &str) -> String {
    let text = std::fs::read_to_string(packaging("screamd.service")).unwrap();
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(found.len(), 1, "{key} in screamd.service: {found:?}");
    found[0].to_string()
}

#[test]
fn the_units_sandbox_scores_two_or_less() {
    // In tenths. 2.0 is the contract's.
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "--offline=true", "--threshold=20"]).arg(packaging("screamd.service"));
    let Ok(output) = command.output() else {
        skip("systemd-analyze is not installed (apt-get install systemd)");
        return;
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Overall exposure level"), "{said}");
    assert!(output.status.success(), "{said}");
}

/// `ExecStopPost` drives the lines of the release that drove them, whose board may be another than the package's.
#[test]
fn what_makes_the_lines_safe_reads_the_boards_of_the_release_that_ran() {
    let text = std::fs::read_to_string(packaging("update/10-release.conf")).unwrap();
    assert!(text.lines().any(|line| line == "WorkingDirectory=-/var/lib/screamd-releases/current"), "{text}");
    // The first place where a board is looked for is the working directory.
    assert_eq!(files::board::default_roots()[0], Path::new("."));
}

#[test]
fn what_the_unit_starts_is_what_the_program_takes() {
    for (key, does, must) in [
        ("ExecStart", "run", &["--config /etc/screamd/site.toml", "--last-good"][..]),
        ("ExecStopPost", "safe-outputs", &["--config /etc/screamd/site.toml"]),
    ] {
        let line = unit(key);
        for option in must {
            assert!(line.contains(option), "{key}: no {option}: {line}");
        }
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("/usr/bin/screamd"), "{key}");
        let verb = words.next().unwrap();
        assert_eq!(verb, does, "{key}");
        let help = Command::new(program("screamd")).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{key}: `screamd {verb}` knows no {option}\n{help}");
        }
    }
}

/// Without any one of them a promise of the fault table is gone on every device: H1, H2, H4, H6, no secret in a core.
#[test]
fn the_unit_restarts_watches_and_bounds_the_program() {
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "10"),
        ("TimeoutStartSec", "60"),
        ("TimeoutStopSec", "5"),
        ("Restart", "always"),
        ("RestartSec", "1"),
        ("StartLimitIntervalSec", "0"),
        ("OOMPolicy", "stop"),
        ("OOMScoreAdjust", "-500"),
        ("LimitCORE", "0"),
        ("UMask", "0077"),
        ("WantedBy", "multi-user.target"),
    ] {
        assert_eq!(unit(key), value, "{key}");
    }
}

#[test]
fn the_default_site_file_checks() {
    let output = Command::new(program("screamd"))
        .args(["check", "--config"])
        .arg(packaging("site.toml"))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_package_holds_the_default_model() {
    let target = std::fs::read_link(root().join("models/default")).unwrap();
    let name = target.to_str().unwrap();
    let metadata = std::fs::read_to_string(root().join("firmware/Cargo.toml")).unwrap();
    assert!(metadata.contains(&format!("\"../models/{name}/*\", \"usr/share/screamd/models/{name}/\"")), "{name}");
    assert!(
        metadata.contains(&format!("link_name = \"{name}\", dest = \"usr/share/screamd/models/default\"")),
        "{name}"
    );
}

/// On every system, not on our own image alone: a hung kernel boots again.
#[test]
fn the_package_arms_the_hardwares_watchdog() {
    let tree = tempfile::tempdir().unwrap();
    unpack(tree.path());
    let text = std::fs::read_to_string(tree.path().join("usr/lib/systemd/system.conf.d/20-screamd.conf")).unwrap();
    let after = text.split_once("[Manager]\n").unwrap().1;
    let seconds = after.lines().find_map(|line| line.strip_prefix("RuntimeWatchdogSec=")).unwrap();
    // A Raspberry Pi's counts to 15 s at most.
    assert!((10..15).contains(&seconds.parse::<u32>().unwrap()), "{text}");
}

/// What `[package.metadata.deb]` packs, laid out below `to`.
fn unpack(to: &Path) {
    let metadata = std::fs::read_to_string(root().join("firmware/Cargo.toml")).unwrap();
    let metadata: Value = toml::from_str(&metadata).unwrap();
    for asset in metadata["package"]["metadata"]["deb"]["assets"].as_array().unwrap() {
        if let Some(target) = asset.get("link_name") {
            let link = to.join(asset["dest"].as_str().unwrap());
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target.as_str().unwrap(), link).unwrap();
            continue;
        }
        let (from, dest) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        // This build's programs.
        if from.starts_with("target/") {
            continue;
        }
        let (folder, pattern) = from.rsplit_once('/').unwrap();
        let (dir, _) = dest.rsplit_once('/').unwrap();
        std::fs::create_dir_all(to.join(dir)).unwrap();
        let files = std::fs::read_dir(root().join("firmware").join(folder)).unwrap().map(|file| file.unwrap());
        let mut packed = 0;
        for file in files.filter(|file| file.path().is_file() && fits(file.file_name().to_str().unwrap(), pattern)) {
            let to = to.join(dest);
            std::fs::copy(file.path(), if dest.ends_with('/') { to.join(file.file_name()) } else { to }).unwrap();
            packed += 1;
        }
        assert!(packed > 0, "{from}: nothing of that name");
    }
}

/// Whether `name` fits a pattern with `*` in it.
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(name) = name.strip_prefix(first) else { return false };
    (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(&name[at..], rest))
}

/// The documents are what an installed device's unit names, and what an installer reads where there is no network: the model card above all.
#[test]
fn every_link_of_a_packed_document_leads_somewhere() {
    let tree = tempfile::tempdir().unwrap();
    unpack(tree.path());
    let mut folders = vec![tree.path().join("usr/share")];
    let (mut read, mut dead) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                let links = text.split("](").skip(1).map(|rest| rest.split([')', '#', ' ']).next().unwrap());
                let relative = links.filter(|link| !link.is_empty() && !link.contains("://"));
                let missing = relative.filter(|link| !folder.join(link).exists());
                dead.extend(
                    missing.map(|link| format!("{}: {link}", path.strip_prefix(tree.path()).unwrap().display())),
                );
                read += 1;
            }
        }
    }
    assert!(read > 5 && dead.is_empty(), "of {read}: {dead:#?}");
}
