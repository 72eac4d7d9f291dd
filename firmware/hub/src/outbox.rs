//! The outbox: alerts that wait for the broker's PUBACK, kept over power cuts and broken disks.
//!
//! *Segment*: one append-only file of [`record`]s. *Removal*: a record that says that an alert is done with; it is not
//! synced, since losing it only repeats an alert. *Saved*: an alert whose record is synced. *Key*: an alert's number in
//! this process; *seq*: its number on disk.
//!
//! ```text
//! append -> memory -> segment (fsync) -> offered -> PUBACK -> ack -> removal, later the whole segment goes
//!                        | error
//!                        v
//!                     memory alone, fault reported; a new segment is tried with a growing wait
//! ```
//! Invariants: an alert leaves by [`Outbox::ack`], or because the box is full (counted); memory holds every alert of the
//! disk; segments are deleted from the oldest on, so that no removal is lost before what it removes; a file that failed
//! once is never written again.

pub mod disk;
pub mod patient;
pub mod record;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::alert::Class;
use crate::limits::{
    ALERTS_BYTES_MAX, ALERTS_MAX, COMPACT_SLACK_BYTES, DISK_SLOW, FRESH, SEGMENT_BYTES_MAX, STORAGE_RETRY_MAX,
    STORAGE_RETRY_MIN,
};
use disk::Disk;

/// An alert's number in this process, growing with its age order.
pub type Key = u64;

/// Keys begin in the middle: what a slow disk gives back later is older than what was appended before.
const KEY_START: Key = 1 << 48;

/// The outbox's size; tests make it small.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Alerts.
    pub alerts_max: usize,
    /// Their payloads together, bytes.
    pub bytes_max: usize,
    /// One segment, bytes.
    pub segment_bytes_max: u64,
    /// Dead bytes on disk that are left alone.
    pub slack_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            alerts_max: ALERTS_MAX,
            bytes_max: ALERTS_BYTES_MAX,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            slack_bytes: COMPACT_SLACK_BYTES,
        }
    }
}

/// What happened to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Alerts are kept in memory alone.
    Failed {
        /// The call and its error.
        cause: String,
    },
    /// Every alert is on the disk again.
    Restored,
}

/// An alert to append.
#[derive(Debug, Clone)]
pub struct Alert {
    /// What a full outbox drops first.
    pub class: Class,
    /// JSON without `delayed_s`.
    pub payload: Vec<u8>,
    /// When it was raised.
    pub since: Instant,
}

/// An alert to send now.
#[derive(Debug)]
pub struct Offer<'a> {
    /// For [`Outbox::ack`].
    pub key: Key,
    /// JSON without `delayed_s`.
    pub payload: &'a [u8],
    /// When it was raised, or, where `recovered`, when it was read from the disk.
    pub since: Instant,
    /// An earlier run of the program raised it.
    pub recovered: bool,
}

#[derive(Debug)]
struct Entry {
    class: Class,
    payload: Box<[u8]>,
    since: Instant,
    recovered: bool,
    seq: Option<u64>,
    segment: Option<u64>,
}

impl Entry {
    fn put(&self) -> Option<store::Put<'_>> {
        self.seq.map(|seq| store::Put { seq, class: self.class, payload: &self.payload })
    }
}

/// See the module's description. Every call returns without an error: what the disk does shows in [`Outbox::changes`].
#[derive(Debug)]
pub struct Outbox<D: Disk> {
    entries: BTreeMap<Key, Entry>,
    waiting: BTreeSet<Key>,
    supervision: BTreeSet<Key>,
    unsaved: BTreeSet<Key>,
    bytes: usize,
    next_key: Key,
    dropped: u64,
    bounds: Bounds,
    store: store::Store<D>,
    failed: bool,
    /// Since when the disk has given no answer.
    slow_since: Option<Instant>,
    retry_at: Option<Instant>,
    retry_wait: Duration,
    changes: VecDeque<Change>,
}

