//! One connection to the broker, from TCP to its end. Each connection is a new MQTT client: nothing that a dead one had
//! queued can come out of the next, and what must survive is ours (outbox, states).
//!
//! The client's event loop runs in a task of its own and is never cancelled half way through a packet.

use std::sync::Arc;

use rumqttc::tokio_rustls::rustls::ClientConfig;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet,
    Publish, PublishOptions, PublishResult, QoS, SubscribeFilterInput, TlsConfiguration, Transport,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::dial::Dialer;
use crate::limits::{
    CLIENT_IN_FLIGHT_MAX, CLIENT_REQUESTS_MAX, COMMAND_BYTES_MAX, CONNECT_S, GOODBYE, KEEP_ALIVE_S, LINK_EVENTS_MAX,
    PACKET_BYTES_MAX, READ_BATCH,
};
use crate::options::Options;
use crate::outbox::Key;
use crate::topics::{self, Topics};

/// What a publish was, when its PUBACK comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// An alert of the outbox.
    Alert(Key),
    /// A state, an answer, discovery.
    Other,
}

/// What a connection reports.
#[derive(Debug)]
pub enum LinkEvent {
    /// CONNACK.
    Open,
    /// SUBACK.
    Subscribed {
        /// Topics that the broker does not let this device read: leaves of commands, or Home Assistant's birth message.
        refused: Vec<&'static str>,
    },
    /// Somebody published.
    Message(Message),
    /// PUBACK.
    Acked(Ticket),
    /// The end, and nothing after it.
    Closed {
        /// For people.
        cause: String,
        /// The broker sent a packet of more than [`PACKET_BYTES_MAX`].
        oversized: bool,
    },
}

/// What somebody published, as far as anybody will look at it.
#[derive(Debug)]
pub struct Message {
    /// The whole topic.
    pub topic: String,
    /// The payload; its size in bytes where it is over [`COMMAND_BYTES_MAX`].
    pub payload: Result<Vec<u8>, usize>,
    /// The broker had kept it.
    pub retain: bool,
}

impl From<Publish> for Message {
    /// Copied: a part of what was read would keep all of it in memory.
    fn from(publish: Publish) -> Self {
        let size = publish.payload.len();
        Self {
            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
            payload: if size > COMMAND_BYTES_MAX { Err(size) } else { Ok(publish.payload.to_vec()) },
            retain: publish.retain,
        }
    }
}

impl LinkEvent {
    fn closed(cause: &str) -> Self {
        Self::Closed { cause: cause.into(), oversized: false }
    }
}

/// A publish that the client's queue has no room for.
#[derive(Debug)]
pub struct NoRoom;

/// See the module's description. Dropped, the socket closes without a DISCONNECT: the broker sends the will.
#[derive(Debug)]
pub struct Link {
    client: AsyncClient,
    events: Receiver<LinkEvent>,
    report: Sender<LinkEvent>,
    driver: JoinHandle<()>,
}

