//! A broker as `monitor` and `fleet` reach it: the arguments, and a connection that tells what it hears and comes back by
//! itself.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hub::{ClientCertificate, Secret, Tls};
use rumqttc::{
    Client, Event, MqttOptions, Packet, PublishOptions, QoS, SubscribeFilterInput, SubscribeReasonCode,
    TlsConfiguration, Transport,
};

/// A password or certificate is small.
const SECRET_BYTES_MAX: u64 = 256 * 1024;
/// What is heard and waits to be looked at.
const NEWS: usize = 10_000;
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_secs(2);

/// Where the broker is and how it is told who asks.
#[derive(Debug, Clone, clap::Args)]
pub struct BrokerArgs {
    /// The broker; port 1883, or 8883 with --ca-file, where none is named
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: String,
    /// User name
    #[arg(long, requires = "password_file")]
    pub username: Option<String>,
    /// The file with the password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// TLS: the authority that signed the broker's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// TLS: the certificate of who asks, where the broker wants one (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["ca_file", "key_file"])]
    pub cert_file: Option<PathBuf>,
    /// TLS: its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

/// The arguments, read.
#[derive(Debug, Clone)]
pub struct Access {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Vec<u8>>,
    /// The authority.
    pub tls: Option<Tls>,
}

impl BrokerArgs {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// An address or a file that cannot be used, by name.
    pub fn read(&self) -> anyhow::Result<Access> {
        let (host, port) = address(&self.broker, if self.ca_file.is_some() { 8883 } else { 1883 })?;
        let file = |path: &Path, option: &str| {
            files::model_dir::read_bounded(path, SECRET_BYTES_MAX).with_context(|| option.to_string())
        };
        let named = |path: &Option<PathBuf>, option: &str| path.as_deref().map(|path| file(path, option)).transpose();
        let password = named(&self.password_file, "--password-file")?;
        let own = named(&self.cert_file, "--cert-file")?.zip(named(&self.key_file, "--key-file")?);
        let client = own.map(|(cert_pem, key)| ClientCertificate { cert_pem, key_pem: Secret::new(key) });
        let tls = named(&self.ca_file, "--ca-file")?.map(|ca_pem| Tls {
            ca_pem,
            client,
            crl_pem: None,
            not_before_unix_s: 0,
        });
        Ok(Access {
            host,
            port,
            username: self.username.clone(),
            // Editors end a file with a newline; no broker's password ends with one.
            password: password.map(|bytes| bytes.trim_ascii_end().to_vec()),
            tls,
        })
    }
}

impl Access {
    /// The password as the hub takes it.
    pub fn secret(&self) -> Option<Secret> {
        self.password.clone().map(Secret::new)
    }
}

/// Eight digits that nobody else has: two of one client id throw each other out.
pub fn token() -> String {
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// `HOST:PORT`, `HOST`, `[IPV6]:PORT`.
fn address(text: &str, default_port: u16) -> anyhow::Result<(String, u16)> {
    let wrong = || anyhow!("--broker: `{text}` is not HOST:PORT");
    let colons = text.bytes().filter(|byte| *byte == b':').count();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if colons == 1 || host.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['/', ' ']) || port == 0 { Err(wrong()) } else { Ok((host.into(), port)) }
}

/// What a connection tells.
#[derive(Debug)]
pub enum News {
    /// Connected and subscribed.
    Up,
    /// Not connected; the next attempt follows.
    Down(String),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
}

/// A connection that comes back by itself, for as long as somebody holds it.
pub struct Line {
    client: Client,
    /// What it hears.
    pub news: Receiver<News>,
    over: Arc<AtomicBool>,
}

impl Line {
    /// Begins to connect; `filters` are subscribed to on every connection, with QoS 0: the broker keeps no window for who
    /// looks on, and what it has acknowledged to a device is on its way here. A broker that refuses the first of them is as
    /// good as none: it would look like a quiet one.
    ///
    /// # Errors
    /// TLS material that cannot work, or no thread.
    pub fn open(access: &Access, name: &str, filters: Vec<String>) -> anyhow::Result<Self> {
        let id = format!("{name}-{}", token());
        let mut options = MqttOptions::new(id, (access.host.clone(), access.port));
        options.set_keep_alive(15).set_clean_session(true).set_max_packet_size(1 << 20, 1 << 20);
        if let Some(username) = &access.username {
            options.set_credentials(username.clone(), access.password.clone().unwrap_or_default());
        }
        if let Some(tls) = &access.tls {
            let config = hub::tls_config(tls).map_err(|cause| anyhow!("TLS: {cause}"))?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        let (client, mut connection) = Client::builder(options).capacity(NEWS).build();
        let (tell, news) = sync_channel(NEWS);
        let over = Arc::new(AtomicBool::new(false));
        let (subscriber, ended) = (client.clone(), Arc::clone(&over));
        std::thread::Builder::new().name("broker".into()).spawn(move || {
            for event in connection.iter() {
                let goes_on = match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let filters =
                            filters.iter().map(|filter| SubscribeFilterInput::new(filter.clone(), QoS::AtMostOnce));
                        subscriber.try_subscribe_many(filters).is_ok()
                    }
                    Ok(Event::Incoming(Packet::SubAck(ack))) => {
                        let granted = matches!(ack.return_codes.first(), Some(SubscribeReasonCode::Success(_)));
                        let refused = || format!("it does not let this user read {} (access rights)", filters[0]);
                        tell.send(if granted { News::Up } else { News::Down(refused()) }).is_ok()
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => told(&tell, publish),
                    Ok(_) => true,
                    Err(error) => {
                        let goes_on = tell.send(News::Down(error.to_string())).is_ok();
                        std::thread::sleep(AGAIN);
                        goes_on
                    }
                };
                if !goes_on || ended.load(Relaxed) {
                    return;
                }
            }
        })?;
        Ok(Self { client, news, over })
    }

