//! What a store keeps of a session, and who may open it.

use std::fmt;
use std::time::Duration;

use crate::error::StoreError;
use crate::facts::Facts;
use crate::limits::Limits;
use crate::patch::{Counters, Patch, Rotation};
use crate::principal::Principal;
use crate::proof::{KeyId, Proof, SecretHash};
use crate::rejection::Rejection;
use crate::route::RouteLabel;
use crate::store::{Deleted, Deletion, Outcome};
use crate::timestamp::Timestamp;
use crate::values::Values;

/// What a store keeps under a [`RecordId`](crate::RecordId).
///
/// All fields are public and the type is exhaustive on purpose: a store that takes a record apart
/// stops compiling when a field is added, instead of losing it in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The hash of the one secret that opens the record.
    pub secret: SecretHash,
    /// The hash it replaced, for [`Record::REPLACED_KEPT`] after a rotation.
    pub replaced: Option<Box<Replaced>>,
    /// Grows with every change but a touch.
    pub version: Version,
    /// The application's values.
    pub values: Values,
    /// When the record was created.
    pub created: Timestamp,
    /// When the principal last proved who they are.
    pub authenticated: Option<Timestamp>,
    /// When the session ends if nobody uses it.
    pub idle_deadline: Timestamp,
    /// When the session ends however much it is used.
    pub absolute_deadline: Timestamp,
    /// Whose session it is, once somebody signed in.
    pub principal: Option<Principal>,
    /// How often a login changed whose session it is. A request that loaded the record before the
    /// latest of these logins reads and writes nothing of it any more.
    pub sign_in: u64,
    /// What the session says of itself, beside its values.
    pub facts: Facts,
    /// The node that serves it, where a store keeps that.
    pub owner: Option<Box<Owner>>,
}

impl Record {
    /// How long a replaced hash is kept, so that requests which raced with a rotation are told
    /// apart from strangers. It opens nothing.
    pub const REPLACED_KEPT: Duration = Duration::from_secs(60);

    /// The latest stored format that this release knows. Format 1 is that of release 0.1.
    pub const FORMAT: u16 = if cfg!(feature = "next-format") { 3 } else { 2 };

    /// The format to write the record in: the oldest that can hold it, so that neighbouring releases
    /// can serve the same store for as long as no record needs what is new.
    pub fn format(&self) -> u16 {
        match cfg!(feature = "next-format") && self.facts.as_bytes().starts_with(b"next") {
            true => 3,
            false => 2,
        }
    }

    /// A record without values that nobody signed in to.
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

    /// When the record stops being live: the earlier of its two deadlines.
    pub fn deadline(&self) -> Timestamp {
        self.idle_deadline.min(self.absolute_deadline)
    }

    /// Whether the record is dead. It never lives again.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.deadline()
    }

    /// What a proof is worth: the one function that decides it, in constant time.
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

    /// What the record becomes under a patch: the one function that decides it.
    ///
    /// A store calls this where nothing else can change the record, and keeps the result in the same
    /// step. The order of the checks is part of the contract: liveness, proof, sign-in, expectations,
    /// the owner's fence, limits; nothing changes unless all of them pass. A rotation whose new hash
    /// the record already has was sent twice, and passes after the first. Once the new secret was
    /// re-hashed it is not known again: the record keeps one hash of each secret.
    ///
    /// Where the record's facts name an [idle life](Facts::idle) of its own, the idle deadline moves no
    /// further than that from `now`, however far the patch asks for; facts that come with an authentication
    /// also bring a later deadline forward.
    ///
    /// # Errors
    ///
    /// Why nothing changed.
    pub fn apply(
        &self,
        patch: &Patch,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<Patched, Refusal> {
        if self.is_expired(now) {
            return Err(Refusal::Gone);
        }
        if patch.rotation().is_some_and(|rotation| rotation.hash == self.secret) {
            return Ok(Patched { record: self.clone(), counters: Vec::new() });
        }
        match patch.proof().map(|proof| self.verify(proof, now)) {
            None | Some(Verdict::Right) => {}
            Some(Verdict::Superseded) => return Err(Refusal::Superseded),
            Some(Verdict::Wrong) => return Err(Refusal::Gone),
            Some(Verdict::UnknownKey(key)) => return Err(Refusal::UnknownKey(key)),
        }
        if patch.sign_in().is_some_and(|seen| seen != self.sign_in) {
            return Err(Refusal::Superseded);
        }
        if !patch.is_expected(&self.values) || !patch.is_fenced(self.fence()) {
            return Err(Refusal::Conflict);
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

    /// What a deletion comes to, for a store that removes the record on [`Deleted::Ended`].
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
        match deletion.sign_in.is_none_or(|seen| seen == self.sign_in) {
            true => Ok(Deleted::Ended),
            false => Ok(Deleted::Superseded),
        }
    }

    /// How often the record changed its owner; 0 while it has none.
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

    /// Moves the idle deadline as far as the patch asks for and the record's own idle life allows.
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

/// What a record becomes under a patch.
#[derive(Clone, Debug)]
pub struct Patched {
    /// The new record.
    pub record: Record,
    /// Each counter that was added to, with its new value.
    pub counters: Counters,
}

/// Why a patch changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The record is dead, or the proof was wrong.
    Gone,
    /// The proof was right until a moment ago, or somebody else signed in since the request loaded the
    /// record.
    Superseded,
    /// The proof has no hash under the key of the record's.
    UnknownKey(KeyId),
    /// An expected value, or the fence, is another.
    Conflict,
    /// The patch cannot be applied to this record.
    Rejected(Rejection),
}

impl Refusal {
    /// What a store answers.
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

impl<R: Into<Rejection>> From<R> for Refusal {
    fn from(rejection: R) -> Self {
        Self::Rejected(rejection.into())
    }
}

/// A secret's hash after a rotation replaced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The hash.
    pub hash: SecretHash,
    /// Until when it is kept.
    pub until: Timestamp,
}

/// The node that serves a record, where a store keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node's label.
    pub label: RouteLabel,
    /// How often the record changed its owner.
    pub fence: u64,
}

/// The state of a record: opaque, ordered, and never restarted, also when the record moves to
/// another store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u64);

impl Version {
    /// The version of a record that was just created.
    pub const FIRST: Self = Self(1);

    /// The version after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a proof is worth for a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It shows the record's secret.
    Right,
    /// It shows the secret that was replaced a moment ago: the request raced with a rotation.
    Superseded,
    /// It shows neither; the request learns no more than that there is no such session.
    Wrong,
    /// It cannot be judged: the record's hash is under a key that the proof has no hash for.
    UnknownKey(KeyId),
}
