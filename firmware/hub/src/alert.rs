//! The wire format: what goes out over MQTT, field by field as the contract names it.
//!
//! *Alert*: an [`Event`], a message that must arrive; it waits in the outbox until the broker has acknowledged it.
//! *State*: what holds now; retained, sent as it is now, never replayed.
//! *Alarm* and *supervision*: the two classes of alert. Where the outbox is full, supervision makes room first.
//!
//! `delayed_s` stands in no struct here: it is filled at sending time, by [`with_delay`].

use serde::{Deserialize, Serialize};

use crate::limits::{ALERT_BYTES_MAX, DETAIL_BYTES_MAX, TEXT_BYTES_MAX};

/// What an alert says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// An incident began.
    ScreamStart,
    /// It ended.
    ScreamEnd,
    /// Something is broken; `fault` names it.
    Fault,
    /// It works again.
    Restore,
    /// A person tested the device.
    Test,
    /// Armed.
    Armed,
    /// Disarmed.
    Disarmed,
    /// The present alarm was silenced.
    Silenced,
    /// The case was opened.
    Tamper,
}

impl EventType {
    /// Every type, in the contract's order.
    pub const ALL: [Self; 9] = [
        Self::ScreamStart,
        Self::ScreamEnd,
        Self::Fault,
        Self::Restore,
        Self::Test,
        Self::Armed,
        Self::Disarmed,
        Self::Silenced,
        Self::Tamper,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScreamStart => "scream_start",
            Self::ScreamEnd => "scream_end",
            Self::Fault => "fault",
            Self::Restore => "restore",
            Self::Test => "test",
            Self::Armed => "armed",
            Self::Disarmed => "disarmed",
            Self::Silenced => "silenced",
            Self::Tamper => "tamper",
        }
    }

    /// Alarms are kept where a full outbox must drop something; a tamper is reported like an alarm.
    pub fn class(self) -> Class {
        match self {
            Self::ScreamStart | Self::ScreamEnd | Self::Tamper => Class::Alarm,
            _ => Class::Supervision,
        }
    }
}

/// How much an alert matters to a full outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Kept.
    Alarm,
    /// Dropped first, oldest first.
    Supervision,
}

/// One alert: the payload of `event`, but for `delayed_s`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// What happened.
    pub event_type: EventType,
    /// The same in the JSON line, in `scream_start` and `scream_end`, and in every repetition.
    pub id: String,
    /// Where; the hub fills the site's zone in where this is empty.
    pub zone: String,
    /// When, RFC 3339 in UTC.
    pub t_utc: String,
    /// Whether the wall clock could be trusted then.
    pub clock_set: bool,
    /// The alarm labels' score, 0..1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The label that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// RMS of the deciding window, dBFS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level_dbfs: Option<f64>,
    /// The fault's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// For people. Cut to [`DETAIL_BYTES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Name and version of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`: beside it `t_mono_ms` means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The number of the window that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Milliseconds since boot (`CLOCK_BOOTTIME`, which goes on while the machine sleeps).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t_mono_ms: Option<u64>,
}

impl Event {
    /// An event with what every event has; the rest is `None`, the zone is the site's.
    pub fn new(event_type: EventType, id: impl Into<String>, t_utc: impl Into<String>, clock_set: bool) -> Self {
        Self {
            event_type,
            id: id.into(),
            zone: String::new(),
            t_utc: t_utc.into(),
            clock_set,
            score: None,
            label: None,
            level_dbfs: None,
            fault: None,
            detail: None,
            model: None,
            boot_id: None,
            seq: None,
            t_mono_ms: None,
        }
    }

