//! TLS: encryption, trusted authorities and client certificates.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Failure, SetupError};

/// The protection of connections. No mode falls back to plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// No protection: the default if every host is on this machine.
    Off,
    /// Encryption without verification: this prevents eavesdropping, but not an attacker who
    /// impersonates the server.
    Require,
    /// Encryption, and a server certificate from a trusted authority, for any host name.
    VerifyCa,
    /// Encryption, and a server certificate from a trusted authority for this host name: the
    /// default for all other hosts.
    VerifyFull,
}

/// The binding of a password login to its TLS connection, so that an attacker cannot relay it to
/// another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// Never.
    Disable,
    /// If the server offers it: the default.
    #[default]
    Prefer,
    /// Always. A server that does not support it is rejected.
    Require,
}

/// The trusted authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    #[default]
    System,
    File(PathBuf),
}

/// The TLS settings of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(crate) mode: Option<Tls>,
    pub(crate) roots: Roots,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// True to start with TLS immediately, which servers support since version 17.
    pub(crate) is_direct: bool,
}

impl TlsSettings {
    /// Returns the configuration for rustls. Files are read for each connection, because
    /// certificates are renewed on disk.
    pub(crate) fn config(&self, mode: Tls) -> Result<ClientConfig, SetupError> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default protocol versions");
        let builder = match mode {
            Tls::VerifyFull => builder.with_root_certificates(self.roots.store()?),
            _ => builder
                .dangerous()
                .with_custom_certificate_verifier(self.lenient_verifier(mode, provider)?),
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect)
                    .map_err(|why| unusable(certificate, why))?;
                let loaded = PrivateKeyDer::from_pem_file(key).map_err(|why| unusable(key, why))?;
                builder.with_client_auth_cert(chain, loaded).map_err(|why| unusable(key, why))?
            }
        };
        if self.is_direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(config)
    }

    fn lenient_verifier(
        &self,
        mode: Tls,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Lenient>, SetupError> {
        let authorities = match mode {
            Tls::Require => None,
            _ => {
                let roots = Arc::new(self.roots.store()?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                Some(verifier.build().map_err(|why| unusable("authorities", why))?)
            }
        };
        Ok(Arc::new(Lenient { authorities, provider }))
    }

    /// Protects a connection.
    pub(crate) async fn protect(
        &self,
        mut socket: TcpStream,
        host: &str,
        config: ClientConfig,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        if !self.is_direct {
            request(&mut socket).await?;
        }
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|why| Failure::Connection(why.into()))?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, socket).await?)
    }
}

/// Asks the server to switch to TLS. Exactly one byte answers. Bytes after it would come from an
/// attacker, because the server waits for the handshake.
async fn request(socket: &mut TcpStream) -> Result<(), Failure> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).await?;
    match socket.read_u8().await? {
        b'S' => Ok(()),
        b'N' => Err(io::Error::other("the server does not support TLS").into()),
        _ => Err(Failure::Protocol("it does not know of TLS")),
    }
}

impl Roots {
    fn store(&self) -> Result<RootCertStore, SetupError> {
        match self {
            Self::File(file) => {
                let mut roots = RootCertStore::empty();
                let pem = CertificateDer::pem_file_iter(file).map_err(|why| unusable(file, why))?;
                for certificate in pem {
                    let certificate = certificate.map_err(|why| unusable(file, why))?;
                    roots.add(certificate).map_err(|why| unusable(file, why))?;
                }
                if roots.is_empty() {
                    return Err(unusable(file, io::Error::other("the file holds no certificate")));
                }
                Ok(roots)
            }
            Self::System => Ok(system_roots().clone()),
        }
    }
}

/// Cached, because loading the system's authorities takes milliseconds.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

/// A verifier for the weaker modes: it ignores the host name, or the whole chain. It always
/// verifies that the server has the private key of its certificate.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The host name is checked last, so the rest of the chain is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the hash of the server's certificate for channel binding (RFC 5929,
/// `tls-server-end-point`). It uses the hash function of the certificate's signature, with SHA-256
/// instead of MD5 and SHA-1.
pub(crate) fn certificate_hash(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Some(match signature_algorithm(certificate)? {
        // RSA with MD5, SHA-1 or SHA-256; ECDSA with SHA-1 or SHA-256.
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
        | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
        | b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
        | b"\x2a\x86\x48\xce\x3d\x04\x01"
        | b"\x2a\x86\x48\xce\x3d\x04\x03\x02" => Sha256::digest(certificate).to_vec(),
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" | b"\x2a\x86\x48\xce\x3d\x04\x03\x03" => {
            Sha384::digest(certificate).to_vec()
        }
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" | b"\x2a\x86\x48\xce\x3d\x04\x03\x04" => {
            Sha512::digest(certificate).to_vec()
        }
        _ => return None,
    })
}

/// Returns the object id of a certificate's signature algorithm: the first part of its second part.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (parts, _) = element(certificate)?;
    let (_, rest) = element(parts)?;
    let (algorithm, _) = element(rest)?;
    Some(element(algorithm)?.0)
}

/// Splits a DER element into its contents and the bytes after it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_tag, short], rest) = der.split_first_chunk()?;
    let (len, rest) = match short {
        0..0x80 => (usize::from(short), rest),
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            let len = bytes.iter().try_fold(0_usize, |len, byte| {
                Some(len.checked_mul(0x100)? + usize::from(*byte))
            })?;
            (len, rest)
        }
    };
    rest.split_at_checked(len)
}

fn unusable(
    what: impl AsRef<std::path::Path>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> SetupError {
    let what = what.as_ref().display().to_string();
    SetupError::Certificates { what, source: Box::new(source) }
}
