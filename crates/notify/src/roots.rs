//! The authorities whose certificates are accepted: those of the machine.
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring::default_provider};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTls {
    /// The machine, or the container, has no certificates.
    #[error(
        "no certificate of an authority was found, so no https receiver can be verified{}: install \
         ca-certificates, or set SSL_CERT_FILE to a file with certificates (in a container, mount it)",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NoRoots {
        /// The first error while they were read.
        why: Option<String>,
    },
    /// rustls does not accept its own settings.
    #[error("TLS cannot be set up: {0}; this is a bug, please report it")]
    Settings(#[from] rustls::Error),
}

/// TLS that accepts the certificates of the machine's authorities: of the files that SSL_CERT_FILE
/// and SSL_CERT_DIR name, or else of the usual places. Reads files.
pub(crate) fn of_this_machine() -> Result<Arc<ClientConfig>, NoTls> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(ToString::to_string);
        return Err(NoTls::NoRoots { why });
    }
    Ok(trusting(roots)?)
}

/// TLS that accepts certificates of these authorities.
pub(crate) fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
