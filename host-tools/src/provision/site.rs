//! The site file that goes onto a card: checked here as the device will check it at its first boot, where nobody looks; completed
//! with its board's name; and the files that it names. What only the device knows (its microphone, its model) is left to it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use detector::keys;
use files::board::Board;
use files::model_dir::{read_bounded, read_text};
use files::site;

/// A password, key or certificate, bytes.
const SECRET_BYTES_MAX: u64 = 256 * 1024;

/// What is taken from it.
pub struct Site {
    pub text: String,
    pub device_id: Option<String>,
    /// Whether there are any.
    pub quiet_hours: bool,
    /// Names as the site file has them, and contents.
    pub secrets: Vec<(String, Vec<u8>)>,
    pub warnings: Vec<String>,
}

/// Reads it, and the files it names: from `given`, else from beside it.
pub fn read(path: &Path, mut board: Board, given: &[PathBuf]) -> anyhow::Result<Site> {
    // What an editor of Windows may put before a text; TOML takes it at the beginning alone.
    let mut text = read_text(path)?.trim_start_matches('\u{feff}').to_string();
    let named = || path.display().to_string();
    let site = site::Site::parse_for_another(&named(), &text).map_err(|wrong| anyhow::anyhow!(keys::words(&wrong)))?;
    match &site.board {
        None => text.insert_str(0, &format!("board = \"{}\"\n", board.name)),
        Some(own) if *own == board.name => {}
        Some(own) => bail!("{}: `board`: is \"{own}\", the card is for --board {}", named(), board.name),
    }
    let wrong = board.apply(&named(), &site.line_overrides());
    ensure!(wrong.is_empty(), keys::words(&wrong));
    let (mut secrets, mut warnings) = (Vec::new(), Vec::new());
    for (key, name) in site.secret_files() {
        let name = name.display().to_string();
        if name.contains('/') {
            warnings.push(format!(
                "{}: `{key}`: is a path on the device, and nothing is put there; write a name alone, such as \"{}\"",
                named(),
                name.rsplit('/').next().unwrap_or_default()
            ));
            continue;
        }
        // It becomes a file on the card, a line of a unit and a credential's name.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        ensure!(
            name.bytes().all(plain) && !name.ends_with('-') && !name.starts_with('.'),
            "{}: `{key}`: \"{name}\" takes A-Z a-z 0-9 . _ - alone, none of . first nor - last",
            named()
        );
        let from = match given.iter().find(|path| path.file_name().is_some_and(|file| file.to_str() == Some(&name))) {
            Some(path) => path.clone(),
            None => path.with_file_name(&name),
        };
        if !from.exists() {
            warnings.push(format!("{}: `{key}`: {} is not there; give it: --secret FILE", named(), from.display()));
            continue;
        }
        let bytes = read_bounded(&from, SECRET_BYTES_MAX)?;
        if let Some(cause) = unusable(key, &bytes) {
            bail!("{}: `{key}`: {}: {cause}", named(), from.display());
        }
        secrets.push((name, bytes));
    }
    if site.audio.device.is_none() {
        warnings.push(format!(
            "{}: `audio.device`: missing: the device will not know what to listen to, and its first boot will say so",
            named()
        ));
    }
    for path in given {
        let name = path.file_name().and_then(|name| name.to_str()).context("--secret: names no file")?;
        if !secrets.iter().any(|(secret, _)| secret == name) {
            bail!("--secret {}: the site file names no `{name}`", path.display());
        }
    }
    Ok(Site { text, quiet_hours: !site.siren.quiet_hours.is_empty(), device_id: site.device_id, secrets, warnings })
}

