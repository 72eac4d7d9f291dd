//! The head of a WAV as recorders really write it, put into the one form that symphonia reads without a doubt.
//!
//! Sizes in a head are often wrong: a recorder that writes into a pipe cannot go back to it, tools add tags and leave the outer size
//! as it was, and an odd tag may be padded or not. What counts is the format, where the samples begin, and how many are said to follow. Chunks:
//! "Multimedia Programming Interface and Data Specifications 1.0" (1991); RF64 and BW64, for more than 4 GiB: EBU Tech 3306, ITU-R BS.2088.

use std::io::{self, Cursor, Read, Take};

/// Data lengths that state none, bytes: what recorders write that cannot go back to the head (arecord, sox, ffmpeg).
const UNSTATED: [std::ops::RangeInclusive<u64>; 2] = [0x7fff_0000..=0x8000_0000, 0xffff_0000..=0xffff_ffff];
/// Longest chunk before the samples that is passed over, bytes: pictures of album covers lie there.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Format tags of samples that are read, each of one channel's value: PCM, float, A-law, mu-law.
const PCM: u16 = 1;
const FLOAT: u16 = 3;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
/// The real tag begins the sub-format.
const EXTENSIBLE: u16 = 0xfffe;

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// From 1.
    pub(super) channels: usize,
    /// Bytes of a value of one channel.
    pub(super) sample_bytes: u64,
    /// Bytes of the head: the samples begin behind it.
    pub(super) place: u64,
    /// Bytes of samples, where stated.
    pub(super) data_bytes: Option<u64>,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Format {
    tag: u16,
    rate_hz: u32,
    bits: u16,
}

/// A recording, after its first bytes have been read: they stand in front of it again. A WAV's samples follow its head in symphonia's form, as one
/// channel in which frames lie after one another.
pub(super) type Stream<R> = io::Chain<Cursor<Vec<u8>>, Take<R>>;

/// Reads the head where `source` is a WAV; any other stream comes back as it was.
///
/// # Errors
/// In words: a WAV that ends before its samples, or whose samples are coded in a way that is not read here.
pub(super) fn begin<R: Read>(mut source: R) -> Result<(Option<Head>, Stream<R>), String> {
    let mut first = Vec::new();
    let read = source.by_ref().take(12).read_to_end(&mut first);
    read.map_err(|error| error.to_string())?;
    let wav = first.len() == 12 && matches!(&first[..4], b"RIFF" | b"RF64" | b"BW64") && &first[8..] == b"WAVE";
    if !wav {
        return Ok((None, Cursor::new(first).chain(source.take(u64::MAX))));
    }
    let head = chunks(&mut source)?;
    let samples = source.take(head.data_bytes.unwrap_or(u64::MAX));
    Ok((Some(head), Cursor::new(head.plain()).chain(samples)))
}

/// The chunks up to the samples.
fn chunks(source: &mut impl Read) -> Result<Head, String> {
    let (mut place, mut format, mut data_bytes_64) = (12, None::<(usize, Format)>, None);
    let left = |error: io::Error| early(&error, "its data chunk");
    // The first byte of a chunk whose odd neighbour was not padded.
    let mut unpadded: Option<u8> = None;
    loop {
        let mut chunk = [0; 8];
        let known = usize::from(unpadded.is_some());
        chunk[0] = unpadded.take().unwrap_or(0);
        source.read_exact(&mut chunk[known..]).map_err(left)?;
        place += 8;
        let (name, length) = (&chunk[..4], u64::from(number(&chunk[4..])));
        if name == b"data" {
            let (channels, format) = format.ok_or("its samples come before their format is stated")?;
            let stated =
                Some(length).filter(|length| *length > 0 && !UNSTATED.iter().any(|none| none.contains(length)));
            let sample_bytes = u64::from(format.bits / 8);
            return Ok(Head { channels, sample_bytes, place, data_bytes: data_bytes_64.or(stated), format });
        }
        if length > CHUNK_BYTES_MAX {
            return Err(format!("a chunk of {length} bytes stands before its samples"));
        }
        let mut body = source.by_ref().take(length);
        match name {
            b"fmt " => format = Some(read_format(&mut body, length)?),
            // Sizes of 64 bits: of the file, then of the samples.
            b"ds64" if length >= 16 => {
                let sizes: [u8; 16] = bytes(&mut body).map_err(left)?;
                let size = u64::from_le_bytes(sizes[8..].try_into().unwrap_or_default());
                data_bytes_64 = Some(size).filter(|size| (1..u64::MAX).contains(size));
            }
            _ => {}
        }
        io::copy(&mut body, &mut io::sink()).map_err(left)?;
        place += length;
        if length % 2 == 1 {
            // Padded with a zero to an even length, by the rule; a name begins with a letter.
            let [next] = bytes(source).map_err(left)?;
            match next {
                0 => place += 1,
                letter => unpadded = Some(letter),
            }
        }
    }
}

