//! The one thread that writes incidents and settings: the control loop never waits for a disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use files::event_record::EventRecord;
use files::picture::Spectrogram;

use crate::control::Message;
use crate::events::EventStore;
use crate::history::Stretch;

/// Jobs that wait at the most: beyond that the disk hangs, and what cannot be written is counted.
const JOBS: usize = 16;

/// How often events that have grown too old are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// What is to be written.
pub enum Job {
    /// An incident, at its start and again at its end.
    Incident {
        /// The record.
        record: Box<EventRecord>,
        /// Sound and scores around it.
        stretch: Box<Stretch>,
        /// Rate of the sound.
        rate_hz: u32,
    },
    /// A file of the state folder, replaced as a whole.
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
        open: impl FnOnce() -> Result<EventStore, crate::events::EventError> + Send + 'static,
        out: SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(JOBS);
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || work(open(), &waiting, &out, TIDY_EVERY))?;
        Ok(Self { jobs, thread })
    }

    /// Hands in a job; false where too many wait already.
    pub fn submit(&self, job: Job) -> bool {
        !matches!(self.jobs.try_send(job), Err(TrySendError::Full(_)))
    }

    /// Writes what waits and ends.
    pub fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            log::error!("recorder: the thread panicked");
        }
    }
}

fn work(
    store: Result<EventStore, crate::events::EventError>,
    jobs: &Receiver<Job>,
    out: &SyncSender<Message>,
    tidy_every: Duration,
) {
    // The control loop may wait for this thread to end: a full channel then loses words, never the exit.
    let tell = |stored: Result<Option<PathBuf>, String>| drop(out.try_send(Message::Stored(stored)));
    let mut store = match store.and_then(|store| store.probe().map(|()| store)) {
        Ok(store) => Some(store),
        Err(error) => {
            tell(Err(error.to_string()));
            None
        }
    };
    let words = |error: crate::events::EventError| {
        if error.is_full() { format!("disk full: {error}") } else { error.to_string() }
    };
    let mut tidy_at = Instant::now() + tidy_every;
    loop {
        match jobs.recv_timeout(tidy_at.saturating_duration_since(Instant::now())) {
            Ok(Job::File { path, bytes }) => {
                let written = path
                    .parent()
                    .map_or(Ok(()), std::fs::create_dir_all)
                    .map_err(|error| format!("{}: {error}", path.display()));
                tell(
                    written
                        .and_then(|()| {
                            files::private_file::write_private(&path, &bytes).map_err(|error| error.to_string())
                        })
                        .map(|()| None),
                );
            }
            Ok(Job::Incident { record, stretch, rate_hz }) => {
                let Some(store) = &mut store else { continue };
                let picture =
                    picture(&record, &stretch).map_err(|error| log::error!("picture of {}: {error}", record.id)).ok();
                let clip = (!stretch.sound.is_empty()).then_some((&stretch.sound[..], rate_hz));
                let written = counted(store, |store| store.write(&record, picture.as_deref(), clip));
                tell(written.map(|stored| stored.picture.or(Some(stored.record))).map_err(words));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Jobs that come often must not keep old sound alive.
        if Instant::now() >= tidy_at {
            tidy_at = Instant::now() + tidy_every;
            if let Some(Err(error)) = store.as_mut().map(|store| counted(store, EventStore::tidy)) {
                tell(Err(words(error)));
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
    let scores: Vec<(f64, f32)> = record.windows.iter().map(|window| (window.t_end_s, window.score)).collect();
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

    /// The folder holds an event of long ago that came to it after the store was opened, and nothing else happens.
    #[test]
    fn a_quiet_house_loses_old_sound_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = EventStore::open(folder.path(), Retention { max_mib: 10, max_days: 30 }, true, true).unwrap();
        let (old, new) = (folder.path().join("20250301T120000Z_old.wav"), folder.path().join("notes.txt"));
        std::fs::write(&old, "sound").unwrap();
        std::fs::write(&new, "none of ours").unwrap();
        let (jobs, waiting) = sync_channel(JOBS);
        let (out, told) = sync_channel(JOBS);
        let thread = std::thread::spawn(move || work(Ok(store), &waiting, &out, Duration::from_millis(10)));
        let began = Instant::now();
        while old.exists() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(jobs);
        thread.join().unwrap();
        assert!(!old.exists() && new.exists());
        assert!(told.try_recv().is_err(), "nobody is told of what was meant to happen");
    }
}
