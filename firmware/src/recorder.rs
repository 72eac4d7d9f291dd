//! The one thread that writes incidents and settings: the control loop never waits for a disk.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use files::event_record::EventRecord;
use files::picture::Spectrogram;

use crate::control::Message;
use crate::events::EventStore;
use crate::history::Stretch;

/// Jobs that wait at the most: beyond that the disk hangs, and what cannot be written is counted.
const JOBS: usize = 16;

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
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || work(open(), &waiting, &out))?;
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

fn work(store: Result<EventStore, crate::events::EventError>, jobs: &Receiver<Job>, out: &SyncSender<Message>) {
    // The control loop may wait for this thread to end: a full channel then loses words, never the exit.
    let tell = |stored: Result<Option<PathBuf>, String>| drop(out.try_send(Message::Stored(stored)));
    let mut store = match store.and_then(|store| store.probe().map(|()| store)) {
        Ok(store) => Some(store),
        Err(error) => {
            tell(Err(error.to_string()));
            None
        }
    };
    while let Ok(job) = jobs.recv() {
        match job {
            Job::File { path, bytes } => {
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
            Job::Incident { record, stretch, rate_hz } => {
                let Some(store) = &mut store else { continue };
                let picture =
                    picture(&record, &stretch).map_err(|error| log::error!("picture of {}: {error}", record.id)).ok();
                let clip = (!stretch.sound.is_empty()).then_some((&stretch.sound[..], rate_hz));
                let removed = store.removed();
                let written = store.write(&record, picture.as_deref(), clip);
                if store.removed() > removed {
                    log::info!("{} old incident(s) made room", store.removed() - removed);
                }
                let words = |error: crate::events::EventError| {
                    if error.is_full() { format!("disk full: {error}") } else { error.to_string() }
                };
                tell(written.map(|stored| stored.picture.or(Some(stored.record))).map_err(words));
            }
        }
    }
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
