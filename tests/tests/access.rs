//! Access rights at the broker: `docs/mosquitto/acl`, as it stands, in a real mosquitto with a real device.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use system_tests::broker::{Broker, free_port};
use system_tests::device::Device;
use system_tests::sound::silence;
use system_tests::{certificates, program, root};

fn login(user: &str) -> Vec<String> {
    ["-u", user, "-P", "secret"].map(String::from).to_vec()
}

#[test]
fn a_device_is_alone_with_its_hub() {
    let users = ["test-1", "hall-2", "homeassistant", "monitor"];
    let started = Broker::start_with(|dir| {
        let passwords = dir.join("passwords");
        std::fs::write(&passwords, "").unwrap();
        for user in users {
            let made = Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, "secret"]).status();
            assert!(made.is_ok_and(|status| status.success()), "mosquitto_passwd");
        }
        let acl = root().join("docs/mosquitto/acl");
        format!("allow_anonymous false\npassword_file {}\nacl_file {}\n", passwords.display(), acl.display())
    });
    let Some(mut broker) = started else { return };

    let device = Device::tiny("");
    std::fs::write(device.path("password"), "secret\n").unwrap();
    device.site(&format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nusername = \"test-1\"\npassword_file = \"{}\"",
        broker.port,
        device.path("password").display()
    ));
    broker.login = login("homeassistant");
    let hub = broker.ear("test-1");
    let running = device.listens_to(&silence(16_000, 60.0));
    hub.hears("status", "online");
    assert_eq!(hub.on("homeassistant/device/screamd_test-1/config").len(), 1);

    // A neighbour: says nothing that the device hears, hears nothing that it says.
    broker.login = login("hall-2");
    broker.publish("screamd/test-1/siren/set", "ON", false);
    broker.publish("screamd/test-1/status", "offline", true);
    broker.publish("homeassistant/device/screamd_test-1/config", "", true);
    let heard = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &broker.port.to_string(), "-t", "screamd/test-1/#", "-W", "2"])
        .args(&broker.login)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.stdout), "");

    // Who watches: silences, and cannot disarm.
    broker.login = login("monitor");
    broker.publish("screamd/test-1/armed/set", "OFF", false);
    broker.publish("screamd/test-1/silence/press", "PRESS", false);
    hub.wait("the answer", |all| all.iter().any(|heard| heard.topic == "command/result").then_some(()));
    // The hub: obeyed. Its answer is the second one, so nothing of the others' came through before.
    broker.login = login("homeassistant");
    broker.publish("screamd/test-1/threshold/set", "0.9", false);
    hub.hears("threshold/state", "0.9");
    hub.wait("two answers", |all| {
        (all.iter().filter(|heard| heard.topic == "command/result").count() >= 2).then_some(())
    });
    let answers = hub.on("command/result");
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].contains("silence/press") && answers[1].contains("threshold/set"), "{answers:?}");
    assert_eq!((hub.on("siren/state"), hub.on("armed/state")), (vec!["OFF".to_string()], vec!["ON".to_string()]));
    assert_eq!(hub.on("status"), ["online"]);
    assert_eq!(running.stop(), Some(0));
    hub.hears("status", "offline");
}

/// What docs/fleet.md calls the better way: everybody has a certificate, also who watches and who measures.
#[test]
fn the_tools_have_certificates_where_the_broker_wants_them() {
    let tls_port = free_port();
    let started = Broker::start_with(|dir| {
        certificates::authority(dir);
        ["localhost", "monitor"].iter().for_each(|name| certificates::signed(dir, name));
        let acl = root().join("docs/mosquitto/acl");
        format!(
            "allow_anonymous true\nacl_file {}\nlistener {tls_port} 127.0.0.1\ncafile {dir}/ca.pem\n\
             certfile {dir}/localhost.pem\nkeyfile {dir}/localhost.key\n{}",
            acl.display(),
            the_confs_lines(&["require_certificate true", "use_identity_as_username true"]),
            dir = dir.display()
        )
    });
    let Some(broker) = started else { return };
    let (at, file) = (format!("localhost:{tls_port}"), |name: &str| broker.dir().join(name).display().to_string());
    let (ca, cert, key) = (file("ca.pem"), file("monitor.pem"), file("monitor.key"));
    let arguments = ["monitor", "--broker", &at, "--ca-file", &ca];

    let mut monitor = Command::new(program("host-tools"))
        .args(arguments)
        .args(["--cert-file", &cert, "--key-file", &key])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(monitor.stdout.take().unwrap());
    // It may say nothing but what the file of rights lets a monitor hear of itself.
    let heard = std::thread::spawn(move || said.read_line(&mut line).map(|_| line));
    while !heard.is_finished() {
        let published = Command::new("mosquitto_pub")
            .args(["-h", "localhost", "-p", &tls_port.to_string(), "--cafile", &ca, "--cert", &cert, "--key", &key])
            .args(["-t", "screamd/hall-1/silence/press", "-m", "PRESS"])
            .status()
            .unwrap();
        assert!(published.success());
    }
    assert_eq!(heard.join().unwrap().unwrap(), "screamd/hall-1/silence/press PRESS\n");
    monitor.kill().unwrap();
    monitor.wait().unwrap();

    let mut without = Command::new("timeout");
    without.arg("5").arg(program("host-tools")).args(arguments).stdin(Stdio::null());
    let without = without.output().unwrap();
    let why = String::from_utf8_lossy(&without.stderr);
    assert!(why.contains("CertificateRequired"), "{why}");
    let half = system_tests::host_tools(&["monitor", "--broker", &at, "--ca-file", &ca, "--cert-file", &cert]);
    assert!(String::from_utf8_lossy(&half.stderr).contains("--key-file"));
}

/// Lines that docs/mosquitto/mosquitto.conf has, commented out.
fn the_confs_lines(lines: &[&str]) -> String {
    let conf = std::fs::read_to_string(root().join("docs/mosquitto/mosquitto.conf")).unwrap();
    lines.iter().for_each(|line| assert!(conf.lines().any(|has| has == format!("# {line}")), "{line}"));
    lines.join("\n") + "\n"
}
