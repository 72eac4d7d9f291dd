//! Fetches a bundle from the one address in the site file, over TLS, into the folder where bundles are placed.
//!
//! The address is the installer's, never the hub's; what comes is offered like any placed bundle, and only if its signature, board
//! and machine fit. A server that is away, or sends something else, changes nothing.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use files::private_file::{PrivateFile, WriteError, is_leftover};
use rand::Rng;
use release::limits::BUNDLE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use ureq::http::{StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Device;
use super::agent::{Offer, look_into};
use files::site;

/// The name of a fetched bundle: a newer one takes its place.
const FETCHED: &str = "fetched.bundle";
/// While it comes: no bundle's name, so that nobody looks at half of one.
const PART: &str = "fetched.part";
/// What was fetched last, so that it is not fetched again.
const SEEN: &str = "fetched.json";
const SEEN_BYTES_MAX: u64 = 4096;
/// A certificate authority's file, bytes.
const CA_BYTES_MAX: u64 = 256 * 1024;
/// Between two looks, drawn anew each time: hundreds of devices must not ask at once.
const EVERY_S: std::ops::Range<u64> = 4 * 3600..8 * 3600;
/// The first look after a start.
const SOON_S: std::ops::Range<u64> = 60..600;
/// The look after one whose server was away; each such more doubles it, up to [`EVERY_S`].
const RETRY_S: std::ops::Range<u64> = 600..1800;
/// 256 MiB at 150 kB/s.
const WHOLE: Duration = Duration::from_secs(1800);
const CONNECT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: u32 = 3;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The site file names no address.
    #[error("`update.url`: is empty; it names where bundles come from")]
    NoUrl,
    /// Authorities cannot be read.
    #[error("{0}: {1}")]
    Ca(String, String),
    /// The server cannot be reached, is not who it should be, or refuses.
    #[error("{url}: {cause}")]
    Server {
        /// The address.
        url: String,
        /// What went wrong.
        cause: ureq::Error,
    },
    /// Larger than any bundle.
    #[error("{url}: is larger than {BUNDLE_BYTES_MAX} bytes; nothing was kept")]
    TooLarge {
        /// The address.
        url: String,
    },
    /// It broke off.
    #[error("{url}: {cause}; nothing was kept")]
    Broken {
        /// The address.
        url: String,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// No room.
    #[error("{url}: {cause}")]
    NoSpace {
        /// The address.
        url: String,
        /// What is there, what is needed.
        cause: release::Cause,
    },
    /// The disk.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No bundle for this device.
    #[error("{url}: what it sent is not taken: {refused}")]
    Refused {
        /// The address.
        url: String,
        /// Why.
        refused: release::Refused,
    },
}

/// What a look at the address gave.
#[derive(Debug, PartialEq)]
pub enum Fetched {
    /// The server has what was fetched before.
    Same,
    /// A bundle is in its place.
    New(Offer),
}

/// What the server called it (RFC 9110, 8.8.3), and where from.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    url: String,
    etag: Option<String>,
}

/// Seconds to the next look, after so many failures in a row: a network that comes late must not cost hours, and a server that is
/// gone must not be asked for ever by all.
fn wait_after(failures: u32) -> std::ops::Range<u64> {
    let times = 1 << failures.saturating_sub(1).min(4);
    let range = RETRY_S.start * times..RETRY_S.end * times;
    if failures == 0 || range.start > EVERY_S.start { EVERY_S } else { range }
}

/// Where from and where to.
pub struct Fetch {
    pub device: Arc<Device>,
    pub update: site::Update,
    pub inbox: PathBuf,
    pub board: String,
}

