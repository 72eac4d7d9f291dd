//! Bounds of everything that comes from outside, in one place, related by asserts that the compiler checks.

/// A manifest or a site file, bytes; a board file has a bound of its own.
pub const TOML_BYTES_MAX: u64 = 256 * 1024;
/// A weights file, bytes. ResNet34 in f32 is 85 MB; three times that leaves room for larger networks.
pub const MODEL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What a weights file may unpack to, bytes: a small archive must not fill the memory of a board.
pub const MODEL_UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Sampling rates, hertz.
pub const RATE_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;
/// Window length, seconds.
pub const WINDOW_S_MAX: f64 = 60.0;
/// FFT length, samples.
pub const N_FFT_MAX: usize = 16_384;
/// Mel bands.
pub const N_MELS_MAX: usize = 512;
/// Cells of one channel of a picture.
pub const PICTURE_CELLS_MAX: usize = 1 << 20;
/// Labels of a model.
pub const LABELS_MAX: usize = 1024;
/// A label, or a model's name or version, bytes.
pub const TEXT_BYTES_MAX: usize = 128;
/// Windows that can vote: they are kept as bits of one word.
pub const VOTES_MAX: u32 = 64;
/// Hold, cooldown and stride, seconds.
pub const DECISION_S_MAX: f64 = 86_400.0;
/// Actions that one step of the alarm can ask for.
pub const ACTIONS_MAX: usize = 12;
/// How long after its due time an incident may end without a window that proves it: sound has stopped coming, ms.
pub const SOUND_STOPPED_MS: u64 = 5_000;
/// A test of the siren, ms: long enough to be heard, short enough not to wake the street.
pub const TEST_SIREN_MS: u64 = 2_000;

const _: () = assert!(MODEL_BYTES_MAX < MODEL_UNPACKED_BYTES_MAX, "an archive never unpacks to less than itself");
const _: () = assert!(VOTES_MAX as usize <= u64::BITS as usize, "votes are bits of a u64");
const _: () = assert!(*RATE_HZ.start() > 0, "a rate of 0 has no window");
