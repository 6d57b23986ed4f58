//! The session as a handler holds it.

mod credentials;
mod state;
mod guard;
mod commit;

mod key;
mod login;
mod csrf;
mod flash;
mod signed_in;
mod changes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::lock::Mutex;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use steadfast_core::{
    DecodeError, Deletion, EncodeError, EndReason, Env, Facts, Patch, Principal, RawJson, RecordId,
    RequestHint, Revocation, SessionInfo, StoreError, Timestamp, Version,
};
use time::UtcDateTime;

pub use changes::{SessionChange, SessionChanges};
pub use key::{AsKey, Key, KeyName};
pub use login::Login;
pub use signed_in::SignedIn;

pub(crate) use commit::{Commit, CommitFuture, CompanionCookies, ResponseEffects};
pub(crate) use credentials::RequestCredentials;
pub(crate) use state::TokenAction;

use crate::end_watcher::EndStatus;
use crate::error::Error;
use crate::events::Actor;
use crate::layer_state::LayerState;
use crate::store_client::{Purpose, StoreClient};
use credentials::PresentedToken;
use guard::{Sent, SessionGuard};
use state::{Intent, State};

/// The session of a request.
///
/// A handle is cheap to clone, and every clone means the same session. It is *lazy*: the store is
/// asked when the first call needs it, and a request that never calls costs it nothing.
///
/// # What acts when
///
/// | calls | act | on an error of the handler |
/// | --- | --- | --- |
/// | `get`, `entries`, `status`, `handle`, `principal` | load once | |
/// | `created`, `authenticated`, `deadlines`, `expires_in`, `facts` | load once | |
/// | `reload`, `touch` | immediately | stay |
/// | `insert`, `discard`, `remove`, `clear` | with the commit | dropped |
/// | `login`, `elevate`, `reauthenticate`, `cycle_id` | with the commit, after a load | dropped |
/// | `flash` | with the commit, after a load | dropped |
/// | `update`, `try_update`, `increment`, `save`, `csrf_token` | immediately, with what is buffered | stay |
/// | `pop`, `take_flashes` | immediately, with what is buffered, after a load | stay |
/// | `flush`, `end`, `end_others`, `end_all`, `list` | immediately | stay |
///
/// The *commit* is one atomic patch before the response head is sent, so that the request which
/// follows a redirect finds it on any node. A response of 500 and above drops what is buffered, unless
/// [`commit_on_server_error`](crate::SessionLayer::commit_on_server_error) says otherwise; so does a
/// panic. A response of 408 always does: it is what a timeout answers for a handler that never
/// returned.
///
/// # Concurrent requests
///
/// Writes to different keys never lose each other. Of two `insert`s to one key the later commit
/// wins; where that is not enough, [`update`](Session::update) and
/// [`increment`](Session::increment) are atomic across nodes. An ended session always stays ended: writes
/// of a request that had loaded it are dropped, and its response sets no cookie.
///
/// # Examples
///
/// ```
/// use steadfast::{Error, Key, Session};
///
/// const CART: Key<Vec<String>> = Key::new("cart");
///
/// async fn add_to_cart(session: Session) -> Result<String, Error> {
///     let cart = session
///         .update(CART, |cart| {
///             let mut cart = cart.unwrap_or_default();
///             cart.push("tea".to_owned());
///             cart
///         })
///         .await?;
///     Ok(format!("{} in your cart", cart.len()))
/// }
/// ```
///
/// # Errors
///
/// After a call failed because the store could not say whether there is a session, every later one
/// is [`Error::Poisoned`], nothing is committed, and a response below 400 becomes 503. After the
/// response head is settled, calls that need a cookie or the commit fail with [`Error::TooLate`]. After
/// another user signed in to the session, every call fails with [`Error::Superseded`]. See
/// [`guide::streams`](crate::guide::streams) for handles that outlive their request.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

impl Session {
    /// Returns the value under a key as this request sees it: its own writes on top of what was loaded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("theme", "dark").await?;
    /// assert_eq!(session.get("theme").await?, Some("dark".to_owned()));
    /// assert_eq!(session.get::<u32>("visits").await?, None);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, or the value is of another type; it is left as it is then.
    pub async fn get<T: DeserializeOwned>(&self, key: impl AsKey<T>) -> Result<Option<T>, Error> {
        let key = key.name();
        let guard = self.read().await?;
        guard.value(&key)?.map(|json| decode(&key, &json)).transpose()
    }

