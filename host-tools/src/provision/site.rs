//! The site file as far as a card needs it: its board, its device id, the files that it names. The device itself checks
//! all of it (`screamd check`) at its first boot.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use files::model_dir::{read_bounded, read_text};

/// A password, key or certificate, bytes.
const SECRET_BYTES_MAX: u64 = 256 * 1024;

/// What is taken from it.
pub struct Site {
    pub text: String,
    pub device_id: Option<String>,
    /// Names as the site file has them, and contents.
    pub secrets: Vec<(String, Vec<u8>)>,
    pub warnings: Vec<String>,
}

/// Reads it, and the files it names: from `given`, else from beside it.
pub fn read(path: &Path, board: &str, given: &[PathBuf]) -> anyhow::Result<Site> {
    let mut text = read_text(path)?;
    let named = || path.display().to_string();
    let table: toml::Table = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {}", named(), e.message()))?;
    match table.get("board").map(|value| value.as_str().unwrap_or_default()) {
        None => text.insert_str(0, &format!("board = \"{board}\"\n")),
        Some(own) if own == board => {}
        Some(own) => bail!("{}: `board`: is \"{own}\", the card is for --board {board}", named()),
    }
    let device_id = table.get("device_id").and_then(toml::Value::as_str).map(String::from);
    let (mut secrets, mut warnings) = (Vec::new(), Vec::new());
    for (key, name) in secret_files(&table) {
        if name.contains('/') {
            warnings.push(format!(
                "{}: `{key}`: is a path on the device, and nothing is put there; write a name alone, such as \"{}\"",
                named(),
                name.rsplit('/').next().unwrap_or_default()
            ));
            continue;
        }
        let from = match given.iter().find(|path| path.file_name().is_some_and(|file| file.to_str() == Some(&name))) {
            Some(path) => path.clone(),
            None => path.with_file_name(&name),
        };
        if !from.exists() {
            warnings.push(format!("{}: `{key}`: {} is not there; give it: --secret FILE", named(), from.display()));
            continue;
        }
        secrets.push((name, read_bounded(&from, SECRET_BYTES_MAX)?));
    }
    for path in given {
        let name = path.file_name().and_then(|name| name.to_str()).context("--secret: names no file")?;
        if !secrets.iter().any(|(secret, _)| secret == name) {
            bail!("--secret {}: the site file names no `{name}`", path.display());
        }
    }
    Ok(Site { text, device_id, secrets, warnings })
}

fn secret_files(table: &toml::Table) -> Vec<(&'static str, String)> {
    let mqtt = table.get("mqtt").and_then(toml::Value::as_table);
    let tls = mqtt.and_then(|mqtt| mqtt.get("tls")).and_then(toml::Value::as_table);
    let of = |table: Option<&toml::Table>, key: &str| Some(table?.get(key)?.as_str()?.to_string());
    let named = [
        ("mqtt.password_file", of(mqtt, "password_file")),
        ("mqtt.tls.ca_file", of(tls, "ca_file")),
        ("mqtt.tls.cert_file", of(tls, "cert_file")),
        ("mqtt.tls.key_file", of(tls, "key_file")),
        ("mqtt.tls.crl_file", of(tls, "crl_file")),
    ];
    named.into_iter().filter_map(|(key, name)| Some((key, name?))).collect()
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
        read(&path, "raspberry-pi-4", &given)
    }

    #[test]
    fn board_and_secrets_are_filled_in() {
        let read =
            site("zone = \"Hall\"\n[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"mqtt.password\"", &[])
                .unwrap();
        assert!(read.text.starts_with("board = \"raspberry-pi-4\"\nzone"), "{}", read.text);
        assert_eq!(read.secrets, [("mqtt.password".to_string(), b"secret".to_vec())]);
        assert!(read.warnings.is_empty());
        let read =
            site("board = \"raspberry-pi-4\"\n[mqtt.tls]\nca_file = \"ca.pem\"\nkey_file = \"/etc/x/k\"", &[]).unwrap();
        assert!(read.text.starts_with("board = \"raspberry-pi-4\"\n[mqtt.tls]"), "{}", read.text);
        assert!(
            read.warnings[0].contains("`mqtt.tls.ca_file`") && read.warnings[1].contains("\"k\""),
            "{:?}",
            read.warnings
        );
    }

    #[test]
    fn mistakes_are_named() {
        let said = |text: &str, given: &[&str]| format!("{:#}", site(text, given).err().unwrap());
        assert!(said("board = \"generic\"", &[]).contains("site.toml: `board`: is \"generic\""));
        assert!(said("zone = ", &[]).contains("site.toml: "));
        assert!(said("", &["other"]).contains("the site file names no `other`"));
    }
}
