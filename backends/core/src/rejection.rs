//! Why something cannot be done, whoever asks and however often.

use crate::limits::LimitError;

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Something is over a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The value under the key is no integer, so nothing can be added to it.
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
    /// The login is below the floor of its principal's epoch, or names none where there is a floor.
    #[error("the login is older than the principal's last revocation")]
    BelowFloor,
    /// The principal has as many live sessions as they may, and none of them is to end.
    #[error("the principal has as many sessions as they may")]
    AtCap,
    /// The store takes no new sessions.
    #[error("the store takes no new sessions")]
    Draining,
}

impl Rejection {
    /// The value under `key` is no integer.
    pub fn not_an_integer(key: &str) -> Self {
        Self::NotAnInteger { key: key.into() }
    }

    /// The counter `key` would overflow.
    pub fn overflow(key: &str) -> Self {
        Self::Overflow { key: key.into() }
    }
}
