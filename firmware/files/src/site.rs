//! The site file: what an installer edits. One reader of it, here; secrets never stand in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use detector::keys::{self, KeyError};
use detector::manifest::{Decision, Votes};
use detector::quiet_gate::QuietGate;
use detector::sound_health::Floor;
use serde::Deserialize;

use crate::board::{Labels, LineOverride, LineOverrides, LineRef};
use crate::card_name::CARDS;

mod check;

/// `site.toml`. An empty file is valid.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// `[A-Za-z0-9_-]{1,64}`; the board's serial number where missing.
    pub device_id: Option<String>,
    /// Where the device hangs, for people.
    pub zone: String,
    /// A name in boards/; `generic` where missing.
    pub board: Option<String>,
    /// The microphone.
    pub audio: Audio,
    /// The broker.
    pub mqtt: Mqtt,
    /// Overrides of the model manifest.
    pub decision: DecisionOverrides,
    /// The siren.
    pub siren: Siren,
    /// The LED's line.
    pub led: Line,
    /// The fault relay's line.
    pub fault: Line,
    /// The tamper input's line.
    pub tamper: Line,
    /// The silence button's line.
    pub silence: Line,
    /// What is kept of incidents.
    pub events: Events,
    /// Outbox and persisted settings.
    pub state: State,
    /// Where updates may come from.
    pub update: Update,
    /// Keys that the file says, such as `siren.armed`: what it does not say is built in.
    #[serde(skip)]
    stated: BTreeSet<String>,
}

/// `[audio]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audio {
    /// An ALSA name with a stable card (`hw:CARD=Device`), `usb:1-1.3`, or `default`.
    pub device: Option<String>,
    /// Level that this room never stays under for half a day, dBFS; measured here. Together with `high_floor_dbfs`:
    /// without the two a covered microphone is not told.
    pub level_floor_dbfs: Option<f64>,
    /// The same above 2 kHz.
    pub high_floor_dbfs: Option<f64>,
    /// Energy: windows whose loudest 50 ms stay under this, dBFS, and whose picture stays under `quiet_band_db`, are scored 0
    /// without the network. Off where the two are missing; `host-tools calibrate` measures them.
    pub quiet_level_dbfs: Option<f64>,
    /// Of the strongest cell, decibels of mel power.
    pub quiet_band_db: Option<f64>,
}

impl Audio {
    /// The floor under which the microphone counts as covered.
    pub fn floor(&self) -> Option<Floor> {
        let (level_dbfs, high_dbfs) = self.level_floor_dbfs.zip(self.high_floor_dbfs)?;
        Some(Floor { level_dbfs, high_dbfs })
    }

    /// When the network need not be asked.
    pub fn gate(&self) -> Option<QuietGate> {
        let (level, band) = self.quiet_level_dbfs.zip(self.quiet_band_db)?;
        Some(QuietGate { level_dbfs: level as f32, band_db: band as f32 })
    }
}

/// `[mqtt]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// True where the section stands and does not say otherwise.
    pub enabled: Option<bool>,
    /// The broker's name or address.
    pub host: Option<String>,
    /// 1883, or 8883 with TLS, where missing.
    pub port: Option<u16>,
    /// Optional.
    pub username: Option<String>,
    /// A path, or a name in `$CREDENTIALS_DIRECTORY`.
    pub password_file: Option<PathBuf>,
    /// Optional.
    pub tls: Option<Tls>,
}

impl Mqtt {
    /// The broker's port.
    pub fn port_in_force(&self) -> u16 {
        self.port.unwrap_or(if self.tls.is_some() { 8883 } else { 1883 })
    }
}

/// `[mqtt.tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The broker's authority.
    pub ca_file: PathBuf,
    /// The device's certificate, together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
}

/// `[decision]`: each key overrides the manifest's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionOverrides {
    /// See [`Decision`].
    pub stride_s: Option<f64>,
    /// See [`Decision`].
    pub threshold_on: Option<f64>,
    /// See [`Decision`].
    pub threshold_off: Option<f64>,
    /// See [`Decision`].
    pub votes: Option<Votes>,
    /// See [`Decision`].
    pub hold_s: Option<f64>,
    /// See [`Decision`].
    pub cooldown_s: Option<f64>,
}

