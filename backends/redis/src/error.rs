//! Why a store cannot be set up.

use std::path::PathBuf;

/// A store cannot be set up as it was asked to be. A server that does not answer is no such reason: it
/// may answer later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// There is no address to ask.
    #[error("no address of a server is given")]
    NoAddress,
    /// The file with the authorities to believe cannot be read.
    #[error("the file {path:?} with certificates of authorities cannot be read")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no authority to believe.
    #[error("no certificate of an authority was found to verify servers with")]
    NoAuthority,
    /// A cluster has one database only.
    #[error("a cluster has no database {0}, only 0")]
    Database(u32),
}
