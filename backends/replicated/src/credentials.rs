//! TLS credentials derived from the secret of a service: a process that has the secret may speak to
//! its nodes.
//!
//! The secret is turned into the key of a certificate authority. No certificate of that authority
//! is ever sent. Each process issues itself a leaf under it, in memory and for a day, and another
//! one before that is over. TLS 1.3 does the rest: both sides show a leaf, and both verify the one
//! that they are shown.
//!
//! A leaf that was stolen is worth a day. Only a change of the secret shuts out a process that
//! knows it: there are no revocation lists.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, CommonState, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use steadfast_core::Env;
use time::UtcDateTime;
use zeroize::Zeroizing;

use crate::error::{MIN_SECRET, OpenError};

/// The secret of a service: at least 32 random bytes. Shown nowhere.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The least number of bytes.
    pub(crate) const MIN: usize = MIN_SECRET;

    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }
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
    /// The authorities made from a cluster's secrets: the first one issues certificates, all are
    /// accepted.
    pub(crate) fn new(cluster: &str, secrets: &[Secret], env: &Env) -> Result<Self, OpenError> {
        let first = secrets.first().ok_or(OpenError::NoSecret)?;
        let short = secrets.iter().map(|secret| secret.0.len()).find(|len| *len < Secret::MIN);
        if let Some(len) = short {
            return Err(OpenError::ShortSecret { len });
        }
        let mut roots = RootCertStore::empty();
        for secret in secrets {
            let (_, certificate) = authority(cluster, secret)?;
            roots.add(certificate).map_err(OpenError::tls)?;
        }
        let (issuer, _) = authority(cluster, first)?;
        Self::of(&Arc::new(roots), &Arc::new(Leaves::new(issuer, env.clone())?), env)
    }

    fn of(roots: &Arc<RootCertStore>, leaves: &Arc<Leaves>, env: &Env) -> Result<Self, OpenError> {
        let client = Arc::new(client(roots, leaves, env)?);
        let server = Arc::new(server(roots, leaves, env)?);
        Ok(Self { client, server })
    }

    /// The name in every leaf: who has the authority's key is of the cluster.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(NODE).expect("a plain DNS name")
    }

    /// Returns true if the other side of a successful handshake is a node and speaks our protocol.
    /// TLS itself checks neither: it requires no name of a client and no protocol of a peer.
    pub(crate) fn is_node(connection: &CommonState) -> bool {
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        connection.alpn_protocol() == Some(PROTOCOL)
            && leaf.is_some_and(|leaf| verify_server_name(&leaf, &Self::server_name()).is_ok())
    }
}

fn client(
    roots: &Arc<RootCertStore>,
    leaves: &Arc<Leaves>,
    env: &Env,
) -> Result<ClientConfig, OpenError> {
    let provider = Arc::new(default_provider());
    let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(OpenError::tls)?;
    let mut client = ClientConfig::builder_with_details(provider, Arc::new(Time(env.clone())))
        .with_protocol_versions(VERSIONS)
        .map_err(OpenError::tls)?
        .with_webpki_verifier(servers)
        .with_client_cert_resolver(leaves.clone());
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn server(
    roots: &Arc<RootCertStore>,
    leaves: &Arc<Leaves>,
    env: &Env,
) -> Result<ServerConfig, OpenError> {
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(OpenError::tls)?;
    let mut server = ServerConfig::builder_with_details(provider, Arc::new(Time(env.clone())))
        .with_protocol_versions(VERSIONS)
        .map_err(OpenError::tls)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(leaves.clone());
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(server)
}

/// The authority of a secret. The cluster is part of the key, so that two clusters with one secret
/// stay apart.
fn authority(
    cluster: &str,
    secret: &Secret,
) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), OpenError> {
    let mut seed = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, b"steadfast cluster authority")
        .extract(&secret.0)
        .expand(&[cluster.as_bytes()], Bytes32)
        .and_then(|key| key.fill(&mut *seed))
        .expect("HKDF gives 32 bytes");
    let pkcs8 = Zeroizing::new([ED25519_PKCS8, &*seed].concat());
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)
        .map_err(OpenError::tls)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("steadfast {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).map_err(OpenError::tls)?.der().clone();
    Ok((Issuer::new(params, key), certificate))
}

/// The leafs of a process, one after the other.
struct Leaves {
    issuer: Issuer<'static, KeyPair>,
    env: Env,
    newest: Mutex<Leaf>,
}

struct Leaf {
    issued: UtcDateTime,
    key: Arc<CertifiedKey>,
}

impl Leaves {
    fn new(issuer: Issuer<'static, KeyPair>, env: Env) -> Result<Self, OpenError> {
        let newest = Mutex::new(Leaf::issue(&issuer, env.now().into())?);
        Ok(Self { issuer, env, newest })
    }

