//! Bundles that are not applied: each names the file and the cause, and nothing on the device has changed.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Device, Key, append, bundle, files, manifest, odd_bundle};
use release::store::Fit;
use semver::Version;
use tar::EntryType;

/// Applies to a device that runs 1.1.0 and expects a refusal in these words.
#[track_caller]
fn refused(device: &Device, bytes: &[u8], expect: &str) {
    let before = device.tree();
    let said = device.apply(bytes).unwrap_err().to_string();
    assert!(said.contains("new.bundle: ") && said.contains(expect), "expected `{expect}`, got: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(device.tree(), before, "{expect}: something changed");
}

fn device() -> (Key, Device) {
    let key = Key::new();
    let device = Device::new(&[&key]);
    device.settle(&bundle(&key, "1.1.0"));
    (key, device)
}

#[test]
fn damaged_files() {
    let (key, device) = device();
    let good = bundle(&key, "1.2.0");
    refused(&device, b"", "is no screamd bundle: it does not begin as one");
    refused(&device, b"#!/bin/sh\n", "is no screamd bundle");
    refused(&device, &good[..40], "is no screamd bundle: it is cut off within its signature");
    for end in [good.len() - 1, good.len() / 2] {
        refused(&device, &good[..end], "the signature does not fit: the file is damaged, cut off or forged");
    }
    refused(&device, &[&good[..], b"x"].concat(), "the signature does not fit");
    // A bit anywhere: head, signature, archive.
    for at in (0..good.len()).step_by(good.len() / 97) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        // The untrusted comment is what its name says.
        let comment = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let comment_end = comment + good[comment..].iter().position(|byte| *byte == b'\n').unwrap();
        if !(comment..comment_end).contains(&at) {
            refused(&device, &flipped, "");
        }
    }
    assert!(device.apply(&good).is_ok(), "the very bytes that were flipped");
}

#[test]
fn keys() {
    let (key, mut device) = device();
    let other = Key::new();
    let stranger = bundle(&other, "1.2.0");
    refused(&device, &stranger, &format!("signed with key {}, which is not trusted", other.public().id));
    // The right key's id in front of another key's signature.
    let (mine, theirs) = (bundle(&key, "1.2.0"), String::from_utf8_lossy(&stranger).into_owned());
    let head = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().nth(2).unwrap().to_string();
    let forged = format!("{}{}", &head(&mine)[..14], &head(&stranger)[14..]);
    let at = theirs.find(&head(&stranger)).unwrap();
    let bytes = [&stranger[..at], forged.as_bytes(), &stranger[at + forged.len()..]].concat();
    refused(&device, &bytes, "the signature does not fit");

    // Rotation: both are trusted for a while, then the new one alone.
    device.keys.push(other.public());
    device.settle(&stranger);
    device.keys.remove(0);
    refused(&device, &bundle(&key, "1.3.0"), "is not trusted");
}

