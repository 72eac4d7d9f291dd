//! What time itself brings, a few times a second: the hub's words, quiet hours, a siren that its guard has ended, the LED, lines
//! that open again, health figures.

use std::time::{Duration, Instant};

use detector::alarm::Event;
use hub::limits::ALERTS_MAX;
use hub::{Hub, State};

use super::Control;
use crate::capture::CARD_PATIENCE;
use crate::faults::Fault;
use crate::led::LedPattern;
use crate::recorder::Storage;
use crate::starts;
use crate::supervisor::DISK_PATIENCE;

/// Health figures.
pub(super) const TELEMETRY_EVERY: Duration = Duration::from_secs(60);
/// Ids of disarmings that change nothing: each write is a few KiB of the card's life, and they pass every rate limit.
pub(super) const IDS_EVERY: Duration = Duration::from_secs(10);
/// Lines that could not be opened are tried again.
pub(super) const REOPEN_EVERY: Duration = Duration::from_secs(5);

impl Control {
    pub(super) fn tick(&mut self) {
        while let Ok(incoming) = self.parts.hub_inbox.try_recv() {
            self.hear(incoming);
        }
        self.watch_clock();
        self.read_inputs();
        if let Some(line) = self.gaps.due(Instant::now()) {
            self.lines.write(&line);
        }
        self.keep_quiet_hours();
        if self.parts.realtime {
            self.step(Event::Tick);
        }
        self.follow_siren();
        self.follow_guard();
        self.keep_ids();
        self.hand_in();
        self.watch_disk();
        self.watch_losses();
        self.watch_card();
        if self.began.elapsed() >= starts::LOOP {
            self.restore(Fault::Crashed, "it has run well since");
        }
        self.show();
        if self.reopening.due(Instant::now()) {
            self.reopen();
        }
        if self.telemetry.due(Instant::now()) {
            self.tell_health();
        }
    }

    fn watch_disk(&mut self) {
        let turn = self.parts.hub.as_ref().and_then(Hub::at_disk);
        match self.disk_wait.waits(turn, Instant::now()) {
            None => self.storage(Storage::Disk, Ok(())),
            Some(waited) if waited < DISK_PATIENCE => {}
            Some(_) => {
                let cause = format!("the disk has not answered for {} s", DISK_PATIENCE.as_secs());
                self.storage(Storage::Disk, Err(cause));
            }
        }
    }

    /// What is never to be lost, and was: told once, until the outbox has room again; telemetry has the number.
    fn watch_losses(&mut self) {
        let Some(hub) = &self.parts.hub else { return };
        let (lost, waiting) = (hub.dropped(), hub.outbox_len());
        let before = std::mem::replace(&mut self.alerts_lost, lost);
        if lost > before && self.unstored.insert(Storage::Alerts) {
            let lost = lost - before;
            let cause = format!("{lost} alert(s) are lost: the outbox was full, or the disk has damaged them");
            self.fault_anew(Fault::StorageFull, &cause);
        } else if lost == before && waiting < ALERTS_MAX / 2 {
            self.storage(Storage::Alerts, Ok(()));
        }
    }

    /// A USB device that is stuck answers each request with an error after five seconds, or with nothing.
    fn watch_card(&mut self) {
        let turn = self.parts.capture_status.as_ref().and_then(|status| status.at_card());
        if self.card_wait.waits(turn, Instant::now()).is_some_and(|waited| waited >= CARD_PATIENCE) {
            self.fault(Fault::CaptureLost, &format!("the card has not answered for {} s", CARD_PATIENCE.as_secs()));
        }
    }

    pub(super) fn keep_quiet_hours(&mut self) {
        let quiet = self.parts.quiet.now();
        if quiet != self.quiet_now {
            self.quiet_now = quiet;
            self.step(Event::Quiet(quiet));
        }
    }

    /// Where the guard has ended a siren that this loop would still drive, what people are told follows the line.
    fn follow_guard(&mut self) {
        let trips = self.parts.outputs.siren_guard_trips();
        // One that this loop has ended at the same moment is done with too: it must not stand for a later failure.
        let tripped = trips > std::mem::replace(&mut self.guard_trips, trips);
        if tripped && self.alarm.siren_on() && !self.parts.outputs.siren_is_on() {
            log::warn!("the siren was ended by its guard");
            self.step(Event::Siren { on: false, duration_us: None });
        }
    }

    /// The LED and the fault relay.
    fn show(&mut self) {
        // A microphone that was dead before this start is not well until it has shown so.
        let ill = self.faults.any() || self.saved.of_microphone();
        let pattern = match () {
            () if self.alarm.in_incident() && self.alarm.armed() => LedPattern::Alarm,
            () if ill => LedPattern::Fault,
            () if self.alarm.armed() => LedPattern::HeartbeatArmed,
            () => LedPattern::Disarmed,
        };
        let shown = self.parts.outputs.show_led(pattern, self.began.elapsed().as_millis() as u64);
        let told = self.parts.outputs.set_fault(ill);
        for problem in [shown, told].into_iter().filter_map(Result::err) {
            self.line_fails(&problem);
        }
    }

    fn reopen(&mut self) {
        let silent = self.alarm.siren_on() && !self.parts.outputs.siren_is_on();
        let stood = self.faults.stands(Fault::OutputUnavailable);
        // Also where all seems well: a chip that went in a quiet house is known before the alarm.
        let mut problems = self.parts.outputs.reopen(self.alarm.siren_on());
        if stood || silent {
            problems.extend(self.parts.inputs.reopen());
        }
        self.follow_siren();
        // What ended it may have been an emergency, of which this loop knows nothing.
        if silent {
            self.state(State::Siren(self.siren_sounds()));
        }
        problems.iter().for_each(|problem| self.line_fails(problem));
        if stood && problems.is_empty() {
            self.failed_lines.clear();
            self.restore(Fault::OutputUnavailable, "every line is held again");
        }
    }
}
