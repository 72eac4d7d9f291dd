//! The trial of a release: counted outside of it, judged outside of it, ended by one rename.
//!
//! ```text
//!            apply                      first window scored, outputs answer, outbox open
//!   good ------------> on trial ------------------------------------------------------------> good
//!    ^                    |  fourth start, two minutes, its service gave up, its files damaged
//!    +--------------------+
//! ```
//! One that was good and crashes again and again later (`limits::LOOP_STARTS`) goes the way of a rollback by hand.
//!
//! *Start*: [`Store::begin`], called before each start of the service by whom the release cannot stop. *Health*: what
//! the release says of itself, judged here. What did not work before the update is not asked of it: a microphone that was
//! dead does not become the update's fault. A package of another version goes through the same trial, and the release
//! that ran before comes back where it fails.

use std::io;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::Cause;
use crate::limits::{FAILED_MAX, LOOP, LOOP_STARTS, TRIAL, TRIAL_STARTS};
use crate::store::{CURRENT, FAILED_FILE, GOOD, LAST_FILE, PACKAGE, PACKAGE_FILE, PREVIOUS, Store, TRIAL_FILE};

/// What a running release says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Its id; `package` for the package.
    pub release: String,
    /// A window has been scored since its start.
    pub window: bool,
    /// The microphone gives sound.
    pub microphone: bool,
    /// Every output is held.
    pub outputs: bool,
    /// Alerts can be kept.
    pub outbox: bool,
}

/// `trial.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Whose.
    pub release: String,
    /// So far.
    pub starts: u32,
    /// How the release before it was; none where nothing is known, then everything is asked.
    pub before: Option<Health>,
    /// In which boot it must prove itself, and until when.
    pub deadline: Option<Deadline>,
}

/// A moment of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME`, milliseconds.
    pub uptime_ms: u64,
}

/// `last.json`: how the last update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Counts up.
    pub seq: u64,
    /// Which release.
    pub release: String,
    /// It is good; otherwise the one before it is back.
    pub ok: bool,
    /// For people.
    pub detail: String,
}

/// What a judgement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is on trial.
    Settled,
    /// It has still time.
    Pending,
    /// It is good now.
    Good(Outcome),
    /// The one before it is `current` again and must be started.
    Back(Outcome),
}

/// Now, as trials count it.
pub type Now = Deadline;

impl Trial {
    pub(crate) fn of(release: &str, before: Option<Health>) -> Self {
        Self { release: release.into(), starts: 0, before, deadline: None }
    }

    /// What it has not shown yet, in words; none where it has shown all that is asked.
    fn lacks(&self, health: Option<&Health>) -> Option<String> {
        let Some(health) = health.filter(|health| health.release == self.release) else {
            return Some("it has said nothing".into());
        };
        let before = |of: fn(&Health) -> bool| self.before.as_ref().is_none_or(of);
        let deaf = !health.microphone && !before(|before| before.microphone);
        let lacking = [
            (!health.window && !deaf, "no window was scored"),
            (!health.microphone && before(|before| before.microphone), "the microphone is dead"),
            (!health.outputs && before(|before| before.outputs), "an output does not answer"),
            (!health.outbox && before(|before| before.outbox), "alerts cannot be kept"),
        ];
        let words: Vec<_> = lacking.iter().filter(|(lacks, _)| *lacks).map(|(_, words)| *words).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

impl Store {
    /// The service is about to start: counts it, and goes back after the third of a release on trial, at the twentieth
    /// within ten minutes of one that is good. A package of a version that was not there before becomes `current`, on trial, where it is newer.
    ///
    /// # Errors
    /// The folder cannot be written. Whoever starts the service goes on all the same.
    pub fn begin(&self, now: &Now, package: &Version) -> Result<Option<Outcome>, Cause> {
        self.begin_after(now, package, None)
    }

    /// As [`Store::begin`], with what the run before said of itself: a new package is not asked for more than that had.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn begin_after(&self, now: &Now, package: &Version, before: Option<Health>) -> Result<Option<Outcome>, Cause> {
        let _lock = self.short_lock()?;
        self.begin_locked(now, package, before).map_err(Cause::io(format!("write {}", self.folder().display())))
    }

    fn begin_locked(&self, now: &Now, package: &Version, before: Option<Health>) -> io::Result<Option<Outcome>> {
        self.adopt(package, before)?;
        let current = self.link(CURRENT);
        if !self.on_trial() {
            return match current {
                // Damaged long after its trial: a link to nothing whole is as good as none, and says so.
                Some(id) if self.release(&id).is_none() => self.back_to(None, &id, "its files are damaged").map(Some),
                // Whole by name and size, and yet it does not stay up. Behind the package there is nothing.
                Some(id) if self.starts_in_a_loop(&id, now)? => {
                    let reason = format!("{LOOP_STARTS} starts in {} minutes", LOOP.as_secs() / 60);
                    self.back_to(self.before(&id).as_deref(), &id, &reason).map(Some)
                }
                _ => Ok(None),
            };
        }
        let id = current.unwrap_or_else(|| PACKAGE.into());
        if id != PACKAGE && self.release(&id).is_none() {
            return self.back(&id, "its files are damaged").map(Some);
        }
        let mut trial = self.trial(&id);
        if trial.starts >= TRIAL_STARTS {
            let reason = format!("{TRIAL_STARTS} starts, none came up");
            return self.back(&id, &reason).map(Some);
        }
        trial.starts += 1;
        trial.start_clock(now);
        match self.write_trial(&trial) {
            Ok(()) => Ok(None),
            // What cannot be counted is not tried.
            Err(error) => self.back(&id, &format!("its starts cannot be counted: {error}")).map(Some),
        }
    }

    /// Judges the release on trial; `gave_up` where the service manager does not start it any more.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn judge(&self, now: &Now, health: Option<&Health>, gave_up: bool) -> Result<Verdict, Cause> {
        if !self.on_trial() {
            return Ok(Verdict::Settled);
        }
        let _lock = self.short_lock()?;
        self.judge_locked(now, health, gave_up).map_err(Cause::io(format!("write {}", self.folder().display())))
    }