/// `[siren]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Siren {
    /// Armed at the start, unless the hub has said otherwise.
    pub armed: bool,
    /// How long it sounds from each start, seconds.
    pub on_s: f64,
    /// `["22:00-06:30"]`, local time.
    pub quiet_hours: Vec<String>,
    /// False refuses disarming over MQTT.
    pub remote_disarm: bool,
    /// Overrides the board's.
    pub line: Option<LineRef>,
    /// Overrides the board's.
    pub chip: Option<Labels>,
    /// Overrides the board's.
    pub active_low: Option<bool>,
}

impl Default for Siren {
    fn default() -> Self {
        Self {
            armed: true,
            on_s: 30.0,
            quiet_hours: Vec::new(),
            remote_disarm: true,
            line: None,
            chip: None,
            active_low: None,
        }
    }
}

/// `[led]`, `[fault]`, `[tamper]`, `[silence]`: overrides the board's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    /// Name or offset.
    pub line: Option<LineRef>,
    /// Label of the chip.
    pub chip: Option<Labels>,
    /// The line's low level means on.
    pub active_low: Option<bool>,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Folder.
    pub dir: PathBuf,
    /// A spectrogram of each incident is kept.
    pub pictures: bool,
    /// The sound of each incident is kept.
    pub clips: bool,
    /// Sound kept from before the deciding window, seconds, where clips are kept.
    pub pre_roll_s: f64,
    /// Cap of the folder.
    pub max_mib: u64,
    /// Oldest incident kept.
    pub max_days: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            dir: "/var/lib/screamd/events".into(),
            pictures: true,
            clips: false,
            pre_roll_s: 5.0,
            max_mib: 200,
            max_days: 30,
        }
    }
}

/// `[state]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Folder.
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { dir: "/var/lib/screamd".into() }
    }
}

/// `[update]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    /// Of a bundle, over TLS. None where empty: only bundles placed on the device.
    pub url: String,
    /// Who vouches for that server, PEM; the system's authorities where it is missing.
    pub ca_file: Option<PathBuf>,
}

/// The dotted keys of a value.
fn stated(key: &str, value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::Table(table) => {
            table.iter().flat_map(|(inner, value)| stated(&format!("{key}.{inner}"), value)).collect()
        }
        _ => vec![key.to_string()],
    }
}

/// What is left of a file without its mistakes, and those.
type Rest = (Option<Site>, Vec<KeyError>);

impl Site {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn load(path: &Path) -> Result<Self, Vec<KeyError>> {
        keys::whole(Self::load_rest(path))
    }

    /// As [`Site::load`], and what is left of a file without its mistakes, to be checked against other files.
    pub fn load_rest(path: &Path) -> (Option<Self>, Vec<KeyError>) {
        Self::load_by(keys::parse_rest, path)
    }

    /// As [`Site::load_rest`], for a file that another release may have written: a key that only that one knows is no mistake.
    pub fn load_known(path: &Path) -> (Option<Self>, Vec<KeyError>) {
        Self::load_by(keys::parse_known, path)
    }

    fn load_by(parse: fn(&str, &str) -> Rest, path: &Path) -> Rest {
        let file = path.display().to_string();
        match crate::model_dir::read_text(path) {
            Ok(text) => Self::checked(&file, &text, Some(Path::new(CARDS)), parse(&file, &text)),
            Err(error) => (None, vec![KeyError { file, line: None, key: None, cause: error.to_string(), hint: None }]),
        }
    }

