//! What a store keeps of a session, and who may open it.

use std::fmt;
use std::time::Duration;

use time::UtcDateTime;

use crate::env::later;
use crate::limits::Limits;
use crate::patch::{Counters, Patch, Rotation};
use crate::principal::Principal;
use crate::proof::{Proof, SecretHash};
use crate::rejection::Rejection;
use crate::route::RouteLabel;
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
    pub created: UtcDateTime,
    /// When the principal last proved who they are.
    pub authenticated: Option<UtcDateTime>,
    /// When the session ends if nobody uses it.
    pub idle_deadline: UtcDateTime,
    /// When the session ends however much it is used.
    pub absolute_deadline: UtcDateTime,
    /// Whose session it is, once somebody signed in.
    pub principal: Option<Principal>,
    /// The node that serves it, where a store keeps that.
    pub owner: Option<Box<Owner>>,
}

impl Record {
    /// How long a replaced hash is kept, so that requests which raced with a rotation are told
    /// apart from strangers. It opens nothing.
    pub const REPLACED_KEPT: Duration = Duration::from_secs(60);

    /// A record without values that nobody signed in to.
    pub fn new(
        secret: SecretHash,
        created: UtcDateTime,
        idle_deadline: UtcDateTime,
        absolute_deadline: UtcDateTime,
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
            owner: None,
        }
    }

    /// When the record stops being live: the earlier of its two deadlines.
    pub fn deadline(&self) -> UtcDateTime {
        self.idle_deadline.min(self.absolute_deadline)
    }

    /// Whether the record is dead. It never lives again.
    pub fn is_expired(&self, now: UtcDateTime) -> bool {
        now >= self.deadline()
    }

    /// What a proof is worth: the one function that decides it, in constant time.
    pub fn verify(&self, proof: &Proof, now: UtcDateTime) -> Verdict {
        if proof.matches(&self.secret) {
            return Verdict::Right;
        }
        match &self.replaced {
            Some(replaced) if proof.matches(&replaced.hash) && now < replaced.until => {
                Verdict::Superseded
            }
            _ => Verdict::Wrong,
        }
    }

    /// What the record becomes under a patch: the one function that decides it.
    ///
    /// A store calls this where nothing else can change the record, and keeps the result in the same
    /// step. The order of the checks is part of the contract: liveness, proof, expectations, the
    /// owner's fence, limits; nothing changes unless all of them pass.
    ///
    /// # Errors
    ///
    /// Why nothing changed.
    pub fn apply(
        &self,
        patch: &Patch,
        now: UtcDateTime,
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
        }
        if !patch.is_expected(&self.values) || !patch.is_fenced(self.fence()) {
            return Err(Refusal::Conflict);
        }
        patch.check(limits)?;
        let (values, counters) = patch.merge(&self.values)?;
        limits.check_total(&values)?;

        let mut record = Self { values, ..self.clone_without_values() };
        record.replaced = record.replaced.filter(|replaced| now < replaced.until);
        if let Some(rotation) = patch.rotation() {
            record.rotate(rotation, now);
        }
        if let Some(label) = patch.owner() {
            let fence = record.fence() + 1;
            record.owner = Some(Box::new(Owner { label: label.clone(), fence }));
        }
        if let Some(deadline) = patch.idle_deadline() {
            let deadline = record.idle_deadline.max(deadline);
            record.idle_deadline = deadline.min(record.absolute_deadline);
        }
        if !patch.is_touch() {
            record.version = record.version.next();
        }
        Ok(Patched { record, counters })
    }

    /// How often the record changed its owner; 0 while it has none.
    pub fn fence(&self) -> u64 {
        self.owner.as_ref().map_or(0, |owner| owner.fence)
    }

    fn rotate(&mut self, rotation: &Rotation, now: UtcDateTime) {
        let until = later(now, Self::REPLACED_KEPT);
        self.replaced = Some(Box::new(Replaced { hash: self.secret, until }));
        self.secret = rotation.hash;
        if let Some(authentication) = &rotation.authentication {
            self.authenticated = Some(authentication.at);
            self.absolute_deadline = authentication.absolute_deadline;
            if let Some(principal) = &authentication.principal {
                self.principal = Some(principal.clone());
            }
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
    /// The proof was right until a moment ago.
    Superseded,
    /// An expected value, or the fence, is another.
    Conflict,
    /// The patch cannot be applied to this record.
    Rejected(Rejection),
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
    pub until: UtcDateTime,
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
    /// It shows neither; whoever asks learns no more than that there is no such session.
    Wrong,
}
