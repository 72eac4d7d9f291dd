//! What is wrong and what happened that is no alarm: each told to the lines and to the hub.

use std::sync::atomic::Ordering::Relaxed;

use hub::State;

use super::Control;
use crate::clock;
use crate::faults::Fault;
use crate::lines::Line;
use crate::outputs::OutputProblem;
use crate::recorder::Storage;

/// Seconds of sound after which a fault that stood when the program last ran, and does not stand again, counts as restored: most defects of the
/// sound take a minute to show.
const SETTLED_S: f64 = 90.0;
/// The same for a microphone that may be covered, which takes half a day to show.
const COVERED_S: f64 = 13.0 * 3600.0;

impl Control {
    pub(super) fn fault(&mut self, fault: Fault, detail: &str) {
        if self.faults.raise(fault, detail) {
            self.tell_fault(fault, detail);
        }
    }

    /// As [`Self::fault`], said again where it stands for another cause: the path that was down is up, and of little use all the same.
    pub(super) fn fault_anew(&mut self, fault: Fault, detail: &str) {
        let other = self.faults.cause(fault).is_some_and(|before| before != detail);
        if self.faults.raise(fault, detail) || other {
            self.tell_fault(fault, detail);
        }
    }

    fn tell_fault(&mut self, fault: Fault, detail: &str) {
        if self.saved.faults.insert(fault.name().into()) {
            self.save();
        }
        self.lines.write(&Line::Fault { fault: fault.name(), detail });
        self.supervise(hub::EventType::Fault, Some(fault), detail);
        self.audio_states();
    }

    pub(super) fn restore(&mut self, fault: Fault, detail: &str) {
        if !self.faults.clear(fault) {
            return;
        }
        self.tell_restore(fault.name(), detail);
    }

    pub(super) fn tell_restore(&mut self, fault: &str, detail: &str) {
        self.saved.faults.remove(fault);
        self.save();
        self.lines.write(&Line::Restore { fault, detail });
        self.supervise_named(hub::EventType::Restore, Some(fault), detail);
        self.audio_states();
    }

    /// What was told before this start and has not come again is over: each fault has its restore, whatever happened in between.
    pub(super) fn restore_of_before(&mut self) {
        // Of sound that was heard: what is missing has shown nothing.
        let heard_us = self.listener.as_ref().map_or(0, |listener| listener.counters.audio_us.load(Relaxed));
        let now_s = heard_us as f64 / 1e6;
        if self.saved.faults.is_empty() || now_s < SETTLED_S {
            return;
        }
        let covered_s = if self.uncovered { SETTLED_S } else { COVERED_S };
        let settled_s = |name: &str| if name == Fault::MicDegraded.name() { covered_s } else { SETTLED_S };
        let over = |name: &String| !self.faults.names().any(|stands| stands == name) && now_s >= settled_s(name);
        let over: Vec<String> = self.saved.faults.iter().filter(|name| over(name)).cloned().collect();
        for name in over {
            self.tell_restore(&name, "it has not come again since the restart");
        }
    }

    /// A line is missing or refuses. One fault for all of them, and each of them is told: the siren's is not to hide behind an LED's.
    pub(super) fn line_fails(&mut self, problem: &OutputProblem) {
        if !self.failed_lines.insert(problem.output) {
            return;
        }
        let (fault, detail) = (Fault::OutputUnavailable, problem.to_string());
        self.faults.raise(fault, &detail);
        self.tell_fault(fault, &detail);
    }

    /// Something is stored again, or refuses to be. Over with the last of them.
    pub(super) fn storage(&mut self, storage: Storage, stored: Result<(), String>) {
        match stored {
            Err(cause) => {
                self.unstored.insert(storage);
                self.fault(Fault::StorageFull, &cause);
            }
            Ok(()) if self.unstored.remove(&storage) && self.unstored.is_empty() => {
                self.restore(Fault::StorageFull, "files are written again");
            }
            Ok(()) => {}
        }
    }

    pub(super) fn audio_states(&self) {
        self.parts.update.faults(&self.faults);
        // By what people were told, over restarts too: the states say what the events do.
        self.state(State::AudioOnline(!self.saved.microphone_dead()));
        self.state(State::AudioFault(self.saved.of_microphone()));
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

    /// To the log, where it is this site's, and to the hub where there is one.
    pub(super) fn alert(&mut self, event: hub::Event) {
        if self.parts.settings.keeps_state {
            self.unlogged.push(event.clone());
        }
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
