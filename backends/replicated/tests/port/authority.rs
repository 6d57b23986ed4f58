//! Clients with certificates of every kind.
//!
//! How the authority follows from the secret is written down once more here: nodes of another version
//! must find the same one.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use ring::hkdf::{HKDF_SHA256, Salt};
use rustls::client::WantsClientCert;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::{CLUSTER, SECRET};

type Authority = Issuer<'static, KeyPair>;

/// The certificates of a node.
pub fn peer() -> ClientConfig {
    with_leaf(&TLS13, &authority(CLUSTER, SECRET), &leaf())
}

/// The same, but TLS 1.2.
pub fn older_peer() -> ClientConfig {
    with_leaf(&TLS12, &authority(CLUSTER, SECRET), &leaf())
}

/// Clients without a certificate, with one of another authority, and with one that is not a node's.
/// All of them trust the nodes: it is not they who hang up.
pub fn strangers() -> Vec<ClientConfig> {
    let mut other_name = leaf();
    other_name.subject_alt_names = vec![SanType::DnsName("node.other".try_into().unwrap())];
    let mut expired = leaf();
    expired.not_after = OffsetDateTime::now_utc() - Duration::SECOND;
    let ours = authority(CLUSTER, SECRET);
    vec![
        trusting(&TLS13).with_no_client_auth(),
        with_leaf(&TLS13, &authority(CLUSTER, [9; 32]), &leaf()),
        with_leaf(&TLS13, &authority("forum", SECRET), &leaf()),
        with_leaf(&TLS13, &ours, &other_name),
        with_leaf(&TLS13, &ours, &expired),
    ]
    .into_iter()
    .map(with_protocol)
    .collect()
}

/// A connection whose handshake is complete from the client's view.
pub async fn connect(
    client: &ClientConfig,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let node = ServerName::try_from(NODE).unwrap();
    TlsConnector::from(Arc::new(client.clone())).connect(node, stream).await
}

fn with_leaf(
    version: &'static SupportedProtocolVersion,
    issuer: &Authority,
    leaf: &CertificateParams,
) -> ClientConfig {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let chain = vec![leaf.signed_by(&key, issuer).unwrap().der().clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    with_protocol(trusting(version).with_client_auth_cert(chain, key).unwrap())
}

fn with_protocol(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![b"steadfast/1".to_vec()];
    client
}

fn trusting(
    version: &'static SupportedProtocolVersion,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(root(CLUSTER, SECRET).1).unwrap();
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
}

fn authority(cluster: &str, secret: [u8; 32]) -> Authority {
    root(cluster, secret).0
}

fn root(cluster: &str, secret: [u8; 32]) -> (Authority, CertificateDer<'static>) {
    let mut seed = [0; 32];
    let salt = Salt::new(HKDF_SHA256, b"steadfast cluster authority");
    salt.extract(&secret)
        .expand(&[cluster.as_bytes()], HKDF_SHA256)
        .and_then(|key| key.fill(&mut seed))
        .unwrap();
    let pkcs8 = PrivatePkcs8KeyDer::from([ED25519_PKCS8, &seed].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("steadfast {cluster}"));
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (Issuer::new(params, key), certificate)
}

fn leaf() -> CertificateParams {
    CertificateParams::new(vec![NODE.to_owned()]).unwrap()
}

const NODE: &str = "node.steadfast.internal";

const ED25519_PKCS8: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
