//! The contract between the middleware and stores.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use futures_core::Stream;
use serde::Serialize;
use time::UtcDateTime;

use crate::endings::Endings;
use crate::env::Env;
use crate::error::StoreError;
use crate::facts::Facts;
use crate::limits::Limits;
use crate::outcome::{ClientState, Deleted, Deletion, EndReason, Outcome, Revocation};
use crate::patch::{LoginPolicy, Patch};
use crate::principal::Principal;
use crate::proof::Proof;
use crate::record::Record;
use crate::route::{RouteLabel, Routed};
use crate::timestamp::{self, Timestamp};
use crate::token::RecordId;
use crate::version::Version;

/// A store of sessions.
///
/// # Contract
///
/// The tests in `conformance` check each of these points.
///
/// - **No upsert.** `create` never overwrites. `update` never creates and never revives a record.
/// - **Per-key merge.** Concurrent patches to different keys are all kept, in any interleaving.
/// - **Delete wins.** After `delete` returns, no node loads the record, and no concurrent update
///   brings it back.
/// - **Absent is not an error; unavailable is.** Only the authority may answer [`Lookup::Absent`].
/// - **All or nothing.** A call that fails, or is dropped at any await, either took full effect or
///   none (`delete_all`: for each record). An error therefore means "not confirmed".
/// - **A wrong proof changes nothing** and reveals nothing. The answer is [`Lookup::Absent`],
///   [`Outcome::Gone`] or [`Deleted::Gone`], decided by [`Record::verify`] in the same atomic step.
/// - **A hash under an unknown key** is neither right nor wrong. The answer is
///   [`StoreError::UnknownKey`], and nothing changes.
/// - **Replacing a secret is a compare-and-set** on the proof in the patch. If the record already
///   has the new hash, the rotation was sent twice and is [`Outcome::Applied`]. After a re-hash of
///   the new secret it is [`Outcome::Superseded`] instead: a client then holds that secret already,
///   so the caller has had its answer.
/// - **The replaced secret** is [`Lookup::Superseded`], [`Outcome::Superseded`] and
///   [`Deleted::Superseded`] for [`Record::REPLACED_KEPT`], and opens nothing.
/// - **A re-hash is not a rotation.** It replaces one of the hashes it names, but no secret. If the
///   record has another hash, the rest of the patch still applies.
/// - **A sign-in is a boundary.** A login that changes the principal increments [`Record::sign_in`].
///   A patch or deletion that requires an earlier number is superseded and changes nothing. Other
///   rotations, and logins of the same principal, keep the number.
/// - **A login removes pre-auth values**, including those that its request never saw.
/// - **Expectations** compare the named keys byte for byte, and nothing else.
/// - **Counters are exact.** Concurrent additions all take effect, and each answer is its own sum.
/// - **A patch is rejected as a whole** if it exceeds a limit or adds to a value that is not a counter.
/// - **A touch** moves the idle deadline to the latest one requested, keeps the version, never passes
///   the absolute deadline and never revives a record.
/// - **An expired record is gone**, judged by [`Env::now`] read no earlier than the start of the
///   call, whether or not it has been collected. Its id may or may not be available again, but its
///   content never returns.
/// - **A session's own idle lifetime**, if its facts contain one ([`Facts::idle`]), bounds how far a
///   patch moves the idle deadline. An authentication that sets such facts also shortens a deadline
///   that is further away.
/// - **The absolute deadline** only moves with an authentication.
/// - **The version grows** with every change except a touch, and continues from that of the created
///   record.
/// - **The index of a principal** is always current: `delete_all` finds a login applied before it, and
///   a login applied after it survives. `list` shows live records only.
/// - **The cap** holds at every moment. Depending on [`LoginPolicy::at_cap`], sessions with the oldest
///   authentication end and `Applied` names them, or the login is rejected with
///   [`Rejection::AtCap`](crate::Rejection::AtCap) and no session ends. A session that belongs to the
///   principal already counts once. Only live sessions count.
/// - **A minimum epoch** set by `delete_all` rejects logins below it, and logins without an epoch, for
///   at least a day. A login that was applied before and is sent again is `Applied`.
/// - **An ending without a request** is kept until it is acknowledged, once [`endings`](Self::endings) was
///   called, and is claimed by one caller at a time: see [`Endings`].
/// - **Facts** are kept byte for byte, and only change with a create or an authentication.
/// - **A record in a newer format** is [`StoreError::NewerFormat`] to `load` and `update`, is not
///   changed, and can be deleted.
/// - **A corrupt record** is absent to `load` and [`StoreError::Corrupt`] to `update`. It can be
///   deleted, with any answer, and is otherwise left unchanged.
///
/// # Examples
///
/// `examples/store` in the repository implements a store. To use one, no type has to be named:
///
/// ```
/// use steadfast_core::{Principal, SessionStore, StoreError};
///
/// /// Counts the live sessions of a user, in any store.
/// async fn count(store: &dyn SessionStore, user: &Principal) -> Result<usize, StoreError> {
///     Ok(store.list(user).await?.len())
/// }
/// ```
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the store's clock and randomness, which the middleware shares.
    fn env(&self) -> &Env;

    /// Returns the limits of a record in this store.
    fn limits(&self) -> &Limits;

    /// Returns true if the store's answers ask clients to carry routes or versions ([`ClientState`]), so
    /// that requests must be searched for them. `false` for a store without copies and without
    /// placement.
    fn places_sessions(&self) -> bool {
        false
    }

    /// Returns true if one failure predicts the next, regardless of the record, so that a circuit
    /// breaker is worthwhile. `false` for a store whose records have separate owners that can fail
    /// individually.
    fn shares_fate(&self) -> bool {
        true
    }

    /// Compares the routes of a request with this node; `None` for a store without placement.
    ///
    /// It is called for every request, whether or not the session is used, so it only looks at the
    /// labels.
    fn routed(&self, routes: &[RouteLabel]) -> Option<Routed> {
        let _ = routes;
        None
    }

    /// Draws a fresh id for a record. A store that places records may prefer an id that this node
    /// owns.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Random`] when the source of randomness fails.
    fn mint(&self) -> Result<RecordId, StoreError> {
        Ok(RecordId::random(self.env())?)
    }

    /// Stores a new record: `Applied`, `Exists`, or `Rejected`.
    ///
    /// `policy` applies if the record has a principal. If a record with the same secret hash
    /// exists, the call was sent twice and the answer is `Applied`.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not confirmed that the record was stored.
    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError>;

    /// Looks up a record: `Found`, `Superseded`, or `Absent`.
    ///
    /// Pass no proof if the request has already proved its right to this record.
    ///
    /// # Errors
    ///
    /// Returns an error when the authority cannot be asked. That is not an answer, and in
    /// particular not `Absent`.
    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError>;

    /// Applies a patch to a live record in one atomic step: `Applied`, `Gone`, `Superseded`,
    /// `Conflict`, or `Rejected`.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not confirmed that the patch was applied, or the record is
    /// corrupt.
    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError>;

    /// Ends a record: `Ended`, `Gone`, or `Superseded`.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not confirmed that the record is gone from every node.
    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError>;

    /// Lists the live sessions of a principal, in no particular order.
    ///
    /// # Errors
    ///
    /// Returns an error when the authority cannot be asked, or the store keeps no index.
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError>;

    /// Ends the sessions of a principal and returns how many were live. A concurrent login is
    /// either ended too or comes after.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not confirmed that all of them ended, or the store keeps no
    /// index.
    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError>;

    /// Subscribes to changes from now on, made here or on other nodes, for caches and for
    /// connections that must close. `None` if the store has no change feed.
    fn changes(&self) -> Option<ChangeStream> {
        None
    }

    /// Keeps sessions that end without a request in a queue, from now on, and returns the queue. `None` if
    /// the store has none.
    fn endings(&self) -> Option<Arc<dyn Endings>> {
        None
    }
}

