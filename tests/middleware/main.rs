//! What a browser sees of the middleware, and what the store sees of a request.

#![allow(missing_docs, unreachable_pub)]

mod site;

mod cancellation;
mod concurrency;
mod costs;
mod order;
mod races;

mod caching;
mod cookies;
mod leaks;
mod lifetimes;
mod outages;
mod principals;
mod realms;
