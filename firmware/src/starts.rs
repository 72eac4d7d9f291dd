//! Starts that ended badly, counted over restarts: what crashes again and again is started with what ran before.
//!
//! The service manager starts `screamd` again for ever, since an alarm that stays down is worse than one that limps. After
//! [`LOOP_STARTS`] starts within [`LOOP`] of which none ran that long or ended by itself, the next one is in safe mode
//! ([`crate::last_good::safe`]). Only the service counts (`run --last-good`): a person at a terminal sees what happens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use files::private_file::write_private;
use serde::{Deserialize, Serialize};

/// Starts that make a loop.
pub const LOOP_STARTS: usize = 10;
/// The time in which they make one; a start that runs this long is a good one.
pub const LOOP: Duration = Duration::from_secs(600);
const NAME: &str = "starts.json";
const BYTES_MAX: u64 = 16 * 1024;

/// As stored: only starts of this boot count, since the clock is the boot's own.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Starts {
    boot_id: String,
    /// When each was, milliseconds of uptime.
    at_ms: Vec<u64>,
}

/// This start, until it has shown that it is none of a loop.
#[derive(Debug)]
pub struct Start {
    file: PathBuf,
    /// Bad starts before this one.
    pub before: usize,
}

impl Start {
    /// Counts this start. A disk that refuses costs the count, never the start.
    pub fn begin(state_dir: &Path) -> Self {
        Self::at(state_dir, &crate::clock::boot_id().unwrap_or_default(), crate::clock::uptime_ms())
    }

    fn at(state_dir: &Path, boot_id: &str, now_ms: u64) -> Self {
        let file = state_dir.join(NAME);
        let stored = release::read_foreign(&file, BYTES_MAX).and_then(|text| serde_json::from_str(&text).ok());
        let mut starts: Starts = stored.unwrap_or_default();
        if starts.boot_id != boot_id {
            starts = Starts { boot_id: boot_id.into(), at_ms: Vec::new() };
        }
        let recent = |at: &u64| *at <= now_ms && now_ms - at < LOOP.as_millis() as u64;
        starts.at_ms.retain(recent);
        let before = starts.at_ms.len();
        // As many as make a loop are enough to know.
        starts.at_ms.drain(..before.saturating_sub(LOOP_STARTS - 1));
        starts.at_ms.push(now_ms);
        let bytes = serde_json::to_vec(&starts).unwrap_or_default();
        let written = std::fs::create_dir_all(state_dir)
            .map_err(|error| error.to_string())
            .and_then(|()| write_private(&file, &bytes).map_err(|error| error.to_string()));
        if let Err(cause) = written {
            log::warn!("{}: this start is not counted: {cause}", file.display());
        }
        Self { file, before }
    }

    /// So many starts before this one ended badly that this one must be careful.
    pub fn in_a_loop(&self) -> bool {
        self.before >= LOOP_STARTS
    }

    /// It has run long enough, or ended by itself.
    pub fn good(&self) {
        let _ = std::fs::remove_file(&self.file);
    }

    /// Calls `proven` once this start has run for [`LOOP`], from a thread of its own.
    pub fn watch(&self, proven: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let start = Self { file: self.file.clone(), before: self.before };
        std::thread::Builder::new().name("starts".into()).spawn(move || {
            std::thread::sleep(LOOP);
            start.good();
            proven();
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ten_bad_starts_in_ten_minutes_are_a_loop() {
        let dir = tempfile::tempdir().unwrap();
        let start = |boot: &str, second: u64| Start::at(dir.path(), boot, second * 1000);
        for n in 0..LOOP_STARTS {
            let this = start("a", n as u64 * 20);
            assert!(!this.in_a_loop() && this.before == n, "start {n}: {this:?}");
        }
        assert!(start("a", 210).in_a_loop(), "the eleventh");
        assert!(start("a", 220).in_a_loop(), "and it stays careful while they go on");
        assert!(!start("b", 230).in_a_loop(), "a boot is no crash");
        let slow: Vec<usize> = (0..30).map(|n| start("c", 10_000 + n * 70).before).collect();
        assert!(slow.iter().all(|before| *before < LOOP_STARTS), "one a minute is none: {slow:?}");
    }

    #[test]
    fn a_good_start_clears_the_count_and_a_torn_file_counts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..LOOP_STARTS as u64 {
            Start::at(dir.path(), "a", n);
        }
        let careful = Start::at(dir.path(), "a", 100);
        assert!(careful.in_a_loop());
        careful.good();
        assert_eq!(Start::at(dir.path(), "a", 200).before, 0);
        std::fs::write(dir.path().join(NAME), "{\"boot_id\":\"a\",\"at_").unwrap();
        assert_eq!(Start::at(dir.path(), "a", 300).before, 0);
        // Nothing can be written below a file: the start goes on all the same.
        assert_eq!(Start::at(&dir.path().join(NAME), "a", 400).before, 0);
    }
}
