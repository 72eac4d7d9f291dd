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
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
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
    /// Root cannot act as the service.
    #[error("{path}: cannot act as its owner: {cause}")]
    Owner {
        /// The state folder.
        path: String,
        /// The system's answer.
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

/// What the server called it (RFC 9110, 8.8: the tag, else the date), and where from.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    url: String,
    etag: Option<String>,
    #[serde(default)]
    modified: Option<String>,
}

/// What was refused since the start, and the keys that were trusted then: with another key the answer may be another.
#[derive(Debug, Default)]
struct Passed {
    seen: Seen,
    keys: Vec<String>,
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
        let mut passed = None;
        loop {
            std::thread::sleep(Duration::from_secs(random.random_range(wait)));
            // Each time anew: the site's authority may have been replaced.
            let fetched = self.agent().and_then(|agent| self.look(&agent, &mut passed));
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

    /// One look, for a person, who is mostly root. From the first byte on it has the rights of the service alone, whose folder it
    /// writes to: a service that was taken over could have put a link in root's way.
    ///
    /// # Errors
    /// What kept it from a bundle; what was fetched before is still there.
    pub fn by_hand(&self) -> Result<Fetched, FetchError> {
        // The site's authority may be readable to root alone.
        let agent = self.agent()?;
        self.become_owner()?;
        self.look(&agent, &mut None)
    }

    fn look(&self, agent: &ureq::Agent, passed: &mut Option<Passed>) -> Result<Fetched, FetchError> {
        let url = &self.update.url;
        let server = |cause| FetchError::Server { url: url.clone(), cause };
        let mut request = agent.get(url);
        let keys = self.keys();
        let known = match passed {
            Some(passed) if passed.keys == keys => Some(passed.seen.clone()),
            _ => Some(self.seen()).filter(|_| self.inbox.join(FETCHED).exists()),
        };
        if let Some(known) = known.filter(|known| known.url == *url) {
            if let Some(etag) = known.etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            } else if let Some(modified) = known.modified {
                request = request.header(header::IF_MODIFIED_SINCE, modified);
            }
        }
        let mut response = request.call().map_err(server)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Fetched::Same);
        }
        if response.status() != StatusCode::OK {
            return Err(server(ureq::Error::StatusCode(response.status().as_u16())));
        }
        let said = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        let seen = Seen { url: url.clone(), etag: said(header::ETAG), modified: said(header::LAST_MODIFIED) };
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
                if matches!(error, FetchError::Refused { .. }) {
                    *passed = Some(Passed { seen, keys });
                }
                return Err(error);
            }
        };
        std::fs::rename(&part, self.inbox.join(FETCHED))
            .map_err(|cause| FetchError::Broken { url: url.clone(), cause })?;
        *passed = None;
        let seen = serde_json::to_vec(&seen).unwrap_or_default();
        files::private_file::write_private(&self.inbox.join(SEEN), &seen)?;
        Ok(Fetched::New(Offer { file: FETCHED.into(), ..offer }))
    }

    fn seen(&self) -> Seen {
        let text = release::read_foreign(&self.inbox.join(SEEN), SEEN_BYTES_MAX);
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn keep(&self, mut from: impl Read, length: Option<u64>, part: &Path) -> Result<(), FetchError> {
        let broken = |cause| FetchError::Broken { url: self.update.url.clone(), cause };
        std::fs::create_dir_all(&self.inbox).map_err(broken)?;
        self.sweep();
        let room_for = |bytes| {
            let no_space = |cause| FetchError::NoSpace { url: self.update.url.clone(), cause };
            release::store::room_for(&self.inbox, bytes).map_err(no_space)
        };
        room_for(length.unwrap_or(0))?;
        let mut file = PrivateFile::create(part)?;
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

    /// The keys trusted now, by their ids.
    fn keys(&self) -> Vec<String> {
        self.device.trusted(&[]).unwrap_or_default().into_iter().map(|key| key.id).collect()
    }

    /// This thread, where it is root's, acts as the owner of the state folder from here on.
    fn become_owner(&self) -> Result<(), FetchError> {
        let Some(state) = self.inbox.parent() else { return Ok(()) };
        let Ok(metadata) = std::fs::metadata(state) else { return Ok(()) };
        if !rustix::process::geteuid().is_root() || metadata.uid() == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        // The user last: after it, no group can be given up.
        set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid))
            .map_err(|cause| FetchError::Owner { path: state.display().to_string(), cause: cause.into() })
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
        if self.update.url.is_empty() {
            return Err(FetchError::NoUrl);
        }
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
        // Below the device's root, as every path of its site file.
        let path = if file.is_absolute() { self.device.below_root(file) } else { crate::credentials::find(file) };
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
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Says `answer` to each request, and hands out what was asked, its lines in lower case.
    fn server(answer: &'static str) -> (String, Receiver<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
                let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                stream.write_all(answer.as_bytes()).unwrap();
                if asked.send(request.join("\n").to_lowercase()).is_err() {
                    return;
                }
            }
        });
        (url, requests)
    }

    /// 30 MiB every few hours, over somebody's mobile line, for what was no bundle the last time.
    #[test]
    fn what_was_refused_is_not_fetched_again_until_another_key_is_trusted() {
        for (head, expect) in [
            ("ETag: \"a\"", "if-none-match: \"a\""),
            ("Last-Modified: Sun, 29 Nov 2026 10:00:00 GMT", "if-modified-since: sun, 29 nov 2026 10:00:00 gmt"),
        ] {
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\nConnection: close\r\nContent-Length: 8\r\n\r\nnonsense");
            let (url, requests) = server(answer.leak());
            let dir = tempfile::tempdir().unwrap();
            let device = Arc::new(Device::below(dir.path()));
            let update = site::Update { url, ..site::Update::default() };
            let fetch = Fetch { device, update, inbox: dir.path().join("inbox"), board: "generic".into() };
            // The product's own agent speaks TLS alone.
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut passed = None;
            let mut ask = || {
                assert!(matches!(fetch.look(&agent, &mut passed), Err(FetchError::Refused { .. })));
                requests.recv().unwrap().contains(expect)
            };
            assert_eq!((ask(), ask()), (false, true), "{head}");
            std::fs::create_dir_all(fetch.device.keys()).unwrap();
            let key =
                "untrusted comment: minisign public key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
            std::fs::write(fetch.device.keys().join("a.pub"), key).unwrap();
            assert_eq!((ask(), ask()), (false, true), "{head}");
        }
    }

    #[test]
    fn a_server_that_is_away_is_asked_soon_and_then_less_and_less() {
        let waits: Vec<_> = (0..8).map(wait_after).collect();
        assert_eq!(waits[..4], [EVERY_S, 600..1800, 1200..3600, 2400..7200]);
        assert!(waits[1..].windows(2).all(|pair| pair[0].start <= pair[1].start && pair[1].end <= EVERY_S.end));
    }
}
