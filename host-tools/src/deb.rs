//! A Debian package as it is: an `ar` of two archives. Read here and not by `dpkg-deb`, so that a laptop without Linux
//! can make a bundle or a card.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use files::model_dir::read_bounded;

/// Package and files together stay far under these.
const DEB_BYTES_MAX: u64 = 256 * 1024 * 1024;
const UNPACKED_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Links that are followed from one name.
const LINKS_MAX: usize = 8;

/// A package.
#[derive(Debug)]
pub struct Deb {
    /// `Package`, `Version`, `Architecture`, ...
    pub control: BTreeMap<String, String>,
    /// Every file and link, by its path without a leading slash.
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
enum Node {
    File { bytes: Vec<u8>, executable: bool },
    Link(String),
}

/// Reads a package.
///
/// # Errors
/// Where it is none; the text names it.
pub fn read(path: &Path) -> anyhow::Result<Deb> {
    let bytes = read_bounded(path, DEB_BYTES_MAX)?;
    parse(&bytes).with_context(|| format!("{}: is no Debian package that can be read", path.display()))
}

impl Deb {
    /// A field of its control file.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn field(&self, name: &str) -> anyhow::Result<&str> {
        self.control.get(name).map(String::as_str).with_context(|| format!("its control file has no `{name}`"))
    }

    /// The file at `path`, links followed; with whether it is a program.
    pub fn file(&self, path: &str) -> Option<(&[u8], bool)> {
        let mut path = path.to_string();
        for _ in 0..LINKS_MAX {
            match self.nodes.get(&path) {
                Some(Node::File { bytes, executable }) => return Some((bytes, *executable)),
                Some(Node::Link(target)) => path = beside(&path, target),
                // A folder on the way may be a link.
                None => path = self.through_folder_link(&path)?,
            }
        }
        None
    }

    /// Every file (no links) below `folder`, by its path below it.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.nodes.iter().filter_map(move |(path, node)| match node {
            Node::File { bytes, .. } => Some((path.strip_prefix(folder)?.strip_prefix('/')?, bytes.as_slice())),
            Node::Link(_) => None,
        })
    }

    /// Where the link at `path` leads.
    pub fn link(&self, path: &str) -> Option<String> {
        match self.nodes.get(path)? {
            Node::Link(target) => Some(beside(path, target)),
            Node::File { .. } => None,
        }
    }

    fn through_folder_link(&self, path: &str) -> Option<String> {
        let cuts = path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
        cuts.into_iter().rev().find_map(|at| Some(format!("{}{}", self.link(&path[..at])?, &path[at..])))
    }
}

/// A link's target as a path without a leading slash.
fn beside(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn parse(bytes: &[u8]) -> anyhow::Result<Deb> {
    let mut rest = bytes.strip_prefix(b"!<arch>\n").context("it does not begin as one")?;
    let (mut control, mut nodes) = (None, None);
    while rest.len() >= 60 {
        let (header, after) = rest.split_at(60);
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_string();
        let (name, size) = (text(0..16), text(48..58));
        let name = name.trim_end_matches('/');
        let size: usize = size.parse().with_context(|| format!("`{name}` has a size that is none"))?;
        ensure!(size <= after.len(), "it is cut off within `{name}`");
        let (member, after) = after.split_at(size);
        match name.split_once(".tar") {
            Some(("control", ending)) => control = Some(control_fields(&unpacked(member, ending)?)?),
            Some(("data", ending)) => nodes = Some(data(&unpacked(member, ending)?)?),
            _ => {}
        }
        // Members begin at even places.
        rest = after.get(size % 2..).unwrap_or_default();
    }
    Ok(Deb { control: control.context("it has no control archive")?, nodes: nodes.context("it has no data archive")? })
}

fn unpacked(member: &[u8], ending: &str) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    let reader: Box<dyn Read + '_> = match ending {
        "" => Box::new(member),
        ".gz" => Box::new(flate2::read::GzDecoder::new(member)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(member, true)),
        other => bail!("it is packed as {other}, only xz, gz and plain are read (dpkg-deb -Zxz packs it so)"),
    };
    reader.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut out).context("it is damaged")?;
    ensure!(out.len() as u64 <= UNPACKED_BYTES_MAX, "it unpacks to more than {UNPACKED_BYTES_MAX} bytes");
    Ok(out)
}

fn control_fields(tar: &[u8]) -> anyhow::Result<BTreeMap<String, String>> {
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        if name_of(&entry)? == "control" {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            let field =
                |line: &str| line.split_once(':').map(|(key, value)| (key.to_string(), value.trim().to_string()));
            return Ok(text.lines().filter(|line| !line.starts_with(' ')).filter_map(field).collect());
        }
    }
    bail!("its control archive has no control file")
}

