//! What came of a create or a patch, out of a script's answer.

use steadfast_core::{Applied, LimitError, Outcome, RecordId, Rejection, StoreError, Version};

use crate::codec::Corrupt;
use crate::script::Answer;
use crate::sessions::corrupt;

/// What came of a create or a patch.
#[derive(Debug)]
pub(crate) enum Made {
    Applied {
        applied: Applied,
        /// Whose list it leaves, and under which ticket.
        left: Option<(String, String)>,
    },
    /// It had been made before.
    Unchanged(Version),
    /// A revocation came between a login's entry in the index and the login: to be started again.
    Again,
    /// Nothing, because it was only asked whether it could be.
    Fine,
    Refused(Outcome),
}

impl Made {
    pub(crate) fn of(mut answer: Answer, id: RecordId) -> Result<Self, StoreError> {
        let made = match answer.word.as_str() {
            "applied" => applied(&mut answer),
            "unchanged" => answer.number().map(|version| Self::Unchanged(Version(version))),
            "again" => Some(Self::Again),
            "fine" => Some(Self::Fine),
            "exists" => Some(Self::Refused(Outcome::Exists)),
            "gone" => Some(Self::Refused(Outcome::Gone)),
            "superseded" => Some(Self::Refused(Outcome::Superseded)),
            "conflict" => Some(Self::Refused(Outcome::Conflict)),
            "corrupt" => return Err(corrupt(id, Corrupt::Form)),
            _ => rejection(&mut answer).map(Self::rejected),
        };
        made.ok_or_else(|| StoreError::refused(Unexpected))
    }

    pub(crate) fn rejected(why: Rejection) -> Self {
        Self::Refused(Outcome::Rejected(why))
    }

    pub(crate) fn outcome(self) -> Result<Outcome, StoreError> {
        match self {
            Self::Applied { applied, .. } => Ok(Outcome::Applied(applied)),
            Self::Unchanged(version) => Ok(Outcome::Applied(Applied::at(version))),
            Self::Refused(outcome) => Ok(outcome),
            Self::Again | Self::Fine => Err(StoreError::refused(Unexpected)),
        }
    }
}

fn applied(answer: &mut Answer) -> Option<Made> {
    let version = Version(answer.number()?);
    let counted = answer.texts()?;
    let counter = |pair: &[String]| Some((pair[0].as_str().into(), pair[1].parse().ok()?));
    let counters = counted.chunks_exact(2).map(counter).collect::<Option<_>>()?;
    let ended = answer.ids()?;
    let left = answer.text().zip(answer.text()).filter(|(name, _)| !name.is_empty());
    Some(Made::Applied { applied: Applied { counters, ended, ..Applied::at(version) }, left })
}

fn rejection(answer: &mut Answer) -> Option<Rejection> {
    match answer.word.as_str() {
        "keys" => {
            let (keys, limit) = (answer.number()?, answer.number()?);
            Some(LimitError::Keys { keys, limit }.into())
        }
        "bytes" => {
            let (len, limit) = (answer.number()?, answer.number()?);
            Some(LimitError::Record { len, limit }.into())
        }
        "integer" => Some(Rejection::not_an_integer(&answer.text()?)),
        "overflow" => Some(Rejection::overflow(&answer.text()?)),
        "floor" => Some(Rejection::BelowFloor),
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server answers what none of our scripts does")]
pub(crate) struct Unexpected;
