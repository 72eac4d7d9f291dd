//! How a device is, in one word.

use super::devices::Device;

/// Those that want somebody come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It hears a scream, or did when it was last heard of.
    Scream,
    /// The scream is over, its alarm is not.
    Alarm,
    /// The broker has lost it.
    Offline,
    /// Its microphone is gone, or hears nothing.
    Deaf,
    /// It says what is wrong.
    Fault,
    /// Nothing was heard of it yet.
    Unknown,
    /// It listens and would not sound.
    Disarmed,
    /// It listens and is armed.
    Well,
}

impl Verdict {
    /// Those that want somebody, the most urgent first.
    pub const URGENT: [Self; 5] = [Self::Scream, Self::Alarm, Self::Offline, Self::Deaf, Self::Fault];

    /// Of what is known of `device`. One that was torn off the wall in the middle of an alarm is no device that somebody
    /// unplugged for cleaning: what it said last goes before its silence.
    pub fn of(device: &Device) -> Self {
        match device {
            Device { scream: Some(true), .. } => Self::Scream,
            Device { alarm: Some(true), .. } => Self::Alarm,
            Device { online: None, .. } => Self::Unknown,
            Device { online: Some(false), .. } => Self::Offline,
            Device { hears: Some(false), .. } => Self::Deaf,
            Device { faults, .. } if !faults.is_empty() => Self::Fault,
            Device { armed: Some(false), .. } => Self::Disarmed,
            _ => Self::Well,
        }
    }

    /// In capitals what wants somebody.
    pub fn word(self) -> &'static str {
        match self {
            Self::Scream => "SCREAM",
            Self::Alarm => "ALARM",
            Self::Offline => "OFFLINE",
            Self::Deaf => "DEAF",
            Self::Fault => "FAULT",
            Self::Unknown => "unknown",
            Self::Disarmed => "disarmed",
            Self::Well => "well",
        }
    }
}
