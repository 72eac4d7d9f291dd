//! Cards: `host-tools provision` into a folder and into an image, read back with mtools, and the first boot's own script
//! run over a device in a folder.
#![allow(clippy::unwrap_used)]

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use system_tests::device::Device;
use system_tests::package::{self, Program};
use system_tests::{host_tools, skip};

const CANARY: &str = "canary-of-the-mqtt-password";
const WIFI: &str = "canary-of-the-wifi";
const CMDLINE: &str = "console=serial0,115200 console=tty1 root=PARTUUID=1-02 rootfstype=ext4 rootwait quiet";
/// Where the test's image has its FAT partition, bytes.
const FAT_AT: u64 = 1 << 20;

/// What an installer has on the laptop.
struct Laptop {
    device: Device,
    args: Vec<String>,
}

impl Laptop {
    fn new() -> Self {
        let mut laptop = Self::for_our_image();
        let deb = package::deb_for(
            "arm64",
            &laptop.device.path(""),
            "1.2.0",
            &laptop.device.path("model"),
            &Program::Script("exit 0"),
        );
        laptop.args.extend(["--deb".into(), deb.to_str().unwrap().into()]);
        laptop
    }

    /// Which has its package.
    fn for_our_image() -> Self {
        let device = Device::tiny("");
        let site = "device_id = \"hall_1\"\nzone = \"Hall\"\n[mqtt]\nhost = \"hub.local\"\nusername = \"hall-1\"\npassword_file = \"mqtt.password\"\n";
        std::fs::write(device.path("card.toml"), site).unwrap();
        std::fs::write(device.path("mqtt.password"), CANARY).unwrap();
        std::fs::write(device.path("wifi"), format!("{WIFI}\n")).unwrap();
        std::fs::write(device.path("id.pub"), "ssh-ed25519 AAAAC3Nza me@laptop\n").unwrap();
        package::keygen(&device.path(""));
        let text = |path: &Path| path.to_str().unwrap().to_string();
        let args = [
            ("--board", "raspberry-pi-4".to_string()),
            ("--site", text(&device.path("card.toml"))),
            ("--update-key", text(&device.path("update.pub"))),
            ("--wifi-ssid", "At \"home\"".into()),
            ("--wifi-password-file", text(&device.path("wifi"))),
            ("--wifi-country", "DE".into()),
            ("--ssh-key", text(&device.path("id.pub"))),
            ("--timezone", "Europe/Berlin".into()),
        ];
        let args = args.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]).collect();
        Self { device, args }
    }

    fn provision(&self, more: &[&str]) -> Output {
        let more = more.iter().map(|arg| arg.to_string());
        let args: Vec<String> = std::iter::once("provision".to_string()).chain(self.args.clone()).chain(more).collect();
        // As on a laptop: no folder of boards is at hand.
        Command::new(system_tests::program("host-tools")).current_dir(self.device.path("")).args(args).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, more: &[&str]) -> String {
        let output = self.provision(more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.device.path(name).to_str().unwrap().to_string()
    }
}

/// None where the tools to make and read an image are missing; in CI that is a failure.
fn tools() -> Option<()> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found =
        ["mkfs.vfat", "mcopy"].iter().all(|tool| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()));
    if !found {
        skip("apt-get install mtools dosfstools");
    }
    found.then_some(())
}

fn tool(name: &str, args: &[&str]) -> Vec<u8> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(name).args(args).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1").output().unwrap();
    let said = || [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "{name} {args:?}: {}", said());
    output.stdout
}

