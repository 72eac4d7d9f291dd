//! The one thread that writes incidents, settings and the log of events: the control loop never waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use files::event_record::EventRecord;
use files::picture::{Spectrogram, WindowScore};

use crate::control::Message;
use crate::event_log::EventLog;
use crate::events::{EventError, EventStore};
use crate::history::Stretch;

/// Jobs that wait at the most: beyond that the disk hangs, and what cannot be written is counted.
const JOBS: usize = 16;

/// How often events that have grown too old are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// How often a folder that refused is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Records of incidents that are kept for a folder that refuses.
const UNKEPT_MAX: usize = 8;

/// Between two looks whether there is room, or the last is written.
const LOOK: Duration = Duration::from_millis(2);

/// What is stored; each may fail for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// Alerts that the broker has not acknowledged.
    Outbox,
    /// The same, of which some are lost for good.
    Alerts,
    /// Records, pictures, sound.
    Events,
    /// What the hub has set.
    Settings,
    /// What happened.
    Log,
    /// All of it: the disk gives no answer.
    Disk,
}

/// What is to be written.
pub enum Job {
    /// An incident, at its start, at its end and, where it is long, between.
    Incident {
        /// The record.
        record: Box<EventRecord>,
        /// Sound and scores around it.
        stretch: Box<Stretch>,
        /// Rate of the sound.
        rate_hz: u32,
    },
    /// An incident was not handed in, since too many jobs waited: how the folder is now is told, so that the fault ends.
    Missed,
    /// What happened, for the log.
    Events {
        /// In their order.
        events: Vec<hub::Event>,
        /// How many before them found no room to wait.
        lost: u64,
    },
    /// A file of the state folder, replaced as a whole. Where it cannot be, it is tried again until a newer one takes its place.
    File {
        /// Where.
        path: PathBuf,
        /// What.
        bytes: Vec<u8>,
    },
}

/// The thread's other end.
pub struct Recorder {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Recorder {
    /// Starts the thread; what it wrote, or why not, comes as [`Message::Stored`].
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        open: impl Fn() -> Result<EventStore, EventError> + Send + 'static,
        log: EventLog,
        out: SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(JOBS);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || work(&open, log, &waiting, &out, Pauses { tidy: TIDY_EVERY, retry: RETRY_EVERY }))?;
        Ok(Self { jobs, thread })
    }

    /// Hands in a job; the job again where too many wait already.
    fn offer(&self, job: Job) -> Option<Job> {
        match self.jobs.try_send(job) {
            Err(TrySendError::Full(job)) => Some(job),
            _ => None,
        }
    }

    /// Hands in a job, waiting for room in the queue until `over` says so; the job again where there was none.
    pub fn offer_until(&self, job: Job, over: impl Fn() -> bool) -> Option<Job> {
        let mut left = self.offer(job);
        while let Some(job) = left.take_if(|_| !over()) {
            std::thread::sleep(LOOK);
            left = self.offer(job);
        }
        left
    }

    /// Writes what waits and, behind it, `last`, and ends; without it once `over` says so: a disk that hangs must not hang the exit, nor keep
    /// the hub from its goodbye.
    pub fn finish(self, last: impl IntoIterator<Item = Job>, over: impl Fn() -> bool) {
        let began = Instant::now();
        for job in last {
            self.offer_until(job, &over);
        }
        drop(self.jobs);
        while !self.thread.is_finished() && !over() {
            std::thread::sleep(LOOK);
        }
        match self.thread.is_finished() {
            true if self.thread.join().is_err() => log::error!("recorder: the thread panicked"),
            true => {}
            false => log::error!(
                "recorder: the disk has not answered for {:.1} s: what was to be written is lost",
                began.elapsed().as_secs_f64()
            ),
        }
    }
}

/// Between two looks for old events, and between two tries of a folder that refused.
#[derive(Clone, Copy)]
struct Pauses {
    tidy: Duration,
    retry: Duration,
}

/// Files that could not be written, the newest of each.
#[derive(Default)]
struct Unwritten(BTreeMap<PathBuf, Vec<u8>>);