/// Why the device will have no use for this file, as far as its form tells.
fn unusable(key: &str, bytes: &[u8]) -> Option<String> {
    let holds = |words: &str| bytes.windows(words.len()).any(|part| part == words.as_bytes());
    let wanted = match key.rsplit('.').next().unwrap_or(key) {
        "ca_file" | "cert_file" => "CERTIFICATE-----",
        "key_file" => "PRIVATE KEY-----",
        "crl_file" => "X509 CRL-----",
        _ => return bytes.trim_ascii().is_empty().then(|| "is empty".into()),
    };
    let found = holds("-----BEGIN ") && holds(wanted);
    (!found).then(|| format!("holds no PEM block (-----BEGIN ... {wanted})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn site(text: &str, given: &[&str]) -> anyhow::Result<Site> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("mqtt.password"), "secret").unwrap();
        std::fs::write(folder.path().join("other"), "secret").unwrap();
        let given: Vec<PathBuf> = given.iter().map(|name| folder.path().join(name)).collect();
        read(&path, crate::provision::boards::load("raspberry-pi-4").unwrap().0, &given)
    }

    #[test]
    fn a_secrets_name_is_one_for_files_and_units() {
        for name in ["100%.pem", "a b", "a-", ".hidden", "a\\nb"] {
            let text = format!("[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = '{name}'");
            let error = site(&text, &[]).map(drop).unwrap_err().to_string();
            assert!(error.contains("`mqtt.password_file`") && error.contains("alone"), "{error}");
        }
    }

    #[test]
    fn a_file_that_the_device_will_refuse_is_refused_here() {
        let pem = |what: &str| format!("-----BEGIN {what}-----\nMIIB\n-----END {what}-----\n").into_bytes();
        for key in ["mqtt.tls.ca_file", "update.ca_file", "mqtt.tls.cert_file"] {
            assert_eq!(unusable(key, &pem("CERTIFICATE")), None, "{key}");
            assert!(unusable(key, b"rubbish").is_some_and(|cause| cause.contains("CERTIFICATE")), "{key}");
        }
        assert_eq!(unusable("mqtt.tls.key_file", &pem("EC PRIVATE KEY")), None);
        assert!(unusable("mqtt.tls.key_file", &pem("CERTIFICATE")).is_some());
        assert_eq!(unusable("mqtt.password_file", b"secret\n"), None);
        assert_eq!(unusable("mqtt.password_file", b" \n").as_deref(), Some("is empty"));
    }

    #[test]
    fn board_and_secrets_are_filled_in() {
        let read =
            site("zone = \"Hall\"\n[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"mqtt.password\"", &[])
                .unwrap();
        assert!(read.text.starts_with("board = \"raspberry-pi-4\"\nzone"), "{}", read.text);
        assert_eq!(read.secrets, [("mqtt.password".to_string(), b"secret".to_vec())]);
        assert!(
            read.warnings.len() == 1 && read.warnings[0].contains("`audio.device`: missing"),
            "{:?}",
            read.warnings
        );
        let read =
            site("board = \"raspberry-pi-4\"\n[mqtt]\nhost = \"h\"\n[mqtt.tls]\nca_file = \"ca.pem\"\ncert_file = \"/etc/x/c\"\nkey_file = \"/etc/x/k\"", &[]).unwrap();
        assert!(read.text.starts_with("board = \"raspberry-pi-4\"\n[mqtt]"), "{}", read.text);
        assert!(
            read.warnings[0].contains("`mqtt.tls.ca_file`") && read.warnings[2].contains("\"k\""),
            "{:?}",
            read.warnings
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert!(site("\u{feff}zone = \"x\"", &[]).unwrap().text.ends_with("\"raspberry-pi-4\"\nzone = \"x\""));
        let said = |text: &str, given: &[&str]| format!("{:#}", site(text, given).err().unwrap());
        assert!(said("board = \"generic\"", &[]).contains("site.toml: `board`: is \"generic\""));
        assert!(said("zone = ", &[]).contains("site.toml, line 1: "));
        // All of them, before a card is written: at the first boot nobody would see.
        let all = said(
            "zonne = \"Hall\"\n[siren]\non_s = 0\nline = \"GPIO18\"\n[decision]\nthreshold_on = 5\n[audio]\ndevice = \"hw:1\"",
            &[],
        );
        for expect in
            ["`zonne`: unknown key (did you mean `zone`?)", "`siren.on_s`", "`decision.threshold_on`", "`audio.device`"]
        {
            assert!(all.contains(expect), "{expect}: {all}");
        }
        let clash = said("[siren]\nline = \"GPIO27\"", &[]);
        assert!(clash.contains("siren"), "{clash}");
        assert!(said("", &["other"]).contains("the site file names no `other`"));
    }
}
