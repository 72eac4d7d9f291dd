//! The site's words become the hub's options; secrets are read here and nowhere else.

use std::path::Path;

use anyhow::Context;
use hub::{ClientCertificate, Device, Options, Secret, Tls};

use crate::settings::{Settings, credential};

/// A password, key or certificate is small.
const SECRET_BYTES_MAX: u64 = 256 * 1024;

/// Options of the session; `states` are those that hold at the start.
///
/// # Errors
/// A file that cannot be read, by name.
pub fn options(settings: &Settings, states: Vec<hub::State>) -> anyhow::Result<Options> {
    let mqtt = &settings.site.mqtt;
    let mut options = Options::new(
        &settings.device_id,
        &settings.site.zone,
        mqtt.host.as_deref().unwrap_or("localhost"),
        &settings.site.state.dir,
    );
    options.port = settings.site.mqtt_port();
    options.username = mqtt.username.clone();
    // Editors end a file with a newline; no broker's password ends with one.
    options.password =
        mqtt.password_file.as_deref().map(read).transpose()?.map(|bytes| Secret::new(bytes.trim_ascii_end()));
    if let Some(tls) = &mqtt.tls {
        let client = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => {
                Some(ClientCertificate { cert_pem: read(cert)?, key_pem: Secret::new(read(key)?) })
            }
            _ => None,
        };
        options.tls = Some(Tls {
            ca_pem: read(&tls.ca_file)?,
            client,
            crl_pem: tls.crl_file.as_deref().map(read).transpose()?,
            not_before_unix_s: BUILT_UNIX_S,
        });
    }
    options.device = Device {
        model: settings.board.description.clone(),
        model_id: Some(format!("screamd-{}", settings.board.name)),
        serial_number: None,
        sw_version: env!("CARGO_PKG_VERSION").into(),
        hw_version: None,
        mac: None,
    };
    options.siren_on_s_max = f64::from(settings.board.siren_on_s_max);
    options.states = states;
    options.boot_id = crate::clock::boot_id();
    options.clock_set = crate::clock::is_set();
    Ok(options)
}

/// 2026-11-01: a clock before this release is wrong, whatever it says.
const BUILT_UNIX_S: u64 = 1_793_491_200;

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let found = credential(path);
    files::model_dir::read_bounded(&found, SECRET_BYTES_MAX).with_context(|| format!("[mqtt] {}", found.display()))
}
