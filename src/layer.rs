//! The layer: how sessions are configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use steadfast_core::{
    AtCap, Facts, Keyring, Lifetime, LifetimeError, LimitError, Realm, SessionStore,
};
use tokio_util::task::TaskTracker;
use tower_layer::Layer;

use crate::bounds::Bounds;
use crate::cookie::companion::Affinity;
use crate::cookie::header::{self, HeaderError};
use crate::cookie::profile::{CookieError, CookieProfile};
use crate::error::Error;
use crate::events::{Listener, SessionEvent};
use crate::labels::IndexedLabels;
use crate::layer_state::LayerState;
use crate::replaceable::Replaceable;
use crate::seal::Seal;
#[cfg(feature = "seal")]
use crate::seal::SealKeys;
use crate::service::SessionService;
use crate::sessions::Sessions;
use crate::store_client::{StoreClient, Timeouts};

pub use crate::end_watcher::RECHECK;

/// Gives every request a [`Session`](crate::Session) over one store.
///
/// The defaults are safe: a `__Host-` cookie, both lifetimes bounded, secrets hashed at rest. While the store is
/// away, requests get 503, and signed-in users do not turn into anonymous visitors.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use steadfast::{CookieProfile, Lifetime, MemoryStore, SessionLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = SessionLayer::new(MemoryStore::new())
///     .lifetime(Lifetime::new(Duration::from_secs(900), Duration::from_secs(43_200))?)
///     .cookie(CookieProfile::host().name("__Host-shop"))?;
/// # Ok(())
/// # }
/// ```
///
/// # Several in one application
///
/// Layers with different realms and cookie names may nest: the handle of the innermost is the
/// extractor's, and [`Session::in_realm`](crate::Session::in_realm) finds the others. The same layer
/// applied twice, or together with an unchanged clone, has no further effect. Any other layer of the same
/// cookie name inside is refused: every request is answered 500, and the log says why. A session of one
/// realm must not be valid in another, and a stricter lifetime must not be ignored silently.
///
/// # Order of layers
///
/// The commit comes when the handler has answered, and may fail. The layer then answers itself, and
/// drops what was answered so far: its body, and of its headers all that may be part of what the
/// handler promised (`Location`, `Set-Cookie`, `ETag` …). It keeps what layers set for CORS, for
/// request ids and traces, and for security, and the headers of
/// [`keep_headers`](SessionLayer::keep_headers). Other layers that add headers, or change bodies, see
/// every response if they are further out.
///
/// Buffered writes of a handler are dropped when another layer gave up on it and answered 408, as
/// tower-http's `TimeoutLayer` does, or 500 and above. For a layer that answers with another status, put
/// a [`HandlerLayer`](crate::HandlerLayer) further in.
///
/// # Sealed values
///
/// With the feature `seal`, `SessionLayer::seal` encrypts the values of sessions before a store sees them,
/// under keys that the application has: see [`guide::sealing`](crate::guide::sealing).
///
/// # Deployment caveats
///
/// Nodes that share a store must agree on realm, cookie, keyring and seal keys. The default cookie is `Secure`:
/// over plain http, browsers accept it from localhost only. For other hosts without https, use
/// [`CookieProfile::dev`], never in production. A response that depends on a session says so to shared caches, but a cache
/// that is configured to ignore `Cache-Control` and `Vary` cannot be helped.
#[derive(Clone)]
pub struct SessionLayer {
    state: Arc<LayerState>,
}

impl SessionLayer {
    /// Makes a layer over `store`, with the defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let app: axum::Router = axum::Router::new().layer(SessionLayer::new(MemoryStore::new()));
    /// ```
    pub fn new(store: impl SessionStore) -> Self {
        Self {
            state: Arc::new(LayerState {
                client: StoreClient::new(Arc::new(store)),
                realm: Realm::default(),
                keyring: Replaceable::new(Arc::default()),
                seal: Seal::default(),
                cookie: CookieProfile::default(),
                affinity: Affinity::default(),
                header: None,
                header_only: false,
                vary: HeaderValue::from_static("Cookie"),
                bounds: Replaceable::new(Bounds::default()),
                cutoff: None,
                visitor: Facts::default(),
                max_per_principal: 1_000,
                indexed: IndexedLabels::default(),
                at_cap: AtCap::EndOldest,
                commit_on_server_error: false,
                listener: None,
                on_failure: None,
                kept: Vec::new(),
                tasks: TaskTracker::new(),
                end_watcher: Arc::default(),
            }),
        }
    }

