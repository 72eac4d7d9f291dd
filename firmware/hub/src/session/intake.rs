//! What the caller puts in, and the figures it reads.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Session;
use crate::Incoming;
use crate::alert::{Class, CommandResult};
use crate::limits::RESULTS_MAX;
use crate::outbox::{Alert, Change};

impl Session {
    /// Everything that the caller put in. The siren is long switched: what blocks here is the disk, and only this thread.
    pub(super) fn take_mail(&mut self, now: Instant) {
        let mail = self.mailbox.take();
        let taken = mail.alerts.len();
        let mut fresh_alarm = false;
        let mut alerts = Vec::with_capacity(taken);
        for (mut event, since) in mail.alerts {
            if event.zone.is_empty() {
                event.zone.clone_from(&self.options.zone);
            }
            let class = event.event_type.class();
            match event.to_stored() {
                Ok(payload) => {
                    fresh_alarm |= class == Class::Alarm;
                    alerts.push(Alert { class, payload, since });
                }
                Err(error) => {
                    log::error!("hub: {} {} is not sent: {error}", event.event_type.name(), event.id);
                    self.mailbox.dropped.fetch_add(1, Relaxed);
                }
            }
        }
        if alerts.is_empty() {
            self.outbox.tick(now);
        } else {
            self.outbox.append(alerts, now);
        }
        self.account(taken);
        for (state, since) in mail.states {
            self.states.set(state, since);
        }
        self.telemetry = mail.telemetry.or(self.telemetry.take());
        self.live = mail.live.or(self.live.take());
        for result in mail.results {
            // Let in, and not obeyed: whoever was refused sends the same words again once the cause is gone.
            result.id.iter().filter(|_| !result.ok).for_each(|id| self.gate.forget(id));
            self.answer(result);
        }
        if mail.stop.is_some() {
            self.stop = mail.stop;
        }
        if fresh_alarm || mail.stop.is_some() {
            self.hurry(now);
        }
    }

    /// Brings the shared figures up to the outbox; `taken` alerts were counted when the caller put them in.
    pub(super) fn account(&mut self, taken: usize) {
        // Lost is lost, whether there was no room or the disk has damaged it.
        let (len, dropped) = (self.outbox.len(), self.outbox.dropped() + self.outbox.bad());
        let (counted, counted_dropped) = std::mem::replace(&mut self.counted, (len, dropped));
        let pending = &self.mailbox.pending;
        if len >= counted + taken {
            pending.fetch_add(len - counted - taken, Relaxed);
        } else {
            pending.fetch_sub(counted + taken - len, Relaxed);
        }
        self.mailbox.dropped.fetch_add(dropped - counted_dropped, Relaxed);
        for change in self.outbox.changes() {
            self.deliveries.tell(match change {
                Change::Failed { cause } => Incoming::StorageFailed { cause },
                Change::Restored => Incoming::StorageRestored,
            });
        }
    }

    pub(super) fn answer(&mut self, result: CommandResult) {
        if self.results.len() >= RESULTS_MAX {
            self.results.pop_front();
        }
        self.results.push_back(result);
    }
}
