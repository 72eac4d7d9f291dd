//! What the hub has set, kept over a restart until that key changes in the site file; the latch; and the faults that were told.
//!
//! Kept in `settings.json` of the state folder. A file that cannot be read is put aside, never a reason not to start.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use hub::ScreamAttributes;
use serde::{Deserialize, Serialize};

use crate::faults::Fault;

/// A value that the hub set, and what the site said then: where the site says otherwise now, the site wins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Set<T, S> {
    value: T,
    site: S,
}

impl<T: Copy, S: PartialEq> Set<T, S> {
    /// The value in force, where the site has not changed.
    fn over(self, site: S) -> Option<T> {
        (self.site == site).then_some(self.value)
    }
}

/// What `scream_end` says of an incident besides when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenIncident {
    /// Of `scream_start`.
    pub id: String,
    /// Its score, 0..1.
    pub score: f64,
    /// The label that decided.
    pub label: String,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    armed: Option<Set<bool, Option<bool>>>,
    threshold_on: Option<Set<f64, Option<f64>>>,
    cooldown_s: Option<Set<f64, Option<f64>>>,
    /// `alarm/state`.
    pub latched: bool,
    /// `scream/attributes`, of the last incident: a broker that was away at its start is told of it after the next, too.
    pub attributes: Option<ScreamAttributes>,
    /// The announced incident that goes on: a start that finds one tells its end.
    pub incident: Option<OpenIncident>,
    /// Names of the faults that people were told of and not yet told to be over: a start knows nothing of what was wrong before it.
    pub faults: BTreeSet<String>,
    /// Ids of the last commands, oldest first.
    pub command_ids: VecDeque<String>,
    /// A value was forgotten since the file was read: it is to be written.
    #[serde(skip)]
    pub forgotten: bool,
}

