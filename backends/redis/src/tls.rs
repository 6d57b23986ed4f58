//! Whom to believe that it is the server.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::SetupError;

/// TLS to every server: certificates and host names are verified, and nothing is sent in the clear.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

impl Tls {
    /// Believes the authorities that the operating system does.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn system() -> Result<Self, SetupError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Self::trusting(roots)
    }

    /// Believes the authorities in a PEM file and no others.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds no certificate.
    pub fn authorities(file: impl AsRef<Path>) -> Result<Self, SetupError> {
        let path = file.as_ref();
        let unreadable = |source| SetupError::Authorities { path: path.to_owned(), source };
        let pem = std::fs::read(path).map_err(unreadable)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|why| unreadable(io::Error::other(why)))?;
            roots.add(certificate).map_err(|why| unreadable(io::Error::other(why)))?;
        }
        Self::trusting(roots)
    }

    /// Does as a configuration of rustls says, for client certificates for example.
    pub fn with(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }

    fn trusting(roots: RootCertStore) -> Result<Self, SetupError> {
        if roots.is_empty() {
            return Err(SetupError::NoAuthority);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default protocol versions");
        Ok(Self(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
