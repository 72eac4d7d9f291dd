//! Which card is meant now: the microphone behind a name that stays (`files::card_name`).

use std::path::PathBuf;

use files::card_name::CARDS;

/// The name to give to ALSA: a USB port's path is looked up, everything else stays.
///
/// # Errors
/// Where no sound card is on that port now.
pub fn alsa_name(device: &str) -> Result<String, String> {
    let Some(port) = device.strip_prefix("usb:") else { return Ok(device.to_string()) };
    let entries = std::fs::read_dir(CARDS).map_err(|error| format!("{CARDS}: {error}"))?;
    let on_port = |card: &PathBuf| {
        // .../usb1/1-1/1-1.3/1-1.3:1.0/sound/card2
        std::fs::canonicalize(card).is_ok_and(|path| path.components().any(|part| part.as_os_str() == port))
    };
    let card = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("card")))
        .find(on_port)
        .ok_or_else(|| format!("no sound card on USB port {port}"))?;
    let id = std::fs::read_to_string(card.join("id")).map_err(|error| format!("{}: {error}", card.display()))?;
    Ok(format!("hw:CARD={}", id.trim()))
}

/// The cards that are there now, by the kernel's own names: a change means that one has come or gone.
pub fn cards() -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(CARDS).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}