/// An image as Raspberry Pi OS has it: a partition table, a FAT partition with a cmdline.txt, an ext4 one (of no meaning here).
fn image(path: &Path, table: bool, trixie: bool) -> String {
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(48 << 20).unwrap();
    let (at, sectors) = if table { (FAT_AT, 40 << 11) } else { (0, 48 << 11) };
    let name = path.to_str().unwrap();
    tool(
        "mkfs.vfat",
        &["-F", "32", "-n", "bootfs", &format!("--offset={}", at / 512), name, &(sectors / 2).to_string()],
    );
    if table {
        let mut entries = [0u8; 66];
        for (slot, kind, from, length) in [(0, 0x0cu8, at / 512, sectors), (16, 0x83, 41 << 11, 7 << 11)] {
            entries[slot + 4] = kind;
            entries[slot + 8..slot + 12].copy_from_slice(&(from as u32).to_le_bytes());
            entries[slot + 12..slot + 16].copy_from_slice(&(length as u32).to_le_bytes());
        }
        entries[64..].copy_from_slice(&[0x55, 0xaa]);
        file.seek(SeekFrom::Start(446)).unwrap();
        file.write_all(&entries).unwrap();
        file.seek(SeekFrom::Start(42 << 20)).unwrap();
        file.write_all(b"the root file system").unwrap();
    }
    let drive = format!("{name}@@{at}");
    let put = |name: &str, text: &str| {
        let file = path.with_file_name(format!("put-{name}"));
        std::fs::write(&file, text).unwrap();
        tool("mcopy", &["-i", &drive, file.to_str().unwrap(), &format!("::{name}")]);
    };
    put("cmdline.txt", &format!("{CMDLINE}\n"));
    put("config.txt", "arm_64bit=1\n");
    if trixie {
        put("meta-data", "instance_id: rpios-image\n");
    }
    drive
}

fn read(drive: &str, name: &str) -> String {
    String::from_utf8(tool("mtype", &["-i", drive, &format!("::{name}")])).unwrap()
}

#[test]
fn an_image_is_changed_in_place_and_read_back_with_mtools() {
    let Some(()) = tools() else { return };
    let laptop = Laptop::new();
    for (table, trixie) in [(true, true), (true, false), (false, true)] {
        let path = laptop.device.path("card.img");
        let drive = image(&path, table, trixie);
        let said = laptop.ok(&["--out", &laptop.path("card.img")]);
        assert!(said.contains(if trixie { "Raspberry Pi OS 13" } else { "Raspberry Pi OS 12" }), "{said}");

        let site = read(&drive, "screamd-site.toml");
        assert!(site.starts_with("board = \"raspberry-pi-4\"\ndevice_id"), "{site}");
        let deb = std::fs::read(laptop.device.path("screamd_1.2.0.deb")).unwrap();
        assert!(tool("mtype", &["-i", &drive, "::screamd-0-screamd.deb"]) == deb, "the package, byte for byte");
        assert_eq!(read(&drive, "screamd-secret-mqtt.password"), CANARY);
        assert!(read(&drive, "screamd-key-0.pub").contains("minisign public key"));
        assert_eq!(read(&drive, "config.txt"), "arm_64bit=1\n", "what was there is still there");
        let cmdline = read(&drive, "cmdline.txt");
        if trixie {
            assert_eq!(cmdline, format!("{CMDLINE}\n"));
            let user = read(&drive, "user-data");
            assert!(
                user.contains("hostname: screamd-hall-1\n") && user.contains("/boot/firmware/screamd-first-boot.sh")
            );
            assert!(read(&drive, "network-config").contains("\"At \\\"home\\\"\":"), "the network's name is quoted");
        } else {
            assert!(
                cmdline.starts_with(CMDLINE) && cmdline.contains(" systemd.run=/boot/firmware/firstrun.sh "),
                "{cmdline}"
            );
            assert_eq!(cmdline.lines().count(), 1);
            assert!(read(&drive, "firstrun.sh").contains("imager set_wlan 'At \"home\"' "));
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(WIFI.len()).any(|window| window == WIFI.as_bytes()), "only the network's key is there");
        if table {
            assert!(
                bytes[42 << 20..].starts_with(b"the root file system"),
                "nothing outside the partition has changed"
            );
        }
        tool("fsck.vfat", &["-n", &extract(&bytes, table, &laptop.device.path("fat"))]);
        let sums =
            Command::new("sha256sum").args(["-c", "card.img.sha256"]).current_dir(laptop.device.path("")).output();
        assert!(sums.unwrap().status.success(), "the image's own hash");
        assert!(std::fs::read_to_string(laptop.device.path("card.img.bmap")).unwrap().contains("<BlocksCount> 12288 "));
        std::fs::remove_file(laptop.device.path("card.img.bmap")).unwrap();
    }
}

