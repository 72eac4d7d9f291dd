//! Public keys that a device trusts: every `*.pub` of one folder, in minisign's format. Several, so that a key can be
//! replaced: the new one is put beside the old one, and the old one is taken away once every device has both.

use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::PublicKey;

use crate::limits::{KEY_BYTES_MAX, KEYS_MAX};
use crate::{Cause, Refused};

/// A key with its id.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    /// As minisign prints it.
    pub id: String,
    pub(crate) raw_id: [u8; 8],
    pub(crate) key: PublicKey,
}

/// The keys of a folder; none where it is missing.
///
/// # Errors
/// A file there that ends in `.pub` and is no key, or cannot be read: a device that trusts less than its owner thinks
/// should say so.
pub fn in_folder(folder: &Path) -> Result<Vec<TrustedKey>, Refused> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Refused::at(folder, Cause::io("read it")(error))),
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "pub"));
    paths.sort();
    paths.truncate(KEYS_MAX);
    paths.iter().map(|path| read(path)).collect()
}

/// The key of one file.
///
/// # Errors
/// Where it cannot be read or is none.
pub fn read(path: &Path) -> Result<TrustedKey, Refused> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| Refused::at(path, Cause::io("read it")(error)))?;
    parse(&text).map_err(|what| Refused::at(path, Cause::BadKey(what)))
}

/// The key of a file's text: minisign's two lines.
///
/// # Errors
/// What is wrong, in words.
pub fn parse(text: &str) -> Result<TrustedKey, String> {
    let key = PublicKey::decode(text).map_err(|error| error.to_string())?;
    // The crate keeps the id to itself; bytes 2 to 10 of the second line hold it.
    let line = text.lines().nth(1).unwrap_or_default().trim();
    let raw_id = raw_id(line).ok_or("its second line is too short")?;
    Ok(TrustedKey { id: hex_id(raw_id), raw_id, key })
}

/// The id in the first bytes of a key's or a signature's base64 line.
pub(crate) fn raw_id(line: &str) -> Option<[u8; 8]> {
    // Two bytes of algorithm, eight of id; four characters hold three bytes.
    let bytes = STANDARD.decode(line.get(..16)?).ok()?;
    bytes.get(2..10)?.try_into().ok()
}

/// As minisign prints it: the bytes as one little-endian number.
pub(crate) fn hex_id(raw: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of minisign's own documentation.
    const TEXT: &str = "untrusted comment: minisign public key E7620F1842B4E81F\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";

    #[test]
    fn a_key_has_the_id_that_minisign_prints() {
        assert_eq!(parse(TEXT).unwrap().id, "E7620F1842B4E81F");
    }

    #[test]
    fn a_folder_of_keys_is_read_and_a_bad_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_folder(&folder.path().join("none")).unwrap().is_empty());
        std::fs::write(folder.path().join("a.pub"), TEXT).unwrap();
        std::fs::write(folder.path().join("a.key"), "not looked at").unwrap();
        assert_eq!(in_folder(folder.path()).unwrap().len(), 1);
        std::fs::write(folder.path().join("b.pub"), "nonsense").unwrap();
        let said = in_folder(folder.path()).unwrap_err().to_string();
        assert!(said.contains("b.pub: is no minisign public key"), "{said}");
    }
}