    /// Publishes with QoS 0: a command that got lost is pressed again, and never obeyed minutes later.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) -> bool {
        let options = PublishOptions::new(QoS::AtMostOnce).retain(retain);
        self.client.try_publish(topic.to_owned(), payload.to_vec(), options).is_ok()
    }
}

fn told(tell: &SyncSender<News>, publish: rumqttc::Publish) -> bool {
    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
    tell.send(News::Message { topic, payload: publish.payload.to_vec() }).is_ok()
}

impl Drop for Line {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        // The thread ends with the connection, or with the next thing it cannot tell.
        let _ = self.client.try_disconnect_now();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses() {
        let read = |text| address(text, 1883).ok();
        let some = |host: &str, port| Some((host.to_string(), port));
        assert_eq!(read("hub.local:1884"), some("hub.local", 1884));
        assert_eq!(read("hub.local"), some("hub.local", 1883));
        assert_eq!(read("[::1]:1884"), some("::1", 1884));
        assert_eq!(read("::1"), some("::1", 1883));
        for wrong in ["", ":1883", "hub:", "hub:0", "hub:99999", "mqtt://hub:1883"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    /// EMQX says so; mosquitto grants and sends nothing.
    #[test]
    fn a_broker_that_refuses_the_subscription_is_not_taken_for_a_quiet_one() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut packet = [0; 256];
            let _ = stream.read(&mut packet).unwrap();
            stream.write_all(&[0x20, 2, 0, 0]).unwrap();
            let _ = stream.read(&mut packet).unwrap();
            // SUBACK with the packet's own id: 0x80 for the first filter, QoS 0 for the second.
            stream.write_all(&[0x90, 4, packet[2], packet[3], 0x80, 0]).unwrap();
            stream
        });
        let access = Access { host: "127.0.0.1".into(), port, username: None, password: None, tls: None };
        let line = Line::open(&access, "test", vec!["screamd/+/#".into(), "other/#".into()]).unwrap();
        let news = line.news.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(&news, News::Down(why) if why.contains("screamd/+/#") && why.contains("rights")), "{news:?}");
        drop(broker.join().unwrap());
    }
}