    /// Sets a key with the commit. Does not load the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("cart", ["tea", "milk"]).await?;
    /// assert_eq!(session.get::<Vec<String>>("cart").await?, Some(vec!["tea".into(), "milk".into()]));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the value would not come back from JSON as it is, or the key or the value is over a limit.
    /// Under a [`Key`], the value is read back here to see that; under a plain name, numbers and
    /// optional values are looked at.
    pub async fn insert<T: Serialize>(&self, key: impl AsKey<T>, value: T) -> Result<(), Error> {
        let json = key.encode(&value);
        let key = key.name();
        let json = self.accept(&key, json)?;
        let mut guard = self.write().await?;
        // A value that does not open is not overwritten, so that a wrong key cannot destroy it.
        if self.inner.layer.seal.is_on() {
            guard.value(&key)?;
        }
        Ok(guard.state.pending.put(&key, json)?)
    }

    /// Removes a key with the commit, and returns its value. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("coupon", "A7").await?;
    /// assert_eq!(session.remove("coupon").await?, Some("A7".to_owned()));
    /// assert_eq!(session.get::<String>("coupon").await?, None);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, or the value is of another type; it is removed all the same.
    pub async fn remove<T: DeserializeOwned>(
        &self,
        key: impl AsKey<T>,
    ) -> Result<Option<T>, Error> {
        let key = key.name();
        let mut guard = self.write().await?;
        guard.read().await?;
        let value = guard.value(&key);
        let value = value.and_then(|json| json.map(|json| decode(&key, &json)).transpose());
        guard.state.pending.remove(&key)?;
        value
    }

    /// Removes a key with the commit. Does not load the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("coupon", "A7").await?;
    /// session.discard("coupon").await?;
    /// assert_eq!(session.get::<String>("coupon").await?, None);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the key is over a limit.
    pub async fn discard(&self, key: impl KeyName) -> Result<(), Error> {
        Ok(self.write().await?.state.pending.remove(&key.name())?)
    }

    /// Removes every key with the commit. The user stays signed in.
    ///
    /// It removes what was written before it, also by requests this one has not seen.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// session.insert("cart", 3).await?;
    /// session.clear().await?;
    /// assert!(session.entries().await?.is_empty());
    /// assert_eq!(session.principal().await?.unwrap().id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When nothing can be buffered any more.
    pub async fn clear(&self) -> Result<(), Error> {
        self.write().await?.state.pending.clear();
        Ok(())
    }