impl Fetch {
    /// Looks again and again, in a thread of its own; does nothing where the site file names no address.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(self) -> std::io::Result<()> {
        if self.update.url.is_empty() {
            return Ok(());
        }
        std::thread::Builder::new().name("fetch".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(&self) {
        let mut random = hub::random();
        let mut wait = SOON_S;
        let mut failures = 0;
        loop {
            std::thread::sleep(Duration::from_secs(random.random_range(wait)));
            let fetched = self.once();
            // What was refused is the same an hour later.
            let away = matches!(fetched, Err(FetchError::Server { .. } | FetchError::Broken { .. }));
            failures = if away { failures + 1 } else { 0 };
            match fetched {
                Ok(Fetched::New(offer)) => log::info!("{}: {} was fetched", self.update.url, offer.version),
                Ok(Fetched::Same) => {}
                Err(error) => log::warn!("{error}"),
            }
            wait = wait_after(failures);
        }
    }

    /// One look.
    ///
    /// # Errors
    /// What kept it from a bundle; what was fetched before is still there.
    pub fn once(&self) -> Result<Fetched, FetchError> {
        let url = &self.update.url;
        if url.is_empty() {
            return Err(FetchError::NoUrl);
        }
        let server = |cause| FetchError::Server { url: url.clone(), cause };
        let seen = self.seen();
        let mut request = self.agent()?.get(url);
        if let Some(etag) = seen.etag.as_ref().filter(|_| seen.url == *url && self.inbox.join(FETCHED).exists()) {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let mut response = request.call().map_err(server)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Fetched::Same);
        }
        if response.status() != StatusCode::OK {
            return Err(server(ureq::Error::StatusCode(response.status().as_u16())));
        }
        let etag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_string);
        let length = response.body().content_length();
        if length.is_some_and(|length| length > BUNDLE_BYTES_MAX) {
            return Err(FetchError::TooLarge { url: url.clone() });
        }
        let part = self.inbox.join(PART);
        // Half of a bundle is of no use to anybody.
        let kept = self.keep(response.body_mut().as_reader(), length, &part).and_then(|()| {
            look_into(&self.device, &self.board, &part)
                .map_err(|refused| FetchError::Refused { url: url.clone(), refused })
        });
        let offer = match kept {
            Ok(offer) => offer,
            Err(error) => {
                let _ = std::fs::remove_file(&part);
                return Err(error);
            }
        };
        std::fs::rename(&part, self.inbox.join(FETCHED))
            .map_err(|cause| FetchError::Broken { url: url.clone(), cause })?;
        let seen = serde_json::to_vec(&Seen { url: url.clone(), etag }).unwrap_or_default();
        let mut file = self.create(&self.inbox.join(SEEN))?;
        file.write_all(&seen).map_err(|cause| FetchError::Broken { url: url.clone(), cause })?;
        file.commit()?;
        Ok(Fetched::New(Offer { file: FETCHED.into(), ..offer }))
    }

    fn seen(&self) -> Seen {
        let text = release::read_foreign(&self.inbox.join(SEEN), SEEN_BYTES_MAX);
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn keep(&self, mut from: impl Read, length: Option<u64>, part: &Path) -> Result<(), FetchError> {
        let broken = |cause| FetchError::Broken { url: self.update.url.clone(), cause };
        self.make_inbox().map_err(broken)?;
        self.sweep();
        let room_for = |bytes| {
            let no_space = |cause| FetchError::NoSpace { url: self.update.url.clone(), cause };
            release::store::room_for(&self.inbox, bytes).map_err(no_space)
        };
        room_for(length.unwrap_or(0))?;
        let mut file = self.create(part)?;
        let mut buffer = vec![0u8; 64 * 1024];
        let mut written = 0u64;
        loop {
            let read = from.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            written += read as u64;
            if written > BUNDLE_BYTES_MAX {
                return Err(FetchError::TooLarge { url: self.update.url.clone() });
            }
            // A server need not say how much comes, and the disk fills by others too.
            room_for(read as u64)?;
            file.write_all(&buffer[..read]).map_err(broken)?;
        }
        file.commit()?;
        Ok(())
    }

    /// A file of the inbox that the service can read, also where root has fetched.
    fn create(&self, path: &Path) -> Result<PrivateFile, FetchError> {
        let file = PrivateFile::create(path)?;
        if let Some((uid, gid)) = self.owner() {
            file.give_to(uid, gid)?;
        }
        Ok(file)
    }

    fn make_inbox(&self) -> std::io::Result<()> {
        if self.inbox.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.inbox)?;
        match self.owner() {
            // Of the name itself: a link put there meanwhile is not followed.
            Some((uid, gid)) => std::os::unix::fs::lchown(&self.inbox, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Whose the state folder is, where that is another than who fetches.
    fn owner(&self) -> Option<(u32, u32)> {
        let state = std::fs::metadata(self.inbox.parent()?).ok()?;
        let own = rustix::process::geteuid();
        (own.is_root() && state.uid() != own.as_raw()).then(|| (state.uid(), state.gid()))
    }

    /// What fetches left behind that were killed: older than any that still runs.
    fn sweep(&self) {
        let entries = std::fs::read_dir(&self.inbox).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_leftover)) {
            let age =
                entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > WHOLE) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn agent(&self) -> Result<ureq::Agent, FetchError> {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(self.authorities()?)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            .user_agent(concat!("screamd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(config.into())
    }

    /// The site's own authority, or the system's.
    fn authorities(&self) -> Result<Vec<Certificate<'static>>, FetchError> {
        let Some(file) = &self.update.ca_file else {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found.errors.first().map_or_else(|| "none is installed".into(), ToString::to_string);
                return Err(FetchError::Ca("the system's certificate authorities".into(), why));
            }
            return Ok(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect());
        };
        let path = crate::credentials::find(file);
        let wrong = |why: String| FetchError::Ca(path.display().to_string(), why);
        let pem = files::model_dir::read_bounded(&path, CA_BYTES_MAX).map_err(|error| wrong(error.to_string()))?;
        let mut found = Vec::new();
        for item in ureq::tls::parse_pem(&pem) {
            match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => found.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
        if found.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_asked_soon_and_then_less_and_less() {
        let waits: Vec<_> = (0..8).map(wait_after).collect();
        assert_eq!(waits[..4], [EVERY_S, 600..1800, 1200..3600, 2400..7200]);
        assert!(waits[1..].windows(2).all(|pair| pair[0].start <= pair[1].start && pair[1].end <= EVERY_S.end));
    }
}
