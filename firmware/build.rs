//! The time of the build, for TLS: a device whose clock woke up in 1970 judges certificates by it (src/broker.rs).
//! `SOURCE_DATE_EPOCH` makes two builds the same.

use std::time::{SystemTime, UNIX_EPOCH};

#[allow(clippy::print_stdout)] // That is how a build script speaks to cargo.
fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.trim().parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("cargo::rustc-env=SCREAMD_BUILT_UNIX_S={}", given.unwrap_or_else(now));
}