impl Link {
    /// Begins to connect.
    pub fn open(options: MqttOptions) -> Self {
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(CLIENT_REQUESTS_MAX).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_S);
        event_loop.set_network_options(network);
        let (report, events) = channel(LINK_EVENTS_MAX);
        let sender = report.clone();
        let driver = tokio::spawn(async move {
            loop {
                let event = match event_loop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => LinkEvent::Open,
                    Ok(Event::Incoming(Packet::SubAck(ack))) => LinkEvent::Subscribed {
                        refused: subscribed()
                            .zip(&ack.return_codes)
                            .filter_map(|(topic, code)| (!is_granted(*code)).then_some(topic))
                            .collect(),
                    },
                    Ok(Event::Incoming(Packet::Publish(publish))) => LinkEvent::Message(publish.into()),
                    Ok(Event::Outgoing(Outgoing::Disconnect)) => LinkEvent::closed("disconnected"),
                    Ok(_) => continue,
                    Err(error) => LinkEvent::Closed { cause: cause(&error), oversized: is_oversized(&error) },
                };
                let last = matches!(event, LinkEvent::Closed { .. });
                // A full channel holds the reading back, and TCP the broker. A dropped one means a dropped link.
                if sender.send(event).await.is_err() || last {
                    return;
                }
            }
        });
        Self { client, events, report, driver }
    }

    /// The next event. May be cancelled without loss.
    pub async fn event(&mut self) -> LinkEvent {
        self.events.recv().await.unwrap_or_else(|| LinkEvent::closed("the connection's task ended"))
    }

    /// Its end, where it has come; what stood before it is given up.
    pub fn closed(&mut self) -> Option<LinkEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).find(|event| matches!(event, LinkEvent::Closed { .. }))
    }

    /// Subscribes to every command and to Home Assistant's birth message, in one packet.
    pub fn subscribe(&self, topics: &Topics) -> Result<(), NoRoom> {
        let whole = |topic: &str| match topic {
            topics::HOME_ASSISTANT_STATUS => topic.to_owned(),
            leaf => topics.full(leaf),
        };
        let filters = subscribed().map(|topic| SubscribeFilterInput::new(whole(topic), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).map_err(|_| NoRoom)
    }

    /// Publishes with QoS 1; [`LinkEvent::Acked`] follows, or the link ends.
    pub fn publish(&self, topic: String, payload: Vec<u8>, retain: bool, ticket: Ticket) -> Result<(), NoRoom> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        let notice = self.client.try_publish_tracked(topic, payload, options).map_err(|_| NoRoom)?;
        let report = self.report.clone();
        tokio::spawn(async move {
            if let Ok(PublishResult::Qos1(_)) = notice.wait_async().await {
                // A link that is gone acknowledges nothing.
                let _ = report.send(LinkEvent::Acked(ticket)).await;
            }
        });
        Ok(())
    }

    /// Publishes with QoS 0.
    pub fn publish_once(&self, topic: String, payload: Vec<u8>) -> Result<(), NoRoom> {
        self.client.try_publish(topic, payload, PublishOptions::new(QoS::AtMostOnce)).map_err(|_| NoRoom)
    }

    /// Sends what is queued, waits for its acknowledgements, then DISCONNECT; [`LinkEvent::Closed`] follows.
    pub fn disconnect(&self) -> Result<(), NoRoom> {
        self.client.try_disconnect_with_timeout(GOODBYE).map_err(|_| NoRoom)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whether the client ended the connection because of a packet's size.
fn is_oversized(error: &ConnectionError) -> bool {
    use rumqttc::{Error, StateError};
    matches!(error, ConnectionError::MqttState(StateError::Deserialization(Error::PayloadSizeLimitExceeded(_))))
}

/// The client's error in an installer's words: what a refusal means, and anything else without the names of the layers it came through.
pub fn cause(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => refusal(*code).to_owned(),
        ConnectionError::NotConnAck(_) => "does not answer as an MQTT broker".to_owned(),
        other => without_layers(&other.to_string()),
    }
}

/// CONNACK's return codes: MQTT 3.1.1, table 3.1.
fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "the broker took the connection, and did not",
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "the broker does not take this device's id",
        ConnectReturnCode::ServiceUnavailable => "the broker takes nobody now",
        ConnectReturnCode::BadUserNamePassword => "the broker refuses user name or password",
        ConnectReturnCode::NotAuthorized => "the broker does not let this user in",
    }
}

fn without_layers(error: &str) -> String {
    const LAYERS: [&str; 5] =
        ["Mqtt state: ", "Mqtt serialization/deserialization error: ", "Io error: ", "IO: ", "I/O: "];
    let mut rest = error;
    while let Some(inner) = LAYERS.iter().find_map(|layer| rest.strip_prefix(layer)) {
        rest = inner;
    }
    rest.to_owned()
}

/// What is subscribed to, in the order of SUBSCRIBE and SUBACK.
fn subscribed() -> impl Iterator<Item = &'static str> {
    topics::COMMANDS.into_iter().chain([topics::HOME_ASSISTANT_STATUS])
}

/// SUBACK let this topic through.
pub fn is_granted(code: rumqttc::SubscribeReasonCode) -> bool {
    matches!(code, rumqttc::SubscribeReasonCode::Success(_))
}

/// The CONNECT packet of a session and its way.
pub fn mqtt_options(options: &Options, tls: Option<&Arc<ClientConfig>>, dialer: &Arc<Dialer>) -> MqttOptions {
    let topics = Topics::new(&options.device_id);
    let mut mqtt = client_options(options, &topics.node(), tls, dialer);
    mqtt.set_last_will(LastWill::new(topics.full(topics::STATUS), "offline", QoS::AtLeastOnce, true));
    mqtt
}

/// Who connects, and how; without a will.
pub fn client_options(
    options: &Options,
    client_id: &str,
    tls: Option<&Arc<ClientConfig>>,
    dialer: &Arc<Dialer>,
) -> MqttOptions {
    let mut mqtt = MqttOptions::new(client_id, (options.host.clone(), options.port));
    mqtt.set_keep_alive(KEEP_ALIVE_S)
        .set_clean_session(true)
        .set_inflight(CLIENT_IN_FLIGHT_MAX)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_max_request_batch(16)
        .set_read_batch_size(READ_BATCH);
    match (&options.username, &options.access.password) {
        (Some(name), Some(password)) => mqtt.set_credentials(name.clone(), password.expose().to_vec()),
        (Some(name), None) => mqtt.set_username(name.clone()),
        (None, _) => &mut mqtt,
    };
    if let Some(tls) = tls {
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    let dialer = Arc::clone(dialer);
    mqtt.set_socket_connector(move |_, _| {
        let dialer = Arc::clone(&dialer);
        async move { dialer.connect().await }
    });
    mqtt
}
