//! What is wrong and what happened that is no alarm: each told to the lines and to the hub.

use hub::State;

use super::Control;
use crate::clock;
use crate::faults::Fault;
use crate::lines::Line;

impl Control {
    pub(super) fn fault(&mut self, fault: Fault, detail: &str) {
        if !self.faults.raise(fault, detail) {
            return;
        }
        self.lines.write(&Line::Fault { fault: fault.name(), detail });
        self.supervise(hub::EventType::Fault, Some(fault), detail);
        self.audio_states();
    }

    pub(super) fn restore(&mut self, fault: Fault, detail: &str) {
        if !self.faults.clear(fault) {
            return;
        }
        self.lines.write(&Line::Restore { fault: fault.name(), detail });
        self.supervise(hub::EventType::Restore, Some(fault), detail);
        self.audio_states();
    }

    pub(super) fn audio_states(&self) {
        self.parts.update.faults(&self.faults);
        self.state(State::AudioOnline(!self.faults.microphone_dead()));
        self.state(State::AudioFault(self.faults.of_microphone()));
    }

    pub(super) fn state(&self, state: State) {
        if let Some(hub) = &self.parts.hub {
            hub.state(state);
        }
    }

    /// An event that is no alarm.
    pub(super) fn supervise(&mut self, kind: hub::EventType, fault: Option<Fault>, detail: &str) {
        self.supervise_named(kind, fault.map(Fault::name), detail);
    }

    pub(super) fn supervise_named(&mut self, kind: hub::EventType, fault: Option<&str>, detail: &str) {
        self.supervision_seq += 1;
        let Some(hub) = &self.parts.hub else { return };
        let mut event = self.event(kind, format!("{}-s{}", self.boot, self.supervision_seq));
        event.fault = fault.map(String::from);
        event.detail = (!detail.is_empty()).then(|| detail.to_string());
        hub.alert(event);
    }

    pub(super) fn event(&self, kind: hub::EventType, id: String) -> hub::Event {
        let mut event = hub::Event::new(kind, id, clock::now_utc(), clock::is_set());
        event.zone = self.parts.settings.site.zone.clone();
        event.boot_id = clock::boot_id();
        event.t_mono_ms = Some(clock::uptime_ms());
        event
    }
}
