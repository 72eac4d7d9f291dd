//! What the installer has said.

use std::path::PathBuf;

use files::site::{Mqtt, Tls};

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
    /// As the site file will say it.
    pub fn as_site(&self) -> Mqtt {
        let tls = self.ca_file.clone().map(|ca_file| Tls { ca_file, cert_file: None, key_file: None, crl_file: None });
        Mqtt {
            enabled: None,
            host: Some(self.host.clone()),
            port: self.port,
            username: self.username.clone(),
            password_file: self.password_file.clone(),
            tls,
        }
    }
}