    /// Sets the realm of the sessions: `session` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, Realm, SessionLayer};
    ///
    /// let admins = SessionLayer::new(MemoryStore::new()).realm(Realm::new("admin").unwrap());
    /// assert!(Realm::new("").is_err());
    /// ```
    #[must_use]
    pub fn realm(self, realm: Realm) -> Self {
        self.with(|state| {
            state.realm = realm;
            state.separate_cutoff_again();
        })
    }

    /// Sets the keys under which secrets are hashed. By default they are hashed without a key.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Keyring, MemoryStore, SessionLayer};
    ///
    /// let keyring = Keyring::keyed("2026-11", &[7; 32]).unwrap();
    /// let sessions = SessionLayer::new(MemoryStore::new()).keyring(keyring);
    /// ```
    #[must_use]
    pub fn keyring(self, keyring: Keyring) -> Self {
        self.with(|state| state.keyring = Replaceable::new(Arc::new(keyring)))
    }

    /// Seals values at rest. Off by default. See [Sealed values](#sealed-values).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SealKeys, SessionLayer};
    ///
    /// let keys = SealKeys::new("2026-11", &[7; 32]).unwrap();
    /// let sessions = SessionLayer::new(MemoryStore::new()).seal(keys);
    /// ```
    #[cfg(feature = "seal")]
    #[must_use]
    pub fn seal(self, keys: SealKeys) -> Self {
        self.with(|state| state.seal = Seal::under(keys))
    }

    /// Sets the attributes of the cookie: [`CookieProfile::host`] by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{CookieProfile, MemoryStore, SessionLayer};
    ///
    /// let shop = CookieProfile::host().name("__Host-shop");
    /// assert!(SessionLayer::new(MemoryStore::new()).cookie(shop).is_ok());
    /// let below_a_path = CookieProfile::host().path("/cart");
    /// assert!(SessionLayer::new(MemoryStore::new()).cookie(below_a_path).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When no browser would accept such a cookie.
    pub fn cookie(self, cookie: CookieProfile) -> Result<Self, CookieError> {
        cookie.check()?;
        Ok(self.with(|state| state.cookie = cookie))
    }

    /// Sets where the route to a session travels: [`Affinity::Cookie`] by default. Has no effect for a store that
    /// does not place sessions on nodes.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Affinity, MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).affinity(Affinity::Suffix);
    /// ```
    #[must_use]
    pub fn affinity(self, affinity: Affinity) -> Self {
        self.with(|state| state.affinity = affinity)
    }

    /// Serves clients without cookies as well: off by default.
    ///
    /// A request with a header of this name, also an empty one, is served by it alone: its token is
    /// read there, a new one is answered there, and cookies count for nothing. An empty header in the
    /// answer means that the client must forget the token. Where such a token is kept is the client's
    /// concern; a page must not keep it where its scripts can reach it.
    ///
    /// A request without the header is served by its cookie. So a client that forgets the header gets
    /// a session of its own in a cookie: where no browser is served, use
    /// [`header_only`](SessionLayer::header_only).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// assert!(SessionLayer::new(MemoryStore::new()).header("x-session".parse().unwrap()).is_ok());
    /// assert!(SessionLayer::new(MemoryStore::new()).header("authorization".parse().unwrap()).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When the header already means something in HTTP, such as `Authorization` or `Cookie`.
    pub fn header(self, name: HeaderName) -> Result<Self, HeaderError> {
        header::check(&name)?;
        let vary = HeaderValue::try_from(format!("Cookie, {name}"));
        let vary = vary.expect("a header's name is a header's value");
        Ok(self.with(|state| (state.header, state.vary) = (Some(name), vary)))
    }

