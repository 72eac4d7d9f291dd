//! `host-tools provision --board NAME --site FILE [--deb FILE] --out DIR|IMAGE`
//! `  [--image FILE] [--os trixie|bookworm] [--secret FILE]... [--update-key FILE]...`
//! `  [--wifi-ssid NAME --wifi-password-file FILE [--wifi-country CC]] [--ssh-key FILE [--user NAME]] [--hostname NAME] [--timezone NAME]`
//!
//! Makes an ordinary Raspberry Pi OS card into a screamd device. What goes onto its FAT boot partition is written into a
//! folder (the mounted partition itself, or one whose files are then copied there), or into an image file that is then
//! written to cards; `IMAGE.sha256` and `IMAGE.bmap` come beside it. With `--image` the image is copied to `--out` first,
//! without it `--out` is an image that is there and is changed. Nothing here needs root or a loop device.
//!
//! The first boot installs the package without a network, puts the site file in its place, runs `screamd check` and says
//! over the board's own LED how it went. Raspberry Pi OS 13 (trixie) runs it through cloud-init, 12 (bookworm) through
//! the kernel's command line, as Raspberry Pi Imager does for each. An image of `boards/image/build.sh` has the package in
//! it and takes the rest from there; `--deb` is refused then.
//!
//! Files that the site file names as secrets (`password_file = "mqtt.password"`) are taken from beside the site file or
//! from `--secret`. The first boot moves them to /etc/credstore, where systemd reads them for the service alone, and
//! overwrites them on the boot partition; a card keeps old blocks all the same, so give every device its own password.

mod bmap;
mod boards;
mod card;
mod image;
mod site;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use files::{say, tell};

use crate::deb;
use card::{Card, Os, Ssh, Wifi};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// A board of this release, or the name of a file in ./boards
    #[arg(long)]
    board: String,
    /// The device's site file
    #[arg(long)]
    site: PathBuf,
    /// The package; several times where it needs others that the card does not have. Our own image has it already and takes none
    #[arg(long)]
    deb: Vec<PathBuf>,
    /// A folder, such as the card's mounted boot partition, or an image file
    #[arg(long)]
    out: PathBuf,
    /// A Raspberry Pi OS image, or one of our own, unpacked, that is copied to `--out` first
    #[arg(long)]
    image: Option<PathBuf>,
    /// What boots from the card [default: what the boot partition shows, else trixie]
    #[arg(long, value_enum)]
    os: Option<Os>,
    /// A file that the site file names
    #[arg(long = "secret")]
    secrets: Vec<PathBuf>,
    /// A public key of `host-tools bundle keygen`: updates signed with it are taken
    #[arg(long = "update-key")]
    update_keys: Vec<PathBuf>,
    /// The wireless network
    #[arg(long, requires = "wifi_password_file")]
    wifi_ssid: Option<String>,
    /// Holds its password
    #[arg(long, requires = "wifi_ssid")]
    wifi_password_file: Option<PathBuf>,
    /// Where the device stands: which channels it may use
    #[arg(long, default_value = "GB")]
    wifi_country: String,
    /// A public key that may log in over SSH; without it nobody can
    #[arg(long)]
    ssh_key: Option<PathBuf>,
    /// Who logs in with it; on our own image it is root
    #[arg(long, default_value = card::DEFAULT_USER)]
    user: String,
    /// The device's name in the network [default: screamd, with the site file's device_id]
    #[arg(long)]
    hostname: Option<String>,
    /// Where the device stands, such as Europe/Berlin: quiet hours are local time [default: what its system has]
    #[arg(long)]
    timezone: Option<String>,
}

/// A text or key that is read here, bytes.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// Writes the card's files.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let to_image = args.image.is_some() || args.out.is_file();
    if !to_image && args.out.extension().is_some_and(|ending| ending == "img") {
        bail!("{}: is not there; give the image it is made from: --image FILE", args.out.display());
    }
    let (card, warnings) = card(args)?;
    warnings.iter().for_each(|warning| tell!("warning: {warning}"));
    let written =
        if to_image { image::write(&card, args.image.as_deref(), &args.out)? } else { folder(&card, &args.out)? };
    card.warnings(written.os).iter().for_each(|warning| tell!("warning: {warning}"));
    say!("{}: {} files for {} ({})", args.out.display(), written.files.len(), args.board, written.os.name());
    if let Some(rest) = written.by_hand {
        say!("{rest}");
    }
    Ok(())
}

