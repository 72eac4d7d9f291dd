//! Bundles and devices for this crate's tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minisign::KeyPair;
use release::keys::{self, TrustedKey};
use release::manifest::{File, Manifest};
use release::store::{Fit, Release, Store};
use release::trial::{Health, Now};
use release::{Refused, bundle, unpack};
use semver::Version;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A maker's key.
pub struct Key(KeyPair);

impl Key {
    pub fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    pub fn public(&self) -> TrustedKey {
        keys::parse(&self.text()).unwrap()
    }

    /// The public key's file.
    pub fn text(&self) -> String {
        self.0.pk.to_box().unwrap().into_string()
    }

    pub fn sign(&self, archive: &[u8]) -> Vec<u8> {
        let signature = minisign::sign(Some(&self.0.pk), &self.0.sk, archive, Some("test"), None).unwrap();
        bundle::assemble(&signature.into_string(), archive)
    }
}

/// The files of a small release; `program` is the whole of its screamd.
pub fn files(program: &str) -> Vec<(String, Vec<u8>)> {
    let of = |path: &str, text: &str| (path.to_string(), text.as_bytes().to_vec());
    let mut files = vec![of("bin/screamd", program), of("boards/generic.toml", "schema = 1")];
    files.extend((0..10).map(|board| of(&format!("boards/board-{board}.toml"), "schema = 1")));
    files.push(of("models/m/manifest.toml", "schema = 1"));
    files.push(of("models/m/model.onnx", &"weights".repeat(10_000)));
    files
}

pub fn manifest(version: &str, files: &[(String, Vec<u8>)]) -> Manifest {
    Manifest {
        schema: 1,
        version: Version::parse(version).unwrap(),
        arch: "test".into(),
        boards: vec!["generic".into()],
        default_model: "m".into(),
        files: files
            .iter()
            .map(|(path, bytes)| File {
                path: path.clone(),
                bytes: bytes.len() as u64,
                sha256: unpack::hex(&Sha256::digest(bytes)),
                executable: path == "bin/screamd",
            })
            .collect(),
    }
}

/// A bundle that nothing is wrong with.
pub fn bundle(key: &Key, version: &str) -> Vec<u8> {
    let files = files(&format!("program {version}"));
    key.sign(&bundle::pack(&manifest(version, &files), &files).unwrap())
}

/// A signed bundle whose archive the test writes itself, header by header.
pub fn odd_bundle(key: &Key, manifest: &Manifest, write: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut tar = tar::Builder::new(&mut plain);
    append(&mut tar, "manifest.toml", toml::to_string(manifest).unwrap().as_bytes(), tar::EntryType::Regular);
    write(&mut tar);
    tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    key.sign(&gzip.finish().unwrap())
}

/// An entry as it is, without the checks of the tar crate.
pub fn append(tar: &mut tar::Builder<&mut Vec<u8>>, path: &str, bytes: &[u8], kind: tar::EntryType) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
        header.set_link_name("/etc/shadow").unwrap();
    }
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

/// A device in a folder.
pub struct Device {
    pub root: TempDir,
    pub store: Store,
    pub keys: Vec<TrustedKey>,
    pub package: Version,
}

impl Device {
    pub fn new(keys: &[&Key]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::below(root.path());
        let keys = keys.iter().map(|key| key.public()).collect();
        Self { root, store, keys, package: Version::new(1, 0, 0) }
    }

    pub fn place(&self, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("new.bundle");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn apply_path(&self, path: &Path, board: &str, allow_downgrade: bool) -> Result<Release, Refused> {
        let fit = Fit { package: &self.package, arch: "test", board, allow_downgrade };
        self.store.apply(path, &self.keys, &fit, None, &mut |_| {})
    }

    pub fn apply(&self, bytes: &[u8]) -> Result<Release, Refused> {
        self.apply_path(&self.place(bytes), "generic", false)
    }

    /// Applies a release and lets it prove itself.
    pub fn settle(&self, bytes: &[u8]) -> Release {
        let release = self.apply(bytes).unwrap();
        self.store.begin(&now("boot", 0), &self.package).unwrap();
        self.store.judge(&now("boot", 1000), Some(&well(&release.id)), false).unwrap();
        assert!(!self.store.on_trial());
        release
    }

    /// Every path below the store with what stands there: what must not change.
    pub fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut tree = BTreeMap::new();
        walk(self.store.folder(), &mut tree);
        tree
    }
}

fn walk(folder: &Path, tree: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        // Locks are empty files that stay.
        if kind.is_dir() {
            walk(&path, tree);
        } else if kind.is_symlink() {
            tree.insert(path.clone(), std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if path.extension().is_none_or(|ending| ending != "lock") && !path.ends_with("lock") {
            tree.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

pub fn now(boot_id: &str, uptime_ms: u64) -> Now {
    Now { boot_id: boot_id.into(), uptime_ms }
}

/// Says that all is well.
pub fn well(release: &str) -> Health {
    Health { release: release.into(), window: true, microphone: true, outputs: true, outbox: true }
}
