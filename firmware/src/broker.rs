//! The site's words become the hub's options; secrets are read here and nowhere else.

use std::path::Path;

use anyhow::Context;
use files::board::Board;
use files::site::Mqtt;
use hub::{Access, AccessSource, ClientCertificate, Device, Options, Secret, Tls};

use crate::credentials;
use crate::settings::Settings;

/// A password, key or certificate is small.
const SECRET_BYTES_MAX: u64 = 256 * 1024;

/// Options of a session that can begin now: password and certificates are there.
///
/// # Errors
/// A file that cannot be read, by name.
pub fn ready(settings: &Settings, states: Vec<hub::State>) -> anyhow::Result<Options> {
    Ok(Options { access: access(&settings.site.mqtt)?, ..options(settings, states) })
}

/// Options of a broker that an installer has named, before there is a site file.
///
/// # Errors
/// A file that cannot be read, by name.
pub fn to_try(mqtt: &Mqtt, device_id: &str) -> anyhow::Result<Options> {
    let host = mqtt.host.as_deref().unwrap_or("localhost");
    let mut options = Options::new(device_id, "", host, "");
    (options.port, options.username) = (mqtt.port_in_force(), mqtt.username.clone());
    options.access = access(mqtt)?;
    Ok(options)
}

/// Options of a session that reads password and certificates before each connection; `states` hold at the start.
pub fn options(settings: &Settings, states: Vec<hub::State>) -> Options {
    let mqtt = &settings.site.mqtt;
    let mut options = Options::new(
        &settings.device_id,
        &settings.site.zone,
        mqtt.host.as_deref().unwrap_or("localhost"),
        &settings.site.state.dir,
    );
    options.port = settings.site.mqtt.port_in_force();
    options.username = mqtt.username.clone();
    let from = mqtt.clone();
    options.access_source = Some(AccessSource::new(move || access(&from).map_err(|error| format!("{error:#}"))));
    options.device = device(&settings.board, Path::new("/"));
    options.siren_on_s_max = f64::from(settings.board.siren_on_s_max);
    options.states = states;
    options.boot_id = crate::clock::boot_id();
    options.command_ids = settings.saved.command_ids.iter().cloned().collect();
    options.clock_set = crate::clock::is_set();
    options
}

fn access(mqtt: &Mqtt) -> anyhow::Result<Access> {
    // Editors end a file with a newline; no broker's password ends with one.
    let password = mqtt.password_file.as_deref().map(read).transpose()?;
    let password = password.map(|bytes| Secret::new(bytes.trim_ascii_end()));
    let Some(tls) = &mqtt.tls else { return Ok(Access { password, tls: None }) };
    let client = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(ClientCertificate { cert_pem: read(cert)?, key_pem: Secret::new(read(key)?) }),
        _ => None,
    };
    let tls = Tls {
        ca_pem: read(&tls.ca_file)?,
        client,
        crl_pem: tls.crl_file.as_deref().map(read).transpose()?,
        not_before_unix_s: BUILT_UNIX_S.parse().context("the time of the build")?,
    };
    Ok(Access { password, tls: Some(tls) })
}

/// The device as Home Assistant shows it. What only a real board has (serial number, network address) is left out on a
/// PC: two devices that are tried out on one machine must not be joined into one.
fn device(board: &Board, root: &Path) -> Device {
    let text = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        let text = text.trim_matches(['\0', '\n', ' ']).to_string();
        (!text.is_empty()).then_some(text)
    };
    let serial_number = text("proc/device-tree/serial-number").filter(|_| !board.simulated);
    let model = text("proc/device-tree/model").filter(|_| serial_number.is_some());
    let mac = ["eth0", "end0", "wlan0"].iter().find_map(|name| text(&format!("sys/class/net/{name}/address")));
    Device {
        // "Raspberry Pi 5 Model B Rev 1.0": the revision is what follows the model.
        hw_version: model.as_deref().and_then(|model| Some(format!("rev {}", model.rsplit_once(" Rev ")?.1))),
        model: model.unwrap_or_else(|| board.description.clone()),
        model_id: Some(format!("screamd-{}", board.name)),
        mac: mac.filter(|_| serial_number.is_some()),
        serial_number,
        sw_version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// When this program was built (build.rs): a clock before that is wrong, whatever it says.
const BUILT_UNIX_S: &str = env!("SCREAMD_BUILT_UNIX_S");

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let found = credentials::find(path);
    let named = || format!("[mqtt] {}", found.display());
    let bytes = files::model_dir::read_bounded(&found, SECRET_BYTES_MAX).with_context(named)?;
    anyhow::ensure!(!bytes.trim_ascii().is_empty(), "{}: is empty", named());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn board(name: &str) -> Board {
        Board::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards").join(name)).unwrap()
    }

    #[test]
    fn a_board_says_what_it_is_and_a_pc_does_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
        write("proc/device-tree/serial-number", "10000000abcd1234\0");
        write("sys/class/net/eth0/address", "d8:3a:dd:00:00:01\n");
        let pi = device(&board("raspberry-pi-5.toml"), root.path());
        assert_eq!(pi.model, "Raspberry Pi 5 Model B Rev 1.0");
        assert_eq!(pi.model_id.as_deref(), Some("screamd-raspberry-pi-5"));
        assert_eq!(pi.serial_number.as_deref(), Some("10000000abcd1234"));
        assert_eq!((pi.hw_version.as_deref(), pi.mac.as_deref()), (Some("rev 1.0"), Some("d8:3a:dd:00:00:01")));
        let pc = device(&board("generic.toml"), root.path());
        assert_eq!((pc.serial_number, pc.hw_version, pc.mac), (None, None, None));
        assert_eq!(pc.model, board("generic.toml").description);
    }

    #[test]
    fn the_build_has_a_date() {
        assert!(BUILT_UNIX_S.parse::<u64>().unwrap() > 1_700_000_000);
    }
}
