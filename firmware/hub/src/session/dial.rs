//! From a name to a TCP connection: bounded in time, address after address, and with the last good addresses where the
//! name server is gone. Name servers live in the router that the installer restarts.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::limits::{ADDRESS, RESOLVE};

/// One broker's name with what is known of it.
#[derive(Debug)]
pub struct Dialer {
    host: String,
    port: u16,
    last_good: Mutex<Vec<SocketAddr>>,
}

impl Dialer {
    /// Knows nothing yet.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, last_good: Mutex::new(Vec::new()) }
    }

    /// A connection; the caller bounds the whole in time.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let addresses = self.addresses().await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host));
        for (index, address) in addresses.iter().enumerate() {
            let attempt = TcpStream::connect(address);
            let result = if index + 1 == addresses.len() {
                attempt.await
            } else {
                // A dead IPv6 route swallows packets; the next address must still get its turn.
                timeout(ADDRESS, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match result {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
                    return Ok(stream);
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let found = match timeout(RESOLVE, lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(found)) => Ok(found.collect::<Vec<_>>()),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.host))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{}: the name server is silent", self.host))),
        };
        let known = self.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match found {
            Err(error) if !known.is_empty() => {
                log::warn!("hub: {error}; the last good address is taken");
                Ok(known)
            }
            found => found,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_good_address_outlives_the_name_server() {
        crate::session::runtime().unwrap().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut dialer = Dialer::new("localhost", listener.local_addr().unwrap().port());
            dialer.connect().await.unwrap();
            dialer.host = "no-such-host.invalid".into();
            dialer.connect().await.unwrap();
            let nobody = Dialer::new("no-such-host.invalid", 1);
            assert!(nobody.connect().await.unwrap_err().to_string().contains("no-such-host.invalid"));
        });
    }
}
