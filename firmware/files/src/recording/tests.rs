//! Heads as recorders and editors write them, right and wrong; every one with the same sound behind it.
#![allow(clippy::unwrap_used)]

use super::*;

const RATE_HZ: u32 = 16_000;

/// A thousand frames that differ.
fn samples() -> Vec<i16> {
    (0..1000).map(|n: i16| n.wrapping_mul(31)).collect()
}

fn chunk(name: &[u8; 4], length: u32, body: &[u8]) -> Vec<u8> {
    [&name[..], &length.to_le_bytes(), body].concat()
}

fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let block = channels * (bits / 8);
    let rate = u32::from(block) * RATE_HZ;
    let words = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    [&words[..], &RATE_HZ.to_le_bytes(), &rate.to_le_bytes(), &block.to_le_bytes(), &bits.to_le_bytes()].concat()
}

fn riff(size: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"RIFF", &size.to_le_bytes()[..], b"WAVE", &chunks.concat()].concat()
}

/// PCM of 16 bits and one channel, with what stands before the samples, and what the head says of their length.
fn pcm(size: u32, before: &[Vec<u8>], data_length: u32) -> Vec<u8> {
    let body: Vec<u8> = samples().iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut chunks = before.to_vec();
    chunks.extend([chunk(b"fmt ", 16, &format(1, 1, 16)), chunk(b"data", data_length, &body)]);
    riff(size, &chunks)
}

fn read(bytes: &[u8]) -> Result<(Vec<f32>, u32), RecordingError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    std::fs::write(&path, bytes).unwrap();
    Recording::read_all(&path)
}

#[track_caller]
fn heard(bytes: &[u8]) {
    let expect: Vec<f32> = samples().iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    let (sound, rate_hz) = read(bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(rate_hz, RATE_HZ);
    assert_eq!(sound, expect);
}

#[test]
fn the_outer_size_is_not_relied_on() {
    for size in [0, 3, 8, 36, 2036, 0x8000_0000, u32::MAX] {
        heard(&pcm(size, &[], 2000));
    }
}

#[test]
fn a_length_that_is_not_stated_is_read_to_the_end() {
    for length in [0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for size in [0, 36, 2036, u32::MAX] {
            heard(&pcm(size, &[], length));
        }
    }
}

#[test]
fn tags_before_the_samples_are_passed_over_padded_or_not() {
    let odd = |padded: bool| {
        chunk(b"LIST", 17, &[&b"INFOINAM\x05\0\0\0scr"[..], if padded { &b"ee\0"[..] } else { &b"ee"[..] }].concat())
    };
    for tags in [odd(true), odd(false), chunk(b"bext", 3, b"abc\0"), chunk(b"JUNK", 28, &[0; 28])] {
        heard(&pcm(2100, &[tags], 2000));
    }
    // What follows the samples is none of them.
    let mut tagged = pcm(2100, &[], 2000);
    tagged.extend(chunk(b"LIST", 4, b"INFO"));
    heard(&tagged);
}

#[test]
fn more_than_four_gibibytes_are_stated_elsewhere() {
    let sizes = [2036u64.to_le_bytes(), 2000u64.to_le_bytes(), 1000u64.to_le_bytes()].concat();
    let mut large = pcm(u32::MAX, &[chunk(b"ds64", 28, &[&sizes[..], &[0; 4]].concat())], u32::MAX);
    for name in [b"RF64", b"BW64"] {
        large[..4].copy_from_slice(name);
        heard(&large);
        assert!(matches!(read(&large[..900]), Err(RecordingError::Truncated { .. })));
    }
}

/// Of a head that was damaged, or made up.
#[test]
fn a_length_that_no_disk_holds_is_no_small_one() {
    let sizes = [u64::MAX, u64::MAX - 1, 1000].map(u64::to_le_bytes).concat();
    let mut large = pcm(u32::MAX, &[chunk(b"ds64", 28, &[&sizes[..], &[0; 4]].concat())], u32::MAX);
    large[..4].copy_from_slice(b"RF64");
    let Err(RecordingError::Truncated { stated: u64::MAX, .. }) = read(&large) else { panic!("{:?}", read(&large)) };
}

#[test]
fn every_channel_counts_however_many_there_are() {
    for channels in [2u16, 3, 19, 32, 100] {
        for extensible in [false, true] {
            let mut head = format(if extensible { 0xfffe } else { 1 }, channels, 16);
            if extensible {
                // 22 bytes more: valid bits, the channels' places, PCM by its GUID.
                head.extend([22, 0, 16, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]);
            }
            let frames = samples().into_iter().flat_map(|sample| {
                let mut frame = vec![0i16; usize::from(channels)];
                frame[usize::from(channels) - 1] = sample;
                frame
            });
            let body: Vec<u8> = frames.flat_map(i16::to_le_bytes).collect();
            let chunks = [chunk(b"fmt ", head.len() as u32, &head), chunk(b"data", body.len() as u32, &body)];
            let (sound, _) = read(&riff(0, &chunks)).unwrap();
            assert_eq!(sound.len(), 1000, "{channels}");
            for (heard, sample) in sound.iter().zip(samples()) {
                assert!((heard - f32::from(sample) / 32_768.0 / f32::from(channels)).abs() < 1e-7, "{channels}");
            }
        }
    }
}

#[test]
fn float_sound_is_taken_as_written_and_nonsense_refused() {
    let float = |sample: f32| {
        let body = [0.5f32, sample, -2.0].iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>();
        read(&riff(0, &[chunk(b"fmt ", 16, &format(3, 1, 32)), chunk(b"data", 12, &body)]))
    };
    assert_eq!(float(3.1).unwrap().0, [0.5, 3.1, -2.0]);
    for nonsense in [f32::NAN, f32::INFINITY, 1e30] {
        assert!(matches!(float(nonsense), Err(RecordingError::Damaged { .. })), "{nonsense}");
    }
}

#[test]
fn what_cannot_be_heard_says_why() {
    let empty = [
        riff(36, &[chunk(b"fmt ", 16, &format(1, 1, 16)), chunk(b"data", 0, &[])]),
        riff(48, &[chunk(b"fmt ", 16, &format(1, 1, 16)), chunk(b"data", 0, &[]), chunk(b"LIST", 4, b"INFO")]),
    ];
    for bytes in empty {
        assert!(matches!(read(&bytes), Err(RecordingError::Empty { .. })));
    }
    let packed = riff(0, &[chunk(b"fmt ", 16, &format(0x11, 1, 4)), chunk(b"data", 4, &[0; 4])]);
    let words = read(&packed).unwrap_err().to_string();
    assert!(words.contains("sound.wav") && words.contains("0x0011"), "{words}");
    let early = riff(0, &[chunk(b"data", 4, &[0; 4])]);
    assert!(read(&early).unwrap_err().to_string().contains("before their format"));
    let short = pcm(2036, &[], 2000);
    assert!(matches!(read(&short[..1000]), Err(RecordingError::Truncated { unit: "bytes", .. })));
    for end in [13, 20, 30, 40] {
        assert!(read(&short[..end]).unwrap_err().to_string().contains("it ends before"), "{end}");
    }
}
