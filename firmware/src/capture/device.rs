//! Which card is meant now: the microphone behind a name that stays (`files::card_name`).

use std::path::{Path, PathBuf};

use files::card_name::CARDS;

/// The name to give to ALSA: a USB port's path is looked up, everything else stays.
///
/// # Errors
/// Where no sound card is on that port now.
pub fn alsa_name(device: &str) -> Result<String, String> {
    let Some(port) = device.strip_prefix("usb:") else { return Ok(device.to_string()) };
    let entries = std::fs::read_dir(CARDS).map_err(|error| format!("{CARDS}: {error}"))?;
    let on_port = |card: &PathBuf| std::fs::canonicalize(card).is_ok_and(|path| is_on_port(&path, port));
    let card = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("card")))
        .find(on_port)
        .ok_or_else(|| format!("no sound card on USB port {port}"))?;
    let id = std::fs::read_to_string(card.join("id")).map_err(|error| format!("{}: {error}", card.display()))?;
    Ok(format!("hw:CARD={}", id.trim()))
}

/// Whether the device of `path` in /sys is in that very port, and in none of a hub that is in it: .../usb1/1-1/1-1.3/1-1.3:1.0/sound/card2 is
/// in 1-1.3, whose interface is 1.0.
fn is_on_port(path: &Path, port: &str) -> bool {
    let is_interface = |part: &str| part.rsplit_once(':').is_some_and(|(before, _)| before == port);
    path.components().any(|part| part.as_os_str().to_str().is_some_and(is_interface))
}

/// The cards that are there now, by the kernel's own names: a change means that one has come or gone.
pub fn cards() -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(CARDS).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_behind_a_hub_is_not_in_the_hubs_port() {
        let path = Path::new("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.3/1-1.3:1.0/sound/card2");
        assert!(is_on_port(path, "1-1.3"));
        for other in ["1-1", "usb1", "1-1.3:1.0", "0000", "1-1.3.1", ""] {
            assert!(!is_on_port(path, other), "{other}");
        }
    }
}
