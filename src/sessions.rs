//! Sessions outside a request, for administrators, callbacks and imports.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::HeaderValue;
use serde::Serialize;
use steadfast_core::{
    Authentication, Deleted, Deletion, EndReason, Lookup, Outcome, Principal, RawJson, Record,
    RecordId, RequestHint, Revocation, RouteLabel, SessionInfo, StoreError, Token, Values,
};

use crate::cookie::companion::{self, Affinity};
use crate::error::Error;
use crate::events::Actor;
use crate::label_index::Mark;
use crate::layer_state::LayerState;
use crate::session::{Login, is_reserved};
use crate::store_client::Purpose;

/// The sessions of a layer, outside a request; made by
/// [`SessionLayer::sessions`](crate::SessionLayer::sessions).
///
/// Calls have the same deadlines and circuit breakers as requests. A call that ends sessions runs to
/// completion even if its future is dropped. Streams that wait for
/// [`Session::ended`](crate::Session::ended) get [`EndReason::Admin`].
///
/// Over a store that keeps no index of users, such as a `StickyStore` without a backup, calls that look for
/// sessions fail.
///
/// No call checks permissions: the application does that first. A *user* is the id that the sign-in gave
/// to [`Login::new`](crate::Login::new), within the layer's realm.
///
/// # Examples
///
/// ```
/// use steadfast::{Error, Login, MemoryStore, SessionLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let layer = SessionLayer::new(MemoryStore::new());
/// let sessions = layer.sessions();
/// sessions.issue(Login::new("alice").label("device", "Firefox on Linux")).await?;
/// sessions.issue("alice").await?;
/// assert_eq!(sessions.list("alice").await?.len(), 2);
/// assert_eq!(sessions.end_all("alice", None).await?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sessions {
    layer: Arc<LayerState>,
    actor: Actor,
}

impl Sessions {
    pub(crate) fn new(layer: Arc<LayerState>) -> Self {
        Self { layer, actor: Actor::Administrator(None) }
    }

