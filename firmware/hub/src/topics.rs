//! Every topic of the contract, spelled in this file alone.
//!
//! *Leaf*: a topic below the device's root `screamd/<device-id>/`, such as `siren/set`.

/// Root of every device.
pub const ROOT: &str = "screamd";
/// Home Assistant's birth message.
pub const HOME_ASSISTANT_STATUS: &str = "homeassistant/status";

/// `online` after CONNACK, `offline` as will and before a clean disconnect.
pub const STATUS: &str = "status";
/// `online` or `offline`: a microphone that is heard, or a dead one.
pub const AUDIO_STATUS: &str = "audio/status";
/// `ON` from the start of an incident to its end.
pub const SCREAM_STATE: &str = "scream/state";
/// `ON` from the start of an incident until silence or disarm.
pub const ALARM_STATE: &str = "alarm/state";
/// `ON` while the siren sounds.
pub const SIREN_STATE: &str = "siren/state";
/// `ON` while armed.
pub const ARMED_STATE: &str = "armed/state";
/// Score at or above which a window is a hit, 0..=1.
pub const THRESHOLD_STATE: &str = "threshold/state";
/// Seconds after an incident in which none starts.
pub const COOLDOWN_STATE: &str = "cooldown/state";
/// `ON` with any microphone fault.
pub const AUDIO_FAULT: &str = "audio/fault";
/// UTC time of the last start.
pub const STARTED: &str = "started";
/// The last incident's figures.
pub const SCREAM_ATTRIBUTES: &str = "scream/attributes";
/// Alerts.
pub const EVENT: &str = "event";
/// Health figures, every minute.
pub const TELEMETRY: &str = "telemetry";
/// One window each, while somebody watches.
pub const LIVE: &str = "live";
/// The answer to each command.
pub const COMMAND_RESULT: &str = "command/result";
/// Installed and latest version.
pub const UPDATE_STATE: &str = "update/state";

/// Siren on or off.
pub const SIREN_SET: &str = "siren/set";
/// Arm or disarm.
pub const ARMED_SET: &str = "armed/set";
/// Change the threshold.
pub const THRESHOLD_SET: &str = "threshold/set";
/// Change the cooldown.
pub const COOLDOWN_SET: &str = "cooldown/set";
/// A short blip.
pub const TEST_SIREN_PRESS: &str = "test_siren/press";
/// End the present alarm.
pub const SILENCE_PRESS: &str = "silence/press";
/// Install the known update.
pub const UPDATE_INSTALL: &str = "update/install";
/// Seconds for which [`LIVE`] is wanted.
pub const LIVE_SET: &str = "live/set";

/// Every leaf that carries a command.
pub const COMMANDS: [&str; 8] =
    [SIREN_SET, ARMED_SET, THRESHOLD_SET, COOLDOWN_SET, TEST_SIREN_PRESS, SILENCE_PRESS, UPDATE_INSTALL, LIVE_SET];

/// Without these nobody can end an alarm from the hub.
pub const ENDS_AN_ALARM: [&str; 2] = [SIREN_SET, SILENCE_PRESS];

/// Whether a text is a device's id, a level of its topics: 1 to 64 of `A-Z a-z 0-9 _ -`: the rule of
/// `files::event_record::is_id`, whose crate this one does not depend on.
pub fn is_device_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    device_id: String,
    prefix: String,
}

impl Topics {
    /// Topics of the device with this id (checked by [`crate::Options::check`]).
    pub fn new(device_id: &str) -> Self {
        Self { device_id: device_id.to_owned(), prefix: format!("{ROOT}/{device_id}/") }
    }

    /// The whole topic of a leaf.
    pub fn full(&self, leaf: &str) -> String {
        format!("{}{leaf}", self.prefix)
    }

    /// The leaf of a whole topic, or `None` where it is another device's.
    pub fn leaf<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.prefix)
    }

    /// Client id, discovery node and prefix of every `unique_id`: `screamd_<id>`.
    pub fn node(&self) -> String {
        format!("{ROOT}_{}", self.device_id)
    }

    /// Home Assistant's device-based discovery.
    pub fn discovery(&self) -> String {
        format!("homeassistant/device/{}/config", self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_back() {
        let topics = Topics::new("hall-1");
        for leaf in COMMANDS {
            assert_eq!(topics.leaf(&topics.full(leaf)), Some(leaf));
        }
        assert_eq!(topics.leaf("screamd/hall-10/siren/set"), None);
        assert_eq!(topics.leaf(HOME_ASSISTANT_STATUS), None);
        assert_eq!(topics.full(STATUS), "screamd/hall-1/status");
        assert_eq!(topics.discovery(), "homeassistant/device/screamd_hall-1/config");
    }
}