/// Everything that is read and checked, before anything is written.
fn card(args: &Args) -> anyhow::Result<(Card, Vec<String>)> {
    let (loaded, own_board) = boards::load(&args.board)?;
    if loaded.name.starts_with("jetson") {
        bail!(
            "--board {}: has no boot partition of this kind; install over SSH (docs/install.md, Jetson)",
            loaded.name
        );
    }
    if loaded.simulated {
        bail!("--board {}: has no outputs and no card; name the board, such as raspberry-pi-4", loaded.name);
    }
    let mut packages = Vec::new();
    for (index, path) in args.deb.iter().enumerate() {
        let deb = deb::read(path)?;
        let (name, architecture) = (deb.field("Package")?, deb.field("Architecture")?);
        ensure!(index > 0 || name == "screamd", "{}: is package {name}, the first must be screamd", path.display());
        ensure!(
            ["arm64", "all"].contains(&architecture),
            "{}: is for {architecture}, {} runs arm64",
            path.display(),
            loaded.name
        );
        packages
            .push((format!("{index}-{name}.deb"), std::fs::read(path).with_context(|| path.display().to_string())?));
    }
    let site = site::read(&args.site, loaded.clone(), &args.secrets)?;
    let text = |path: &Path| -> anyhow::Result<String> {
        let bytes = files::model_dir::read_bounded(path, TEXT_BYTES_MAX)?;
        String::from_utf8(bytes).with_context(|| format!("{}: is no text", path.display()))
    };
    let mut update_keys = Vec::new();
    for (index, path) in args.update_keys.iter().enumerate() {
        release::keys::read(path)?;
        update_keys.push((format!("{index}.pub"), text(path)?));
    }
    let wifi = match (&args.wifi_ssid, &args.wifi_password_file) {
        (Some(ssid), Some(file)) => {
            let password = text(file)?;
            let wifi = Wifi::new(ssid, password.trim_end_matches(['\r', '\n']), &args.wifi_country);
            Some(wifi.with_context(|| file.display().to_string())?)
        }
        _ => None,
    };
    let ssh = match &args.ssh_key {
        Some(path) => Some(Ssh::new(&args.user, text(path)?.trim()).with_context(|| path.display().to_string())?),
        None => None,
    };
    let hostname = match (&args.hostname, &site.device_id) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => host_of(id),
        (None, None) => "screamd".into(),
    };
    let plain = hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ensure!(
        plain && !hostname.starts_with('-') && !hostname.ends_with('-') && (1..=63).contains(&hostname.len()),
        "--hostname {hostname}: has letters, digits and - between them, at most 63"
    );
    let mut warnings = site.warnings;
    match &args.timezone {
        Some(name) => check_timezone(name)?,
        None if site.quiet_hours => warnings.push(format!(
            "{}: `siren.quiet_hours`: are local time, and the card says of which place only by --timezone NAME",
            args.site.display()
        )),
        None => {}
    }
    let card = Card {
        packages,
        target: loaded,
        board: own_board.map(|text| (args.board.clone(), text)),
        site: site.text,
        secrets: site.secrets,
        update_keys,
        wifi,
        ssh,
        hostname,
        timezone: args.timezone.clone(),
        os: args.os,
    };
    Ok((card, warnings))
}

/// Refuses what is no name of the IANA time zone database; which names there are is known where this machine has one.
fn check_timezone(name: &str) -> anyhow::Result<()> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    ensure!(name.len() <= 64 && name.split('/').all(part), "--timezone {name}: is no time zone, such as Europe/Berlin");
    let zones = jiff::tz::db();
    ensure!(
        // Letter by letter: the device's files know no other case.
        zones.get("Europe/Berlin").is_err() || zones.get(name).is_ok_and(|zone| zone.iana_name() == Some(name)),
        "--timezone {name}: the time zone database has none of that name; `timedatectl list-timezones` lists them"
    );
    Ok(())
}

/// A host name (RFC 1123) with a device's id, as far as it fits.
fn host_of(device_id: &str) -> String {
    let id: String = device_id.replace('_', "-").to_lowercase().trim_matches('-').chars().take(55).collect();
    format!("screamd-{id}").trim_end_matches('-').to_string()
}

/// What was written.
struct Written {
    files: Vec<String>,
    os: Os,
    /// What is left to a person.
    by_hand: Option<String>,
}

fn folder(card: &Card, out: &Path) -> anyhow::Result<Written> {
    let cmdline = std::fs::read_to_string(out.join("cmdline.txt")).ok();
    let os = card.os_of(|name| out.join(name).exists());
    let made = card.files(os, cmdline.as_deref())?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let entries = std::fs::read_dir(out).with_context(|| out.display().to_string())?.flatten();
    let stale =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| card::is_stale(name, &made));
    for name in stale.collect::<Vec<_>>() {
        let path = out.join(name);
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
    }
    let mut files = Vec::new();
    for (name, bytes) in made {
        let path = out.join(&name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write(&path, &bytes));
        written.with_context(|| path.display().to_string())?;
        files.push(name);
    }
    let by_hand = (os == Os::Bookworm && cmdline.is_none()).then(|| {
        format!(
            "copy these files to the card's boot partition, then append to the one line of its cmdline.txt: {}",
            card::CMDLINE
        )
    });
    Ok(Written { files, os, by_hand })
}

/// On the disk when this returns: a card is pulled out soon after. Private, since some of it is secret.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_time_zones() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            check_timezone(name).unwrap();
        }
        for name in
            ["", "/etc/passwd", "../etc/passwd", "Europe/", "Europe/Berlin\n", "a b", "$(reboot)", "europe/berlin"]
        {
            assert!(check_timezone(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_host_name_of_any_device_id() {
        for (id, host) in [("Hall_1", "screamd-hall-1"), ("___", "screamd"), ("-a-", "screamd-a")] {
            assert_eq!(host_of(id), host);
        }
        assert_eq!(host_of(&"x".repeat(64)).len(), 63);
        assert!(!host_of(&format!("{}_{}", "x".repeat(54), "y")).ends_with('-'));
    }
}