    /// Names the administrator in events: see [`Actor::Administrator`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use steadfast::{Actor, Error, MemoryStore, SessionEventKind, SessionLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let log = Arc::new(Mutex::new(Vec::new()));
    /// let events = Arc::clone(&log);
    /// let layer = SessionLayer::new(MemoryStore::new()).on_event(move |event| {
    ///     if let SessionEventKind::AllEnded { by, .. } = &event.kind {
    ///         events.lock().unwrap().push(by.clone());
    ///     }
    /// });
    /// layer.sessions().acting_as("root").end_all("alice", None).await?;
    /// assert_eq!(*log.lock().unwrap(), [Actor::Administrator(Some("root".into()))]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn acting_as(self, administrator: impl Into<Arc<str>>) -> Self {
        Self { actor: Actor::Administrator(Some(administrator.into())), ..self }
    }

    /// Returns the live sessions of a user, in no particular order.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue(Login::new("alice").label("device", "phone")).await?;
    /// let listed = layer.sessions().list("alice").await?;
    /// assert_eq!(listed[0].facts.label("device"), Some("phone"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the user's id has the wrong form, or the store cannot be asked.
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        self.listed(&self.principal(user)?).await
    }

    /// Returns the number of live sessions of a user. It costs as much as [`list`](Self::list).
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
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list).
    pub async fn count(&self, user: &str) -> Result<usize, Error> {
        self.list(user).await.map(|listed| listed.len())
    }

    /// Ends a signed-in session of this realm. Returns `false` if no live session has this handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let issued = layer.sessions().issue("alice").await?;
    /// assert!(layer.sessions().end(issued.handle()).await?);
    /// assert!(!layer.sessions().end(issued.handle()).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is not confirmed.
    pub async fn end(&self, handle: RecordId) -> Result<bool, Error> {
        self.detached(move |this| async move { this.end_if(handle, |_| true).await }).await
    }

    /// Ends all sessions of a user, and returns how many were live.
    ///
    /// With an `epoch`, it also rejects sign-ins of this user with a lower one, or without one, for at
    /// least a day: see [`Login::epoch`](crate::Login::epoch).
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue("alice").await?;
    /// assert_eq!(layer.sessions().end_all("alice", Some(8)).await?, 1);
    /// // This sign-in was decided before the password changed:
    /// assert!(layer.sessions().issue(Login::new("alice").epoch(7)).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the user's id has the wrong form, or it is not confirmed.
    pub async fn end_all(&self, user: &str, epoch: Option<u64>) -> Result<u64, Error> {
        let user = self.principal(user)?;
        let all = Revocation { epoch, ..Revocation::for_reason(EndReason::Admin) };
        self.detached(move |this| async move {
            let count = this.layer.client.delete_all(&user, all).await?;
            this.layer.all_ended(&user, count, None, EndReason::Admin, &this.actor);
            Ok(count)
        })
        .await
    }

    /// Ends the sessions that have this label, and returns how many. Use it, for example, for the back-channel
    /// logout of OpenID Connect, by the provider's `sid`.
    ///
    /// It ends the sessions whose sign-in was confirmed before the call. A sign-in that is still in
    /// progress may complete afterwards; if you know the user, [`end_all`](Self::end_all) with an epoch
    /// also stops that one.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Login, MemoryStore, SessionLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = SessionLayer::new(MemoryStore::new()).index_labels(["sid"])?;
    /// layer.sessions().issue(Login::new("alice").label("sid", "08a5019c")).await?;
    /// assert_eq!(layer.sessions().end_labelled("sid", "08a5019c").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotIndexed`] unless the layer
    /// [indexes](crate::SessionLayer::index_labels) labels of this name, or when it is not confirmed that
    /// all of them ended.
    pub async fn end_labelled(&self, name: &str, value: &str) -> Result<u64, Error> {
        if !self.layer.indexed.contains(name) {
            return Err(Error::NotIndexed { name: name.to_owned() });
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        self.detached(move |this| async move {
            let marks = this.layer.marks(&name, &value).await?;
            let ended = stream::iter(marks)
                .map(|mark| this.end_marked(mark, &name, &value))
                .buffer_unordered(AT_ONCE);
            ended.try_fold(0, async |sum, ended| Ok(sum + u64::from(ended))).await
        })
        .await
    }

    /// Ends every session of the realm, visitors' included, at a cost that does not depend on how many
    /// there are: for example after the database of passwords leaked. It returns once no node serves any
    /// of them, which takes the time of
    /// [`end_everybody_within`](crate::SessionLayer::end_everybody_within). Sign-ins that complete in that
    /// time, and up to 1 s after it, may have to be repeated.
    ///
    /// The records stay in the store until they expire. As with a shorter
    /// [`lifetime`](crate::SessionLayer::lifetime), a write that a request sends without reading anything
    /// first is still stored, but never read.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{Error, MemoryStore, SessionLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new())
    ///     .end_everybody_within(Duration::from_millis(200));
    /// layer.sessions().issue("alice").await?;
    /// layer.sessions().end_everybody().await?;
    /// assert_eq!(layer.sessions().count("alice").await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::CannotEndEverybody`] unless the layer was built for it, or when it is not confirmed.
    pub async fn end_everybody(&self) -> Result<(), Error> {
        if self.layer.cutoff.is_none() {
            return Err(Error::CannotEndEverybody);
        }
        self.detached(|this| async move { this.layer.raise_cutoff().await }).await
    }

    /// Starts a signed-in session without a request: for an import, a callback, or a test.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let issued = layer.sessions().issue("alice").await?;
    /// assert!(issued.cookie().to_str().unwrap().starts_with("__Host-id="));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Session::login`](crate::Session::login), and of its commit.
    pub async fn issue(&self, login: impl Into<Login>) -> Result<Issued, Error> {
        let login = login.into();
        self.detached(move |this| async move { this.issue_to(&login).await }).await
    }

    /// Returns everything that is stored about a user: each live session with its values as JSON. Like
    /// [`Session::entries`](crate::Session::entries), it leaves out the crate's own keys.
    ///
    /// To erase that data, end the sessions with [`end_all`](Self::end_all): of a session that ended, a
    /// store keeps only the id, for a limited time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue("alice").await?;
    /// let exported = layer.sessions().export("alice").await?;
    /// assert_eq!(exported.len(), 1);
    /// assert!(exported[0].values.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`list`](Self::list), and [`Error::NotOpened`] for a sealed value that does not open.
    pub async fn export(&self, user: &str) -> Result<Vec<SessionExport>, Error> {
        let user = self.principal(user)?;
        let exports = stream::iter(self.listed(&user).await?)
            .map(|info| self.export_of(info, &user))
            .buffer_unordered(AT_ONCE);
        exports.try_filter_map(async |export| Ok(export)).try_collect().await
    }

    fn principal(&self, user: &str) -> Result<Principal, Error> {
        Ok(Principal::new(self.layer.realm.clone(), user)?)
    }

    async fn listed(&self, user: &Principal) -> Result<Vec<SessionInfo>, Error> {
        if self.layer.is_cutoff_due() {
            self.layer.read_cutoff().await?;
        }
        let listed = self.layer.client.list(user, Purpose::Use).await?;
        Ok(self.layer.bounded(listed))
    }

    async fn issue_to(&self, login: &Login) -> Result<Issued, Error> {
        let layer = &self.layer;
        let principal = self.principal(&login.principal)?;
        let terms = login.terms(layer.max_per_principal, layer.at_cap)?;
        let (now, lifetime) = (layer.client.store.env().now(), layer.lifetime());
        let until = terms.facts.lifetime_within(&lifetime).absolute_deadline(now);
        let id = layer.client.store.mint()?;
        let token = Token::generate(id, layer.client.store.env())?;
        layer.mark(id, &terms.facts, until).await?;
        let authentication = Authentication {
            at: now,
            absolute_deadline: until,
            principal: Some(principal.clone()),
            facts: Some(terms.facts.clone()),
            policy: terms.policy,
        };
        let record = layer.new_record(layer.hash(&token), Values::new(), Some(authentication));
        match layer.client.create(id, record, terms.policy).await? {
            Outcome::Applied(applied) => {
                layer.created(id, Some(&principal));
                layer.signed_in(id, &principal, &terms.facts, &applied);
                Ok(Issued { token, routes: applied.client_state.routes, layer: Arc::clone(layer) })
            }
            Outcome::Rejected(rejection) => Err(rejection.into()),
            _ => Err(StoreError::refused("the store did not take a new record").into()),
        }
    }

    async fn export_of(
        &self,
        info: SessionInfo,
        user: &Principal,
    ) -> Result<Option<SessionExport>, Error> {
        let (client, hint) = (&self.layer.client, RequestHint::default());
        let Lookup::Found(found) = client.load(info.id, None, &hint, Purpose::Use).await? else {
            return Ok(None);
        };
        if found.record.principal.as_ref() != Some(user) {
            return Ok(None);
        }
        let values = found.record.values.iter().filter(|(key, _)| !is_reserved(key));
        let value = |(key, json): (&str, &[u8])| {
            let json = self.layer.opened(info.id, key, json)?;
            Ok((key.to_owned(), RawJson::copied(&json)))
        };
        let values = values.map(value).collect::<Result<_, Error>>()?;
        Ok(Some(SessionExport { info, values }))
    }

    /// Ends the session that a mark names, if it still has the label, and then removes the mark.
    async fn end_marked(&self, mark: Mark, name: &str, value: &str) -> Result<bool, Error> {
        let has_label = |record: &Record| record.facts.label(name) == Some(value);
        let ended = self.end_if(mark.session, has_label).await?;
        if ended {
            self.layer.client.delete(mark.id, &ADMIN).await?;
        }
        Ok(ended)
    }

    /// Ends a session of this realm if its record, as loaded, passes the check.
    async fn end_if(
        &self,
        id: RecordId,
        is_meant: impl Fn(&Record) -> bool,
    ) -> Result<bool, Error> {
        let client = &self.layer.client;
        for _ in 0..TRIES {
            let found = client.load(id, None, &RequestHint::default(), Purpose::End).await?;
            let Lookup::Found(found) = found else { return Ok(false) };
            let record = &found.record;
            let is_ours = record.principal.as_ref().is_some_and(|p| *p.realm() == self.layer.realm);
            if !is_ours || !is_meant(record) {
                return Ok(false);
            }
            let this_sign_in = Deletion { sign_in: Some(record.sign_in), ..ADMIN };
            match client.delete(id, &this_sign_in).await? {
                Deleted::Ended => {
                    let user = record.principal.as_ref();
                    self.layer.ended(id, user, EndReason::Admin, &self.actor);
                    return Ok(true);
                }
                Deleted::Gone => return Ok(false),
                // Another user signed in between load and delete: check the new record.
                Deleted::Superseded => {}
            }
        }
        Err(Error::Superseded)
    }

    /// Runs a call to its end even if its future is dropped.
    async fn detached<T, F>(&self, call: impl FnOnce(Self) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.layer.detached(call(self.clone())).await
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("realm", &self.layer.realm).finish_non_exhaustive()
    }
}

