//! What the system tests drive the product with: the built programs, a device folder, sounds, a real broker.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod broker;
pub mod certificates;
pub mod device;
pub mod held;
pub mod https;
pub mod package;
pub mod sound;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Far beyond what a slow machine needs; only there so that a broken test ends.
const LIMIT: Duration = Duration::from_secs(60);

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A program of this build: tests lie in `target/release/deps`, programs one folder above.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join(name);
    assert!(path.is_file(), "{}: not built (cargo build --release --workspace)", path.display());
    path
}

/// `host-tools` from the repository's root.
pub fn host_tools<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(program("host-tools")).args(args).current_dir(root()).output().unwrap()
}

/// Runs `host-tools` and expects success; its standard output.
#[track_caller]
pub fn host_tools_ok<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let output = host_tools(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Clips of the test split of [`recordings`], with whether each is a scream, in the manifest's order.
pub fn test_clips(folder: &Path) -> Vec<(PathBuf, bool)> {
    let text = std::fs::read_to_string(folder.join("manifest.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    let header = rows.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|field| field == name).unwrap();
    let (file, label, split) = (column("file"), column("label"), column("split"));
    let of_test = rows.records().map(Result::unwrap).filter(|row| &row[split] == "test" && !row[label].is_empty());
    of_test.map(|row| (folder.join(&row[file]), &row[label] == "1")).collect()
}

/// Sends `name`, such as `-TERM`, to process `id`, which is there.
#[track_caller]
pub fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success(), "{name} to {id}");
}

/// Says that a test is left out for want of a tool or of recordings. In CI that is a failure.
#[track_caller]
pub fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI: {why}");
    skip_without_rights(why);
}

/// The same where what is missing is root's rights, which nobody can install: in CI too it is only said. Past the
/// harness, which keeps what a test that passes prints to itself.
pub fn skip_without_rights(why: &str) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", thread.name().unwrap_or_default());
}

/// `../shared/data`, or a word that the test is left out. In CI its absence is a failure.
pub fn recordings() -> Option<PathBuf> {
    let folder = root().parent().unwrap().join("shared/data");
    if folder.join("manifest.csv").is_file() {
        return Some(folder);
    }
    skip("no recordings at ../shared/data");
    None
}
