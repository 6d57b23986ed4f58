//! TLS settings: trusted authorities and client certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::SetupError;

/// TLS to every server. Certificates and host names are verified, and there is no fallback to plain
/// text.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities of the operating system.
    ///
    /// # Errors
    ///
    /// Returns an error when there are none.
    pub fn system() -> Result<Self, SetupError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Self::trusting(roots)
    }

    /// Trusts only the authorities in a PEM file.
    ///
    /// # Errors
    ///
    /// Returns an error when it cannot be read or contains no certificate.
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

    /// Presents a client certificate, from a PEM file with its chain and another one with its key.
    ///
    /// # Errors
    ///
    /// Returns an error when a file cannot be read, or the key does not match the certificate.
    pub fn identity(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, SetupError> {
        let unreadable = |path: &Path, why| {
            let source = io::Error::other(why);
            SetupError::Identity { path: path.to_owned(), source }
        };
        let (chain_file, key_file) = (chain.as_ref(), key.as_ref());
        let chain = CertificateDer::pem_file_iter(chain_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|why| unreadable(chain_file, Box::new(why) as Cause))?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|why| unreadable(key_file, Box::new(why) as Cause))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|why| unreadable(key_file, Box::new(why) as Cause))?;
        let mut config = ClientConfig::clone(&self.0);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self(Arc::new(config)))
    }

    /// Uses a rustls configuration.
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

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
