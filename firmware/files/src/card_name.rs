//! Names of sound cards that mean the same microphone after a reboot.
//!
//! A card's number depends on what was plugged in first; its id (`CARD=`) and the USB port's path do not.

use std::path::Path;

/// Where the kernel lists this machine's sound cards.
pub const CARDS: &str = "/sys/class/sound";

const EXAMPLE: &str = "such as \"hw:CARD=Device\"; `arecord -L` lists names";

/// Refuses a name that holds a card number, or what ALSA cannot be given. The hint says the id to write instead where `cards`
/// (the machine's [`CARDS`]) has the card now; None for a name of another machine's.
///
/// # Errors
/// Cause and hint.
pub fn stable(device: &str, cards: Option<&Path>) -> Result<(), (String, String)> {
    if device.is_empty() {
        return Err(("must not be empty".into(), EXAMPLE.into()));
    }
    // The alsa crate panics at a NUL in a name; no card's name has any of the others either.
    if device.chars().any(char::is_control) {
        return Err((format!("`{}` holds a control character", device.escape_debug()), EXAMPLE.into()));
    }
    if let Some(path) = device.strip_prefix("usb:") {
        // The bus, then the port at each hub: 1-1.3.
        let fine = path.split_once('-').is_some_and(|(bus, ports)| {
            let number = |text: &str| !text.is_empty() && is_number(text);
            number(bus) && ports.split('.').all(number)
        });
        return if fine {
            Ok(())
        } else {
            Err((format!("`{path}` is not a USB port's path"), "such as \"usb:1-1.3\"".into()))
        };
    }
    // What a plugin hands on (`plug:hw:0`, `plug:'hw:1,0'`) counts as what stands alone.
    let plain = device.replace(['\'', '"'], "");
    let Some((first, card)) = plain.split(':').skip(1).find_map(card_number) else { return Ok(()) };
    if card.is_empty() {
        return Err((format!("`{device}` names no card"), EXAMPLE.into()));
    }
    let id = cards.and_then(|cards| std::fs::read_to_string(cards.join(format!("card{card}/id"))).ok());
    let hint = match id {
        // A card that stands first, or by its key; in other spellings only the id is told.
        Some(id) if device.contains(&format!(":{first}")) => {
            format!("write \"{}\"", device.replacen(&format!(":{first}"), &format!(":CARD={}", id.trim()), 1))
        }
        Some(id) => format!("write CARD={} in its place", id.trim()),
        None => "write the card's id, such as \"hw:CARD=Device\"; `arecord -L` lists them".into(),
    };
    Err((format!("card number {card} may be another card after a reboot"), hint))
}

/// The argument that names a card by its number, or by nothing, and that number; `arguments` is what follows a plugin's colon: values in
/// their order, the card's first (`0,1`), by their keys (`DEV=0,CARD=1`), or as a table (`{CARD 1}`).
fn card_number(arguments: &str) -> Option<(&str, &str)> {
    // A table has its keys and values apart.
    let words: Vec<&str> = arguments.split([' ', '{', '}', '\t']).filter(|word| !word.is_empty()).collect();
    let in_table = words.windows(2).find(|pair| pair[0] == "CARD" && is_number(pair[1].trim_end_matches(',')));
    if let Some(pair) = in_table {
        return Some((pair[1], pair[1].trim_end_matches(',')));
    }
    arguments.split(',').enumerate().find_map(|(place, argument)| {
        let value = argument.trim_start_matches("SLAVE=").trim();
        match value.split_once('=') {
            Some(("CARD", card)) => is_number(card.trim()).then_some((argument, card.trim())),
            Some(_) => None,
            None => (place == 0 && is_number(value)).then_some((argument, value)),
        }
    })
}

/// Or nothing at all.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_a_control_character_is_refused_and_shown_without_it() {
        for (device, shown) in
            [("hw:CARD=Dev\0ice", "`hw:CARD=Dev\\0ice`"), ("default\n", "`default\\n`"), ("\u{7f}", "`\\u{7f}`")]
        {
            let (cause, hint) = stable(device, None).unwrap_err();
            assert_eq!(cause, format!("{shown} holds a control character"));
            assert!(hint.contains("arecord -L"), "{hint}");
        }
    }

    #[test]
    fn a_card_number_is_refused_with_the_id_to_write() {
        let cards = tempfile::tempdir().unwrap();
        std::fs::create_dir(cards.path().join("card1")).unwrap();
        std::fs::write(cards.path().join("card1/id"), "Device\n").unwrap();
        let check = |device: &str, hint: Option<&str>| match (stable(device, Some(cards.path())), hint) {
            (Ok(()), None) => {}
            (Err((_, found)), Some(hint)) => assert!(found.contains(hint), "{device}: {found}"),
            other => panic!("{device}: {other:?}"),
        };
        for fine in [
            "hw:CARD=Device",
            "plughw:CARD=Device,DEV=0",
            "default",
            "usb:1-1.3",
            "hw:Device",
            "hw:CARD=2i2",
            "plug:hw:Device",
            "plug:'hw:CARD=Device,DEV=0'",
            "plug:SLAVE='dsnoop:CARD=Device'",
            "hw:DEV=0,CARD=Device",
            "hw:{CARD Device}",
        ] {
            check(fine, None);
        }
        check("hw:1", Some("write \"hw:CARD=Device\""));
        check("plughw:1,0", Some("write \"plughw:CARD=Device,0\""));
        check("hw:CARD=1,DEV=0", Some("write \"hw:CARD=Device,DEV=0\""));
        check("plug:hw:1", Some("write \"plug:hw:CARD=Device\""));
        check("plug:'hw:1,0'", Some("write \"plug:'hw:CARD=Device,0'\""));
        check("plug:SLAVE='hw:7'", Some("arecord -L"));
        check("hw:", Some("arecord -L"));
        check("hw:CARD=", Some("arecord -L"));
        check("plug:hw:", Some("arecord -L"));
        check("hw:7", Some("arecord -L"));
        check("hw:DEV=0,CARD=1", Some("write CARD=Device in its place"));
        check("plug:SLAVE=\"hw:DEV=0,CARD=1\"", Some("write CARD=Device in its place"));
        check("hw:{CARD 1}", Some("write CARD=Device in its place"));
        check("hw:{ CARD 1, DEV 0 }", Some("CARD=Device"));
        check("hw: 1", Some("CARD=Device"));
        check("hw:CARD=1 ", Some("CARD=Device"));
        for path in ["usb:x", "usb:..", "usb:-", "usb:1-", "usb:"] {
            check(path, Some("usb:1-1.3"));
        }
        check("", Some("arecord -L"));
        let (_, elsewhere) = stable("hw:1", None).unwrap_err();
        assert!(elsewhere.contains("arecord -L"), "another machine's cards are not asked: {elsewhere}");
    }
}
