//! The states as they are now: one place for each kind, the latest wins, all of them again for every connection.

use std::time::Instant;

use crate::alert::{State, with_delay};
use crate::topics;

#[derive(Debug)]
struct Slot {
    state: State,
    since: Instant,
    unsent: bool,
}

/// One slot for each kind of state that was ever set, in the order of the first setting, but for the attributes: they stand before all. A hub takes
/// what it has of them with the state that it acts on, and an incident's ON must not show the incident before.
#[derive(Debug, Default)]
pub struct States {
    slots: Vec<Slot>,
}

/// A retained message to send.
#[derive(Debug, PartialEq)]
pub struct Message {
    /// The topic below the device's root.
    pub leaf: &'static str,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl States {
    /// Takes the present value of a state in.
    pub fn set(&mut self, state: State, since: Instant) {
        let slot = Slot { state, since, unsent: true };
        let same = |old: &&mut Slot| std::mem::discriminant(&old.state) == std::mem::discriminant(&slot.state);
        match self.slots.iter_mut().find(same) {
            Some(old) => *old = slot,
            None if matches!(slot.state, State::Attributes(_)) => self.slots.insert(0, slot),
            None => self.slots.push(slot),
        }
    }

    /// A new connection has seen none of them.
    pub fn all_unsent(&mut self) {
        for slot in &mut self.slots {
            slot.unsent = true;
        }
    }

    /// The next one to send, as it is now; it counts as sent.
    pub fn next(&mut self, now: Instant) -> Option<Message> {
        let slot = self.slots.iter_mut().find(|slot| slot.unsent)?;
        slot.unsent = false;
        Some(message(slot, now))
    }

    /// Whether one waits.
    pub fn any_unsent(&self) -> bool {
        self.slots.iter().any(|slot| slot.unsent)
    }
}

fn message(slot: &Slot, now: Instant) -> Message {
    let on = |on: bool| if on { "ON" } else { "OFF" }.to_owned();
    let json = |bytes: Result<Vec<u8>, serde_json::Error>| bytes.unwrap_or_else(|_| b"{}".to_vec());
    let (leaf, payload) = match &slot.state {
        State::AudioOnline(online) => (topics::AUDIO_STATUS, if *online { "online" } else { "offline" }.into()),
        State::Scream(active) => (topics::SCREAM_STATE, on(*active)),
        State::Alarm(active) => (topics::ALARM_STATE, on(*active)),
        State::Siren(active) => (topics::SIREN_STATE, on(*active)),
        State::Armed(active) => (topics::ARMED_STATE, on(*active)),
        State::AudioFault(active) => (topics::AUDIO_FAULT, on(*active)),
        // The shortest decimal that reads back as this f64: what was written.
        State::Threshold(value) => (topics::THRESHOLD_STATE, value.to_string()),
        State::Cooldown(value) => (topics::COOLDOWN_STATE, value.to_string()),
        State::Started(time) => (topics::STARTED, time.clone()),
        State::Attributes(attributes) => {
            let delayed_s = now.saturating_duration_since(slot.since).as_secs_f64();
            let payload = with_delay(&json(serde_json::to_vec(attributes)), delayed_s);
            return Message { leaf: topics::SCREAM_ATTRIBUTES, payload };
        }
        State::Update(update) => {
            let payload = json(serde_json::to_vec(update));
            return Message { leaf: topics::UPDATE_STATE, payload };
        }
    };
    Message { leaf, payload: payload.into_bytes() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::alert::{ScreamAttributes, UpdateState};

    fn sent(states: &mut States, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| states.next(now))
            .map(|message| format!("{} {}", message.leaf, String::from_utf8(message.payload).unwrap()))
            .collect()
    }

    #[test]
    fn the_latest_wins_and_a_connection_sees_all() {
        let (mut states, now) = (States::default(), Instant::now());
        states.set(State::Siren(false), now);
        states.set(State::Threshold(0.9), now);
        states.set(State::Siren(true), now);
        assert_eq!(sent(&mut states, now), ["siren/state ON", "threshold/state 0.9"]);
        assert!(!states.any_unsent());
        states.set(State::Cooldown(30.0), now);
        assert_eq!(sent(&mut states, now), ["cooldown/state 30"]);
        states.all_unsent();
        assert_eq!(sent(&mut states, now), ["siren/state ON", "threshold/state 0.9", "cooldown/state 30"]);
    }

    #[test]
    fn payloads_are_the_contracts() {
        let (mut states, now) = (States::default(), Instant::now());
        states.set(State::AudioOnline(false), now);
        states.set(State::AudioFault(true), now);
        states.set(State::Started("2026-01-02T03:04:05Z".into()), now);
        states.set(
            State::Update(UpdateState {
                installed_version: "1.0.0".into(),
                latest_version: "1.1.0".into(),
                in_progress: false,
            }),
            now,
        );
        states.set(
            State::Attributes(ScreamAttributes {
                id: "a".into(),
                score: 0.91,
                label: "scream".into(),
                level_dbfs: -12.5,
                t_utc: "2026-01-02T03:04:05Z".into(),
                model: "m 1".into(),
            }),
            now,
        );
        assert_eq!(
            sent(&mut states, now + Duration::from_millis(1500)),
            [
                // The last that was set, and the first that is sent.
                r#"scream/attributes {"id":"a","score":0.91,"label":"scream","level_dbfs":-12.5,"t_utc":"2026-01-02T03:04:05Z","model":"m 1","delayed_s":1.5}"#,
                "audio/status offline",
                "audio/fault ON",
                "started 2026-01-02T03:04:05Z",
                r#"update/state {"installed_version":"1.0.0","latest_version":"1.1.0","in_progress":false}"#,
            ]
        );
    }
}
