//! The supervisor: tells the service manager that the device is up, and then, ten times in each watchdog interval, that every
//! stage makes progress. A stage that stands still starves the watchdog, and soon triggers it: the manager starts a whole new process, without
//! waiting for the interval to pass once more.
//!
//! Terms: a *stage* is a thread of its own on the way from sound to siren and hub; its *beats* are a number that grows
//! while it works or waits for work; its *patience* is how long the number may rest.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::notify::{self, Notify};

/// The hub's stage waits for the disk, and a flash card may take its time. Half a minute is no card's any more.
pub const DISK_PATIENCE: Duration = Duration::from_secs(30);

/// Looks in a watchdog interval.
const LOOKS: u32 = 10;
/// Looks in a row that found a stage late before the watchdog is triggered: a process that stood still as a whole, and goes on, gets them too.
const TRIGGER: u32 = 3;

/// A stage that is watched.
pub struct Stage {
    /// For the log.
    pub name: &'static str,
    /// Its beats.
    pub beats: Box<dyn Fn() -> u64 + Send>,
    /// How long they may rest; half the watchdog's interval where that is longer.
    pub patience: Duration,
}

/// The manager's ear, and the thread that feeds its watchdog.
pub struct Supervisor {
    notify: Option<Arc<Notify>>,
    /// Dropped, the thread ends.
    thread: Option<SyncSender<()>>,
}

impl Supervisor {
    /// Says `READY=1` and watches `stages` from now on, where a manager asks for it. Before it starves the watchdog it calls
    /// `starves` with the stage that stands still, again and again while it does: a process that hangs in the kernel keeps
    /// its lines driven even once it has been killed. It calls it once more, with none, where that stage makes progress after all.
    pub fn start(stages: Vec<Stage>, starves: impl Fn(Option<&str>) + Send + 'static) -> Self {
        Self::with(Notify::from_env(), notify::watchdog(), stages, starves)
    }

    fn with(
        notify: Option<Notify>,
        interval: Option<Duration>,
        stages: Vec<Stage>,
        starves: impl Fn(Option<&str>) + Send + 'static,
    ) -> Self {
        let notify = notify.map(Arc::new);
        let mut supervisor = Self { notify, thread: None };
        let Some(notify) = &supervisor.notify else { return supervisor };
        notify.say("READY=1");
        let Some(interval) = interval else { return supervisor };
        let (stop, stopped) = sync_channel(0);
        let mut watch = Watch::new(stages, interval / 2);
        let (began, ear) = (Instant::now(), Arc::clone(notify));
        let started = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
            let mut given_up = false;
            while stopped.recv_timeout(interval / LOOKS) == Err(RecvTimeoutError::Timeout) {
                let stood = watch.late;
                if watch.all_well(began.elapsed()) {
                    ear.say("WATCHDOG=1");
                }
                if stood.is_some() || watch.late.is_some() {
                    starves(watch.late);
                }
                // Lines are safe and the cause is kept by now. systemd since 243 knows the word; before that its own time has to pass.
                if watch.late_looks > TRIGGER && !given_up {
                    given_up = ear.say("WATCHDOG=trigger");
                }
            }
        });
        match started {
            Ok(_) => supervisor.thread = Some(stop),
            // The watchdog starves and the manager starts again: the one honest answer.
            Err(error) => log::error!("supervisor: no thread: {error}"),
        }
        supervisor
    }

    /// Says `STOPPING=1`: from now on nobody is expected to progress.
    pub fn stop(&mut self) {
        self.thread = None;
        if let Some(notify) = self.notify.take() {
            notify.say("STOPPING=1");
        }
    }
}

/// Whose beats have changed, and when.
struct Watch {
    stages: Vec<(Stage, u64, Duration)>,
    patience_min: Duration,
    late: Option<&'static str>,
    /// Looks in a row that found one late.
    late_looks: u32,
}

impl Watch {
    fn new(stages: Vec<Stage>, patience_min: Duration) -> Self {
        let stages = stages.into_iter().map(|stage| {
            let beats = (stage.beats)();
            (stage, beats, Duration::ZERO)
        });
        Self { stages: stages.collect(), patience_min, late: None, late_looks: 0 }
    }

    /// Whether every stage has progressed within its patience, at `now` since the start.
    fn all_well(&mut self, now: Duration) -> bool {
        let mut late = None;
        for (stage, beats, changed) in &mut self.stages {
            let seen = (stage.beats)();
            if seen != *beats {
                (*beats, *changed) = (seen, now);
            } else if now - *changed >= stage.patience.max(self.patience_min) {
                late = Some(stage.name);
            }
        }
        if late != self.late {
            match late {
                Some(stage) => log::error!("supervisor: {stage} stands still; the watchdog is not fed"),
                None => log::warn!("supervisor: every stage makes progress again"),
            }
            self.late = late;
        }
        self.late_looks = late.map_or(0, |_| self.late_looks + 1);
        late.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn one_stage_that_rests_too_long_is_enough() {
        let counters = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let stage = |index: usize, patience_s| {
            let counter = Arc::clone(&counters[index]);
            Stage {
                name: ["listen", "hub"][index],
                beats: Box::new(move || counter.load(Relaxed)),
                patience: Duration::from_secs(patience_s),
            }
        };
        let mut watch = Watch::new(vec![stage(0, 0), stage(1, 30)], Duration::from_secs(5));
        // (seconds, listen beats, hub beats, well)
        for (now_s, listen, hub, well) in [
            (5, true, true, true),
            (10, true, false, true),
            (15, false, false, false),
            (20, true, false, true),
            (30, true, false, true),
            (35, true, false, false),
            (40, true, true, true),
            (45, true, true, true),
        ] {
            for (beats, counter) in [listen, hub].into_iter().zip(&counters) {
                counter.fetch_add(u64::from(beats), Relaxed);
            }
            assert_eq!(watch.all_well(Duration::from_secs(now_s)), well, "at {now_s} s");
            assert_eq!(watch.late_looks == 0, well, "at {now_s} s");
        }
        for looks in 1..=3 {
            assert!(!watch.all_well(Duration::from_secs(50 + looks)));
            assert_eq!(u64::from(watch.late_looks), looks, "in a row");
        }
    }
}
