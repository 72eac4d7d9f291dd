//! A disk that may take its time. A flash card can think for seconds about an fsync, just when an alert is written: whoever waits for it
//! neither sends that alert nor hears that somebody silences the siren. So a thread of its own asks the disk, and the caller waits for its
//! answer for a moment alone; after that the call has failed, as any other may, and so does each that comes before the disk has answered.
//! What it does late is as if a power cut had left it there: the outbox reads it at the next start, and takes each alert once.
//!
//! Reading is waited for: it happens at the start, and a file that was not read must not be taken for a damaged one.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::disk::Disk;

type Job = Box<dyn FnOnce() + Send>;

/// Bytes of the thread's stack: a call or two of the system.
const STACK: usize = 256 * 1024;

/// The thread, and whether the disk has still to answer it.
#[derive(Debug)]
struct Worker {
    jobs: SyncSender<Job>,
    busy: Arc<AtomicBool>,
}

/// How long an answer is waited for. A disk that is always slower than that would never keep anything: each time that it was not long enough
/// it is twice as long, up to [`GROWTH_MAX`] times, and half as long after each answer that needed no more than the first.
#[derive(Debug)]
struct Patience {
    first: Duration,
    times: AtomicU32,
}

/// See [`Patience`].
const GROWTH_MAX: u32 = 4;

impl Patience {
    fn new(first: Duration) -> Self {
        Self { first, times: AtomicU32::new(1) }
    }

    fn now(&self) -> Duration {
        self.first * self.times.load(SeqCst)
    }

    fn answered(&self, after: Duration) {
        if after < self.first {
            self.times.store((self.times.load(SeqCst) / 2).max(1), SeqCst);
        }
    }

    fn grow(&self) {
        self.times.store((self.times.load(SeqCst) * 2).min(GROWTH_MAX), SeqCst);
    }
}

/// A disk whose answers are waited for no longer than a moment.
#[derive(Debug)]
pub struct Patient<D> {
    disk: Arc<RwLock<D>>,
    patience: Patience,
    /// None where no thread can be started: then they are waited for.
    worker: Option<Worker>,
}

