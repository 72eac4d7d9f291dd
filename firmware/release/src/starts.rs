//! Starts of a release that is good, counted: a trial ends at the first healthy window, and what rots or crashes later than
//! that would be started for ever beside a whole release and a whole package.
//!
//! Counted by whom the release cannot stop, as a trial is. A start that somebody asked for counts as one that followed a
//! crash: nothing here can tell them apart, and nobody asks for that many.

use std::io;

use serde::{Deserialize, Serialize};

use crate::limits::{LOOP, LOOP_STARTS};
use crate::store::{STARTS_FILE, Store};
use crate::trial::Now;

/// `starts.json`: one release's, in one boot. Another release's or another boot's count for nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Starts {
    release: String,
    boot_id: String,
    /// When each was, `CLOCK_BOOTTIME`, milliseconds; at most [`LOOP_STARTS`].
    at_ms: Vec<u64>,
}

impl Store {
    /// Counts a start of `id`; true where it is one too many, which is not counted any more.
    pub(crate) fn starts_in_a_loop(&self, id: &str, now: &Now) -> io::Result<bool> {
        let stored = self.text(STARTS_FILE).and_then(|text| serde_json::from_str::<Starts>(&text).ok());
        let mut starts = stored
            .filter(|starts| starts.release == id && starts.boot_id == now.boot_id)
            .unwrap_or_else(|| Starts { release: id.into(), boot_id: now.boot_id.clone(), at_ms: Vec::new() });
        let recent = |at: &u64| now.uptime_ms.checked_sub(*at).is_some_and(|ago| u128::from(ago) < LOOP.as_millis());
        starts.at_ms.retain(recent);
        starts.at_ms.push(now.uptime_ms);
        if starts.at_ms.len() >= LOOP_STARTS {
            return Ok(true);
        }
        self.write(STARTS_FILE, &serde_json::to_string(&starts).map_err(io::Error::other)?)?;
        Ok(false)
    }

    /// None were. Best effort: they are one release's, and old in ten minutes.
    pub(crate) fn forget_starts(&self) {
        let _ = crate::place::remove(&self.folder().join(STARTS_FILE));
    }
}
