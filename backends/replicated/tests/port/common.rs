//! Nodes, visitors, and patience.

use std::net::SocketAddr;
use std::time::Duration;

use steadfast_core::{
    Env, Keyring, Lookup, Outcome, Patch, Proof, Realm, Record, RecordId, RequestHint,
    SessionStore, Token,
};
use steadfast_replicated::{PartitionPolicy, ReplicatedStore, ReplicatedStoreBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::tap::Tap;

pub const CLUSTER: &str = "shop";

pub const SECRET: [u8; 32] = [7; 32];

/// The n-th node of a service, without a secret.
pub fn anyone(n: usize) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder().name(format!("n{n}").parse().unwrap()).cluster(CLUSTER)
}

/// The n-th node of a service.
pub fn node(n: usize) -> ReplicatedStoreBuilder {
    anyone(n).secret(SECRET)
}

/// The n-th node of a service that trusts everybody.
pub fn plain(n: usize) -> ReplicatedStoreBuilder {
    anyone(n).insecure_plaintext_for_tests()
}

/// A node that founded its service, and its port.
pub async fn founder(builder: ReplicatedStoreBuilder) -> (SocketAddr, ReplicatedStore) {
    let port = free_port().await;
    (port, builder.bind(port).open().await.unwrap())
}

pub async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A session, and the token of the browser that has it.
pub struct Visitor {
    pub token: Token,
}

impl Visitor {
    /// Starts a session at a node, which owns it.
    pub async fn at(store: &ReplicatedStore, values: &[(&str, &str)]) -> Self {
        let token = Token::generate(store.mint().unwrap(), &Env::system()).unwrap();
        Self::of(token, store, values).await
    }

    /// Starts the session of a token.
    pub async fn of(token: Token, store: &ReplicatedStore, values: &[(&str, &str)]) -> Self {
        let env = Env::system();
        let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        let (now, hour) = (env.now(), Duration::from_secs(3_600));
        let values = values.iter().map(|(key, json)| (*key, json.as_bytes())).collect();
        let record = Record { values, ..Record::new(hash, now, now + hour, now + hour) };
        let created = store.create(token.id(), record, Default::default()).await.unwrap();
        assert!(matches!(created, Outcome::Applied(_)), "{created:?}");
        Self { token }
    }

    pub fn id(&self) -> RecordId {
        self.token.id()
    }

    pub fn proof(&self) -> Proof {
        Keyring::unkeyed().prove(&Realm::default(), self.token.secret())
    }

    /// Returns the value of the session at a node; `None` if there is none, or the node cannot
    /// tell.
    pub async fn value(&self, store: &ReplicatedStore, key: &str) -> Option<String> {
        match store.load(self.id(), Some(&self.proof()), &RequestHint::default()).await.ok()? {
            Lookup::Found(found) => {
                let value = found.record.values.get(key)?;
                Some(String::from_utf8(value.to_vec()).unwrap())
            }
            Lookup::Superseded | Lookup::Absent(_) => None,
        }
    }

    /// Counts one up; whether that was confirmed.
    pub async fn count(&self, store: &ReplicatedStore, key: &str) -> bool {
        let mut patch = Patch::new();
        patch.add(key, 1).unwrap();
        patch.prove(self.proof());
        let outcome = store.update(self.id(), &patch, &RequestHint::default()).await;
        matches!(outcome, Ok(Outcome::Applied(_)))
    }
}

/// Two nodes with a tap between them.
pub struct Pair {
    pub tap: Tap,
    pub nodes: [ReplicatedStore; 2],
}

impl Pair {
    pub async fn open(node: impl Fn(usize) -> ReplicatedStoreBuilder) -> Self {
        let mut tap = Tap::new();
        let ports = [free_port().await, free_port().await];
        let fronts = [tap.in_front_of(ports[0]).await, tap.in_front_of(ports[1]).await];
        let open = async |n: usize, seeds: &[String]| {
            let node = node(n).bind(ports[n]).advertise(&fronts[n]).seeds(seeds);
            node.partition(PartitionPolicy::Fail).open().await.unwrap()
        };
        let nodes = [open(0, &[]).await, open(1, &fronts[..1]).await];
        for node in &nodes {
            node.wait_for(2).await.unwrap();
        }
        Self { tap, nodes }
    }

    /// Returns the value of a session once both nodes agree on it.
    pub async fn agreed(&self, visitor: &Visitor, key: &str) -> String {
        let values = async || {
            let [first, second] = &self.nodes;
            (visitor.value(first, key).await, visitor.value(second, key).await)
        };
        eventually(async || matches!(values().await, (Some(a), Some(b)) if a == b)).await;
        values().await.0.unwrap()
    }
}

/// Sends bytes to a port, and returns the answer until the port hangs up.
pub async fn say(port: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    within(async {
        let mut stream = TcpStream::connect(port).await?;
        stream.write_all(said).await?;
        stream.read_to_end(&mut heard).await
    })
    .await
    // A reset is a hang-up as well.
    .unwrap_or_default();
    heard
}

/// Returns true if the received bytes contain these.
pub fn contains(heard: &[u8], bytes: &[u8]) -> bool {
    heard.windows(bytes.len()).any(|window| window == bytes)
}

/// Waits until something is so.
pub async fn eventually(is_so: impl AsyncFn() -> bool) {
    within(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits for what must not take long.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}