    /// The leaf of this moment: another one after half of its life, and when the clock was put back.
    fn newest(&self) -> Arc<CertifiedKey> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = UtcDateTime::from(self.env.now());
        let is_fresh = (now - newest.issued).unsigned_abs() < LEAF_LIFE / 2;
        // Without randomness the old one stays, which peers take until its end.
        if !is_fresh && let Ok(leaf) = Leaf::issue(&self.issuer, now) {
            *newest = leaf;
        }
        Arc::clone(&newest.key)
    }
}

impl Leaf {
    fn issue(issuer: &Issuer<'static, KeyPair>, now: UtcDateTime) -> Result<Self, OpenError> {
        Ok(Self { issued: now, key: signed_by(issuer, &leaf(now)?)? })
    }
}

fn signed_by(
    issuer: &Issuer<'static, KeyPair>,
    leaf: &CertificateParams,
) -> Result<Arc<CertifiedKey>, OpenError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(OpenError::tls)?;
    let certificate = leaf.signed_by(&key, issuer).map_err(OpenError::tls)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let chain = vec![certificate.der().clone()];
    let key = CertifiedKey::from_der(chain, key, &default_provider());
    key.map(Arc::new).map_err(OpenError::tls)
}

/// Valid from a day ago, for peers whose clock is behind by hours: a wrong clock does not cut a node off.
fn leaf(now: UtcDateTime) -> Result<CertificateParams, OpenError> {
    let mut params = CertificateParams::new(vec![NODE.to_owned()]).map_err(OpenError::tls)?;
    params.distinguished_name = named("steadfast node");
    params.not_before = now.saturating_sub(signed(LEAF_LIFE)).into();
    params.not_after = now.saturating_add(signed(LEAF_LIFE)).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn signed(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}

impl ResolvesClientCert for Leaves {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest())
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaves")
    }
}

/// The clock of the application, as TLS asks for it.
#[derive(Debug)]
struct Time(Env);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_millis() / 1_000).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
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

/// The bytes before an Ed25519 key of 32 bytes in PKCS #8 (RFC 8410).
const ED25519_PKCS8: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

const NODE: &str = "node.steadfast.internal";

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// The validity of a leaf certificate.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The protocol, as TLS agrees on it.
const PROTOCOL: &[u8] = b"steadfast/1";

