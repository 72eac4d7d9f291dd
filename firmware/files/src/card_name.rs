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
        let fine = !path.is_empty() && path.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'.');
        return if fine {
            Ok(())
        } else {
            Err((format!("`{path}` is not a USB port's path"), "such as \"usb:1-1.3\"".into()))
        };
    }
    // What a plugin hands on (`plug:hw:0`, `plug:'hw:1,0'`) counts as what stands alone.
    let plain = device.replace(['\'', '"'], "");
    let arguments = plain.split(':').skip(1).map(|part| part.split(',').next().unwrap_or(""));
    let named = |argument: &&str| argument.trim_start_matches("SLAVE=").trim_start_matches("CARD=").to_string();
    let numbered = |argument: &&str| named(argument).bytes().all(|b| b.is_ascii_digit());
    let Some(first) = arguments.clone().find(numbered) else { return Ok(()) };
    let card = named(&first);
    if card.is_empty() {
        return Err((format!("`{device}` names no card"), EXAMPLE.into()));
    }
    let id = cards.and_then(|cards| std::fs::read_to_string(cards.join(format!("card{card}/id"))).ok());
    let hint = match id {
        Some(id) => format!("write \"{}\"", device.replacen(&format!(":{first}"), &format!(":CARD={}", id.trim()), 1)),
        None => "write the card's id, such as \"hw:CARD=Device\"; `arecord -L` lists them".into(),
    };
    Err((format!("card number {card} may be another card after a reboot"), hint))
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
        check("usb:x", Some("usb:1-1.3"));
        check("", Some("arecord -L"));
        let (_, elsewhere) = stable("hw:1", None).unwrap_err();
        assert!(elsewhere.contains("arecord -L"), "another machine's cards are not asked: {elsewhere}");
    }
}