    /// The payload without `delayed_s`, as the outbox stores it, at most [`ALERT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// Where even without `detail`, and with its other texts cut, it is larger, or cannot be written as JSON.
    pub fn to_stored(&self) -> Result<Vec<u8>, EventError> {
        let mut event = self.clone();
        if let Some(detail) = &mut event.detail {
            cut(detail, DETAIL_BYTES_MAX);
        }
        let bytes = serde_json::to_vec(&event)?;
        if bytes.len() <= ALERT_BYTES_MAX {
            return Ok(bytes);
        }
        // Control characters grow sixfold as JSON; the alert matters more than its texts.
        event.detail = None;
        let texts = [Some(&mut event.zone), event.label.as_mut(), event.model.as_mut()];
        for text in texts.into_iter().flatten() {
            text.retain(|c| !c.is_control());
            cut(text, TEXT_BYTES_MAX);
        }
        let bytes = serde_json::to_vec(&event)?;
        if bytes.len() <= ALERT_BYTES_MAX { Ok(bytes) } else { Err(EventError::TooLarge { bytes: bytes.len() }) }
    }
}

/// Why an event cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// event of {bytes} bytes is over the limit
    #[error("event of {bytes} bytes is over the limit of {ALERT_BYTES_MAX}")]
    TooLarge {
        /// Its size as JSON.
        bytes: usize,
    },
    /// event is no JSON
    #[error("event cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// `scream/attributes`, but for `delayed_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScreamAttributes {
    /// The incident's id.
    pub id: String,
    /// Its score, 0..1.
    pub score: f64,
    /// The label that decided.
    pub label: String,
    /// RMS of the deciding window, dBFS.
    pub level_dbfs: f64,
    /// When, RFC 3339 in UTC.
    pub t_utc: String,
    /// Name and version of the model.
    pub model: String,
}

/// `update/state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpdateState {
    /// The version that runs.
    pub installed_version: String,
    /// The newest that is known; the same where none is (Home Assistant refuses `null`).
    pub latest_version: String,
    /// Whether one is being installed.
    pub in_progress: bool,
}

/// `telemetry`, every 60 s. `outbox`, `refused` and `alerts_lost` are the hub's own figures: it fills them in at sending time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Telemetry {
    /// Largest score since the last telemetry, 0..1.
    pub score_max: f64,
    /// RMS of the last window, dBFS.
    pub level_dbfs: f64,
    /// 95 % of the windows took no longer, milliseconds.
    pub inference_ms_p95: f64,
    /// Windows scored since the start, skipped ones included.
    pub windows: u64,
    /// Of those, windows so quiet that the network was not asked.
    pub skipped: u64,
    /// Windows left out because inference was late.
    pub dropped: u64,
    /// Overruns of the microphone.
    pub xruns: u64,
    /// Alerts that wait for their PUBACK. Filled by the hub.
    pub outbox: u64,
    /// Commands refused since the start. Filled by the hub.
    pub refused: u64,
    /// Alerts lost since the start: the outbox was full, or the disk had damaged them. Filled by the hub.
    pub alerts_lost: u64,
    /// The processor's temperature, degrees Celsius; `null` where the board has no sensor.
    pub cpu_c: Option<f64>,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// The program's version.
    pub version: String,
    /// Name and version of the model.
    pub model: String,
}

/// `live`: one window, on its way while somebody watches (`live/set`), QoS 0 and never kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Live {
    /// The window's number since the start.
    pub seq: u64,
    /// The alarm labels' score, 0..1.
    pub score: f64,
    /// Its RMS, dBFS.
    pub level_dbfs: f64,
}

/// `command/result`: the answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandResult {
    /// The whole topic that the command came on.
    pub topic: String,
    /// Whether it was obeyed.
    pub ok: bool,
    /// Why not; empty where it was.
    pub reason: String,
    /// The command's own `id`, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// One retained state. The latest of each kind is what a new connection shows.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// `audio/status`: `online` while the microphone is heard.
    AudioOnline(bool),
    /// `scream/state`.
    Scream(bool),
    /// `alarm/state`.
    Alarm(bool),
    /// `siren/state`.
    Siren(bool),
    /// `armed/state`.
    Armed(bool),
    /// `threshold/state`, 0..1.
    Threshold(f64),
    /// `cooldown/state`, seconds.
    Cooldown(f64),
    /// `audio/fault`: any named microphone fault.
    AudioFault(bool),
    /// `started`: UTC time of the last start, RFC 3339.
    Started(String),
    /// `scream/attributes`.
    Attributes(ScreamAttributes),
    /// `update/state`.
    Update(UpdateState),
}

