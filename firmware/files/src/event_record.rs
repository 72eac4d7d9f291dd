//! The record of one incident: what the device writes beside the picture and what `host-tools report` reads.
//!
//! An *incident* runs from an alarm's start to its end. Its record is JSON; `picture` and `clip` name files in the
//! same folder. A reader takes fields it does not know and misses none that came later than schema 1's first release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of the record written now.
pub const SCHEMA: u32 = 1;
/// A record, bytes: an incident of a day at two windows a second is under this, and a reader stops here.
pub const RECORD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// An incident's id, characters.
pub const ID_CHARS_MAX: usize = 64;
/// A file name in a record, bytes: what file systems take.
const NAME_BYTES_MAX: usize = 255;

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Form of this record: [`SCHEMA`].
    pub schema: u32,
    /// The incident's id, the same in every message about it: see [`is_id`].
    pub id: String,
    /// Wall time of the start, RFC 3339 in UTC.
    pub t_utc: String,
    /// Whether the wall clock was set then; where not, `t_utc` says little.
    pub clock_set: bool,
    /// Where the device stands, as its installer named the place.
    #[serde(default)]
    pub zone: String,
    /// The device's id.
    #[serde(default)]
    pub device_id: String,
    /// The board's name.
    #[serde(default)]
    pub board: String,
    /// The model's name and version.
    #[serde(default)]
    pub model: String,
    /// SHA-256 of the model's weights, hexadecimal.
    #[serde(default)]
    pub model_sha256: String,
    /// Score at which a window is a hit, 0..1.
    pub threshold_on: f64,
    /// Score at which a window keeps the incident going, 0..1.
    pub threshold_off: f64,
    /// Whether the device was armed at the start.
    #[serde(default)]
    pub armed: bool,
    /// Whether quiet hours kept the siren off.
    #[serde(default)]
    pub quiet_hours: bool,
    /// Whether the siren sounded.
    #[serde(default)]
    pub siren_sounded: bool,
    /// The start.
    pub start: EventStart,
    /// The end, once there is one.
    #[serde(default)]
    pub end: Option<EventEnd>,
    /// The windows around the incident, in order.
    #[serde(default)]
    pub windows: Vec<EventWindow>,
    /// The spectrogram's file name in the record's folder.
    #[serde(default)]
    pub picture: Option<String>,
    /// The sound's file name in the record's folder.
    #[serde(default)]
    pub clip: Option<String>,
}

/// An alarm's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventStart {
    /// End of the deciding window, seconds of the sound.
    pub t_s: f64,
    /// The deciding window's score, 0..1.
    pub score: f32,
    /// The alarm label with the highest score.
    pub label: String,
    /// The deciding window's level: RMS, dB of full scale, -120..0.
    pub level_dbfs: f32,
    /// From the deciding window's end to the siren's line, milliseconds.
    pub latency_ms: f64,
}

/// An alarm's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventEnd {
    /// When it ended, seconds of the sound.
    pub t_s: f64,
    /// Wall time of the end, RFC 3339 in UTC.
    pub t_utc: String,
}

/// One scored window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventWindow {
    /// The window's number since the device started, from 0.
    pub seq: u64,
    /// Where it starts, seconds of the sound.
    pub t_start_s: f64,
    /// Where it ends, seconds of the sound.
    pub t_end_s: f64,
    /// Score of the alarm labels together, 0..1.
    pub score: f32,
    /// Score of each label, 0..1.
    #[serde(default)]
    pub scores: BTreeMap<String, f32>,
    /// RMS, dB of full scale, -120..0.
    pub level_dbfs: f32,
    /// Whether it holds the device's own siren.
    #[serde(default)]
    pub masked: bool,
    /// Whether sound was lost inside it.
    #[serde(default)]
    pub gap: bool,
}

/// True for an id that may be part of a file name: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[must_use]
pub fn is_id(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// True for the name of a file in the record's own folder: no separator, nothing hidden, no way out. A record may
/// come from elsewhere, and what it names is opened.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_that_could_leave_the_folder_are_refused() {
        let long = "x".repeat(ID_CHARS_MAX + 1);
        for (id, expect) in [
            ("01J-abc_9", true),
            ("", false),
            ("../x", false),
            ("a/b", false),
            ("a.b", false),
            ("ä", false),
            ("a\0", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_id(id), expect, "{id:?}");
        }
        for (name, expect) in [
            ("20260730T120000Z_1.png", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("/etc/passwd", false),
            ("a/../b", false),
            ("a\\b", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_plain_name(name), expect, "{name:?}");
        }
    }
}
