//! The files of a card's boot partition, by their names on it.
//!
//! Raspberry Pi OS 13 reads `user-data`, `meta-data` and `network-config` from there (cloud-init, its NoCloud source).
//! Raspberry Pi OS 12 has no cloud-init: systemd runs `firstrun.sh`, named on the kernel's command line, before anything
//! else, and boots again. Our own image (boards/image) takes plain files of its own.

use anyhow::{bail, ensure};
use files::board::Board;

/// How the names of screamd's own files begin. No folder: whoever copies files by hand misses none, and fatfs 0.3 makes
/// folders in which `fsck.vfat` finds mistakes.
const OWN: &str = "screamd-";
/// What makes systemd run `firstrun.sh`; Raspberry Pi OS 12 mounts the partition at /boot/firmware.
pub const CMDLINE: &str = "systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot \
                           systemd.unit=kernel-command-line.target";

/// What our own image's boot partition has, and no other.
pub const IMAGE_MARK: &str = "screamd-image.txt";

/// The GPIO chip of the Raspberry Pi 5, whose driver is in the vendor's kernel alone; our own image has Debian's.
const UNDRIVEN: &str = "pinctrl-rp1";
/// Who logs in where nobody is named.
pub const DEFAULT_USER: &str = "installer";

/// What boots from the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Os {
    /// 13
    Trixie,
    /// 12
    Bookworm,
    /// An image of boards/image/build.sh
    Screamd,
}

impl Os {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trixie => "Raspberry Pi OS 13, cloud-init",
            Self::Bookworm => "Raspberry Pi OS 12, firstrun.sh",
            Self::Screamd => "screamd's own image",
        }
    }
}

/// A wireless network.
pub struct Wifi {
    ssid: String,
    /// 64 hexadecimal digits: what the password and the name make, so that the password itself is nowhere on the card.
    psk: String,
    country: String,
}

impl Wifi {
    /// From what a person knows.
    pub fn new(ssid: &str, password: &str, country: &str) -> anyhow::Result<Self> {
        ensure!((1..=32).contains(&ssid.len()), "--wifi-ssid has 1 to 32 bytes");
        ensure!(!ssid.chars().any(char::is_control), "--wifi-ssid has a control character");
        let two = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase());
        ensure!(two, "--wifi-country {country}: is no country of two capital letters");
        let hex = password.len() == 64 && password.bytes().all(|byte| byte.is_ascii_hexdigit());
        let plain = (8..=63).contains(&password.len()) && password.bytes().all(|byte| (32..127).contains(&byte));
        let psk = match (hex, plain) {
            (true, _) => password.to_lowercase(),
            (_, true) => {
                let mut key = [0u8; 32];
                pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password.as_bytes(), ssid.as_bytes(), 4096, &mut key);
                release::unpack::hex(&key)
            }
            _ => bail!("a Wi-Fi password has 8 to 63 printable ASCII characters"),
        };
        Ok(Self { ssid: ssid.into(), psk, country: country.into() })
    }

    /// As wpa_supplicant reads it; the name in hexadecimal, since any byte may stand in one.
    fn supplicant(&self) -> String {
        let ssid = release::unpack::hex(self.ssid.as_bytes());
        format!("country={}\nnetwork={{\n\tssid={ssid}\n\tpsk={}\n}}\n", self.country, self.psk)
    }
}

/// Who may log in.
pub struct Ssh {
    user: String,
    key: String,
}

impl Ssh {
    /// From the text of a public key's file.
    pub fn new(user: &str, key: &str) -> anyhow::Result<Self> {
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        let fine = (1..=32).contains(&user.len()) && user.bytes().all(name) && user.as_bytes()[0].is_ascii_lowercase();
        ensure!(fine && user != "root", "--user {user}: has lowercase letters, digits, - and _, and is not root");
        ensure!(!key.contains("PRIVATE KEY"), "is a private key; --ssh-key takes the .pub file");
        let kind = key.split(' ').next().unwrap_or_default();
        let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
        ensure!(known && key.lines().count() == 1 && !key.contains(['\'', '"']), "is no public key of SSH");
        Ok(Self { user: user.into(), key: key.into() })
    }
}