    /// Returns every key that has a value, and the value as JSON, as this request sees them: its own writes on
    /// top of what was loaded.
    ///
    /// It leaves out the crate's own values: the secret of
    /// [`csrf_token`](Session::csrf_token), and flash messages. A [`Key::pre_auth`] has a `~` in front.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("theme", "dark").await?;
    /// let entries = session.entries().await?;
    /// assert_eq!(entries.keys().collect::<Vec<_>>(), ["theme"]);
    /// assert_eq!(entries["theme"].as_bytes(), br#""dark""#);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn entries(&self) -> Result<BTreeMap<String, RawJson>, Error> {
        let guard = self.read().await?;
        let keys = guard.state.keys().into_iter().filter(|key| !is_reserved(key));
        let entry = |key: &str| {
            let value = guard.value(key).transpose()?;
            Some(value.map(|json| (key.to_owned(), RawJson::copied(&json))))
        };
        keys.filter_map(entry).collect()
    }

    /// Removes a key, immediately and atomically across nodes, and returns its value: of several
    /// concurrent requests, exactly one gets the value.
    ///
    /// Like [`update`](Session::update), it sends the buffered writes along. The value is gone even if the
    /// handler fails afterwards, or the response never reaches the client.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Error, Key, Session};
    ///
    /// const STATE: Key<String> = Key::pre_auth("oauth_state");
    ///
    /// /// A state is good for one callback, however many come in at the same time.
    /// async fn check(session: &Session, state: &str) -> Result<bool, Error> {
    ///     Ok(session.pop(STATE).await?.is_some_and(|known| known == state))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Session::update); or when the value is of another type, and then it is left as
    /// it is.
    pub async fn pop<T: DeserializeOwned>(&self, key: impl AsKey<T>) -> Result<Option<T>, Error> {
        let key = key.name();
        let mut value = None;
        let accept = |taken: &[RawJson]| {
            value = taken.first().map(|json| decode(&key, json.as_bytes())).transpose()?;
            Ok(())
        };
        self.lock().await.take(&key, |known| known == key, accept).await?;
        Ok(value)
    }

    /// Changes the value under a key, immediately and atomically across nodes, and returns the committed
    /// value.
    ///
    /// `f` computes the new value from the one it replaces; it runs again when another request was
    /// faster, so it must have no effect of its own. Other keys never make it run again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// let cart = session
    ///     .update("cart", |cart: Option<Vec<String>>| {
    ///         let mut cart = cart.unwrap_or_default();
    ///         cart.push("tea".to_owned());
    ///         cart
    ///     })
    ///     .await?;
    /// assert_eq!(cart, ["tea"]);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails, when other requests kept changing the key until the deadline, or when the
    /// session was ended or rotated by another request before this one read it.
    pub async fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsKey<T>,
        mut f: impl FnMut(Option<T>) -> T,
    ) -> Result<T, Error> {
        self.try_update(key, |old| Ok::<_, Error>(f(old))).await
    }

    /// Works like [`update`](Session::update), with an `f` that may refuse: then nothing changes, and the
    /// error of `f` is returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Error, Key, Session};
    ///
    /// const TICKETS: Key<u32> = Key::new("tickets");
    ///
    /// enum Refused {
    ///     TooMany,
    ///     Session(Error),
    /// }
    ///
    /// impl From<Error> for Refused {
    ///     fn from(error: Error) -> Self {
    ///         Self::Session(error)
    ///     }
    /// }
    ///
    /// async fn add_ticket(session: &Session) -> Result<u32, Refused> {
    ///     let add = |tickets: Option<u32>| match tickets.unwrap_or(0) {
    ///         8.. => Err(Refused::TooMany),
    ///         tickets => Ok(tickets + 1),
    ///     };
    ///     session.try_update(TICKETS, add).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Session::update), and those of `f`.
    pub async fn try_update<T, E>(
        &self,
        key: impl AsKey<T>,
        mut f: impl FnMut(Option<T>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let key = key.name();
        let mut committed = None;
        let change = |old: Option<&[u8]>| {
            let new = f(old.map(|json| decode(&key, json)).transpose()?)?;
            let json = self.accept(&key, RawJson::encode_checked(&new))?;
            committed = Some(new);
            Ok::<_, E>(json)
        };
        self.lock().await.update(&key, change).await?;
        Ok(committed.expect("an update that succeeded computed a value"))
    }

    /// Adds to a counter, immediately and atomically across nodes, and returns its new value; a missing
    /// one counts as 0. Loads nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert_eq!(session.increment("visits", 1).await?, 1);
    /// assert_eq!(session.increment("visits", 2).await?, 3);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails, when the value is not an integer or the sum would not fit in an `i64`, or when the
    /// session was ended or rotated by another request.
    pub async fn increment(&self, key: impl AsKey<i64>, by: i64) -> Result<i64, Error> {
        let key = key.name();
        let mut guard = self.lock().await;
        let mut patch = Patch::from(guard.state.pending.clone());
        patch.add(&key, by)?;
        let own = match patch.op(&key) {
            Some(steadfast_core::Op::Put(value)) => value.as_integer(),
            _ => None,
        };
        let sent = guard.send(&mut patch).await;
        if self.inner.layer.seal.is_on() && matches!(sent, Err(Error::NotACounter { .. })) {
            return guard.add_sealed(&key, by).await;
        }
        match sent? {
            Sent::Applied(applied) => {
                let counted = applied.counters.iter().find(|(name, _)| **name == key);
                counted.map(|(_, value)| *value).or(own).ok_or_else(no_counter)
            }
            Sent::Nothing | Sent::Conflict => Err(no_counter()),
        }
    }

    /// Commits the buffered writes immediately, and returns the result. A rotation or a login still waits for
    /// the commit at the end of the request.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.insert("draft", "Dear Bob").await?;
    /// assert!(session.save().await?.version.is_some());
    /// assert!(session.save().await?.version.is_none(), "nothing is left to save");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store fails, or the session was ended or rotated by another request.
    pub async fn save(&self) -> Result<Saved, Error> {
        let mut guard = self.lock().await;
        if guard.state.pending.is_empty() {
            guard.state.check_current()?;
            return Ok(Saved::default());
        }
        let mut patch = Patch::from(guard.state.pending.clone());
        Ok(match guard.send(&mut patch).await? {
            Sent::Applied(applied) => {
                Saved { version: Some(applied.version), degraded: applied.degraded }
            }
            Sent::Nothing | Sent::Conflict => Saved::default(),
        })
    }

    /// Signs a user in with the commit, always with a fresh token.
    ///
    /// Restarts the absolute lifetime. Values are kept, except under keys made with [`Key::pre_auth`]; if
    /// another user was signed in, none of their values is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Login;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.login(Login::new("alice").label("device", "Firefox on Linux")).await?;
    /// assert_eq!(session.principal().await?.unwrap().id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, or the principal's id or a label has the wrong form.
    pub async fn login(&self, login: impl Into<Login>) -> Result<(), Error> {
        let login = login.into();
        let principal = Principal::new(self.inner.layer.realm.clone(), &login.principal)?;
        let layer = &self.inner.layer;
        let terms = login.terms(layer.max_per_principal, layer.at_cap)?;
        let mut guard = self.write().await?;
        guard.read().await?;
        guard.state.prepare_login(&principal);
        guard.state.intend(Intent::Login(principal, Box::new(terms)));
        Ok(())
    }

    /// Replaces the token with the commit, for a user who gets more permissions.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert!(matches!(session.elevate().await, Err(Error::NotSignedIn)));
    /// session.login("alice").await?;
    /// session.elevate().await?;
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, the store cannot be asked, or another request was first.
    pub async fn elevate(&self) -> Result<(), Error> {
        self.rotate_signed_in(Intent::Elevate).await
    }

    /// Replaces the token and restarts the absolute lifetime with the commit, after the user has proved their
    /// identity again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// // The user has just typed the password again:
    /// client.session(|session| async move { session.reauthenticate().await }).await?;
    /// let is_recent = client
    ///     .session(|session| async move { session.authenticated_within(Duration::from_secs(60)).await })
    ///     .await?;
    /// assert!(is_recent);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, the store cannot be asked, or another request was first.
    pub async fn reauthenticate(&self) -> Result<(), Error> {
        self.rotate_signed_in(Intent::Reauthenticate).await
    }

    /// Replaces the token with the commit. The session itself stays the same, and concurrent requests keep it.
    ///
    /// If another request rotated first, its token is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// let handle = client.session(|session| async move { session.handle().await }).await?;
    /// client.session(|session| async move { session.cycle_id().await }).await?;
    /// assert_eq!(client.session(|session| async move { session.handle().await }).await?, handle);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn cycle_id(&self) -> Result<(), Error> {
        let mut guard = self.write().await?;
        guard.read().await?;
        guard.state.intend(Intent::Cycle);
        Ok(())
    }

    /// Ends the session immediately, and removes the token with the response. A later write in the same
    /// request starts another session.
    ///
    /// Success means that the store confirmed the end: no node accepts the token any more. If the request
    /// brought several tokens, all sessions that they open end. The call runs to completion even if the
    /// client disconnects.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// client.session(|session| async move { session.flush().await }).await?;
    /// let user = client.session(|session| async move { session.principal().await }).await?;
    /// assert_eq!(user, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not confirmed; or [`Error::Superseded`] when another request just replaced the token
    /// or signed another user in, because this request then has no right to end their session.
    pub async fn flush(&self) -> Result<(), Error> {
        self.detached(|session| async move { session.lock_to_end().await.end().await }).await
    }

    /// Loads the session again, so that reads see what other requests committed since the first load.
    ///
    /// Uncommitted writes of this handle are kept on top. Long-lived handles need this call: without it, a
    /// stream sees its session as it was at the first read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// session.reload().await?;
    /// let unread: u64 = session.get("unread").await?.unwrap_or(0);
    /// assert_eq!(unread, 0);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] when the session ended, [`Error::Superseded`] when another user signed in to it, or
    /// when the store cannot be asked.
    pub async fn reload(&self) -> Result<(), Error> {
        let mut guard = self.lock().await;
        guard.refresh().await?;
        guard.state.check_current()
    }

    /// Keeps the session alive as a request does: moves its idle deadline, at most once per 1/20 of the idle
    /// lifetime. Calls in between cost nothing.
    ///
    /// A request does this by itself. A stream or a WebSocket that is in use calls it now and then,
    /// because waiting for [`ended`](Session::ended) does not keep a session alive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// client.session(|session| async move { session.touch().await }).await?;
    /// let visitor = Site::new(|layer| layer).visitor();
    /// let touched = visitor.session(|session| async move { session.touch().await }).await;
    /// assert!(matches!(touched, Err(Error::NoSession)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSession`] when there is none, [`Error::Ended`] when it ended,
    /// [`Error::Superseded`] when another user signed in to it, or when the store cannot be asked.
    pub async fn touch(&self) -> Result<(), Error> {
        let mut guard = self.read().await?;
        guard.touch_now().await
    }

    /// Returns whether the request brought a session, and the reason if it did not. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Status;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert_eq!(session.status().await?, Status::New);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn status(&self) -> Result<Status, Error> {
        Ok(self.read().await?.state.origin)
    }

    /// Returns the public name of this session, which lists show. It opens nothing. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let handle = session.handle().await?;
    /// assert_eq!(handle, Some(session.list().await?[0].id));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn handle(&self) -> Result<Option<RecordId>, Error> {
        Ok(self.read().await?.state.live().map(|live| live.id))
    }

    /// Returns the signed-in user, including one whom this request just signed in. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// assert_eq!(session.principal().await?.unwrap().id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn principal(&self) -> Result<Option<Principal>, Error> {
        Ok(self.read().await?.state.principal().cloned())
    }

    /// Returns the time at which the session was created. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// assert!(session.created().await?.is_some());
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn created(&self) -> Result<Option<UtcDateTime>, Error> {
        Ok(self.read().await?.state.live().map(|live| live.record.created.into()))
    }

    /// Returns the time at which the user last proved their identity. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// assert_eq!(session.authenticated().await?, session.created().await?);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn authenticated(&self) -> Result<Option<UtcDateTime>, Error> {
        Ok(self
            .read()
            .await?
            .state
            .live()
            .and_then(|live| live.record.authenticated)
            .map(Into::into))
    }

    /// Returns true if the user proved their identity within this time. Call it before an action that needs more
    /// than an old sign-in (step-up, ASVS 7.5.1). Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// assert!(session.authenticated_within(Duration::from_secs(300)).await?);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn authenticated_within(&self, time: Duration) -> Result<bool, Error> {
        let now = self.inner.env().now();
        Ok(self.authenticated().await?.is_some_and(|at| now.since(at.into()) <= time))
    }

    /// Returns the times at which the session ends: if it is not used, and however much it is used. The use by
    /// this request counts once the request ends. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let deadlines = session.deadlines().await?.unwrap();
    /// assert!(deadlines.idle <= deadlines.absolute);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn deadlines(&self) -> Result<Option<SessionDeadlines>, Error> {
        let guard = self.read().await?;
        Ok(guard.state.live().map(|live| {
            let absolute = self.inner.layer.bounds.absolute_deadline(&live.record);
            let idle = live.idle_deadline().min(absolute).into();
            SessionDeadlines { idle, absolute: absolute.into() }
        }))
    }

    /// Returns how much longer the session lives if it is not used from now on. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Lifetime;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// assert_eq!(session.expires_in().await?, Some(Lifetime::OWASP_LOW_RISK.idle()));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn expires_in(&self) -> Result<Option<Duration>, Error> {
        let now = self.inner.env().now();
        Ok(self.deadlines().await?.map(|deadlines| Timestamp::from(deadlines.idle).since(now)))
    }

    /// Returns the facts that the sign-in gave the session: its labels, its own lifetime, and whether its cookie
    /// is persistent. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Login;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in(Login::new("alice").label("device", "phone")).await;
    /// # client.session(|session| async move {
    /// assert_eq!(session.facts().await?.label("device"), Some("phone"));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let guard = self.read().await?;
        Ok(guard.state.live().map(|live| live.record.facts.clone()).unwrap_or_default())
    }

    /// Returns the user's live sessions, with their labels and the times at which they were last used.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let sessions = session.list().await?;
    /// assert_eq!(sessions.len(), 1);
    /// assert!(sessions[0].last_used.is_some());
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, or the store cannot be asked.
    pub async fn list(&self) -> Result<Vec<SessionInfo>, Error> {
        self.list_for(Purpose::Use).await
    }

    /// Ends another session of the signed-in user, or this one, immediately. Returns `false`, and changes
    /// nothing, if the session does not belong to the user.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let site = Site::new(|layer| layer);
    /// # let (laptop, phone) = (site.signed_in("alice").await, site.signed_in("alice").await);
    /// let handle = phone.session(|session| async move { session.handle().await }).await?.unwrap();
    /// assert!(laptop.session(|session| async move { session.end(handle).await }).await?);
    /// assert!(!laptop.session(|session| async move { session.end(handle).await }).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, or it is not confirmed.
    pub async fn end(&self, handle: RecordId) -> Result<bool, Error> {
        if !self.list_for(Purpose::End).await?.iter().any(|info| info.id == handle) {
            return Ok(false);
        }
        let this = self.handle().await?.ok_or(Error::NoSession)?;
        if this == handle {
            return self.flush().await.map(|()| true);
        }
        let user = self.principal().await?;
        self.detached(move |session| async move {
            let layer = &session.inner.layer;
            let is_ended = layer.client.delete(handle, &Deletion::LOGOUT).await?.is_ended();
            if is_ended {
                let (why, by) = (EndReason::Logout, &Actor::Session(this));
                layer.ended(handle, user.as_ref(), why, by);
            }
            Ok(is_ended)
        })
        .await
    }

    /// Ends the user's other sessions immediately, and returns how many ended. Replaces this session's token with
    /// the commit.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let site = Site::new(|layer| layer);
    /// # let (laptop, phone) = (site.signed_in("alice").await, site.signed_in("alice").await);
    /// assert_eq!(laptop.session(|session| async move { session.end_others().await }).await?, 1);
    /// assert_eq!(phone.session(|session| async move { session.principal().await }).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, or it is not confirmed.
    pub async fn end_others(&self) -> Result<u64, Error> {
        self.detached(|session| async move {
            let mut guard = session.lock_to_end().await;
            guard.state.check_writable()?;
            let whose = guard.signed_in().await?;
            let this = guard.state.live().map(|live| live.id);
            let logout = Revocation { except: this, ..Revocation::LOGOUT };
            let ended = session.inner.client().delete_all(&whose, logout).await?;
            session.report_all_ended(&whose, ended, this, this);
            guard.state.intend(Intent::Cycle);
            Ok(ended)
        })
        .await
    }

    /// Ends every session of the signed-in user immediately, including this one, and returns how many ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let site = Site::new(|layer| layer);
    /// # let (laptop, phone) = (site.signed_in("alice").await, site.signed_in("alice").await);
    /// assert_eq!(laptop.session(|session| async move { session.end_all().await }).await?, 2);
    /// assert_eq!(phone.session(|session| async move { session.principal().await }).await?, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no user is signed in, or it is not confirmed.
    pub async fn end_all(&self) -> Result<u64, Error> {
        self.detached(|session| async move {
            let mut guard = session.lock_to_end().await;
            let whose = guard.signed_in().await?;
            let this = guard.state.live().map(|live| live.id);
            let logout = Revocation { except: this, ..Revocation::LOGOUT };
            let answer = session.inner.client().delete_all(&whose, logout).await;
            let others = guard.or_poison(answer)?;
            session.report_all_ended(&whose, others, this, this);
            // This one separately: it may just have become another user's session.
            let own = guard.end_own().await?;
            Ok(others + u64::from(own))
        })
        .await
    }

    /// Waits until this session is over, and returns the reason. Event streams and WebSockets, which outlive
    /// their request, call it.
    ///
    /// It returns within a moment where the store reports changes, and within
    /// [`RECHECK`](crate::layer::RECHECK) otherwise; at shutdown, it returns
    /// [`EndReason::Shutdown`] once [`SessionLayer::close`](crate::SessionLayer::close) is called. An
    /// outage is not an end. When another user signs in to the session, it is over for this handle:
    /// [`EndReason::Superseded`]. Waiting does not keep the session alive, see
    /// [`touch`](Session::touch).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::store::EndReason;
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// session.flush().await?;
    /// assert_eq!(session.ended().await?, EndReason::Logout);
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSession`] when there is no session to wait for, or when this is the first call that
    /// loads it and the store cannot be asked. The session lives on in that case, and waiting again
    /// may work.
    pub fn ended(&self) -> impl Future<Output = Result<EndReason, Error>> + Send + use<> {
        let session = self.clone();
        async move {
            let loaded = match session.end_status().await? {
                EndStatus::Live(loaded) => loaded,
                EndStatus::Ended(reason) => return Ok(reason),
            };
            let layer = Arc::clone(&session.inner.layer);
            // The wait outlives the request, and keeps nothing of it.
            drop(session);
            Ok(layer.end_watcher.ended(&layer.client, &layer.bounds, loaded).await)
        }
    }

    /// Follows the session for an event stream or a WebSocket: reports what other requests commit on any node,
    /// and the end.
    ///
    /// A change comes within a moment where the store reports changes, at the cost of one store call, and
    /// within [`RECHECK`](crate::layer::RECHECK) otherwise. Commits of this handle after its
    /// last load count as changes, too. As with [`ended`](Session::ended), waiting keeps nothing alive.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{SessionChange, store::EndReason};
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let mut changes = session.changes();
    /// session.flush().await?;
    /// assert_eq!(changes.next().await?, SessionChange::Ended(EndReason::Logout));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn changes(&self) -> SessionChanges {
        SessionChanges::new(self.clone())
    }

    /// Returns the session of this layer, or of another layer around it, by its realm.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert!(session.in_realm("session").is_some(), "the default realm");
    /// assert!(session.in_realm("admin").is_none());
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn in_realm(&self, realm: &str) -> Option<Session> {
        if self.inner.layer.realm.as_str() == realm {
            return Some(self.clone());
        }
        self.inner.outer.as_ref().and_then(|outer| outer.in_realm(realm))
    }

    pub(crate) fn new(
        layer: Arc<LayerState>,
        credentials: RequestCredentials,
        outer: Option<Self>,
    ) -> Self {
        let (state, is_abandoned) = (Mutex::new(State::new()), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { layer, credentials, outer, state, is_abandoned }) }
    }

    /// Drops what is buffered, here and in the layers around, because the handler never returned.
    pub(crate) fn abandon(&self) {
        match self.inner.state.try_lock() {
            Some(mut state) => state.discard(),
            // Another task is in the middle of a call: the commit comes after it, and sees this.
            None => self.inner.is_abandoned.store(true, Ordering::Release),
        }
        if let Some(outer) = &self.inner.outer {
            outer.abandon();
        }
    }

    /// The settings of this session's layer, and of the layers around it.
    pub(crate) fn and_outer(&self) -> impl Iterator<Item = &Arc<LayerState>> {
        std::iter::successors(Some(self), |session| session.inner.outer.as_ref())
            .map(|session| &session.inner.layer)
    }

    pub(crate) fn layer(&self) -> &Arc<LayerState> {
        &self.inner.layer
    }

    /// Called once the request is answered: handles that outlive it release its buffers.
    pub(crate) fn outlive_request(&self) {
        if Arc::strong_count(&self.inner) > 1 {
            self.inner.credentials.release_request();
        }
    }

    /// Returns true if the client asked for answers in a header instead of cookies.
    pub(crate) fn uses_header(&self) -> bool {
        self.inner.credentials.uses_header()
    }

    async fn lock(&self) -> SessionGuard<'_> {
        let mut state = self.inner.state.lock().await;
        state.touched = true;
        SessionGuard::new(&self.inner, state)
    }

    /// Locks the session for a call that ends sessions.
    async fn lock_to_end(&self) -> SessionGuard<'_> {
        SessionGuard { purpose: Purpose::End, ..self.lock().await }
    }

    async fn read(&self) -> Result<SessionGuard<'_>, Error> {
        let mut guard = self.lock().await;
        guard.read().await?;
        Ok(guard)
    }

    async fn end_status(&self) -> Result<EndStatus, Error> {
        self.read().await?.state.end_status()
    }

    async fn reload_for_stream(&self) -> bool {
        self.lock().await.reload_for_stream().await
    }

    async fn write(&self) -> Result<SessionGuard<'_>, Error> {
        let guard = self.lock().await;
        guard.state.check_writable()?;
        Ok(guard)
    }

    async fn rotate_signed_in(&self, intent: Intent) -> Result<(), Error> {
        let mut guard = self.write().await?;
        guard.read().await?;
        guard.state.check_current()?;
        guard.state.principal().ok_or(Error::NotSignedIn)?;
        guard.state.intend(intent);
        Ok(())
    }

    async fn list_for(&self, purpose: Purpose) -> Result<Vec<SessionInfo>, Error> {
        let mut guard = SessionGuard { purpose, ..self.lock().await };
        guard.read().await?;
        guard.check_in_time().await?;
        let whose = guard.state.principal().cloned().ok_or(Error::NotSignedIn)?;
        let own = guard.state.listed_under(&whose);
        drop(guard);
        let listed = self.inner.client().list(&whose, purpose).await?;
        // If the list lacks the session as it was loaded, the session ended, or another user signed in.
        if own.is_some_and(|own| listed.iter().all(|info| (info.id, info.authenticated) != own)) {
            let mut guard = SessionGuard { purpose, ..self.lock().await };
            guard.refresh().await?;
            guard.state.check_current()?;
        }
        Ok(self.inner.layer.bounded(listed))
    }

    fn report_all_ended(
        &self,
        user: &Principal,
        count: u64,
        except: Option<RecordId>,
        by: Option<RecordId>,
    ) {
        if let Some(by) = by {
            let by = &Actor::Session(by);
            self.inner.layer.all_ended(user, count, except, EndReason::Logout, by);
        }
    }

    /// Runs a call to completion even if the request is dropped.
    async fn detached<T, F>(&self, call: impl FnOnce(Self) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.inner.layer.detached(call(self.clone())).await
    }

    fn accept(&self, key: &str, json: Result<RawJson, EncodeError>) -> Result<RawJson, Error> {
        let json = json.map_err(|source| Error::Encode { key: key.to_owned(), source })?;
        self.inner.client().store.limits().check_value(json.as_bytes())?;
        Ok(json)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("realm", &self.inner.layer.realm).finish_non_exhaustive()
    }
}

/// The times at which a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionDeadlines {
    /// The end if the session is not used; never later than the absolute end.
    pub idle: UtcDateTime,
    /// The end however much the session is used.
    pub absolute: UtcDateTime,
}

/// The result of looking for the request's session. To serde, it is its [`name`](Self::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It brought no token.
    New,
    /// It brought the token of a live session.
    Existing,
    /// It brought a token that opens nothing: ended, or never issued.
    Unknown,
    /// It brought the token of an expired session. Stores may no longer know, and report `Unknown`.
    Expired,
    /// It brought a token that was replaced a moment ago, and sees no session.
    Superseded,
    /// It brought the token of a session that was lost with its node.
    Lost,
    /// It brought the tokens of several live sessions, so none of them is used.
    Ambiguous,
}

impl Status {
    /// Returns the variant's name in lower case, for the answers of applications.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::Status;
    ///
    /// assert_eq!(Status::Expired.name(), "expired");
    /// ```
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Lost => "lost",
            Self::Ambiguous => "ambiguous",
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The result of a [`save`](Session::save).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The version of the record; `None` if there was nothing to keep.
    pub version: Option<Version>,
    /// True if fewer copies than configured hold it.
    pub degraded: bool,
}

