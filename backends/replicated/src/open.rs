//! Setting a [`ReplicatedStore`] up.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use steadfast_core::{Budget, Env, Limits, RouteLabel, StoreError};
use zeroize::Zeroizing;

use crate::ReplicatedStore;
use crate::credentials::{Credentials, Secret};
use crate::engine::Config;
use crate::engine::config::{Acks, Budgets, Copies, DrainAs, Partition};
use crate::link::Links;
use crate::node::Node;
use crate::placement::siphash;
use crate::sockets::TcpListener;

/// Sets a [`ReplicatedStore`] up.
#[derive(Clone, Debug)]
pub struct ReplicatedStoreBuilder {
    bind: SocketAddr,
    advertise: Option<String>,
    seeds: Vec<String>,
    name: Option<RouteLabel>,
    cluster: String,
    secrets: Vec<Secret>,
    is_plaintext: bool,
    copies: Copies,
    acks: Acks,
    partition: Option<Partition>,
    drain_as: DrainAs,
    env: Env,
    limits: Limits,
    budgets: Budgets,
    join: Duration,
}

impl ReplicatedStoreBuilder {
    pub(crate) fn new() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            seeds: Vec::new(),
            name: None,
            cluster: "default".to_owned(),
            secrets: Vec::new(),
            is_plaintext: false,
            copies: Copies::default(),
            acks: Acks::default(),
            partition: None,
            drain_as: DrainAs::default(),
            env: Env::system(),
            limits: Limits::default(),
            budgets: Budgets::default(),
            join: Duration::from_secs(10),
        }
    }

    /// The address of the cluster port: a free one of loopback by default.
    #[must_use]
    pub fn bind(self, bind: SocketAddr) -> Self {
        Self { bind, ..self }
    }

    /// Under what `host:port` the others reach this node: the address it is bound to by default, where
    /// that is one of its own.
    #[must_use]
    pub fn advertise(self, address: impl Into<String>) -> Self {
        Self { advertise: Some(address.into()), ..self }
    }

    /// Addresses, as `host:port`, at which other nodes may be found; looked up again and again. With
    /// none, this node founds a service of its own at once.
    #[must_use]
    pub fn seeds(self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { seeds: seeds.into_iter().map(Into::into).collect(), ..self }
    }

    /// The name of this node, which it keeps over restarts, and by which balancers know it: a hash of
    /// its address by default.
    #[must_use]
    pub fn name(self, name: RouteLabel) -> Self {
        Self { name: Some(name), ..self }
    }

    /// The name of the service, for several that share a secret: `default` by default.
    #[must_use]
    pub fn cluster(self, cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), ..self }
    }

    /// What only the nodes of the service know: at least 32 random bytes. With a second call, that
    /// secret is accepted, too, while the service moves from one to the other.
    ///
    /// A service moves in three rounds, in each of which its nodes are restarted one after the other:
    /// with the old secret and then the new one, with the new one and then the old one, and with the
    /// new one alone. Nobody who knows the old one only is a peer from then on.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(Secret(Zeroizing::new(secret.into())));
        self
    }

    /// Turns TLS off. On loopback alone, and for tests alone: whoever reaches the port is a node.
    #[must_use]
    pub fn insecure_plaintext_for_tests(self) -> Self {
        Self { is_plaintext: true, ..self }
    }

    /// How many nodes hold a record: the owner and one other by default.
    #[must_use]
    pub fn copies(self, copies: Copies) -> Self {
        Self { copies, ..self }
    }

    /// How many acknowledgements a write waits for: that of one other node by default.
    #[must_use]
    pub fn acks(self, acks: Acks) -> Self {
        Self { acks, ..self }
    }

    /// What happens where acknowledgements cannot be had: by default, [`Partition::Fail`] from three
    /// nodes up.
    #[must_use]
    pub fn partition(self, partition: Partition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// What a drain is for: a restart by default.
    #[must_use]
    pub fn drain_as(self, drain_as: DrainAs) -> Self {
        Self { drain_as, ..self }
    }

    /// The clock and the randomness: the system's by default.
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// How much a record may hold: [`Limits::default`] by default.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How much this node holds of sessions that nobody signed in to, as their owner and as a backup:
    /// [`Budget::ANONYMOUS`] by default. Give all nodes the same.
    #[must_use]
    pub fn anonymous(self, anonymous: Budget) -> Self {
        Self { budgets: Budgets { anonymous, ..self.budgets }, ..self }
    }

    /// How much this node holds of sessions that somebody signed in to, as their owner and as a
    /// backup: [`Budget::AUTHENTICATED`] by default. Give all nodes the same.
    #[must_use]
    pub fn authenticated(self, authenticated: Budget) -> Self {
        Self { budgets: Budgets { authenticated, ..self.budgets }, ..self }
    }

    /// How long [`open`](Self::open) waits for this node to join: 10 s by default.
    #[must_use]
    pub fn join(self, within: Duration) -> Self {
        Self { join: within, ..self }
    }

    /// Opens the port, and returns when the node has joined its service, or founded it.
    ///
    /// # Errors
    ///
    /// When the port cannot be opened or may not be, or no service is joined in time.
    pub async fn open(self) -> Result<ReplicatedStore, OpenError> {
        let credentials = self.credentials()?;
        let listener = TcpListener::bind(self.bind).await.map_err(OpenError::Bind)?;
        let address = listener.local_addr().map_err(OpenError::Bind)?;
        let advertised = self.advertised(address)?;
        let name = self.name.clone().unwrap_or_else(|| named(&advertised));
        let node = Node::new(name, self.config(), self.env.clone()).map_err(OpenError::Store)?;
        let links = Links::new(&node, self.cluster, advertised, self.seeds, credentials)
            .map_err(OpenError::Store)?;
        links.start(listener);
        node.start(links);
        let mut health = node.health();
        let joined = tokio::time::timeout(self.join, health.wait_for(|health| health.has_joined));
        if joined.await.is_err() {
            return Err(OpenError::NotJoined { within: self.join });
        }
        Ok(ReplicatedStore::of(node, self.limits))
    }

    fn advertised(&self, bound: SocketAddr) -> Result<String, OpenError> {
        match &self.advertise {
            Some(advertised) => Ok(advertised.clone()),
            None if bound.ip().is_unspecified() => Err(OpenError::Nowhere { address: bound }),
            None => Ok(bound.to_string()),
        }
    }

    fn credentials(&self) -> Result<Option<Credentials>, OpenError> {
        if self.is_plaintext {
            let is_local = self.bind.ip().is_loopback();
            return is_local.then_some(None).ok_or(OpenError::Exposed { address: self.bind });
        }
        let short = self.secrets.iter().map(|secret| secret.0.len()).find(|len| *len < Secret::MIN);
        match short {
            Some(len) => Err(OpenError::ShortSecret { len }),
            None => Credentials::new(&self.cluster, &self.secrets, &self.env).map(Some),
        }
    }

    fn config(&self) -> Config {
        Config {
            copies: self.copies,
            acks: self.acks,
            partition: self.partition,
            drain_as: self.drain_as,
            limits: self.limits,
            budgets: self.budgets,
            expects_peers: !self.seeds.is_empty(),
            #[cfg(test)]
            without: None,
        }
    }
}