/// An `f32` as the number that a person wrote: 0.9 and not 0.8999999761581421.
pub fn as_written(value: f32) -> f64 {
    // The shortest decimal that reads back as this f32 is what was written, as long as it had seven digits.
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Puts `delayed_s` at the end of a JSON object: seconds from the event to this sending.
///
/// The text is spliced and not parsed, so that every number stays as it was written.
pub fn with_delay(json_object: &[u8], delayed_s: f64) -> Vec<u8> {
    let body = json_object.strip_suffix(b"}").unwrap_or(json_object);
    let delayed_s = if delayed_s.is_finite() { (delayed_s.max(0.0) * 1e3).round() / 1e3 } else { 0.0 };
    let comma = if body.ends_with(b"{") { "" } else { "," };
    let mut out = Vec::with_capacity(body.len() + 32);
    out.extend_from_slice(body);
    out.extend_from_slice(format!("{comma}\"delayed_s\":{delayed_s}}}").as_bytes());
    out
}

/// Cuts a text to at most `bytes`, never inside a character.
pub(crate) fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event() -> Event {
        let mut event = Event::new(EventType::ScreamStart, "a1", "2026-01-02T03:04:05Z", true);
        event.zone = "Hallway".into();
        event.score = Some(0.9);
        event
    }

    #[test]
    fn fields_are_the_contracts() {
        let stored = event().to_stored().unwrap();
        assert_eq!(
            String::from_utf8(with_delay(&stored, 0.0123)).unwrap(),
            r#"{"event_type":"scream_start","id":"a1","zone":"Hallway","t_utc":"2026-01-02T03:04:05Z","clock_set":true,"score":0.9,"delayed_s":0.012}"#
        );
    }

    #[test]
    fn names_agree_with_serde() {
        for kind in EventType::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }

    #[test]
    fn numbers_stay_as_written() {
        assert_eq!(as_written(0.9), 0.9);
        assert_eq!(as_written(-41.3), -41.3);
        assert_eq!(as_written(1e-7), 1e-7);
    }

    #[test]
    fn long_details_are_cut_between_characters() {
        let mut event = event();
        event.detail = Some("ü".repeat(DETAIL_BYTES_MAX));
        let stored = event.to_stored().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        assert_eq!(value["detail"].as_str().unwrap().len(), DETAIL_BYTES_MAX);
        event.detail = Some("\u{1}".repeat(DETAIL_BYTES_MAX));
        assert!(event.to_stored().unwrap().len() < ALERT_BYTES_MAX);
        for text in ["x", "\u{1}", "ü"] {
            (event.label, event.zone) = (Some(text.repeat(ALERT_BYTES_MAX)), text.repeat(ALERT_BYTES_MAX));
            let stored = event.to_stored().unwrap();
            let value: serde_json::Value = serde_json::from_slice(&stored).unwrap();
            assert_eq!(value["id"], "a1");
        }
        event.id = "x".repeat(ALERT_BYTES_MAX);
        assert!(matches!(event.to_stored(), Err(EventError::TooLarge { .. })));
    }

    #[test]
    fn delay_is_never_negative_or_nan() {
        assert_eq!(with_delay(b"{}", -3.0), b"{\"delayed_s\":0}");
        assert_eq!(with_delay(b"{}", f64::NAN), b"{\"delayed_s\":0}");
        assert_eq!(with_delay(b"{\"a\":1}", 86_400.0), b"{\"a\":1,\"delayed_s\":86400}");
    }
}