    /// Parses and checks `text` of `file`.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<KeyError>> {
        keys::whole(Self::parse_rest(file, text, Some(Path::new(CARDS))))
    }

    /// As [`Site::parse`], for another device than this machine: what is plugged in here says nothing.
    ///
    /// # Errors
    /// Every mistake, also of `[decision]` as far as it shows without the model's manifest.
    pub fn parse_for_another(file: &str, text: &str) -> Result<Self, Vec<KeyError>> {
        let (site, mut wrong) = Self::parse_rest(file, text, None);
        wrong.extend(site.iter().flat_map(|site| site.decision_mistakes(file)));
        keys::whole((site, wrong))
    }

    fn parse_rest(file: &str, text: &str, cards: Option<&Path>) -> (Option<Self>, Vec<KeyError>) {
        Self::checked(file, text, cards, keys::parse_rest(file, text))
    }

    fn checked(
        file: &str,
        text: &str,
        cards: Option<&Path>,
        (site, mut wrong): (Option<Self>, Vec<KeyError>),
    ) -> (Option<Self>, Vec<KeyError>) {
        let Some(mut site) = site else { return (None, wrong) };
        // A section that stands there and does not say `enabled = false` is meant.
        if site.mqtt.enabled.is_none() && site.mqtt != Mqtt::default() {
            site.mqtt.enabled = Some(true);
        }
        let table: toml::Table = text.parse().unwrap_or_default();
        site.stated = table.iter().flat_map(|(key, value)| stated(key, value)).collect();
        // What is missing may be the very key of its table that is misspelt: said once.
        let mut found = check::mistakes(&site, file, cards);
        found.retain(|error| !(error.is_missing() && wrong.iter().any(|other| other.table() == error.table())));
        wrong.extend(found);
        (Some(site), wrong)
    }

    /// Mistakes of its `[decision]`, as far as they show without a model's manifest.
    pub fn decision_mistakes(&self, file: &str) -> Vec<KeyError> {
        // What any value of the manifest's would do beside the site's own.
        let anything = Decision {
            stride_s: 2.0,
            threshold_on: 1.0,
            threshold_off: 0.0,
            votes: Votes { needed: 1, of: 2 },
            hold_s: 10.0,
            cooldown_s: 30.0,
        };
        self.decision(&anything).mistakes(file)
    }

    /// Whether the file says this key, such as `siren.armed`.
    pub fn states(&self, key: &str) -> bool {
        self.stated.contains(key)
    }

    /// `siren.armed`, where the file says it.
    pub fn stated_armed(&self) -> Option<bool> {
        self.states("siren.armed").then_some(self.siren.armed)
    }

    /// Whether alerts go to a broker.
    pub fn mqtt_enabled(&self) -> bool {
        self.mqtt.enabled == Some(true)
    }

    /// What the site says of the board's lines.
    pub fn line_overrides(&self) -> LineOverrides {
        let of = |line: &Line| LineOverride {
            line: line.line.clone(),
            chip: line.chip.clone(),
            active_low: line.active_low,
        };
        LineOverrides {
            siren: LineOverride {
                line: self.siren.line.clone(),
                chip: self.siren.chip.clone(),
                active_low: self.siren.active_low,
            },
            led: of(&self.led),
            fault: of(&self.fault),
            tamper: of(&self.tamper),
            silence: of(&self.silence),
        }
    }

    /// The files that `[mqtt]` names, each with its key: a path, or a name in `$CREDENTIALS_DIRECTORY`. None where nothing goes to a broker.
    pub fn secret_files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        self.named_files().filter(|_| self.mqtt_enabled())
    }

    /// The same, also where nothing goes to a broker.
    fn named_files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let tls = self.mqtt.tls.as_ref();
        let named = [
            ("mqtt.password_file", self.mqtt.password_file.as_ref()),
            ("mqtt.tls.ca_file", tls.map(|tls| &tls.ca_file)),
            ("mqtt.tls.cert_file", tls.and_then(|tls| tls.cert_file.as_ref())),
            ("mqtt.tls.key_file", tls.and_then(|tls| tls.key_file.as_ref())),
            ("mqtt.tls.crl_file", tls.and_then(|tls| tls.crl_file.as_ref())),
        ];
        named.into_iter().filter_map(|(key, path)| Some((key, path?)))
    }

    /// The manifest's decision with the site's overrides.
    pub fn decision(&self, manifest: &Decision) -> Decision {
        let own = &self.decision;
        let threshold_on = own.threshold_on.unwrap_or(manifest.threshold_on);
        Decision {
            stride_s: own.stride_s.unwrap_or(manifest.stride_s),
            threshold_on,
            // A site that lowers the upper threshold alone means no contradiction.
            threshold_off: own.threshold_off.unwrap_or(manifest.threshold_off.min(threshold_on)),
            votes: own.votes.unwrap_or(manifest.votes),
            hold_s: own.hold_s.unwrap_or(manifest.hold_s),
            cooldown_s: own.cooldown_s.unwrap_or(manifest.cooldown_s),
        }
    }

    /// The board's name, also where none is named.
    pub fn board_name(&self) -> &str {
        self.board.as_deref().unwrap_or(crate::board::DEFAULT_BOARD)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        Site::parse("site.toml", text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_empty_file_is_valid_and_says_the_contracts_defaults() {
        let site = Site::parse("site.toml", "").unwrap();
        assert!(
            site.siren.armed
                && site.siren.remote_disarm
                && !site.mqtt_enabled()
                && site.events.pictures
                && !site.events.clips
        );
        assert!(!site.states("siren.armed"), "that is built in");
        assert!(Site::parse("site.toml", "[siren]\narmed = true").unwrap().states("siren.armed"));
        assert_eq!((site.siren.on_s, site.events.max_mib, site.events.max_days), (30.0, 200, 30));
    }

    #[test]
    fn the_contracts_example_is_valid() {
        let text = r#"
device_id = "hall-1"
zone = "Hallway"
board = "raspberry-pi-5"
[audio]
device = "hw:CARD=Device"
[mqtt]
enabled = true
host = "hub.local"
port = 1883
username = "hall-1"
password_file = "mqtt.password"
[mqtt.tls]
ca_file = "ca.pem"
cert_file = "client.pem"
key_file = "client.key"
crl_file = "ca.crl"
[decision]
threshold_on = 0.80
[siren]
armed = true
on_s = 30
quiet_hours = ["09:00-10:00"]
remote_disarm = true
line = "GPIO17"
[events]
dir = "/var/lib/screamd/events"
pictures = true
clips = false
max_mib = 200
max_days = 30
[state]
dir = "/var/lib/screamd"
[update]
url = ""
"#;
        let site = Site::parse("site.toml", text).unwrap();
        assert!(site.mqtt_enabled());
        assert_eq!(site.mqtt.port_in_force(), 1883);
        for host in ["192.0.2.7", "2001:db8::1", "::1", "hub_1.lan"] {
            assert!(Site::parse("site.toml", &format!("[mqtt]\nhost = \"{host}\"")).is_ok(), "{host}");
        }
    }

    #[test]
    fn mistakes_name_file_key_and_cause() {
        for (text, expect) in [
            (
                "[decision]\nthresold_on = 0.8",
                "site.toml, line 2: `decision.thresold_on`: unknown key (did you mean `threshold_on`?)",
            ),
            ("[audio]\ndevice = \"hw:1\"", "`audio.device`"),
            ("[audio]\nlevel_floor_dbfs = -70", "`audio.high_floor_dbfs`: missing"),
            ("[audio]\nlevel_floor_dbfs = -70\nhigh_floor_dbfs = 3", "`audio.high_floor_dbfs`: must be"),
            ("[audio]\nquiet_level_dbfs = -70", "`audio.quiet_band_db`: missing"),
            ("[audio]\nquiet_level_dbfs = -20\nquiet_band_db = -30", "`audio.quiet_level_dbfs`: must be -120 to -45"),
            ("[mqtt]\nport = 1883", "`mqtt.host`: missing"),
            ("[mqtt]\nhost = \"mqtt://hub\"", "`mqtt.host`: \"mqtt://hub\" is no name"),
            ("[mqtt]\nhost = \"hub:1883\"", "the port goes to `mqtt.port`"),
            ("[mqtt]\nhost = \"h h\"", "`mqtt.host`"),
            ("[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"\"", "`mqtt.password_file`: must not be empty"),
            ("[siren]\nline = \"\"", "`siren.line`: must not be empty"),
            ("[events]\ndir = \"\"", "`events.dir`: must not be empty"),
            ("[state]\ndir = \"\"", "`state.dir`: must not be empty"),
            ("[siren]\nchip = \"gpiochip4\"", "`siren.chip`: `gpiochip4` is a number"),
            ("[led]\nchip = [\"pinctrl\", \"\"]", "`led.chip`: an empty label"),
            ("[update]\nca_file = \"\"", "`update.ca_file`: must not be empty"),
            ("[siren]\non_s = 0", "`siren.on_s`: is 0"),
            ("[siren]\nquiet_hours = [\"25:00-26:00\"]", "`siren.quiet_hours`"),
            ("device_id = \"a/b\"", "`device_id`"),
            ("[events]\nmax_days = 0", "`events.max_days`"),
            ("[update]\nurl = \"http://x\"", "`update.url`"),
        ] {
            let found = refused(text);
            assert!(found.contains(expect), "{text:?} gave {found:?}");
        }
        assert_eq!(refused("zonne = 1\n[siren]\nonn_s = 1").lines().count(), 2, "all of them in one run");
    }

    #[test]
    fn the_document_knows_every_key() {
        const TABLES: &[&str] = &[
            "", "audio", "mqtt", "mqtt.tls", "decision", "siren", "led", "fault", "tamper", "silence", "events",
            "state", "update",
        ];
        #[rustfmt::skip]
        const KEYS: &[&str] = &[
            "device_id", "zone", "board",
            "audio.device", "audio.level_floor_dbfs", "audio.high_floor_dbfs", "audio.quiet_level_dbfs",
            "audio.quiet_band_db",
            "mqtt.enabled", "mqtt.host", "mqtt.port", "mqtt.username", "mqtt.password_file",
            "mqtt.tls.ca_file", "mqtt.tls.cert_file", "mqtt.tls.key_file", "mqtt.tls.crl_file",
            "decision.stride_s", "decision.threshold_on", "decision.threshold_off", "decision.votes", "decision.hold_s",
            "decision.cooldown_s",
            "siren.armed", "siren.on_s", "siren.quiet_hours", "siren.remote_disarm", "siren.line", "siren.chip",
            "siren.active_low",
            "led.line", "led.chip", "led.active_low",
            "fault.line", "fault.chip", "fault.active_low",
            "tamper.line", "tamper.chip", "tamper.active_low",
            "silence.line", "silence.chip", "silence.active_low",
            "events.dir", "events.pictures", "events.clips", "events.pre_roll_s", "events.max_mib", "events.max_days",
            "state.dir",
            "update.url", "update.ca_file",
        ];
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/site.md")).unwrap();
        let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let site = Site::parse("site.toml", example).unwrap();
        for &key in KEYS {
            // `votes` is a table of its own.
            let says = |said: &String| said == key || said.starts_with(&format!("{key}."));
            assert!(site.stated.iter().any(says), "the example of docs/site.md leaves out `{key}`");
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            let heading = if table.is_empty() { "Top level".to_string() } else { format!("`[{table}]`") };
            let section = document
                .split("\n## ")
                .find(|section| section.lines().next().is_some_and(|first| first.contains(&heading)))
                .unwrap_or_else(|| panic!("docs/site.md has no section {heading}"));
            let mut cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
            let name = format!("`{name}`");
            assert!(cells.any(|cell| cell.contains(&name)), "docs/site.md does not explain `{key}`");
        }
        // serde's own words name every key of a table: one that is new belongs into the list, too.
        for &table in TABLES {
            let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            let error = toml::from_str::<Site>(&format!("{header}no_such_key = 1")).unwrap_err();
            for known in error.message().split('`').skip(3).step_by(2) {
                let key = if table.is_empty() { known.to_string() } else { format!("{table}.{known}") };
                let is_listed = KEYS.contains(&key.as_str()) || TABLES.contains(&key.as_str());
                assert!(is_listed, "`{key}` is not in this test's list");
            }
        }
    }
}
