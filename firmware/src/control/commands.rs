//! What the hub wants: commands that passed its checks, the broker's coming and going.

use std::time::{Duration, Instant};

use detector::alarm::{Event, us};
use detector::manifest::Decision;
use hub::{Command, CommandResult, EventType, Incoming, State};

use super::Control;
use crate::clock;
use crate::faults::Fault;
use crate::lines::Line;
use crate::listen::Report;
use crate::recorder::Storage;
use crate::update::agent::Notice;

impl Control {
    pub(super) fn hear(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Command { command, topic, id } => {
                let (before, armed) = (self.saved.clone(), self.alarm.armed());
                let refused = self.obey(command);
                // A card wears out by what is written: what is as it was is not written again.
                if self.saved != before {
                    self.save();
                }
                // What was refused may be asked for again.
                if let (Some(id), None) = (&id, refused) {
                    self.remember(command, id, self.alarm.armed() != armed);
                }
                if let Some(hub) = &self.parts.hub {
                    let reason = refused.unwrap_or_default();
                    hub.answer(CommandResult { topic, ok: reason.is_empty(), reason: reason.into(), id });
                }
            }
            Incoming::Connected => self.restore(Fault::PathDown, "the broker is there"),
            Incoming::Disconnected { cause } => self.fault_anew(Fault::PathDown, &cause),
            Incoming::StorageFailed { cause } => self.storage(Storage::Outbox, Err(cause)),
            Incoming::StorageRestored => self.storage(Storage::Outbox, Ok(())),
        }
    }

    /// Not to be obeyed again after a restart. What passes every rate limit would be a file written each time: to be silent once more harms nobody, and
    /// a disarming that changes nothing waits for the others of its while.
    fn remember(&mut self, command: Command, id: &str, changed: bool) {
        if command.only_quiets() {
            return;
        }
        self.saved.remember_command(id);
        if changed || !command.always_passes() {
            self.save();
        } else {
            self.ids_wait = true;
        }
    }

    /// Writes the ids that wait, where it is time.
    pub(super) fn keep_ids(&mut self) {
        if self.ids_wait && self.ids_written.due(Instant::now()) {
            self.save();
        }
    }

    /// A board without a battery wakes up in the past and learns the time from the network: from then on `expires` can be
    /// judged, and the time of the start is known.
    pub(super) fn watch_clock(&mut self) {
        let set = clock::is_set();
        if set == self.clock_set {
            return;
        }
        self.clock_set = set;
        if let Some(hub) = &self.parts.hub {
            hub.set_clock(set);
        }
        if set {
            self.state(State::Started(clock::utc_before(self.began.elapsed())));
        }
    }

    /// A window for whoever watches.
    pub(super) fn show_live(&self, report: &Report) {
        if let Some(hub) = &self.parts.hub
            && self.live_until.is_some_and(|until| Instant::now() < until)
        {
            hub.live(hub::Live {
                seq: report.span.seq,
                score: report.score.unwrap_or(0.0),
                level_dbfs: hub::as_written(report.level_dbfs),
            });
        }
    }

    /// Does it; a reason where it is refused.
    fn obey(&mut self, command: Command) -> Option<&'static str> {
        match command {
            Command::Siren { on, duration_s } => {
                self.step(Event::Siren { on, duration_us: duration_s.map(us) });
                // Echoed also where nothing changed: whoever asked waits for it.
                self.state(State::Siren(self.siren_sounds()));
                return if on { self.mute() } else { None };
            }
            Command::Armed { on: false, .. } if self.is_kept_alert() => {
                return Some("disarming over MQTT is refused by the site file ([siren] remote_disarm)");
            }
            Command::Armed { on, for_s } => {
                self.step(Event::Arm { armed: on, for_us: for_s.map(us) });
                self.state(State::Armed(self.alarm.armed()));
                // A time that runs out is not kept: after a restart the device is armed, which is the safer mistake.
                self.saved.set_armed(on || for_s.is_some(), self.parts.settings.site.stated_armed());
            }
            Command::Threshold(threshold) if self.is_kept_alert() && threshold > self.stated().threshold_on => {
                return Some("a threshold above the site's own is refused by the site file ([siren] remote_disarm)");
            }
            Command::Cooldown(seconds) if self.is_kept_alert() && seconds > self.stated().cooldown_s => {
                return Some("a cooldown above the site's own is refused by the site file ([siren] remote_disarm)");
            }
            Command::Threshold(threshold) => {
                self.step(Event::Threshold(threshold));
                self.state(State::Threshold(threshold));
                self.saved.set_threshold_on(threshold, self.parts.settings.site.decision.threshold_on);
            }
            Command::Cooldown(seconds) => {
                self.step(Event::Cooldown(seconds));
                self.state(State::Cooldown(seconds));
                self.saved.set_cooldown_s(seconds, self.parts.settings.site.decision.cooldown_s);
            }
            Command::TestSiren => {
                self.step(Event::TestSiren);
                self.supervise(EventType::Test, None, "siren");
                return self.mute();
            }
            Command::Silence => self.step(Event::Silence),
            Command::Live(seconds) => self.live_until = Some(Instant::now() + Duration::from_secs_f64(seconds)),
            // It restarts the service: the siren would fall silent, and the incident be cut.
            Command::InstallUpdate if self.alarm.in_incident() || self.siren_sounds() => {
                return Some("an alarm goes on, or the siren sounds; ask again afterwards");
            }
            Command::InstallUpdate if self.parts.update.install() => {}
            Command::InstallUpdate => return Some("no update has been placed on this device"),
        }
        None
    }

    /// Nobody may disarm from afar, nor make as good as deaf what is armed.
    fn is_kept_alert(&self) -> bool {
        !self.parts.settings.site.siren.remote_disarm
    }

    /// What the site file says of the decision, else the model: without the hub's word.
    fn stated(&self) -> Decision {
        let settings = &self.parts.settings;
        let (site, model) = (&settings.site.decision, settings.manifest.decision);
        Decision {
            threshold_on: site.threshold_on.unwrap_or(model.threshold_on),
            cooldown_s: site.cooldown_s.unwrap_or(model.cooldown_s),
            ..model
        }
    }

    /// Why a siren that was just asked for does not sound.
    fn mute(&self) -> Option<&'static str> {
        (!self.siren_sounds()).then_some("the siren does not sound: it has no line, or its line is missing or refuses")
    }

    /// A bundle has come, an update goes on or has ended.
    pub(super) fn updated(&mut self, notice: Notice) {
        match notice {
            Notice::State(update) => self.state(State::Update(update)),
            Notice::Ended(outcome) if outcome.ok => log::info!("update {}: {}", outcome.release, outcome.detail),
            // Over as soon as it is told: the release before it runs, and nothing is wrong with that one.
            Notice::Ended(outcome) => {
                let detail = format!("{}: {}", outcome.release, outcome.detail);
                self.lines.write(&Line::Fault { fault: UPDATE_FAILED, detail: &detail });
                self.lines.write(&Line::Restore { fault: UPDATE_FAILED, detail: "the release before it runs" });
                self.supervise_named(EventType::Fault, Some(UPDATE_FAILED), &detail);
                self.supervise_named(EventType::Restore, Some(UPDATE_FAILED), "the release before it runs");
            }
        }
    }
}

/// Told together with its restore, never standing: LED and fault relay stay as they are.
const UPDATE_FAILED: &str = "UpdateFailed";
