//! Setting a [`ReplicatedStore`] up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Budget, Env, Limits, RouteLabel, StoreError};

use steadfast_replication::budget::Budgets;
use steadfast_replication::cluster::Timing;
use steadfast_replication::engine::Engine;
use steadfast_replication::member::{Boot, Member};
use steadfast_replication::membership::{Identity, Membership};
use steadfast_replication::rules::Rules;
use steadfast_replication::slots::HashKey;
use steadfast_replication::wire::{MAX_ADDRESS, MAX_ZONE};

use crate::credentials::{Credentials, Secret};
use crate::error::OpenError;
use crate::links::{Links, Place};
use crate::node::{Net, Node};
use crate::status::Status;
use crate::store::Settings;
use crate::system::{TcpListener, uptime};
use crate::{
    Acknowledgements, ClusterSettings, DrainMode, PartitionPolicy, ReplicatedStore, Replication,
};

impl ReplicatedStore {
    /// Returns a builder.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ReplicatedStoreBuilder {
        ReplicatedStoreBuilder::new()
    }
}

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
    zone: Option<String>,
    replication: Replication,
    acknowledgements: Acknowledgements,
    partition: Option<PartitionPolicy>,
    drain: DrainMode,
    env: Env,
    limits: Limits,
    budgets: Budgets,
    join: Duration,
}

