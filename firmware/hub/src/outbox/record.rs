//! One record of a segment, and reading a segment that may be damaged.
//!
//! ```text
//! mark 4 | length 4 | crc32 4 | seq 8 | kind 1 | payload (length bytes)      little endian
//! ```
//! The checksum covers everything behind it and the length. The mark's bytes stand in no UTF-8 text, so that after a
//! damaged record the next one is found by looking for it.
//!
//! *Torn tail*: the end of a file that a power cut left unfinished; expected, cut off without a word.
//! *Bad record*: one that was whole and is no longer; skipped and counted, its file is kept aside.

use crate::alert::Class;
use crate::limits::ALERT_BYTES_MAX;

const MARK: [u8; 4] = [0xf5, 0xc0, 0xfe, 0xff];
/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 21;

/// What a record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An alert that waits for its PUBACK.
    Alert(Class),
    /// The alert of this sequence number is done with: acknowledged, or dropped.
    Removed,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Alert(Class::Alarm) => 1,
            Self::Alert(Class::Supervision) => 2,
            Self::Removed => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Alert(Class::Alarm)),
            2 => Some(Self::Alert(Class::Supervision)),
            3 => Some(Self::Removed),
            _ => None,
        }
    }
}

/// A record as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its alert's number, unique in the outbox.
    pub seq: u64,
    /// What it means.
    pub kind: Kind,
    /// The alert's JSON without `delayed_s`; empty for [`Kind::Removed`].
    pub payload: &'a [u8],
}

/// What a segment held.
#[derive(Debug, Default)]
pub struct Scan<'a> {
    /// The sound records in their order.
    pub records: Vec<Record<'a>>,
    /// Damaged places.
    pub bad: u64,
    /// Whether it ends in the middle of a record.
    pub torn: bool,
}

/// Appends one record to a buffer.
pub fn encode(out: &mut Vec<u8>, record: &Record<'_>) {
    let length = (record.payload.len() as u32).to_le_bytes();
    let seq = record.seq.to_le_bytes();
    let kind = [record.kind.code()];
    let crc = checksum(&[&length, &seq, &kind, record.payload]);
    for part in [&MARK[..], &length, &crc.to_le_bytes(), &seq, &kind, record.payload] {
        out.extend_from_slice(part);
    }
}

/// Reads every sound record of a segment. Never fails: whatever is damaged is skipped and counted.
pub fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        match decode(&bytes[at..]) {
            Ok((record, length)) => {
                scan.records.push(record);
                at += length;
            }
            Err(damage) => match next_sound(bytes, at + 1) {
                Some(next) => {
                    scan.bad += 1;
                    at = next;
                }
                None => {
                    // Nothing follows. A record whose bytes are all there was written whole; some file systems leave
                    // zeros where a power cut came between the file's size and its data.
                    let zeros = bytes[at..].iter().all(|&byte| byte == 0);
                    if damage == Damage::Spoilt && !zeros {
                        scan.bad += 1;
                    } else {
                        scan.torn = true;
                    }
                    break;
                }
            },
        }
    }
    scan
}

#[derive(PartialEq, Eq)]
enum Damage {
    Unfinished,
    Spoilt,
}

fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), Damage> {
    let marked = bytes.len().min(MARK.len());
    if bytes[..marked] != MARK[..marked] {
        return Err(Damage::Spoilt);
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Damage::Unfinished);
    };
    let length = u32_at(header, 4) as usize;
    if length > ALERT_BYTES_MAX {
        return Err(Damage::Spoilt);
    }
    let Some(payload) = rest.get(..length) else {
        return Err(Damage::Unfinished);
    };
    let sound = u32_at(header, 8) == checksum(&[&header[4..8], &header[12..], payload]);
    match Kind::of(header[20]) {
        Some(kind) if sound => {
            let seq = u64::from(u32_at(header, 12)) | u64::from(u32_at(header, 16)) << 32;
            Ok((Record { seq, kind, payload }, HEADER_BYTES + length))
        }
        _ => Err(Damage::Spoilt),
    }
}

fn next_sound(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    tail.windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .map(|(offset, _)| from + offset)
        .find(|&at| decode(&bytes[at..]).is_ok())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (seq, kind, payload) in [
            (1, Kind::Alert(Class::Alarm), &b"{\"id\":\"1\"}"[..]),
            (1 << 40, Kind::Alert(Class::Supervision), b"{}"),
            (1, Kind::Removed, b""),
        ] {
            encode(&mut bytes, &Record { seq, kind, payload });
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn records_come_back() {
        let (bytes, _) = three();
        let scan = scan(&bytes);
        assert_eq!((scan.bad, scan.torn), (0, false));
        assert_eq!(scan.records[1].seq, 1 << 40);
        assert_eq!(scan.records[0].payload, b"{\"id\":\"1\"}");
        assert_eq!(scan.records[2].kind, Kind::Removed);
    }

    #[test]
    fn cut_at_every_byte_a_prefix_remains() {
        let (bytes, ends) = three();
        for cut in 0..=bytes.len() {
            let scan = scan(&bytes[..cut]);
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            assert_eq!(scan.records.len(), whole, "cut at {cut}");
            assert_eq!(scan.bad, 0, "cut at {cut}: a torn tail is no damage");
            assert_eq!(scan.torn, cut != 0 && !ends.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn one_flipped_bit_costs_one_record() {
        let (bytes, _) = three();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let scan = scan(&flipped);
            assert_eq!(scan.records.len(), 2, "bit {bit}");
            assert!(scan.bad + u64::from(scan.torn) == 1, "bit {bit}");
        }
    }

    #[test]
    fn zeros_behind_the_end_are_a_torn_tail() {
        let (mut bytes, _) = three();
        bytes.resize(bytes.len() + 100, 0);
        let scan = scan(&bytes);
        assert_eq!((scan.records.len(), scan.bad, scan.torn), (3, 0, true));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            scan(&bytes);
        }
    }
}
