//! A Debian package of screamd, an update key, bundles: what updates and cards are made of.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{host_tools_ok, program, root};

/// A program of a release, and what it does when it is started.
pub enum Program<'a> {
    /// The real screamd of this build.
    Real,
    /// A shell script.
    Script(&'a str),
}

/// Builds `screamd_VERSION.deb` for this machine in `folder`, with the repository's boards and the model folder `model`,
/// as the real package lays them out; `dpkg-deb` makes it, so that what reads it reads what Debian writes.
pub fn deb(folder: &Path, version: &str, model: &Path, what: &Program) -> PathBuf {
    deb_for(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, folder, version, model, what)
}

/// The same, said to be for machines of `arch`, as Debian names them.
pub fn deb_for(arch: &str, folder: &Path, version: &str, model: &Path, what: &Program) -> PathBuf {
    let tree = folder.join(format!("tree-{version}"));
    let make = |path: &str| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let control = format!(
        "Package: screamd\nVersion: {version}-1\nArchitecture: {arch}\nMaintainer: nobody <nobody@example.org>\nDescription: test\n"
    );
    std::fs::write(make("DEBIAN/control"), control).unwrap();
    let screamd = make("usr/bin/screamd");
    match what {
        Program::Real => drop(std::fs::copy(program("screamd"), &screamd).unwrap()),
        Program::Script(text) => std::fs::write(&screamd, format!("#!/bin/sh\n{text}\n")).unwrap(),
    }
    std::fs::set_permissions(&screamd, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in std::fs::read_dir(root().join("boards")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            std::fs::copy(&path, make(&format!("usr/share/screamd/boards/{}", name(&path)))).unwrap();
        }
    }
    for entry in std::fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, make(&format!("usr/share/screamd/models/tiny/{}", name(&path)))).unwrap();
    }
    std::os::unix::fs::symlink("tiny", make("usr/share/screamd/models/default")).unwrap();
    let deb = folder.join(format!("screamd_{version}.deb"));
    let mut build = Command::new("dpkg-deb");
    let built = build.args(["--root-owner-group", "-Zxz", "-z1", "--build"]).arg(&tree).arg(&deb).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::remove_dir_all(tree).unwrap();
    deb
}

/// A pair in `folder`; the secret key's path. The public one is `update.pub`.
pub fn keygen(folder: &Path) -> PathBuf {
    let key = folder.join("update.key");
    host_tools_ok(&["bundle", "keygen", "--out", key.to_str().unwrap()]);
    key
}

/// A bundle of a package.
pub fn bundle(deb: &Path, key: &Path) -> PathBuf {
    let out = deb.with_extension("bundle");
    let text = |path: &Path| path.to_str().unwrap().to_string();
    host_tools_ok(&["bundle", "--deb", &text(deb), "--key", &text(key), "--out", &text(&out)]);
    out
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_string()
}
