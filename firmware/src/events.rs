//! The events on disk: a record, a picture and, where the site file says so, the sound of every incident.
//!
//! An *event* is all files of one incident: `<start, UTC>_<id>.json`, `.png`, `.wav` (its *stem* is the part before the
//! dot). *Retention* removes whole events, oldest first, until the folder is within its size and no event is past its
//! age. Files that are no events are neither counted nor touched.
//!
//! A clock that was not set yet must not cost evidence: a stamp of 1970 would be past any age as soon as the right
//! time arrives. An event is as old as its name says; where that is not to be believed, as old as its file; and where
//! neither is, it is new when it is first seen under a clock that runs true. A clock that leaps must not cost any either
//! ([`Pace`]): while it is not believed, nothing goes for its age and no file is given a time.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use files::event_record::{self, EventRecord};
use files::private_file::{self, PrivateFile, WriteError, write_private};
use files::wav;
use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::pace::Pace;

/// What went wrong with the events folder: the path, the step and the cause. Every one of them is a reason for the
/// fault `StorageFull`; the alarm itself never depends on it.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The id would not be safe in a file name.
    #[error("{id:?} is no incident id: it takes 1 to {} of A-Z a-z 0-9 _ -", event_record::ID_CHARS_MAX)]
    BadId {
        /// The id, cut to a readable length.
        id: String,
    },
    /// The start's wall time cannot be read.
    #[error("{t_utc:?} is no time of RFC 3339: {source}")]
    BadTime {
        /// The text.
        t_utc: String,
        /// What is wrong with it.
        source: jiff::Error,
    },
    /// A step on the folder or on a file in it failed.
    #[error("{}: cannot {step}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The step, as a verb.
        step: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The record alone is larger than all events together may be.
    #[error("{}: the record takes {bytes} bytes, all events together may take {bytes_max}", path.display())]
    TooLarge {
        /// Where it would have stood.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// The record cannot be written as JSON.
    #[error("event {id}: {source}")]
    Encode {
        /// The incident.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl EventError {
    /// True where the disk, its inodes or the user's share of it are used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Write(error) => error.is_full(),
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::TooLarge { .. } => true,
            _ => false,
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Size of all events together, MiB.
    pub max_mib: u64,
    /// Age of the oldest event, days.
    pub max_days: u64,
}

/// What [`EventStore::write`] left on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The record.
    pub record: PathBuf,
    /// The picture, from this write or an earlier one.
    pub picture: Option<PathBuf>,
    /// The sound, from this write or an earlier one.
    pub clip: Option<PathBuf>,
}

/// The events folder.
#[derive(Debug)]
pub struct EventStore {
    dir: PathBuf,
    retention: Retention,
    pictures: bool,
    clips: bool,
    removed: u64,
    pace: Pace,
    /// Another process keeps this folder: nothing in it goes for what is put beside it.
    beside: bool,
}

/// Events given up for one file on a full disk. Where the events are what fills it, a few are enough; where something
/// else does, the history must not go for one incident.
const REMOVED_FOR_ROOM_MAX: usize = 16;
const EXTENSIONS: [&str; 3] = ["json", "png", "wav"];

impl EventStore {
    /// Opens `dir` (made with mode 0700 where it is missing), sweeps what a killed process was writing, and applies
    /// `retention`. Without `pictures` or `clips` the store keeps none, whatever it is handed.
    ///
    /// # Errors
    /// Where the folder can neither be made nor read, or what has to go cannot be removed.
    pub fn open(dir: &Path, retention: Retention, pictures: bool, clips: bool) -> Result<Self, EventError> {
        let mut store = Self::new(dir, retention, pictures, clips, false);
        store.make_folder()?;
        store.sweep()?;
        store.tidy()?;
        Ok(store)
    }

    /// As [`Self::open`], beside another process that keeps this folder: events are added, and nothing is swept, aged or removed.
    ///
    /// # Errors
    /// Where the folder can neither be made nor read.
    pub fn open_beside(dir: &Path, retention: Retention, pictures: bool, clips: bool) -> Result<Self, EventError> {
        let store = Self::new(dir, retention, pictures, clips, true);
        store.make_folder()?;
        Ok(store)
    }

