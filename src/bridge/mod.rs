//! Sessions of [tower-sessions] and users of [axum-login] over any store.
//!
//! A [`Bridge`] is a store for tower-sessions: of version 0.14 with the feature `tower-sessions-0_14`,
//! and of version 0.15 with `tower-sessions-0_15`. Handlers that take a `tower_sessions::Session`, and
//! axum-login 0.18 (which is built on 0.14), run over it unmodified.
//! [`guide::migrating`](crate::guide::migrating) shows the lines that change, lists what differs from the
//! stores of tower-sessions, and shows the way from there to [`Session`](crate::Session).
//!
//! [tower-sessions]: https://docs.rs/tower-sessions
//! [axum-login]: https://docs.rs/axum-login

mod id;
mod loaded;
mod recent;
mod sessions;
mod succession;
mod adapter;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value;
use steadfast_core::{
    Deletion, EndReason, Keyring, Lifetime, LifetimeError, Principal, Realm, RecordId, Revocation,
    SessionInfo, SessionStore,
};

use crate::error::Error;
use crate::store_client::{Purpose, StoreClient, Timeouts};
use loaded::Loaded;
use recent::Recent;
use succession::Parked;

/// A store for tower-sessions over any store of this crate.
///
/// ```
/// use steadfast::{Bridge, MemoryStore};
///
/// let store = Bridge::new(MemoryStore::new());
/// // SessionManagerLayer::new(store), as with any store of tower-sessions.
/// ```
///
/// # What it changes
///
/// - A save sends what the request changed, key by key, so concurrent requests lose no update to
///   different keys.
/// - An ended session stays ended: a later save fails, and its request is answered 500 and sets no
///   cookie.
/// - `cycle_id` moves the session to a new id, including what other requests have saved. Later saves
///   under the old id fail.
/// - The store holds hashes of ids, never an id.
///
/// # Users
///
/// A session belongs to the user that its data names, so that the sessions of a user can be
/// [listed](Bridge::list) and [ended](Bridge::end_all): by default the `user_id` that axum-login keeps
/// under `axum-login.data`. A `user_id` that is a string is used unchanged, any other as its JSON text.
/// Name another key with [`data_key`](Bridge::data_key). If your application has its own sign-in, name
/// the user with [`users`](Bridge::users).
///
/// # Deployment caveats
///
/// No cookie tells a balancer which node holds a session. Over a `StickyStore`, let the balancer hash the
/// cookie of tower-sessions. A `CachingSessionStore` in front of a bridge brings back lost updates and
/// ended sessions. A bridge seals no values.
#[derive(Clone)]
pub struct Bridge {
    state: Arc<BridgeState>,
}

/// The state shared by the clones of a bridge.
#[derive(Clone)]
struct BridgeState {
    client: StoreClient,
    realm: Realm,
    keyring: Arc<Keyring>,
    absolute: Duration,
    max_per_user: usize,
    user_of: Arc<UserOf>,
    memory: Arc<Memory>,
}

/// State of requests under way.
struct Memory {
    /// The number of the next load.
    next_load: AtomicU64,
    /// The last save of each request, which may save again. After its entry is dropped, a request sends
    /// all of its changes again.
    saved: Recent<u64, Loaded>,
    /// The records whose ids are being replaced.
    parked: Recent<RecordId, Arc<Parked>>,
}

/// Names the signed-in user by the data of a session.
type UserOf = dyn Fn(&HashMap<String, Value>) -> Option<String> + Send + Sync;

impl Bridge {
    /// Makes a bridge over `store`, with users as axum-login has them.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// let store = Bridge::new(MemoryStore::new());
    /// ```
    pub fn new(store: impl SessionStore) -> Self {
        let memory = Memory {
            next_load: AtomicU64::new(1),
            saved: Recent::new(REMEMBERED),
            parked: Recent::new(REMEMBERED),
        };
        Self {
            state: Arc::new(BridgeState {
                client: StoreClient::new(Arc::new(store)),
                realm: Realm::default(),
                keyring: Arc::default(),
                absolute: Lifetime::MAX,
                max_per_user: 1_000,
                user_of: Arc::new(|data| axum_login_user(data, "axum-login.data")),
                memory: Arc::new(memory),
            }),
        }
    }

    /// Sets the realm of the sessions: `session` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore, Realm};
    ///
    /// let store = Bridge::new(MemoryStore::new()).realm(Realm::new("shop").unwrap());
    /// ```
    #[must_use]
    pub fn realm(self, realm: Realm) -> Self {
        self.with(|state| state.realm = realm)
    }

