//! The third question: which hub. It is tried at once: name, connection, and what the broker says to a CONNECT; a session
//! of its own, with another client id and no message, so that nothing of it stays at the broker.

use std::io::{BufRead, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::answers::Hub;
use super::ask::Ask;
use super::found;

/// Name, connection and answer, each.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long announcements are waited for.
const LOOK: Duration = Duration::from_secs(3);
/// A password, bytes.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

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

/// What the broker says.
///
/// # Errors
/// Why it cannot be reached or does not take this device, in words.
pub fn try_out(hub: &Hub) -> Result<&'static str, String> {
    let at = (hub.host.as_str(), hub.port());
    let addresses: Vec<_> = at.to_socket_addrs().map_err(|error| format!("its name: {error}"))?.collect();
    let mut last = "its name has no address".to_string();
    let connected = addresses.iter().find_map(|address| {
        TcpStream::connect_timeout(address, PATIENCE).map_err(|error| last = format!("{address}: {error}")).ok()
    });
    let Some(mut stream) = connected else { return Err(last) };
    if hub.ca_file.is_some() {
        return Ok("answers; TLS is tried by `screamd selftest`");
    }
    let password = match &hub.password_file {
        Some(path) => {
            let path = crate::credentials::find(path);
            let read = files::model_dir::read_bounded(&path, PASSWORD_BYTES_MAX);
            Some(read.map_err(|error| error.to_string())?.trim_ascii_end().to_vec())
        }
        None => None,
    };
    let talk = |stream: &mut TcpStream| -> std::io::Result<[u8; 4]> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&connect(hub.username.as_deref(), password.as_deref()))?;
        let mut answer = [0u8; 4];
        stream.read_exact(&mut answer)?;
        // DISCONNECT: gone without a trace.
        let _ = stream.write_all(&[0xe0, 0]);
        Ok(answer)
    };
    let answer = talk(&mut stream).map_err(|error| format!("does not answer as an MQTT broker: {error}"))?;
    match answer {
        [0x20, 2, _, 0] => Ok("takes this device"),
        [0x20, 2, _, 4] => Err("refuses user name or password".into()),
        [0x20, 2, _, 5] => Err("does not let this user in".into()),
        [0x20, 2, _, code] => Err(format!("refuses with code {code}")),
        _ => Err("does not answer as an MQTT broker".into()),
    }
}

/// CONNECT of MQTT 3.1.1, clean session, no will.
fn connect(username: Option<&str>, password: Option<&[u8]>) -> Vec<u8> {
    let field = |bytes: &[u8]| {
        let length = bytes.len().min(usize::from(u16::MAX)) as u16;
        [&length.to_be_bytes()[..], &bytes[..usize::from(length)]].concat()
    };
    let flags = 2 | if username.is_some() { 0x80 } else { 0 } | if password.is_some() { 0x40 } else { 0 };
    let client = format!("screamd_setup_{}", std::process::id());
    let mut body = [&field(b"MQTT")[..], &[4, flags], &30u16.to_be_bytes(), &field(client.as_bytes())].concat();
    username.iter().for_each(|name| body.extend(field(name.as_bytes())));
    password.iter().for_each(|password| body.extend(field(password)));
    let (mut packet, mut length) = (vec![0x10], body.len());
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        packet.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
            (&[0x20, 2, 0, 0][..], Ok("takes this device")),
            (&[0x20, 2, 0, 4], Err("refuses user name or password")),
            (&[0x20, 2, 0, 5], Err("does not let this user in")),
            (b"HTTP", Err("does not answer as an MQTT broker")),
            (&[], Err("does not answer as an MQTT broker")),
        ] {
            let (port, thread) = broker(answer);
            match (try_out(&hub(port)), expect) {
                (Ok(said), Ok(expect)) => assert_eq!(said, expect),
                (Err(said), Err(expect)) => assert!(said.starts_with(expect), "{said}"),
                (said, expect) => panic!("{said:?} instead of {expect:?}"),
            }
            let sent = thread.join().unwrap();
            assert_eq!(&sent[2..8], b"\0\x04MQTT");
            assert_eq!(sent[8..10], [4, 2], "clean session, no will: nothing stays at the broker");
        }
        assert!(try_out(&hub(9)).unwrap_err().contains("127.0.0.1:9"));
    }

    #[test]
    fn a_password_of_any_length_is_framed() {
        let packet = connect(Some("u"), Some(&[b'x'; 200]));
        assert_eq!(
            (packet[1] & 0x80, usize::from(packet[1] & 0x7f) + usize::from(packet[2]) * 128),
            (0x80, packet.len() - 3)
        );
        assert_eq!(packet[10], 0xc2);
    }
}
