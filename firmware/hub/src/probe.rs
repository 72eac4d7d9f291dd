//! Trying the broker out, beside or in place of a session: whether it takes this device, and a message that the device publishes and
//! receives. A client id of its own, a clean session, no will, no state, no outbox: nothing stays at the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rumqttc::{
    AsyncClient, Event, EventLoop, NetworkOptions, Outgoing, Packet, PublishOptions, QoS, SubscribeFilterInput,
};

use crate::limits::CONNECT_S;
use crate::options::{Options, OptionsError};
use crate::session::dial::Dialer;
use crate::session::link::{cause, client_options, is_granted};
use crate::session::{pace, runtime, tls};
use crate::topics::Topics;

/// Below the device's own topics and shaped as its commands are, so that a broker's access list lets it through both ways.
const LEAF: &str = "selftest/set";
/// From SUBSCRIBE to the message's return.
const ROUND: Duration = Duration::from_secs(5);

/// Why the broker is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// An option that cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// TLS material that cannot work.
    #[error("TLS: {0}")]
    Tls(String),
    /// No runtime.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
    /// The broker refused, fell silent or was not found.
    #[error("{0}")]
    Broker(String),
}

/// Connects as `options` say, publishes and receives one message; how long that message was on its way.
///
/// # Errors
/// [`ProbeError`], after 15 s at the latest.
pub fn round_trip(options: &Options) -> Result<Duration, ProbeError> {
    let topic = Topics::new(&options.device_id).full(LEAF);
    talk(options, "selftest", async |client, events| {
        match tokio::time::timeout(Duration::from_secs(CONNECT_S) + ROUND, travel(client, events, &topic)).await {
            Ok(went) => went,
            Err(_) => Err("the message did not come back: has this device the rights to its own topics?".to_owned()),
        }
    })
}

/// Connects as `options` say, and goes again; says nothing but who it is.
///
/// # Errors
/// [`ProbeError`], after 15 s at the latest.
pub fn greeting(options: &Options) -> Result<(), ProbeError> {
    talk(options, "setup", async |client, events| {
        let greeted = async {
            while !matches!(events.poll().await.map_err(|error| cause(&error))?, Event::Incoming(Packet::ConnAck(_))) {}
            // DISCONNECT: gone without a trace. A broker that closes first has heard enough.
            if client.try_disconnect().is_ok() {
                while !matches!(events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {}
            }
            Ok(())
        };
        match tokio::time::timeout(Duration::from_secs(CONNECT_S) + ROUND, greeted).await {
            Ok(greeted) => greeted,
            Err(_) => Err("does not answer as an MQTT broker".to_owned()),
        }
    })
}

/// One connection of a client that calls itself the device's name and `role`.
fn talk<T>(
    options: &Options,
    role: &str,
    talk: impl AsyncFnOnce(&AsyncClient, &mut EventLoop) -> Result<T, String>,
) -> Result<T, ProbeError> {
    options.check()?;
    let tls = options.access.tls.as_ref().map(tls::config).transpose().map_err(ProbeError::Tls)?;
    let runtime = runtime()?;
    let dialer = Arc::new(Dialer::new(&options.host, options.port));
    let went = runtime.block_on(async {
        let client_id = format!("{}_{role}", Topics::new(&options.device_id).node());
        let mqtt = client_options(options, &client_id, tls.as_ref(), &dialer);
        let (client, mut events) = AsyncClient::builder(mqtt).capacity(8).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_S);
        events.set_network_options(network);
        talk(&client, &mut events).await
    });
    runtime.shutdown_background();
    went.map_err(|cause| ProbeError::Broker(format!("{}:{}: {cause}", options.host, options.port)))
}

async fn travel(client: &AsyncClient, events: &mut EventLoop, topic: &str) -> Result<Duration, String> {
    let full = |_| "the client's queue is full".to_owned();
    let token = format!("{:016x}", pace::random().random::<u64>());
    let mut sent = Instant::now();
    loop {
        match events.poll().await.map_err(|error| cause(&error))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filter = SubscribeFilterInput::new(topic.to_owned(), QoS::AtLeastOnce);
                client.try_subscribe_many([filter]).map_err(full)?;
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if !ack.return_codes.iter().all(|code| is_granted(*code)) {
                    return Err(format!("the broker does not let this device read {topic} (access rights)"));
                }
                sent = Instant::now();
                let options = PublishOptions::new(QoS::AtLeastOnce);
                client.try_publish(topic.to_owned(), token.clone(), options).map_err(full)?;
            }
            Event::Incoming(Packet::Publish(publish)) if publish.payload == token.as_bytes() => {
                return Ok(sent.elapsed());
            }
            _ => {}
        }
    }
}