    /// Sets the keys for hashing ids. By default they are hashed without a key.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, Keyring, MemoryStore};
    ///
    /// let store = Bridge::new(MemoryStore::new()).keyring(Keyring::keyed("2026-11", &[7; 32]).unwrap());
    /// ```
    #[must_use]
    pub fn keyring(self, keyring: Keyring) -> Self {
        self.with(|state| state.keyring = Arc::new(keyring))
    }

    /// Sets the absolute lifetime of a session, from its creation or its last sign-in: [`Lifetime::MAX`] by
    /// default, because tower-sessions has no such bound.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// assert!(Bridge::new(MemoryStore::new()).absolute_lifetime(Duration::from_secs(86_400)).is_ok());
    /// assert!(Bridge::new(MemoryStore::new()).absolute_lifetime(Duration::ZERO).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When it is under a second or over [`Lifetime::MAX`].
    pub fn absolute_lifetime(self, absolute: Duration) -> Result<Self, LifetimeError> {
        let lifetime = Lifetime::new(absolute, absolute)?;
        Ok(self.with(|state| state.absolute = lifetime.absolute()))
    }

    /// Sets how many sessions a user may have, at least 1: 1,000 by default. Beyond that, the sessions with the
    /// oldest sign-in end.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// let store = Bridge::new(MemoryStore::new()).max_per_user(5);
    /// ```
    #[must_use]
    pub fn max_per_user(self, sessions: usize) -> Self {
        self.with(|state| state.max_per_user = sessions.max(1))
    }

    /// Sets how long a request waits for the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{Bridge, MemoryStore, Timeouts};
    ///
    /// let timeouts = Timeouts::default().normal(Duration::from_millis(500));
    /// let store = Bridge::new(MemoryStore::new()).timeouts(timeouts);
    /// ```
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        self.with(|state| state.client.timeouts = timeouts)
    }

    /// Sets the key under which axum-login keeps its data: the one given to `with_data_key`, and
    /// `axum-login.data` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// let store = Bridge::new(MemoryStore::new()).data_key("shop.login");
    /// ```
    #[must_use]
    pub fn data_key(self, key: &'static str) -> Self {
        self.users(move |data| axum_login_user(data, key))
    }

    /// Names the user of a session by its data, for an application with its own sign-in. The id has 1 to
    /// 256 bytes without control characters.
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// let store = Bridge::new(MemoryStore::new())
    ///     .users(|data| Some(data.get("user")?.as_str()?.to_owned()));
    /// ```
    #[must_use]
    pub fn users(
        self,
        user_of: impl Fn(&HashMap<String, Value>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|state| state.user_of = Arc::new(user_of))
    }

    /// Returns the live sessions of a user, in no particular order.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Bridge::new(MemoryStore::new());
    /// assert!(store.list("alice").await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, or the user's id has the wrong form.
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        let principal = self.principal(user)?;
        Ok(self.state.client.list(&principal, Purpose::End).await?)
    }

    /// Ends a session of a [list](Bridge::list), and returns whether it was live.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore, RecordId, store::Env};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Bridge::new(MemoryStore::new());
    /// let unknown = RecordId::random(&Env::system())?;
    /// assert!(!store.end(unknown).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the session is dead on every node.
    pub async fn end(&self, session: RecordId) -> Result<bool, Error> {
        let deletion = Deletion::for_reason(EndReason::Admin);
        Ok(self.state.client.delete(session, &deletion).await?.is_ended())
    }

    /// Ends all sessions of a user, and returns how many were live.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Bridge, MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Bridge::new(MemoryStore::new());
    /// assert_eq!(store.end_all("alice").await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not confirmed that all of them are dead on every node, or the user's id has the wrong
    /// form.
    pub async fn end_all(&self, user: &str) -> Result<u64, Error> {
        let principal = self.principal(user)?;
        let revocation = Revocation::for_reason(EndReason::Admin);
        Ok(self.state.client.delete_all(&principal, revocation).await?)
    }

    fn principal(&self, user: &str) -> Result<Principal, Error> {
        Ok(Principal::new(self.state.realm.clone(), user)?)
    }

    fn with(mut self, change: impl FnOnce(&mut BridgeState)) -> Self {
        change(Arc::make_mut(&mut self.state));
        self
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("realm", &self.state.realm)
            .field("keyring", &self.state.keyring)
            .finish_non_exhaustive()
    }
}

/// The user in the data of axum-login.
fn axum_login_user(data: &HashMap<String, Value>, key: &str) -> Option<String> {
    match data.get(key)?.get("user_id")? {
        Value::Null => None,
        Value::String(id) => Some(id.clone()),
        other => Some(other.to_string()),
    }
}

/// The number of requests under way that are remembered.
const REMEMBERED: usize = 8_192;
