//! A block map: which blocks of an image must be written, each range with its hash, so that `bmaptool copy` writes fast
//! and finds a bad card; and the image's own hash.
//!
//! Which blocks matter is known only to who made the image: a block of zeros may have been written on purpose. So the
//! ranges are those of the image's own `.bmap`, where it lies beside, with the boot partition's; else every block.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use release::unpack::hex;
use sha2::{Digest, Sha256};

const BLOCK: u64 = 4096;
const MAP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Ranges of blocks, first and last, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map(Vec<(u64, u64)>);

impl Map {
    /// The map beside an image, where there is one.
    pub fn beside(image: &Path) -> anyhow::Result<Option<Self>> {
        let path = with_ending(image, "bmap");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::model_dir::read_bounded(&path, MAP_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        ensure!(tag(&text, "BlockSize") == Some("4096"), "{}: its blocks are not of 4096 bytes", path.display());
        let ranges: Option<Vec<(u64, u64)>> = text.split("<Range").skip(1).map(range).collect();
        let mut ranges = ranges.with_context(|| format!("{}: a <Range> that is none", path.display()))?;
        ranges.sort_unstable();
        Ok(Some(Self(ranges)))
    }

    /// With the blocks of `length` bytes from `from` on.
    pub fn with(mut self, from: u64, length: u64) -> Self {
        self.0.push((from / BLOCK, (from + length).div_ceil(BLOCK).saturating_sub(1)));
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in self.0 {
            match joined.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

/// ` chksum="..."> 3-17 </Range>...`, or one block alone.
fn range(text: &str) -> Option<(u64, u64)> {
    let inner = text.split_once('>')?.1.split_once('<')?.0.trim();
    let (first, last) = inner.split_once('-').unwrap_or((inner, inner));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let inner = text.split_once(&format!("<{name}>"))?.1;
    Some(inner.split_once('<')?.0.trim())
}

/// `IMAGE` with another ending behind its own.
fn with_ending(image: &Path, ending: &str) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

/// Writes `image`.bmap and `image`.sha256.
pub fn write(file: &mut File, image: &Path, map: Option<Map>) -> anyhow::Result<()> {
    let named = || image.display().to_string();
    let size = file.metadata().with_context(named)?.len();
    let blocks = size.div_ceil(BLOCK);
    ensure!(blocks > 0, "{}: is empty", image.display());
    let map = map.unwrap_or(Map(vec![(0, blocks - 1)]));
    ensure!(map.0.iter().all(|(_, last)| *last < blocks), "{}: its .bmap is of a larger image", image.display());

    let bar = crate::progress::bar(blocks, "hashing, blocks");
    let mut whole = Sha256::new();
    let mut ranges = map.0.iter().copied().peekable();
    let mut hash = Sha256::new();
    let mut lines = String::new();
    file.seek(SeekFrom::Start(0)).with_context(named)?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, &*file);
    let mut block = vec![0u8; BLOCK as usize];
    for index in 0..blocks {
        let length = (size - index * BLOCK).min(BLOCK) as usize;
        reader.read_exact(&mut block[..length]).with_context(named)?;
        whole.update(&block[..length]);
        if let Some((first, last)) = ranges.peek().copied().filter(|(first, _)| *first <= index) {
            hash.update(&block[..length]);
            if index == last {
                let sum = hex(&std::mem::take(&mut hash).finalize());
                let blocks = if first == last { first.to_string() } else { format!("{first}-{last}") };
                lines.push_str(&format!("        <Range chksum=\"{sum}\"> {blocks} </Range>\n"));
                ranges.next();
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mapped: u64 = map.0.iter().map(|(first, last)| last - first + 1).sum();
    let zeros = "0".repeat(64);
    let text = format!(
        "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {size} </ImageSize>\n    <BlockSize> {BLOCK} </BlockSize>\n    \
         <BlocksCount> {blocks} </BlocksCount>\n    <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
         <ChecksumType> sha256 </ChecksumType>\n    <BmapFileChecksum> {zeros} </BmapFileChecksum>\n    <BlockMap>\n{lines}    \
         </BlockMap>\n</bmap>\n"
    );
    // The file's own hash is that of the file with zeros in its place.
    let text = text.replacen(&zeros, &hex(&Sha256::digest(text.as_bytes())), 1);
    std::fs::write(with_ending(image, "bmap"), text).with_context(named)?;
    let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sum = format!("{}  {name}\n", hex(&whole.finalize()));
    std::fs::write(with_ending(image, "sha256"), sum).with_context(named)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_read_joined_and_hashed() {
        assert_eq!(range(" chksum=\"x\"> 3-17 </Range>"), Some((3, 17)));
        assert_eq!(range("> 5 </Range>"), Some((5, 5)));
        assert_eq!(range("> 7-5 </Range>"), None);
        let map = Map(vec![(0, 1), (10, 12)]).with(2 * BLOCK, BLOCK);
        assert_eq!(map, Map(vec![(0, 2), (10, 12)]));
        assert_eq!(map.with(0, 20 * BLOCK), Map(vec![(0, 19)]));

        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.img");
        std::fs::write(&image, [vec![1u8; 4096], vec![0; 4096], vec![2; 100]].concat()).unwrap();
        let mut file = File::open(&image).unwrap();
        write(&mut file, &image, Some(Map(vec![(0, 0), (2, 2)]))).unwrap();
        let text = std::fs::read_to_string(with_ending(&image, "bmap")).unwrap();
        assert!(text.contains(&format!("<Range chksum=\"{}\"> 2 </Range>", hex(&Sha256::digest([2; 100])))), "{text}");
        assert_eq!(Map::beside(&image).unwrap(), Some(Map(vec![(0, 0), (2, 2)])));
        assert!(write(&mut file, &image, Some(Map(vec![(0, 3)]))).is_err(), "a larger image's");
    }
}