/// The hints of a request beside its proof. They open nothing, and no answer of the authority
/// depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHint {
    /// The route labels that the client carries, preferred first.
    pub routes: Vec<RouteLabel>,
    /// The version that the client has seen: a minimum for copies, not for the authority.
    pub min_version: Option<Version>,
}

/// The answer to a load.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The record is live, and the proof was right.
    Found(Found),
    /// The proof was right until a moment ago: the request raced with a rotation.
    Superseded,
    /// There is no such session.
    Absent(Absence),
}

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The id of the record.
    pub id: RecordId,
    /// The record.
    pub record: Arc<Record>,
    /// The hints that the client should carry from now on.
    pub client_state: ClientState,
}

/// The reason why there is no such session, if the store knows it. It is meant for events and
/// `session.status()`; the client does not learn it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Absence {
    /// There is no such record, or the proof is wrong.
    #[default]
    Unknown,
    /// A deadline has passed, and the record was still there to show it.
    Expired,
    /// The record was on a node that is gone, and had no backup.
    Lost,
}

/// A live session of a principal, as listed.
///
/// Its times serialize as RFC 3339 strings in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The id of the record: a public handle that opens nothing.
    pub id: RecordId,
    /// The time of creation.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub created: UtcDateTime,
    /// The time at which the principal last authenticated.
    #[serde(serialize_with = "timestamp::rfc3339_or_null")]
    pub authenticated: Option<UtcDateTime>,
    /// The time at which the session ends unless it is used: the earlier of its two deadlines.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub deadline: UtcDateTime,
    /// The time at which its idle lifetime ends unless it is used.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub idle_deadline: UtcDateTime,
    /// The time of last use, accurate to 1/20 of the idle lifetime. `None` in the list of a store,
    /// which does not know the idle lifetime; the middleware fills it in.
    ///
    /// It is derived from the idle deadline, which never exceeds the absolute one. For a session
    /// used within its last idle lifetime, it is therefore the earliest possible time of last use.
    #[serde(serialize_with = "timestamp::rfc3339_or_null")]
    pub last_used: Option<UtcDateTime>,
    /// The session's facts: its labels, its own lifetime, and the persistence of its cookie.
    #[serde(flatten)]
    pub facts: Facts,
}

