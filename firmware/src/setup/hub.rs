//! The third question: which hub. It is tried at once: name, connection, certificate, and what the broker says to this user.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::answers::Hub;
use super::ask::Ask;
use super::found;

/// How long announcements are waited for.
const LOOK: Duration = Duration::from_secs(3);

/// Asks for the broker, and for what else no flag has given.
///
/// # Errors
/// Nobody answers.
pub fn question(ask: &mut Ask<impl BufRead, impl Write>, given: &super::Args) -> anyhow::Result<Option<Hub>> {
    let mut found = Vec::new();
    if ask.terminal {
        ask.say("looking for hubs in the network ...");
        found = found::hubs(LOOK);
        found.iter().for_each(|hub| ask.say(&format!("  {}", hub.text())));
    }
    let first = found.first().map_or("homeassistant.local", |hub| &hub.host);
    let host = ask.text("MQTT broker, its name or address (- for none)", first, "--mqtt-host or --no-mqtt")?;
    if host == "-" || host == "none" {
        return Ok(None);
    }
    let port = given.mqtt_port.or_else(|| found.iter().find(|hub| hub.host == host).and_then(|hub| hub.port));
    let username = match &given.mqtt_username {
        Some(name) => name.clone(),
        None => ask.text("User name there (empty for none)", "", "--mqtt-username")?,
    };
    let username = (!username.is_empty()).then_some(username);
    let password_file = match (&username, &given.mqtt_password_file) {
        (Some(_), Some(path)) => Some(path.clone()),
        (Some(_), None) => {
            let path =
                ask.text("File that holds its password", "/etc/screamd/mqtt.password", "--mqtt-password-file")?;
            Some(PathBuf::from(path))
        }
        (None, _) => None,
    };
    Ok(Some(Hub { host, port, username, password_file, ca_file: given.mqtt_ca_file.clone() }))
}

/// Whether the broker takes this device.
///
/// # Errors
/// Why it cannot be reached, or does not, in words.
pub fn try_out(hub: &Hub) -> Result<(), String> {
    // A name that no device has: the one that is at work already is not to be thrown out.
    let device_id = format!("setup-{}", std::process::id());
    let options = crate::broker::to_try(&hub.as_site(), &device_id).map_err(|error| format!("{error:#}"))?;
    hub::probe::greeting(&options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use super::*;

    fn hub(port: u16) -> Hub {
        Hub { host: "127.0.0.1".into(), port: Some(port), username: None, password_file: None, ca_file: None }
    }

    /// A broker that answers one CONNECT with these bytes; what it was sent.
    fn broker(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0u8; 2];
            stream.read_exact(&mut head).unwrap();
            let mut body = vec![0u8; usize::from(head[1])];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(answer).unwrap();
            [&head[..], &body].concat()
        });
        (port, thread)
    }

    #[test]
    fn what_a_broker_says_is_told() {
        for (answer, expect) in [
            (&[0x20, 2, 0, 0][..], None),
            (&[0x20, 2, 0, 4], Some("refuses user name or password")),
            (&[0x20, 2, 0, 5], Some("does not let this user in")),
            (b"HTTP", Some("")),
            (&[], Some("")),
        ] {
            let (port, thread) = broker(answer);
            match (try_out(&hub(port)), expect) {
                (Ok(()), None) => {}
                (Err(said), Some(expect)) => {
                    assert!(said.starts_with(&format!("127.0.0.1:{port}: ")) && said.contains(expect), "{said}");
                }
                (said, expect) => panic!("{said:?} instead of {expect:?}"),
            }
            let sent = thread.join().unwrap();
            assert_eq!(&sent[2..8], b"\0\x04MQTT");
            assert_eq!(sent[8..10], [4, 2], "clean session, no will: nothing stays at the broker");
        }
        assert!(try_out(&hub(9)).unwrap_err().contains("127.0.0.1:9"));
    }

    /// The password is the file's without its last line's end, as the session will send it.
    #[test]
    fn user_and_password_are_the_sites() {
        let dir = tempfile::tempdir().unwrap();
        let (port, thread) = broker(&[0x20, 2, 0, 0]);
        let mut hub = hub(port);
        hub.username = Some("hall".into());
        hub.password_file = Some(dir.path().join("password"));
        let gone = try_out(&hub).unwrap_err();
        assert!(gone.contains("password: No such file"), "{gone}");
        std::fs::write(dir.path().join("password"), "canary\n").unwrap();
        try_out(&hub).unwrap();
        assert!(thread.join().unwrap().ends_with(b"\0\x04hall\0\x06canary"));
    }
}
