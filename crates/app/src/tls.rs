//! TLS towards a target, without verification, like the kubelet's own probes.
//!
//! Requests contain no secrets, and responses are trusted no more than over plain HTTP. An expired
//! or self-signed certificate is no reason to ignore an app.
use std::{
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use paramedic_core::health::Transport;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client::broken;

/// The server name of a target; sent to it (SNI) only if it is a DNS name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(ServerName<'static>);

impl Name {
    /// From a `Host` header; a name that is not a DNS name is not sent.
    pub(crate) fn new(host: &str, ip: IpAddr) -> Self {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = ServerName::try_from(name.to_owned());
        Self(name.unwrap_or(ServerName::IpAddress(ip.into())))
    }
}

/// Shared by all targets: it contains nothing of any target.
static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
});

/// Starts TLS on a connection.
pub(crate) async fn connect(
    name: &Name,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Transport> {
    let Ok(config) = &*CONFIG else { return Err(Transport::Agent("it cannot speak TLS")) };
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name.0.clone(), stream).await.map_err(|error| match error.kind() {
        // rustls's errors for a peer without TLS, and for an alert.
        io::ErrorKind::InvalidData => Transport::NotTls,
        kind => broken(kind),
    })
}

/// Accepts every certificate, even one that no library can parse; so a signature by its key would
/// prove nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dns_name_is_sent_as_sni() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        for (host, dns) in [
            ("patient:5000", Some("patient")),
            ("shop.example", Some("shop.example")),
            ("10.0.0.9:443", None),
            ("[::1]:443", None),
            ("[::1]", None),
            ("::1", None),
            ("not_a/name:1", None),
            (":1", None),
        ] {
            match (Name::new(host, ip).0, dns) {
                (ServerName::DnsName(name), Some(dns)) => assert_eq!(name.as_ref(), dns, "{host}"),
                (ServerName::IpAddress(_), None) => {}
                (other, _) => panic!("{host}: {other:?}"),
            }
        }
    }
}
