//! What a site file's values must hold beyond their types: every mistake in one go.

use std::path::Path;

use detector::keys::KeyError;
use detector::quiet_gate;

use super::Site;
use crate::board::{LineRef, unstable_chip};
use crate::card_name;
use crate::event_record::is_id;
use crate::quiet_hours::QuietHours;

/// Bounds of what stands in a site file.
const ON_S_MAX: f64 = 3600.0;
/// It stands in every alert, whose size is bounded.
const ZONE_BYTES_MAX: usize = 256;
const PRE_ROLL_S_MAX: f64 = 60.0;

/// Every mistake of a parsed site file; `cards` as for [`card_name::stable`].
pub(super) fn mistakes(site: &Site, file: &str, cards: Option<&Path>) -> Vec<KeyError> {
    let mut wrong = Vec::new();
    if site.device_id.as_ref().is_some_and(|id| !is_id(id)) {
        wrong.push(KeyError::new(file, "device_id", "must be 1 to 64 of A-Z a-z 0-9 _ -"));
    }
    if site.zone.len() > ZONE_BYTES_MAX || site.zone.chars().any(char::is_control) {
        let cause = format!("must be of {ZONE_BYTES_MAX} bytes at most, without control characters");
        wrong.push(KeyError::new(file, "zone", cause));
    }
    audio(site, file, cards, &mut wrong);
    mqtt(site, file, &mut wrong);
    siren(site, file, &mut wrong);
    lines(site, file, &mut wrong);
    paths(site, file, &mut wrong);
    events(site, file, &mut wrong);
    if !site.update.url.is_empty() && !site.update.url.starts_with("https://") {
        wrong.push(KeyError::new(file, "update.url", "must begin with https://"));
    } else if !site.update.url.is_empty() && site.update.url.parse::<http::Uri>().is_err() {
        wrong.push(KeyError::new(file, "update.url", "is no address"));
    }
    wrong
}

fn audio(site: &Site, file: &str, cards: Option<&Path>, wrong: &mut Vec<KeyError>) {
    if let Some(device) = &site.audio.device
        && let Err((cause, hint)) = card_name::stable(device, cards)
    {
        wrong.push(KeyError::new(file, "audio.device", cause).hint(hint));
    }
    let floors = [
        ("audio.level_floor_dbfs", site.audio.level_floor_dbfs, &(-120.0..=0.0), ", dBFS"),
        ("audio.high_floor_dbfs", site.audio.high_floor_dbfs, &(-120.0..=0.0), ", dBFS"),
    ];
    let gate = [
        ("audio.quiet_level_dbfs", site.audio.quiet_level_dbfs, &quiet_gate::LEVEL_DBFS, ""),
        ("audio.quiet_band_db", site.audio.quiet_band_db, &quiet_gate::BAND_DB, ""),
    ];
    for (pair, what) in [(floors, "floors"), (gate, "bounds")] {
        for (key, bound, allowed, unit) in pair {
            let (from, to) = (allowed.start(), allowed.end());
            if bound.is_some_and(|bound| !allowed.contains(&bound)) {
                wrong.push(KeyError::new(file, key, format!("must be {from} to {to}{unit}")));
            }
            if bound.is_none() && pair.iter().any(|(_, other, ..)| other.is_some()) {
                wrong.push(KeyError::new(file, key, format!("missing: the two {what} stand together")));
            }
        }
    }
}

