//! The outbox's files: which segments there are, what lives in them, when they go.
//!
//! *Live*: alerts of a segment that are not removed. *Active*: the one segment that is written to; every start and every
//! error begins a new one, so that nothing is ever appended behind a tail that may be torn.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::Bounds;
use super::disk::Disk;
use super::record::{Kind, Record, encode, scan};
use crate::alert::Class;
use crate::limits::BAD_FILES_MAX;

/// More segments than this are written anew as one, however small they are: each start may leave one.
const SEGMENTS_MAX: usize = 64;
const TEMPORARY: &str = "compact.tmp";
/// A file that compaction writes goes to the disk in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} {name}: {source}")]
pub struct StoreError {
    call: &'static str,
    name: String,
    source: io::Error,
}

impl StoreError {
    /// The disk may yet answer, and what was asked of it be done.
    pub fn is_no_answer(&self) -> bool {
        self.source.kind() == io::ErrorKind::TimedOut
    }
}

fn failed(call: &'static str, name: &str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError { call, name: name.to_owned(), source }
}

/// An alert to write.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// Its number on disk.
    pub seq: u64,
    /// Its class.
    pub class: Class,
    /// Its JSON.
    pub payload: &'a [u8],
}

/// An alert that the disk held.
#[derive(Debug)]
pub struct Found {
    /// Its number on disk.
    pub seq: u64,
    /// Its class.
    pub class: Class,
    /// Its JSON.
    pub payload: Box<[u8]>,
    /// Its segment; `None` where nobody can say that it is on the disk: then it has to be written again.
    pub segment: Option<u64>,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    live: usize,
}

#[derive(Debug)]
struct Active<F> {
    number: u64,
    file: F,
    /// Whether its name is on the disk too.
    named: bool,
}

#[derive(Debug)]
struct Removal {
    seq: u64,
    segment: Option<u64>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: D,
    bounds: Bounds,
    recovered: bool,
    segments: BTreeMap<u64, Segment>,
    active: Option<Active<D::File>>,
    removals: Vec<Removal>,
    damaged: HashSet<u64>,
    next_seq: u64,
    next_segment: u64,
    bad: u64,
}

impl<D: Disk> Store<D> {
    /// Touches nothing yet.
    pub fn new(disk: D, bounds: Bounds) -> Self {
        Self {
            disk,
            bounds,
            recovered: false,
            segments: BTreeMap::new(),
            active: None,
            removals: Vec::new(),
            damaged: HashSet::new(),
            next_seq: 1,
            next_segment: 1,
            bad: 0,
        }
    }

    /// Whether the disk can be asked now.
    pub fn ready(&self) -> Result<(), StoreError> {
        self.disk.ready().map_err(failed("ask", "the disk"))
    }

    /// Damaged records that were skipped.
    pub fn bad(&self) -> u64 {
        self.bad
    }

    /// A number for an alert.
    pub fn next_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Reads the disk, once: `None` where it was read before.
    pub fn recover(&mut self) -> Result<Option<Vec<Found>>, StoreError> {
        if self.recovered {
            return Ok(None);
        }
        self.disk.prepare().map_err(failed("prepare", "the folder"))?;
        let names = self.disk.list().map_err(failed("list", "the folder"))?;
        if names.iter().any(|name| name == TEMPORARY) {
            // A compaction that a power cut ended. Left there, it costs space alone.
            let _ = self.disk.remove(TEMPORARY);
        }
        self.next_segment = names.iter().filter_map(|name| number_in(name)).max().unwrap_or(0) + 1;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();

        let mut alerts = BTreeMap::new();
        let mut removed = HashSet::new();
        for number in numbers {
            let name = segment_name(number);
            let bytes = self.disk.read(&name).unwrap_or_else(|error| {
                log::error!("outbox: read {name}: {error}");
                self.bad += 1;
                self.damaged.insert(number);
                Vec::new()
            });
            let scan = scan(&bytes);
            if scan.bad > 0 {
                log::error!("outbox: {name}: {} damaged records skipped, the file is kept aside", scan.bad);
                self.bad += scan.bad;
                self.damaged.insert(number);
            }
            for record in scan.records {
                self.next_seq = self.next_seq.max(record.seq.saturating_add(1));
                match record.kind {
                    Kind::Removed => {
                        removed.insert(record.seq);
                    }
                    Kind::Alert(class) => {
                        // After an error an alert may stand in two segments; the later one is the sound one.
                        let payload = record.payload.into();
                        let found = Found { seq: record.seq, class, payload, segment: Some(number) };
                        alerts.insert(record.seq, found);
                    }
                }
            }
            self.segments.insert(number, Segment { bytes: bytes.len() as u64, live: 0 });
        }
        alerts.retain(|seq, _| !removed.contains(seq));
        let unsure = self.unsure();
        for found in alerts.values_mut() {
            found.segment = found.segment.filter(|number| !unsure.contains(number));
            if let Some(segment) = found.segment.and_then(|number| self.segments.get_mut(&number)) {
                segment.live += 1;
            }
        }
        self.recovered = true;
        Ok(Some(alerts.into_values().collect()))
    }