struct Inner {
    layer: Arc<LayerState>,
    credentials: RequestCredentials,
    outer: Option<Session>,
    state: Mutex<State>,
    /// True if the commit must drop what is buffered.
    is_abandoned: AtomicBool,
}

impl Inner {
    fn client(&self) -> &StoreClient {
        &self.layer.client
    }

    fn env(&self) -> &Env {
        self.layer.client.store.env()
    }

    fn tokens(&self) -> &[PresentedToken] {
        self.credentials.tokens(&self.layer)
    }

    /// True if the client gets cookies that accompany its token.
    fn places_sessions(&self) -> bool {
        self.credentials.places_sessions(&self.layer)
    }

    /// The hints of the request.
    fn hint(&self) -> &RequestHint {
        self.credentials.hint(&self.layer)
    }
}

/// Returns true for a key that this crate reserves.
pub(crate) fn is_reserved(key: &str) -> bool {
    key == csrf::SECRET.name() || key.starts_with(flash::PREFIX)
}

fn decode<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T, Error> {
    let value = serde_json::from_slice(json).map_err(DecodeError::from);
    value.map_err(|source| Error::Decode { key: key.to_owned(), source })
}

fn no_counter() -> Error {
    Error::Store(StoreError::unavailable("the store applied a patch without saying the count"))
}
