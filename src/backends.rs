//! The stores, one feature each.

#[cfg(feature = "memory")]
pub use steadfast_memory::{Budget, MemoryStore};
