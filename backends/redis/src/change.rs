//! Changes to a record, and the logins among them.

use std::time::Duration;

use steadfast_core::{
    LimitError, Limits, LoginPolicy, Patch, Principal, Record, RecordId, Timestamp,
};

use crate::keys::name;

/// A change that may be a login.
pub(crate) enum Change<'c> {
    Create(&'c Record, LoginPolicy),
    Patch(&'c Patch),
}

impl Change<'_> {
    /// Returns the principal who gets another session.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Create(record, _) => record.principal.as_ref(),
            Self::Patch(patch) => Login::principal(patch),
        }
    }

    pub(crate) fn over_limit(&self, limits: &Limits) -> Option<LimitError> {
        match self {
            Self::Create(..) => None,
            Self::Patch(patch) => patch.check(limits).err(),
        }
    }
}

/// Returns true if the patch authenticates the record's current principal.
pub(crate) fn is_elevation(patch: &Patch) -> bool {
    let authentication = patch.rotation().and_then(|rotation| rotation.authentication.as_ref());
    authentication.is_some_and(|authentication| authentication.principal.is_none())
}

/// A login of a principal.
pub(crate) struct Login {
    pub(crate) id: RecordId,
    pub(crate) name: String,
    pub(crate) at: Timestamp,
    /// The earliest time at which the session may have expired.
    pub(crate) ends: Timestamp,
    pub(crate) absolute_deadline: Timestamp,
    pub(crate) policy: LoginPolicy,
}

impl Login {
    pub(crate) fn by(id: RecordId, record: &Record, policy: LoginPolicy) -> Option<Self> {
        Some(Self {
            id,
            name: name(record.principal.as_ref()?),
            at: record.authenticated.unwrap_or(record.created),
            ends: record.deadline(),
            absolute_deadline: record.absolute_deadline,
            policy,
        })
    }

    pub(crate) fn of(id: RecordId, patch: &Patch) -> Option<Self> {
        let authentication = patch.rotation()?.authentication.as_ref()?;
        let absolute_deadline = authentication.absolute_deadline;
        Some(Self {
            id,
            name: name(authentication.principal.as_ref()?),
            at: authentication.at,
            // The patch may leave the idle deadline alone, and the record's is not known here.
            ends: patch
                .idle_deadline()
                .unwrap_or(authentication.at + Duration::from_secs(60))
                .min(absolute_deadline),
            absolute_deadline,
            policy: authentication.policy,
        })
    }

    pub(crate) fn principal(patch: &Patch) -> Option<&Principal> {
        patch.rotation()?.authentication.as_ref()?.principal.as_ref()
    }
}