impl Unwritten {
    fn write(&mut self, path: PathBuf, bytes: Vec<u8>) -> Result<(), String> {
        self.0.remove(&path);
        write_file(&path, &bytes).inspect_err(|_| drop(self.0.insert(path, bytes)))
    }

    /// True where the last of them is written now.
    fn retry(&mut self) -> bool {
        self.0.retain(|path, bytes| write_file(path, bytes).is_err());
        self.0.is_empty()
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder.map_err(|error| format!("{}: {error}", path.display()))?;
    files::private_file::write_private(path, bytes).map_err(|error| error.to_string())
}

/// Records of incidents that the folder refused, the newest of each; their pictures and sound would be too much to keep.
#[derive(Default)]
struct Unkept(VecDeque<Box<EventRecord>>);

impl Unkept {
    /// Keeps it in place of an older one of the same incident; of too many the oldest is lost.
    fn push(&mut self, record: Box<EventRecord>) {
        self.remove(&record.id);
        if self.0.len() == UNKEPT_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            log::error!("incident {} is lost: the disk has refused {UNKEPT_MAX} after it", oldest.id);
        }
        self.0.push_back(record);
    }

    fn remove(&mut self, id: &str) {
        self.0.retain(|kept| kept.id != id);
    }

    /// Writes them until one is refused; true where none is left.
    fn retry(&mut self, events: &mut Events) -> bool {
        while let Some(record) = self.0.pop_front() {
            if events.with(|store| store.write(&record, None, None)).is_err() {
                self.0.push_front(record);
                return false;
            }
        }
        true
    }
}

/// The events' folder, which may be away at the start and come, and the other way round.
struct Events<'a> {
    open: &'a dyn Fn() -> Result<EventStore, EventError>,
    store: Option<EventStore>,
    /// It refused last.
    refused: bool,
}

impl Events<'_> {
    /// Opens it where it is not, and does something to it.
    fn with<T>(&mut self, does: impl FnOnce(&mut EventStore) -> Result<T, EventError>) -> Result<T, String> {
        let opened = match self.store.take() {
            Some(store) => Ok(store),
            None => (self.open)(),
        };
        let done = opened.and_then(|store| counted(self.store.insert(store), does));
        self.refused = done.is_err();
        done.map_err(|error| if error.is_full() { format!("disk full: {error}") } else { error.to_string() })
    }
}

fn work(
    open: &dyn Fn() -> Result<EventStore, EventError>,
    mut log: EventLog,
    jobs: &Receiver<Job>,
    out: &SyncSender<Message>,
    pauses: Pauses,
) {
    // The control loop may wait for this thread to end: a full channel then loses words, never the exit.
    let tell = |storage, stored: Result<Option<PathBuf>, String>| drop(out.try_send(Message::Stored(storage, stored)));
    let mut events = Events { open, store: None, refused: false };
    let (mut unwritten, mut unkept) = (Unwritten::default(), Unkept::default());
    // Known before the first incident; the store stays, since a full disk may have room for an event all the same.
    if let Err(cause) = events.with(|store| store.probe()) {
        tell(Storage::Events, Err(cause));
    }
    let (mut tidy_at, mut retry_at) = (Instant::now() + pauses.tidy, Instant::now() + pauses.retry);
    loop {
        let refused = events.refused || !unkept.0.is_empty() || !unwritten.0.is_empty() || log.waits();
        let look_at = if refused { retry_at.min(tidy_at) } else { tidy_at };
        match jobs.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
            Ok(Job::File { path, bytes }) => {
                let written = unwritten.write(path, bytes);
                // Another may still wait.
                if written.is_err() || unwritten.0.is_empty() {
                    tell(Storage::Settings, written.map(|()| None));
                }
            }
            Ok(Job::Incident { record, stretch, rate_hz }) => {
                let picture = (stretch.frames > 0).then(|| picture(&record, &stretch)).transpose();
                let picture = picture.unwrap_or_else(|error| {
                    log::error!("picture of {}: {error}", record.id);
                    None
                });
                let clip = (!stretch.sound.is_empty()).then_some((&stretch.sound[..], rate_hz));
                let written = events.with(|store| store.write(&record, picture.as_deref(), clip));
                match &written {
                    Ok(_) => unkept.remove(&record.id),
                    Err(_) => unkept.push(record),
                }
                tell(Storage::Events, written.map(|stored| stored.picture.or(Some(stored.record))));
            }
            Ok(Job::Events { events, lost }) => tell(Storage::Log, log.append(events, lost).map(|()| None)),
            Ok(Job::Missed) => tell(Storage::Events, events.with(|store| store.probe()).map(|_| None)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                unkept.retry(&mut events);
                return;
            }
        }
        // Jobs that come often must not keep old sound alive.
        if Instant::now() >= tidy_at {
            tidy_at = Instant::now() + pauses.tidy;
            // A card that went read-only in a quiet house is known before the scream that it could not keep.
            if let Err(cause) = events.with(|store| store.tidy().and_then(|()| store.probe())) {
                tell(Storage::Events, Err(cause));
            }
        }
        if Instant::now() >= retry_at {
            retry_at = Instant::now() + pauses.retry;
            if (events.refused || !unkept.0.is_empty())
                && events.with(|store| store.probe()).is_ok()
                && unkept.retry(&mut events)
            {
                tell(Storage::Events, Ok(None));
            }
            if !unwritten.0.is_empty() && unwritten.retry() {
                tell(Storage::Settings, Ok(None));
            }
            if log.waits() && log.retry().is_ok() {
                tell(Storage::Log, Ok(None));
            }
        }
    }
}