fn mqtt(site: &Site, file: &str, wrong: &mut Vec<KeyError>) {
    if site.mqtt_enabled() && site.mqtt.host.as_deref().unwrap_or("").is_empty() {
        wrong.push(KeyError::new(file, "mqtt.host", "missing: the broker's name or address"));
    }
    if let Some(host) = site.mqtt.host.as_deref().filter(|host| !host.is_empty() && !is_host(host)) {
        wrong.push(
            KeyError::new(file, "mqtt.host", format!("\"{host}\" is no name and no address")).hint(
                "alone, such as \"hub.local\" or \"192.0.2.7\"; the port goes to `mqtt.port`, TLS to `[mqtt.tls]`",
            ),
        );
    }
    if site.mqtt.port == Some(0) {
        wrong.push(KeyError::new(file, "mqtt.port", "is 0, must be 1 to 65535"));
    }
    if site.mqtt.password_file.is_some() && site.mqtt.username.is_none() {
        wrong.push(
            KeyError::new(file, "mqtt.password_file", "stands without `mqtt.username`")
                .hint("MQTT 3.1.1 takes no password alone"),
        );
    }
    if let Some(tls) = &site.mqtt.tls
        && tls.cert_file.is_some() != tls.key_file.is_some()
    {
        wrong.push(KeyError::new(file, "mqtt.tls.cert_file", "stands together with `mqtt.tls.key_file`"));
    }
}

fn siren(site: &Site, file: &str, wrong: &mut Vec<KeyError>) {
    if !(site.siren.on_s > 0.0 && site.siren.on_s <= ON_S_MAX) {
        wrong.push(
            KeyError::new(file, "siren.on_s", format!("is {}, must be above 0, at most {ON_S_MAX}", site.siren.on_s))
                .hint("to keep the siren off: armed = false"),
        );
    }
    for hours in &site.siren.quiet_hours {
        if let Err(cause) = QuietHours::parse_range(hours) {
            wrong.push(KeyError::new(file, "siren.quiet_hours", cause).hint("such as [\"22:00-06:30\"], local time"));
        }
    }
}

/// Lines of one's own, of outputs and inputs.
fn lines(site: &Site, file: &str, wrong: &mut Vec<KeyError>) {
    let others = [("led", &site.led), ("fault", &site.fault), ("tamper", &site.tamper), ("silence", &site.silence)];
    let others = others.map(|(table, own)| (table, &own.line, &own.chip));
    for (table, line, chip) in [("siren", &site.siren.line, &site.siren.chip)].into_iter().chain(others) {
        for (cause, hint) in chip.iter().flat_map(|chip| &chip.0).filter_map(|label| unstable_chip(label)) {
            wrong.push(KeyError::new(file, &format!("{table}.chip"), cause).hint(hint));
        }
        if line.as_ref().is_some_and(|line| matches!(line, LineRef::Name(name) if name.trim().is_empty())) {
            wrong.push(KeyError::new(file, &format!("{table}.line"), "must not be empty").hint("such as \"GPIO17\""));
        }
    }
}

fn events(site: &Site, file: &str, wrong: &mut Vec<KeyError>) {
    if site.events.max_mib == 0 || site.events.max_days == 0 {
        let key = if site.events.max_mib == 0 { "events.max_mib" } else { "events.max_days" };
        wrong.push(
            KeyError::new(file, key, "is 0: nothing would be kept")
                .hint("to keep less: pictures = false, clips = false"),
        );
    }
    if !(0.0..=PRE_ROLL_S_MAX).contains(&site.events.pre_roll_s) {
        wrong.push(KeyError::new(
            file,
            "events.pre_roll_s",
            format!("is {}, must be 0 to {PRE_ROLL_S_MAX}", site.events.pre_roll_s),
        ));
    }
}

fn paths(site: &Site, file: &str, wrong: &mut Vec<KeyError>) {
    let paths = [("events.dir", &site.events.dir), ("state.dir", &site.state.dir)];
    let authority = site.update.ca_file.iter().map(|path| ("update.ca_file", path));
    for (key, path) in paths.into_iter().chain(site.named_files()).chain(authority) {
        if path.as_os_str().is_empty() {
            wrong.push(KeyError::new(file, key, "must not be empty"));
        }
    }
}

/// A name as DNS and mDNS have them, or an IP address.
fn is_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    host.bytes().all(plain) || host.parse::<std::net::IpAddr>().is_ok()
}
