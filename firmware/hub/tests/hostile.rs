//! A broker that means harm or is broken: the session ends, the alert stays, memory stays, and a good broker gets it after.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub::limits::PAYLOAD_BYTES_READ_MAX;
use hub::{Event, EventType, Options};
use support::Device;

/// Every packet of a connection: its first byte and its body. `None` at the end.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// CONNACK and SUBACK, as a broker that is well gives them.
fn welcome(stream: &mut TcpStream) {
    welcome_with(stream, 1);
}

/// The same with this code for each topic in SUBACK.
fn welcome_with(stream: &mut TcpStream, code: u8) {
    assert_eq!(packet(stream).unwrap().0, 0x10, "CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).unwrap();
    let (kind, body) = packet(stream).unwrap();
    assert_eq!(kind, 0x82, "SUBSCRIBE");
    let mut topics = 0;
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        rest = &rest[2 + length + 1..];
        topics += 1;
    }
    let mut answer = vec![0x90, 2 + topics, body[0], body[1]];
    answer.extend(vec![code; usize::from(topics)]);
    stream.write_all(&answer).unwrap();
}

/// Until the device hangs up; how many bytes it took meanwhile, where `flood` is poured into it.
fn until_hung_up(mut stream: TcpStream, flood: &[u8]) -> usize {
    let (mut taken, mut bytes) = (0, [0; 4096]);
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < support::LIMIT, "the device stays with a broker that is broken");
        if !flood.is_empty() {
            match stream.write(flood) {
                Ok(count) => taken += count,
                Err(_) => return taken,
            }
        }
        match stream.read(&mut bytes) {
            Ok(0) => return taken,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return taken,
        }
    }
}