impl ReplicatedStoreBuilder {
    fn new() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            seeds: Vec::new(),
            name: None,
            cluster: "default".to_owned(),
            secrets: Vec::new(),
            is_plaintext: false,
            zone: None,
            replication: Replication::default(),
            acknowledgements: Acknowledgements::default(),
            partition: None,
            drain: DrainMode::default(),
            env: Env::system(),
            limits: Limits::default(),
            budgets: Budgets::default(),
            join: Duration::from_secs(60),
        }
    }

    /// Sets the address of the cluster port: a free one of loopback by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).bind("127.0.0.1:0".parse()?).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bind(self, bind: SocketAddr) -> Self {
        Self { bind, ..self }
    }

    /// Sets the `host:port` at which others reach this node: by default the bound address, if that
    /// is specific.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).advertise("127.0.0.1:7946").open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn advertise(self, address: impl Into<String>) -> Self {
        Self { advertise: Some(address.into()), ..self }
    }

    /// Sets the addresses, as `host:port`, at which other nodes may be found; looked up again and again.
    /// Without seeds, this node immediately founds a service.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // No node runs at this seed, so none is joined.
    /// let alone = ReplicatedStore::builder().secret([7; 32]).seeds(["127.0.0.1:9"]);
    /// assert!(alone.join_timeout(Duration::from_millis(100)).open().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn seeds(self, seeds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { seeds: seeds.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the name of this node, which it keeps over restarts, and by which balancers know it: a hash of
    /// its address by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).name("n1".parse()?).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(self, name: RouteLabel) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Sets the name of the service, for several that share a secret: `default` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).cluster("shop").open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cluster(self, cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), ..self }
    }

    /// Sets the secret that only the nodes of the service know: at least 32 random bytes. With a
    /// second call, that secret is accepted, too, while the service moves from one to the other.
    ///
    /// A service moves in three rounds, in each of which its nodes are restarted one after the
    /// other: with the old secret and then the new one, with the new one and then the old one, and
    /// with the new one alone. From then on, a process that only knows the old one is not accepted
    /// as a peer.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert!(ReplicatedStore::builder().secret([7; 32]).open().await.is_ok());
    /// assert!(ReplicatedStore::builder().secret([7; 8]).open().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(Secret::new(secret));
        self
    }

    /// Turns TLS off. Only for tests, and only on loopback: any process that reaches the port is
    /// accepted as a node.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().insecure_plaintext_for_tests().open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn insecure_plaintext_for_tests(self) -> Self {
        Self { is_plaintext: true, ..self }
    }

    /// Sets the zone in which this node runs, up to 64 bytes: the holders of a record are in
    /// different zones, if there are enough zones. None by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).zone("eu-1a").open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn zone(self, zone: impl Into<String>) -> Self {
        Self { zone: Some(zone.into()), ..self }
    }

    /// Sets the number of nodes that hold a record: by default the owner and one other.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::{ReplicatedStore, Replication};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).replication(Replication::Full).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn replication(self, replication: Replication) -> Self {
        Self { replication, ..self }
    }

    /// Sets the number of acknowledgements that a write waits for: by default that of one other
    /// node.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::{Acknowledgements, ReplicatedStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).acknowledgements(Acknowledgements::All).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn acknowledgements(self, acknowledgements: Acknowledgements) -> Self {
        Self { acknowledgements, ..self }
    }

    /// Sets what a node does without a majority: by default, [`PartitionPolicy::Fail`] once the
    /// service has had three nodes.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::{PartitionPolicy, ReplicatedStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).partition(PartitionPolicy::Degrade).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn partition(self, partition: PartitionPolicy) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Sets the purpose of a drain: by default a restart.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::{DrainMode, ReplicatedStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).drain(DrainMode::Leave).open().await?;
    /// store.ready().await?;
    /// // The service has no other node that could hold the sessions.
    /// assert_eq!(store.drain().await?.moved, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn drain(self, drain: DrainMode) -> Self {
        Self { drain, ..self }
    }

    /// Sets the clock and the randomness: the system's by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_core::{Env, ManualClock, SessionStore};
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let clock = ManualClock::default();
    /// let env = Env::with_clock(clock.clone());
    /// let store = ReplicatedStore::builder().secret([7; 32]).env(env).open().await?;
    /// let before = store.env().now();
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(store.env().now(), before + Duration::from_secs(60));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env(self, env: Env) -> Self {
        Self { env, ..self }
    }

    /// Sets the limits of a record: by default [`Limits::default`].
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Limits, SessionStore};
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limits = Limits { keys: 10, ..Limits::default() };
    /// let store = ReplicatedStore::builder().secret([7; 32]).limits(limits).open().await?;
    /// assert_eq!(store.limits().keys, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Sets the budget for anonymous sessions on this node, as owner and as backup: by default
    /// [`Budget::ANONYMOUS`]. Give all nodes the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Budget, Operate};
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).anonymous(Budget { records: 10_000, bytes: 16 << 20 }).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn anonymous(self, anonymous: Budget) -> Self {
        Self { budgets: Budgets { visitors: anonymous, ..self.budgets }, ..self }
    }

    /// Sets the budget for users' sessions on this node, as owner and as backup: by default
    /// [`Budget::AUTHENTICATED`]. Give all nodes the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::{Budget, Operate};
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).authenticated(Budget { records: 100_000, bytes: 1 << 30 }).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn authenticated(self, authenticated: Budget) -> Self {
        Self { budgets: Budgets { users: authenticated, ..self.budgets }, ..self }
    }

    /// Sets how long [`open`](Self::open) waits for this node to join: by default 60 s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let alone = ReplicatedStore::builder().secret([7; 32]).seeds(["127.0.0.1:9"]);
    /// let opened = alone.join_timeout(Duration::from_millis(100)).open().await;
    /// assert!(opened.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn join_timeout(self, within: Duration) -> Self {
        Self { join: within, ..self }
    }

    /// Opens the port, and returns when the node has joined its service, or founded it.
    ///
    /// # Errors
    ///
    /// When the port cannot be opened or may not be, or no service is joined in time.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast_core::Operate;
    /// use steadfast_replicated::ReplicatedStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = ReplicatedStore::builder().secret([7; 32]).open().await?;
    /// store.ready().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(self) -> Result<ReplicatedStore, OpenError> {
        let credentials = self.credentials()?;
        self.open_with(credentials).await
    }

    /// Opens it with or without TLS.
    pub(crate) async fn open_with(
        self,
        credentials: Option<Credentials>,
    ) -> Result<ReplicatedStore, OpenError> {
        self.check_limits()?;
        let listener = TcpListener::bind(self.bind).await.map_err(OpenError::Bind)?;
        let address = listener.local_addr().map_err(OpenError::Bind)?;
        let advertised = self.advertised(address)?;
        let name = self.name.clone().unwrap_or_else(|| named(&advertised));
        let node = self.node(name, advertised.clone()).map_err(OpenError::Store)?;
        let Self { cluster, seeds, drain, limits, join, .. } = self;
        let place = Place {
            cluster: cluster.clone(),
            address: advertised,
            seeds,
            max_frame: max_frame(limits),
        };
        let links = Links::new(&node, place, credentials).map_err(OpenError::Store)?;
        links.start(listener);
        node.start(Arc::clone(&links) as Arc<dyn Net>);
        let mut status = node.status();
        let joined = status.wait_for(Status::has_joined);
        if tokio::time::timeout(join, joined).await.is_err() {
            let problem = node.look().problem;
            let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
            return Err(OpenError::NotJoined { within: join, why });
        }
        Ok(ReplicatedStore::of(node, links, Settings { limits, drain, cluster }))
    }

    /// The node, which is in no service yet.
    fn node(&self, name: RouteLabel, address: String) -> Result<Arc<Node>, StoreError> {
        let [mut boot, mut seed] = [[0; 16]; 2];
        self.env.fill(&mut boot)?;
        self.env.fill(&mut seed)?;
        let boot = Boot::new(boot);
        let member = Member::joining(name.clone(), boot, address, self.zone.clone());
        let settings = ClusterSettings {
            replication: self.replication,
            acknowledgements: self.acknowledgements,
            policy: self.partition,
        };
        let identity = Identity { member, settings, seed };
        let rules = Rules::default();
        let membership = Membership::new(identity, Timing::DEFAULT, rules, uptime());
        let engine = Engine::new(membership, self.limits, self.budgets, rules);
        Ok(Node::new(name, boot, engine, self.env.clone()))
    }

    /// Messages between nodes are bounded.
    fn check_limits(&self) -> Result<(), OpenError> {
        let bounds = [
            ("bytes of a record", self.limits.record_bytes, MAX_RECORD),
            (
                "bytes of the advertised address",
                self.advertise.as_ref().map_or(0, String::len),
                MAX_ADDRESS,
            ),
            ("bytes of the zone", self.zone.as_ref().map_or(0, String::len), MAX_ZONE),
        ];
        let over = bounds.into_iter().find(|(_, value, limit)| value > limit);
        over.map_or(Ok(()), |(what, value, limit)| Err(OpenError::Limit { what, value, limit }))
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
        Credentials::new(&self.cluster, &self.secrets, &self.env).map(Some)
    }
}

/// The longest frame: a record with what goes with it, or a batch.
fn max_frame(limits: Limits) -> usize {
    (2 * limits.record_bytes).saturating_add(1 << 20)
}

/// Bytes of the values of a record, at most: they go in one frame.
const MAX_RECORD: usize = 16 << 20;

fn named(address: &str) -> RouteLabel {
    let hash = HashKey::new(*b"steadfast's name").hash(address.as_bytes());
    format!("n{hash:016x}").parse().expect("a label of hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_needs_an_advertised_one() {
        let (builder, bound) = (ReplicatedStoreBuilder::new(), "0.0.0.0:7946".parse().unwrap());
        assert!(matches!(builder.advertised(bound), Err(OpenError::Nowhere { .. })));
        let advertised = builder.advertise("n1.internal:7946").advertised(bound).unwrap();
        assert_eq!(advertised, "n1.internal:7946");
    }
}