/// Does something to the store, and logs how many events it cost.
fn counted<T>(store: &mut EventStore, does: impl FnOnce(&mut EventStore) -> T) -> T {
    let before = store.removed();
    let done = does(store);
    if store.removed() > before {
        log::info!("{} old incident(s) removed", store.removed() - before);
    }
    done
}

fn picture(record: &EventRecord, stretch: &Stretch) -> Result<Vec<u8>, files::picture::PictureError> {
    let scores: Vec<_> = record.windows.iter().map(WindowScore::from).collect();
    Spectrogram {
        log_mel: &stretch.log_mel,
        n_mels: stretch.centres_hz.len(),
        frames: stretch.frames,
        mel_centres_hz: &stretch.centres_hz,
        t_start_s: stretch.t_start_s,
        t_end_s: stretch.t_end_s,
        scores: &scores,
        threshold_on: record.threshold_on,
        alarm_t_s: Some(record.start.t_s),
        title: &format!("{} {}", record.zone, record.t_utc),
    }
    .to_png()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::events::Retention;

    /// A folder that not even root can make.
    const NOWHERE: &str = "/dev/null/nowhere";

    /// The thread over a folder that `open` opens: where its jobs go, what it tells, and itself.
    fn started(
        open: impl Fn() -> Result<EventStore, EventError> + Send + 'static,
        pauses: Pauses,
    ) -> (SyncSender<Job>, Receiver<Message>, JoinHandle<()>) {
        let (jobs, waiting) = sync_channel(JOBS);
        let (out, told) = sync_channel(JOBS);
        let log = EventLog::new(Path::new(NOWHERE));
        (jobs, told, std::thread::spawn(move || work(&open, log, &waiting, &out, pauses)))
    }

    fn store(dir: &Path) -> Result<EventStore, EventError> {
        EventStore::open(dir, Retention { max_mib: 10, max_days: 30 }, true, true)
    }

    /// A network folder that gives no answer, when somebody ends the program.
    #[test]
    fn a_disk_that_hangs_does_not_hang_the_exit() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let hangs = std::sync::Mutex::new(hangs);
        let open = move || {
            let _released = hangs.lock().unwrap().recv();
            store(Path::new(NOWHERE))
        };
        let (out, _told) = sync_channel(JOBS);
        let recorder = Recorder::start(open, EventLog::new(Path::new(NOWHERE)), out).unwrap();
        let began = Instant::now();
        recorder.finish((0..2 * JOBS).map(|_| Job::Missed), || began.elapsed() >= Duration::from_millis(100));
        assert!((100..30_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        drop(release);
    }

    /// The folder holds an event of long ago that came to it after the store was opened, and nothing else happens.
    #[test]
    fn a_quiet_house_loses_old_sound_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let open = move || store(&dir).and_then(EventStore::with_proven_clock);
        let (old, new) = (folder.path().join("20250301T120000Z_old.wav"), folder.path().join("notes.txt"));
        std::fs::write(&new, "none of ours").unwrap();
        let pauses = Pauses { tidy: Duration::from_millis(10), retry: RETRY_EVERY };
        let (jobs, told, thread) = started(open, pauses);
        std::fs::write(&old, "sound").unwrap();
        let began = Instant::now();
        while old.exists() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(jobs);
        thread.join().unwrap();
        assert!(!old.exists() && new.exists());
        assert!(told.try_recv().is_err(), "nobody is told of what was meant to happen");
    }

    /// The disk is full when somebody arms, and nobody sets anything afterwards.
    #[test]
    fn settings_that_could_not_be_written_are_written_once_they_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let (place, events) = (folder.path().join("place"), folder.path().join("events"));
        std::fs::write(&place, "no folder").unwrap();
        let settings = place.join("settings.json");
        let pauses = Pauses { tidy: TIDY_EVERY, retry: Duration::from_millis(10) };
        let (jobs, told, thread) = started(move || store(&events), pauses);
        for bytes in [b"old", b"new"] {
            jobs.send(Job::File { path: settings.clone(), bytes: bytes.to_vec() }).unwrap();
            assert_eq!(next(&told), (Storage::Settings, false));
        }
        std::fs::remove_file(&place).unwrap();
        assert_eq!(next(&told), (Storage::Settings, true));
        assert_eq!(std::fs::read(&settings).unwrap(), b"new");
        jobs.send(Job::Missed).unwrap();
        assert_eq!(next(&told), (Storage::Events, true));
        drop(jobs);
        thread.join().unwrap();
    }

    fn incident(id: &str) -> Job {
        let record = crate::events::tests::record(id, "2026-11-28T12:00:00Z");
        Job::Incident { record: Box::new(record), stretch: Box::default(), rate_hz: 16_000 }
    }

    #[test]
    fn of_too_many_incidents_that_were_refused_the_latest_are_kept() {
        let mut unkept = Unkept::default();
        let record = |id: &str| Box::new(crate::events::tests::record(id, "2026-11-28T12:00:00Z"));
        (0..=UNKEPT_MAX).for_each(|n| unkept.push(record(&n.to_string())));
        unkept.push(record("5"));
        let ids: Vec<_> = unkept.0.iter().map(|kept| kept.id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "3", "4", "6", "7", "8", "5"], "each once, the latest last");
    }

    /// What the thread has told next, without its words.
    fn next(told: &Receiver<Message>) -> (Storage, bool) {
        match told.recv_timeout(Duration::from_secs(20)) {
            Ok(Message::Stored(storage, stored)) => (storage, stored.is_ok()),
            _ => panic!("nothing was told"),
        }
    }

    /// The folder cannot be made, then it can; settings that are written meanwhile are no sign of it.
    #[test]
    fn a_folder_that_was_away_at_the_start_is_used_once_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (place, settings) = (folder.path().join("place"), folder.path().join("settings.json"));
        std::fs::write(&place, "no folder").unwrap();
        let dir = place.join("events");
        let pauses = Pauses { tidy: TIDY_EVERY, retry: Duration::from_millis(10) };
        let opened = dir.clone();
        let (jobs, told, thread) = started(move || store(&opened), pauses);
        assert_eq!(next(&told), (Storage::Events, false));
        jobs.send(Job::File { path: settings, bytes: b"{}".to_vec() }).unwrap();
        assert_eq!(next(&told), (Storage::Settings, true));
        jobs.send(incident("refused")).unwrap();
        assert_eq!(next(&told), (Storage::Events, false), "it is said of each incident");
        std::fs::remove_file(&place).unwrap();
        assert_eq!(next(&told), (Storage::Events, true), "nobody has to scream for it to be seen");
        jobs.send(incident("kept")).unwrap();
        assert_eq!(next(&told), (Storage::Events, true));
        drop(jobs);
        thread.join().unwrap();
        let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        for id in ["refused", "kept"] {
            let record = format!("_{id}.json");
            assert!(names.iter().any(|name| name.to_string_lossy().ends_with(&record)), "{id} in {names:?}");
        }
    }
}
