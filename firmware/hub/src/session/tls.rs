//! TLS: who may be the broker, and how the device proves itself. rustls with ring, TLS 1.2 and 1.3.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rumqttc::tokio_rustls::rustls::client::WebPkiServerVerifier;
use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rumqttc::tokio_rustls::rustls::time_provider::TimeProvider;
use rumqttc::tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::options::Tls;

/// The later of the wall clock and a time that has certainly passed.
#[derive(Debug)]
struct Clock {
    not_before_unix_s: u64,
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Some(UnixTime::since_unix_epoch(since_1970.max(Duration::from_secs(self.not_before_unix_s))))
    }
}

/// The client's configuration; the error is a sentence that names the file's kind and never its content.
pub fn config(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca_pem, "the CA file")? {
        roots.add(certificate).map_err(|error| format!("the CA file: {error}"))?;
    }
    let mut verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    if let Some(pem) = &tls.crl_pem {
        let lists = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("the CRL file: {error}"))?;
        if lists.is_empty() {
            return Err("the CRL file holds no revocation list".to_owned());
        }
        verifier = verifier.with_crls(lists).only_check_end_entity_revocation();
    }
    let verifier = verifier.build().map_err(|error| format!("the CA or CRL file: {error}"))?;
    let clock = Arc::new(Clock { not_before_unix_s: tls.not_before_unix_s });
    let builder = ClientConfig::builder_with_details(provider, clock)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_webpki_verifier(verifier);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates(&client.cert_pem, "the client certificate")?;
            // The parser's own error may quote what it could not read.
            let key = PrivateKeyDer::from_pem_slice(client.key_pem.expose())
                .map_err(|_| "the client key holds no readable private key".to_owned())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("the client certificate: {error}"))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{what}: {error}"))?;
    if certificates.is_empty() { Err(format!("{what} holds no certificate")) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::options::{ClientCertificate, Secret};

    #[test]
    fn what_cannot_work_is_named() {
        let mut tls = Tls { ca_pem: b"nothing".to_vec(), client: None, crl_pem: None, not_before_unix_s: 0 };
        assert_eq!(config(&tls).unwrap_err(), "the CA file holds no certificate");
        tls.client = Some(ClientCertificate { cert_pem: vec![], key_pem: Secret::new("canary") });
        assert!(!config(&tls).unwrap_err().contains("canary"));
    }

    #[test]
    fn a_clock_in_1970_is_not_believed() {
        let clock = Clock { not_before_unix_s: 1 << 40 };
        assert_eq!(clock.current_time().unwrap().as_secs(), 1 << 40);
        assert!(Clock { not_before_unix_s: 0 }.current_time().unwrap().as_secs() > 1_700_000_000);
    }
}