    fn new(dir: &Path, retention: Retention, pictures: bool, clips: bool, beside: bool) -> Self {
        let pace = Pace::new(Instant::now(), Timestamp::now());
        Self { dir: dir.to_owned(), retention, pictures, clips, removed: 0, pace, beside }
    }

    /// Believes the clock from the start, and applies what that allows.
    ///
    /// # Errors
    /// As [`Self::tidy`].
    pub fn with_proven_clock(mut self) -> Result<Self, EventError> {
        self.pace = Pace::proven(Instant::now(), Timestamp::now());
        self.tidy()?;
        Ok(self)
    }

    /// Applies retention: a quiet house has no incident by which old sound would go.
    ///
    /// # Errors
    /// Where the folder cannot be read, or what has to go cannot be removed.
    pub fn tidy(&mut self) -> Result<(), EventError> {
        self.retain(Timestamp::now(), None)
    }

    /// Tells whether a file can be written now, so that a full or read-only disk is known before the first incident.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn probe(&self) -> Result<(), EventError> {
        self.make_folder()?;
        let path = self.dir.join("probe");
        let mut file = PrivateFile::create(&path)?;
        file.write_all(&[0]).map_err(|source| io_error(&path, "write it", source))?;
        // Some disks say what is wrong with them here alone.
        Ok(file.sync()?)
    }

    /// Events removed by retention or for room since the store was opened.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Writes an incident, or writes it again once more is known (same `id` and `t_utc`). `picture` is a PNG, `clip`
    /// is sound of -1..1 and its rate in hertz, kept as 16-bit WAV; `None` leaves what an earlier write stored.
    /// The record's `picture` and `clip` are set to what really stands on disk.
    ///
    /// On a full disk the oldest events make room. A picture that cannot be stored does not cost the record: that is
    /// written all the same, without it, and the error comes back. Where the event alone is larger than the cap,
    /// its sound and then its picture are left out.
    ///
    /// # Errors
    /// Where the id or the time cannot be part of a file name, the record alone is over the cap, or the disk refuses.
    pub fn write(
        &mut self,
        record: &EventRecord,
        picture: Option<&[u8]>,
        clip: Option<(&[f32], u32)>,
    ) -> Result<Stored, EventError> {
        let stem = stem(record)?;
        self.make_folder()?;
        let picture = picture.filter(|_| self.pictures);
        let clip = clip.filter(|_| self.clips).map(|(samples, rate_hz)| wav::bytes(samples, rate_hz));
        let room = self.retention.max_mib.saturating_mul(1 << 20);
        let room = room.saturating_sub(self.encode(record, &stem)?.len() as u64);
        // The picture tells more for its size than the sound, so it chooses first.
        let (picture, room) = self.attach(&stem, "png", picture, room);
        let (clip, _) = self.attach(&stem, "wav", clip.as_deref(), room);

        let mut named = record.clone();
        (named.picture, named.clip) = (self.present(&stem, "png"), self.present(&stem, "wav"));
        let path = self.path(&stem, "json");
        let bytes = self.encode(&named, &stem)?;
        self.write_making_room(&path, &bytes, &stem)?;
        picture.and(clip)?;
        self.retain(Timestamp::now(), Some(&stem))?;
        let full = |name: Option<String>| name.map(|name| self.dir.join(name));
        Ok(Stored { record: path, picture: full(named.picture), clip: full(named.clip) })
    }

    /// Stores a file beside the record if `room` bytes take it, and says how many are left. A file of an earlier
    /// write counts too, and goes where the room is too small for it.
    fn attach(&mut self, stem: &str, ending: &str, bytes: Option<&[u8]>, room: u64) -> (Result<(), EventError>, u64) {
        let path = self.path(stem, ending);
        let size = match bytes {
            Some(bytes) => bytes.len() as u64,
            None => fs::symlink_metadata(&path).map_or(0, |m| m.len()),
        };
        if size > room {
            log::warn!("{}: left out, its {size} bytes alone would be over [events] max_mib", path.display());
            return (remove(&path), room);
        }
        let stored = bytes.map_or(Ok(()), |bytes| self.write_making_room(&path, bytes, stem));
        (stored, room - size)
    }

    fn write_making_room(&mut self, path: &Path, bytes: &[u8], stem: &str) -> Result<(), EventError> {
        let full = match write_private(path, bytes) {
            Err(error) if error.is_full() && !self.beside => error,
            result => return Ok(result?),
        };
        let mut others = self.scan(Timestamp::now(), false)?;
        others.retain(|event| event.stem != stem);
        others.truncate(REMOVED_FOR_ROOM_MAX);
        // What would not fit even then must not cost the history.
        let free = rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let gain: u64 = others.iter().map(|event| event.bytes).sum();
        if free.saturating_add(gain) < bytes.len() as u64 {
            return Err(full.into());
        }
        for oldest in others {
            self.remove_event(&oldest)?;
            match write_private(path, bytes) {
                Err(error) if error.is_full() => {}
                result => return Ok(result?),
            }
        }
        Err(full.into())
    }

    fn encode(&self, record: &EventRecord, stem: &str) -> Result<Vec<u8>, EventError> {
        let bytes =
            serde_json::to_vec(record).map_err(|source| EventError::Encode { id: record.id.clone(), source })?;
        let bytes_max = self.retention.max_mib.saturating_mul(1 << 20).min(event_record::RECORD_BYTES_MAX);
        if bytes.len() as u64 > bytes_max {
            return Err(EventError::TooLarge { path: self.path(stem, "json"), bytes: bytes.len() as u64, bytes_max });
        }
        Ok(bytes)
    }

    fn path(&self, stem: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{stem}.{ending}"))
    }

    /// The name of an event's file, if it stands on disk.
    fn present(&self, stem: &str, ending: &str) -> Option<String> {
        self.path(stem, ending).is_file().then(|| format!("{stem}.{ending}"))
    }

    fn make_folder(&self) -> Result<(), EventError> {
        if self.dir.is_dir() {
            return Ok(());
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        // Of a folder without another in front of it that is an empty path.
        let above = self.dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let given = made.and_then(|()| private_file::give(&File::open(&self.dir)?, above));
        given.map_err(|source| io_error(&self.dir, "make the events folder", source))
    }

    /// Removes what a killed process left half written.
    fn sweep(&self) -> Result<(), EventError> {
        for name in self.names()? {
            let mut inner = name.trim_start_matches('.').splitn(3, '.');
            let event = inner.next().zip(inner.next()).and_then(|(stem, end)| parse(stem, end));
            if private_file::is_leftover(&name) && event.is_some() {
                remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes events past their age, then the oldest ones until all are within the size; never `keep`.
    fn retain(&mut self, now: Timestamp, keep: Option<&str>) -> Result<(), EventError> {
        if self.beside {
            return Ok(());
        }
        let ages_count = self.pace.is_true(Instant::now(), now) && is_believable(now, now);
        let bytes_max = self.retention.max_mib.saturating_mul(1 << 20);
        let age_s_max = i64::try_from(self.retention.max_days).unwrap_or(i64::MAX).saturating_mul(86_400);
        let events = self.scan(now, ages_count)?;
        let mut bytes: u64 = events.iter().map(|event| event.bytes).sum();
        for event in events.iter().filter(|event| keep != Some(event.stem.as_str())) {
            let age = now.duration_since(event.born);
            if bytes > bytes_max || (ages_count && age.as_secs() > age_s_max) {
                self.remove_event(event)?;
                bytes -= event.bytes;
            }
        }
        Ok(())
    }

    /// All events, oldest first. Where `now` is the true time, those whose age nobody knows are new from now on.
    fn scan(&self, now: Timestamp, is_true: bool) -> Result<Vec<Event>, EventError> {
        let mut events = BTreeMap::<String, Event>::new();
        for name in self.names()? {
            let Some((stem, stamp)) = name.split_once('.').and_then(|(stem, end)| parse(stem, end)) else { continue };
            let path = self.dir.join(&name);
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(io_error(&path, "read it", source)),
            };
            let born = born(&metadata, stamp, now).unwrap_or_else(|| {
                if is_true {
                    begin_to_age(&path, now);
                }
                now
            });
            let event = events.entry(stem.to_owned()).or_insert_with(|| Event {
                stem: stem.to_owned(),
                born,
                bytes: 0,
                files: Vec::with_capacity(EXTENSIONS.len()),
            });
            event.born = event.born.min(born);
            // A small file takes a whole block: what the disk loses is what counts.
            event.bytes += metadata.len().max(metadata.blocks() * 512);
            event.files.push(path);
        }
        let mut events: Vec<_> = events.into_values().collect();
        // The sort is stable: of the same age, the name decides.
        events.sort_by_key(|event| event.born);
        Ok(events)
    }

    fn names(&self) -> Result<Vec<String>, EventError> {
        let fail = |source| io_error(&self.dir, "list the events folder", source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            // A name that is no text is none of ours.
            names.extend(entry.map_err(fail)?.file_name().into_string());
        }
        Ok(names)
    }

    fn remove_event(&mut self, event: &Event) -> Result<(), EventError> {
        log::info!("event {} is removed", event.stem);
        event.files.iter().try_for_each(|path| remove(path))?;
        self.removed += 1;
        Ok(())
    }
}

/// One event on disk.
struct Event {
    stem: String,
    born: Timestamp,
    bytes: u64,
    files: Vec<PathBuf>,
}

/// `<start, UTC>_<id>`, checked so that it stays one name in the folder.
fn stem(record: &EventRecord) -> Result<String, EventError> {
    if !event_record::is_id(&record.id) {
        return Err(EventError::BadId { id: record.id.chars().take(80).collect() });
    }
    let t_utc = &record.t_utc;
    let bad_time = |source| EventError::BadTime { t_utc: t_utc.chars().take(80).collect(), source };
    let time: Timestamp = t_utc.parse().map_err(bad_time)?;
    Ok(format!("{}_{}", time.strftime("%Y%m%dT%H%M%SZ"), record.id))
}

/// The stem and its time, of a name that [`stem`] could have made.
fn parse<'a>(stem: &'a str, ending: &str) -> Option<(&'a str, Timestamp)> {
    let (time, id) = stem.split_once('_')?;
    let digits = |range| time.get(range).is_some_and(|part: &str| part.bytes().all(|b| b.is_ascii_digit()));
    if time.len() != 16 || !digits(0..8) || !digits(9..15) || !event_record::is_id(id) || !EXTENSIONS.contains(&ending)
    {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
    Some((stem, jiff::tz::TimeZone::UTC.to_timestamp(time).ok()?))
}

/// When an event's file came to be, if that can be told. The name goes first: a file's own time is that of any clock that
/// touched it.
fn born(metadata: &fs::Metadata, stamp: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
    [Some(stamp), modified].into_iter().flatten().find(|time| is_believable(*time, now))
}

/// Gives a file the time `now`, which [`born`] then finds. Failing costs only this: the file stays new until it can be done.
fn begin_to_age(path: &Path, now: Timestamp) {
    if let Ok(now) = SystemTime::try_from(now) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(now));
    }
}

/// True for a time that a set clock can have shown up to `now`, with a day for a clock that was put back.
fn is_believable(time: Timestamp, now: Timestamp) -> bool {
    clock::shows_set(time) && time.duration_since(now) <= SignedDuration::from_hours(24)
}

fn remove(path: &Path) -> Result<(), EventError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error(path, "remove it", source)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, step: &'static str, source: io::Error) -> EventError {
    EventError::Io { path: path.to_owned(), step, source }
}

#[cfg(test)]
pub(crate) mod tests;