    /// Serves clients by a header alone, as [`header`](SessionLayer::header) describes it: no cookie is
    /// read or set. A request without the header is served as one whose header is empty.
    ///
    /// ```
    /// # use steadfast::{MemoryStore, SessionLayer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let api = SessionLayer::new(MemoryStore::new()).header_only("x-session".parse()?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`header`](SessionLayer::header).
    pub fn header_only(self, name: HeaderName) -> Result<Self, HeaderError> {
        let vary = HeaderValue::from_name(name.clone());
        let layer = self.header(name)?;
        Ok(layer.with(|state| (state.header_only, state.vary) = (true, vary)))
    }

    /// Sets how long a session lives: [`Lifetime::OWASP_LOW_RISK`] by default. A sign-in may ask for a shorter
    /// life, see [`Login::lifetime`](crate::Login::lifetime).
    ///
    /// A shorter absolute lifetime than before also ends existing sessions. One exception: a write that a
    /// request sends without reading anything first is still stored in such a session, but no request of
    /// this layer reads it.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Lifetime, MemoryStore, SessionLayer};
    ///
    /// let bank = SessionLayer::new(MemoryStore::new()).lifetime(Lifetime::OWASP_HIGH_VALUE);
    /// ```
    #[must_use]
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        self.with(|state| {
            state.bounds = Replaceable::new(Bounds::new(lifetime));
            state.separate_cutoff_again();
        })
    }

    /// Sets how long a visitor's session lives without a request: as long as [`lifetime`](Self::lifetime) says by
    /// default, and never longer than that. A sign-in replaces this limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// assert!(SessionLayer::new(MemoryStore::new()).visitor_idle(Duration::from_secs(600)).is_ok());
    /// assert!(SessionLayer::new(MemoryStore::new()).visitor_idle(Duration::ZERO).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When it is under a second or over [`Lifetime::MAX`].
    pub fn visitor_idle(self, idle: Duration) -> Result<Self, LifetimeError> {
        let lifetime = Lifetime::new(idle, Lifetime::MAX)?;
        let visitor = Facts::of(Some(lifetime), None, []).expect("without labels");
        Ok(self.with(|state| state.visitor = visitor))
    }

    /// Sets how many sessions a user may have, at least 1: 1,000 by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new()).max_per_principal(1);
    /// layer.sessions().issue("alice").await?;
    /// layer.sessions().issue("alice").await?;
    /// assert_eq!(layer.sessions().count("alice").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_per_principal(self, sessions: usize) -> Self {
        self.with(|state| state.max_per_principal = sessions.max(1))
    }

    /// Sets the names of the labels by which [`Sessions::end_labelled`] finds sessions, such as the `sid` of an
    /// identity provider: at most two, none by default.
    ///
    /// A sign-in with an indexed label costs one more round trip and one more small record, which is kept
    /// until the absolute deadline of the sign-in. Other sign-ins cost nothing extra. All nodes that share
    /// a store must index the same names.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// assert!(SessionLayer::new(MemoryStore::new()).index_labels(["sid"]).is_ok());
    /// assert!(SessionLayer::new(MemoryStore::new()).index_labels(["a", "b", "c"]).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When there are more than two, or a label cannot have such a name.
    pub fn index_labels<'n>(
        self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, LimitError> {
        let indexed = IndexedLabels::new(names)?;
        Ok(self.with(|state| state.indexed = indexed))
    }

    /// Lets [`Sessions::end_everybody`] end all sessions of the realm, which then takes this long, at least
    /// 100 ms. Off by default.
    ///
    /// It costs each node one small list from the store per half of this time, once requests use
    /// sessions. A node that cannot read that list for this long fails requests with 503, because a
    /// session that it would serve may have ended. All nodes that share a store must set the same time.
    ///
    /// A layer with this setting shares neither [`replace_lifetime`](Self::replace_lifetime) nor
    /// [`close`](Self::close) with the layer that it was cloned from.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).end_everybody_within(Duration::from_secs(2));
    /// ```
    #[must_use]
    pub fn end_everybody_within(self, time: Duration) -> Self {
        self.with(|state| state.separate_cutoff(time))
    }

    /// Sets how to handle a sign-in of a user who is at the maximum number of sessions: by default, the sessions
    /// with the oldest authentication end. [`AtCap::Refuse`] answers [`Error::TooManySessions`], 409, and ends
    /// nothing.
    ///
    /// ```
    /// use steadfast::{AtCap, MemoryStore, SessionLayer};
    ///
    /// let sessions =
    ///     SessionLayer::new(MemoryStore::new()).max_per_principal(2).at_cap(AtCap::Refuse);
    /// ```
    #[must_use]
    pub fn at_cap(self, at_cap: AtCap) -> Self {
        self.with(|state| state.at_cap = at_cap)
    }

    /// Sets how long a request waits for the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{MemoryStore, SessionLayer, Timeouts};
    ///
    /// let timeouts = Timeouts::default().normal(Duration::from_millis(500));
    /// let sessions = SessionLayer::new(MemoryStore::new()).timeouts(timeouts);
    /// ```
    #[must_use]
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        self.with(|state| state.client.timeouts = timeouts)
    }

    /// Sets whether a response of 500 and above still commits. Off by default, so that a handler that failed
    /// half-way leaves nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).commit_on_server_error(true);
    /// ```
    #[must_use]
    pub fn commit_on_server_error(self, commit: bool) -> Self {
        self.with(|state| state.commit_on_server_error = commit)
    }

    /// Returns the sessions of this layer for use outside a request: for administrators, callbacks, imports and
    /// tests.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue("alice").await?;
    /// assert_eq!(layer.sessions().count("alice").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> Sessions {
        Sessions::new(Arc::clone(&self.state))
    }

    /// Returns the store of these sessions.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// assert!(!layer.store().places_sessions(), "a store in memory has one node");
    /// ```
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.state.client.store
    }

    /// Replaces the keys under which secrets are hashed, in the running service: for this layer, its clones, and
    /// the routers built with them. See [`Keyring`] for the steps of a change of keys.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Keyring, MemoryStore, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let keyring = Keyring::keyed("2026-11", &[7; 32]).unwrap().accept_unkeyed();
    /// layer.replace_keyring(keyring);
    /// ```
    pub fn replace_keyring(&self, keyring: Keyring) {
        self.state.keyring.replace(Arc::new(keyring));
    }

    /// Replaces the keys under which values are sealed, in the running service: for this layer, its clones, and
    /// the routers built with them. Returns `false`, and seals nothing, if the layer was built without such keys:
    /// build it with [`SealKeys::write_plain`] to begin later.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SealKeys, SessionLayer};
    ///
    /// let keys = || SealKeys::new("2026-11", &[7; 32]).unwrap();
    /// let layer = SessionLayer::new(MemoryStore::new()).seal(keys().write_plain());
    /// assert!(layer.replace_seal_keys(keys()));
    /// assert!(!SessionLayer::new(MemoryStore::new()).replace_seal_keys(keys()));
    /// ```
    #[cfg(feature = "seal")]
    #[must_use]
    pub fn replace_seal_keys(&self, keys: SealKeys) -> bool {
        self.state.seal.replace(keys)
    }

    /// Replaces the lifetimes, in the running service: for this layer, its clones, and the routers built with
    /// them. A shorter absolute lifetime also ends sessions that began under a longer one, with the exception that
    /// [`lifetime`](Self::lifetime) describes.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Lifetime, MemoryStore, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.replace_lifetime(Lifetime::OWASP_HIGH_VALUE);
    /// ```
    pub fn replace_lifetime(&self, lifetime: Lifetime) {
        self.state.bounds.replace_lifetime(lifetime);
        self.state.end_watcher.recheck_all(self.state.client.store.env());
    }

    /// Tells every event stream and WebSocket that waits for [`Session::ended`](crate::Session::ended)
    /// to end, now and from now on, because the process stops. Call it before a graceful shutdown
    /// waits for open responses, which would otherwise wait for these streams for ever. The sessions
    /// live on.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// // On SIGTERM, before the graceful shutdown of the server:
    /// layer.close();
    /// ```
    pub fn close(&self) {
        self.state.end_watcher.close();
    }

    /// Sets the layer's own response when a commit fails after the handler has answered:
    /// [`Error::to_response`] by default.
    ///
    /// The layer marks the response with a [`SessionFailure`](crate::SessionFailure) in its extensions, and
    /// forbids caches to store it. Handlers answer errors of their own calls themselves.
    ///
    /// ```
    /// # use steadfast::{MemoryStore, SessionLayer};
    /// let sessions = SessionLayer::new(MemoryStore::new()).on_failure(|error| {
    ///     error.to_response().map(|text| format!("sorry: {text}"))
    /// });
    /// ```
    #[must_use]
    pub fn on_failure(
        self,
        render: impl Fn(&Error) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        self.with(|state| state.on_failure = Some(Arc::new(render)))
    }

    /// Calls `listener` for every session that is created, changes hands or ends, for example to keep an
    /// audit log, or to send a mail about a new device. Drop events whose id you have seen.
    ///
    /// - **An action of a request or an administrator** is reported once, on the node that did it, after the
    ///   store confirmed the change. If the process dies at that moment, the event is lost. The listener
    ///   runs within the request, so it must return quickly: send the event to a task. If it panics, the
    ///   panic is logged and the request goes on.
    /// - **An end without a request** (a session expired, was evicted, or ended because its user had too many)
    ///   is reported at least once, by one node. The store keeps such an ending until the listener has
    ///   returned: if it panics, or the process dies, the event is reported again after 30 s, perhaps on
    ///   another node. Many endings of the same moment are spread over seconds. The documentation of
    ///   [`Endings`](steadfast_core::Endings) says which ends a store cannot report.
    ///
    /// Layers that share a store share its endings: any one of them reports the endings of all realms. Give
    /// such layers the same listener, which finds the realm in [`SessionEvent::realm`].
    ///
    /// A sign-in with labels lists the user's sessions once, in the background, to find out which labels
    /// are new. The layer and its clones keep the listener, and with it a channel that it sends to.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionEventKind, SessionLayer};
    ///
    /// let (mails, queue) = std::sync::mpsc::channel();
    /// let sessions = SessionLayer::new(MemoryStore::new()).on_event(move |event| {
    ///     if let SessionEventKind::SignedIn { new_labels: Some(labels), .. } = &event.kind {
    ///         if labels.iter().any(|(name, _)| name == "device") {
    ///             mails.send(event.clone()).ok();
    ///         }
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn on_event(self, listener: impl Fn(&SessionEvent) + Send + Sync + 'static) -> Self {
        self.with(|state| state.listener = Some(Listener::new(listener)))
    }

    /// Adds headers that a failure keeps of the response it replaces, such as one that an inner layer adds to every
    /// response: see [Order of layers](#order-of-layers).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// let sessions = SessionLayer::new(MemoryStore::new()).keep_headers(["x-build".parse().unwrap()]);
    /// ```
    #[must_use]
    pub fn keep_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|state| state.kept.extend(names))
    }

    /// Waits for work that outlives its request: touches, and commits whose client disconnected. Call it after the
    /// server has stopped serving and before the process ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.join().await;
    /// assert!(!layer.has_pending_work());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn join(&self) {
        self.state.tasks.close();
        self.state.tasks.wait().await;
    }

    /// Returns true while work that outlives its request is in progress.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{MemoryStore, SessionLayer};
    ///
    /// assert!(!SessionLayer::new(MemoryStore::new()).has_pending_work());
    /// ```
    pub fn has_pending_work(&self) -> bool {
        !self.state.tasks.is_empty()
    }

    /// The header in which every client has its token, if none has it in a cookie.
    #[cfg(feature = "testing")]
    pub(crate) fn header_of_all_tokens(&self) -> Option<&HeaderName> {
        self.state.header.as_ref().filter(|_| self.state.header_only)
    }

    fn with(mut self, change: impl FnOnce(&mut LayerState)) -> Self {
        change(Arc::make_mut(&mut self.state));
        self
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.state.follow_endings();
        SessionService::new(inner, Arc::clone(&self.state))
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}
