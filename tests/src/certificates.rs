//! Certificates that openssl makes, as docs/fleet.md has it.

use std::path::Path;
use std::process::Command;

fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn key(dir: &Path, name: &str) {
    openssl(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name]);
}

/// `ca.pem` and `ca.key` in `dir`, which is made.
pub fn authority(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    key(dir, "ca.key");
    let new = ["req", "-x509", "-new", "-key", "ca.key", "-days", "30", "-subj", "/CN=authority", "-out", "ca.pem"];
    openssl(dir, &new);
}

/// `<name>.pem`, signed by that authority, with its key as `<name>.key` and, PKCS 8, `<name>.p8`.
pub fn signed(dir: &Path, name: &str) {
    let file = |ending: &str| format!("{name}.{ending}");
    std::fs::write(dir.join(file("ext")), format!("subjectAltName = DNS:{name}\n")).unwrap();
    key(dir, &file("key"));
    let subject = format!("/CN={name}");
    openssl(dir, &["req", "-new", "-key", &file("key"), "-subj", &subject, "-out", &file("csr")]);
    let sign = ["x509", "-req", "-days", "30", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    let files = ["-in", &file("csr"), "-extfile", &file("ext"), "-out", &file("pem")];
    openssl(dir, &[&sign[..], &files].concat());
    openssl(dir, &["pkcs8", "-topk8", "-nocrypt", "-in", &file("key"), "-out", &file("p8")]);
}
