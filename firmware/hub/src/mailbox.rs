//! Between the caller's thread and the hub's: a small shared box under a lock that nobody holds across a call to disk or
//! network, so that the caller, who has just switched a siren, never waits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::alert::{Class, CommandResult, Event, Live, State, Telemetry};
use crate::limits::{MAILBOX_ALERTS_MAX, RESULTS_MAX};

/// What the caller put in since the last look.
#[derive(Debug, Default)]
pub struct Mail {
    /// Alerts in their order, with the time of each.
    pub alerts: VecDeque<(Event, Instant)>,
    /// Changed states in their order.
    pub states: Vec<(State, Instant)>,
    /// The latest telemetry.
    pub telemetry: Option<Telemetry>,
    /// The latest window.
    pub live: Option<Live>,
    /// Answers to commands.
    pub results: VecDeque<CommandResult>,
    /// Until when to wait for acknowledgements.
    pub stop: Option<Instant>,
}

/// The box.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    /// Wakes the hub's thread.
    pub wake: Notify,
    /// The caller is gone without a stop: end at once, as a crash would.
    pub abandoned: AtomicBool,
    /// Alerts not yet acknowledged, wherever they are.
    pub pending: AtomicUsize,
    /// Alerts lost: there was no room, or the disk has damaged them.
    pub dropped: AtomicU64,
    /// Commands refused.
    pub refused: AtomicU64,
    /// Whether the wall clock can be trusted.
    pub clock_set: AtomicBool,
    /// Whether the broker is there.
    pub connected: AtomicBool,
    /// Turns of the hub's loop.
    pub beats: AtomicU64,
    /// The loop waits for the disk.
    pub at_disk: AtomicBool,
}

impl Mailbox {
    /// Puts an alert in. Where the hub's thread hangs (a dead disk), supervision makes room, then the oldest.
    pub fn alert(&self, event: Event) {
        let mut mail = self.lock();
        mail.alerts.push_back((event, Instant::now()));
        let full = mail.alerts.len() > MAILBOX_ALERTS_MAX;
        if full {
            let oldest = mail.alerts.iter().position(|(event, _)| event.event_type.class() == Class::Supervision);
            mail.alerts.remove(oldest.unwrap_or(0));
        }
        drop(mail);
        if !full {
            self.pending.fetch_add(1, Relaxed);
        } else if (self.dropped.fetch_add(1, Relaxed) + 1).is_power_of_two() {
            log::error!("hub: its thread hangs, and alerts find no room any more");
        }
        self.wake.notify_one();
    }

    /// Puts a state in; an earlier one of its kind that was not yet seen is forgotten.
    pub fn state(&self, state: State) {
        let mut mail = self.lock();
        mail.states.retain(|(old, _)| std::mem::discriminant(old) != std::mem::discriminant(&state));
        mail.states.push((state, Instant::now()));
        drop(mail);
        self.wake.notify_one();
    }

    /// Puts the latest telemetry in.
    pub fn telemetry(&self, telemetry: Telemetry) {
        self.lock().telemetry = Some(telemetry);
        self.wake.notify_one();
    }

    /// Puts the latest window in.
    pub fn live(&self, live: Live) {
        self.lock().live = Some(live);
        self.wake.notify_one();
    }

    /// Puts an answer in.
    pub fn result(&self, result: CommandResult) {
        let mut mail = self.lock();
        if mail.results.len() >= RESULTS_MAX {
            mail.results.pop_front();
        }
        mail.results.push_back(result);
        drop(mail);
        self.wake.notify_one();
    }

    /// Asks the thread to end.
    pub fn stop(&self, deadline: Instant) {
        self.lock().stop = Some(deadline);
        self.wake.notify_one();
    }

    /// Takes everything out.
    pub fn take(&self) -> Mail {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing under this lock can panic half way through a change.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::EventType;

    #[test]
    fn a_hanging_thread_costs_supervision_first() {
        let mailbox = Mailbox::default();
        mailbox.alert(Event::new(EventType::Test, "t", "", false));
        for number in 0..MAILBOX_ALERTS_MAX {
            mailbox.alert(Event::new(EventType::ScreamStart, number.to_string(), "", false));
        }
        let mail = mailbox.take();
        assert_eq!(mail.alerts.len(), MAILBOX_ALERTS_MAX);
        assert!(mail.alerts.iter().all(|(event, _)| event.event_type == EventType::ScreamStart));
        assert_eq!(mailbox.dropped.load(Relaxed), 1);
        assert_eq!(mailbox.pending.load(Relaxed), MAILBOX_ALERTS_MAX);
    }

    #[test]
    fn the_latest_state_wins() {
        let mailbox = Mailbox::default();
        mailbox.state(State::Siren(true));
        mailbox.state(State::Armed(true));
        mailbox.state(State::Siren(false));
        let states: Vec<_> = mailbox.take().states.into_iter().map(|(state, _)| state).collect();
        assert_eq!(states, [State::Armed(true), State::Siren(false)]);
    }
}