/// The FAT partition in a file of its own.
fn extract(bytes: &[u8], table: bool, path: &Path) -> String {
    let range = if table { FAT_AT as usize..FAT_AT as usize + (40 << 20) } else { 0..bytes.len() };
    std::fs::write(path, &bytes[range]).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn an_image_is_copied_first_where_one_is_named() {
    let Some(()) = tools() else { return };
    let laptop = Laptop::new();
    let drive = image(&laptop.device.path("base.img"), true, true);
    let before = std::fs::read(laptop.device.path("base.img")).unwrap();
    laptop.ok(&["--image", &laptop.path("base.img"), "--out", &laptop.path("new.img")]);
    assert!(std::fs::read(laptop.device.path("base.img")).unwrap() == before, "the base is as it was");
    assert!(read(&drive.replace("base.img", "new.img"), "user-data").contains("runcmd"));
}

#[test]
fn a_card_that_was_used_before_keeps_nothing_of_the_device_before() {
    let laptop = Laptop::new();
    let (folder, image_file) = (laptop.path("used"), laptop.path("used.img"));
    let mut outs = vec![folder.as_str()];
    if tools().is_some() {
        image(Path::new(&image_file), true, true);
        outs.push(&image_file);
    }
    let secrets = |out: &str| match out == folder {
        true => std::fs::read_dir(out).unwrap().any(|file| file.unwrap().file_name() == "screamd-secret-mqtt.password"),
        false => {
            let listed = tool("mdir", &["-b", "-i", &format!("{out}@@{FAT_AT}"), "::"]);
            String::from_utf8_lossy(&listed).contains("screamd-secret-mqtt.password")
        }
    };
    for out in &outs {
        laptop.ok(&["--out", out]);
        assert!(secrets(out), "{out}");
    }
    std::fs::write(laptop.device.path("card.toml"), "zone = \"Hall\"\n").unwrap();
    for out in &outs {
        laptop.ok(&["--out", out]);
        assert!(!secrets(out), "{out}");
    }
}

#[test]
fn an_image_that_cannot_take_it_all_stays_as_it_was() {
    if tools().is_none() {
        return;
    }
    let laptop = Laptop::new();
    let path = laptop.device.path("small.img");
    let drive = image(&path, true, true);
    // Filled to the last few sectors: of each size a file, where it fits.
    for shift in (13..26).rev() {
        let rest = laptop.device.path("rest");
        std::fs::write(&rest, vec![1; 1 << shift]).unwrap();
        let to = format!("::rest{shift}");
        Command::new("mcopy").args(["-i", &drive, rest.to_str().unwrap(), &to]).output().unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let files = || std::fs::read_dir(laptop.device.path("")).unwrap().count();
    let there = files();
    for more in [vec!["--out", "small.img"], vec!["--image", "small.img", "--out", "new.img"]] {
        let output = laptop.provision(&more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("on its FAT partition"), "{said}");
        assert!(std::fs::read(&path).unwrap() == before, "{more:?}: the image was changed");
        assert_eq!(files(), there, "{more:?}: something was left behind");
    }
}

#[test]
fn what_cannot_be_made_is_said_in_one_line() {
    let laptop = Laptop::new();
    let check = |more: &[&str], expect: &str| {
        let output = laptop.provision(more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expect), "{more:?}: {said}");
    };
    check(&["--out", &laptop.path("none.img")], "none.img: is not there; give the image");
    std::fs::write(laptop.device.path("odd.img"), vec![0; 4096]).unwrap();
    check(&["--out", &laptop.path("odd.img")], "odd.img: is no image: it has no partition table");
    std::fs::write(laptop.device.path("wifi"), "short").unwrap();
    check(&["--out", &laptop.path("card")], "wifi: a Wi-Fi password has 8 to 63");
    let said = |args: &[&str]| {
        let all: Vec<&str> = ["provision"].iter().chain(args).copied().collect();
        String::from_utf8_lossy(&host_tools(&all).stderr).into_owned()
    };
    let (site, deb, out) = (laptop.path("card.toml"), laptop.path("screamd_1.2.0.deb"), laptop.path("card"));
    let with = |board: &str, deb: &str| said(&["--board", board, "--site", &site, "--deb", deb, "--out", &out]);
    assert!(with("jetson-orin-nano", &deb).contains("install over SSH"));
    assert!(with("raspberry-pi-9", &deb).contains("no board `raspberry-pi-9`"));
    assert!(with("raspberry-pi-4", &site).contains("is no Debian package"));
    let amd64 = package::deb_for(
        "amd64",
        &laptop.device.path(""),
        "1.3.0",
        &laptop.device.path("model"),
        &Program::Script("exit 0"),
    );
    assert!(with("raspberry-pi-4", amd64.to_str().unwrap()).contains("is for amd64, raspberry-pi-4 runs arm64"));
    let without = said(&["--board", "raspberry-pi-4", "--site", &site, "--out", &out]);
    assert!(without.contains("has no screamd yet: give its package, --deb FILE"), "{without}");
    assert!(!laptop.device.path("card").exists(), "nothing was written");
}

/// A card for Raspberry Pi OS in the folder "boot", and the device's root that it meets first.
fn fresh_card(laptop: &Laptop) -> (PathBuf, PathBuf) {
    let boot = laptop.device.path("boot");
    let _ = std::fs::remove_dir_all(&boot);
    laptop.ok(&["--out", &laptop.path("boot")]);
    // As a mount with umask=0077 shows a FAT partition.
    for file in std::fs::read_dir(&boot).unwrap() {
        std::fs::set_permissions(file.unwrap().path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let root = laptop.device.path("root");
    let _ = std::fs::remove_dir_all(&root);
    for dir in ["etc/cloud", "sys/class/leds/ACT", "var/lib", "usr/share/zoneinfo/Europe"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("usr/share/zoneinfo/Europe/Berlin"), "TZif").unwrap();
    (boot, root)
}

/// The first boot's script on a fresh card.
fn first_boot(laptop: &Laptop, check: &str) -> (PathBuf, Output, String) {
    let (_, root) = fresh_card(laptop);
    let (output, calls) = boot(laptop, "exit 0", check, &[]);
    (root, output, calls)
}

/// The script with the system's programs replaced by ones that write down how they were called.
fn boot(laptop: &Laptop, dpkg: &str, check: &str, args: &[&str]) -> (Output, String) {
    let (card, root) = (laptop.device.path("boot"), laptop.device.path("root"));
    let (bin, calls) = (laptop.device.path("bin"), laptop.device.path("calls"));
    std::fs::create_dir_all(&bin).unwrap();
    let _ = std::fs::remove_file(&calls);
    for (name, body) in [("dpkg", dpkg), ("systemctl", "exit 0"), ("screamd", check)] {
        let script = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{body}\n", calls.display());
        std::fs::write(bin.join(name), script).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("sh");
    command.arg(card.join("screamd-first-boot.sh")).args(args).env("SCREAMD_ROOT", &root);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    let output = command.output().unwrap();
    (output, std::fs::read_to_string(calls).unwrap_or_default())
}

fn leds(root: &Path) -> (String, String) {
    let read = |name: &str| std::fs::read_to_string(root.join("sys/class/leds/ACT").join(name)).unwrap_or_default();
    (read("trigger").trim().to_string(), read("delay_on").trim().to_string())
}

#[test]
fn the_first_boot_installs_checks_and_leaves_no_secret_behind() {
    let laptop = Laptop::new();
    // The check sees the password by its name, as the service will.
    let check = format!("grep -q {CANARY} \"$CREDENTIALS_DIRECTORY/mqtt.password\"");
    let (root, output, calls) = first_boot(&laptop, &check);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let boot = laptop.device.path("boot");
    assert!(std::fs::read_to_string(boot.join("screamd-result.txt")).unwrap().starts_with("well"));
    assert!(
        calls.contains("dpkg --force-confold -i ") && calls.contains("systemctl restart screamd.service"),
        "{calls}"
    );
    assert_eq!(leds(&root).0, "default-on");
    let kept = root.join("etc/credstore/screamd.mqtt.password");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), CANARY);
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(root.join("etc/cloud/cloud-init.disabled").exists());
    // FAT has no modes, and a mount may give its files to root alone; the service, which is not root, reads keys.
    let key = std::fs::metadata(root.join("etc/screamd/update-keys/card-0.pub")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o644);
    let left = Command::new("grep").args(["-rl", CANARY]).arg(&boot).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "a secret is left on the boot partition");
    assert!(!boot.join("network-config").exists(), "nor the network's key");
    assert_eq!(std::fs::read_link(root.join("etc/localtime")).unwrap(), Path::new("/usr/share/zoneinfo/Europe/Berlin"));
    let again = Command::new("sh").arg(boot.join("screamd-first-boot.sh")).env("SCREAMD_ROOT", &root).output().unwrap();
    assert!(again.status.success(), "a second boot does nothing");
}

/// A board that no package has: the site file names it, so the card brings it, and it is there before anybody checks.
#[test]
fn a_board_of_ones_own_comes_with_the_card() {
    let mut laptop = Laptop::new();
    let text = std::fs::read_to_string(system_tests::root().join("boards/raspberry-pi-4.toml")).unwrap();
    std::fs::create_dir(laptop.device.path("boards")).unwrap();
    let own = text.replace("name = \"raspberry-pi-4\"", "name = \"my-board\"");
    std::fs::write(laptop.device.path("boards/my-board.toml"), &own).unwrap();
    laptop.args[1] = "my-board".into();
    let check = "[ -s \"$SCREAMD_ROOT/etc/screamd/boards/my-board.toml\" ]";
    let (root, output, calls) = first_boot(&laptop, check);
    assert!(output.status.success(), "{calls} {}", String::from_utf8_lossy(&output.stderr));
    let kept = root.join("etc/screamd/boards/my-board.toml");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), own);
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o644);
    // Changed on the card alone: it is taken again.
    std::fs::write(laptop.device.path("boot/screamd-board-my-board.toml"), format!("{own}# corrected\n")).unwrap();
    let (output, _) = boot(&laptop, "exit 1", "exit 0", &[]);
    assert!(output.status.success() && std::fs::read_to_string(&kept).unwrap().ends_with("# corrected\n"));
}

