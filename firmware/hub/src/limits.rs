//! Every bound of this crate in one place, each with its reason, related by asserts that the compiler checks.
//!
//! Units stand last in the names; a bare count has none.

use std::time::Duration;

/// A command's payload, bytes. Refused above it without a look at what it says.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024;
/// A payload that is read before it is refused, bytes: it stands in memory as a whole, and memory is promised. The client ends the connection at
/// the first larger one, of which the broker may keep one for every subscription: more than this it had better refuse (mosquitto: `max_packet_size`).
pub const PAYLOAD_BYTES_READ_MAX: usize = 1024 * 1024;
/// A packet in either direction, bytes: with its topic.
pub const PACKET_BYTES_MAX: usize = PAYLOAD_BYTES_READ_MAX + 1024;
/// How long a device does without commands whose subscription brings a larger packet each time.
pub const DEAF: Duration = Duration::from_secs(300);
/// A command's `id`, bytes.
pub const COMMAND_ID_BYTES_MAX: usize = 64;
/// Ids of commands that are remembered against a replay. Older ones need `expires`.
pub const COMMAND_IDS_MAX: usize = 1024;
/// Of them, the latest outlive the program: 64 ids of 64 bytes are one block of flash.
pub const COMMAND_IDS_KEPT: usize = 64;
/// Commands that are always taken within [`COMMANDS_WINDOW`].
pub const COMMANDS_MAX: usize = 10;
/// See [`COMMANDS_MAX`].
pub const COMMANDS_WINDOW: Duration = Duration::from_secs(10);
/// Refused commands that the log has of a [`REFUSED_WHILE`], each with its reason; the others are counted.
pub const REFUSED_LOGGED_MAX: u32 = 10;
/// See [`REFUSED_LOGGED_MAX`].
pub const REFUSED_WHILE: Duration = Duration::from_secs(60);
/// The reason in an answer, bytes: it may quote what a stranger sent.
pub const REASON_BYTES_MAX: usize = 240;
/// Shortest `duration` of a siren that is switched on, seconds: less than a line and a relay can follow.
pub const SIREN_S_MIN: f64 = 0.1;
/// `for_s` of a disarming, seconds: a week. Longer than that is a disarming without an end, and is said as one.
pub const ARM_AGAIN_S_MAX: f64 = 7.0 * 86_400.0;
/// `live/set`, seconds: who watches asks again, and who has gone leaves no traffic behind.
pub const LIVE_S_MAX: f64 = 300.0;
/// `cooldown/set`, seconds.
pub const COOLDOWN_S_MAX: f64 = 86_400.0;

/// Alerts that the outbox holds. The contract asks for 10,000.
pub const ALERTS_MAX: usize = 12_288;
/// All alerts in the outbox together, bytes: they are kept in memory too, and memory is promised.
pub const ALERTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One alert as stored, bytes. `detail` is cut to fit.
pub const ALERT_BYTES_MAX: usize = 4 * 1024;
/// Free text inside an alert, bytes.
pub const DETAIL_BYTES_MAX: usize = 1024;
/// Zone, label and model of an alert that would be too large otherwise, bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// A segment of the outbox, bytes; then the next one is begun. Small, so that acknowledged alerts leave the disk soon.
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024;
/// Bytes on disk above twice the live ones at which the outbox is written anew. Large, to spare the flash.
pub const COMPACT_SLACK_BYTES: u64 = 1024 * 1024;
/// A segment that is read at start, bytes. Larger is not ours.
pub const SEGMENT_READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Damaged files that are kept aside for a person to look at.
pub const BAD_FILES_MAX: usize = 4;
/// First and longest wait before the disk is tried again.
pub const STORAGE_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`STORAGE_RETRY_MIN`].
pub const STORAGE_RETRY_MAX: Duration = Duration::from_secs(60);

/// How long the disk is waited for, each time that it is asked to keep something: then the alert goes out from memory.
pub const DISK_WAIT: Duration = Duration::from_secs(2);
/// A disk that has given no answer for so long is told as a fault.
pub const DISK_SLOW: Duration = Duration::from_secs(10);
/// How long a start waits for the outbox; a full one opens within a tenth of it.
pub const OPEN_WAIT: Duration = Duration::from_secs(1);
/// Alerts that wait for the hub's thread; more means that the disk hangs.
pub const MAILBOX_ALERTS_MAX: usize = 1024;
/// Answers to commands that wait to be sent.
pub const RESULTS_MAX: usize = 256;
/// Messages for the caller that wait because its queue is full.
pub const UNDELIVERED_MAX: usize = 64;
/// Wait before the caller's full queue is tried again.
pub const UNDELIVERED_RETRY: Duration = Duration::from_millis(20);