    /// A program that was killed between write and fsync has left what reads well and is not on the disk: everything is
    /// synced once more. Segments of which that cannot be said are returned.
    fn unsure(&self) -> HashSet<u64> {
        let synced = |number: &u64| {
            let name = segment_name(*number);
            self.disk.sync_named(&name).inspect_err(|error| log::error!("outbox: fsync {name}: {error}")).is_ok()
        };
        let unsure: HashSet<u64> = self.segments.keys().copied().filter(|number| !synced(number)).collect();
        match self.disk.sync_dir() {
            Err(error) => {
                log::error!("outbox: fsync of the folder: {error}");
                self.segments.keys().copied().collect()
            }
            Ok(()) => unsure,
        }
    }

    /// Writes alerts into the active segment and syncs it; the segment's number.
    pub fn append(&mut self, puts: &[Put<'_>]) -> Result<u64, StoreError> {
        let mut bytes = Vec::new();
        for put in puts {
            encode(&mut bytes, &put.record());
        }
        let number = self.write(&bytes, true)?;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live += puts.len();
        }
        Ok(number)
    }

    /// An alert is done with. Written by the next [`Store::tidy`].
    pub fn forget(&mut self, seq: u64, segment: Option<u64>) {
        if let Some(segment) = segment.and_then(|number| self.segments.get_mut(&number)) {
            segment.live = segment.live.saturating_sub(1);
        }
        self.removals.push(Removal { seq, segment });
    }

    /// Deletes what nothing needs any more and writes the removals of the rest.
    pub fn tidy(&mut self) -> Result<(), StoreError> {
        let active_is_large = self
            .active
            .as_ref()
            .and_then(|active| self.segments.get(&active.number))
            .is_some_and(|segment| segment.bytes >= self.bounds.segment_bytes_max / 4);
        if active_is_large && self.segments.values().all(|segment| segment.live == 0) {
            self.active = None;
        }
        let active = self.active.as_ref().map(|active| active.number);
        while let Some((&number, segment)) = self.segments.first_key_value() {
            if segment.live > 0 || Some(number) == active {
                break;
            }
            let name = segment_name(number);
            match self.disk.remove(&name) {
                // A slow disk may have done late what it was asked before.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("remove", &name))?,
            }
            self.segments.remove(&number);
        }
        let segments = &self.segments;
        self.removals.retain(|removal| match removal.segment {
            Some(number) => segments.contains_key(&number),
            None => !segments.is_empty(),
        });
        if self.removals.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for removal in &self.removals {
            encode(&mut bytes, &Record { seq: removal.seq, kind: Kind::Removed, payload: b"" });
        }
        self.write(&bytes, false)?;
        self.removals.clear();
        Ok(())
    }

