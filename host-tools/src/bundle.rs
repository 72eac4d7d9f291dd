//! `host-tools bundle --deb FILE --key FILE --out FILE [--board NAME]...`, `host-tools bundle keygen [--out FILE]`
//!
//! Makes a signed update of a package: the program, the models and the boards of `screamd_*.deb`, with a manifest that
//! names every file and its hash, signed with ed25519 in minisign's format. The device checks the signature before it
//! looks at anything else, so the key is what protects every device that trusts it: keep it on one machine, mode 0600.
//!
//! `keygen` writes a pair, `screamd-update.key` and `screamd-update.pub`. The second goes to every device's
//! `/etc/screamd/update-keys/`; several may stand there, so that a key can be replaced. An encrypted key of `minisign -G`
//! is not read: it would ask for its password.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use files::say;
use minisign::{KeyPair, SecretKeyBox};
use release::bundle::Files;
use release::manifest::{File, Manifest, PROGRAM};
use release::unpack::hex;
use semver::Version;
use sha2::{Digest, Sha256};

use crate::deb::{self, Deb};

/// Arguments.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    keygen: Option<Command>,
    /// The package to make an update of
    #[arg(long, required = true)]
    deb: Option<PathBuf>,
    /// The secret key
    #[arg(long, required = true)]
    key: Option<PathBuf>,
    /// The bundle to write
    #[arg(long, required = true)]
    out: Option<PathBuf>,
    /// A board that may install it; several times [default: every board, a site's own as well]
    #[arg(long = "board")]
    boards: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Makes a key pair; an existing file is never overwritten
    Keygen {
        /// The secret key's file, or a folder for both
        #[arg(long, default_value = "screamd-update.key")]
        out: PathBuf,
    },
}

/// Makes a bundle or a pair.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match (&args.keygen, &args.deb, &args.key, &args.out) {
        (Some(Command::Keygen { out }), ..) => keygen(out),
        (None, Some(deb), Some(key), Some(out)) => bundle(deb, key, out, &args.boards),
        _ => bail!("--deb, --key and --out belong together"),
    }
}

fn keygen(out: &Path) -> anyhow::Result<()> {
    let secret = if out.is_dir() { out.join("screamd-update.key") } else { out.to_path_buf() };
    let public = secret.with_extension("pub");
    ensure!(secret != public, "{}: the secret key's name must not end in .pub", secret.display());
    for path in [&secret, &public] {
        ensure!(!path.exists(), "{}: is there already and is not overwritten", path.display());
    }
    let pair = KeyPair::generate_unencrypted_keypair().context("cannot make a key pair")?;
    let comment = "screamd update key: whoever has this file can update every device that trusts it";
    new_file(&secret, 0o600, pair.sk.to_box(Some(comment))?.into_string().as_bytes())?;
    new_file(&public, 0o644, pair.pk.to_box()?.into_string().as_bytes())?;
    say!("{}: keep it on this machine, it signs updates", secret.display());
    say!("{}: copy it to /etc/screamd/update-keys/ of each device", public.display());
    Ok(())
}

fn new_file(path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path).context(show(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).context(show(path))
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn bundle(package: &Path, key: &Path, out: &Path, boards: &[String]) -> anyhow::Result<()> {
    let text = files::model_dir::read_bounded(key, release::limits::KEY_BYTES_MAX)?;
    let key = SecretKeyBox::from_string(&String::from_utf8_lossy(&text))
        .and_then(SecretKeyBox::into_unencrypted_secret_key)
        .with_context(|| format!("{}: is no unencrypted minisign secret key", key.display()))?;
    let named = || show(package);
    let deb = deb::read(package)?;
    let (manifest, files) = release_of(&deb, boards).with_context(named)?;

    let bar = crate::progress::spinner("packing and signing");
    let archive = release::bundle::pack(&manifest, &files).map_err(anyhow::Error::msg).with_context(named)?;
    let comment = format!("screamd {} {}", manifest.version, manifest.arch);
    let signature = minisign::sign(None, &key, &archive[..], Some(&comment), None).context("cannot sign")?;
    let bundle = release::bundle::assemble(&signature.into_string(), &archive);
    bar.finish_and_clear();
    ensure!(
        bundle.len() as u64 <= release::limits::BUNDLE_BYTES_MAX,
        "{}: its bundle has {} bytes, devices take {}",
        package.display(),
        bundle.len(),
        release::limits::BUNDLE_BYTES_MAX
    );
    write(out, &bundle)?;
    say!(
        "{}: screamd {} for {}, {} files, {} bytes; boards {}",
        out.display(),
        manifest.version,
        manifest.arch,
        manifest.files.len(),
        bundle.len(),
        manifest.boards.join(", ")
    );
    Ok(())
}

/// The bundle as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| show(folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).with_context(|| show(path))?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).with_context(|| show(path))?;
    Ok(())
}

/// Where the package has what a release holds.
const SHARE: &str = "usr/share/screamd";