/// The device has a board of that name already, and takes that: the siren's line would be another than the one on the laptop.
#[test]
fn a_changed_copy_of_a_shipped_board_is_refused() {
    let laptop = Laptop::new();
    let text = std::fs::read_to_string(system_tests::root().join("boards/raspberry-pi-4.toml")).unwrap();
    std::fs::create_dir(laptop.device.path("boards")).unwrap();
    let copy = laptop.device.path("boards/raspberry-pi-4.toml");
    std::fs::write(&copy, text.replace("GPIO17\"", "GPIO22\"")).unwrap();
    let output = laptop.provision(&["--out", &laptop.path("card")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("raspberry-pi-4.toml: differs from the board"), "{said}");
    assert!(!laptop.device.path("card").exists(), "nothing was written");
    // In words for people alone.
    std::fs::write(&copy, format!("# ours\n{text}")).unwrap();
    laptop.ok(&["--out", &laptop.path("card")]);
}

#[test]
fn a_card_that_is_provisioned_again_is_taken_where_its_site_is_fine() {
    let laptop = Laptop::new();
    let (root, output, _) = first_boot(&laptop, "exit 0");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (card, site) = (laptop.device.path("boot"), root.join("etc/screamd/site.toml"));
    // An installer on the device: what the card said before does not come back.
    std::fs::write(&site, "zone = \"By hand\"\n").unwrap();
    let read = || std::fs::read_to_string(&site).unwrap();
    let (output, calls) = boot(&laptop, "exit 0", "exit 0", &[]);
    assert!(output.status.success() && calls.is_empty() && read().contains("By hand"), "{calls}");
    // A laptop: what does not pass changes nothing.
    std::fs::write(card.join("screamd-site.toml"), "zone = \"Cellar\"\n").unwrap();
    let (output, _) = boot(&laptop, "exit 1", "exit 2", &[]);
    let result = || std::fs::read_to_string(card.join("screamd-result.txt")).unwrap();
    assert!(!output.status.success() && result().contains("the device goes on with"), "{}", result());
    assert!(read().contains("By hand"));
    let (output, calls) = boot(&laptop, "exit 1", "exit 0", &[]);
    assert!(output.status.success() && !calls.contains("dpkg"), "{calls}");
    assert!(read().contains("Cellar") && calls.contains("systemctl restart screamd.service"), "{calls}");
    // The file goes: nothing to do.
    std::fs::remove_file(card.join("screamd-site.toml")).unwrap();
    let (output, calls) = boot(&laptop, "exit 1", "exit 2", &[]);
    assert!(output.status.success() && calls.is_empty(), "{calls}");
    // A package, a password and a site file that does not pass: neither of the two takes the old one's place, at no boot.
    let password = || std::fs::read_to_string(root.join("etc/credstore/screamd.mqtt.password")).unwrap();
    laptop.ok(&["--out", &laptop.path("boot")]);
    std::fs::write(card.join("screamd-secret-mqtt.password"), "exchanged").unwrap();
    for _ in 0..2 {
        let (output, calls) = boot(&laptop, "exit 0", "exit 2", &[]);
        assert!(!output.status.success() && calls.contains("dpkg --force-confold -i"), "{calls}");
        assert!(read().contains("Cellar") && password() == CANARY, "{}", read());
        assert!(!card.join("screamd-secret-mqtt.password").exists());
    }
    // The check sees the password that would be.
    let check = "grep -q exchanged \"$CREDENTIALS_DIRECTORY/mqtt.password\"";
    let (output, calls) = boot(&laptop, "exit 0", check, &[]);
    assert!(output.status.success() && result().starts_with("well"), "{calls} {}", result());
    assert!(read().contains("hall_1") && password() == "exchanged", "{}", read());
    // The card of before the mistake is put back: it is not taken for done.
    let good = std::fs::read(card.join("screamd-site.toml")).unwrap();
    std::fs::write(card.join("screamd-site.toml"), "zone = 1\n").unwrap();
    let (output, _) = boot(&laptop, "exit 1", "exit 2", &[]);
    assert!(!output.status.success() && result().starts_with("FAILED"));
    std::fs::write(card.join("screamd-site.toml"), good).unwrap();
    let (output, _) = boot(&laptop, "exit 1", "exit 0", &[]);
    assert!(output.status.success() && result().starts_with("well"), "{}", result());
}

/// A stolen key: the card is provisioned without it, and from its next boot on the device does not take what it signed.
#[test]
fn a_key_that_the_card_no_longer_has_is_no_longer_trusted() {
    let laptop = Laptop::new();
    std::fs::create_dir(laptop.device.path("second")).unwrap();
    package::keygen(&laptop.device.path("second"));
    let (_, root) = fresh_card(&laptop);
    let (keys, card) = (root.join("etc/screamd/update-keys"), laptop.device.path("boot"));
    let result = || std::fs::read_to_string(card.join("screamd-result.txt")).unwrap();
    let trusted = || {
        let mut names: Vec<_> = std::fs::read_dir(&keys).unwrap().map(|key| key.unwrap().file_name()).collect();
        names.sort();
        names
    };
    laptop.ok(&["--update-key", &laptop.path("second/update.pub"), "--out", &laptop.path("boot")]);
    assert!(boot(&laptop, "exit 0", "exit 0", &[]).0.status.success());
    assert_eq!(trusted(), ["card-0.pub", "card-1.pub"]);
    assert!(!result().contains("trusted"), "{}", result());
    // A laptop's word on its own keys alone.
    std::fs::copy(keys.join("card-1.pub"), keys.join("by-hand.pub")).unwrap();
    laptop.ok(&["--out", &laptop.path("boot")]);
    assert!(boot(&laptop, "exit 0", "exit 0", &[]).0.status.success());
    assert_eq!(trusted(), ["by-hand.pub", "card-0.pub"]);
    assert!(result().starts_with("well") && result().contains("not on this card: by-hand.pub"), "{}", result());
    // A card that names none takes none away.
    std::fs::remove_file(card.join("screamd-key-0.pub")).unwrap();
    assert!(boot(&laptop, "exit 0", "exit 0", &[]).0.status.success());
    assert_eq!(trusted(), ["by-hand.pub", "card-0.pub"]);
    assert!(result().contains("not on this card: by-hand.pub card-0.pub"), "{}", result());
}

/// A device that has taken a bundle of that version goes on with it.
#[test]
fn a_package_that_does_not_run_is_not_just_well() {
    let laptop = Laptop::new();
    let (_, output, _) = first_boot(&laptop, "echo 'current   1.3.0-77aa01de, on trial'");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result = || std::fs::read_to_string(laptop.device.path("boot/screamd-result.txt")).unwrap();
    assert!(result().contains("; what runs is the bundle 1.3.0-77aa01de, not the package"), "{}", result());
    let (_, output, _) = first_boot(&laptop, "echo 'current   package, on trial'");
    assert!(output.status.success() && !result().contains("bundle"), "{}", result());
}

/// What was calibrated over SSH outlives a card that is provisioned again.
#[test]
fn the_site_file_that_a_card_replaces_is_kept() {
    let laptop = Laptop::new();
    let (root, output, _) = first_boot(&laptop, "exit 0");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (card, etc) = (laptop.device.path("boot"), root.join("etc/screamd"));
    let kept = |name: &str| std::fs::read_to_string(etc.join(name));
    assert!(kept("site.toml.before").is_err(), "nothing was there");
    for (hand, name) in [("# first\n", "site.toml.before"), ("# second\n", "site.toml.before.1")] {
        std::fs::write(etc.join("site.toml"), hand).unwrap();
        std::fs::write(card.join("screamd-site.toml"), format!("zone = \"Cellar\" {hand}")).unwrap();
        assert!(boot(&laptop, "exit 1", "exit 0", &[]).0.status.success());
        assert_eq!(kept(name).unwrap(), hand);
        let result = std::fs::read_to_string(card.join("screamd-result.txt")).unwrap();
        assert!(result.contains(&format!("the site file before is /etc/screamd/{name}")), "{result}");
    }
    assert_eq!(kept("site.toml.before").unwrap(), "# first\n", "the first copy is not written over");
}

#[test]
fn our_own_image_takes_the_site_and_needs_no_package() {
    let laptop = Laptop::for_our_image();
    let card = laptop.device.path("own");
    std::fs::create_dir_all(&card).unwrap();
    std::fs::write(card.join("screamd-image.txt"), "screamd").unwrap();
    std::fs::write(card.join("cmdline.txt"), "quiet\n").unwrap();
    laptop.ok(&["--out", &laptop.path("own")]);
    let read = |name: &str| std::fs::read_to_string(card.join(name)).unwrap();
    assert_eq!(read("cmdline.txt"), "quiet\n", "the kernel's command line is the image's own");
    assert!(read("screamd-site.toml").contains("hall-1") && read("screamd-hostname") == "screamd-hall-1");
    assert!(read("screamd-authorized_keys").starts_with("ssh-") && read("screamd-wifi.conf").contains("country=DE"));
    let packages = std::fs::read_dir(&card).unwrap().filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "deb" || ending == "sh")
    });
    assert_eq!(packages.count(), 0, "neither a package nor a script");

    // What the image runs at its first boot: the same script, from elsewhere, with its mark on the data partition.
    let root = laptop.device.path("image-root");
    std::fs::create_dir_all(root.join("usr/share/zoneinfo/Europe")).unwrap();
    std::fs::write(root.join("usr/share/zoneinfo/Europe/Berlin"), "TZif").unwrap();
    let bin = laptop.device.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for (name, body) in [("dpkg", "exit 1"), ("systemctl", "exit 0"), ("screamd", "exit 0")] {
        std::fs::write(bin.join(name), format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = system_tests::root().join("host-tools/src/provision/first-boot.sh");
    let output = Command::new("sh")
        .arg(script)
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("SCREAMD_ROOT", &root)
        .env("SCREAMD_BOOT", &card)
        .env("SCREAMD_DONE", root.join("done"))
        .env("SCREAMD_LOCALTIME", root.join("localtime"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(root.join("done").exists() && root.join("etc/screamd/site.toml").exists());
    assert!(std::fs::read_link(root.join("localtime")).unwrap().ends_with("Europe/Berlin"));
    assert!(read("screamd-result.txt").starts_with("well"));
    assert!(!card.join("screamd-secret-mqtt.password").exists(), "secrets leave the boot partition");
}

/// `check` takes it, since a recording may stand in: here nothing does.
#[test]
fn a_first_boot_without_a_microphone_is_not_well() {
    let laptop = Laptop::new();
    let (root, output, _) =
        first_boot(&laptop, "echo 'warning: site.toml: `audio.device`: missing, only `--wav` works'");
    assert_eq!((output.status.code(), leds(&root)), (Some(1), ("timer".into(), "100".into())));
    let result = std::fs::read_to_string(laptop.device.path("boot").join("screamd-result.txt")).unwrap();
    assert!(result.starts_with("FAILED: screamd check: warning: site.toml: `audio.device`: missing"), "{result}");
}

#[test]
fn a_first_boot_that_fails_says_so_and_leaves_no_secret_either() {
    let laptop = Laptop::new();
    let (root, output, calls) = first_boot(&laptop, "echo 'site.toml: `audio.device`: missing'; exit 2");
    assert_eq!(output.status.code(), Some(1));
    assert!(calls.contains("systemctl restart screamd.service"), "it may be an alarm all the same: {calls}");
    let boot = laptop.device.path("boot");
    let result = std::fs::read_to_string(boot.join("screamd-result.txt")).unwrap();
    assert!(result.starts_with("FAILED: screamd check: site.toml: `audio.device`: missing"), "{result}");
    assert_eq!(leds(&root), ("timer".into(), "100".into()), "fast blink");
    assert!(!boot.join("screamd-secret-mqtt.password").exists());
    assert!(!root.join("etc/cloud/cloud-init.disabled").exists(), "cloud-init goes on until all is well");
    // The power was cut in the middle of the wiping: what is left takes nothing's place.
    let kept = root.join("etc/credstore/screamd.mqtt.password");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), CANARY);
    let torn = boot.join("screamd-secret-mqtt.password.taken");
    std::fs::write(&torn, [&vec![0; 4][..], &CANARY.as_bytes()[4..]].concat()).unwrap();
    // And before the names of the site's own secrets were stored.
    std::fs::write(root.join("etc/credstore/screamd.own.key"), "key").unwrap();
    let path = format!("{}:{}", laptop.path("bin"), std::env::var("PATH").unwrap());
    let script = boot.join("screamd-first-boot.sh");
    Command::new("sh").arg(script).env("SCREAMD_ROOT", &root).env("PATH", path).output().unwrap();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), CANARY);
    assert!(!torn.exists());
    let names = std::fs::read_to_string(root.join("etc/systemd/system/screamd.service.d/20-secrets.conf")).unwrap();
    assert_eq!(names, "[Service]\nLoadCredential=own.key:screamd.own.key\n");
}

