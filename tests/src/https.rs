//! A server of one file over TLS, with an authority of its own: what `[update] url` is tried against.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates;

/// What it answers with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The file, with its ETag; 304 to whoever has that.
    File,
    /// Half of the file that was announced.
    Half,
    /// More than any bundle, announced and not sent.
    Huge,
    /// To an address without TLS.
    Elsewhere,
    /// 404.
    Nothing,
}

/// Runs until the test ends.
pub struct Https {
    /// Its authority, PEM.
    pub ca: PathBuf,
    port: u16,
    answer: Arc<Mutex<Answer>>,
    /// Files that were sent whole.
    sent: Arc<AtomicUsize>,
}

impl Https {
    /// Serves `file`, as it is at each request, from a free port; keys and certificates in `dir`.
    pub fn start(dir: &Path, file: PathBuf) -> Self {
        certificates::authority(dir);
        certificates::signed(dir, "localhost");
        let chain = CertificateDer::pem_file_iter(dir.join("localhost.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("localhost.p8")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            ca: dir.join("ca.pem"),
            port: listener.local_addr().unwrap().port(),
            answer: Arc::new(Mutex::new(Answer::File)),
            sent: Arc::default(),
        };
        let (answer, sent, config) = (Arc::clone(&server.answer), Arc::clone(&server.sent), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let bytes = std::fs::read(&file).unwrap();
                // A client that refuses the certificate, or goes away, is what some tests are about.
                if let Ok(true) = serve(&mut tls, &bytes, *answer.lock().unwrap()) {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        server
    }

    /// The address of the file.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/screamd.bundle", self.port)
    }

    /// What comes from now on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often the file was sent whole.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// One request; whether the whole file was sent.
fn serve(tls: &mut (impl Read + Write), bytes: &[u8], answer: Answer) -> std::io::Result<bool> {
    let mut wanted = String::new();
    {
        let mut lines = BufReader::new(&mut *tls);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some(tag) = line.to_ascii_lowercase().strip_prefix("if-none-match:") {
                wanted = tag.trim().to_string();
            }
        }
    }
    // Its length and its last byte tell two files of a test apart.
    let tag = format!("\"{}-{}\"", bytes.len(), bytes.last().copied().unwrap_or_default());
    let head = |status: &str, more: String| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    let (head, body) = match answer {
        Answer::File if wanted == tag => (head("304 Not Modified", String::new()), &bytes[..0]),
        Answer::File => (head("200 OK", format!("ETag: {tag}\r\nContent-Length: {}\r\n", bytes.len())), bytes),
        Answer::Half => (head("200 OK", format!("Content-Length: {}\r\n", bytes.len())), &bytes[..bytes.len() / 2]),
        Answer::Huge => (head("200 OK", "Content-Length: 1000000000\r\n".into()), &bytes[..0]),
        Answer::Elsewhere => (
            head("302 Found", "Location: http://localhost:1/screamd.bundle\r\nContent-Length: 0\r\n".into()),
            &bytes[..0],
        ),
        Answer::Nothing => (head("404 Not Found", "Content-Length: 0\r\n".into()), &bytes[..0]),
    };
    tls.write_all(head.as_bytes())?;
    tls.write_all(body)?;
    tls.flush()?;
    Ok(answer == Answer::File && !body.is_empty())
}