    fn judge_locked(&self, now: &Now, health: Option<&Health>, gave_up: bool) -> io::Result<Verdict> {
        if !self.on_trial() {
            return Ok(Verdict::Settled);
        }
        let id = self.link(CURRENT).unwrap_or_else(|| PACKAGE.into());
        let mut trial = self.trial(&id);
        let Some(lacks) = trial.lacks(health) else { return self.mark_good(&id).map(Verdict::Good) };
        if gave_up {
            return self.back(&id, &format!("its service gave up: {lacks}")).map(Verdict::Back);
        }
        // A release that is never started has its two minutes as well.
        if trial.start_clock(now) {
            self.write_trial(&trial)?;
        }
        let over = trial.deadline.as_ref().is_some_and(|deadline| now.uptime_ms >= deadline.uptime_ms);
        if over {
            return self.back(&id, &format!("{lacks} in {} s", TRIAL.as_secs())).map(Verdict::Back);
        }
        Ok(Verdict::Pending)
    }

    /// A person wants the release before: ends a trial, or goes to `previous`, else to the package.
    ///
    /// # Errors
    /// There is none, or the folder cannot be written.
    pub fn rollback(&self) -> Result<Outcome, Cause> {
        let here = |error| Cause::io(format!("write {}", self.folder().display()))(error);
        let _lock = self.short_lock()?;
        let current = self.link(CURRENT);
        let id = current.clone().unwrap_or_else(|| PACKAGE.into());
        if self.on_trial() {
            return self.back(&id, "rolled back by hand").map_err(here);
        }
        let Some(current) = current else { return Err(Cause::NothingBefore) };
        self.back_to(self.before(&current).as_deref(), &current, "rolled back by hand").map_err(here)
    }

    /// What comes back where `id`, which is good, has to go: `previous`, where it is whole; none: the package.
    fn before(&self, id: &str) -> Option<String> {
        self.previous().map(|previous| previous.id).filter(|previous| previous != id)
    }

    /// The package is what is on trial: it stands before the good release, which is started where it cannot be.
    pub fn package_on_trial(&self) -> bool {
        self.on_trial() && self.link(CURRENT).is_none()
    }

