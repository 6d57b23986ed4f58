//! Records: the stored form of a session, and the decisions about it.

use std::time::Duration;

use crate::error::StoreError;
use crate::facts::Facts;
use crate::limits::Limits;
use crate::outcome::{Deleted, Deletion, Outcome};
use crate::patch::{Patch, Rotation};
use crate::principal::Principal;
use crate::proof::{KeyId, Proof, SecretHash};
use crate::rejection::Rejection;
use crate::route::RouteLabel;
use crate::timestamp::Timestamp;
use crate::values::Values;
use crate::version::Version;
use crate::writes::Counters;

/// The data that a store keeps under a [`RecordId`](crate::RecordId).
///
/// All fields are public and the type is exhaustive on purpose. A store that converts records to
/// another form must handle a new field, or it stops compiling. It cannot lose the field silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The hash of the secret that opens the record.
    pub secret: SecretHash,
    /// The previous hash, kept for [`Record::REPLACED_KEPT`] after a rotation.
    pub replaced: Option<Box<Replaced>>,
    /// The version. It grows with every change except a touch.
    pub version: Version,
    /// The application's values.
    pub values: Values,
    /// The time of creation.
    pub created: Timestamp,
    /// The time at which the principal last authenticated.
    pub authenticated: Option<Timestamp>,
    /// The time at which the session ends if it stays unused.
    pub idle_deadline: Timestamp,
    /// The time at which the session ends however much it is used.
    pub absolute_deadline: Timestamp,
    /// The user of the session, once signed in.
    pub principal: Option<Principal>,
    /// The number of logins that changed the principal. A request that loaded the record before the
    /// latest of them can no longer read or write it.
    pub sign_in: u64,
    /// The session's facts, beside its values.
    pub facts: Facts,
    /// The node that serves the record, if the store keeps track of it.
    pub owner: Option<Box<Owner>>,
}

impl Record {
    /// The time that a replaced hash is kept, to distinguish requests that raced with a rotation
    /// from requests with a wrong secret. The hash opens nothing.
    pub const REPLACED_KEPT: Duration = Duration::from_secs(60);

    /// The latest stored format that this release knows. Format 1 is that of release 0.1.
    pub const FORMAT: u16 = if cfg!(feature = "next-format") { 3 } else { 2 };

    /// Returns the oldest format that can hold the record. Writing that one lets neighbouring
    /// releases share a store as long as no record needs a newer format.
    pub fn format(&self) -> u16 {
        let is_next = cfg!(feature = "next-format") && self.facts.as_bytes().starts_with(b"next");
        if is_next { 3 } else { 2 }
    }

    /// Creates a record without values or a principal.
    pub fn new(
        secret: SecretHash,
        created: Timestamp,
        idle_deadline: Timestamp,
        absolute_deadline: Timestamp,
    ) -> Self {
        Self {
            secret,
            replaced: None,
            version: Version::FIRST,
            values: Values::new(),
            created,
            authenticated: None,
            idle_deadline: idle_deadline.min(absolute_deadline),
            absolute_deadline,
            principal: None,
            sign_in: 0,
            facts: Facts::default(),
            owner: None,
        }
    }

    /// Returns the time at which the record expires: the earlier of its two deadlines.
    pub fn deadline(&self) -> Timestamp {
        self.idle_deadline.min(self.absolute_deadline)
    }

