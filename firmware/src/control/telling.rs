//! What is wrong and what happened that is no alarm: each told to the lines and to the hub.

use hub::State;

use super::Control;
use crate::clock;
use crate::faults::Fault;
use crate::lines::Line;
use crate::outputs::OutputProblem;
use crate::recorder::Stock;

impl Control {
    pub(super) fn fault(&mut self, fault: Fault, detail: &str) {
        if self.faults.raise(fault, detail) {
            self.tell_fault(fault, detail);
        }
    }

    fn tell_fault(&mut self, fault: Fault, detail: &str) {
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

    /// A line is missing or refuses. One fault for all of them, and each of them is told: the siren's is not to hide behind an LED's.
    pub(super) fn line_fails(&mut self, problem: &OutputProblem) {
        if !self.lines_amiss.insert(problem.output) {
            return;
        }
        let (fault, detail) = (Fault::OutputUnavailable, problem.to_string());
        self.faults.raise(fault, &detail);
        self.tell_fault(fault, &detail);
    }

    /// Something is stored again, or refuses to be. Over with the last of them.
    pub(super) fn stock(&mut self, stock: Stock, stored: Result<(), String>) {
        match stored {
            Err(cause) => {
                self.unstored.insert(stock);
                self.fault(Fault::StorageFull, &cause);
            }
            Ok(()) if self.unstored.remove(&stock) && self.unstored.is_empty() => {
                self.restore(Fault::StorageFull, "files are written again");
            }
            Ok(()) => {}
        }
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
        let mut event = self.event(kind, format!("{}-s{}", self.boot, self.supervision_seq));
        event.fault = fault.map(String::from);
        event.detail = (!detail.is_empty()).then(|| detail.to_string());
        self.alert(event);
    }

    /// To the hub, where the site has one.
    pub(super) fn alert(&self, event: hub::Event) {
        if let Some(hub) = &self.parts.hub {
            hub.alert(event);
        }
    }

    pub(super) fn event(&self, kind: hub::EventType, id: String) -> hub::Event {
        let mut event = hub::Event::new(kind, id, clock::now_utc(), clock::is_set());
        event.zone = self.parts.settings.site.zone.clone();
        event.boot_id = clock::boot_id();
        event.t_mono_ms = Some(clock::uptime_ms());
        event
    }
}
