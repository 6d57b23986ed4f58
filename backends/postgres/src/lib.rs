//! Sessions in PostgreSQL.

mod store;
mod address;
mod error;

mod sessions;
mod patches;
mod rows;
mod sweep;

mod pool;
mod hosts;
mod changes;

mod schema;
mod statements;
mod names;

pub use address::{AddressError, Tls};
pub use error::{Failure, SetupError, Unreachable};
pub use names::NameError;
pub use store::{PostgresStore, PostgresStoreBuilder};
