//! What goes to the caller: commands that passed every check, and news of the path and the disk. The caller's queue is
//! bounded and may be full; the loop never waits for it.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use jiff::Timestamp;

use super::Session;
use crate::Incoming;
use crate::alert::CommandResult;
use crate::command::{self, Command, Refusal};
use crate::limits::{UNDELIVERED_MAX, UNDELIVERED_RETRY};
use crate::topics;

/// The caller's queue, and what did not fit into it.
#[derive(Debug)]
pub struct Deliveries {
    incoming: SyncSender<Incoming>,
    waiting: VecDeque<Incoming>,
}

impl Deliveries {
    /// Nothing waits.
    pub fn new(incoming: SyncSender<Incoming>) -> Self {
        Self { incoming, waiting: VecDeque::new() }
    }

    /// Hands news over; of two of a kind that wait, the later one is true.
    pub fn tell(&mut self, news: Incoming) {
        self.waiting.retain(|old| matches!(old, Incoming::Command { .. }) || kind(old) != kind(&news));
        self.waiting.push_back(news);
        self.retry();
    }

    /// Hands a command over, or gives it back where too many wait.
    pub fn command(&mut self, command: Command, topic: &str, id: Option<String>) -> Result<(), Refusal> {
        if self.waiting.len() >= UNDELIVERED_MAX {
            // Of what always passes, one that waits already does the same: unless a command stands behind it that undoes it.
            let after_all_else = self.waiting.iter().rev().filter_map(|old| match old {
                Incoming::Command { command, .. } => Some(command),
                _ => None,
            });
            let mut quieting = after_all_else.take_while(|old| old.always_passes());
            if !command.always_passes() || quieting.any(|old| discriminant(old) == discriminant(&command)) {
                return Err(Refusal::Busy);
            }
        }
        self.waiting.push_back(Incoming::Command { command, topic: topic.to_owned(), id });
        self.retry();
        Ok(())
    }