impl<D: Disk> Outbox<D> {
    /// An outbox on this disk, with what the disk holds.
    pub fn open(disk: D, bounds: Bounds, now: Instant) -> Self {
        let mut outbox = Self {
            entries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            supervision: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            bytes: 0,
            next_key: KEY_START,
            dropped: 0,
            bounds,
            store: store::Store::new(disk, bounds),
            failed: false,
            slow_since: None,
            retry_at: None,
            retry_wait: STORAGE_RETRY_MIN,
            changes: VecDeque::new(),
        };
        outbox.save(now);
        outbox
    }

    /// Takes alerts in: into memory at once, then together onto the disk with one fsync.
    pub fn append(&mut self, alerts: impl IntoIterator<Item = Alert>, now: Instant) {
        for alert in alerts {
            let key = self.next_key;
            self.next_key += 1;
            self.insert(
                key,
                Entry {
                    class: alert.class,
                    payload: alert.payload.into(),
                    since: alert.since,
                    recovered: false,
                    seq: None,
                    segment: None,
                },
            );
            self.unsaved.insert(key);
            self.make_room();
        }
        self.tick(now);
    }

    /// The alert to send next: a fresh alarm first, then the oldest. It is offered once until [`Outbox::offer_all`].
    pub fn offer(&mut self, now: Instant) -> Option<Offer<'_>> {
        let fresh = self
            .waiting
            .iter()
            .rev()
            .map(|key| (*key, &self.entries[key]))
            .take_while(|(_, entry)| !entry.recovered && now.duration_since(entry.since) < FRESH)
            .filter(|(_, entry)| entry.class == Class::Alarm)
            .last()
            .map(|(key, _)| key);
        let key = fresh.or_else(|| self.waiting.first().copied())?;
        self.waiting.remove(&key);
        let entry = self.entries.get(&key)?;
        Some(Offer { key, payload: &entry.payload, since: entry.since, recovered: entry.recovered })
    }

    /// Offers one alert again, as if it had not been offered.
    pub fn take_back(&mut self, key: Key) {
        if self.entries.contains_key(&key) {
            self.waiting.insert(key);
        }
    }

    /// Offers everything again: a new connection knows nothing of what the last one sent.
    pub fn offer_all(&mut self) {
        self.waiting = self.entries.keys().copied().collect();
    }

    /// The broker has it. A key that is not there any more is no mistake: a full box may have dropped it.
    pub fn ack(&mut self, key: Key, now: Instant) {
        if self.remove(key) {
            self.tick(now);
        }
    }

    /// Tries a failed disk again when its time has come, and writes what is not written.
    pub fn tick(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|at| at <= now) {
            self.save(now);
        }
    }

    /// When [`Outbox::tick`] has something to do.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Puts what is not on the disk there, and the removals too, so that the next start neither lacks nor repeats anything. What could not be
    /// put there may lie in files that count as empty: then none of them is touched.
    pub fn close(&mut self, now: Instant) {
        let saved = self.try_save(now);
        let closed = if self.unsaved.is_empty() { saved.and_then(|()| self.store.sync()) } else { saved };
        if let Err(error) = closed {
            log::warn!("outbox: {error}");
        }
    }

    /// What happened to the disk since the last call.
    pub fn changes(&mut self) -> impl Iterator<Item = Change> + '_ {
        self.changes.drain(..)
    }

    /// Alerts inside.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits for its PUBACK.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Alerts not offered since the last [`Outbox::offer_all`].
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether an alarm that this run of the program raised, younger than `age`, waits for its PUBACK.
    pub fn holds_alarm(&self, age: Duration, now: Instant) -> bool {
        let young = |entry: &&Entry| !entry.recovered && now.duration_since(entry.since) < age;
        self.entries.values().rev().take_while(young).any(|entry| entry.class == Class::Alarm)
    }

    /// Alerts dropped because the box was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Damaged records that were skipped.
    pub fn bad(&self) -> u64 {
        self.store.bad()
    }

    #[cfg(test)]
    fn store_is_busy(&self) -> bool {
        self.store.ready().is_err()
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.bytes += entry.payload.len();
        if entry.class == Class::Supervision {
            self.supervision.insert(key);
        }
        self.waiting.insert(key);
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(entry) = self.entries.remove(&key) else {
            return false;
        };
        self.bytes -= entry.payload.len();
        self.waiting.remove(&key);
        self.supervision.remove(&key);
        self.unsaved.remove(&key);
        if let Some(seq) = entry.seq {
            self.store.forget(seq, entry.segment);
        }
        true
    }

    /// The oldest supervision message goes first, then, in a box full of alarms, the oldest alarm.
    fn make_room(&mut self) {
        while self.entries.len() > self.bounds.alerts_max || self.bytes > self.bounds.bytes_max {
            let victim = self.supervision.first().or_else(|| self.entries.keys().next()).copied();
            let Some(victim) = victim else { return };
            self.remove(victim);
            if self.dropped.is_power_of_two() || self.dropped == 0 {
                log::error!("outbox: full, {} alerts dropped so far", self.dropped + 1);
            }
            self.dropped += 1;
        }
    }

    /// Brings the disk up to memory. After an error one more try with a new file, then memory alone for a while.
    fn save(&mut self, now: Instant) {
        for _ in 0..2 {
            match self.try_save(now) {
                Ok(()) => {
                    (self.retry_at, self.slow_since) = (None, None);
                    self.retry_wait = STORAGE_RETRY_MIN;
                    if std::mem::take(&mut self.failed) {
                        self.changes.push_back(Change::Restored);
                    }
                    return;
                }
                // A flash card that thinks for seconds is none that fails; meanwhile alerts go out from memory.
                Err(error) if error.is_no_answer() => {
                    if !self.failed {
                        self.retry_wait = STORAGE_RETRY_MIN;
                    }
                    let since = *self.slow_since.get_or_insert(now);
                    if now.duration_since(since) >= DISK_SLOW {
                        self.fail(&error);
                    }
                    break;
                }
                Err(error) => self.fail(&error),
            }
        }
        self.retry_at = Some(now + self.retry_wait);
        self.retry_wait = (self.retry_wait * 2).min(STORAGE_RETRY_MAX);
    }

    fn fail(&mut self, error: &store::StoreError) {
        if !std::mem::replace(&mut self.failed, true) {
            log::error!("outbox: {error}; alerts are kept in memory alone");
            self.changes.push_back(Change::Failed { cause: error.to_string() });
        }
    }

    fn try_save(&mut self, now: Instant) -> Result<(), store::StoreError> {
        if let Some(found) = self.store.recover()? {
            let first = self.entries.keys().next().copied().unwrap_or(self.next_key);
            let keys = first - found.len() as u64..first;
            for (key, alert) in keys.zip(found) {
                if alert.segment.is_none() {
                    self.unsaved.insert(key);
                }
                self.insert(
                    key,
                    Entry {
                        class: alert.class,
                        payload: alert.payload,
                        since: now,
                        recovered: true,
                        seq: Some(alert.seq),
                        segment: alert.segment,
                    },
                );
            }
            self.make_room();
        }
        if self.store.wants_compaction(self.bytes) {
            for entry in self.entries.values_mut() {
                entry.seq.get_or_insert_with(|| self.store.next_seq());
            }
            let segment = self.store.compact(self.entries.values().filter_map(Entry::put))?;
            for entry in self.entries.values_mut() {
                entry.segment = Some(segment);
            }
            self.unsaved.clear();
            return Ok(());
        }
        while let Some(segment) = self.save_some()? {
            log::trace!("outbox: saved into segment {segment}");
        }
        self.store.tidy()
    }

    /// Saves as much as one segment takes; `None` where all is saved.
    fn save_some(&mut self) -> Result<Option<u64>, store::StoreError> {
        let mut keys = Vec::new();
        let mut bytes = 0;
        for key in &self.unsaved {
            let size = (self.entries[key].payload.len() + record::HEADER_BYTES) as u64;
            if bytes + size > self.bounds.segment_bytes_max && !keys.is_empty() {
                break;
            }
            bytes += size;
            keys.push(*key);
        }
        if keys.is_empty() {
            return Ok(None);
        }
        for key in &keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.seq.get_or_insert_with(|| self.store.next_seq());
            }
        }
        let puts: Vec<_> = keys.iter().filter_map(|key| self.entries.get(key)?.put()).collect();
        let segment = self.store.append(&puts)?;
        for key in keys {
            self.unsaved.remove(&key);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.segment = Some(segment);
            }
        }
        Ok(Some(segment))
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
