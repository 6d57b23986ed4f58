//! The reasons for which a sealed value does not open.

/// The reason for which a stored value does not open. It never shows the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not sealed, and [`accept_plain`](crate::SessionLayer#sealed-values) is not set.
    #[error("it is not sealed")]
    Plain,
    /// It names a key that is not in the ring.
    #[error("it is sealed under the key {name:?}, which is not in the ring")]
    UnknownKey {
        /// The name of the key.
        name: String,
    },
    /// It was changed, or sealed for another session, another key of the session or another realm, or the
    /// key of its name is another one.
    #[error("it is not what was sealed here under the key {name:?}")]
    Altered {
        /// The name of the key.
        name: String,
    },
}