impl<D: Disk + Send + Sync + 'static> Patient<D> {
    /// `disk`, each of whose changes is waited for as long as `patience`.
    pub fn new(disk: D, patience: Duration) -> Self {
        let (jobs, inbox) = sync_channel::<Job>(1);
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .stack_size(STACK)
            .spawn(move || inbox.iter().for_each(|job| job()));
        let worker = match thread {
            Ok(_) => Some(Worker { jobs, busy: Arc::default() }),
            Err(error) => {
                log::warn!("outbox: no thread for the disk: {error}; a slow one holds the hub");
                None
            }
        };
        Self { disk: Arc::new(RwLock::new(disk)), patience: Patience::new(patience), worker }
    }

    fn ask<T: Send + 'static>(&self, does: impl FnOnce(&D) -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let disk = Arc::clone(&self.disk);
        let does = move || does(&disk.read().unwrap_or_else(PoisonError::into_inner));
        let Some(worker) = &self.worker else { return does() };
        if worker.busy.swap(true, SeqCst) {
            return Err(no_answer());
        }
        let (answer, answers) = sync_channel(1);
        let busy = Arc::clone(&worker.busy);
        let job = Box::new(move || {
            let done = does();
            busy.store(false, SeqCst);
            // Who asked may have gone on.
            let _ = answer.try_send(done);
        });
        // It has room: the one before it has been answered.
        worker.jobs.send(job).map_err(|_| io::Error::other("the disk's thread has ended"))?;
        let began = Instant::now();
        match answers.recv_timeout(self.patience.now()) {
            Ok(done) => {
                self.patience.answered(began.elapsed());
                done
            }
            Err(RecvTimeoutError::Timeout) => {
                self.patience.grow();
                Err(no_answer())
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the disk's thread has ended")),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk gives no answer")
}

impl<D: Disk + Send + Sync + 'static> Disk for Patient<D>
where
    D::File: Send,
{
    type File = Arc<Mutex<D::File>>;

    fn prepare(&mut self) -> io::Result<()> {
        self.disk.write().unwrap_or_else(PoisonError::into_inner).prepare()
    }

    fn ready(&self) -> io::Result<()> {
        match &self.worker {
            Some(worker) if worker.busy.load(SeqCst) => Err(no_answer()),
            _ => Ok(()),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).read(name)
    }

    fn create(&self, name: &str) -> io::Result<Self::File> {
        let name = name.to_owned();
        self.ask(move |disk| disk.create(&name)).map(|file| Arc::new(Mutex::new(file)))
    }

    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()> {
        let (file, bytes) = (Arc::clone(file), bytes.to_vec());
        self.ask(move |disk| disk.write(&mut file.lock().unwrap_or_else(PoisonError::into_inner), &bytes))
    }

    fn sync(&self, file: &mut Self::File) -> io::Result<()> {
        let file = Arc::clone(file);
        self.ask(move |disk| disk.sync(&mut file.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn sync_named(&self, name: &str) -> io::Result<()> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).sync_named(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.ask(move |disk| disk.rename(&from, &to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.ask(move |disk| disk.remove(&name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.ask(|disk| disk.sync_dir())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::disk::Folder;
    use super::super::{Alert, Bounds, Change, Outbox};
    use super::*;
    use crate::alert::Class;
    use crate::limits::{DISK_SLOW, STORAGE_RETRY_MIN};
    use std::sync::mpsc::{Receiver, channel};

    /// A real folder whose next fsync, once it is told to hang, waits for a word.
    #[derive(Debug)]
    struct Hanging {
        folder: Folder,
        hangs: Arc<AtomicBool>,
        word: Mutex<Receiver<()>>,
    }

    impl Disk for Hanging {
        type File = std::fs::File;

        fn prepare(&mut self) -> io::Result<()> {
            self.folder.prepare()
        }
        fn list(&self) -> io::Result<Vec<String>> {
            self.folder.list()
        }
        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.folder.read(name)
        }
        fn create(&self, name: &str) -> io::Result<Self::File> {
            self.folder.create(name)
        }
        fn write(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()> {
            self.folder.write(file, bytes)
        }
        fn sync(&self, file: &mut Self::File) -> io::Result<()> {
            if self.hangs.swap(false, SeqCst) {
                let _ = self.word.lock().unwrap().recv();
            }
            self.folder.sync(file)
        }
        fn sync_named(&self, name: &str) -> io::Result<()> {
            self.folder.sync_named(name)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.folder.rename(from, to)
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.folder.remove(name)
        }
        fn sync_dir(&self) -> io::Result<()> {
            self.folder.sync_dir()
        }
    }

    fn alert(id: u64, now: Instant) -> Alert {
        Alert { class: Class::Alarm, payload: format!("{{\"id\":\"{id}\"}}").into_bytes(), since: now }
    }

    /// The folder, once the thread that was asked last has let go of it.
    fn opened(folder: impl Fn() -> Folder, now: Instant) -> Outbox<Folder> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut outbox = Outbox::open(folder(), Bounds::default(), now);
            if outbox.changes().count() == 0 {
                return outbox;
            }
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The disk has kept the alert after all, the program ends before it has asked again, and the broker was never there.
    #[test]
    fn what_the_disk_kept_late_outlives_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || Folder::new(dir.path().join("outbox"));
        let (answer, word) = channel();
        let hangs = Arc::new(AtomicBool::new(true));
        let disk = Hanging { folder: folder(), hangs: Arc::clone(&hangs), word: Mutex::new(word) };
        let now = Instant::now();
        let mut outbox = Outbox::open(Patient::new(disk, Duration::from_millis(500)), Bounds::default(), now);
        outbox.append([alert(1, now)], now);
        answer.send(()).unwrap();
        while outbox.store_is_busy() {
            std::thread::sleep(Duration::from_millis(5));
        }
        outbox.close(now);
        drop(outbox);
        assert_eq!(opened(folder, now).len(), 1);
    }

    #[test]
    fn a_disk_that_is_always_slow_is_waited_for_longer() {
        let patience = Patience::new(Duration::from_secs(2));
        (0..5).for_each(|_| patience.grow());
        assert_eq!(patience.now(), Duration::from_secs(8));
        patience.answered(Duration::from_secs(3));
        assert_eq!(patience.now(), Duration::from_secs(8), "it still needs it");
        (0..5).for_each(|_| patience.answered(Duration::from_millis(20)));
        assert_eq!(patience.now(), Duration::from_secs(2), "it was a moment's");
    }

    #[test]
    fn an_alert_goes_out_while_the_disk_thinks_and_is_kept_once_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let folder = || Folder::new(dir.path().join("outbox"));
        let (answer, word) = channel();
        let hangs = Arc::new(AtomicBool::new(false));
        let disk = Hanging { folder: folder(), hangs: Arc::clone(&hangs), word: Mutex::new(word) };
        let start = Instant::now();
        let mut outbox = Outbox::open(Patient::new(disk, Duration::from_millis(500)), Bounds::default(), start);
        outbox.append([alert(1, start)], start);
        hangs.store(true, SeqCst);
        for id in 2..=3 {
            let began = Instant::now();
            outbox.append([alert(id, start)], start);
            assert!(began.elapsed() < Duration::from_secs(10), "{id}: {:?}", began.elapsed());
        }
        let offered: Vec<_> =
            std::iter::from_fn(|| outbox.offer(start).map(|offer| (offer.key, offer.payload.to_vec()))).collect();
        assert_eq!(offered.len(), 3);
        outbox.ack(offered[1].0, start);
        assert_eq!(outbox.changes().count(), 0, "a moment is no fault");
        let late = start + DISK_SLOW;
        // The first try after the time is over tells; before it nothing is asked of a disk that has not answered.
        outbox.tick(late - STORAGE_RETRY_MIN);
        assert_eq!(outbox.changes().count(), 0);
        outbox.tick(late);
        assert!(
            matches!(&outbox.changes().collect::<Vec<_>>()[..], [Change::Failed { cause }] if cause.contains("no answer"))
        );
        answer.send(()).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let (mut now, mut changes) = (late, Vec::new());
        while changes.is_empty() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
            now += Duration::from_secs(60);
            outbox.tick(now);
            changes = outbox.changes().collect();
        }
        assert_eq!(changes, [Change::Restored]);
        outbox.close(now);
        drop(outbox);
        let mut again = opened(folder, now);
        let kept: Vec<_> = std::iter::from_fn(|| again.offer(now).map(|offer| offer.payload.to_vec())).collect();
        let left: Vec<_> = [0, 2].map(|n| offered[n].1.clone()).into();
        assert_eq!(kept, left, "each once, what was acknowledged not at all");
    }
}
