//! `screamd selftest`: a table, an exit status, and a siren that is off at the end.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use system_tests::broker::Broker;
use system_tests::device::Device;

/// Exit status, the table's rows as (name, word, detail), and what was said on standard error.
fn ran(command: &mut Command) -> (i32, Vec<(String, String, String)>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let (name, rest) = line.split_at(12);
        let (word, detail) = rest.trim_start().split_once(' ').unwrap();
        (name.trim().to_owned(), word.to_owned(), detail.trim().to_owned())
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), text.lines().map(row).collect(), said)
}

#[test]
fn each_row_says_what_works_and_what_does_not() {
    let device = Device::tiny("[audio]\ndevice = \"hw:CARD=NoSuchCard\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = 9");
    let (code, rows, said) = ran(&mut device.command("selftest"));
    assert_eq!(code, 1, "{rows:?} {said}");
    let words: Vec<_> = rows.iter().map(|(name, word, _)| (name.as_str(), word.as_str())).collect();
    let expect =
        [("microphone", "failed"), ("inference", "ok"), ("led", "skipped"), ("siren", "skipped"), ("broker", "failed")];
    assert_eq!(words, expect, "{rows:?}");
    // Nobody is told "ok" of a siren that is not there.
    assert!(rows[2].2.contains("simulated") && rows[3].2.contains("board `generic` has no lines"), "{rows:?}");
    assert!(rows[0].2.contains("NoSuchCard") && rows[4].2.contains("127.0.0.1:9"), "{rows:?}");
    assert!(rows[1].2.contains(" ms of 500 ms"), "{}", rows[1].2);
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} in {said}"));
    assert!(place("siren ON") < place("siren off"), "{said}");
    assert!(place("LED steady") < place("siren ON"), "{said}");
}

#[test]
fn the_siren_can_be_left_alone_and_a_missing_microphone_is_named() {
    let device = Device::tiny("");
    let (code, rows, said) = ran(device.command("selftest").arg("--no-siren"));
    assert_eq!(code, 1);
    assert!(rows[0].1 == "failed" && rows[0].2.contains("`audio.device`"), "{rows:?}");
    assert!(rows.contains(&("siren".into(), "skipped".into(), "--no-siren".into())), "{rows:?}");
    assert!(rows.iter().any(|(name, word, _)| name == "broker" && word == "skipped"), "{rows:?}");
    assert!(!said.contains("siren ON"), "{said}");
}

/// Ctrl-C as soon as the siren howls, or the terminal closed: off, and said so. The broker takes the connection and
/// says nothing, so that the test goes on until the signal comes.
#[test]
fn a_signal_at_the_siren_leaves_it_off() {
    let broker = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = broker.local_addr().unwrap().port();
    for signal in ["-TERM", "-INT", "-HUP"] {
        let device = Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}"));
        let mut command = device.command("selftest");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.starts_with("siren ON")));
        system_tests::signal(child.id(), signal);
        assert!(said.any(|line| line.starts_with("siren off")), "{signal}");
        let mut table = String::new();
        child.stdout.take().unwrap().read_to_string(&mut table).unwrap();
        assert!(table.ends_with("interrupted; the outputs are at their safe levels\n"), "{signal}: {table}");
        assert_eq!(child.wait().unwrap().code(), Some(1), "{signal}");
    }
}

#[test]
fn the_brokers_round_trip() {
    let Some(broker) = Broker::start() else { return };
    let device = Device::tiny(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.port));
    let (_, rows, said) = ran(device.command("selftest").arg("--no-siren"));
    let (_, word, detail) = rows.iter().find(|(name, ..)| name == "broker").unwrap();
    assert_eq!(word, "ok", "{detail} {said}");
    assert!(detail.contains(&format!("127.0.0.1:{}", broker.port)) && detail.contains(" ms"), "{detail}");
}

#[test]
fn a_bad_site_file_is_bad_configuration() {
    let device = Device::tiny("");
    device.site("zonne = 1");
    let (code, rows, said) = ran(&mut device.command("selftest"));
    assert_eq!((code, rows.len()), (2, 0));
    assert!(said.contains("zonne"), "{said}");
}
