//! Permanent reasons to reject a change.

use crate::limits::LimitError;

/// The reason why a change is rejected. It is the same for every caller and every retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A limit is exceeded.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The value under the key is not an integer, so nothing can be added to it.
    #[error("the value of {key:?} is not an integer")]
    NotAnInteger {
        /// The key.
        key: Box<str>,
    },
    /// The sum does not fit in an `i64`.
    #[error("the counter {key:?} would overflow")]
    Overflow {
        /// The key.
        key: Box<str>,
    },
    /// The login's epoch is below its principal's minimum, or missing where there is a minimum.
    #[error("the login is older than the principal's last revocation")]
    StaleEpoch,
    /// The principal has as many live sessions as the cap allows, and the login may not end any.
    #[error("the principal has as many sessions as they may")]
    AtCap,
    /// The store accepts no new sessions.
    #[error("the store accepts no new sessions")]
    Draining,
}

impl Rejection {
    /// The value under `key` is not an integer.
    pub fn not_an_integer(key: &str) -> Self {
        Self::NotAnInteger { key: key.into() }
    }

    /// The counter `key` would overflow.
    pub fn overflow(key: &str) -> Self {
        Self::Overflow { key: key.into() }
    }
}