fn named(address: &str) -> RouteLabel {
    let hash = siphash((1, 2), address.as_bytes());
    format!("n{hash:016x}").parse().expect("a label of hexadecimal digits")
}

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no secret.
    #[error("the cluster port needs a secret")]
    NoSecret,
    /// The secret is too short to protect anything.
    #[error("a secret of {len} bytes is too short: use at least {} random bytes", Secret::MIN)]
    ShortSecret {
        /// Its length in bytes.
        len: usize,
    },
    /// Others could reach the port, and TLS is turned off.
    #[error("plaintext is for loopback alone, and {address} is not")]
    Exposed {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Every address of the host is bound to, and none of them advertised: all nodes would be found,
    /// and named, alike.
    #[error("nobody finds a node at {address}: advertise an address of it")]
    Nowhere {
        /// The address that is bound to.
        address: SocketAddr,
    },
    /// The port cannot be opened.
    #[error("the cluster port cannot be opened")]
    Bind(#[source] io::Error),
    /// The credentials cannot be made.
    #[error("the credentials of the node cannot be made")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// There is no randomness to be had.
    #[error("the node cannot be set up")]
    Store(#[source] StoreError),
    /// No service was joined in time.
    #[error("no service was joined within {within:?}")]
    NotJoined {
        /// How long was waited.
        within: Duration,
    },
}

impl OpenError {
    pub(crate) fn tls(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Tls(Box::new(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_at_every_address_says_which_one_is_its_own() {
        let (builder, bound) = (ReplicatedStoreBuilder::new(), "0.0.0.0:7946".parse().unwrap());
        assert!(matches!(builder.advertised(bound), Err(OpenError::Nowhere { .. })));
        let advertised = builder.advertise("n1.internal:7946").advertised(bound).unwrap();
        assert_eq!(advertised, "n1.internal:7946");
    }
}
