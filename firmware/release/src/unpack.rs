//! From a verified bundle to a release's folder: nothing but the files that its manifest names, each once, each with its
//! size and hash, every one of them on the disk before this returns.
//!
//! A signed bundle is its maker's word, and makers err: what could leave the folder or surprise (links, devices, odd
//! paths, an entry twice) is refused here all the same.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Cause;
use crate::bundle::Verified;
use crate::manifest::{self, DEFAULT_MODEL, Manifest};
use crate::place::sync_folder;

/// Unpacks into `folder`, which must not exist.
///
/// # Errors
/// A [`Cause`] that names the entry; what was written so far is left for the caller to sweep.
pub fn unpack(bundle: &mut Verified, manifest: &Manifest, folder: &Path) -> Result<(), Cause> {
    let mut missing: HashMap<&str, &manifest::File> =
        manifest.files.iter().map(|file| (file.path.as_str(), file)).collect();
    make_folder(folder)?;
    let mut archive = bundle.archive()?;
    let broken = |error: std::io::Error| Cause::Entry { path: "(archive)".into(), what: error.to_string() };
    for (index, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).escape_debug().to_string();
        let wrong = |what: &str| Cause::Entry { path: path.clone(), what: what.into() };
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(wrong(&format!("is {}, only regular files are taken", kind_name(kind))));
        }
        if index == 0 {
            // Read and checked before; stored below, from the same bytes' meaning.
            continue;
        }
        manifest::plain(&path).map_err(wrong)?;
        let Some(file) = missing.remove(path.as_str()) else {
            let twice = manifest.files.iter().any(|file| file.path == path);
            return Err(wrong(if twice { "stands twice in the archive" } else { "is not named in the manifest" }));
        };
        if entry.size() != file.bytes {
            return Err(wrong(&format!("has {} bytes, the manifest says {}", entry.size(), file.bytes)));
        }
        store(&mut entry, file, folder).map_err(|cause| match cause {
            Stored::Hash => wrong("its hash is not the manifest's"),
            Stored::Io(source) => Cause::Io { step: format!("write `{path}`"), source },
        })?;
    }
    if let Some(path) = manifest.files.iter().map(|file| &file.path).find(|path| missing.contains_key(path.as_str())) {
        return Err(Cause::Entry {
            path: path.clone(),
            what: "is named in the manifest and not in the archive".into(),
        });
    }
    finish(manifest, folder)
}

/// The manifest, the link to the default model, and every folder stored.
fn finish(manifest: &Manifest, folder: &Path) -> Result<(), Cause> {
    let text = toml::to_string(manifest).map_err(|error| Cause::Manifest(error.to_string()))?;
    let write = || -> std::io::Result<()> {
        let mut file = new_file(&folder.join(manifest::NAME), false)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::os::unix::fs::symlink(&manifest.default_model, folder.join(DEFAULT_MODEL))?;
        sync_tree(folder)
    };
    write().map_err(Cause::io("store the release"))
}

enum Stored {
    Hash,
    Io(std::io::Error),
}

fn store(entry: &mut impl Read, file: &manifest::File, folder: &Path) -> Result<(), Stored> {
    let path = folder.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Stored::Io)?;
    }
    let mut out = new_file(&path, file.executable).map_err(Stored::Io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match entry.read(&mut buffer).map_err(Stored::Io)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n]).map_err(Stored::Io)?;
            }
        }
    }
    if hex(&hash.finalize()) != file.sha256 {
        return Err(Stored::Hash);
    }
    out.sync_all().map_err(Stored::Io)
}

/// Nobody but root writes, everybody reads: the service is another user. Whatever the umask says.
fn new_file(path: &Path, executable: bool) -> std::io::Result<File> {
    let mode = if executable { 0o755 } else { 0o644 };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

fn make_folder(folder: &Path) -> Result<(), Cause> {
    fs::create_dir(folder).map_err(Cause::io(format!("make {}", folder.display())))
}

/// Stores every folder below and including `folder`, deepest first, each readable by everybody.
fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    sync_folder(folder)
}

/// Hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind_name(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Char | tar::EntryType::Block => "a device node",
        tar::EntryType::Fifo => "a pipe",
        tar::EntryType::Directory => "a folder",
        tar::EntryType::GNULongName | tar::EntryType::GNULongLink | tar::EntryType::XHeader => "an extension header",
        _ => "of an unknown kind",
    }
}