/// Everything that goes onto a card.
pub struct Card {
    pub packages: Vec<(String, Vec<u8>)>,
    /// What it goes into.
    pub target: Board,
    /// A board of one's own: its name and its file.
    pub board: Option<(String, String)>,
    pub site: String,
    pub secrets: Vec<(String, Vec<u8>)>,
    pub update_keys: Vec<(String, String)>,
    pub wifi: Option<Wifi>,
    pub ssh: Option<Ssh>,
    pub hostname: String,
    /// A name of the IANA database; None leaves the system's.
    pub timezone: Option<String>,
    /// As the command line says.
    pub os: Option<Os>,
}

impl Card {
    /// What it is for: as told, else as the partition shows, whose files `has` knows. Release 13 has `meta-data` from the start.
    pub fn os_of(&self, has: impl Fn(&str) -> bool) -> Os {
        self.os.unwrap_or_else(|| match (has(IMAGE_MARK), has("cmdline.txt") && !has("meta-data")) {
            (true, _) => Os::Screamd,
            (false, true) => Os::Bookworm,
            (false, false) => Os::Trixie,
        })
    }

    /// Every file; `cmdline` is the partition's cmdline.txt, where it has one.
    ///
    /// # Errors
    /// A cmdline.txt that is no single line; no package for a system that has none; for our own image, a board that it does not boot, or a
    /// package.
    pub fn files(&self, os: Os, cmdline: Option<&str>) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let own = |name: &str| format!("{OWN}{name}");
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        if os != Os::Screamd {
            ensure!(!self.packages.is_empty(), "{} has no screamd yet: give its package, --deb FILE", os.name());
            files.extend(self.packages.iter().map(|(name, bytes)| (own(name), bytes.clone())));
        } else {
            self.fits_our_image()?;
        }
        files.push((own("site.toml"), self.site.clone().into_bytes()));
        files.extend(
            self.board.iter().map(|(name, text)| (own(&format!("board-{name}.toml")), text.clone().into_bytes())),
        );
        files.extend(self.secrets.iter().map(|(name, bytes)| (own(&format!("secret-{name}")), bytes.clone())));
        let keys = self.update_keys.iter();
        files.extend(keys.map(|(name, text)| (own(&format!("key-{name}")), text.clone().into_bytes())));
        files.extend(self.timezone.iter().map(|name| (own("timezone"), name.clone().into_bytes())));
        if os != Os::Screamd {
            files.push((own("first-boot.sh"), include_str!("first-boot.sh").as_bytes().to_vec()));
        }
        match os {
            Os::Screamd => {
                files.push((own("hostname"), self.hostname.clone().into_bytes()));
                if let Some(Ssh { key, .. }) = &self.ssh {
                    files.push((own("authorized_keys"), format!("{key}\n").into_bytes()));
                }
                if let Some(wifi) = &self.wifi {
                    files.push((own("wifi.conf"), wifi.supplicant().into_bytes()));
                }
            }
            Os::Trixie => {
                files.push(("user-data".into(), self.user_data().into_bytes()));
                files.push(("meta-data".into(), self.meta_data().into_bytes()));
                files.push(("network-config".into(), self.network_config().into_bytes()));
                // Beside user-data's own key for it: what every release of Raspberry Pi OS has read.
                files.extend(self.ssh.iter().map(|_| ("ssh".into(), Vec::new())));
            }
            Os::Bookworm => {
                files.push(("firstrun.sh".into(), self.first_run().into_bytes()));
                if let Some(cmdline) = cmdline {
                    let line = cmdline.trim_end();
                    ensure!(!line.is_empty() && !line.contains('\n'), "cmdline.txt: is not one line");
                    let kept: Vec<&str> = line.split(' ').filter(|word| !is_own(word)).collect();
                    files.push(("cmdline.txt".into(), format!("{} {CMDLINE}\n", kept.join(" ")).into_bytes()));
                }
            }
        }
        Ok(files)
    }

    /// Nothing would say so later: such a card does not boot, or boots without what was asked for.
    fn fits_our_image(&self) -> anyhow::Result<()> {
        let name = &self.target.name;
        // By the chip: a board of one's own may be a Raspberry Pi 5, too.
        ensure!(
            !self.target.chip.0.iter().any(|chip| chip == UNDRIVEN),
            "--board {name}: our own image has no driver for its lines ({UNDRIVEN}); take Raspberry Pi OS"
        );
        ensure!(
            self.packages.is_empty(),
            "--deb: our own image has its package, and its system cannot be written; a release comes as a bundle (docs/fleet-updates.md)"
        );
        Ok(())
    }

    /// What `os` does not do, for people.
    pub fn warnings(&self, os: Os) -> Vec<String> {
        let mut warnings = Vec::new();
        if os == Os::Screamd && self.target.name == "raspberry-pi-zero-2-w" {
            warnings
                .push(format!("--board {}: our own image has no Wi-Fi for it; take Raspberry Pi OS", self.target.name));
        }
        if os == Os::Screamd && self.ssh.as_ref().is_some_and(|ssh| ssh.user != DEFAULT_USER) {
            warnings.push("--user: on our own image one logs in as root".into());
        }
        warnings
    }

    fn user_data(&self) -> String {
        let mut text = format!(
            "#cloud-config\n\
             # Written by host-tools provision; read once, at the first boot.\n\
             hostname: {}\n\
             manage_etc_hosts: true\n\
             ssh_pwauth: false\n",
            self.hostname
        );
        match &self.ssh {
            Some(Ssh { user, key }) => text.push_str(&format!(
                "enable_ssh: true\n\
                 users:\n\
                 - name: {user}\n  \
                   groups: [adm, sudo, audio]\n  \
                   shell: /bin/bash\n  \
                   lock_passwd: true\n  \
                   sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n  \
                   ssh_authorized_keys: [{}]\n",
                quoted(key)
            )),
            // Nobody logs in. Without any user Raspberry Pi OS asks for one at the console, and multi-user.target, behind which cloud-init
            // runs us, waits for the answer.
            None => text.push_str("users:\n- name: installer\n  shell: /usr/sbin/nologin\n  lock_passwd: true\n"),
        }
        // At each boot, and once: where the once was cut, what the first has armed goes on.
        text.push_str("bootcmd:\n- [sh, /boot/firmware/screamd-first-boot.sh, arm]\n");
        text.push_str("runcmd:\n- [sh, /boot/firmware/screamd-first-boot.sh]\n");
        text
    }

    fn meta_data(&self) -> String {
        format!("instance-id: screamd-{}\n", self.hostname)
    }

    fn network_config(&self) -> String {
        let mut text =
            String::from("network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n      optional: true\n");
        if let Some(Wifi { ssid, psk, country }) = &self.wifi {
            text.push_str(&format!(
                "  wifis:\n    wlan0:\n      dhcp4: true\n      optional: true\n      regulatory-domain: \"{country}\"\n      \
                 access-points:\n        {}:\n          password: \"{psk}\"\n",
                quoted(ssid)
            ));
        }
        text
    }

    fn first_run(&self) -> String {
        let mut set = format!("imager set_hostname {}\n", self.hostname);
        if let Some(Ssh { user, key }) = &self.ssh {
            set.push_str(&format!("/usr/lib/userconf-pi/userconf {user} '*'\nimager enable_ssh -k {}\n", shell(key)));
        }
        if let Some(Wifi { ssid, psk, country }) = &self.wifi {
            set.push_str(&format!("imager set_wlan {} {psk} {country}\n", shell(ssid)));
        }
        include_str!("firstrun.sh").replace("@SET@\n", &set)
    }
}