#[cfg(test)]
mod tests {
    use rcgen::SanType;
    use rustls::HandshakeKind;
    use steadfast_core::ManualClock;
    use tokio::io::{DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Shows CL-02.
    #[tokio::test]
    async fn another_secret_or_cluster_fails_the_handshake() {
        assert_eq!(meet(&ours(), &ours()).await, (true, true));
        for other in [of("other", &[1]), of("shop", &[2])] {
            assert_eq!(meet(&other, &ours()).await, (false, false));
            assert_eq!(meet(&ours(), &other).await, (false, false));
        }
    }

    /// Shows CL-02.
    #[tokio::test]
    async fn leaves_are_valid_for_one_node_and_day() {
        let honest = forged("shop", 1, |_| {});
        assert_eq!(meet(&honest, &honest).await, (true, true));
        for forged in forgeries() {
            assert!(!meet(&forged, &ours()).await.1, "taken as a client");
            assert!(!meet(&ours(), &forged).await.0, "taken as a server");
        }
    }

    /// Shows CL-02.
    #[tokio::test]
    async fn a_stolen_leaf_expires_after_a_day() {
        let clock = ManualClock::default();
        let (node, peer) = (at(&clock), at(&clock));
        let thief = at(&ManualClock::default());
        assert_eq!(meet(&thief, &node).await, (true, true));
        clock.advance(LEAF_LIFE + Duration::from_secs(1));
        assert!(!meet(&thief, &node).await.1);
        assert_eq!(meet(&peer, &node).await, (true, true));
    }

    /// Shows CL-02.
    #[tokio::test]
    async fn a_clock_hours_off_is_accepted() {
        let ahead = ManualClock::default();
        ahead.advance(Duration::from_secs(11 * 60 * 60));
        let (node, ahead) = (at(&ManualClock::default()), at(&ahead));
        assert_eq!(meet(&node, &ahead).await, (true, true));
        assert_eq!(meet(&ahead, &node).await, (true, true));
    }

    /// Shows CL-03.
    #[tokio::test]
    async fn a_peer_without_the_protocol_is_rejected() {
        let mut server = (*ours().server).clone();
        server.alpn_protocols.clear();
        let other = Credentials { server: server.into(), ..ours() };
        assert_eq!(meet(&ours(), &other).await, (false, false));
    }

    /// Shows CL-03.
    #[tokio::test]
    async fn no_handshake_is_shortened() {
        let eager = changed(|client| {
            client.resumption = Resumption::default();
            client.enable_early_data = true;
        });
        let eager = Credentials { client: eager, ..ours() };
        for _ in 0..3 {
            let near = handshake(&eager, &ours()).await.0.unwrap();
            assert_eq!(near.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert!(!near.get_ref().1.is_early_data_accepted());
        }
    }

    /// Shows CL-09.
    #[tokio::test]
    async fn a_secret_is_replaced_in_three_rounds() {
        let rounds = [of("shop", &[1]), of("shop", &[1, 2]), of("shop", &[2, 1]), of("shop", &[2])];
        for (earlier, later) in rounds.iter().zip(&rounds[1..]) {
            assert_eq!(meet(earlier, later).await, (true, true));
            assert_eq!(meet(later, earlier).await, (true, true));
        }
        assert_eq!(meet(&rounds[0], &rounds[2]).await, (false, false), "a round was left out");
        assert_eq!(meet(&rounds[0], &rounds[3]).await, (false, false), "the old secret is out");
    }

    /// Shows CL-17.
    #[test]
    fn each_cluster_has_its_own_authority() {
        let key = |cluster| {
            let (issuer, _) = authority(cluster, &secret(1)).unwrap();
            issuer.key().serialize_der()
        };
        assert_eq!(key("shop"), key("shop"));
        assert_ne!(key("shop"), key("forum"));
        assert_ne!(key("shop"), key(""));
    }

    fn ours() -> Credentials {
        of("shop", &[1])
    }

    fn of(cluster: &str, secrets: &[u8]) -> Credentials {
        let secrets: Vec<_> = secrets.iter().copied().map(secret).collect();
        Credentials::new(cluster, &secrets, &Env::system()).unwrap()
    }

    fn at(clock: &ManualClock) -> Credentials {
        Credentials::new("shop", &[secret(1)], &Env::with_clock(clock.clone())).unwrap()
    }

    fn secret(byte: u8) -> Secret {
        Secret(Zeroizing::new(vec![byte; Secret::MIN]))
    }

    /// Leafs of a stranger, and leafs of the authority that are none of a node. All of them trust it.
    fn forgeries() -> Vec<Credentials> {
        let second = time::Duration::SECOND;
        let mut forgeries: Vec<_> =
            [("shop", 2), ("forum", 1)].map(|(of, by)| forged(of, by, |_| {})).into();
        forgeries.push(forged("shop", 1, |leaf| leaf.not_after = leaf.not_before + second));
        forgeries.push(forged("shop", 1, |leaf| leaf.not_before = leaf.not_after - second));
        forgeries.push(forged("shop", 1, |leaf| leaf.subject_alt_names.clear()));
        forgeries.push(forged("shop", 1, |leaf| {
            leaf.subject_alt_names = vec![SanType::DnsName("node.other".try_into().unwrap())];
        }));
        forgeries.push(forged("shop", 1, |leaf| {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        }));
        forgeries
    }

    fn forged(cluster: &str, by: u8, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let (issuer, _) = authority(cluster, &secret(by)).unwrap();
        let (_, root) = authority("shop", &secret(1)).unwrap();
        let env = Env::system();
        let mut params = leaf(env.now().into()).unwrap();
        change(&mut params);
        let key = signed_by(&issuer, &params).unwrap();
        let newest = Mutex::new(Leaf { issued: env.now().into(), key });
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let leaves = Leaves { issuer, env: env.clone(), newest };
        Credentials::of(&roots.into(), &leaves.into(), &env).unwrap()
    }

    /// A peer that differs in this only.
    fn changed(change: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
        let mut client = (*ours().client).clone();
        change(&mut client);
        client.into()
    }

    type Near = tokio_rustls::client::TlsStream<DuplexStream>;
    type Far = tokio_rustls::server::TlsStream<DuplexStream>;

    async fn handshake(client: &Credentials, server: &Credentials) -> (Option<Near>, Option<Far>) {
        let (near, far) = duplex(16 << 10);
        let connector = TlsConnector::from(Arc::clone(&client.client));
        let acceptor = TlsAcceptor::from(Arc::clone(&server.server));
        let name = Credentials::server_name();
        let (near, far) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
        (near.ok(), far.ok())
    }

    /// Returns true if a client and a server accept each other as nodes.
    async fn meet(client: &Credentials, server: &Credentials) -> (bool, bool) {
        let (near, far) = handshake(client, server).await;
        (
            near.is_some_and(|near| Credentials::is_node(near.get_ref().1)),
            far.is_some_and(|far| Credentials::is_node(far.get_ref().1)),
        )
    }
}
