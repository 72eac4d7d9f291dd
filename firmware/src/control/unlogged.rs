//! What happened and is not handed in to the log yet: one job for all of it, since incidents and settings need places too.

use crate::recorder::Job;

/// Events that wait for the recorder's queue.
const EVENTS_MAX: usize = 1000;

/// In their order.
#[derive(Debug, Default)]
pub struct Unlogged {
    events: Vec<hub::Event>,
    /// Those that found no room.
    lost: u64,
}

impl Unlogged {
    /// One more; counted as lost where too many wait.
    pub fn push(&mut self, event: hub::Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.lost += 1;
        }
    }

    /// All of them as a job; none where there is nothing to log.
    pub fn take(&mut self) -> Option<Job> {
        let Self { events, lost } = std::mem::take(self);
        (!events.is_empty()).then_some(Job::Events { events, lost })
    }

    /// The job again that [`Unlogged::take`] gave and the recorder had no place for; nothing may have been pushed in between.
    pub fn give_back(&mut self, job: Job) {
        if let Job::Events { events, lost } = job {
            *self = Self { events, lost };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_what_no_place_waits() {
        let mut unlogged = Unlogged::default();
        assert!(unlogged.take().is_none());
        for n in 0..EVENTS_MAX + 3 {
            unlogged.push(hub::Event::new(hub::EventType::Test, n.to_string(), String::new(), true));
        }
        let job = unlogged.take().unwrap();
        assert!(unlogged.take().is_none());
        unlogged.give_back(job);
        let Some(Job::Events { events, lost }) = unlogged.take() else { panic!("no events") };
        assert_eq!((events.len(), events[0].id.as_str(), lost), (EVENTS_MAX, "0", 3));
    }
}
