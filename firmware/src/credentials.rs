//! The files with secrets that a site file names: where they lie, and who can read them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where systemd takes the service's secrets from; root alone may look into it.
const STORE: &str = "/etc/credstore";
/// The service's user.
const USER: &str = "screamd";

/// A file that the site names: a path, or a name in `$CREDENTIALS_DIRECTORY`. In a shell, where systemd hands nothing over, root finds a name
/// where the service's unit takes it from, so that `check` and `selftest` see what the service sees.
pub fn find(path: &Path) -> PathBuf {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let found = find_in(folder.as_deref(), Path::new(STORE), path);
    // Asked only where it matters.
    if found.starts_with(STORE) && !path.starts_with(STORE) && !systemd_has_store() {
        path.to_path_buf()
    } else {
        found
    }
}

/// systemd looks into its credential store from release 251 on (its NEWS); where nobody says which it is, it is taken for new.
fn systemd_has_store() -> bool {
    let said = Command::new("systemctl").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    release(&String::from_utf8_lossy(&said)).is_none_or(|release| release >= 251)
}

/// Of the first line, such as `systemd 252 (252.39-1~deb12u1)`.
fn release(said: &str) -> Option<u32> {
    let word = said.strip_prefix("systemd ")?.split(' ').next()?;
    word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn find_in(folder: Option<&Path>, store: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_path_buf();
    }
    if let Some(found) = folder.map(|folder| folder.join(path)).filter(|found| found.exists()) {
        return found;
    }
    let stored = store.join(format!("{USER}.{}", path.display()));
    let is_name = path.components().count() == 1;
    // Before a file of that name where somebody happens to stand: the service will not get that one.
    if is_name && folder.is_none() && stored.exists() { stored } else { path.to_path_buf() }
}

/// What is not wise about a named file's rights: others may read it, or the service may not.
pub fn warning(path: &Path) -> Option<String> {
    // What systemd hands over is the service's alone, whatever its mode.
    if find(path) != path {
        return None;
    }
    let rights = std::fs::metadata(path).ok()?;
    let user = rustix::process::geteuid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if path.is_relative() && ids(&users).is_some() {
        return Some(format!(
            "{}: is taken from the folder that you stand in; the service takes a name from {STORE}/{USER}.NAME, else a whole path",
            path.display()
        ));
    }
    // The service itself, and root, judge by what the service needs; who tries the program out has a file of his own.
    let service = ids(&users).filter(|(service, _)| user.is_root() || user.as_raw() == *service);
    let cause = cause((rights.uid(), rights.gid(), rights.mode()), service)?;
    Some(format!("{}: {cause}", path.display()))
}

/// User and group of the service in the text of /etc/passwd; none where it is not installed.
fn ids(users: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().find_map(|line| line.strip_prefix(USER)?.strip_prefix(':'))?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn cause((uid, gid, mode): (u32, u32, u32), service: Option<(u32, u32)>) -> Option<String> {
    let service_reads = |(user, group): (u32, u32)| match (uid == user, gid == group) {
        (true, _) => mode & 0o400 != 0,
        (false, true) => mode & 0o040 != 0,
        (false, false) => mode & 0o004 != 0,
    };
    match service {
        // Of a group that is the service's alone nobody else is.
        Some((_, group)) if mode & 0o007 != 0 || (mode & 0o070 != 0 && gid != group) => {
            Some(format!("others may read it (chown {USER}, chmod 600)"))
        }
        None if mode & 0o077 != 0 => Some("others may read it (chmod 600)".into()),
        Some(service) if !service_reads(service) => {
            Some(format!("the service cannot read it (chown {USER}, chmod 600)"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_found_as_the_service_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (handed, store) = (dir.path().join("handed"), dir.path().join("credstore"));
        std::fs::create_dir(&handed).unwrap();
        std::fs::create_dir(&store).unwrap();
        let name = Path::new("mqtt.password");
        let stored = store.join("screamd.mqtt.password");
        std::fs::write(&stored, "x").unwrap();
        assert_eq!(find_in(None, &store, name), stored, "a shell");
        let here = Path::new("Cargo.toml");
        assert!(here.exists());
        assert_eq!(find_in(None, &store, here), here, "where it is tried out");
        std::fs::write(store.join("screamd.Cargo.toml"), "x").unwrap();
        assert_eq!(find_in(None, &store, here), store.join("screamd.Cargo.toml"), "the service gets this one");
        assert_eq!(find_in(None, &store, Path::new("ca.pem")), Path::new("ca.pem"), "nowhere: named as it is written");
        assert_eq!(find_in(Some(&handed), &store, name), name, "a service that was handed nothing must say so");
        std::fs::write(handed.join(name), "x").unwrap();
        assert_eq!(find_in(Some(&handed), &store, name), handed.join(name));
        let path = dir.path().join("own");
        assert_eq!(find_in(Some(&handed), &store, &path), path);
    }

    #[test]
    fn a_release_of_systemd_is_read() {
        assert_eq!(release("systemd 249 (249.11-0ubuntu3.12)\n+PAM"), Some(249));
        assert_eq!(release("systemd 256~rc3\n"), Some(256));
        assert_eq!((release(""), release("busybox")), (None, None));
    }

    #[test]
    fn rights_are_warned_of_as_far_as_they_matter() {
        let users = "root:x:0:0:root:/root:/bin/bash\nscreamd-old:x:7:7::/:\nscreamd:x:990:989::/var/lib/screamd:/usr/sbin/nologin\n";
        let service = ids(users);
        assert_eq!((service, ids("root:x:0:0::/:")), (Some((990, 989)), None));
        let words = |uid, gid, mode, service| cause((uid, gid, mode), service).unwrap_or_default();
        assert!(words(0, 0, 0o100_600, service).contains("the service cannot read it"));
        assert!(words(990, 0, 0o100_200, service).contains("the service cannot read it"));
        assert!(words(0, 0, 0o100_644, service).contains("others may read it"));
        assert!(words(0, 5, 0o100_640, service).contains("others may read it"));
        for (uid, gid, mode) in [(990, 0, 0o100_600), (0, 989, 0o100_640)] {
            assert_eq!(words(uid, gid, mode, service), "");
        }
        assert_eq!(words(1000, 1000, 0o100_600, None), "");
        assert!(words(1000, 1000, 0o100_640, None).contains("others may read it"));
    }
}
