//! A bundle: a release in one signed file.
//!
//! ```text
//! screamd bundle 1
//! untrusted comment: ...                 \
//! <base64: algorithm, key id, signature>  | minisign's signature file, as it is: of everything below
//! trusted comment: ...                    |
//! <base64: global signature>             /
//! <gzip of a tar: manifest.toml first, then the files that it names>
//! ```
//! `sed 1,5d FILE > payload; sed -n 2,5p FILE > payload.minisig; minisign -V -p KEY.pub -m payload` checks it by hand.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use minisign_verify::Signature;
use sha2::{Digest, Sha256};

use crate::keys::{self, TrustedKey};
use crate::limits::{BUNDLE_BYTES_MAX, HEAD_BYTES_MAX, MANIFEST_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::manifest::{self, Manifest};
use crate::{Cause, Refused};

/// First line.
pub const MAGIC: &str = "screamd bundle 1";
/// Files by their paths in a release.
pub type Files = Vec<(String, Vec<u8>)>;
/// Lines of a signature.
const SIGNATURE_LINES: usize = 4;

/// The archive of a release. The same bytes for the same files.
///
/// # Errors
/// A manifest that does not make sense, or does not name exactly `files`.
pub fn pack(manifest: &Manifest, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    manifest.check()?;
    let named: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let given: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    if named != given {
        return Err("the manifest names other files than are given".into());
    }
    let text = toml::to_string(manifest).map_err(|error| error.to_string())?;
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), flate2::Compression::best()));
    let mut append = |path: &str, bytes: &[u8], mode| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        tar.append_data(&mut header, path, bytes)
    };
    append(manifest::NAME, text.as_bytes(), 0o644).map_err(|error| error.to_string())?;
    for (file, (path, bytes)) in manifest.files.iter().zip(files) {
        append(path, bytes, if file.executable { 0o755 } else { 0o644 }).map_err(|error| format!("{path}: {error}"))?;
    }
    tar.into_inner().and_then(GzEncoder::finish).map_err(|error| error.to_string())
}

/// A bundle from its archive and the text of its signature.
pub fn assemble(signature: &str, archive: &[u8]) -> Vec<u8> {
    let mut out = format!("{MAGIC}\n{}\n", signature.trim_end()).into_bytes();
    out.extend_from_slice(archive);
    out
}

/// Opens a file that somebody else may have placed: no link is followed, no pipe or device is waited for.
///
/// # Errors
/// Not there, not a regular file, or over [`BUNDLE_BYTES_MAX`].
pub fn open(path: &Path) -> Result<File, Refused> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => Refused::at(path, Cause::NotAFile),
        _ => Refused::at(path, Cause::io("open it")(error)),
    })?;
    let metadata = file.metadata().map_err(|error| Refused::at(path, Cause::io("look at it")(error)))?;
    if !metadata.is_file() {
        return Err(Refused::at(path, Cause::NotAFile));
    }
    if metadata.len() > BUNDLE_BYTES_MAX {
        return Err(Refused::at(path, Cause::TooLarge { bytes: metadata.len(), max: BUNDLE_BYTES_MAX }));
    }
    Ok(file)
}

/// A bundle whose signature has been checked. It must not change any more: hand in a private copy.
#[derive(Debug)]
pub struct Verified {
    file: File,
    archive_at: u64,
    /// Id of the key that signed it.
    pub key: String,
    /// First hexadecimal digits of its archive's hash: tells two builds of one version apart.
    pub build: String,
}

