//! The first question: which microphone. Cards are listed by the id that stays theirs after a reboot.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::bail;

use super::ask::Ask;
use super::meter;

/// Where the kernel lists sound cards and their streams.
const CARDS: &str = "/proc/asound";

/// A card that can record.
#[derive(Debug, PartialEq, Eq)]
struct Card {
    id: String,
    name: String,
}

/// Asks, and shows the level of what is chosen. Offered first is `hint`, the board's `audio_device_hint`, where it is plugged in.
///
/// # Errors
/// No microphone, or nobody answers.
pub fn question(ask: &mut Ask<impl BufRead, impl Write>, hint: Option<&str>) -> anyhow::Result<String> {
    let cards = cards(Path::new(CARDS));
    if cards.is_empty() {
        bail!("no sound card that records is plugged in (arecord -l lists them); plug it in, or give --audio");
    }
    let options: Vec<String> = cards.iter().map(|card| format!("{}  {}", card.id, card.name)).collect();
    let likely = likely(&cards, hint);
    ask.say("Microphones:");
    loop {
        let chosen = ask.choice("Which microphone", &options, likely, "--audio")?;
        let device = format!("hw:CARD={}", cards[chosen].id);
        match meter::show(ask, &device) {
            Ok(loudest_dbfs) => {
                let words = format!("{device}: loudest {loudest_dbfs:.0} dBFS. Is this the one?");
                if ask.yes_no(&words, true, "--audio")? {
                    return Ok(device);
                }
            }
            Err(cause) => {
                ask.say(&format!("{device}: {cause}"));
                if ask.yes_no("Take it all the same?", false, "--audio")? {
                    return Ok(device);
                }
            }
        }
    }
}

/// Where among `cards` the hinted one is; the first where it is not.
fn likely(cards: &[Card], hint: Option<&str>) -> usize {
    let id = hint.and_then(|device| device.strip_prefix("hw:CARD=")).map(|rest| rest.split(',').next().unwrap_or(rest));
    cards.iter().position(|card| Some(card.id.as_str()) == id).unwrap_or(0)
}

/// Cards below `folder` that have a capture stream, in the kernel's order.
fn cards(folder: &Path) -> Vec<Card> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_prefix("card").and_then(|number| number.parse::<u32>().ok()) else { continue };
        let streams = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let captures: Vec<_> = streams
            .filter(|stream| {
                let name = stream.file_name().to_string_lossy().into_owned();
                name.starts_with("pcm") && name.ends_with('c')
            })
            .collect();
        let Some(stream) = captures.first() else { continue };
        let Ok(id) = std::fs::read_to_string(entry.path().join("id")) else { continue };
        let info = std::fs::read_to_string(stream.path().join("info")).unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("name: ")).unwrap_or("").trim().to_string();
        found.push((number, Card { id: id.trim().to_string(), name }));
    }
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, card)| card).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_cards_that_record_are_listed_by_their_ids() {
        let folder = tempfile::tempdir().unwrap();
        let card = |number: u32, id: &str, streams: &[&str]| {
            let card = folder.path().join(format!("card{number}"));
            std::fs::create_dir(&card).unwrap();
            std::fs::write(card.join("id"), format!("{id}\n")).unwrap();
            for stream in streams {
                std::fs::create_dir(card.join(stream)).unwrap();
                std::fs::write(card.join(stream).join("info"), "card: 1\nname: USB Audio\n").unwrap();
            }
        };
        card(10, "Device", &["pcm0p", "pcm0c"]);
        card(0, "vc4hdmi0", &["pcm0p"]);
        card(2, "Camera", &["pcm0c"]);
        let found = cards(folder.path());
        let expect = |id: &str| Card { id: id.into(), name: "USB Audio".into() };
        assert_eq!(found, [expect("Camera"), expect("Device")]);
        assert!(cards(&folder.path().join("none")).is_empty());
        for (hint, first) in [
            (Some("hw:CARD=Device"), 1),
            (Some("hw:CARD=Device,DEV=0"), 1),
            (Some("hw:CARD=Other"), 0),
            (Some("default"), 0),
            (None, 0),
        ] {
            assert_eq!(likely(&found, hint), first, "{hint:?}");
        }
    }
}