#[test]
fn what_does_not_fit_this_device() {
    let (key, mut device) = device();
    let with = |change: &dyn Fn(&mut release::manifest::Manifest)| {
        let files = files("program");
        let mut manifest = manifest("1.2.0", &files);
        change(&mut manifest);
        key.sign(&release::bundle::pack(&manifest, &files).unwrap())
    };
    refused(&device, &with(&|m| m.arch = "vax".into()), "is for vax, this machine is test");
    let elsewhere = with(&|m| m.boards = vec!["raspberry-pi-4".into()]);
    refused(&device, &elsewhere, "is for board raspberry-pi-4, this device is `generic`");
    refused(&device, &bundle(&key, "1.0.9"), "version 1.0.9 is older than 1.1.0, which runs (--allow-downgrade");
    refused(&device, &bundle(&key, "1.1.0"), "runs already");
    let older = device.apply_path(&device.place(&bundle(&key, "1.0.9")), "generic", true).unwrap();
    assert_eq!(device.store.current().unwrap().id, older.id, "with the flag it is applied");

    let file = std::fs::File::create(device.root.path().join("large")).unwrap();
    file.set_len(release::limits::BUNDLE_BYTES_MAX + 1).unwrap();
    let large = device.apply_path(&device.root.path().join("large"), "generic", false).unwrap_err().to_string();
    assert!(large.contains("large: has 268435457 bytes, at most 268435456 are read"), "{large}");
    let path = device.place(&bundle(&key, "1.2.0"));
    let link = device.root.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for odd in [link.as_path(), std::path::Path::new("/dev/null"), device.root.path()] {
        let said = device.apply_path(odd, "generic", false).unwrap_err().to_string();
        assert!(said.contains("is not a regular file"), "{said}");
    }
    device.package = Version::new(9, 0, 0);
    let fit = Fit { package: &device.package, arch: "test", board: "generic", allow_downgrade: false };
    let fresh = Device::new(&[&key]);
    let said = fresh.store.apply(&path, &fresh.keys, &fit, None, &mut |_| {}).unwrap_err().to_string();
    assert!(said.contains("version 1.2.0 is older than 9.0.0"), "the package counts too: {said}");
}

#[test]
fn archives_that_are_not_what_they_should_be() {
    let (key, device) = device();
    let files = files("program");
    let manifest = manifest("1.2.0", &files);
    let check = |write: &dyn Fn(&mut tar::Builder<&mut Vec<u8>>), expect: &str| {
        let bytes = odd_bundle(&key, &manifest, |tar| {
            for (path, bytes) in &files {
                append(tar, path, bytes, EntryType::Regular);
            }
            write(tar);
        });
        refused(&device, &bytes, expect);
    };
    check(&|tar| append(tar, "../../etc/cron.d/x", b"x", EntryType::Regular), "entry `../../etc/cron.d/x`: leads out");
    check(&|tar| append(tar, "/etc/cron.d/x", b"x", EntryType::Regular), "entry `/etc/cron.d/x`: leads out");
    check(&|tar| append(tar, "models/x", b"", EntryType::Symlink), "entry `models/x`: is a symbolic link");
    check(&|tar| append(tar, "models/x", b"", EntryType::Link), "entry `models/x`: is a hard link");
    check(&|tar| append(tar, "models/x", b"", EntryType::Char), "entry `models/x`: is a device node");
    check(&|tar| append(tar, "models/x", b"", EntryType::Block), "entry `models/x`: is a device node");
    check(&|tar| append(tar, "models/x", b"", EntryType::Fifo), "entry `models/x`: is a pipe");
    check(&|tar| append(tar, "models/x", b"", EntryType::Directory), "entry `models/x`: is a folder");
    check(&|tar| append(tar, "x", b"path", EntryType::XHeader), "entry `x`: is an extension header");
    check(&|tar| append(tar, "bin/screamd", b"other", EntryType::Regular), "`bin/screamd`: stands twice");
    check(&|tar| append(tar, "bin/extra", b"x", EntryType::Regular), "`bin/extra`: is not named in the manifest");
    check(&|tar| append(tar, "bin/\u{7}", b"x", EntryType::Regular), "entry `bin/\\u{7}`");

    let instead = |replace: &str, bytes: &[u8], expect: &str| {
        let archive = odd_bundle(&key, &manifest, |tar| {
            for (path, own) in &files {
                append(tar, path, if path == replace { bytes } else { own }, EntryType::Regular);
            }
        });
        refused(&device, &archive, expect);
    };
    instead("bin/screamd", b"another program", "`bin/screamd`: has 15 bytes, the manifest says 7");
    instead("bin/screamd", b"progrAm", "`bin/screamd`: its hash is not the manifest's");
    let short = odd_bundle(&key, &manifest, |tar| append(tar, &files[0].0, &files[0].1, EntryType::Regular));
    refused(&device, &short, "`boards/generic.toml`: is named in the manifest and not in the archive");
    refused(&device, &key.sign(b"no gzip at all"), "manifest.toml: ");
}
