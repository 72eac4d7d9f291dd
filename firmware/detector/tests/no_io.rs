//! "Sound in, decisions out": the crate can reach no file, network, process, thread, clock or environment, neither through
//! a crate that it depends on nor through the standard library. What its own tests do is not looked at.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Arithmetic, parsing and text; none of them is a device, file, net or async crate. A new one is looked at and written down.
const DEPENDENCIES: [&str; 13] = [
    "flate2",
    "kernels",
    "realfft",
    "rubato",
    "serde",
    "sha2",
    "strsim",
    "thiserror",
    "toml",
    "tract-core",
    "tract-linalg",
    "tract-nnef",
    "tract-onnx",
];

/// Of the standard library. Braces would hide them: a `use` names one module of `std`, and one thing of `std::time`
/// here. Of `std::io` only its traits are left.
const FORBIDDEN: [&str; 20] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::{",
    "std::time::*",
    "Instant::now",
    "SystemTime::now",
    "std::io::std",
    "std::io::{",
    "std::io::*",
    "std::*",
    "std::{",
    "print!(",
    "println!(",
    "dbg!(",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below `folder`, but for those that hold tests alone.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") && path.file_name().unwrap() != "tests.rs" {
            found.push(path);
        }
    }
    found
}

/// Lines of code, with their numbers from 1: neither comments nor what follows `#[cfg(test)]`, up to its closing brace or
/// semicolon at the beginning of a line.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_tests = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let begins = line == "#[cfg(test)]";
        let ends = line == "}" || (!line.starts_with([' ', '#']) && line.ends_with(';'));
        let counts = !in_tests && !begins && !line.trim_start().starts_with("//");
        in_tests = begins || (in_tests && !ends);
        counts.then_some((index + 1, line))
    })
}

/// What of [`FORBIDDEN`] a file's code names, and where.
fn reached(text: &str) -> Vec<(usize, &'static str)> {
    let named = |(number, line): (usize, &str)| {
        FORBIDDEN.into_iter().filter(|name| line.contains(*name)).map(|name| (number, name)).collect::<Vec<_>>()
    };
    code(text).flat_map(named).collect()
}

#[test]
fn it_depends_on_nothing_that_does_io() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let mut names: Vec<&str> = manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, DEPENDENCIES, "a new dependency of `detector`: does it do I/O?");
    for table in ["build-dependencies", "target"] {
        assert!(!manifest.contains_key(table), "[{table}] is not looked at here");
    }
}

#[test]
fn its_code_names_no_file_network_process_thread_or_clock() {
    let files = sources(&root().join("src"));
    assert!(files.len() > 15, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(reached(&text), [], "{}", path.display());
    }
    let first = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(first.contains("#![forbid(unsafe_code)]"), "unsafe code reaches everything");
}

#[test]
fn code_that_reaches_out_is_found_and_tests_that_do_are_not() {
    let text = "//! std::fs in words.\nuse std::fs::File;\n#[cfg(test)]\n#[allow(unused)]\nmod tests {\n    use std::fs;\n}\n\
                fn now() {\n    std::time::Instant::now(); // later\n}\n#[cfg(test)]\nmod more;\nuse std::{net, io};\n\
                use std::time::{Duration, Instant};\nuse std::io::stdout;\nuse std::io::Read;\n    eprintln!(\"\");\n";
    let found = reached(text);
    let places: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(places, [2, 9, 9, 13, 14, 15, 17], "{found:?}");
}
