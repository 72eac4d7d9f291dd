//! Commands: from a topic and bytes of a stranger to a [`Command`], or to a [`Refusal`] with its reason.
//!
//! [`parse`] is a pure function of its arguments. [`Gate`] adds what needs memory and time: an `id` is taken once,
//! `expires` ends, and above ten commands in ten seconds a rate limit begins. Both clocks come in as arguments.
//!
//! *Retained*: a message that the broker keeps and sends at every subscription. A retained command never gets here:
//! it would be obeyed again at every reconnect.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::alert::cut;
use crate::limits::{
    ARM_AGAIN_S_MAX, COMMAND_BYTES_MAX, COMMAND_ID_BYTES_MAX, COMMAND_IDS_MAX, COMMANDS_MAX, COMMANDS_WINDOW,
    COOLDOWN_S_MAX, LIVE_S_MAX, REASON_BYTES_MAX, SIREN_S_MIN,
};
use crate::topics;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// `siren/set`.
    Siren {
        /// ON or OFF.
        on: bool,
        /// Seconds, already cut to the bound; `None`: as the site says.
        duration_s: Option<f64>,
    },
    /// `armed/set`.
    Armed {
        /// ON or OFF.
        on: bool,
        /// Only with OFF: arms again after so many seconds.
        for_s: Option<f64>,
    },
    /// `threshold/set`, 0..=1, as written.
    Threshold(f64),
    /// `cooldown/set`, seconds.
    Cooldown(f64),
    /// `test_siren/press`.
    TestSiren,
    /// `silence/press`.
    Silence,
    /// `update/install`.
    InstallUpdate,
    /// `live/set`, seconds.
    Live(f64),
}

impl Command {
    /// Silence and OFF pass every rate limit: what makes the noise end must always work. Watching does nothing to the
    /// device, so it takes none of the turns of those who do.
    pub fn always_passes(self) -> bool {
        self.only_quiets() || matches!(self, Self::Armed { on: false, .. } | Self::Live(_))
    }

    /// It ends a noise and does nothing else: a replay of it harms least, so that it passes where no clock can judge its time. A disarming
    /// is another thing.
    pub fn only_quiets(self) -> bool {
        matches!(self, Self::Silence | Self::Siren { on: false, .. })
    }
}

/// A command with what guards it against a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// Taken once.
    pub id: Option<String>,
    /// Not obeyed at or after this time.
    pub expires: Option<Timestamp>,
}

/// Why a command is not obeyed; its text is the `reason` of the answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// payload over 4 KiB
    #[error("payload of {bytes} bytes is over {COMMAND_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// payload is not UTF-8
    #[error("payload is not UTF-8")]
    NotUtf8,
    /// no such command
    #[error("no such command")]
    UnknownTopic,
    /// malformed
    #[error("{0}")]
    Malformed(String),
    /// out of range
    #[error("{name} is out of range: {range}")]
    OutOfRange {
        /// The value's name.
        name: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// id was taken already
    #[error("this id was taken already")]
    Repeated,
    /// expired
    #[error("expired")]
    Expired,
    /// expires cannot be judged
    #[error("expires cannot be judged: the clock is not set")]
    NoClock,
    /// too many commands
    #[error("more than {COMMANDS_MAX} commands in {} s", COMMANDS_WINDOW.as_secs())]
    RateLimit,
    /// busy
    #[error("busy: too many commands wait")]
    Busy,
}

#[derive(Deserialize, Clone, Copy)]
enum OnOff {
    #[serde(rename = "ON")]
    On,
    #[serde(rename = "OFF")]
    Off,
}

