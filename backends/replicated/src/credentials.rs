//! Who may speak to the nodes of a service: who knows its secret.
//!
//! The secret is turned into the key of a certificate authority; each process issues itself a leaf
//! under it, for as long as it runs. TLS does the rest.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::open::OpenError;

/// What a service shares, at least 32 random bytes of it. Shown nowhere.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    pub(crate) const MIN: usize = 32;
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Both sides of TLS 1.3, each with a certificate.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Of a cluster's secrets: the first one issues, all of them are accepted.
    pub(crate) fn new(cluster: &str, secrets: &[Secret]) -> Result<Self, OpenError> {
        let first = secrets.first().ok_or(OpenError::NoSecret)?;
        let mut roots = RootCertStore::empty();
        for secret in secrets {
            let (_, certificate) = authority(cluster, secret)?;
            roots.add(certificate).map_err(OpenError::tls)?;
        }
        let (issuer, _) = authority(cluster, first)?;
        let (chain, key) = leaf(&issuer)?;
        let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));

        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(OpenError::tls)?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(OpenError::tls)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(OpenError::tls)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.send_tls13_tickets = 0;

        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(OpenError::tls)?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(OpenError::tls)?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain, key)
            .map_err(OpenError::tls)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// The name in every leaf: who has the authority's key is of the cluster.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(NODE).expect("a plain DNS name")
    }
}

/// The authority of a secret. The cluster is part of the key, so that two clusters with one secret
/// stay apart.
fn authority(
    cluster: &str,
    secret: &Secret,
) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), OpenError> {
    let mut seed = [0; 32];
    Salt::new(HKDF_SHA256, b"steadfast cluster authority")
        .extract(&secret.0)
        .expand(&[cluster.as_bytes()], Bytes32)
        .and_then(|key| key.fill(&mut seed))
        .expect("HKDF gives 32 bytes");
    let pkcs8 = PrivatePkcs8KeyDer::from([ED25519_PKCS8, &seed].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
        .map_err(OpenError::tls)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("steadfast {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let certificate = params.self_signed(&key).map_err(OpenError::tls)?.der().clone();
    Ok((Issuer::new(params, key), certificate))
}

fn leaf(
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), OpenError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(OpenError::tls)?;
    let mut params = CertificateParams::new(vec![NODE.to_owned()]).map_err(OpenError::tls)?;
    params.distinguished_name = named("steadfast node");
    let certificate = params.signed_by(&key, issuer).map_err(OpenError::tls)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((vec![certificate.der().clone()], key.into()))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const ED25519_PKCS8: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const NODE: &str = "node.steadfast.internal";

/// The protocol, as TLS agrees on it.
pub(crate) const PROTOCOL: &[u8] = b"steadfast/1";
