//! TLS against a real mosquitto with certificates that openssl makes: the good one is taken, every other is refused with
//! a cause that an installer understands.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fmt::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hub::{ClientCertificate, Options, Secret, Tls};
use support::{Broker, Device, free_port};

const CA_CONFIG: &str = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\nnew_certs_dir = .\nserial = serial\n\
crlnumber = crlnumber\ndefault_md = sha256\ndefault_crl_days = 30\ndefault_days = 30\npolicy = any\n\
unique_subject = no\n[any]\ncommonName = supplied\n";

/// Runs openssl in a folder; panics with what it said.
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority in a folder of its own.
fn authority(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    for (name, text) in [("ca.conf", CA_CONFIG), ("index", ""), ("serial", "01\n"), ("crlnumber", "01\n")] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key"]);
    let subject = format!("/CN=authority {}", dir.file_name().unwrap().to_str().unwrap());
    openssl(dir, &["req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", &subject, "-out", "ca.pem"]);
}

/// A certificate that nobody but its own key vouches for.
fn own_word(dir: &Path, name: &str) {
    let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    let subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName = IP:127.0.0.1"];
    openssl(dir, &[&["req", "-x509", "-new", "-key", &key, "-days", "30", "-out", &pem][..], &subject].concat());
}

/// A certificate `name`.pem with its key; `dates` are openssl's startdate and enddate.
fn certificate(dir: &Path, name: &str, alternative: &str, dates: Option<(&str, &str)>) {
    let (key, request, pem, extensions) =
        (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"), format!("{name}.ext"));
    let names = if alternative.is_empty() { String::new() } else { format!("subjectAltName = {alternative}\n") };
    std::fs::write(dir.join(&extensions), format!("basicConstraints = CA:FALSE\n{names}")).unwrap();
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    openssl(dir, &["req", "-new", "-key", &key, "-subj", &format!("/CN={name}"), "-out", &request]);
    let mut arguments = vec!["ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key"];
    arguments.extend(["-in", &request, "-out", &pem, "-extfile", &extensions]);
    if let Some((from, to)) = dates {
        arguments.extend(["-startdate", from, "-enddate", to]);
    }
    openssl(dir, &arguments);
}

#[test]
fn good_and_bad_certificates() {
    if support::mosquitto().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    authority(&ours);
    authority(&theirs);
    certificate(&ours, "good", "IP:127.0.0.1,DNS:localhost", None);
    certificate(&ours, "other-name", "DNS:elsewhere.invalid", None);
    certificate(&ours, "expired", "IP:127.0.0.1", Some(("20200101000000Z", "20200201000000Z")));
    certificate(&ours, "not-yet", "IP:127.0.0.1", Some(("20900101000000Z", "20910101000000Z")));
    certificate(&ours, "revoked", "IP:127.0.0.1", None);
    certificate(&ours, "device", "DNS:device", None);
    certificate(&ours, "nameless", "", None);
    certificate(&ours, "old-device", "DNS:device", Some(("20200101000000Z", "20200201000000Z")));
    certificate(&theirs, "stranger", "IP:127.0.0.1", None);
    certificate(&theirs, "strange-device", "DNS:device", None);
    own_word(&ours, "own-word");
    let ca = ["-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key"];
    openssl(&ours, &[&["ca", "-revoke", "revoked.pem"][..], &ca].concat());
    openssl(&ours, &[&["ca", "-gencrl", "-out", "ca.crl"][..], &ca].concat());

    let mut listeners = "allow_anonymous true\n".to_owned();
    let mut listen = |dir: &Path, name: &str, client: bool| {
        let port = free_port();
        let dir = dir.display();
        write!(listeners, "listener {port} 127.0.0.1\ncertfile {dir}/{name}.pem\nkeyfile {dir}/{name}.key\n").unwrap();
        if client {
            write!(listeners, "cafile {}/ca.pem\nrequire_certificate true\n", ours.display()).unwrap();
        }
        port
    };
    let plain = free_port();
    let good = listen(&ours, "good", false);
    let mutual = listen(&ours, "good", true);
    let bad = [
        (listen(&theirs, "stranger", false), "stranger", "UnknownIssuer"),
        (listen(&ours, "other-name", false), "other-name", "not valid for"),
        (listen(&ours, "expired", false), "expired", "expired"),
        (listen(&ours, "not-yet", false), "not-yet", "not valid yet"),
        (listen(&ours, "revoked", false), "revoked", "Revoked"),
        (listen(&ours, "own-word", false), "own-word", "CaUsedAsEndEntity"),
        (listen(&ours, "nameless", false), "nameless", "not valid for"),
        // No TLS at all: it is not talked to in clear instead.
        (plain, "plain", "TLS"),
    ];
    writeln!(listeners, "listener {plain} 127.0.0.1").unwrap();
    let Some(_broker) = Broker::start_with(&listeners) else { return };
    // Its listeners come one after the other, this one last.
    let until = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", plain)).is_err() {
        assert!(Instant::now() < until, "the last listener does not come");
        std::thread::sleep(Duration::from_millis(10));
    }

    let read = |name: &str| std::fs::read(ours.join(name)).unwrap();
    let state = tempfile::tempdir().unwrap();
    let options = |name: &str, port| {
        let mut options = Options::new(name, "Hallway", "127.0.0.1", state.path().join(name));
        options.port = port;
        options.access.tls =
            Some(Tls { ca_pem: read("ca.pem"), client: None, crl_pem: Some(read("ca.crl")), not_before_unix_s: 0 });
        options
    };
    let mut devices: Vec<_> =
        bad.iter().map(|(port, name, expect)| (Device::start(options(name, *port)), *name, *expect)).collect();
    // A clock that woke up in 1970 is not believed; neither is a certificate that ended before the build.
    let mut late = options("late", good);
    late.access.tls.as_mut().unwrap().not_before_unix_s = 4_000_000_000;
    devices.push((Device::start(late), "late", "expired"));
    // Without the device's certificate, with one that is over, with a stranger's.
    let read_from = |dir: &Path, name: &str| std::fs::read(dir.join(name)).unwrap();
    devices.push((Device::start(options("naked", mutual)), "naked", "CertificateRequired"));
    for (dir, name, expect) in [(&ours, "old-device", "CertificateExpired"), (&theirs, "strange-device", "UnknownCA")] {
        let mut mutual = options(name, mutual);
        let (cert_pem, key_pem) = (read_from(dir, &format!("{name}.pem")), read_from(dir, &format!("{name}.key")));
        mutual.access.tls.as_mut().unwrap().client =
            Some(ClientCertificate { cert_pem, key_pem: Secret::new(key_pem) });
        devices.push((Device::start(mutual), name, expect));
    }
    assert_eq!(devices.len(), 12, "of 12");
    for (device, name, expect) in &mut devices {
        let cause = device.wait_disconnected();
        println!("{name}: {cause}");
        assert!(cause.contains(*expect), "{name}: {cause}");
        assert!(!device.hub().connected());
        device.stop(Duration::ZERO);
    }

    let mut device = Device::start(options("good", good));
    device.wait_connected();
    device.stop(Duration::from_secs(5));
    let mut with_certificate = options("mutual", mutual);
    with_certificate.access.tls.as_mut().unwrap().client =
        Some(ClientCertificate { cert_pem: read("device.pem"), key_pem: Secret::new(read("device.key")) });
    // By its name too, not by its address alone.
    with_certificate.host = "localhost".into();
    let mut device = Device::start(with_certificate);
    device.wait_connected();
    device.stop(Duration::from_secs(5));
}