    /// Hands over what the caller has room for, in order.
    pub fn retry(&mut self) {
        while let Some(first) = self.waiting.pop_front() {
            match self.incoming.try_send(first) {
                Ok(()) => {}
                Err(TrySendError::Full(first)) => {
                    self.waiting.push_front(first);
                    return;
                }
                // The caller listens to nothing any more; alerts and states still go out.
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
    }

    /// When to try again.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| now + UNDELIVERED_RETRY)
    }
}

fn kind(incoming: &Incoming) -> u8 {
    match incoming {
        Incoming::Command { .. } => 0,
        Incoming::Connected | Incoming::Disconnected { .. } => 1,
        Incoming::StorageFailed { .. } | Incoming::StorageRestored => 2,
    }
}

impl Session {
    /// One message on a topic of this device: checked, then handed over or refused with an answer. Of a payload that is too large, its size.
    pub(super) fn command(&mut self, leaf: &str, payload: Result<&[u8], usize>, retain: bool, now: Instant) {
        if !topics::COMMANDS.contains(&leaf) {
            return;
        }
        if retain {
            if self.refusals.may_say(now) {
                log::warn!("hub: retained command on {leaf} ignored: it would be obeyed again at every connection");
            }
            return;
        }
        let topic = self.topics.full(leaf);
        let wall = self.mailbox.clock_set.load(Relaxed).then(Timestamp::now);
        let parse = |payload| command::parse(leaf, payload, self.options.siren_on_s_max);
        let request = payload.map_err(|bytes| Refusal::TooLarge { bytes }).and_then(parse);
        let id = match &request {
            Ok(request) => request.id.clone(),
            // Whoever sent it looks for its answer by it all the same.
            Err(_) => payload.ok().and_then(command::id_of),
        };
        let taken = request.and_then(|request| {
            self.gate.admit(&request, now, wall)?;
            let busy = self.deliveries.command(request.command, &topic, request.id);
            if busy.is_err() {
                id.iter().for_each(|id| self.gate.forget(id));
            }
            busy
        });
        if let Err(refusal) = taken {
            if self.refusals.may_say(now) {
                log::warn!("hub: command on {leaf} refused: {refusal}");
            }
            self.mailbox.refused.fetch_add(1, Relaxed);
            self.answer(CommandResult { topic, ok: false, reason: refusal.to_string(), id });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// Who was told `busy` sends the same words again: its id must not make a repetition of them.
    #[test]
    fn a_command_that_found_no_room_may_be_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, receiver) = sync_channel(1);
        let options = crate::Options::new("test-1", "Hall", "localhost", dir.path());
        let mut session = Session::new(options, None, Arc::default(), sender);
        let now = Instant::now();
        let off = |session: &mut Session, payload: &str| {
            session.command("siren/set", Ok(payload.as_bytes()), false, now);
            session.results.pop_back().map(|result| result.reason)
        };
        for _ in 0..UNDELIVERED_MAX + 1 {
            assert_eq!(off(&mut session, r#"{"state":"OFF"}"#), None);
        }
        let again = r#"{"state":"OFF","id":"x"}"#;
        assert_eq!(off(&mut session, again), Some(Refusal::Busy.to_string()));
        while receiver.try_recv().is_ok() {
            session.deliveries.retry();
        }
        assert_eq!(off(&mut session, again), None);
        assert_eq!(off(&mut session, again), Some(Refusal::Repeated.to_string()));
    }

    /// The same of who was let in and not obeyed.
    #[test]
    fn a_command_that_the_caller_refused_may_be_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, _receiver) = sync_channel(8);
        let options = crate::Options::new("test-1", "Hall", "localhost", dir.path());
        let mut session = Session::new(options, None, Arc::default(), sender);
        let now = Instant::now();
        let mut asked = |ok: bool| {
            session.command("update/install", Ok(br#"{"id":"x"}"#), false, now);
            let refusal = session.results.pop_back().map(|result| result.reason);
            let answer = CommandResult { topic: String::new(), ok, reason: String::new(), id: Some("x".into()) };
            session.mailbox.result(answer);
            session.take_mail(now);
            session.results.clear();
            refusal
        };
        assert_eq!(asked(false), None);
        assert_eq!(asked(true), None);
        assert_eq!(asked(true), Some(Refusal::Repeated.to_string()));
    }

    #[test]
    fn the_last_word_of_many_ends_the_noise() {
        let (sender, receiver) = sync_channel(1);
        let mut deliveries = Deliveries::new(sender);
        let siren = |on| Command::Siren { on, duration_s: None };
        deliveries.tell(Incoming::Connected);
        for _ in 1..UNDELIVERED_MAX {
            deliveries.command(siren(false), "t", None).unwrap();
        }
        deliveries.command(siren(true), "t", None).unwrap();
        deliveries.command(siren(false), "t", None).unwrap();
        // Many of either, as long as nobody takes them, need no more room.
        for _ in 0..1000 {
            assert_eq!(deliveries.command(siren(true), "t", None), Err(Refusal::Busy));
            assert_eq!(deliveries.command(siren(false), "t", None), Err(Refusal::Busy));
        }
        let mut last = None;
        while let Ok(incoming) = receiver.try_recv() {
            last = Some(incoming);
            deliveries.retry();
        }
        assert!(matches!(last, Some(Incoming::Command { command: Command::Siren { on: false, .. }, .. })), "{last:?}");
    }

    #[test]
    fn a_caller_that_is_stuck_stops_nothing() {
        let (sender, receiver) = sync_channel(1);
        let mut deliveries = Deliveries::new(sender);
        deliveries.tell(Incoming::Connected);
        for _ in 0..UNDELIVERED_MAX {
            deliveries.command(Command::TestSiren, "t", None).unwrap();
        }
        assert_eq!(deliveries.command(Command::TestSiren, "t", None), Err(Refusal::Busy));
        deliveries.command(Command::Silence, "s", Some("first".into())).unwrap();
        for id in 0..1000 {
            assert_eq!(deliveries.command(Command::Silence, "s", Some(id.to_string())), Err(Refusal::Busy));
            deliveries.tell(Incoming::Disconnected { cause: String::new() });
            deliveries.tell(Incoming::Connected);
        }
        assert!(deliveries.waiting.len() <= UNDELIVERED_MAX + 2);
        let mut got = Vec::new();
        while let Ok(incoming) = receiver.try_recv() {
            got.push(incoming);
            deliveries.retry();
        }
        assert_eq!(got[0], Incoming::Connected);
        assert!(got.iter().any(|incoming| matches!(incoming, Incoming::Command { command: Command::Silence, .. })));
        assert_eq!(got.iter().filter(|incoming| **incoming == Incoming::Connected).count(), 2);
        assert!(deliveries.retry_at(Instant::now()).is_none());
    }
}