/// How those of them begin behind [`OWN`] that a device takes from its card, whoever put them there.
const TAKEN: [&str; 7] = ["secret-", "key-", "board-", "wifi.conf", "authorized_keys", "hostname", "timezone"];

/// Of the device that this card was made for before: its secrets and keys are not to get into another.
pub fn is_stale(name: &str, made: &[(String, Vec<u8>)]) -> bool {
    let taken = name.strip_prefix(OWN).is_some_and(|rest| {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let package = after.len() < rest.len() && after.starts_with('-') && after.ends_with(".deb");
        package || TAKEN.iter().any(|beginning| rest.starts_with(beginning))
    });
    taken && !made.iter().any(|(own, _)| own == name)
}

/// Words of the command line that an earlier run has put there.
fn is_own(word: &str) -> bool {
    CMDLINE.split(' ').any(|own| own.split('=').next() == word.split('=').next())
}

/// A double-quoted YAML string; JSON's escapes are among YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One word of a shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn target(name: &str) -> Board {
        crate::provision::boards::load(name).unwrap().0
    }

    fn card() -> Card {
        Card {
            packages: vec![("0-screamd.deb".into(), b"deb".to_vec())],
            target: target("raspberry-pi-4"),
            board: None,
            site: "board = \"raspberry-pi-4\"\n".into(),
            secrets: vec![("mqtt.password".into(), b"secret".to_vec())],
            update_keys: vec![("0.pub".into(), "key".into())],
            wifi: Some(Wifi::new("It's \"here\"", "password", "DE").unwrap()),
            ssh: Some(Ssh::new("installer", "ssh-ed25519 AAAA me@laptop").unwrap()),
            hostname: "screamd-hall-1".into(),
            timezone: Some("Europe/Berlin".into()),
            os: None,
        }
    }

    fn text<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> &'a str {
        std::str::from_utf8(&files.iter().find(|(file, _)| file == name).unwrap().1).unwrap()
    }

    #[test]
    fn the_key_of_ieee_802_11i_annex_h() {
        let key = Wifi::new("IEEE", "password", "DE").unwrap().psk;
        assert_eq!(key, "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e");
        assert_eq!(Wifi::new("IEEE", &key, "DE").unwrap().psk, key, "a key is taken as it is");
        for (ssid, password, country) in
            [("", "password", "DE"), ("x", "short", "DE"), ("x", "password", "de"), ("x\n", "password", "DE")]
        {
            assert!(Wifi::new(ssid, password, country).is_err(), "{ssid:?} {password} {country}");
        }
    }

    #[test]
    fn trixie_has_cloud_inits_files() {
        let files = card().files(Os::Trixie, Some("console=tty1 rootwait\n")).unwrap();
        let user = text(&files, "user-data");
        assert!(user.starts_with("#cloud-config\n") && user.contains("first-boot.sh, arm]"), "{user}");
        assert!(user.contains("ssh_authorized_keys: [\"ssh-ed25519 AAAA me@laptop\"]"), "{user}");
        let network = text(&files, "network-config");
        assert!(network.contains("        \"It's \\\"here\\\"\":\n          password: \""), "{network}");
        assert!(!network.contains("password: \"password\""), "the password itself is not on the card");
        assert!(!files.iter().any(|(name, _)| name == "cmdline.txt" || name == "firstrun.sh"));
        let nobody = Card { ssh: None, ..card() }.files(Os::Trixie, None).unwrap();
        let user = text(&nobody, "user-data");
        assert!(user.contains("users:\n- name: ") && user.contains("lock_passwd: true"), "{user}");
        assert!(!user.contains("ssh") || user.contains("ssh_pwauth: false"), "{user}");
        assert!(!user.contains("sudo") && !user.contains("authorized"), "{user}");
        let opens = |files: &[(String, Vec<u8>)]| files.iter().any(|(name, _)| name == "ssh");
        assert!(opens(&files) && !opens(&nobody));
    }

    #[test]
    fn bookworm_has_a_script_and_one_line() {
        let once = card().files(Os::Bookworm, Some("console=tty1 rootwait quiet\n")).unwrap();
        let line = text(&once, "cmdline.txt").to_string();
        assert_eq!(line, format!("console=tty1 rootwait quiet {CMDLINE}\n"));
        let twice = card().files(Os::Bookworm, Some(&line)).unwrap();
        assert_eq!(text(&twice, "cmdline.txt"), line, "a second run changes nothing");
        let script = text(&once, "firstrun.sh");
        assert!(script.contains(r#"imager set_wlan 'It'\''s "here"' "#), "{script}");
        assert!(!script.contains("@SET@") && script.contains("systemd.run"), "{script}");
        assert!(card().files(Os::Bookworm, Some("a\nb\n")).is_err());
    }

    #[test]
    fn the_partition_says_what_it_boots() {
        let of = |card: Card, there: &[&str]| card.os_of(|name| there.contains(&name));
        assert_eq!(of(card(), &[]), Os::Trixie);
        assert_eq!(of(card(), &["cmdline.txt", "meta-data"]), Os::Trixie);
        assert_eq!(of(card(), &["cmdline.txt"]), Os::Bookworm);
        assert_eq!(of(card(), &["cmdline.txt", IMAGE_MARK]), Os::Screamd);
        assert_eq!(of(Card { os: Some(Os::Bookworm), ..card() }, &["cmdline.txt", "meta-data"]), Os::Bookworm);
    }

    #[test]
    fn our_own_image_needs_no_package() {
        let files = Card { packages: Vec::new(), ..card() }.files(Os::Screamd, Some("quiet\n")).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "screamd-site.toml",
                "screamd-secret-mqtt.password",
                "screamd-key-0.pub",
                "screamd-timezone",
                "screamd-hostname",
                "screamd-authorized_keys",
                "screamd-wifi.conf"
            ]
        );
        assert!(
            text(&files, "screamd-wifi.conf").contains("ssid=4974277320226865726522"),
            "It's \"here\", in hexadecimal"
        );
        assert!(Card { packages: Vec::new(), ..card() }.files(Os::Trixie, None).is_err());
    }

    #[test]
    fn our_own_image_refuses_what_it_does_not_do() {
        let card = || Card { packages: Vec::new(), ..card() };
        let refused = |card: Card| card.files(Os::Screamd, None).unwrap_err().to_string();
        let pi_5 = || target("raspberry-pi-5");
        assert!(
            refused(Card { target: pi_5(), ..card() }).contains("--board raspberry-pi-5: our own image has no driver")
        );
        let own = Board { name: "my-board".into(), ..pi_5() };
        assert!(refused(Card { target: own, ..card() }).contains("--board my-board: "));
        assert!(refused(self::card()).contains("--deb: our own image has its package"));
        assert!(Card { target: pi_5(), ..self::card() }.files(Os::Trixie, None).is_ok());

        assert!(card().warnings(Os::Screamd).is_empty());
        let zero = Card { target: target("raspberry-pi-zero-2-w"), ..card() };
        assert!(zero.files(Os::Screamd, None).is_ok() && zero.warnings(Os::Screamd)[0].contains("no Wi-Fi"));
        let user = Card { ssh: Some(Ssh::new("me", "ssh-ed25519 AAAA").unwrap()), ..card() };
        assert!(user.warnings(Os::Screamd)[0].starts_with("--user: ") && user.warnings(Os::Trixie).is_empty());
    }

    #[test]
    fn keys_of_ssh() {
        for (user, key) in [
            ("root", "ssh-ed25519 A"),
            ("a b", "ssh-ed25519 A"),
            ("a", "nonsense"),
            ("a", "ssh-rsa A\nssh-rsa B"),
            ("a", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ] {
            assert!(Ssh::new(user, key).is_err(), "{user} {key}");
        }
    }

    #[test]
    fn what_another_device_would_take_is_stale_and_nothing_else() {
        let made = [("screamd-secret-a".to_string(), Vec::new())];
        for (name, expect) in [
            ("screamd-secret-b", true),
            ("screamd-0-screamd.deb", true),
            ("screamd-key-0.pub", true),
            ("screamd-secret-a", false),
            ("screamd-image.txt", false),
            ("screamd-1.2.0.bundle", false),
            ("screamd-site.toml", false),
        ] {
            assert_eq!(is_stale(name, &made), expect, "{name}");
        }
    }
}
