//! Home Assistant's device-based discovery: one retained message that makes the device with all its entities.
//!
//! The form is that of discovery_example.json; `tests/golden/discovery.json` holds what comes out. `default_entity_id`
//! and never `object_id`, whole topics and never `~`: Home Assistant warns of the one and drops the other.

use serde_json::{Map, Value, json};

use crate::alert::EventType;
use crate::limits::COOLDOWN_S_MAX;
use crate::options::Options;
use crate::topics::{self, Topics};

/// Telemetry comes every 60 s; three that are missing make its sensors unavailable.
const TELEMETRY_EXPIRES_S: u32 = 180;

/// The payload for [`Topics::discovery`].
pub fn payload(options: &Options) -> String {
    let topics = Topics::new(&options.device_id);
    json!({
        "device": device(options, &topics),
        "origin": { "name": topics::ROOT, "sw_version": options.device.sw_version },
        "availability": [{ "topic": topics.full(topics::STATUS) }],
        "qos": 1,
        "components": Components::of(topics, slug(options)),
    })
    .to_string()
}

fn device(options: &Options, topics: &Topics) -> Value {
    let known = &options.device;
    let mut device = Map::new();
    device.insert("identifiers".into(), json!([topics.node()]));
    if let Some(mac) = &known.mac {
        device.insert("connections".into(), json!([["mac", mac]]));
    }
    let place = if options.zone.is_empty() { &options.device_id } else { &options.zone };
    device.insert("name".into(), json!(format!("Scream detector {place}")));
    device.insert("manufacturer".into(), json!(topics::ROOT));
    device.insert("model".into(), json!(known.model));
    device.insert("sw_version".into(), json!(known.sw_version));
    for (key, value) in
        [("model_id", &known.model_id), ("serial_number", &known.serial_number), ("hw_version", &known.hw_version)]
    {
        if let Some(value) = value {
            device.insert(key.into(), json!(value));
        }
    }
    if !options.zone.is_empty() {
        device.insert("suggested_area".into(), json!(options.zone));
    }
    Value::Object(device)
}

/// The entities of one device, by their keys.
struct Components {
    topics: Topics,
    place: String,
    all: Map<String, Value>,
}

impl Components {
    fn of(topics: Topics, place: String) -> Value {
        let mut components = Self { topics, place, all: Map::new() };
        components.alarm();
        components.controls();
        components.figures();
        components.upkeep();
        Value::Object(components.all)
    }

    fn topic(&self, leaf: &str) -> String {
        self.topics.full(leaf)
    }

    fn add(&mut self, key: &str, platform: &str, name: &str, fields: Value) {
        let mut component = json!({
            "platform": platform,
            "unique_id": format!("{}_{key}", self.topics.node()),
            "default_entity_id": format!("{platform}.{}_{key}", self.place),
            "name": name,
        });
        extend(&mut component, fields);
        self.all.insert(key.to_owned(), component);
    }

    /// A sensor's fields: one value of telemetry, and `more`.
    fn telemetry(&self, template: &str, more: Value) -> Value {
        let mut fields = json!({
            "state_topic": self.topic(topics::TELEMETRY),
            "value_template": format!("{{{{ {template} }}}}"),
            "state_class": "measurement",
            "expire_after": TELEMETRY_EXPIRES_S,
            "qos": 0,
        });
        extend(&mut fields, more);
        fields
    }

    /// What goes on: the scream, the incident, each event, the siren.
    fn alarm(&mut self) {
        self.add(
            "scream",
            "binary_sensor",
            "Scream",
            json!({
                "device_class": "sound",
                "state_topic": self.topic(topics::SCREAM_STATE),
                "json_attributes_topic": self.topic(topics::SCREAM_ATTRIBUTES),
                "availability": [{ "topic": self.topic(topics::STATUS) }, { "topic": self.topic(topics::AUDIO_STATUS) }],
                "availability_mode": "all",
            }),
        );
        self.add(
            "alarm",
            "binary_sensor",
            "Alarm",
            json!({
                "device_class": "safety",
                "state_topic": self.topic(topics::ALARM_STATE),
            }),
        );
        self.add(
            "event",
            "event",
            "Sound event",
            json!({
                "event_types": EventType::ALL.map(EventType::name),
                "state_topic": self.topic(topics::EVENT),
            }),
        );
        self.add(
            "siren",
            "siren",
            "Siren",
            json!({
                "command_topic": self.topic(topics::SIREN_SET),
                "state_topic": self.topic(topics::SIREN_STATE),
                "support_duration": true,
                "support_volume_set": false,
                "optimistic": false,
                "retain": false,
            }),
        );
    }