/// Memory is measured: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message of QoS 0.
fn message(topic: &str, payload: usize) -> Vec<u8> {
    let mut rest = 2 + topic.len() + payload;
    let mut packet = vec![0x30];
    while packet.len() == 1 || rest > 0 {
        packet.push((rest & 0x7f) as u8 | if rest > 0x7f { 0x80 } else { 0 });
        rest >>= 7;
    }
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.resize(packet.len() + payload, b'x');
    packet
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_broken_broker_costs_neither_an_alert_nor_memory() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("hostile", "Hallway", "127.0.0.1", dir.path());
    options.port = listener.local_addr().unwrap().port();
    let mut device = Device::start(options);
    device.hub().alert(Event::new(EventType::ScreamStart, "kept", "2026-01-02T03:04:05Z", true));
    let accept = || listener.accept().unwrap().0;

    // No MQTT at all.
    let mut stream = accept();
    stream.write_all(&[0xff; 64]).unwrap();
    until_hung_up(stream, &[]);
    device.wait_disconnected();
    // Refused.
    let mut stream = accept();
    packet(&mut stream).unwrap();
    stream.write_all(&[0x20, 2, 0, 5]).unwrap();
    until_hung_up(stream, &[]);
    // An acknowledgement of what was never sent.
    let mut stream = accept();
    welcome(&mut stream);
    stream.write_all(&[0x40, 2, 0xff, 0xfe]).unwrap();
    until_hung_up(stream, &[]);
    assert_eq!(device.hub().outbox_len(), 1, "not acknowledged by that");
    // Large ones, one by one and in a flood; then one of 256 MiB, on the same connection.
    let large = message("screamd/hostile/siren/set", 256 * 1024);
    let refused = device.hub().refused();
    let before_kib = resident_kib();
    let mut grown_kib = 0;
    let mut stream = accept();
    welcome(&mut stream);
    let wait_for_refusals = |count: u64| {
        let began = Instant::now();
        while device.hub().refused() < refused + count {
            assert!(began.elapsed() < support::LIMIT, "message {count} is not refused");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for count in 1..=50 {
        stream.write_all(&large).unwrap();
        wait_for_refusals(count);
        grown_kib = grown_kib.max(resident_kib().saturating_sub(before_kib));
    }
    (0..50).for_each(|_| stream.write_all(&large).unwrap());
    // The connection has outlived them all.
    let began = Instant::now();
    while device.hub().refused() < refused + 100 {
        assert!(began.elapsed() < support::LIMIT, "{}", device.hub().refused());
        grown_kib = grown_kib.max(resident_kib().saturating_sub(before_kib));
    }
    stream.write_all(&[0x30, 0xff, 0xff, 0xff, 0x7f]).unwrap();
    let taken = until_hung_up(stream, &[b'x'; 16 * 1024]);
    grown_kib = grown_kib.max(resident_kib().saturating_sub(before_kib));
    println!("of a packet of 256 MiB {} KiB were taken, memory grew by {grown_kib} KiB", taken / 1024);
    assert!(grown_kib < 1024, "{grown_kib} KiB");
    // What was not read is counted, too.
    wait_for_refusals(101);
    assert_eq!(device.hub().outbox_len(), 1);

    // A good one gets what was kept, and the largest payload that is read does not cost it.
    let mut stream = accept();
    welcome(&mut stream);
    stream.write_all(&message("screamd/hostile/siren/set", PAYLOAD_BYTES_READ_MAX)).unwrap();
    let (topic, event) = event_of(&mut stream, &device);
    assert_eq!(topic, "screamd/hostile/event");
    wait_for_refusals(102);
    assert!(event.contains("\"kept\""), "{event}");
    drop(stream);
    device.stop(Duration::ZERO);
}

/// Access rights that let a device publish and not read: all looks well until somebody wants to silence it.
#[test]
fn a_broker_that_keeps_the_commands_from_the_device_is_told_of_and_gets_the_alert() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("deaf", "Hallway", "127.0.0.1", dir.path());
    options.port = listener.local_addr().unwrap().port();
    let mut device = Device::start(options);
    device.hub().alert(Event::new(EventType::ScreamStart, "kept", "2026-01-02T03:04:05Z", true));
    let mut stream = listener.accept().unwrap().0;
    welcome_with(&mut stream, 0x80);
    assert_eq!(event_of(&mut stream, &device).0, "screamd/deaf/event");
    let cause = device.wait_disconnected();
    assert!(cause.contains("siren/set, silence/press: the hub cannot end an alarm"), "{cause}");
    assert!(device.hub().connected());
    // Rights that are given take hold at the next connection.
    drop(stream);
    let mut stream = listener.accept().unwrap().0;
    welcome(&mut stream);
    device.wait_connected();
    device.stop(Duration::ZERO);
}

/// A retained message that is too large to be read comes with every subscription.
#[test]
fn what_the_broker_keeps_and_nobody_can_read_costs_the_commands_and_no_alert() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("heavy", "Hallway", "127.0.0.1", dir.path());
    options.port = listener.local_addr().unwrap().port();
    let mut device = Device::start(options);
    device.hub().alert(Event::new(EventType::ScreamStart, "kept", "2026-01-02T03:04:05Z", true));
    for too_large in
        [message("screamd/heavy/siren/set", PAYLOAD_BYTES_READ_MAX * 2), vec![0x30, 0xff, 0xff, 0xff, 0x7f]]
    {
        let mut stream = listener.accept().unwrap().0;
        welcome(&mut stream);
        // It hangs up at the length, before all of it is written.
        let _ = stream.write_all(&too_large);
        until_hung_up(stream, &[]);
    }
    device.wait_disconnected();
    let mut stream = listener.accept().unwrap().0;
    assert_eq!(packet(&mut stream).unwrap().0, 0x10, "CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).unwrap();
    assert_eq!(event_of(&mut stream, &device).0, "screamd/heavy/event");
    let cause = device.wait("PathDown's cause", |told| match told {
        hub::Incoming::Disconnected { cause } if cause.contains("1 MiB") => Some(cause.clone()),
        _ => None,
    });
    assert!(cause.contains("the hub cannot end an alarm"), "{cause}");
    assert!(device.hub().connected());
    drop(stream);
    device.stop(Duration::ZERO);
}

/// Acknowledges what the device publishes until nothing is left in its outbox; topic and payload of the event.
fn event_of(stream: &mut TcpStream, device: &Device) -> (String, String) {
    let mut heard = Vec::new();
    while device.hub().outbox_len() > 0 {
        let (kind, body) = packet(stream).unwrap();
        if kind & 0xf6 == 0x32 {
            let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let (topic, rest) = body[2..].split_at(length);
            stream.write_all(&[0x40, 2, rest[0], rest[1]]).unwrap();
            heard.push((String::from_utf8(topic.to_vec()).unwrap(), String::from_utf8(rest[2..].to_vec()).unwrap()));
            if heard.last().unwrap().0.ends_with("/event") {
                device.wait_empty_outbox();
            }
        }
    }
    heard.pop().unwrap()
}
