//! Every bound of this crate in one place, each with its reason.

use std::time::Duration;

/// A bundle, bytes. A release of today has 30 MiB; a model may have 170.
pub const BUNDLE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// All files of a release together, bytes.
pub const RELEASE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Files of a release.
pub const FILES_MAX: usize = 512;
/// The manifest, bytes: 512 files of 200 bytes each.
pub const MANIFEST_BYTES_MAX: u64 = 256 * 1024;
/// A path inside a release, bytes: what an ustar header holds without an extension.
pub const PATH_BYTES_MAX: usize = 100;
/// A release's version, characters: with a dash and 8 digits of its build it is the name of a folder and of a link, 64 at most.
pub const VERSION_BYTES_MAX: usize = 55;
/// Everything before the archive: magic and signature.
pub const HEAD_BYTES_MAX: usize = 2048;
/// A public key's file.
pub const KEY_BYTES_MAX: u64 = 4096;
/// Public keys that are tried.
pub const KEYS_MAX: usize = 16;
/// Left free beside a release, bytes: the outbox of a day without a broker has room (hub's limits, ALERTS_BYTES_MAX).
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// A state file of this crate, bytes.
pub const STATE_BYTES_MAX: u64 = 64 * 1024;

/// Releases that failed, of which the device remembers so many, the latest: a hub is not offered them again.
pub const FAILED_MAX: usize = 16;

/// Starts that a release on trial has; the next one starts the release before it.
pub const TRIAL_STARTS: u32 = 3;
/// How long a release may be on trial in one boot.
pub const TRIAL: Duration = Duration::from_secs(120);

/// Starts of a good release within [`LOOP`] that make a loop: with the last of them the release before it is started. Twice the ten
/// after which the service itself takes its last good model and site (firmware/src/starts.rs): what that mends is no fault of the release.
pub const LOOP_STARTS: usize = 20;
/// The time in which they make one, the service's own: one start in half a minute for ten minutes.
pub const LOOP: Duration = Duration::from_secs(600);

const _: () = assert!(FILES_MAX as u64 * 400 < MANIFEST_BYTES_MAX, "a full list of files fits");
const _: () = assert!(BUNDLE_BYTES_MAX <= RELEASE_BYTES_MAX, "an archive does not shrink when it is unpacked");
