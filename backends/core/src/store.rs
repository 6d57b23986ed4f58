//! The contract between the middleware and the places where sessions live.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_core::Stream;
use time::UtcDateTime;

use crate::env::Env;
use crate::error::StoreError;
use crate::limits::Limits;
use crate::patch::{Admission, Counters, Patch};
use crate::principal::Principal;
use crate::proof::Proof;
use crate::record::{Record, Refusal, Version};
use crate::rejection::Rejection;
use crate::route::{RouteLabel, Routed};
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
///   [`Outcome::Gone`] or `false`, decided by [`Record::verify`] inside the same atomic step.
/// - **Replacing a secret is compare-and-set** on the proof it carries. A rotation whose new hash the
///   record already has is [`Outcome::Applied`]: it was sent twice.
/// - **The replaced secret** is [`Lookup::Superseded`] and [`Outcome::Superseded`] for
///   [`Record::REPLACED_KEPT`], and opens nothing.
/// - **Expectations** compare the named keys byte for byte, and nothing else.
/// - **Counters are exact**: concurrent additions all count, and each answer is the value it made.
/// - **A patch is rejected whole**, over a limit or on a counter that cannot be added to.
/// - **A touch** moves the idle deadline to the latest asked for, leaves the version alone, never
///   passes the absolute deadline, never revives.
/// - **An expired record is gone** by [`Env::now`], read no earlier than the call began, whether or not
///   anything collected it. Its id may be created again or not; nothing of it comes back.
/// - **The absolute deadline** moves with an authentication only.
/// - **The version grows** with every change but a touch, and continues where the created record's
///   stood.
/// - **The index of a principal** is never behind: `delete_all` finds a login that was applied before
///   it, and a login applied after it survives. `list` shows live records only.
/// - **The cap** holds at every moment; the oldest by authentication end, and `Applied` names them.
/// - **A floor** set by `delete_all` rejects logins below it, and logins without an epoch, for at
///   least a day. One that was applied before and is sent again is `Applied`.
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

    /// Ends a record, and says whether it was live. With a proof, only for the holder of the secret.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that the record is dead on every node.
    async fn delete(&self, id: RecordId, proof: Option<&Proof>) -> Result<bool, StoreError>;

    /// The live sessions of a principal, in no particular order.
    ///
    /// # Errors
    ///
    /// When the authority cannot be asked, or the store keeps no index.
    async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError>;

    /// Ends the sessions of a principal, all or all but one, and says how many; a login that is under
    /// way is ended or comes after. With an epoch, raises the floor for later logins to it.
    ///
    /// # Errors
    ///
    /// When it is not confirmed that all of them are dead, or the store keeps no index.
    async fn delete_all(
        &self,
        principal: &Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
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

/// The answer to a create or an update.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is done, and will stay done.
    Applied(Applied),
    /// To a create: another record has this id.
    Exists,
    /// To an update: there is no such live record, or the proof was wrong.
    Gone,
    /// To an update: the proof was right until a moment ago.
    Superseded,
    /// To an update: an expected value, or the fence, was another.
    Conflict,
    /// It cannot be done, and nothing of it was.
    Rejected(Rejection),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Gone => Self::Gone,
            Refusal::Superseded => Self::Superseded,
            Refusal::Conflict => Self::Conflict,
            Refusal::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The record, a safe public handle.
    pub id: RecordId,
    /// When it was created.
    pub created: UtcDateTime,
    /// When its principal last proved who they are.
    pub authenticated: Option<UtcDateTime>,
    /// When it ends if nobody uses it.
    pub deadline: UtcDateTime,
}

impl SessionInfo {
    /// What a list shows of a record.
    pub fn of(id: RecordId, record: &Record) -> Self {
        Self {
            id,
            created: record.created,
            authenticated: record.authenticated,
            deadline: record.deadline(),
        }
    }
}

/// Something that happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A patch was applied.
    Patched(RecordId, Version),
    /// The record ended: deleted, expired, or evicted.
    Ended(RecordId),
    /// The stream fell behind or was cut: anything may have changed.
    Missed,
}

/// Changes, as they happen. It ends when the store is dropped.
pub struct ChangeStream(Pin<Box<dyn Stream<Item = Change> + Send>>);

impl ChangeStream {
    /// Wraps a stream of changes.
    pub fn new(changes: impl Stream<Item = Change> + Send + 'static) -> Self {
        Self(Box::pin(changes))
    }

    /// The next change; `None` once the store is gone. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Change> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for ChangeStream {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeStream")
    }
}

/// A shared store is a store.
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    fn env(&self) -> &Env {
        (**self).env()
    }

    fn limits(&self) -> &Limits {
        (**self).limits()
    }

    fn carries(&self) -> bool {
        (**self).carries()
    }

    fn fails_as_a_whole(&self) -> bool {
        (**self).fails_as_a_whole()
    }

    fn routed(&self, routes: &[RouteLabel]) -> Option<Routed> {
        (**self).routed(routes)
    }

    fn mint(&self) -> Result<RecordId, StoreError> {
        (**self).mint()
    }

    fn create<'s, 'f>(
        &'s self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Answer<'f, Outcome>
    where
        's: 'f,
    {
        (**self).create(id, record, admission)
    }

    fn load<'s, 'p, 'h, 'f>(
        &'s self,
        id: RecordId,
        proof: Option<&'p Proof>,
        hint: &'h Hint,
    ) -> Answer<'f, Lookup>
    where
        's: 'f,
        'p: 'f,
        'h: 'f,
    {
        (**self).load(id, proof, hint)
    }

    fn update<'s, 'p, 'h, 'f>(
        &'s self,
        id: RecordId,
        patch: &'p Patch,
        hint: &'h Hint,
    ) -> Answer<'f, Outcome>
    where
        's: 'f,
        'p: 'f,
        'h: 'f,
    {
        (**self).update(id, patch, hint)
    }

    fn delete<'s, 'p, 'f>(&'s self, id: RecordId, proof: Option<&'p Proof>) -> Answer<'f, bool>
    where
        's: 'f,
        'p: 'f,
    {
        (**self).delete(id, proof)
    }

    fn list<'s, 'p, 'f>(&'s self, principal: &'p Principal) -> Answer<'f, Vec<SessionInfo>>
    where
        's: 'f,
        'p: 'f,
    {
        (**self).list(principal)
    }

    fn delete_all<'s, 'p, 'f>(
        &'s self,
        principal: &'p Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> Answer<'f, u64>
    where
        's: 'f,
        'p: 'f,
    {
        (**self).delete_all(principal, except, epoch)
    }

    fn changes(&self) -> Option<ChangeStream> {
        (**self).changes()
    }
}

/// What the methods of the trait return, spelled out so that sharing a store costs no second box.
type Answer<'f, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'f>>;
