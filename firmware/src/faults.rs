//! The faults that stand now: a set beside the alarm's state, each with its own restore.

use std::collections::BTreeMap;

use detector::sound_health::Defect;

/// A named fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CaptureLost,
    CaptureStalled,
    MicSilent,
    MicFrozen,
    MicDegraded,
    InferenceLate,
    StorageFull,
    PathDown,
    OutputUnavailable,
    ConfigInvalid,
    ModelInvalid,
    CrashLoop,
    Crashed,
}

impl Fault {
    /// Those that are about the microphone.
    pub const OF_MICROPHONE: [Self; 5] =
        [Self::CaptureLost, Self::CaptureStalled, Self::MicSilent, Self::MicFrozen, Self::MicDegraded];

    /// As it stands in lines and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::CaptureLost => "CaptureLost",
            Self::CaptureStalled => "CaptureStalled",
            Self::MicSilent => "MicSilent",
            Self::MicFrozen => "MicFrozen",
            Self::MicDegraded => "MicDegraded",
            Self::InferenceLate => "InferenceLate",
            Self::StorageFull => "StorageFull",
            Self::PathDown => "PathDown",
            Self::OutputUnavailable => "OutputUnavailable",
            Self::ConfigInvalid => "ConfigInvalid",
            Self::ModelInvalid => "ModelInvalid",
            Self::CrashLoop => "CrashLoop",
            Self::Crashed => "Crashed",
        }
    }

    /// The microphone is as good as dead: the scream entity is unavailable.
    pub fn microphone_dead(self) -> bool {
        matches!(self, Self::CaptureLost | Self::CaptureStalled | Self::MicSilent | Self::MicFrozen)
    }

    /// The fault that a defect of the sound is.
    pub fn of_defect(defect: Defect) -> Self {
        match defect {
            Defect::Zeros => Self::MicSilent,
            Defect::Repeating | Defect::StuckBit => Self::MicFrozen,
            Defect::Offset | Defect::Clipping | Defect::Covered => Self::MicDegraded,
        }
    }
}

/// Those that stand now.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<Fault, String>);

impl Faults {
    /// A fault; true where it is new.
    pub fn raise(&mut self, fault: Fault, detail: &str) -> bool {
        self.0.insert(fault, detail.to_string()).is_none()
    }

    /// It is over; true where it stood.
    pub fn clear(&mut self, fault: Fault) -> bool {
        self.0.remove(&fault).is_some()
    }

    /// Whether it stands.
    pub fn stands(&self, fault: Fault) -> bool {
        self.0.contains_key(&fault)
    }

    /// Names of those that stand.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().map(|fault| fault.name())
    }

    /// Why it stands: the last cause that it was raised for.
    pub fn cause(&self, fault: Fault) -> Option<&str> {
        self.0.get(&fault).map(String::as_str)
    }

    /// Any at all.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A dead microphone.
    pub fn microphone_dead(&self) -> bool {
        self.0.keys().any(|fault| fault.microphone_dead())
    }
}

/// What people read of a defect.
pub struct DefectWords {
    /// A short sound shows it.
    pub shown: &'static str,
    /// It stands.
    pub stands: &'static str,
    /// It is over.
    pub over: &'static str,
}

/// Words for a defect.
pub fn defect_words(defect: Defect) -> DefectWords {
    let (shown, stands, over) = match defect {
        Defect::Zeros => ("nothing but zeros", "nothing but zeros for a minute", "the microphone gives sound again"),
        Defect::Repeating => (
            "the same samples again and again",
            "the same samples again and again for a minute",
            "the samples change again",
        ),
        Defect::StuckBit => (
            "a bit of the samples never changes",
            "a bit of the samples has not changed for a minute",
            "every bit changes again",
        ),
        Defect::Offset => ("a constant offset", "a constant offset for a minute", "the offset is gone"),
        Defect::Clipping => ("cut off at full scale", "cut off at full scale for a minute", "no longer cut off"),
        Defect::Covered => (
            "under the site's floor",
            "under the site's floor for 12 hours: is it covered?",
            "above the site's floor again",
        ),
    };
    DefectWords { shown, stands, over }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_stands_is_not_new_and_has_its_last_cause() {
        let mut faults = Faults::default();
        assert!(faults.raise(Fault::CaptureLost, "no such device"));
        assert!(!faults.raise(Fault::CaptureLost, "busy"));
        assert_eq!(faults.cause(Fault::CaptureLost), Some("busy"));
        assert!(faults.clear(Fault::CaptureLost));
        assert_eq!(faults.cause(Fault::CaptureLost), None);
    }
}