impl Saved {
    /// Where it stands.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("settings.json")
    }

    /// Reads it; the default where there is none.
    pub fn load(state_dir: &Path) -> Self {
        let path = Self::path(state_dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    log::warn!("{}: {error}; the site file's values hold", path.display());
                }
                return Self::default();
            }
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            log::warn!("{}: {error}; put aside, the site file's values hold", path.display());
            let _ = std::fs::rename(&path, path.with_extension("json.bad"));
            Self::default()
        })
    }

    /// What the hub set, without what goes on or stood when the device last wrote: a recording that is tried is another matter.
    pub fn numbers_alone(self) -> Self {
        Self { armed: self.armed, threshold_on: self.threshold_on, cooldown_s: self.cooldown_s, ..Self::default() }
    }

    /// Forgets what the site file has changed since, for good: were it only passed over, an old disarming would come back with the
    /// old file.
    pub fn forget_changed(&mut self, armed: Option<bool>, threshold_on: Option<f64>, cooldown_s: Option<f64>) {
        self.keep(|set| set.site == armed, |set| set.site == threshold_on, |set| set.site == cooldown_s);
    }

    /// Forgets what makes the device less alert than these numbers and armed, of a time in which the hub was free to: the site file
    /// has taken that leave back (`remote_disarm = false`).
    pub fn forget_less_alert(&mut self, threshold_on: f64, cooldown_s: f64) {
        self.keep(|set| set.value, |set| set.value <= threshold_on, |set| set.value <= cooldown_s);
    }

    /// Forgets each value for which its test is false.
    fn keep(
        &mut self,
        armed: impl Fn(&Set<bool, Option<bool>>) -> bool,
        threshold_on: impl Fn(&Set<f64, Option<f64>>) -> bool,
        cooldown_s: impl Fn(&Set<f64, Option<f64>>) -> bool,
    ) {
        let before = (self.armed, self.threshold_on, self.cooldown_s);
        self.armed = self.armed.filter(armed);
        self.threshold_on = self.threshold_on.filter(threshold_on);
        self.cooldown_s = self.cooldown_s.filter(cooldown_s);
        self.forgotten |= before != (self.armed, self.threshold_on, self.cooldown_s);
    }

    /// Armed, given what the site says.
    pub fn armed(&self, site: Option<bool>) -> Option<bool> {
        self.armed.and_then(|set| set.over(site))
    }

    /// Upper threshold, given what the site file says; a model's own threshold that changes is no word of the site's.
    pub fn threshold_on(&self, site: Option<f64>) -> Option<f64> {
        self.threshold_on.and_then(|set| set.over(site)).filter(|value| (0.0..=1.0).contains(value))
    }

    /// Cooldown in seconds, given what the site file says.
    pub fn cooldown_s(&self, site: Option<f64>) -> Option<f64> {
        let fine = |value: &f64| (0.0..=detector::limits::DECISION_S_MAX).contains(value);
        self.cooldown_s.and_then(|set| set.over(site)).filter(fine)
    }

    /// As far as people were told and not yet told otherwise, the microphone is as good as dead.
    pub fn microphone_dead(&self) -> bool {
        self.told(Fault::OF_MICROPHONE.into_iter().filter(|fault| fault.microphone_dead()))
    }

    /// The same of one that is dead or bad.
    pub fn of_microphone(&self) -> bool {
        self.told(Fault::OF_MICROPHONE.into_iter())
    }

    fn told(&self, mut faults: impl Iterator<Item = Fault>) -> bool {
        faults.any(|fault| self.faults.contains(fault.name()))
    }

    /// A command with this id was taken.
    pub fn remember_command(&mut self, id: &str) {
        self.command_ids.push_back(id.to_string());
        while self.command_ids.len() > hub::limits::COMMAND_IDS_KEPT {
            self.command_ids.pop_front();
        }
    }

    /// The hub armed or disarmed.
    pub fn set_armed(&mut self, value: bool, site: Option<bool>) {
        self.armed = Some(Set { value, site });
    }

    /// The hub set the threshold.
    pub fn set_threshold_on(&mut self, value: f64, site: Option<f64>) {
        self.threshold_on = Some(Set { value, site });
    }

    /// The hub set the cooldown.
    pub fn set_cooldown_s(&mut self, value: f64, site: Option<f64>) {
        self.cooldown_s = Some(Set { value, site });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_told_of_the_microphone_stands_until_it_is_told_to_be_over() {
        let told = |fault: Fault| Saved { faults: [fault.name().into()].into(), ..Saved::default() };
        for (fault, dead, bad) in [
            (Fault::MicSilent, true, true),
            (Fault::CaptureLost, true, true),
            (Fault::MicDegraded, false, true),
            (Fault::PathDown, false, false),
        ] {
            let saved = told(fault);
            assert_eq!((saved.microphone_dead(), saved.of_microphone()), (dead, bad), "{}", fault.name());
        }
    }

    #[test]
    fn the_hubs_value_holds_until_the_site_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::load(dir.path());
        assert_eq!(saved.threshold_on(Some(0.8)), None);
        saved.set_threshold_on(0.9, Some(0.8));
        saved.set_cooldown_s(5.0, None);
        saved.set_armed(false, None);
        (0..100).for_each(|number| saved.remember_command(&format!("n{number}")));
        std::fs::write(Saved::path(dir.path()), serde_json::to_vec(&saved).unwrap()).unwrap();
        let again = Saved::load(dir.path());
        assert_eq!((again.threshold_on(Some(0.8)), again.armed(None)), (Some(0.9), Some(false)));
        assert_eq!((again.threshold_on(Some(0.7)), again.armed(Some(true))), (None, None));
        // The key goes from the file, or comes into it: that is a change, too.
        assert_eq!((again.threshold_on(None), again.cooldown_s(Some(5.0))), (None, None));
        assert_eq!(again.cooldown_s(None), Some(5.0));
        assert_eq!((again.command_ids.len(), again.command_ids[63].as_str()), (64, "n99"));
        // Once the site has spoken, going back to the old file brings nothing back.
        let mut again = again;
        again.forget_changed(None, Some(0.8), None);
        assert!(!again.forgotten);
        again.forget_changed(None, Some(0.7), None);
        assert!(again.forgotten);
        assert_eq!(
            (again.threshold_on(Some(0.8)), again.armed(None), again.cooldown_s(None)),
            (None, Some(false), Some(5.0))
        );
        // `armed = true` is written into the file where nothing stood.
        again.forget_changed(Some(true), None, None);
        assert_eq!(again.armed(Some(true)), None);
    }

    #[test]
    fn where_nobody_may_disarm_what_makes_less_alert_is_forgotten() {
        let mut saved = Saved::default();
        saved.set_armed(false, None);
        saved.set_threshold_on(0.95, None);
        saved.set_cooldown_s(86_400.0, None);
        saved.forget_less_alert(0.84, 30.0);
        assert_eq!((saved.armed(None), saved.threshold_on(None), saved.cooldown_s(None)), (None, None, None));
        assert!(std::mem::take(&mut saved.forgotten));
        saved.set_armed(true, None);
        saved.set_threshold_on(0.7, None);
        saved.set_cooldown_s(30.0, None);
        saved.forget_less_alert(0.84, 30.0);
        assert_eq!(
            (saved.armed(None), saved.threshold_on(None), saved.cooldown_s(None)),
            (Some(true), Some(0.7), Some(30.0))
        );
        assert!(!saved.forgotten);
    }

    #[test]
    fn nonsense_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(Saved::path(dir.path()), "{").unwrap();
        assert_eq!(Saved::load(dir.path()), Saved::default());
        assert!(dir.path().join("settings.json.bad").exists());
    }
}