impl SessionInfo {
    /// Creates the list entry of a record.
    pub fn of(id: RecordId, record: &Record) -> Self {
        Self::new(id, record.created, record.authenticated, record.deadline())
            .with_facts(record.idle_deadline, record.facts.clone())
    }

    /// Creates a list entry with these times and without facts.
    pub fn new(
        id: RecordId,
        created: Timestamp,
        authenticated: Option<Timestamp>,
        deadline: Timestamp,
    ) -> Self {
        Self {
            id,
            created: created.into(),
            authenticated: authenticated.map(Into::into),
            deadline: deadline.into(),
            idle_deadline: deadline.into(),
            last_used: None,
            facts: Facts::default(),
        }
    }

    /// Sets the idle deadline and the facts.
    #[must_use]
    pub fn with_facts(self, idle_deadline: Timestamp, facts: Facts) -> Self {
        Self { idle_deadline: idle_deadline.into(), facts, ..self }
    }
}

/// A change to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patch was applied.
    Patched(RecordId, Version),
    /// A patch was applied that began another sign-in. Requests that loaded the record before are
    /// superseded.
    SignedIn(RecordId, Version),
    /// The record ended.
    Ended(RecordId, EndReason),
    /// Changes may have been missed. From now on they are reported again.
    Missed,
    /// The feed is cut or not yet connected, so changes are not reported. `Missed` follows once it
    /// is connected.
    Down,
}

/// A stream of changes as they happen. It ends when the store is dropped, and while the runtime that
/// polls it shuts down.
///
/// Unless it begins with [`Change::Down`], it reports every change from the call of
/// [`SessionStore::changes`] on. When changes may be missing, it yields [`Change::Missed`] or `Down`,
/// and never two `Down`s without a `Missed` between them.
///
/// Most streams report the changes that stores make, but not changes that others make to the same
/// records: an administrator who deletes one by hand, a server that evicts one, a failover that loses
/// one. A [complete](ChangeStream::is_complete) stream reports those, too.
pub struct ChangeStream {
    changes: Pin<Box<dyn Stream<Item = Change> + Send>>,
    is_complete: bool,
    /// True from `Down` until the next `Missed`.
    is_down: bool,
}

impl ChangeStream {
    /// Wraps a stream of the changes that stores make.
    pub fn new(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self { changes: Box::pin(changes), is_complete: false, is_down: false }
    }

    /// Wraps the stream of a store whose records only change through stores, and where each change
    /// can be read before the call that made it returns.
    pub fn complete(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self { is_complete: true, ..Self::new(changes) }
    }

    /// Returns true if a cached copy stays valid as long as the stream is silent. With any other
    /// stream, a cache must revalidate from time to time.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the next change; `None` once the store is gone. Cancellation-safe.
    pub async fn next(&mut self) -> Option<Change> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for ChangeStream {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        loop {
            let change = ready!(self.changes.as_mut().poll_next(context));
            match change {
                Some(Change::Down) if self.is_down => continue,
                Some(Change::Down) => self.is_down = true,
                Some(Change::Missed) => self.is_down = false,
                _ => {}
            }
            return Poll::Ready(change);
        }
    }
}

impl fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeStream")
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    struct Told<I>(I);

    impl<I: Iterator<Item = Change> + Unpin> Stream for Told<I> {
        type Item = Change;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Change>> {
            Poll::Ready(self.0.next())
        }
    }

    #[test]
    fn a_stream_reports_down_once() {
        use Change::{Down, Missed};
        let mut stream =
            ChangeStream::new(Told([Down, Down, Missed, Missed, Down, Down].into_iter()));
        let mut context = Context::from_waker(Waker::noop());
        let mut said = Vec::new();
        while let Poll::Ready(Some(change)) = Pin::new(&mut stream).poll_next(&mut context) {
            said.push(change);
        }
        assert_eq!(said, [Down, Missed, Missed, Down]);
    }
}
