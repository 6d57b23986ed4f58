//! The reasons for which a sealed value does not open.

/// The reason for which a stored value does not open. It never shows the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The value is not sealed, and [`accept_plain`](crate::SessionLayer#sealed-values) is not set.
    #[error("it is not sealed")]
    Plain,
    /// The value is sealed under a key that is not in the ring.
    #[error("it is sealed under the key {name:?}, which is not in the ring")]
    UnknownKey {
        /// The name of the key.
        name: String,
    },
    /// The value was changed, or was sealed for another session, session key or realm, or with a different key
    /// that has the same name.
    #[error("it was changed, or was not sealed here under the key {name:?}")]
    Altered {
        /// The name of the key.
        name: String,
    },
}
