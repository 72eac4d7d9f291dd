//! What the service manager is told (`sd_notify(3)`): a datagram to the socket that it names, no library needed.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The manager's socket.
#[derive(Debug)]
pub struct Notify(UnixDatagram);

impl Notify {
    /// The socket of `$NOTIFY_SOCKET`; none where nobody asks to be notified.
    pub fn from_env() -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        Self::to(&address).inspect_err(|error| log::warn!("NOTIFY_SOCKET {}: {error}", address.to_string_lossy())).ok()
    }

    /// A path, or `@` and a name of the abstract namespace.
    fn to(address: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A manager that reads nothing must not stop an alarm.
        socket.set_nonblocking(true)?;
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        socket.connect_addr(&address)?;
        Ok(Self(socket))
    }

    /// Says `state`, such as `READY=1`; false where it could not be said.
    pub fn say(&self, state: &str) -> bool {
        self.0.send(state.as_bytes()).inspect_err(|error| log::debug!("{state} to the manager: {error}")).is_ok()
    }
}

/// Within which time the manager wants to hear `WATCHDOG=1`; none where it does not, or means another process.
pub fn watchdog() -> Option<Duration> {
    let text = |name: &str| std::env::var(name).ok();
    interval(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id())
}

fn interval(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let usec: u64 = usec?.trim().parse().ok().filter(|usec| *usec > 0)?;
    let meant = pid.is_none_or(|pid| pid.trim().parse() == Ok(own));
    meant.then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("screamd-test-{}", std::process::id());
        let listeners = [
            (path.as_os_str().to_owned(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap(),
            ),
        ];
        for (address, listener) in listeners {
            assert!(Notify::to(&address).unwrap().say("READY=1"));
            let mut heard = [0; 64];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(Notify::to(dir.path().join("nobody").as_os_str()).is_err());
    }

    #[test]
    fn the_watchdogs_time_is_read_where_it_is_ours() {
        let check = |usec, pid, expect: Option<u64>| {
            assert_eq!(interval(usec, pid, 7), expect.map(Duration::from_micros), "{usec:?} {pid:?}");
        };
        check(Some("10000000"), None, Some(10_000_000));
        check(Some("10000000"), Some("7"), Some(10_000_000));
        check(Some("10000000"), Some("8"), None);
        check(Some("0"), None, None);
        check(Some("soon"), None, None);
        check(None, None, None);
    }
}
