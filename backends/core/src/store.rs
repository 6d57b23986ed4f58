//! The contract between the middleware and the places where sessions live.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use futures_core::Stream;
use serde::{Serialize, Serializer};
use time::UtcDateTime;

use crate::env::Env;
use crate::error::StoreError;
use crate::facts::Facts;
use crate::limits::Limits;
use crate::patch::{Admission, Counters, Patch};
use crate::principal::Principal;
use crate::proof::Proof;
use crate::record::{Record, Version};
use crate::rejection::Rejection;
use crate::route::{RouteLabel, Routed};
use crate::timestamp::{self, Timestamp};
use crate::token::RecordId;

/// A place where sessions live.
///
/// # Contract
///
/// The kit in `conformance` has a test for each of these, which a store's own tests run.
///
/// - **No upsert.** `create` never overwrites; `update` never creates and never revives.
/// - **Per-key merge.** Patches to different keys both survive, whatever the interleaving.
/// - **Delete wins.** After `delete` returned, no node loads the record, and no update that was
///   under way brings it back.
/// - **Absent is not an error, unavailable is.** [`Lookup::Absent`] only on the authority's word.
/// - **Whole or not at all.** A call that fails or is dropped at any await happened completely or
///   had no effect, `delete_all` for each record by itself; the error says "not confirmed".
/// - **A wrong proof changes nothing** and learns nothing: it is [`Lookup::Absent`],
///   [`Outcome::Gone`] or [`Deleted::Gone`], decided by [`Record::verify`] inside the same atomic step.
/// - **A hash under an unknown key** is neither right nor wrong: [`StoreError::UnknownKey`], and nothing
///   changes.
/// - **Replacing a secret is compare-and-set** on the proof it carries. A rotation whose new hash the
///   record already has is [`Outcome::Applied`]: it was sent twice. After a re-hash of the new secret it
///   is [`Outcome::Superseded`] instead; by then a client holds that secret, so the caller had its answer.
/// - **The replaced secret** is [`Lookup::Superseded`], [`Outcome::Superseded`] and
///   [`Deleted::Superseded`] for [`Record::REPLACED_KEPT`], and opens nothing.
/// - **A re-hash is not a rotation.** It moves a hash that it names, replaces no secret, and a patch
///   whose re-hash finds another hash applies all the same.
/// - **A sign-in is a border.** A login that changes the principal raises [`Record::sign_in`]; a patch or
///   a deletion that saw an earlier number is superseded and changes nothing. Other rotations, and a
///   login of the same principal, leave the number alone.
/// - **A login removes pre-auth values**, also those that its request never saw.
/// - **Expectations** compare the named keys byte for byte, and nothing else.
/// - **Counters are exact**: concurrent additions all count, and each answer is the value it made.
/// - **A patch is rejected whole**, over a limit or on a counter that cannot be added to.
/// - **A touch** moves the idle deadline to the latest asked for, leaves the version alone, never
///   passes the absolute deadline, never revives.
/// - **An expired record is gone** by [`Env::now`], read no earlier than the call began, whether or not
///   anything collected it. Its id may be created again or not; nothing of it comes back.
/// - **A session's own idle life**, where its facts name one ([`Facts::idle`]), bounds how far any patch
///   moves the idle deadline, and an authentication that brings such facts brings a later one forward.
/// - **The absolute deadline** moves with an authentication only.
/// - **The version grows** with every change but a touch, and continues where the created record's
///   stood.
/// - **The index of a principal** is never behind: `delete_all` finds a login that was applied before
///   it, and a login applied after it survives. `list` shows live records only.
/// - **The cap** holds at every moment. The oldest by authentication end, and `Applied` names them; or the
///   login is rejected with [`Rejection::AtCap`] and nothing ends, as [`Admission::at_cap`] says. A session
///   that is the principal's already counts once. Only live sessions count.
/// - **A floor** set by `delete_all` rejects logins below it, and logins without an epoch, for at
///   least a day. One that was applied before and is sent again is `Applied`.
/// - **Facts travel with the record** byte for byte, and change with a create or an authentication only.
/// - **A record of a newer format** is [`StoreError::NewerFormat`] to `load` and `update`, is not
///   changed, and can be deleted.
/// - **A corrupt record** is absent to `load`, [`StoreError::Corrupt`] to `update`, can be deleted
///   (whatever `delete` then says), and is otherwise left as it is.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// The clock and the randomness that this store was built with, for the middleware to share.
    fn env(&self) -> &Env;

    /// How much a record may hold here.
    fn limits(&self) -> &Limits;

    /// Whether its answers name what clients should carry ([`Carry`]), so that requests are searched
    /// for it. `false` for a store without copies and without places.
    fn carries(&self) -> bool {
        false
    }

    /// Whether a call that fails says that the next one will, whatever record it is about: then a share
    /// of failures spares requests the wait. `false` for a store whose records have owners of
    /// their own, each of which may be away.
    fn fails_as_a_whole(&self) -> bool {
        true
    }

    /// How the routes that a request carries relate to this node; `None` for a store without places.
    ///
    /// Asked for every request, touched or not, so it looks at the labels and at nothing else.
    fn routed(&self, routes: &[RouteLabel]) -> Option<Routed> {
        let _ = routes;
        None
    }

    /// A fresh id for a record; a store that places records may prefer one that lands here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Random`] when there is no randomness to be had.
    fn mint(&self) -> Result<RecordId, StoreError> {
        Ok(RecordId::random(self.env())?)
    }

    /// Stores a new record: `Applied`, `Exists`, or `Rejected`.
    ///
    /// `admission` counts where the record has a principal. A record with the same secret hash that
    /// is there already is `Applied`: it was sent twice.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the record was stored.
    async fn create(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError>;

    /// Looks a record up: `Found`, `Superseded`, or `Absent`.
    ///
    /// Without a proof for a request that proved its right to this record before.
    ///
    /// # Errors
    ///
    /// When the authority cannot be asked. That is no answer, least of all `Absent`.
    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &Hint,
    ) -> Result<Lookup, StoreError>;

    /// Applies a patch to a live record in one atomic step: `Applied`, `Gone`, `Superseded`,
    /// `Conflict`, or `Rejected`.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the patch was applied, or the record is corrupt.
    async fn update(&self, id: RecordId, patch: &Patch, hint: &Hint)
    -> Result<Outcome, StoreError>;

    /// Ends a record: `Ended`, `Gone`, or `Superseded`.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the record is dead on every node.
    async fn delete(&self, id: RecordId, deletion: &Deletion<'_>) -> Result<Deleted, StoreError>;

    /// The live sessions of a principal, in no particular order.
    ///
    /// # Errors
    ///
    /// When the authority cannot be asked, or the store keeps no index.
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError>;

    /// Ends the sessions of a principal and returns how many were live. A login that is under way is
    /// ended or comes after.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that all of them are dead, or the store keeps no index.
    async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError>;

    /// What changes, here or elsewhere, from now on: for caches, and for connections that must close.
    /// `None` if the store cannot tell.
    fn changes(&self) -> Option<ChangeStream> {
        None
    }
}