fn read_format(body: &mut impl Read, length: u64) -> Result<(usize, Format), String> {
    let short = |error: io::Error| early(&error, "its format");
    let base: [u8; 16] = bytes(body).map_err(short)?;
    let word = |at: usize| u16::from_le_bytes([base[at], base[at + 1]]);
    let (mut tag, channels, rate_hz, bits) = (word(0), usize::from(word(2)), number(&base[4..]), word(14));
    if tag == EXTENSIBLE && length >= 40 {
        // Size of the extension, valid bits, places of the channels; then the sub-format.
        let extension: [u8; 10] = bytes(body).map_err(short)?;
        tag = u16::from_le_bytes([extension[8], extension[9]]);
    }
    let read = match tag {
        PCM => matches!(bits, 8 | 16 | 24 | 32),
        FLOAT => matches!(bits, 32 | 64),
        A_LAW | MU_LAW => bits == 8,
        _ => false,
    };
    if channels == 0 {
        return Err("its header states no channels".into());
    }
    match read {
        true => Ok((channels, Format { tag, rate_hz, bits })),
        false => Err(format!(
            "its samples are of {bits} bits and format {tag:#06x}: PCM of 8, 16, 24 or 32 bits, float of 32 or 64, A-law and mu-law are read"
        )),
    }
}

impl Head {
    /// This head in symphonia's form: of unstated length, and of one channel.
    fn plain(&self) -> Vec<u8> {
        let Format { tag, rate_hz, bits } = self.format;
        let extension: &[u8] = if matches!(tag, A_LAW | MU_LAW) { &[0; 2] } else { &[] };
        let mut head = Vec::with_capacity(48);
        head.extend_from_slice(b"RIFF\xff\xff\xff\xffWAVEfmt ");
        head.extend_from_slice(&(16 + extension.len() as u32).to_le_bytes());
        head.extend_from_slice(&tag.to_le_bytes());
        head.extend_from_slice(&1u16.to_le_bytes());
        head.extend_from_slice(&rate_hz.to_le_bytes());
        head.extend_from_slice(&rate_hz.saturating_mul(u32::from(bits / 8)).to_le_bytes());
        head.extend_from_slice(&(bits / 8).to_le_bytes());
        head.extend_from_slice(&bits.to_le_bytes());
        head.extend_from_slice(extension);
        head.extend_from_slice(b"data\xff\xff\xff\xff");
        head
    }

    /// Length in frames, where stated; what is left of a frame does not count.
    pub(super) fn frames(&self) -> Option<u64> {
        self.data_bytes.map(|bytes| bytes / self.sample_bytes / self.channels as u64)
    }
}

/// Whether nothing but chunks follows: a recording of no samples with its tags, not one whose length is unstated. `source` stands behind
/// the head of the data chunk.
pub(super) fn only_chunks(source: &mut impl Read) -> bool {
    loop {
        let mut chunk = [0; 8];
        match source.read(&mut chunk[..1]) {
            Ok(0) => return true,
            Ok(_) if source.read_exact(&mut chunk[1..]).is_ok() => {}
            _ => return false,
        }
        let length = u64::from(number(&chunk[4..]));
        let name_is_text = chunk[..4].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        let passed = io::copy(&mut source.by_ref().take(length + length % 2), &mut io::sink());
        if !name_is_text || passed.map_or(true, |passed| passed < length) {
            return false;
        }
    }
}

fn bytes<const N: usize>(source: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes).map(|()| bytes)
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn early(error: &io::Error, before: &str) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("it ends before {before}"),
        _ => error.to_string(),
    }
}