    /// Returns true if the record has expired. It never becomes live again.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.deadline()
    }

    /// Judges a proof in constant time. No other code makes this decision.
    pub fn verify(&self, proof: &Proof, now: Timestamp) -> Verdict {
        match proof.judge(&self.secret) {
            Some(true) => return Verdict::Right,
            Some(false) => {}
            None => return Verdict::UnknownKey(self.secret.key()),
        }
        let Some(replaced) = self.replaced.as_ref().filter(|replaced| now < replaced.until) else {
            return Verdict::Wrong;
        };
        match proof.judge(&replaced.hash) {
            Some(true) => Verdict::Superseded,
            Some(false) => Verdict::Wrong,
            None => Verdict::UnknownKey(replaced.hash.key()),
        }
    }

    /// Returns the record after a patch. No other code makes this decision.
    ///
    /// A store calls this where no other call can change the record, and stores the result in the
    /// same atomic step. The order of the checks is part of the contract: liveness, proof, sign-in,
    /// expectations, the owner's fence, limits. A patch changes nothing unless all of them pass. If
    /// the record already has the new hash of a rotation, the rotation was sent twice: it passes
    /// after the first check. After a re-hash of the new secret, this is no longer recognized,
    /// because the record keeps one hash per secret.
    ///
    /// If the record's facts contain an [idle lifetime](Facts::idle), the idle deadline moves at
    /// most that far from `now`, even if the patch requests more. Facts that come with an
    /// authentication also shorten a deadline that is further away.
    ///
    /// # Errors
    ///
    /// Returns the reason why the patch changes nothing.
    pub fn apply(
        &self,
        patch: &Patch,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Patched, ApplyError> {
        if self.is_expired(now) {
            return Err(ApplyError::Gone);
        }
        if patch.rotation().is_some_and(|rotation| rotation.hash == self.secret) {
            return Ok(Patched { record: self.clone(), counters: Vec::new() });
        }
        match patch.proof().map(|proof| self.verify(proof, now)) {
            None | Some(Verdict::Right) => {}
            Some(Verdict::Superseded) => return Err(ApplyError::Superseded),
            Some(Verdict::Wrong) => return Err(ApplyError::Gone),
            Some(Verdict::UnknownKey(key)) => return Err(ApplyError::UnknownKey(key)),
        }
        if patch.sign_in().is_some_and(|seen| seen != self.sign_in) {
            return Err(ApplyError::Superseded);
        }
        if !patch.is_expected(&self.values) || !patch.is_fenced(self.fence()) {
            return Err(ApplyError::Conflict);
        }
        patch.check(limits)?;
        let (values, counters) = patch.merge(&self.values)?;
        limits.check_change(&self.values, &values)?;

        let mut record = Self { values, ..self.clone_without_values() };
        record.replaced = record.replaced.filter(|replaced| now < replaced.until);
        let rehashed = patch.rehashing().and_then(|rehash| rehash.of(&record.secret));
        record.secret = rehashed.unwrap_or(record.secret);
        if let Some(rotation) = patch.rotation() {
            record.rotate(rotation, now);
        }
        if let Some(label) = patch.owner() {
            let fence = record.fence() + 1;
            record.owner = Some(Box::new(Owner { label: label.clone(), fence }));
        }
        record.keep(patch, now);
        if !patch.is_touch() || rehashed.is_some() {
            record.version = record.version.next();
        }
        Ok(Patched { record, counters })
    }

    /// Decides a deletion, for a store that removes the record on [`Deleted::Ended`].
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownKey`].
    pub fn delete(&self, deletion: &Deletion<'_>, now: Timestamp) -> Result<Deleted, StoreError> {
        if self.is_expired(now) {
            return Ok(Deleted::Gone);
        }
        match deletion.proof.map(|proof| self.verify(proof, now)) {
            None | Some(Verdict::Right) => {}
            Some(Verdict::Superseded) => return Ok(Deleted::Superseded),
            Some(Verdict::Wrong) => return Ok(Deleted::Gone),
            Some(Verdict::UnknownKey(key)) => return Err(StoreError::UnknownKey(key)),
        }
        if deletion.sign_in.is_some_and(|seen| seen != self.sign_in) {
            return Ok(Deleted::Superseded);
        }
        Ok(Deleted::Ended)
    }

    /// Returns the number of times that the record changed its owner; 0 if it has none.
    pub fn fence(&self) -> u64 {
        self.owner.as_ref().map_or(0, |owner| owner.fence)
    }

    fn rotate(&mut self, rotation: &Rotation, now: Timestamp) {
        let until = now + Self::REPLACED_KEPT;
        self.replaced = Some(Box::new(Replaced { hash: self.secret, until }));
        self.secret = rotation.hash;
        if let Some(authentication) = &rotation.authentication {
            self.authenticated = Some(authentication.at);
            self.absolute_deadline = authentication.absolute_deadline;
            if let Some(facts) = &authentication.facts {
                self.facts = facts.clone();
            }
            if authentication.principal.is_some() && self.principal != authentication.principal {
                self.principal = authentication.principal.clone();
                self.sign_in += 1;
            }
        }
    }

    /// Moves the idle deadline as the patch requests, within the record's own idle lifetime.
    fn keep(&mut self, patch: &Patch, now: Timestamp) {
        let latest = self.facts.idle().map_or(Timestamp::MAX, |idle| now + idle);
        if patch.brings_facts() {
            self.idle_deadline = self.idle_deadline.min(latest);
        }
        if let Some(deadline) = patch.idle_deadline() {
            let deadline = self.idle_deadline.max(deadline.min(latest));
            self.idle_deadline = deadline.min(self.absolute_deadline);
        }
    }

    fn clone_without_values(&self) -> Self {
        Self {
            secret: self.secret,
            replaced: self.replaced.clone(),
            version: self.version,
            values: Values::new(),
            created: self.created,
            authenticated: self.authenticated,
            idle_deadline: self.idle_deadline,
            absolute_deadline: self.absolute_deadline,
            principal: self.principal.clone(),
            sign_in: self.sign_in,
            facts: self.facts.clone(),
            owner: self.owner.clone(),
        }
    }
}

/// The result of applying a patch.
#[derive(Clone, Debug)]
pub struct Patched {
    /// The new record.
    pub record: Record,
    /// The counters that were added to, with their new values.
    pub counters: Counters,
}

/// The reason why a patch changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The record has expired, or the proof is wrong.
    Gone,
    /// The proof was right until a moment ago, or another user signed in after the request loaded
    /// the record.
    Superseded,
    /// The record's hash is under a key for which the proof has no hash.
    UnknownKey(KeyId),
    /// A required value or fence differs.
    Conflict,
    /// The patch cannot be applied to this record.
    Rejected(Rejection),
}

impl ApplyError {
    /// Returns the store's answer.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownKey`].
    pub fn answer(self) -> Result<Outcome, StoreError> {
        match self {
            Self::Gone => Ok(Outcome::Gone),
            Self::Superseded => Ok(Outcome::Superseded),
            Self::UnknownKey(key) => Err(StoreError::UnknownKey(key)),
            Self::Conflict => Ok(Outcome::Conflict),
            Self::Rejected(rejection) => Ok(Outcome::Rejected(rejection)),
        }
    }
}

impl<R: Into<Rejection>> From<R> for ApplyError {
    fn from(rejection: R) -> Self {
        Self::Rejected(rejection.into())
    }
}

/// The hash of a secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The hash.
    pub hash: SecretHash,
    /// The time until which it is kept.
    pub until: Timestamp,
}

/// The node that serves a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The label of the node.
    pub label: RouteLabel,
    /// The number of times that the record changed its owner.
    pub fence: u64,
}

/// The verdict on a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The proof shows the record's secret.
    Right,
    /// The proof shows the secret that was replaced a moment ago: the request raced with a
    /// rotation.
    Superseded,
    /// The proof shows neither. The client only learns that there is no such session.
    Wrong,
    /// The proof cannot be judged: the record's hash is under a key for which the proof has no
    /// hash.
    UnknownKey(KeyId),
}
