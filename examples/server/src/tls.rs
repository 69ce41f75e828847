//! TLS: the certificate and key, read once at the start.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The PEM texts of a certificate chain and its key.
pub(crate) struct Pem {
    /// The chain, the server's own certificate first.
    pub(crate) cert: Vec<u8>,
    /// The private key.
    pub(crate) key: Vec<u8>,
}

impl Pem {
    /// Reads both files.
    #[expect(clippy::disallowed_methods, reason = "the server's own files are not the engine's")]
    pub(crate) fn read(cert: &Path, key: &Path) -> Result<Pem, String> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Pem { cert: read(cert)?, key: read(key)? })
    }

    /// What makes plain connections TLS ones; `protocols` are offered by ALPN.
    pub(crate) fn acceptor(&self, protocols: &[&[u8]]) -> Result<TlsAcceptor, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.map_err(|error| format!("TLS certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("TLS key: {error}"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| format!("TLS: {error}"))?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
