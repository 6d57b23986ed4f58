//! Topics that the documentation of single items does not cover.
//!
//! | page | what it answers |
//! | --- | --- |
//! | [`choosing`] | which strategy to take, by what URL, and what it costs |
//! | [`handlers`] | how handlers use a session |
//! | `testing` | tests of an application: signed-in clients, time, outages, with the feature `testing` |
//! | [`configuration`] | settings, cargo features, metrics in short |
//! | [`security`] | what holds, against whom, and what is not defended |
//! | [`deploying`] | one machine, virtual machines, Kubernetes |
//! | [`browsers`] | cookies, other sites, several applications on one host |
//! | [`accounts`] | what to end when a password changes |
//! | [`streams`] | sessions in WebSockets and event streams |
//! | `sealing` | values that a reader of the store cannot read, with the feature `seal` |
//! | [`operating`] | alerts, a dashboard, and runbooks |
//! | [`metrics`] | every metric, event and span |
//! | `migrating` | coming from tower-sessions or axum-login, with the features of these names |
//! | [`stores`] | how to write a store, and how to know that it is right |
//! | [`upgrading`] | formats of stored records, and how to move between releases |
//! | [`glossary`] | the terms of the public API |

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("handlers.md")]
pub mod handlers {}

#[cfg(feature = "testing")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("deploying.md")]
pub mod deploying {}

#[doc = include_str!("browsers.md")]
pub mod browsers {}

#[doc = include_str!("accounts.md")]
pub mod accounts {}

#[doc = include_str!("streams.md")]
pub mod streams {}

#[cfg(feature = "seal")]
#[doc = include_str!("sealing.md")]
pub mod sealing {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("stores.md")]
pub mod stores {}

#[doc = include_str!("upgrading.md")]
pub mod upgrading {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[cfg(any(feature = "tower-sessions-0_14", feature = "tower-sessions-0_15"))]
#[doc = include_str!("migrating.md")]
pub mod migrating {}
