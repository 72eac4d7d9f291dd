//! What has been heard of every device: messages go in, the view reads. No clock, no socket: time comes in as an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::verdict::Verdict;

/// Scores that are kept of one device: an hour of windows.
const SCORES: usize = 1800;
/// Alerts that are kept of one device.
const ALERTS: usize = 50;
/// Without a live window for so long, telemetry's minutes are shown.
const LIVE_ENDS: Duration = Duration::from_secs(30);

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// 0..1.
    pub score: f64,
    /// It is a window's, not the largest of a minute.
    pub live: bool,
}

/// One line of what happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// `scream_start`, ..., or `answer` to a command.
    pub kind: String,
    /// When, as the device says.
    pub t_utc: String,
    /// What else is known.
    pub text: String,
}

/// What is known of one device; `None` where nothing was heard.
#[derive(Debug, Default)]
pub struct Device {
    /// Where it hangs.
    pub zone: String,
    /// `status`.
    pub online: Option<bool>,
    /// `audio/status`.
    pub hears: Option<bool>,
    /// `scream/state`.
    pub scream: Option<bool>,
    /// `alarm/state`.
    pub alarm: Option<bool>,
    /// `siren/state`.
    pub siren: Option<bool>,
    /// `armed/state`.
    pub armed: Option<bool>,
    /// `threshold/state`.
    pub threshold: Option<f64>,
    /// dBFS.
    pub level_dbfs: Option<f64>,
    /// Name and detail of those that were raised and not restored.
    pub faults: BTreeMap<String, String>,
    /// Oldest first.
    pub scores: VecDeque<Score>,
    /// Newest first.
    pub alerts: VecDeque<Alert>,
    /// The last telemetry.
    pub telemetry: Option<Value>,
    live_at: Option<Instant>,
}

impl Device {
    /// The newest score.
    pub fn score(&self) -> Option<Score> {
        self.scores.back().copied()
    }

    /// Each window is told.
    pub fn is_live(&self, now: Instant) -> bool {
        self.live_at.is_some_and(|at| now.saturating_duration_since(at) < LIVE_ENDS)
    }

    fn push_score(&mut self, score: f64, live: bool) {
        // Minutes and windows are not the same length: one row never mixes them.
        if self.score().is_some_and(|last| last.live != live) {
            self.scores.clear();
        }
        self.scores.push_back(Score { score, live });
        if self.scores.len() > SCORES {
            self.scores.pop_front();
        }
    }

    fn push_alert(&mut self, kind: &str, t_utc: &str, text: String) {
        self.alerts.push_front(Alert { kind: kind.into(), t_utc: t_utc.into(), text });
        self.alerts.truncate(ALERTS);
    }

    fn hear(&mut self, leaf: &str, payload: &[u8], now: Instant) {
        let Ok(text) = std::str::from_utf8(payload) else { return };
        let on = match text {
            "ON" | "online" => Some(true),
            "OFF" | "offline" => Some(false),
            _ => None,
        };
        match leaf {
            "status" => self.online = on,
            "audio/status" => self.hears = on,
            "scream/state" => self.scream = on,
            "alarm/state" => self.alarm = on,
            "siren/state" => self.siren = on,
            "armed/state" => self.armed = on,
            "threshold/state" => self.threshold = text.parse().ok(),
            "audio/fault" if on == Some(true) => {
                self.faults.entry("microphone".into()).or_default();
            }
            "audio/fault" => {
                self.faults.remove("microphone");
            }
            _ => {
                let Ok(json) = serde_json::from_str::<Value>(text) else { return };
                self.hear_json(leaf, json, now);
            }
        }
    }

    fn hear_json(&mut self, leaf: &str, json: Value, now: Instant) {
        let word = |key: &str| json[key].as_str().unwrap_or_default();
        match leaf {
            "live" => {
                self.live_at = Some(now);
                self.level_dbfs = json["level_dbfs"].as_f64().or(self.level_dbfs);
                if let Some(score) = json["score"].as_f64() {
                    self.push_score(score, true);
                }
            }
            "telemetry" => {
                if !self.is_live(now) {
                    self.level_dbfs = json["level_dbfs"].as_f64().or(self.level_dbfs);
                    if let Some(score) = json["score_max"].as_f64() {
                        self.push_score(score, false);
                    }
                }
                self.telemetry = Some(json);
            }
            "event" => {
                let kind = word("event_type");
                if !word("zone").is_empty() {
                    self.zone = word("zone").into();
                }
                let (fault, detail) = (word("fault"), word("detail"));
                match kind {
                    "fault" => drop(self.faults.insert(fault.into(), detail.into())),
                    "restore" => drop(self.faults.remove(fault)),
                    _ => {}
                }
                let score = json["score"].as_f64().map(|score| format!("score {score:.3}"));
                let late = json["delayed_s"].as_f64().filter(|late| *late >= 1.0);
                let parts = [
                    (!fault.is_empty()).then(|| fault.to_string()),
                    score,
                    (!detail.is_empty()).then(|| detail.to_string()),
                    late.map(|late| format!("(told {late:.0} s late)")),
                ];
                let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
                self.push_alert(kind, word("t_utc"), text);
            }
            "command/result" => {
                let leaf = word("topic").splitn(3, '/').nth(2).unwrap_or_default();
                // The monitor's own asking for windows is nobody's news.
                if leaf == "live/set" {
                    return;
                }
                let said =
                    if json["ok"] == true { "obeyed".to_string() } else { format!("refused: {}", word("reason")) };
                self.push_alert("answer", "", format!("{leaf} {said}"));
            }
            _ => {}
        }
    }
}

