//! What an installed device is made of: the unit's sandbox, the default site file, what the package holds.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::{program, root, skip};

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
