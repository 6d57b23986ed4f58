//! The stores, one feature each.

#[cfg(feature = "memory")]
pub use steadfast_memory::{Budget, MemoryStore};

#[cfg(feature = "postgres")]
pub use steadfast_postgres::{
    PostgresStore, PostgresStoreBuilder, SetupError as PostgresSetupError, Tls as PostgresTls,
};