/// Every device by its id.
#[derive(Debug, Default)]
pub struct Devices(pub BTreeMap<String, Device>);

impl Devices {
    /// As the table has them: those that need somebody first, then by id.
    pub fn urgent_first(&self) -> Vec<(&str, &Device)> {
        let mut devices: Vec<_> = self.0.iter().map(|(id, device)| (id.as_str(), device)).collect();
        devices.sort_by_key(|(_, device)| Verdict::of(device));
        devices
    }

    /// Takes one message in.
    pub fn hear(&mut self, topic: &str, payload: &[u8], now: Instant) {
        if let Some(rest) = topic.strip_prefix("screamd/")
            && let Some((id, leaf)) = rest.split_once('/')
        {
            // A kept message that was taken away says that the device is gone, not that it is there.
            if payload.is_empty() {
                if leaf == "status" {
                    self.0.remove(id);
                }
                return;
            }
            // What people send to a device that is not there makes no device.
            if !leaf.ends_with("/set") && !leaf.ends_with("/press") && !leaf.ends_with("/install") {
                self.0.entry(id.into()).or_default().hear(leaf, payload, now);
            }
            return;
        }
        let node = topic.strip_prefix("homeassistant/device/screamd_").and_then(|rest| rest.strip_suffix("/config"));
        if let (Some(id), Ok(config)) = (node, serde_json::from_slice::<Value>(payload))
            && let Some(zone) = config["device"]["suggested_area"].as_str()
        {
            self.0.entry(id.into()).or_default().zone = zone.into();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hear(devices: &mut Devices, now: Instant, messages: &[(&str, &str)]) {
        for (topic, payload) in messages {
            devices.hear(topic, payload.as_bytes(), now);
        }
    }

    #[test]
    fn messages_become_a_device() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        hear(
            &mut devices,
            now,
            &[
                ("homeassistant/device/screamd_hall-1/config", r#"{"device":{"suggested_area":"Hallway"}}"#),
                ("screamd/hall-1/status", "online"),
                ("screamd/hall-1/audio/status", "online"),
                ("screamd/hall-1/armed/state", "ON"),
                ("screamd/hall-1/threshold/state", "0.8"),
                ("screamd/hall-1/siren/set", "ON"),
                ("screamd/hall-1/telemetry", r#"{"score_max":0.25,"level_dbfs":-41.5}"#),
                (
                    "screamd/hall-1/event",
                    r#"{"event_type":"fault","fault":"CaptureLost","detail":"unplugged","t_utc":"2026-01-02T03:04:05Z","delayed_s":4.2}"#,
                ),
                ("screamd/hall-1/command/result", r#"{"topic":"screamd/hall-1/siren/set","ok":false,"reason":"busy"}"#),
                ("screamd/nobody/siren/set", "ON"),
                ("screamd/broken/telemetry", "{"),
            ],
        );
        let hall = &devices.0["hall-1"];
        assert_eq!(
            (hall.zone.as_str(), hall.online, hall.armed, hall.siren),
            ("Hallway", Some(true), Some(true), None)
        );
        assert_eq!(hall.score(), Some(Score { score: 0.25, live: false }));
        assert_eq!((hall.level_dbfs, hall.threshold), (Some(-41.5), Some(0.8)));
        assert_eq!(hall.faults["CaptureLost"], "unplugged");
        assert_eq!(hall.alerts[0].text, "siren/set refused: busy");
        assert_eq!(hall.alerts[1].text, "CaptureLost unplugged (told 4 s late)");
        assert!(!devices.0.contains_key("nobody"));

        hear(&mut devices, now, &[("screamd/hall-1/event", r#"{"event_type":"restore","fault":"CaptureLost"}"#)]);
        assert!(devices.0["hall-1"].faults.is_empty());
        hear(&mut devices, now, &[("screamd/hall-1/status", "")]);
        assert!(!devices.0.contains_key("hall-1"));
    }

    #[test]
    fn windows_go_before_minutes_and_are_never_mixed_with_them() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        let minute = ("screamd/a/telemetry", r#"{"score_max":0.5}"#);
        let window = ("screamd/a/live", r#"{"seq":1,"score":0.1,"level_dbfs":-50}"#);
        hear(&mut devices, now, &[minute, minute, window, window, minute]);
        let live: Vec<_> = devices.0["a"].scores.iter().map(|score| score.live).collect();
        assert_eq!(live, [true, true]);
        hear(&mut devices, now + LIVE_ENDS, &[minute]);
        assert_eq!(devices.0["a"].scores, [Score { score: 0.5, live: false }]);
    }
}
