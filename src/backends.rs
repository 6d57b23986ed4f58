//! The stores, one feature each.

#[cfg(feature = "memory")]
pub use steadfast_memory::MemoryStore;

#[cfg(feature = "postgres")]
pub use steadfast_postgres::{
    PostgresStore, PostgresStoreBuilder, SetupError as PostgresSetupError, Tls as PostgresTls,
};

#[cfg(feature = "redis")]
pub use steadfast_redis::{
    Address as RedisAddress, Prefix as RedisPrefix, RedisStore, RedisStoreBuilder,
    SetupError as RedisSetupError, Tls as RedisTls,
};

#[cfg(feature = "replicated")]
pub use steadfast_replicated::{
    Acknowledgements, ClusterSettings, DrainMode, OpenError as ReplicatedOpenError,
    PartitionPolicy, ReplicatedStore, ReplicatedStoreBuilder, Replication,
};

#[cfg(feature = "sticky")]
pub use steadfast_sticky::{StickyStore, StickyStoreBuilder};