/// A session that was started without a request. Its token is a secret, which `Debug` does not show.
#[derive(Debug)]
pub struct Issued {
    token: Token,
    routes: Vec<RouteLabel>,
    layer: Arc<LayerState>,
}

impl Issued {
    /// Returns the session's public handle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let issued = layer.sessions().issue("alice").await?;
    /// assert_eq!(layer.sessions().list("alice").await?[0].id, issued.handle());
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> RecordId {
        self.token.id()
    }

    /// Returns the `Cookie` header of a client that has the session, marked as sensitive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let cookie = layer.sessions().issue("alice").await?.cookie();
    /// assert!(cookie.is_sensitive() && cookie.to_str().unwrap().starts_with("__Host-id="));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cookie(&self) -> HeaderValue {
        let name = self.layer.cookie.cookie_name();
        let route = companion::route(&self.routes);
        let token = self.token.encode();
        let text = match (self.layer.affinity, route.as_str()) {
            (_, "") | (Affinity::None, _) => format!("{name}={}", *token),
            (Affinity::Cookie, route) => {
                format!("{name}={}; {name}{}={route}", *token, companion::ROUTE)
            }
            (Affinity::Suffix, route) => format!("{name}={}.{route}", *token),
        };
        sensitive(&text)
    }

    /// Returns the token alone, as a client of [`SessionLayer::header`](crate::SessionLayer::header) sends it,
    /// marked as sensitive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let token = layer.sessions().issue("alice").await?.token();
    /// assert!(token.is_sensitive());
    /// assert_eq!(token.len(), 64);
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(&self) -> HeaderValue {
        sensitive(&self.token.encode())
    }
}

fn sensitive(text: &str) -> HeaderValue {
    let mut value =
        HeaderValue::from_str(text).expect("tokens, names and routes are visible ASCII");
    value.set_sensitive(true);
    value
}

/// The stored data of a session.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SessionExport {
    /// The session, as in a list.
    #[serde(flatten)]
    pub info: SessionInfo,
    /// The values by their keys. A [`Key::pre_auth`](crate::Key::pre_auth) has a `~` in front.
    pub values: BTreeMap<String, RawJson>,
}

const ADMIN: Deletion<'static> = Deletion::for_reason(EndReason::Admin);

/// Store calls that run concurrently for one call of an administrator.
const AT_ONCE: usize = 64;

/// Attempts to end a session while other users sign in to it.
const TRIES: u32 = 8;
