//! Deltas: the changes of one patch to a record, as its owner decided them.

use steadfast_core::{
    Facts, Owner, PRE_AUTH, Patch, Principal, Record, Replaced, SecretHash, Timestamp, Version,
};

use super::stamp::Stamp;

/// The raw JSON that was written; `None` removed the key.
type Written = Option<Box<[u8]>>;

/// The changes of one patch, as the owner decided them: applying them decides nothing again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The time of the write.
    pub stamp: Stamp,
    /// The version of the record after it.
    pub version: Version,
    /// True if it removes all values first.
    pub clear: bool,
    /// The written values, by key.
    pub ops: Vec<(Box<str>, Written)>,
    /// Everything but values, version and idle deadline, where any of it changed.
    pub head: Option<Box<Head>>,
    /// The idle deadline after it.
    pub idle_deadline: Timestamp,
}

impl Delta {
    /// Returns the changes of a patch to a record.
    pub fn of(patch: &Patch, before: &Record, after: &Record, stamp: Stamp) -> Self {
        let op = |key: &str| (key.into(), after.values.get(key).map(Into::into));
        let unseen = before.values.iter().map(|(key, _)| key).filter(|key| {
            patch.clears_pre_auth() && key.starts_with(PRE_AUTH) && patch.op(key).is_none()
        });
        let (old, new) = (Head::of(before), Head::of(after));
        Self {
            stamp,
            version: after.version,
            clear: patch.is_clear(),
            ops: patch.ops().map(|(key, _)| key).chain(unseen).map(op).collect(),
            head: (old != new).then(|| Box::new(new)),
            idle_deadline: after.idle_deadline,
        }
    }
}

/// The parts of a record besides its values, its version and its idle deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Record`")]
pub struct Head {
    pub secret: SecretHash,
    pub replaced: Option<Box<Replaced>>,
    pub created: Timestamp,
    pub authenticated: Option<Timestamp>,
    pub absolute_deadline: Timestamp,
    pub principal: Option<Principal>,
    pub sign_in: u64,
    pub facts: Facts,
    pub owner: Option<Box<Owner>>,
}

impl Head {
    /// That of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            secret: record.secret,
            replaced: record.replaced.clone(),
            created: record.created,
            authenticated: record.authenticated,
            absolute_deadline: record.absolute_deadline,
            principal: record.principal.clone(),
            sign_in: record.sign_in,
            facts: record.facts.clone(),
            owner: record.owner.clone(),
        }
    }

    /// A record with this head and the rest of another one.
    pub fn with(self, rest: &Record) -> Record {
        Record {
            secret: self.secret,
            replaced: self.replaced,
            version: rest.version,
            values: rest.values.clone(),
            created: self.created,
            authenticated: self.authenticated,
            idle_deadline: rest.idle_deadline,
            absolute_deadline: self.absolute_deadline,
            principal: self.principal,
            sign_in: self.sign_in,
            facts: self.facts,
            owner: self.owner,
        }
    }
}