/// What a request brought beside its proof. Advice: it opens nothing, and no answer of the authority
/// depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The route labels that the client carries, the preferred one first.
    pub routes: Vec<RouteLabel>,
    /// The version the client has seen: a floor for copies, not for the authority.
    pub seen: Option<Version>,
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
    /// The id that was asked for.
    pub id: RecordId,
    /// The record.
    pub record: Arc<Record>,
    /// What the client should carry from now on.
    pub carry: Carry,
}

/// Why there is no such session, as far as the store can tell; for events and for
/// `session.status()`. The client learns nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Absence {
    /// There is no such record, or the proof was wrong.
    #[default]
    Unknown,
    /// A deadline passed, and the record was still there to show it.
    Expired,
    /// It was kept by a node that is gone, and there was no backup.
    Lost,
}

/// On which conditions a record ends, and why.
#[derive(Clone, Copy, Debug)]
pub struct Deletion<'a> {
    /// Ends it only for the holder of the secret.
    pub proof: Option<&'a Proof>,
    /// Ends it only while it is in this sign-in.
    pub sign_in: Option<u64>,
    /// What [`Change::Ended`] says of it.
    pub reason: EndReason,
}

impl Deletion<'_> {
    /// A sign-out, without a condition.
    pub const LOGOUT: Deletion<'static> = Deletion::for_reason(EndReason::Logout);

    /// Without a condition.
    pub const fn for_reason(reason: EndReason) -> Self {
        Self { proof: None, sign_in: None, reason }
    }
}

/// The answer to a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The record was live, and is dead on every node.
    Ended,
    /// No live record has this id, or the proof was wrong.
    Gone,
    /// The proof was right until a moment ago, or the record is in another sign-in. It lives on.
    Superseded,
}

impl Deleted {
    /// Whether the record was live, and ended.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Ended)
    }
}

/// Which sessions of a principal end, and why.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    /// The one session to keep, if any.
    pub except: Option<RecordId>,
    /// Raises the floor for later logins to this epoch.
    pub epoch: Option<u64>,
    /// What [`Change::Ended`] says of them.
    pub reason: EndReason,
}

impl Revocation {
    /// A sign-out of all sessions, without a floor.
    pub const LOGOUT: Self = Self::for_reason(EndReason::Logout);

    /// All sessions, without a floor.
    pub const fn for_reason(reason: EndReason) -> Self {
        Self { except: None, epoch: None, reason }
    }
}