/// An id may be written as a string or as a whole number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn text(self) -> Result<String, Refusal> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        let fits = (1..=COMMAND_ID_BYTES_MAX).contains(&text.len());
        if fits { Ok(text) } else { Err(Refusal::OutOfRange { name: "id", range: "1 to 64 bytes" }) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SirenJson {
    state: OnOff,
    duration: Option<f64>,
    id: Option<Id>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArmedJson {
    state: OnOff,
    for_s: Option<f64>,
    id: Option<Id>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PressJson {
    id: Option<Id>,
    expires: Option<String>,
}

#[derive(Deserialize)]
struct IdJson {
    id: Option<Id>,
}

/// The id in a payload that is no command otherwise, for the answer; none where none can be read.
pub fn id_of(payload: &[u8]) -> Option<String> {
    serde_json::from_slice::<IdJson>(payload).ok()?.id?.text().ok()
}

/// Reads one command. `leaf` is the topic below the device's root, `siren_on_s_max` the board's bound in seconds.
///
/// # Errors
/// A [`Refusal`] with the reason: size first, then UTF-8, then the payload's form, then its ranges.
pub fn parse(leaf: &str, payload: &[u8], siren_on_s_max: f64) -> Result<Request, Refusal> {
    if payload.len() > COMMAND_BYTES_MAX {
        return Err(Refusal::TooLarge { bytes: payload.len() });
    }
    let text = std::str::from_utf8(payload).map_err(|_| Refusal::NotUtf8)?.trim();
    match leaf {
        topics::SIREN_SET => siren(text, siren_on_s_max),
        topics::ARMED_SET => armed(text),
        topics::THRESHOLD_SET => number(text)
            .and_then(|value| within(value, 0.0..=1.0, "threshold", "0 to 1"))
            .map(|value| bare(Command::Threshold(value))),
        topics::COOLDOWN_SET => number(text)
            .and_then(|value| within(value, 0.0..=COOLDOWN_S_MAX, "cooldown", "0 to 86400 s"))
            .map(|value| bare(Command::Cooldown(value))),
        topics::TEST_SIREN_PRESS => press(text, Command::TestSiren),
        topics::SILENCE_PRESS => press(text, Command::Silence),
        topics::UPDATE_INSTALL => press(text, Command::InstallUpdate),
        topics::LIVE_SET => number(text)
            .and_then(|value| within(value, 0.0..=LIVE_S_MAX, "live", "0 to 300 s"))
            .map(|value| bare(Command::Live(value))),
        _ => Err(Refusal::UnknownTopic),
    }
}

fn bare(command: Command) -> Request {
    Request { command, id: None, expires: None }
}

fn siren(text: &str, siren_on_s_max: f64) -> Result<Request, Refusal> {
    if !text.starts_with('{') {
        return Ok(bare(Command::Siren { on: on_off(text)?, duration_s: None }));
    }
    let json: SirenJson = from_json(text)?;
    let on = matches!(json.state, OnOff::On);
    // OFF ends the siren whatever else it says.
    if on && json.duration.is_some_and(|seconds| seconds <= 0.0) {
        return Err(Refusal::OutOfRange { name: "duration", range: "above 0 s" });
    }
    let duration_s = json.duration.filter(|_| on).map(|seconds| seconds.max(SIREN_S_MIN).min(siren_on_s_max));
    request(Command::Siren { on, duration_s }, json.id, json.expires)
}

fn armed(text: &str) -> Result<Request, Refusal> {
    if !text.starts_with('{') {
        return Ok(bare(Command::Armed { on: on_off(text)?, for_s: None }));
    }
    let json: ArmedJson = from_json(text)?;
    let on = matches!(json.state, OnOff::On);
    if let Some(seconds) = json.for_s {
        if on {
            return Err(Refusal::Malformed("for_s goes with OFF alone".into()));
        }
        if seconds <= 0.0 || seconds > ARM_AGAIN_S_MAX {
            return Err(Refusal::OutOfRange { name: "for_s", range: "above 0, up to 604800 s" });
        }
    }
    request(Command::Armed { on, for_s: json.for_s }, json.id, json.expires)
}

/// A button: nothing, the word that Home Assistant or a person sends, or an object with `id` and `expires`.
fn press(text: &str, command: Command) -> Result<Request, Refusal> {
    match text {
        "" | "PRESS" => return Ok(bare(command)),
        "INSTALL" | "install" if command == Command::InstallUpdate => return Ok(bare(command)),
        _ => {}
    }
    if !text.starts_with('{') {
        return Err(Refusal::Malformed("neither empty nor PRESS nor a JSON object".into()));
    }
    let json: PressJson = from_json(text)?;
    request(command, json.id, json.expires)
}

fn request(command: Command, id: Option<Id>, expires: Option<String>) -> Result<Request, Refusal> {
    let id = id.map(Id::text).transpose()?;
    let expires = match expires {
        Some(text) => Some(utc(&text).ok_or_else(|| Refusal::Malformed("expires is no RFC 3339 time".into()))?),
        None => None,
    };
    Ok(Request { command, id, expires })
}

/// RFC 3339; without an offset it is UTC, as the contract's times are.
fn utc(text: &str) -> Option<Timestamp> {
    let without_offset = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
    // The last two days of the year 9999 are beyond what a `Timestamp` holds, and are what "never" is written as.
    let never = || {
        let date = Pieces::parse(text).ok()?.date();
        (date.year() == 9999 && date.month() == 12 && date.day() >= 30).then_some(Timestamp::MAX)
    };
    text.parse().ok().or_else(without_offset).or_else(never)
}

fn on_off(text: &str) -> Result<bool, Refusal> {
    match text {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => Err(Refusal::Malformed("neither ON nor OFF nor a JSON object".into())),
    }
}

fn number(text: &str) -> Result<f64, Refusal> {
    // Rust's parser also knows `inf`, `nan` and `infinity`; a number on the wire has digits.
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    match text.parse::<f64>() {
        Ok(value) if plain && value.is_finite() => Ok(value + 0.0),
        _ => Err(Refusal::Malformed("not a number".into())),
    }
}

fn within(
    value: f64,
    bounds: std::ops::RangeInclusive<f64>,
    name: &'static str,
    range: &'static str,
) -> Result<f64, Refusal> {
    if bounds.contains(&value) { Ok(value) } else { Err(Refusal::OutOfRange { name, range }) }
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        // serde quotes the unknown field's name, which may be as long as the payload.
        let mut reason = error.to_string();
        cut(&mut reason, REASON_BYTES_MAX);
        Refusal::Malformed(reason)
    })
}

/// Memory of the commands that were taken: rate, ids.
#[derive(Debug, Default)]
pub struct Gate {
    taken: VecDeque<Instant>,
    ids: HashSet<String>,
    ids_oldest_first: VecDeque<String>,
}

impl Gate {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the ids that an earlier run of the program took, oldest first.
    pub fn remembering(ids: &[String]) -> Self {
        let mut gate = Self::new();
        ids.iter().for_each(|id| gate.remember(id));
        gate
    }

    /// Lets a request in, or says why not. `now` is monotonic; `wall` is the wall clock, `None` while it is not set.
    ///
    /// # Errors
    /// Repeated, expired, over the rate limit; or `expires` without a clock to judge it by, except for silence and a siren's OFF.
    pub fn admit(&mut self, request: &Request, now: Instant, wall: Option<Timestamp>) -> Result<(), Refusal> {
        match (request.expires, wall) {
            (Some(expires), Some(wall)) if expires <= wall => return Err(Refusal::Expired),
            (Some(_), None) if !request.command.only_quiets() => return Err(Refusal::NoClock),
            _ => {}
        }
        if request.id.as_ref().is_some_and(|id| self.ids.contains(id)) {
            return Err(Refusal::Repeated);
        }
        if !request.command.always_passes() {
            while self.taken.front().is_some_and(|&then| now.duration_since(then) >= COMMANDS_WINDOW) {
                self.taken.pop_front();
            }
            if self.taken.len() >= COMMANDS_MAX {
                return Err(Refusal::RateLimit);
            }
            self.taken.push_back(now);
        }
        if let Some(id) = &request.id {
            // Only what was let in is remembered: what was refused may be sent again as it is.
            self.remember(id);
        }
        Ok(())
    }

    /// What was let in with this id could not be done: the same words may be sent again, as whoever was refused will.
    pub fn forget(&mut self, id: &str) {
        if self.ids.remove(id) {
            self.ids_oldest_first.retain(|other| other != id);
        }
    }

    fn remember(&mut self, id: &str) {
        if !self.ids.insert(id.to_owned()) {
            return;
        }
        self.ids_oldest_first.push_back(id.to_owned());
        if self.ids_oldest_first.len() > COMMAND_IDS_MAX
            && let Some(oldest) = self.ids_oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
