//! Stores on the servers of the tests, and visitors.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steadfast_core::{
    Authentication, Env, Lifetime, LoginPolicy, ManualClock, Outcome, Patch, Principal, Proof,
    Realm, Record, RecordId, RequestHint, Rotation, SecretHash, SessionStore, StoreError, Token,
};
use steadfast_core::{Keyring, Lookup};
use steadfast_redis::{Address, RedisStore, RedisStoreBuilder};
use testkit::redis::{PASSWORD, Redis, RedisCluster, RedisWithSentinels, SERVICE, USER};

/// Returns a builder of a store with a fresh prefix.
pub fn builder() -> RedisStoreBuilder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("steadfast:{}", NEXT.fetch_add(1, Ordering::Relaxed));
    RedisStore::builder().user(USER, PASSWORD).prefix(prefix.parse().unwrap())
}

pub fn store(server: &Redis) -> RedisStore {
    on(server, builder())
}

pub fn on(server: &Redis, builder: RedisStoreBuilder) -> RedisStore {
    builder.standalone(server.address().parse().unwrap()).unwrap()
}

pub fn behind(servers: &RedisWithSentinels, builder: RedisStoreBuilder) -> RedisStore {
    builder.sentinel(addresses(&servers.addresses()), SERVICE).unwrap()
}

pub fn across(cluster: &RedisCluster, builder: RedisStoreBuilder) -> RedisStore {
    builder.cluster(addresses(&cluster.seeds())).unwrap()
}

/// A cluster for all tests that do not change it.
pub static CLUSTER: LazyLock<RedisCluster> = LazyLock::new(RedisCluster::start);

/// Returns an environment whose clock only moves when a test moves it.
pub fn clock() -> (ManualClock, Env) {
    let clock = ManualClock::default();
    (clock.clone(), Env::with_clock(clock))
}

/// A visitor with a record.
pub struct Visitor {
    pub id: RecordId,
    pub token: Token,
}

impl Visitor {
    /// Creates a visitor whose record is not stored yet.
    pub fn new(store: &RedisStore) -> Self {
        let id = store.mint().unwrap();
        Self { id, token: Token::generate(id, store.env()).unwrap() }
    }

    pub async fn arrive(store: &RedisStore) -> Self {
        let visitor = Self::new(store);
        let outcome = visitor.create(store).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        visitor
    }

    pub async fn create(&self, store: &RedisStore) -> Result<Outcome, StoreError> {
        let (now, lifetime) = (store.env().now(), Lifetime::default());
        let (idle, absolute) = (lifetime.idle_deadline(now), lifetime.absolute_deadline(now));
        let record = Record::new(self.hash(), now, idle, absolute);
        store.create(self.id, record, LoginPolicy::default()).await
    }

    pub fn hash(&self) -> SecretHash {
        Keyring::unkeyed().hash(&Realm::default(), self.token.secret())
    }

    pub fn proof(&self) -> Proof {
        self.hash().into()
    }

    pub async fn load(&self, store: &RedisStore) -> Result<Lookup, StoreError> {
        store.load(self.id, Some(&self.proof()), &RequestHint::default()).await
    }

    pub async fn is_live(&self, store: &RedisStore) -> bool {
        matches!(self.load(store).await.unwrap(), Lookup::Found(_))
    }

    /// Signs in with a new secret.
    pub async fn log_in(self, store: &RedisStore, user: &str) -> Self {
        let (patch, signed_in) = self.login(store, user, LoginPolicy::default());
        let outcome = store.update(self.id, &patch, &RequestHint::default()).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
        signed_in
    }

    pub fn login(&self, store: &RedisStore, user: &str, policy: LoginPolicy) -> (Patch, Self) {
        let now = store.env().now();
        let new = Self { id: self.id, token: Token::generate(self.id, store.env()).unwrap() };
        let authentication = Authentication {
            at: now,
            absolute_deadline: Lifetime::default().absolute_deadline(now),
            principal: Some(principal(user)),
            facts: None,
            policy,
        };
        let mut patch = Patch::new();
        let rotation = Rotation { hash: new.hash(), authentication: Some(authentication) };
        patch.rotate(self.proof(), rotation);
        (patch, new)
    }

    pub async fn write(&self, store: &RedisStore, value: i64) -> Result<Outcome, StoreError> {
        let mut patch = Patch::new();
        patch.put("n", value.into()).unwrap();
        store.update(self.id, &patch, &RequestHint::default()).await
    }

    pub async fn count(&self, store: &RedisStore) -> Result<Outcome, StoreError> {
        let mut patch = Patch::new();
        patch.add("n", 1).unwrap();
        store.update(self.id, &patch, &RequestHint::default()).await
    }

    /// Returns the value under `n`.
    pub async fn counted(&self, store: &RedisStore) -> i64 {
        match self.load(store).await.unwrap() {
            Lookup::Found(found) => found
                .record
                .values
                .get("n")
                .map_or(0, |n| std::str::from_utf8(n).unwrap().parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

pub fn principal(user: &str) -> Principal {
    Principal::new(Realm::default(), user).unwrap()
}

/// Retries until it succeeds. Returns the time that took.
pub async fn until_ok<T, E>(attempt: impl AsyncFn() -> Result<T, E>) -> (T, Duration) {
    let start = std::time::Instant::now();
    for _ in 0..3_000 {
        if let Ok(done) = attempt().await {
            return (done, start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never succeeds");
}

fn addresses(texts: &[String]) -> Vec<Address> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