/// Between two alerts: 18 a second, under the 20 that are promised with one that was late and comes with the next.
/// 10,000 alerts take 9 minutes 10 seconds.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(55);
/// An alarm younger than this goes before a backlog.
pub const FRESH: Duration = Duration::from_secs(10);
/// Alerts sent and not yet acknowledged. With 3 s of round trip, 18 a second need 54.
pub const ALERTS_IN_FLIGHT_MAX: usize = 64;
/// States and answers sent and not yet acknowledged; above it they wait, the latest wins.
pub const OTHERS_IN_FLIGHT_MAX: usize = 64;
/// Publishes in flight that the MQTT client allows.
pub const CLIENT_IN_FLIGHT_MAX: u16 = 200;
/// Requests that may wait inside the MQTT client.
pub const CLIENT_REQUESTS_MAX: usize = 256;
/// Events of a connection that wait for the session, each at most a command long.
pub const LINK_EVENTS_MAX: usize = 32;
/// Packets that the client reads before it hands them on: a hundred of the largest would stand in memory at once.
pub const READ_BATCH: usize = 1;

/// MQTT keep-alive, seconds: with the broker's factor of 1.5 the will shows after 45 s.
pub const KEEP_ALIVE_S: u16 = 30;
/// Name, TCP, TLS and CONNACK together, seconds.
pub const CONNECT_S: u64 = 10;
/// A name server's answer; then the last good address is taken.
pub const RESOLVE: Duration = Duration::from_secs(4);
/// One address of several; the last one may take what is left of [`CONNECT_S`].
pub const ADDRESS: Duration = Duration::from_secs(2);
/// First and longest wait before the next attempt to connect.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// See [`BACK_OFF_MIN`].
pub const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// A session that lasted this long was a success: the next wait is short again. Shorter ones are two devices of one name
/// that throw each other out, or a broker that falls over what it reads.
pub const SESSION_GOOD: Duration = Duration::from_secs(10);
/// A fresh alarm cuts a wait short, at most once in this time.
pub const HURRY: Duration = Duration::from_secs(5);
/// The longest wait while an alarm that is younger than [`ALARM_NEWS`] has not been delivered.
pub const ALARM_BACK_OFF_MAX: Duration = Duration::from_secs(4);
/// For so long somebody may still be helped by an alarm that is late.
pub const ALARM_NEWS: Duration = Duration::from_secs(3600);
/// Something is in flight and nothing was acknowledged for so long: the path is dead, whatever TCP thinks.
/// Well above the slowest link that is supported: 64 alerts of 500 bytes over 4 KiB/s.
pub const ACK_WAIT: Duration = Duration::from_secs(20);
/// SUBACK after SUBSCRIBE.
pub const SUBSCRIBE_WAIT: Duration = Duration::from_secs(10);
/// Random delay before discovery is sent again, milliseconds: a thousand devices hear the same birth message.
pub const BIRTH_DELAY_MS: std::ops::Range<u64> = 200..3_000;
/// The hub's loop turns at least this often, so that a watchdog sees it alive.
pub const BEAT: Duration = Duration::from_secs(1);
/// `status` offline, DISCONNECT and their flush at the stop.
pub const GOODBYE: Duration = Duration::from_secs(1);
/// How long a stop whose caller is in a hurry waits for acknowledgements.
pub const HURRIED: Duration = Duration::from_millis(500);
/// Between two looks whether he is.
pub const HURRY_LOOK: Duration = Duration::from_millis(20);

const _: () = assert!(ALERTS_MAX >= 10_000, "the contract's figure");
const _: () = assert!(ALERT_BYTES_MAX < PACKET_BYTES_MAX, "every alert fits into a packet");
const _: () = assert!(DETAIL_BYTES_MAX * 2 < ALERT_BYTES_MAX, "a cut detail always fits, escaped or not");
const _: () = assert!(TEXT_BYTES_MAX * 3 * 2 < ALERT_BYTES_MAX / 2, "three cut texts always fit, escaped or not");
const _: () = assert!(ALERT_BYTES_MAX as u64 * 4 < SEGMENT_BYTES_MAX, "a segment holds several of the largest alerts");
const _: () = assert!(
    ALERTS_IN_FLIGHT_MAX + OTHERS_IN_FLIGHT_MAX < CLIENT_IN_FLIGHT_MAX as usize,
    "the client never blocks what the session has allowed"
);
const _: () =
    assert!(CLIENT_IN_FLIGHT_MAX as usize <= CLIENT_REQUESTS_MAX, "what may be in flight fits into the client's queue");
const _: () = assert!(COMMAND_BYTES_MAX < PAYLOAD_BYTES_READ_MAX, "what is refused for its size was read first");
const _: () = assert!(COMMAND_ID_BYTES_MAX < COMMAND_BYTES_MAX, "an id is a part of a command");
const _: () = assert!(COMMAND_IDS_KEPT <= COMMAND_IDS_MAX, "what is kept is remembered");
const _: () = assert!(DRAIN_INTERVAL.as_millis() >= 50, "20 alerts a second at most");