fn release_of(deb: &Deb, boards: &[String]) -> anyhow::Result<(Manifest, Files)> {
    let mut found = Files::new();
    let (program, executable) = deb.file("usr/bin/screamd").context("has no usr/bin/screamd")?;
    ensure!(executable, "usr/bin/screamd is no program");
    found.push((PROGRAM.into(), program.to_vec()));
    if let Some((tools, true)) = deb.file("usr/bin/host-tools") {
        found.push(("bin/host-tools".into(), tools.to_vec()));
    }
    for folder in ["boards", "models"] {
        let from = format!("{SHARE}/{folder}");
        found.extend(deb.below(&from).map(|(path, bytes)| (format!("{folder}/{path}"), bytes.to_vec())));
    }
    found.sort();

    let known: Vec<String> = found
        .iter()
        .filter_map(|(path, _)| Some(path.strip_prefix("boards/")?.strip_suffix(".toml")?.to_string()))
        .collect();
    ensure!(!known.is_empty(), "has no boards in {SHARE}/boards");
    if let Some(unknown) = boards.iter().find(|board| !known.contains(board)) {
        bail!("--board {unknown}: the package has no such board; it has {}", known.join(", "));
    }
    let default_model = default_model(deb, &mut found)?;
    let architecture = deb.field("Architecture")?;
    let manifest = Manifest {
        schema: 1,
        version: version(deb.field("Version")?)?,
        arch: match architecture {
            "arm64" => "aarch64".into(),
            "amd64" => "x86_64".into(),
            other => bail!("its architecture is {other}; bundles are for arm64 and amd64"),
        },
        boards: if boards.is_empty() { known } else { boards.to_vec() },
        default_model,
        files: found
            .iter()
            .map(|(path, bytes)| File {
                path: path.clone(),
                bytes: bytes.len() as u64,
                sha256: hex(&Sha256::digest(bytes)),
                executable: path.starts_with("bin/"),
            })
            .collect(),
    };
    Ok((manifest, found))
}

/// The model that `models/default` means. A bundle holds no links, so the device makes this one again.
fn default_model(deb: &Deb, found: &mut Files) -> anyhow::Result<String> {
    let default = format!("{SHARE}/models/default");
    if let Some(target) = deb.link(&default) {
        let name = target.strip_prefix(&format!("{SHARE}/models/")).filter(|name| !name.contains('/'));
        return name
            .map(String::from)
            .with_context(|| format!("{default} leads to {target}, not to a model beside it"));
    }
    // A packager may have followed the link and left a folder.
    let mut any = false;
    for (path, _) in found.iter_mut() {
        if let Some(rest) = path.strip_prefix("models/default/") {
            (*path, any) = (format!("models/package-default/{rest}"), true);
        }
    }
    ensure!(any, "has no {default}");
    found.sort();
    Ok("package-default".into())
}

/// A Debian version as a semantic one: without epoch and revision, `~` before a pre-release.
fn version(text: &str) -> anyhow::Result<Version> {
    let upstream = text.split_once(':').map_or(text, |(_, rest)| rest);
    let upstream = upstream.rsplit_once('-').map_or(upstream, |(before, _)| before).replace('~', "-");
    Version::parse(&upstream).with_context(|| format!("its version {text} is no MAJOR.MINOR.PATCH"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::deb::tests::package;

    const CONTROL: &str = "Package: screamd\nVersion: 1.2.0-1\nArchitecture: arm64\n";
    const FILES: [(&str, &str); 6] = [
        ("usr/bin/screamd", "program"),
        ("usr/bin/host-tools", "tools"),
        ("usr/share/screamd/boards/generic.toml", "board"),
        ("usr/share/screamd/boards/raspberry-pi-4.toml", "board"),
        ("usr/share/screamd/models/m/manifest.toml", "manifest"),
        ("usr/share/screamd/models/default", "->m"),
    ];

    fn deb(control: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Deb) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.deb");
        std::fs::write(&path, package(control, files, ".gz")).unwrap();
        let deb = deb::read(&path).unwrap();
        (folder, deb)
    }

    #[test]
    fn a_package_becomes_a_release() {
        let (_folder, whole) = deb(CONTROL, &FILES);
        let (manifest, files) = release_of(&whole, &[]).unwrap();
        assert_eq!((manifest.version, manifest.arch.as_str()), (Version::new(1, 2, 0), "aarch64"));
        assert_eq!(manifest.boards, ["generic", "raspberry-pi-4"]);
        let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        let expect = [
            "bin/host-tools",
            "bin/screamd",
            "boards/generic.toml",
            "boards/raspberry-pi-4.toml",
            "models/m/manifest.toml",
        ];
        assert_eq!((paths.as_slice(), manifest.default_model.as_str()), (&expect[..], "m"));
        let one = release_of(&whole, &["generic".into()]).unwrap().0.boards;
        assert_eq!(one, ["generic"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |without: &str, expect: &str| {
            let files: Vec<_> = FILES.into_iter().filter(|(path, _)| !path.contains(without)).collect();
            let said = format!("{:#}", release_of(&deb(CONTROL, &files).1, &[]).unwrap_err());
            assert!(said.contains(expect), "{said}");
        };
        check("bin/screamd", "has no usr/bin/screamd");
        check("boards", "has no boards in usr/share/screamd/boards");
        check("default", "has no usr/share/screamd/models/default");
        let said = |control: &str, boards: &[String]| {
            format!("{:#}", release_of(&deb(control, &FILES).1, boards).unwrap_err())
        };
        assert!(said(&CONTROL.replace("arm64", "all"), &[]).contains("its architecture is all"));
        assert!(said(&CONTROL.replace("1.2.0-1", "1.2"), &[]).contains("1.2 is no MAJOR.MINOR.PATCH"));
        assert!(said(CONTROL, &["x".into()]).contains("no such board; it has generic, raspberry-pi-4"));
    }

    #[test]
    fn versions_of_packages() {
        for (text, expect) in [("1.2.3", "1.2.3"), ("1:1.2.3-4", "1.2.3"), ("1.2.3~rc1-1", "1.2.3-rc1")] {
            assert_eq!(version(text).unwrap(), Version::parse(expect).unwrap());
        }
    }
}
