//! The outcome of a create or a patch, parsed from a script's answer.

use steadfast_core::{
    Applied, KeyId, LimitError, Outcome, RecordId, Rejection, StoreError, Version,
};

use crate::codec::{Corrupt, Unpacked, corrupt, newer};
use crate::script_reply::{ScriptReply, unexpected};

/// The outcome of a create or a patch.
#[derive(Debug)]
pub(crate) enum ScriptOutcome {
    Applied {
        applied: Applied,
        /// The list that the record left, and the ticket of its entry.
        left: Left,
        /// Entries of the principal's list that may be stale.
        stale: Vec<String>,
    },
    /// The change had been applied before.
    Unchanged(Version),
    /// A revocation came between the login's index entry and the login. The login must start again.
    Retry,
    /// The change would be applied; nothing was changed because the call only asked. Contains the
    /// login that the record is under.
    WouldApply(Left),
    Refused(Outcome),
}

/// The list that a record left: the name of the principal, empty if none, and the ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) name: String,
    pub(crate) ticket: String,
}

impl Left {
    pub(crate) fn of(answer: &mut ScriptReply) -> Option<Self> {
        Some(Self { name: answer.text()?, ticket: answer.text()? })
    }
}

impl ScriptOutcome {
    pub(crate) fn of(answer: &mut ScriptReply, id: RecordId) -> Result<Self, StoreError> {
        let made = match answer.word {
            b'a' => applied(answer),
            b'u' => answer.take(Unpacked::u64).map(|version| Self::Unchanged(Version(version))),
            b'A' => Some(Self::Retry),
            b'f' => Left::of(answer).map(Self::WouldApply),
            b'e' => Some(Self::Refused(Outcome::Exists)),
            b'g' => Some(Self::Refused(Outcome::Gone)),
            b's' => Some(Self::Refused(Outcome::Superseded)),
            b'c' => Some(Self::Refused(Outcome::Conflict)),
            _ => match trouble(answer, id) {
                Some(error) => return Err(error),
                None => rejection(answer).map(Self::rejected),
            },
        };
        made.ok_or_else(unexpected)
    }

    pub(crate) fn rejected(why: Rejection) -> Self {
        Self::Refused(Outcome::Rejected(why))
    }

    /// Whether a login was refused, because its principal has as many sessions as they may.
    pub(crate) fn is_at_cap(&self) -> bool {
        matches!(self, Self::Refused(Outcome::Rejected(Rejection::AtCap)))
    }

    pub(crate) fn outcome(self) -> Result<Outcome, StoreError> {
        match self {
            Self::Applied { applied, .. } => Ok(Outcome::Applied(applied)),
            Self::Unchanged(version) => Ok(Outcome::Applied(Applied::at(version))),
            Self::Refused(outcome) => Ok(outcome),
            Self::Retry | Self::WouldApply(_) => Err(unexpected()),
        }
    }
}

/// Parses a problem of the record, or a key that this node does not know.
pub(crate) fn trouble(answer: &mut ScriptReply, id: RecordId) -> Option<StoreError> {
    match answer.word {
        b'x' => Some(corrupt(id, Corrupt::Form)),
        b'n' => answer.take(Unpacked::u16).map(newer),
        b'k' => answer.take(key).map(StoreError::UnknownKey),
        _ => None,
    }
}

/// Parses a fingerprint and a name.
fn key(from: &mut Unpacked<'_>) -> Option<KeyId> {
    let print = u32::from_be_bytes(from.bytes(4)?.try_into().ok()?);
    let name = std::str::from_utf8(from.bytes(from.0.len())?).ok()?;
    KeyId::from_parts(print, name)
}

fn applied(answer: &mut ScriptReply) -> Option<ScriptOutcome> {
    let version = Version(answer.take(Unpacked::u64)?);
    let count = answer.take(Unpacked::u16)?;
    let counters = (0..count).map(|_| answer.take(counter)).collect::<Option<_>>()?;
    let ended = answer.ids()?;
    let (left, stale) = (Left::of(answer)?, answer.texts()?);
    let applied = Applied { counters, ended, ..Applied::at(version) };
    Some(ScriptOutcome::Applied { applied, left, stale })
}

fn counter(from: &mut Unpacked<'_>) -> Option<(Box<str>, i64)> {
    let [key, value] = [from.short()?, from.short()?].map(std::str::from_utf8);
    Some((key.ok()?.into(), value.ok()?.parse().ok()?))
}

fn rejection(answer: &mut ScriptReply) -> Option<Rejection> {
    let word = answer.word;
    match word {
        b'K' | b'B' => {
            let (is, limit) = answer.take(|from| Some((from.u32()?, from.u32()?)))?;
            Some(match word {
                b'K' => LimitError::Keys { keys: is, limit }.into(),
                _ => LimitError::Record { len: is, limit }.into(),
            })
        }
        b'i' | b'o' => {
            let key = answer.take(|from| std::str::from_utf8(from.bytes(from.0.len())?).ok())?;
            Some(match word {
                b'i' => Rejection::not_an_integer(key),
                _ => Rejection::overflow(key),
            })
        }
        b'F' => Some(Rejection::StaleEpoch),
        b'R' => Some(Rejection::AtCap),
        _ => None,
    }
}
