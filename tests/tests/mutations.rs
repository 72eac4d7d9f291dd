//! Files that somebody, or a dying card, has spoilt: whatever stands in them ends in words or in something that works, never in a panic. Seeded:
//! a failure names its number.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use detector::manifest::Manifest;
use detector::model::{Executor, Model, sha256_hex};
use files::board::Board;
use files::site::Site;
use system_tests::device::Device;
use system_tests::root;

/// Of each text file.
const TEXTS: u64 = 10_000;
/// Of the tiny network's archive, each packed anew.
const ARCHIVES: u64 = 400;

/// What parsers stumble over.
const WORDS: [&str; 16] = [
    "nan",
    "-inf",
    "1e400",
    "-1",
    "0",
    "9223372036854775808",
    "\"",
    "'''",
    "[",
    "]]",
    "{",
    "=",
    "\u{0}",
    "\u{feff}",
    "true",
    "\n[a.b]\n",
];

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// One to four spoilt places.
fn spoilt(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(chars.len());
        let length = random.below(12).min(chars.len() - at);
        match random.below(5) {
            0 => drop(chars.drain(at..at + length)),
            1 => drop(chars.splice(at..at + length, WORDS[random.below(WORDS.len())].chars())),
            2 => chars[at] = char::from(random.below(128) as u8),
            3 => {
                let again: Vec<char> = chars[at..].iter().take(80).copied().collect();
                drop(chars.splice(at..at, again));
            }
            // A number becomes another.
            _ => {
                if let Some(digit) = chars[at..].iter().position(char::is_ascii_digit) {
                    drop(chars.splice(at + digit..=at + digit, WORDS[random.below(6)].chars()));
                }
            }
        }
    }
    chars.into_iter().collect()
}

/// How many of the mutations of `text` `works` takes.
fn taken(text: &str, works: impl Fn(&str) -> bool) -> u64 {
    (0..TEXTS).filter(|seed| works(&spoilt(text, &mut Random::new(*seed)))).count() as u64
}

#[test]
fn ten_thousand_spoilt_text_files_of_each_kind() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let manifest = read("models/default/manifest.toml");
    let document = read("docs/site.md");
    let site = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let decision = Manifest::parse("manifest.toml", &manifest).unwrap().decision;
    let found = [
        taken(&manifest, |text| Manifest::parse("manifest.toml", text).is_ok()),
        // What is left of a site file with mistakes is looked at all the same.
        taken(site, |text| {
            let parsed = Site::parse("site.toml", text);
            parsed.is_ok_and(|site| {
                site.decision(&decision).mistakes("site.toml").is_empty() && site.mqtt.port_in_force() > 0
            })
        }),
        taken(&read("boards/raspberry-pi-5.toml"), |text| Board::parse("board.toml", text).is_ok()),
    ];
    // Some of what is spoilt is a comment, or a number within its range; most is not.
    for (taken, kind) in found.into_iter().zip(["manifest", "site", "board"]) {
        println!("{kind}: {taken} of {TEXTS} taken");
        assert!(taken > 0 && taken < TEXTS * 3 / 4, "{kind}: {taken}");
    }
}

/// Its hash is right: somebody has made it so.
#[test]
fn hundreds_of_spoilt_networks_whose_hash_fits() {
    let device = Device::tiny("");
    let manifest = std::fs::read_to_string(device.path("model/manifest.toml")).unwrap();
    let mut manifest = Manifest::parse("manifest.toml", &manifest).unwrap();
    let unpacked = device.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = |args: &[&str], dir: &Path| {
        assert!(std::process::Command::new("tar").args(args).current_dir(dir).status().unwrap().success());
    };
    tar(&["xzf", "../model/model.nnef.tgz"], &unpacked);
    let mut names: Vec<_> = std::fs::read_dir(&unpacked).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().any(|name| name == "graph.nnef"), "{names:?}");
    detector::guarded::leave_to_guards();
    let (mut refused, mut loaded) = (0, 0);
    for seed in 0..ARCHIVES {
        let random = &mut Random::new(seed);
        // The graph's text as often as all tensors together.
        let graph = names.iter().position(|name| name == "graph.nnef").unwrap();
        let place = if random.below(2) == 0 { graph } else { random.below(names.len()) };
        let path = unpacked.join(&names[place]);
        let whole = std::fs::read(&path).unwrap();
        let changed = if place == graph {
            spoilt(std::str::from_utf8(&whole).unwrap(), random).into_bytes()
        } else {
            let mut bytes = whole.clone();
            // The header says type and shape.
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len().min(160));
                bytes[at] = random.below(256) as u8;
            }
            bytes
        };
        std::fs::write(&path, changed).unwrap();
        tar(&["czf", "../spoilt.tgz", "."], &unpacked);
        std::fs::write(&path, whole).unwrap();
        let bytes = std::fs::read(device.path("spoilt.tgz")).unwrap();
        manifest.sha256 = sha256_hex(&bytes);
        match Model::load(&manifest, &bytes, Executor::SingleThread) {
            Ok(_) => loaded += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {loaded} loaded");
    assert!(refused > ARCHIVES / 4 && loaded > 0, "{refused} refused, {loaded} loaded");
}