    /// What a person sets and presses.
    fn controls(&mut self) {
        self.add(
            "armed",
            "switch",
            "Armed",
            json!({
                "icon": "mdi:shield-home",
                "command_topic": self.topic(topics::ARMED_SET),
                "state_topic": self.topic(topics::ARMED_STATE),
                "retain": false,
            }),
        );
        self.add(
            "threshold",
            "number",
            "Threshold",
            json!({
                "entity_category": "config",
                "command_topic": self.topic(topics::THRESHOLD_SET),
                "state_topic": self.topic(topics::THRESHOLD_STATE),
                // What `calibrate` writes may lie above 0.99; Home Assistant shows no value outside of this.
                "min": 0,
                "max": 1,
                "step": 0.01,
                "mode": "slider",
            }),
        );
        self.add(
            "cooldown",
            "number",
            "Alert cooldown",
            json!({
                "entity_category": "config",
                "device_class": "duration",
                "unit_of_measurement": "s",
                "command_topic": self.topic(topics::COOLDOWN_SET),
                "state_topic": self.topic(topics::COOLDOWN_STATE),
                "min": 0,
                // What a site file may say is shown without a warning; the box is typed into, so its range costs nothing.
                "max": COOLDOWN_S_MAX as u32,
                "step": 1,
                "mode": "box",
            }),
        );
        self.add(
            "test_siren",
            "button",
            "Test siren",
            json!({
                "entity_category": "diagnostic",
                "command_topic": self.topic(topics::TEST_SIREN_PRESS),
            }),
        );
        self.add(
            "silence",
            "button",
            "Silence alarm",
            json!({
                "icon": "mdi:bell-off",
                "command_topic": self.topic(topics::SILENCE_PRESS),
            }),
        );
    }

    /// What telemetry says.
    fn figures(&mut self) {
        self.add(
            "probability",
            "sensor",
            "Scream score (1 min max)",
            self.telemetry(
                "(value_json.score_max * 100) | round(1)",
                json!({ "unit_of_measurement": "%", "suggested_display_precision": 1 }),
            ),
        );
        self.add(
            "level",
            "sensor",
            "Sound level",
            self.telemetry(
                "value_json.level_dbfs",
                json!({ "unit_of_measurement": "dBFS", "suggested_display_precision": 1 }),
            ),
        );
        self.add(
            "latency",
            "sensor",
            "Inference latency p95",
            self.telemetry(
                "value_json.inference_ms_p95",
                json!({
                    "entity_category": "diagnostic", "device_class": "duration", "unit_of_measurement": "ms",
                    "suggested_display_precision": 0,
                }),
            ),
        );
        self.add(
            "xruns",
            "sensor",
            "Audio overruns",
            self.telemetry(
                "value_json.xruns",
                json!({ "entity_category": "diagnostic", "state_class": "total_increasing" }),
            ),
        );
        self.add(
            "cpu_temp",
            "sensor",
            "CPU temperature",
            self.telemetry(
                "value_json.cpu_c",
                json!({ "entity_category": "diagnostic", "device_class": "temperature", "unit_of_measurement": "°C" }),
            ),
        );
    }