fn data(tar: &[u8]) -> anyhow::Result<BTreeMap<String, Node>> {
    let mut nodes = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = name_of(&entry)?;
        let kind = entry.header().entry_type();
        let target = |entry: &tar::Entry<&[u8]>| -> anyhow::Result<String> {
            let name = entry.link_name()?.with_context(|| format!("`{path}` links to nothing"))?;
            Ok(name.to_string_lossy().into_owned())
        };
        let node = if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            // Its header may state anything.
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Node::File { bytes, executable }
        } else if kind.is_symlink() {
            Node::Link(target(&entry)?)
        } else if kind.is_hard_link() {
            // Named from the package's root.
            Node::Link(format!("/{}", target(&entry)?.trim_start_matches("./")))
        } else {
            continue;
        };
        nodes.insert(path, node);
    }
    Ok(nodes)
}

fn name_of(entry: &tar::Entry<impl Read>) -> anyhow::Result<String> {
    let path = entry.path()?.to_string_lossy().into_owned();
    Ok(path.trim_start_matches("./").trim_matches('/').to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A package with these files, packed as `ending` says; a content that begins with `->` is a link.
    pub(crate) fn package(control: &str, files: &[(&str, &str)], ending: &str) -> Vec<u8> {
        let tar = |files: &[(&str, &str)]| {
            let mut tar = tar::Builder::new(Vec::new());
            for (path, text) in files {
                let mut header = tar::Header::new_gnu();
                header.set_mode(if path.contains("bin/") { 0o755 } else { 0o644 });
                let path = format!("./{path}");
                match text.strip_prefix("->") {
                    Some(target) => {
                        header.set_entry_type(tar::EntryType::Symlink);
                        header.set_size(0);
                        tar.append_link(&mut header, path, target).unwrap();
                    }
                    None => {
                        header.set_size(text.len() as u64);
                        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
                    }
                }
            }
            tar.into_inner().unwrap()
        };
        let packed = |bytes: Vec<u8>| match ending {
            ".gz" => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut gzip, &bytes).unwrap();
                gzip.finish().unwrap()
            }
            _ => bytes,
        };
        let mut ar = b"!<arch>\n".to_vec();
        let members = [
            ("debian-binary".to_string(), b"2.0\n".to_vec()),
            (format!("control.tar{ending}"), packed(tar(&[("control", control)]))),
            (format!("data.tar{ending}"), packed(tar(files))),
        ];
        for (name, bytes) in members {
            ar.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len()).bytes());
            ar.extend_from_slice(&bytes);
            if bytes.len() % 2 == 1 {
                ar.push(b'\n');
            }
        }
        ar
    }

    const CONTROL: &str =
        "Package: screamd\nVersion: 1.2.0-1\nArchitecture: arm64\nDescription: an alarm\n that listens\n";

    #[test]
    fn files_links_and_fields_are_found() {
        let files = [
            ("usr/bin/screamd", "->../lib/screamd/bin/screamd"),
            ("usr/lib/screamd/bin/screamd", "program"),
            ("usr/share/screamd/models/a/manifest.toml", "m"),
            ("usr/share/screamd/models/default", "->a"),
            ("usr/share/x", "->/usr/share/screamd"),
            ("loop", "->loop"),
        ];
        for ending in ["", ".gz"] {
            let deb = parse(&package(CONTROL, &files, ending)).unwrap();
            assert_eq!(deb.field("Version").unwrap(), "1.2.0-1");
            assert!(deb.field("Nonsense").is_err());
            assert_eq!(deb.file("usr/bin/screamd"), Some((&b"program"[..], true)));
            assert_eq!(deb.file("usr/share/x/models/default/manifest.toml"), Some((&b"m"[..], false)));
            assert_eq!(deb.file("loop"), None);
            assert_eq!(deb.link("usr/share/screamd/models/default").unwrap(), "usr/share/screamd/models/a");
            assert_eq!(
                deb.below("usr/share/screamd/models").map(|(path, _)| path).collect::<Vec<_>>(),
                ["a/manifest.toml"]
            );
        }
    }

    #[test]
    fn what_is_no_package_says_why() {
        let check = |bytes: &[u8], expect: &str| {
            let said = format!("{:#}", parse(bytes).unwrap_err());
            assert!(said.contains(expect), "{said}");
        };
        let good = package(CONTROL, &[], "");
        check(b"PK", "does not begin as one");
        check(&good[..good.len() - 500], "cut off within `data.tar`");
        check(&good[..8], "no control archive");
        check(&package(CONTROL, &[], ".zst"), "packed as .zst, only xz, gz and plain");
    }
}