/// Why a session ended. To serde, it is its [`name`](Self::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// Its user signed out, here or from another session.
    Logout,
    /// A deadline passed.
    Expired,
    /// Its principal signed in too often.
    Cap,
    /// A budget needed its memory.
    Evicted,
    /// An administrator ended it.
    Admin,
    /// Another principal signed in to it. The record lives on, and is no longer this session.
    Superseded,
    /// The process stops; the session itself lives on.
    Shutdown,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Logout,
        Self::Expired,
        Self::Cap,
        Self::Evicted,
        Self::Admin,
        Self::Superseded,
        Self::Shutdown,
    ];

    /// The name in change feeds, logs and event streams.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Expired => "expired",
            Self::Cap => "cap",
            Self::Evicted => "evicted",
            Self::Admin => "admin",
            Self::Superseded => "superseded",
            Self::Shutdown => "shutdown",
        }
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl Serialize for EndReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The answer to a create or an update.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is done, and will stay done.
    Applied(Applied),
    /// To a create: another record has this id.
    Exists,
    /// To an update: there is no such live record, or the proof was wrong.
    Gone,
    /// To an update: the proof was right until a moment ago, or the record is in another sign-in than
    /// the patch saw.
    Superseded,
    /// To an update: an expected value, or the fence, was another.
    Conflict,
    /// It cannot be done, and nothing of it was.
    Rejected(Rejection),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The version of the record now.
    pub version: Version,
    /// Each counter that was added to, with its new value.
    pub counters: Counters,
    /// The sessions that a cap ended.
    pub ended: Vec<RecordId>,
    /// What the client should carry from now on.
    pub carry: Carry,
    /// Whether fewer copies than configured hold it.
    pub degraded: bool,
}

impl Applied {
    /// Nothing but a version.
    pub fn at(version: Version) -> Self {
        Self {
            version,
            counters: Counters::new(),
            ended: Vec::new(),
            carry: Carry::default(),
            degraded: false,
        }
    }
}

/// What a client should carry from now on, in cookies without a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// The route labels of the nodes that hold the record, the preferred one first.
    pub routes: Vec<RouteLabel>,
    /// The version to ask for.
    pub version: Option<Version>,
}

/// A live session of a principal, as a list shows it.
///
/// To serde, its times are strings of RFC 3339, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The record, a safe public handle.
    pub id: RecordId,
    /// When it was created.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub created: UtcDateTime,
    /// When its principal last proved who they are.
    #[serde(serialize_with = "timestamp::rfc3339_or_null")]
    pub authenticated: Option<UtcDateTime>,
    /// When it ends unless it is used: the earlier of its two deadlines.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub deadline: UtcDateTime,
    /// When it ends unless it is used, by its idle life alone.
    #[serde(serialize_with = "timestamp::rfc3339")]
    pub idle_deadline: UtcDateTime,
    /// When it was last used, to the 20th part of its idle life. `None` in the list of a store, which does
    /// not know how long sessions live; the lists of the middleware have it.
    ///
    /// It is told by the idle deadline, which never passes the absolute one: of a session that was used
    /// within its last idle life, this is the earliest time at which that may have been.
    #[serde(serialize_with = "timestamp::rfc3339_or_null")]
    pub last_used: Option<UtcDateTime>,
    /// What it says of itself: its labels, its own lifetime, whether its cookie is persistent.
    #[serde(flatten)]
    pub facts: Facts,
}

impl SessionInfo {
    /// The list entry of a record.
    pub fn of(id: RecordId, record: &Record) -> Self {
        Self::new(id, record.created, record.authenticated, record.deadline())
            .with_facts(record.idle_deadline, record.facts.clone())
    }

    /// The list entry of a record with this id and these times, and without facts.
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

    /// The same of a record with this idle deadline and these facts.
    #[must_use]
    pub fn with_facts(self, idle_deadline: Timestamp, facts: Facts) -> Self {
        Self { idle_deadline: idle_deadline.into(), facts, ..self }
    }
}

/// Something that happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patch was applied.
    Patched(RecordId, Version),
    /// A patch was applied that began another sign-in: requests that loaded the record before are
    /// superseded.
    SignedIn(RecordId, Version),
    /// The record ended.
    Ended(RecordId, EndReason),
    /// Anything may have changed until now; what changes from here on is told.
    Missed,
    /// Nothing is told from here on, because the feed is cut or not connected yet. `Missed` follows as
    /// soon as it is.
    Down,
}

/// Changes, as they happen. It ends when the store is dropped.
///
/// Unless it begins with [`Change::Down`], everything that changes from the call of
/// [`SessionStore::changes`] on is reported. A stream in doubt yields [`Change::Missed`] or `Down`, and
/// never two `Down`s without a `Missed` between them.
///
/// Most streams tell what stores do, and not what others do to the same records: someone who deletes one
/// by hand, a server that evicts one, a failover that loses one. Only a
/// [complete](ChangeStream::is_complete) stream tells that, too.
pub struct ChangeStream {
    changes: Pin<Box<dyn Stream<Item = Change> + Send>>,
    is_complete: bool,
    /// True after `Down`, until the next `Missed`.
    is_down: bool,
}

impl ChangeStream {
    /// Wraps a stream of the changes that stores make.
    pub fn new(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self { changes: Box::pin(changes), is_complete: false, is_down: false }
    }

    /// The same, of a store whose records nothing else can change, where each change can be read before
    /// the call that made it returns.
    pub fn complete(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self { is_complete: true, ..Self::new(changes) }
    }

    /// Whether a copy of a record is good for as long as the stream says nothing. Behind any other
    /// stream, a cache has to ask again from time to time.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next change; `None` once the store is gone. Safe to drop while it waits.
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
    fn a_stream_that_is_down_does_not_go_down_again() {
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
