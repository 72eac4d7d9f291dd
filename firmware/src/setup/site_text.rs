//! The site file in words: every key with why it stands there, so that an installer can change it later without a manual.

use std::path::Path;

use super::answers::{Answers, Hub};

/// The text of the file.
pub fn of(answers: &Answers) -> String {
    let mut text = String::from(
        "# Written by `screamd setup`. `screamd check --config FILE` says what is wrong and what is in force.\n",
    );
    let mut line =
        |key: &str, value: &str, why: &str| text.push_str(&format!("{:36} # {why}\n", format!("{key} = {value}")));
    match &answers.device_id {
        Some(id) => line("device_id", &quoted(id), "this device at the hub"),
        None => line("# device_id", "\"hall-1\"", "this device at the hub; else the board's serial number"),
    }
    line("zone", &quoted(&answers.zone), "where it hangs, for people");
    line("board", &quoted(&answers.board), "a name in boards/");
    text.push_str("\n[audio]\n");
    text.push_str(&format!(
        "{:36} # a stable name, never a card number\n",
        format!("device = {}", quoted(&answers.audio))
    ));
    text.push_str(&hub(answers.hub.as_ref()));
    text.push_str(
        "\n[siren]\n\
         armed = true\n\
         on_s = 30                            # how long it sounds from each start, seconds\n\
         quiet_hours = []                     # such as [\"22:00-06:30\"], local time: the siren stays off, alerts go out\n\
         remote_disarm = true                 # false refuses disarming over MQTT\n",
    );
    let line_of = |line: &Option<String>| line.as_deref().map(|line| format!("line = {}\n", line_value(line)));
    if let Some(siren) = line_of(&answers.lines.siren) {
        text.push_str(&siren);
    }
    if let Some(led) = line_of(&answers.lines.led) {
        text.push_str(&format!("\n[led]\n{led}"));
    }
    text.push_str(&format!(
        "\n[events]\n{:36} # a spectrogram of each event; it can be turned back into rough sound\n\
         clips = false                        # the sound of each event\n",
        format!("pictures = {}", answers.pictures)
    ));
    text
}

fn hub(hub: Option<&Hub>) -> String {
    let Some(hub) = hub else {
        return "\n[mqtt]\nenabled = false                      # nobody but the siren is told\n".into();
    };
    let mut text = format!("\n[mqtt]\nhost = {}\n", quoted(&hub.host));
    if let Some(port) = hub.port {
        text.push_str(&format!("port = {port}\n"));
    }
    if let Some(username) = &hub.username {
        text.push_str(&format!("username = {}\n", quoted(username)));
    }
    if let Some(file) = &hub.password_file {
        text.push_str(&format!("password_file = {}\n", quoted(&named(file))));
    }
    if let Some(file) = &hub.ca_file {
        text.push_str(&format!("[mqtt.tls]\nca_file = {}\n", quoted(&named(file))));
    }
    text
}

/// A name is a credential's; a path is the same from wherever the service starts.
fn named(file: &Path) -> String {
    let is_path = file.components().count() > 1;
    let whole = std::path::absolute(file).ok().filter(|_| is_path);
    whole.as_deref().unwrap_or(file).display().to_string()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A line's name, or its offset as a number.
fn line_value(line: &str) -> String {
    if line.bytes().all(|byte| byte.is_ascii_digit()) { line.to_string() } else { quoted(line) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::setup::answers::Lines;
    use files::site::Site;

    #[test]
    fn what_is_written_says_what_was_answered() {
        let mut answers = Answers {
            audio: "hw:CARD=Device".into(),
            board: "raspberry-pi-5".into(),
            lines: Lines { siren: Some("GPIO22".into()), led: Some("7".into()) },
            hub: Some(Hub {
                host: "hub.local".into(),
                port: Some(1884),
                username: Some("a \"b\"".into()),
                password_file: Some("/etc/screamd/p".into()),
                ca_file: Some("/etc/ca.pem".into()),
            }),
            pictures: false,
            zone: "Küche \"[mqtt]\"".into(),
            device_id: Some("hall-1".into()),
        };
        let site = Site::parse("site.toml", &of(&answers)).unwrap();
        assert_eq!((site.zone.as_str(), site.device_id.as_deref()), ("Küche \"[mqtt]\"", Some("hall-1")));
        assert_eq!((site.mqtt.port_in_force(), site.mqtt.username.as_deref()), (1884, Some("a \"b\"")));
        assert_eq!(site.audio.device.as_deref(), Some("hw:CARD=Device"));
        assert!(!site.events.pictures && site.mqtt.tls.is_some());
        assert!(!site.line_overrides().siren.is_empty() && !site.line_overrides().led.is_empty());
        (answers.hub, answers.lines, answers.device_id) = (None, Lines::default(), None);
        let site = Site::parse("site.toml", &of(&answers)).unwrap();
        assert!(!site.mqtt_enabled() && site.line_overrides().siren.is_empty() && site.device_id.is_none());
    }
}
