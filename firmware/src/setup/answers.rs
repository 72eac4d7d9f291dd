//! What the installer has said.

use std::path::PathBuf;

/// Everything that the site file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// A stable ALSA name.
    pub audio: String,
    /// A name in boards/.
    pub board: String,
    /// Lines that are not the board's own.
    pub lines: Lines,
    /// None: nobody but the siren is told.
    pub hub: Option<Hub>,
    /// A picture of each event is kept.
    pub pictures: bool,
    /// For people.
    pub zone: String,
    /// None: the board's serial number.
    pub device_id: Option<String>,
}

/// Overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    pub siren: Option<String>,
    pub led: Option<String>,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

impl Hub {
    /// As the site file's default is.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.ca_file.is_some() { 8883 } else { 1883 })
    }
}