/// Checks the signature of `file` against `keys`; nothing of the archive is looked at before.
///
/// # Errors
/// A [`Cause`]: no bundle, no such key, a signature that does not fit.
pub fn verify(mut file: File, trusted: &[TrustedKey]) -> Result<Verified, Cause> {
    let read = |error| Cause::io("read it")(error);
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    (&mut file).take(HEAD_BYTES_MAX as u64).read_to_end(&mut head).map_err(read)?;
    let (text, archive_at) = split_head(&head)?;
    let key_line = text.lines().nth(1).unwrap_or_default();
    let signed_with = keys::raw_id(key_line).ok_or(Cause::NotABundle("its signature cannot be read"))?;
    let key = trusted.iter().find(|key| key.raw_id == signed_with).ok_or_else(|| Cause::UnknownKey {
        signed_with: keys::hex_id(signed_with),
        trusted: trusted.iter().map(|key| key.id.as_str()).collect::<Vec<_>>().join(", "),
    })?;
    let signature = Signature::decode(text).map_err(|_| Cause::NotABundle("its signature cannot be read"))?;
    let mut check = key.key.verify_stream(&signature).map_err(|_| Cause::BadSignature)?;
    let mut hash = Sha256::new();
    file.seek(SeekFrom::Start(archive_at)).map_err(read)?;
    let mut rest = (&mut file).take(BUNDLE_BYTES_MAX);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match rest.read(&mut buffer).map_err(read)? {
            0 => break,
            n => {
                check.update(&buffer[..n]);
                hash.update(&buffer[..n]);
            }
        }
    }
    check.finalize().map_err(|_| Cause::BadSignature)?;
    let build = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(Verified { file, archive_at, key: key.id.clone(), build })
}

/// The signature's text, and where the archive begins.
fn split_head(head: &[u8]) -> Result<(&str, u64), Cause> {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n');
    let magic = lines.next().unwrap_or_default();
    if magic.strip_suffix(b"\n") != Some(MAGIC.as_bytes()) {
        return Err(Cause::NotABundle("it does not begin as one"));
    }
    let length: usize = lines.take(SIGNATURE_LINES).map(<[u8]>::len).sum();
    let (from, until) = (magic.len(), magic.len() + length);
    let whole = head[from..until].iter().filter(|byte| **byte == b'\n').count() == SIGNATURE_LINES;
    let text = std::str::from_utf8(&head[from..until]).ok().filter(|_| whole);
    Ok((text.ok_or(Cause::NotABundle("it is cut off within its signature"))?, until as u64))
}

impl Verified {
    /// The archive from its beginning, under the bound of what it may unpack to.
    pub(crate) fn archive(&mut self) -> Result<tar::Archive<impl Read>, Cause> {
        self.file.seek(SeekFrom::Start(self.archive_at)).map_err(Cause::io("read it"))?;
        // Headers and padding are at most 1 KiB a file.
        let bound = RELEASE_BYTES_MAX + MANIFEST_BYTES_MAX + 1024 * 1024;
        Ok(tar::Archive::new(GzDecoder::new(std::io::BufReader::new(&mut self.file)).take(bound)))
    }

    /// Its manifest.
    ///
    /// # Errors
    /// Where the first entry is none, or it does not make sense.
    pub fn manifest(&mut self) -> Result<Manifest, Cause> {
        let mut archive = self.archive()?;
        let broken = |error: std::io::Error| Cause::Manifest(error.to_string());
        let mut entry = match archive.entries().map_err(broken)?.raw(true).next() {
            Some(entry) => entry.map_err(broken)?,
            None => return Err(Cause::Manifest("the archive is empty".into())),
        };
        if entry.path_bytes().as_ref() != manifest::NAME.as_bytes() || !entry.header().entry_type().is_file() {
            return Err(Cause::Manifest("is not the first entry".into()));
        }
        if entry.size() > MANIFEST_BYTES_MAX {
            return Err(Cause::Manifest(format!("has more than {MANIFEST_BYTES_MAX} bytes")));
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(broken)?;
        Manifest::parse(&text).map_err(Cause::Manifest)
    }
}

/// Copies `from` to `to`, at most [`BUNDLE_BYTES_MAX`] bytes.
pub(crate) fn copy(from: &mut File, to: &mut File) -> std::io::Result<u64> {
    from.seek(SeekFrom::Start(0))?;
    let copied = std::io::copy(&mut from.take(BUNDLE_BYTES_MAX), to)?;
    to.flush()?;
    Ok(copied)
}
