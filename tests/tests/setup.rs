//! `screamd setup` from outside: by flags alone, by answers, and broken off.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use system_tests::device::Device;
use system_tests::{program, root, skip_without_rights};

fn command(device: &Device, args: &[&str]) -> Command {
    let mut command = Command::new(program("screamd"));
    command.current_dir(root()).arg("setup").arg("--model").arg(device.path("model"));
    command.arg("--out").arg(device.path("new.toml")).args(args);
    // A machine may run the service while it tests: its own is none of these tests' business.
    command.env("PATH", "/nonexistent");
    command
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn setup(device: &Device, args: &[&str]) -> Child {
    start(&mut command(device, args))
}

fn answered(device: &Device, args: &[&str], answers: &str) -> Output {
    let mut child = setup(device, args);
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn written(device: &Device) -> String {
    std::fs::read_to_string(device.path("new.toml")).unwrap()
}

/// Names in the device's folder that setup could have left.
fn left(device: &Device) -> Vec<String> {
    let names = std::fs::read_dir(device.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.contains("new.toml")).collect()
}

const ALL: [&str; 8] =
    ["--audio", "hw:CARD=Device", "--board", "raspberry-pi-4", "--zone", "Hall", "--pictures", "false"];

/// Neither user name nor TLS is forgotten because the host was typed, and what has a default needs no flag.
#[test]
fn flags_about_the_hub_hold_where_its_name_is_answered() {
    let device = Device::tiny("");
    let given = ["--audio", "default", "--board", "generic", "--mqtt-username", "bob", "--mqtt-port", "18831"];
    let password = device.path("password");
    std::fs::write(&password, "secret").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = answered(&device, &given, &format!("127.0.0.1\n{}\n", password.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let site: toml::Table = toml::from_str(&written(&device)).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mqtt = &site["mqtt"];
    assert_eq!((mqtt["host"].as_str(), mqtt["port"].as_integer()), (Some("127.0.0.1"), Some(18831)), "{said}");
    assert_eq!(mqtt["username"].as_str(), Some("bob"));
    let output = answered(&device, &["--audio", "default", "--board", "generic", "--no-mqtt", "--mqtt-port", "1"], "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn with_every_flag_nothing_is_asked() {
    let device = Device::tiny("");
    std::fs::write(device.path("new.toml"), "zone = \"before\"\n").unwrap();
    let output = answered(&device, &[&ALL[..], &["--no-mqtt", "--siren-line", "GPIO22"]].concat(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let site: toml::Table = toml::from_str(&written(&device)).unwrap();
    assert_eq!(site["board"].as_str(), Some("raspberry-pi-4"));
    assert_eq!(site["siren"]["line"].as_str(), Some("GPIO22"));
    assert_eq!(site["events"]["pictures"].as_bool(), Some(false));
    assert_eq!(site["mqtt"]["enabled"].as_bool(), Some(false));
    let mode = std::fs::metadata(device.path("new.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "the service is another user, and no secret stands in it");
    assert_eq!(std::fs::read_to_string(device.path("new.toml.before")).unwrap(), "zone = \"before\"\n");
}

#[test]
fn it_ends_with_the_selftest_where_that_is_wanted() {
    let device = Device::tiny("");
    let generic = ["--audio", "default", "--board", "generic", "--no-mqtt", "--zone", "Hall", "--pictures", "false"];
    let output = answered(&device, &[&generic[..], &["--selftest", "silent"]].concat(), "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("new.toml: written"), "{said}");
    for row in ["microphone", "inference    ok", "siren        skipped  --no-siren"] {
        assert!(said.contains(row), "{row}: {said}");
    }
    let output = answered(&device, &generic, "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("next: screamd selftest"), "{said}");
    assert!(!said.contains("inference"), "nothing is tried unasked where nobody sits there: {said}");
}

#[test]
fn what_no_flag_has_said_is_asked() {
    let device = Device::tiny("");
    // The board by its name, another siren line, the board's LED, no hub, pictures.
    let output = answered(&device, &ALL[..2], "raspberry-pi-5\nGPIO22\n\n-\ny\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let site: toml::Table = toml::from_str(&written(&device)).unwrap();
    assert_eq!((site["board"].as_str(), site["siren"]["line"].as_str()), (Some("raspberry-pi-5"), Some("GPIO22")));
    assert!(site.get("led").is_none() && site["events"]["pictures"].as_bool() == Some(true));
}

/// What `systemctl` was asked, by one that only writes it down.
struct Manager(Device);

impl Manager {
    fn new() -> Self {
        let device = Device::tiny("");
        let (bin, log) = (device.path("systemctl"), device.path("asked"));
        std::fs::write(
            &bin,
            format!("#!/bin/sh\necho \"$*\" >>{}\n[ \"$1\" != is-active ] || echo active\n", log.display()),
        )
        .unwrap();
        std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(device)
    }

    fn setup(&self, args: &[&str]) -> Child {
        let path = format!("{}:{}", self.0.path("").display(), std::env::var("PATH").unwrap());
        start(command(&self.0, args).env("PATH", path))
    }

    /// The verbs.
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path("asked")).unwrap_or_default();
        text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
    }
}

/// It holds the microphone and the lines that the questions are about.
#[test]
fn the_service_is_stopped_while_it_asks_and_started_on_every_way_out() {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let paused: &[&str] = if is_root { &["is-active", "stop", "start"] } else { &[] };
    let manager = Manager::new();
    let mut child = manager.setup(&ALL[..2]);
    child.stdin.take().unwrap().write_all(b"raspberry-pi-5\n\n\n-\ny\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(manager.asked(), paused, "answered");

    let manager = Manager::new();
    let mut child = manager.setup(&ALL[..2]);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(manager.asked(), paused, "nobody answers");

    let manager = Manager::new();
    assert!(manager.setup(&[&ALL[..], &["--no-mqtt"]].concat()).wait().unwrap().success());
    assert!(manager.asked().is_empty(), "nothing is asked");

    if !is_root {
        return skip_without_rights("the service broken off by Ctrl-C needs root");
    }
    let manager = Manager::new();
    let mut child = manager.setup(&ALL[..2]);
    // Held open: who waits for an answer waits on.
    let _input = child.stdin.take();
    let until = Instant::now() + Duration::from_secs(60);
    while manager.asked().len() < 2 {
        assert!(Instant::now() < until, "{:?}", manager.asked());
        std::thread::sleep(Duration::from_millis(10));
    }
    system_tests::signal(child.id(), "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(manager.asked(), paused, "Ctrl-C");
}

#[test]
fn nothing_is_written_where_an_answer_is_missing_or_wrong() {
    let device = Device::tiny("");
    let check = |args: &[&str], answers: &str, expect: &str| {
        let output = answered(&device, args, answers);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expect), "{args:?}: {said}");
        assert_eq!(left(&device), [""; 0], "{args:?}");
    };
    check(&ALL[..2], "raspberry-pi-4\n", "give --siren-line");
    check(&ALL, "", "give --mqtt-host or --no-mqtt");
    check(&["--audio", "hw:1", "--board", "generic", "--no-mqtt", "--pictures", "true"], "", "card number 1");
    check(
        &["--audio", "default", "--board", "raspberry-pi-9", "--no-mqtt", "--pictures", "true"],
        "",
        "no board `raspberry-pi-9`",
    );
    let odd = [&ALL[..], &["--no-mqtt", "--device-id", "a/b"]].concat();
    check(&odd, "", "`device_id`");
}

#[test]
fn broken_off_it_leaves_everything_as_it_was() {
    let device = Device::tiny("");
    let mut child = setup(&device, &ALL[..2]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"raspberry-pi-4\n").unwrap();
    // It waits for the next answer: asleep in a read, with the board's lines asked for.
    let mut question = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    while !question.contains("Siren's line") {
        let mut byte = [0u8];
        std::io::Read::read_exact(&mut stderr, &mut byte).unwrap();
        question.push(char::from(byte[0]));
    }
    system_tests::signal(child.id(), "-INT");
    assert!(!child.wait().unwrap().success());
    assert_eq!(left(&device), [""; 0]);
}
