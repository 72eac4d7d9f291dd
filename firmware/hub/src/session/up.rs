//! A connection that is up: what is in flight on it, how it begins and how it ends.

use std::time::Instant;

use super::link::{Link, LinkEvent, NoRoom, Ticket};
use super::{Phase, Session};
use crate::discovery;
use crate::limits::GOODBYE;
use crate::topics;

/// A link that has subscribed.
pub struct Up {
    /// The connection.
    pub link: Link,
    /// When it came up.
    pub since: Instant,
    /// Alerts sent and not acknowledged.
    pub alerts: usize,
    /// Everything else with QoS 1 that is sent and not acknowledged.
    pub others: usize,
    /// The last acknowledgement, or the first sending after a pause.
    pub heard: Instant,
    /// When discovery goes out again for Home Assistant.
    pub birth: Option<Instant>,
}

impl Up {
    /// Publishes that wait for their PUBACK.
    pub fn in_flight(&self) -> usize {
        self.alerts + self.others
    }

    /// A state, an answer, discovery.
    pub fn publish(&mut self, topic: String, payload: Vec<u8>, retain: bool, now: Instant) -> Result<(), NoRoom> {
        self.link.publish(topic, payload, retain, Ticket::Other)?;
        self.sent(now);
        self.others += 1;
        Ok(())
    }

    /// An alert of the outbox.
    pub fn publish_alert(&mut self, topic: String, payload: Vec<u8>, key: u64, now: Instant) -> Result<(), NoRoom> {
        self.link.publish(topic, payload, false, Ticket::Alert(key))?;
        self.sent(now);
        self.alerts += 1;
        Ok(())
    }

    /// The wait for an acknowledgement begins with the first that is in flight.
    fn sent(&mut self, now: Instant) {
        if self.in_flight() == 0 {
            self.heard = now;
        }
    }
}

impl Session {
    /// Discovery, every state, `status` online, in this order.
    pub(super) fn introduce(&mut self, now: Instant) {
        let discovery = discovery::payload(&self.options).into_bytes();
        self.states.all_unsent();
        let Phase::Up(up) = &mut self.phase else { return };
        let mut sent = up.publish(self.topics.discovery(), discovery, true, now);
        while let (Ok(()), Some(message)) = (&sent, self.states.next(now)) {
            sent = up.publish(self.topics.full(message.leaf), message.payload, true, now);
        }
        let sent = sent.and_then(|()| up.publish(self.topics.full(topics::STATUS), b"online".to_vec(), true, now));
        if sent.is_err() {
            self.lose_full(now);
        }
    }

    /// `offline` retained, its PUBACK, DISCONNECT, within [`GOODBYE`].
    pub(super) async fn goodbye(&mut self) {
        let now = Instant::now();
        let Phase::Up(up) = &mut self.phase else { return };
        if up.publish(self.topics.full(topics::STATUS), b"offline".to_vec(), true, now).is_err() {
            return;
        }
        let leave = async {
            let mut leaving = false;
            loop {
                match up.link.event().await {
                    LinkEvent::Closed { .. } => return,
                    LinkEvent::Acked(Ticket::Alert(key)) => self.outbox.ack(key, now),
                    LinkEvent::Acked(Ticket::Other) => up.others = up.others.saturating_sub(1),
                    _ => {}
                }
                if up.others == 0 && !leaving {
                    leaving = true;
                    if up.link.disconnect().is_err() {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(GOODBYE, leave).await.is_err() {
            log::warn!("hub: the broker did not answer the goodbye");
        }
        self.account(0);
    }
}