/// cloud-init does not run its runcmd twice: what it has armed before goes on where the power was cut.
#[test]
fn a_first_boot_that_was_cut_goes_on_at_the_next() {
    let laptop = Laptop::new();
    let (_, root) = fresh_card(&laptop);
    let (output, _) = boot(&laptop, "exit 1", "exit 0", &["arm"]);
    assert!(output.status.success(), "armed: {}", String::from_utf8_lossy(&output.stderr));
    let unit = root.join("etc/systemd/system/multi-user.target.wants/screamd-first-boot.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    assert!(unit.contains("ExecStart=/bin/sh /boot/firmware/screamd-first-boot.sh\n"), "{unit}");
    let (cut, _) = boot(&laptop, "kill -9 $PPID", "exit 0", &[]);
    assert!(!cut.status.success());
    let done = root.join("var/lib/screamd-first-boot.done");
    assert!(!done.exists() && !root.join("etc/cloud/cloud-init.disabled").exists());
    let (output, calls) = boot(&laptop, "exit 0", "exit 0", &[]);
    assert!(output.status.success() && calls.contains("dpkg "), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(done.exists() && root.join("etc/cloud/cloud-init.disabled").exists());
    assert_eq!(std::fs::read_to_string(root.join("etc/credstore/screamd.mqtt.password")).unwrap(), CANARY);
}

#[test]
fn a_folder_that_is_the_card_itself_is_told_apart_by_what_is_on_it() {
    let laptop = Laptop::new();
    std::fs::create_dir(laptop.device.path("old")).unwrap();
    std::fs::write(laptop.device.path("old/cmdline.txt"), CMDLINE).unwrap();
    laptop.ok(&["--out", &laptop.path("old")]);
    let cmdline = std::fs::read_to_string(laptop.device.path("old/cmdline.txt")).unwrap();
    assert!(cmdline.starts_with(CMDLINE) && cmdline.contains("systemd.run="), "{cmdline}");
    let said = laptop.ok(&["--out", &laptop.path("apart"), "--os", "bookworm"]);
    assert!(said.contains("append to the one line of its cmdline.txt: systemd.run="), "{said}");
    let scripts = ["old/firstrun.sh", "old/screamd-first-boot.sh"];
    for script in scripts {
        let parsed = Command::new("sh").arg("-n").arg(laptop.device.path(script)).output().unwrap();
        assert!(parsed.status.success(), "{script}: {}", String::from_utf8_lossy(&parsed.stderr));
    }
}
