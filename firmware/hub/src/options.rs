//! Everything that a hub session is told at its start, as values: this crate reads no site file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alert::State;
use crate::topics;

/// A password or a private key: never shown, neither by `{:?}` nor in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the secret in.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How the broker proves itself, and the device to it. All PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that may sign the broker's certificate; no others are trusted.
    pub ca_pem: Vec<u8>,
    /// The device's certificate chain and its key.
    pub client: Option<ClientCertificate>,
    /// Certificates that were revoked. Only the broker's own certificate is looked up: an installer has the list of
    /// the authority that signed it, seldom those above.
    pub crl_pem: Option<Vec<u8>>,
    /// Seconds since 1970 before which no clock of this device can be right, such as the time of the build: a device that
    /// woke up in 1970 still refuses what expired before it was built, and takes what was valid then. 0: the clock alone.
    pub not_before_unix_s: u64,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM.
    pub cert_pem: Vec<u8>,
    /// PEM.
    pub key_pem: Secret,
}

/// What proves the device to the broker and the broker to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Only with a user name (MQTT 3.1.1 allows no other).
    pub password: Option<Secret>,
    /// `None`: plain TCP.
    pub tls: Option<Tls>,
}

/// Reads an [`Access`] anew, or says for people why it cannot be had.
type Reader = dyn Fn() -> Result<Access, String> + Send + Sync;

/// Where an [`Access`] comes from. Asked on the hub's thread before each connection: what is missing or spoilt at the start, or
/// is exchanged later, is taken once it is right, and alerts go to the outbox until then.
#[derive(Clone)]
pub struct AccessSource(Arc<Reader>);

impl AccessSource {
    /// `read` may wait for a disk.
    pub fn new(read: impl Fn() -> Result<Access, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> Result<Access, String> {
        (self.0)()
    }
}

impl fmt::Debug for AccessSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessSource(..)")
    }
}

/// The device as Home Assistant shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The board as people know it, "Raspberry Pi 5 Model B Rev 1.0".
    pub model: String,
    /// The board's name in boards/.
    pub model_id: Option<String>,
    /// The board's serial number.
    pub serial_number: Option<String>,
    /// screamd's version.
    pub sw_version: String,
    /// The board's revision.
    pub hw_version: Option<String>,
    /// `d8:3a:dd:00:00:01`: joins this device with what else Home Assistant knows of it.
    pub mac: Option<String>,
}

/// What a session needs. [`Options::new`] fills in what has a usual value.
#[derive(Debug, Clone)]
pub struct Options {
    /// `[A-Za-z0-9_-]{1,64}`: topics, client id and unique ids are made of it.
    pub device_id: String,
    /// Where the device hangs, for people.
    pub zone: String,
    /// The broker's name or address. With TLS its certificate must bear it.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// Optional.
    pub username: Option<String>,
    /// What opens the broker's door at the start.
    pub access: Access,
    /// What opens it from then on; `None`: `access` for ever.
    pub access_source: Option<AccessSource>,
    /// The outbox lies in `<state_dir>/outbox`.
    pub state_dir: PathBuf,
    /// For discovery.
    pub device: Device,
    /// The board's bound of the siren, seconds: a longer `duration` is cut to it.
    pub siren_on_s_max: f64,
    /// States that hold at the start; each is sent on connect.
    pub states: Vec<State>,
    /// `/proc/sys/kernel/random/boot_id`: with it the delay of an alert of the same boot is exact without a wall clock.
    pub boot_id: Option<String>,
    /// Ids of commands that an earlier run took, oldest first: a replay after a restart is refused too.
    pub command_ids: Vec<String>,
    /// Whether the wall clock can be trusted at the start; later [`crate::Hub::set_clock`].
    pub clock_set: bool,
}

impl Options {
    /// Options for a plain connection on port 1883.
    pub fn new(device_id: &str, zone: &str, host: &str, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            device_id: device_id.to_owned(),
            zone: zone.to_owned(),
            host: host.to_owned(),
            port: 1883,
            username: None,
            access: Access::default(),
            access_source: None,
            state_dir: state_dir.into(),
            device: Device {
                model: "screamd".to_owned(),
                model_id: None,
                serial_number: None,
                sw_version: String::new(),
                hw_version: None,
                mac: None,
            },
            siren_on_s_max: 180.0,
            states: Vec::new(),
            boot_id: None,
            command_ids: Vec::new(),
            clock_set: false,
        }
    }

    /// Whether a session can be made of these, apart from TLS (which [`crate::Hub::start`] checks).
    ///
    /// # Errors
    /// The first option that cannot work.
    pub fn check(&self) -> Result<(), OptionsError> {
        if !topics::is_device_id(&self.device_id) {
            return Err(OptionsError::DeviceId(self.device_id.clone()));
        }
        if self.host.is_empty() {
            return Err(OptionsError::Host);
        }
        if self.port == 0 {
            return Err(OptionsError::Port);
        }
        self.check_access(&self.access)
    }

    /// Whether `access` can open the door for this user.
    pub(crate) fn check_access(&self, access: &Access) -> Result<(), OptionsError> {
        match access.password.is_some() && self.username.is_none() {
            true => Err(OptionsError::PasswordAlone),
            false => Ok(()),
        }
    }
}

/// An option that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// device id
    #[error("device id {0:?} is not [A-Za-z0-9_-]{{1,64}}")]
    DeviceId(String),
    /// host
    #[error("the broker's host is empty")]
    Host,
    /// port
    #[error("the broker's port is 0")]
    Port,
    /// password
    #[error("a password needs a user name")]
    PasswordAlone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_secret() {
        let mut options = Options::new("hall-1", "Hallway", "hub.local", "/nowhere");
        options.username = Some("hall-1".into());
        options.access.password = Some(Secret::new("canary"));
        options.access.tls = Some(Tls {
            ca_pem: vec![],
            client: Some(ClientCertificate { cert_pem: vec![], key_pem: Secret::new("canary") }),
            crl_pem: None,
            not_before_unix_s: 0,
        });
        let shown = format!("{options:?}");
        assert!(!shown.contains("canary") && !shown.contains(&format!("{:?}", b"canary")), "{shown}");
    }

    #[test]
    fn ids_are_checked() {
        for (id, good) in [("hall-1", true), ("a_B-9", true), ("", false), ("a/b", false), ("a+", false), ("ä", false)]
        {
            assert_eq!(Options::new(id, "", "h", "").check().is_ok(), good, "{id}");
        }
        assert!(Options::new(&"x".repeat(64), "", "h", "").check().is_ok());
        assert!(Options::new(&"x".repeat(65), "", "h", "").check().is_err());
        let mut options = Options::new("a", "", "h", "");
        options.access.password = Some(Secret::new("x"));
        assert!(matches!(options.check(), Err(OptionsError::PasswordAlone)));
    }
}
