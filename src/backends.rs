//! The stores, one feature each.

#[cfg(feature = "memory")]
pub use steadfast_memory::MemoryStore;
