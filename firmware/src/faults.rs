//! The faults that stand now: a set beside the alarm's state, each with its own restore.

use std::collections::BTreeMap;

/// A named fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CaptureLost,
    MicSilent,
    InferenceLate,
    StorageFull,
    PathDown,
    OutputUnavailable,
    ModelInvalid,
}

impl Fault {
    /// As it stands in lines and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::CaptureLost => "CaptureLost",
            Self::MicSilent => "MicSilent",
            Self::InferenceLate => "InferenceLate",
            Self::StorageFull => "StorageFull",
            Self::PathDown => "PathDown",
            Self::OutputUnavailable => "OutputUnavailable",
            Self::ModelInvalid => "ModelInvalid",
        }
    }

    /// The microphone is as good as dead: the scream entity is unavailable.
    pub fn microphone_dead(self) -> bool {
        matches!(self, Self::CaptureLost | Self::MicSilent)
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

    /// Any at all.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A dead microphone.
    pub fn microphone_dead(&self) -> bool {
        self.0.keys().any(|fault| fault.microphone_dead())
    }
}