    /// The device's own health and release.
    fn upkeep(&mut self) {
        self.add(
            "audio_fault",
            "binary_sensor",
            "Microphone fault",
            json!({
                "entity_category": "diagnostic",
                "device_class": "problem",
                "state_topic": self.topic(topics::AUDIO_FAULT),
            }),
        );
        self.add(
            "last_boot",
            "sensor",
            "Last start",
            json!({
                "entity_category": "diagnostic",
                "device_class": "timestamp",
                "state_topic": self.topic(topics::STARTED),
            }),
        );
        self.add(
            "update",
            "update",
            "Update",
            json!({
                "entity_category": "config",
                "device_class": "firmware",
                "title": topics::ROOT,
                "state_topic": self.topic(topics::UPDATE_STATE),
                "command_topic": self.topic(topics::UPDATE_INSTALL),
                "payload_install": "INSTALL",
                "retain": false,
            }),
        );
    }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

/// The zone as a part of an entity's id: lower case letters, digits and single underscores, or the device's id where the
/// zone's script has none of them.
fn slug(options: &Options) -> String {
    let plain = |text: &str| {
        let mut slug = String::new();
        for letter in text.chars() {
            match letter.to_ascii_lowercase() {
                letter @ ('a'..='z' | '0'..='9') => slug.push(letter),
                _ if !slug.is_empty() && !slug.ends_with('_') => slug.push('_'),
                _ => {}
            }
        }
        slug.trim_end_matches('_').to_owned()
    };
    [&options.zone, &options.device_id]
        .into_iter()
        .map(|text| plain(text))
        .find(|slug| !slug.is_empty())
        .unwrap_or_else(|| topics::ROOT.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::limits::PACKET_BYTES_MAX;

    fn options() -> Options {
        let mut options = Options::new("10000000abcd1234", "Hallway", "hub.local", "");
        options.device.model = "Raspberry Pi 5 Model B Rev 1.0".into();
        options.device.model_id = Some("screamd-rpi5".into());
        options.device.serial_number = Some("10000000abcd1234".into());
        options.device.sw_version = "1.0.0".into();
        options.device.hw_version = Some("rev 1.0".into());
        options.device.mac = Some("d8:3a:dd:00:00:01".into());
        options
    }

    /// `UPDATE_GOLDEN=1 cargo test` writes the file anew, to be read as a diff.
    #[test]
    fn golden() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/discovery.json");
        let value: Value = serde_json::from_str(&payload(&options())).unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, serde_json::to_string_pretty(&value).unwrap() + "\n").unwrap();
        }
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(value, golden);
    }

    /// Every key of the contract's example stands in ours with the example's value, but for what is named here.
    #[test]
    fn the_example_is_kept() {
        let example = include_str!("../tests/golden/discovery_example.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let ours: Value = serde_json::from_str(&payload(&options())).unwrap();
        let different = [
            "/device/name",
            "/components/cooldown/max",
            "/components/cooldown/step",
            "/components/threshold/min",
            "/components/threshold/max",
        ];
        let mut open = vec![String::new()];
        while let Some(path) = open.pop() {
            let (theirs, ours) = (example.pointer(&path).unwrap(), ours.pointer(&path));
            match theirs {
                Value::Object(fields) => open.extend(fields.keys().map(|key| format!("{path}/{key}"))),
                _ if different.contains(&path.as_str()) => assert!(ours.is_some(), "{path}"),
                value => assert_eq!(ours, Some(value), "{path}"),
            }
        }
    }

    #[test]
    fn no_short_forms_and_no_shared_ids() {
        let text = payload(&options());
        assert!(!text.contains("object_id") && !text.contains('~'));
        assert!(text.len() < PACKET_BYTES_MAX);
        let value: Value = serde_json::from_str(&text).unwrap();
        let components = value["components"].as_object().unwrap();
        for field in ["unique_id", "default_entity_id"] {
            let ids: std::collections::HashSet<_> =
                components.values().map(|component| component[field].as_str().unwrap()).collect();
            assert_eq!(ids.len(), components.len(), "{field}");
        }
    }

    #[test]
    fn zones_in_any_script() {
        for (zone, id, expect) in [
            ("Hallway", "h", "hallway"),
            ("  2nd floor, east ", "h", "2nd_floor_east"),
            ("현관", "hall-1", "hall_1"),
            ("", "--", "screamd"),
        ] {
            assert_eq!(slug(&Options::new(id, zone, "", "")), expect);
        }
    }
}