    /// An update that was asked for and not taken, for whoever asked. What is on trial stays so.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn note_refused(&self, bundle: &str, cause: &str) -> Result<(), Cause> {
        let _lock = self.short_lock()?;
        let seq = self.last().map_or(1, |last| last.seq + 1);
        let outcome = Outcome { seq, release: bundle.into(), ok: false, detail: cause.into() };
        let text = serde_json::to_string(&outcome).unwrap_or_default();
        self.write(LAST_FILE, &text).map_err(Cause::io(format!("write {}", self.folder().display())))
    }

    /// How the last update ended.
    pub fn last(&self) -> Option<Outcome> {
        serde_json::from_str(&self.text(LAST_FILE)?).ok()
    }

    /// Releases that did not prove themselves, or that a person took back, the latest last. One that is good after all is none.
    pub fn failed(&self) -> Vec<String> {
        self.text(FAILED_FILE).unwrap_or_default().lines().map(str::to_string).collect()
    }

    fn remember(&self, id: &str, ok: bool) -> io::Result<()> {
        let before = self.failed();
        let mut failed: Vec<&str> = before.iter().map(String::as_str).filter(|failed| *failed != id).collect();
        if !ok && id != PACKAGE {
            failed.push(id);
        }
        let latest = &failed[failed.len().saturating_sub(FAILED_MAX)..];
        if before == latest { Ok(()) } else { self.write(FAILED_FILE, &latest.join("\n")) }
    }

    /// The trial that goes on.
    pub fn running_trial(&self) -> Option<Trial> {
        self.on_trial().then(|| self.trial(&self.link(CURRENT).unwrap_or_else(|| PACKAGE.into())))
    }

    /// Of `id`; a file that is missing, unreadable or another release's counts as none.
    fn trial(&self, id: &str) -> Trial {
        self.text(TRIAL_FILE)
            .and_then(|text| serde_json::from_str::<Trial>(&text).ok())
            .filter(|trial| trial.release == id)
            .unwrap_or_else(|| Trial::of(id, None))
    }

    pub(crate) fn write_trial(&self, trial: &Trial) -> io::Result<()> {
        self.write(TRIAL_FILE, &serde_json::to_string(trial).map_err(io::Error::other)?)
    }

    /// Whether the next start takes the package of this version in place of the current release: it has not been seen yet, and is newer.
    pub fn takes_package(&self, package: &Version) -> bool {
        self.seen().as_ref() != Some(package) && !self.on_trial() && self.is_newer(package)
    }

    fn seen(&self) -> Option<Version> {
        self.text(PACKAGE_FILE).and_then(|text| Version::parse(text.trim()).ok())
    }

    fn is_newer(&self, package: &Version) -> bool {
        self.current().is_some_and(|current| *package > current.manifest.version)
    }

    fn adopt(&self, package: &Version, before: Option<Health>) -> io::Result<()> {
        if self.seen().as_ref() == Some(package) || self.on_trial() {
            return Ok(());
        }
        if self.is_newer(package) {
            self.write_trial(&Trial::of(PACKAGE, before))?;
            self.set_link(CURRENT, None)?;
        }
        // Last: adopting twice after a crash changes nothing.
        self.write(PACKAGE_FILE, &package.to_string())
    }

    /// The last rename makes it good; the one before it is kept for `rollback`.
    fn mark_good(&self, id: &str) -> io::Result<Outcome> {
        self.set_link(PREVIOUS, self.link(GOOD).as_deref())?;
        self.set_link(GOOD, self.link(CURRENT).as_deref())?;
        let outcome = self.note(id, true, "it scored a window, its outputs answer, its outbox is open".into());
        self.prune();
        Ok(outcome)
    }

    fn back(&self, id: &str, reason: &str) -> io::Result<Outcome> {
        // Not whole: the package instead.
        let good = self.good().map(|good| good.id);
        self.back_to(good.as_deref(), id, reason)
    }

    /// `good` first: cut off between the two, `id` is on trial again, and `target` comes back if it fails.
    fn back_to(&self, target: Option<&str>, id: &str, reason: &str) -> io::Result<Outcome> {
        if self.link(GOOD).as_deref() != target {
            self.set_link(GOOD, target)?;
        }
        self.set_link(CURRENT, target)?;
        if self.link(PREVIOUS).as_deref() == target {
            self.set_link(PREVIOUS, None)?;
        }
        Ok(self.note(id, false, format!("{reason}; {} is back", target.unwrap_or(PACKAGE))))
    }

    /// What has been decided stands, whether or not it can be written down.
    fn note(&self, id: &str, ok: bool, detail: String) -> Outcome {
        let seq = self.last().map_or(1, |last| last.seq + 1);
        let outcome = Outcome { seq, release: id.into(), ok, detail };
        let _ = self.remember(id, ok);
        if let Ok(text) = serde_json::to_string(&outcome) {
            let _ = self.write(LAST_FILE, &text);
        }
        let _ = crate::place::remove(&self.folder().join(TRIAL_FILE));
        self.forget_starts();
        outcome
    }
}

impl Trial {
    /// Sets the deadline for this boot; true where it was not set.
    fn start_clock(&mut self, now: &Now) -> bool {
        if self.deadline.as_ref().is_some_and(|deadline| deadline.boot_id == now.boot_id) {
            return false;
        }
        let uptime_ms = now.uptime_ms + TRIAL.as_millis() as u64;
        self.deadline = Some(Deadline { boot_id: now.boot_id.clone(), uptime_ms });
        true
    }
}