    /// Writes the removals and syncs them.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.recovered {
            self.tidy()?;
        }
        match &mut self.active {
            Some(active) => self.disk.sync(&mut active.file).map_err(failed("fsync", &segment_name(active.number))),
            None => Ok(()),
        }
    }

    /// Whether [`Store::compact`] is due, with so many bytes alive.
    pub fn wants_compaction(&self, live_bytes: usize) -> bool {
        let bytes: u64 = self.segments.values().map(|segment| segment.bytes).sum();
        !self.damaged.is_empty()
            || self.segments.len() > SEGMENTS_MAX
            || bytes > 2 * live_bytes as u64 + self.bounds.slack_bytes
    }

    /// Writes everything that is alive into one new segment and drops all the others; damaged ones are kept aside.
    /// A crash at any point leaves either the old files or the new one, or both, which is the same.
    pub fn compact<'a>(&mut self, puts: impl Iterator<Item = Put<'a>>) -> Result<u64, StoreError> {
        self.ready()?;
        self.active = None;
        match self.disk.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", TEMPORARY)(error)),
            _ => {}
        }
        let mut file = self.disk.create(TEMPORARY).map_err(failed("create", TEMPORARY))?;
        let (mut piece, mut segment) = (Vec::new(), Segment::default());
        for put in puts {
            encode(&mut piece, &put.record());
            segment.live += 1;
            if piece.len() >= PIECE_BYTES {
                self.disk.write(&mut file, &piece).map_err(failed("write", TEMPORARY))?;
                segment.bytes += piece.len() as u64;
                piece.clear();
            }
        }
        segment.bytes += piece.len() as u64;
        self.disk.write(&mut file, &piece).map_err(failed("write", TEMPORARY))?;
        self.disk.sync(&mut file).map_err(failed("fsync", TEMPORARY))?;
        let number = self.next_segment;
        self.next_segment += 1;
        let name = segment_name(number);
        // Before it is there: an answer that does not come is none that says no.
        self.segments.insert(number, Segment::default());
        self.disk.rename(TEMPORARY, &name).map_err(failed("rename", &name))?;
        // Before the old files go, the new one's name must be on the disk.
        self.disk.sync_dir().map_err(failed("fsync", "the folder"))?;
        self.removals.clear();
        self.segments.remove(&number);
        for (old, _) in std::mem::replace(&mut self.segments, BTreeMap::from([(number, segment)])) {
            let name = segment_name(old);
            let gone = if self.damaged.contains(&old) {
                self.disk.rename(&name, &bad_name(old))
            } else {
                self.disk.remove(&name)
            };
            match gone {
                Ok(()) => {}
                // Never made, or gone late.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // It costs space and repeated alerts after the next start, never an alert; `tidy` tries again.
                    log::warn!("outbox: cannot drop {name}: {error}");
                    if !self.damaged.contains(&old) {
                        self.segments.insert(old, Segment::default());
                    }
                }
            }
        }
        self.damaged.clear();
        self.drop_bad_files();
        Ok(number)
    }

    fn write(&mut self, bytes: &[u8], sync: bool) -> Result<u64, StoreError> {
        // Before a number is given away.
        self.ready()?;
        let full = |segment: &Segment| segment.bytes + bytes.len() as u64 > self.bounds.segment_bytes_max;
        let number = self.active.as_ref().map(|active| active.number);
        if number
            .and_then(|number| self.segments.get(&number))
            .is_some_and(|segment| segment.bytes > 0 && full(segment))
        {
            self.active = None;
        }
        // The file is put back only where all went well: after an error nobody knows what it holds.
        let mut active = match self.active.take() {
            Some(active) => active,
            None => {
                let number = self.next_segment;
                self.next_segment += 1;
                let name = segment_name(number);
                // Before it is there, as in `compact`.
                self.segments.insert(number, Segment::default());
                let file = self.disk.create(&name).map_err(failed("create", &name))?;
                Active { number, file, named: false }
            }
        };
        let name = segment_name(active.number);
        self.disk.write(&mut active.file, bytes).map_err(failed("write", &name))?;
        if sync {
            self.disk.sync(&mut active.file).map_err(failed("fsync", &name))?;
            if !active.named {
                self.disk.sync_dir().map_err(failed("fsync", "the folder"))?;
                active.named = true;
            }
        }
        let number = active.number;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes += bytes.len() as u64;
        }
        self.active = Some(active);
        Ok(number)
    }

    fn drop_bad_files(&self) {
        let Ok(names) = self.disk.list() else { return };
        let mut bad: Vec<_> = names.into_iter().filter(|name| name.starts_with(BAD_PREFIX)).collect();
        bad.sort_unstable();
        let too_many = bad.len().saturating_sub(BAD_FILES_MAX);
        for name in bad.drain(..too_many) {
            if let Err(error) = self.disk.remove(&name) {
                log::warn!("outbox: cannot drop {name}: {error}");
            }
        }
    }
}

impl<'a> Put<'a> {
    fn record(&self) -> Record<'a> {
        Record { seq: self.seq, kind: Kind::Alert(self.class), payload: self.payload }
    }
}

const SEGMENT_PREFIX: &str = "segment-";
const BAD_PREFIX: &str = "bad-";

fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:020}")
}

fn bad_name(number: u64) -> String {
    format!("{BAD_PREFIX}{number:020}")
}

fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix(SEGMENT_PREFIX)?.parse().ok()
}

/// The number in the name of a segment or of a damaged one.
fn number_in(name: &str) -> Option<u64> {
    segment_number(name).or_else(|| name.strip_prefix(BAD_PREFIX)?.parse().ok())
}
