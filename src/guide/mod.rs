//! What to know beyond the documentation of each item.

#[doc = include_str!("browsers.md")]
pub mod browsers {}

#[doc = include_str!("accounts.md")]
pub mod accounts {}

#[doc = include_str!("streams.md")]
pub mod streams {}

#[cfg(feature = "seal")]
#[doc = include_str!("sealing.md")]
pub mod sealing {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("upgrading.md")]
pub mod upgrading {}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
#[doc = include_str!("migrating.md")]
pub mod migrating {}
