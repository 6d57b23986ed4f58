//! The middleware as a browser and a store see it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod site;
mod log;

mod invariants;
mod histories;

mod costs;
mod order;
mod handles;
mod streams;
mod layers;
mod abandoned;
mod concurrency;
mod races;
mod cancellation;

mod cookies;
mod carried;
#[cfg(feature = "sticky")]
mod sticky;
mod caching;
mod lifetimes;
mod facts;
mod administration;
mod events;
mod principals;
mod outages;
mod realms;
mod extractor;
mod leaks;
mod values;
mod once;
#[cfg(feature = "seal")]
mod sealed;
