//! The same into an image file: its FAT partition is found and written in place, without root and without a loop device.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use fatfs::{Dir, FileSystem, FsOptions};

use super::card::Card;
use super::{Written, bmap};

const SECTOR: u64 = 512;
/// MBR types of FAT partitions.
const FAT_TYPES: [u8; 6] = [0x01, 0x04, 0x06, 0x0b, 0x0c, 0x0e];
/// A cmdline.txt, bytes: the kernel takes 2,048.
const CMDLINE_BYTES_MAX: u64 = 4096;

/// A part of a file.
struct Part<'a> {
    file: &'a mut File,
    from: u64,
    length: u64,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.from + self.at))?;
        let left = (self.length - self.at).min(buffer.len() as u64) as usize;
        let read = self.file.read(&mut buffer[..left])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.from + self.at))?;
        let left = (self.length - self.at).min(bytes.len() as u64) as usize;
        let written = self.file.write(&bytes[..left])?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        match at.filter(|at| *at <= self.length) {
            Some(at) => {
                self.at = at;
                Ok(at)
            }
            None => Err(std::io::ErrorKind::InvalidInput.into()),
        }
    }
}

type Fat<'a> = FileSystem<Part<'a>>;

/// Writes the card's files into a copy of `base`, or of `out` itself, which then becomes `out`: an error or a power cut leaves what
/// was there. `.sha256` and `.bmap` come beside it.
pub fn write(card: &Card, base: Option<&Path>, out: &Path) -> anyhow::Result<Written> {
    let named = || out.display().to_string();
    ensure!(base.is_none() || !out.is_dir(), "{}: is a folder; with --image this is the image to write", out.display());
    let base = base.unwrap_or(out);
    let map = bmap::Map::beside(base)?;
    let mut copy = copied(base, out)?;
    let (from, length) = fat_partition(copy.as_file_mut()).with_context(named)?;
    let written = {
        let part = Part { file: copy.as_file_mut(), from, length, at: 0 };
        let fat =
            FileSystem::new(part, FsOptions::new()).with_context(|| format!("{}: its FAT partition", out.display()))?;
        let written = put(card, &fat).with_context(named)?;
        fat.unmount().with_context(named)?;
        written
    };
    copy.as_file().sync_all().with_context(named)?;
    let mut file = copy.persist(out).with_context(named)?;
    // Everything in the FAT partition may have changed; what else is mapped stays as it was.
    bmap::write(&mut file, out, map.map(|map| map.with(from, length)))?;
    Ok(written)
}

fn put(card: &Card, fat: &Fat) -> anyhow::Result<Written> {
    let root = fat.root_dir();
    let cmdline = match root.open_file("cmdline.txt") {
        Ok(file) => {
            let mut text = String::new();
            file.take(CMDLINE_BYTES_MAX).read_to_string(&mut text).context("cmdline.txt")?;
            Some(text)
        }
        Err(_) => None,
    };
    let os = card.os_of(|name| root.open_file(name).is_ok());
    let made = card.files(os, cmdline.as_deref())?;
    let there: Vec<String> = root.iter().filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    for name in there.iter().filter(|name| super::card::is_stale(name, &made)) {
        root.remove(name).with_context(|| format!("{name} on its FAT partition"))?;
    }
    let mut files = Vec::new();
    for (name, bytes) in made {
        put_file(&root, &name, &bytes).with_context(|| format!("{name} on its FAT partition"))?;
        files.push(name);
    }
    ensure!(
        os != super::Os::Bookworm || cmdline.is_some(),
        "its FAT partition has no cmdline.txt: is this a Raspberry Pi OS image?"
    );
    Ok(Written { files, os, by_hand: None })
}

fn put_file(root: &Dir<Part>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = root.create_file(name)?;
    file.truncate()?;
    file.write_all(bytes)?;
    file.flush()
}

/// `base`, as a file without a name yet in the folder of `out`.
fn copied(base: &Path, out: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let mut from = File::open(base).with_context(|| base.display().to_string())?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut to = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    let length = from.metadata().with_context(|| base.display().to_string())?.len();
    let bar = crate::progress::bar(length >> 20, "copying, MiB");
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match from.read(&mut buffer).with_context(|| base.display().to_string())? {
            0 => break,
            n => to.write_all(&buffer[..n]).with_context(|| out.display().to_string())?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(to)
}

/// Where the first FAT partition begins, and its length: of an MBR, a GPT, or of a file that is one itself.
fn fat_partition(file: &mut File) -> anyhow::Result<(u64, u64)> {
    let size = file.metadata()?.len();
    let first = sector(file, 0).context("is no image: it has not even one sector")?;
    ensure!(first[510..] == [0x55, 0xaa], "is no image: it has no partition table");
    if is_fat(&first) {
        return Ok((0, size));
    }
    let mut found = None;
    for entry in first[446..510].chunks_exact(16) {
        let (kind, from, length) = (entry[4], u64::from(u32_at(entry, 8)), u64::from(u32_at(entry, 12)));
        if FAT_TYPES.contains(&kind) {
            found = Some((from, length));
            break;
        }
        if kind == 0xee {
            found = gpt(file)?;
            break;
        }
    }
    let Some((from, length)) = found else { bail!("has no FAT partition") };
    let (from, length) = (from * SECTOR, length * SECTOR);
    ensure!(
        from > 0 && from.checked_add(length).is_some_and(|end| end <= size),
        "its FAT partition leads out of the file"
    );
    ensure!(is_fat(&sector(file, from)?), "its FAT partition holds no FAT file system");
    Ok((from, length))
}

/// The first partition of a GPT that holds a FAT file system; both in sectors.
fn gpt(file: &mut File) -> anyhow::Result<Option<(u64, u64)>> {
    let header = sector(file, SECTOR)?;
    ensure!(header.starts_with(b"EFI PART"), "its partition table is damaged");
    let (table, entries, size) = (u64_at(&header, 72), u32_at(&header, 80).min(128), u32_at(&header, 84));
    ensure!((128..=512).contains(&size), "its partition table is damaged");
    for index in 0..u64::from(entries) {
        let mut entry = vec![0u8; size as usize];
        file.seek(SeekFrom::Start(table * SECTOR + index * u64::from(size)))?;
        file.read_exact(&mut entry)?;
        let (from, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        if entry[..16] != [0; 16] && last >= from && is_fat(&sector(file, from * SECTOR)?) {
            return Ok(Some((from, last - from + 1)));
        }
    }
    Ok(None)
}

fn is_fat(sector: &[u8]) -> bool {
    sector[510..] == [0x55, 0xaa] && (&sector[54..57] == b"FAT" || &sector[82..87] == b"FAT32")
}

fn sector(file: &mut File, at: u64) -> anyhow::Result<[u8; 512]> {
    let mut bytes = [0u8; 512];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
