//! The security requirements, shown from outside: each test bears the id of one. `README.md` beside
//! this file lists them all, and where each is shown.

#![allow(missing_docs, clippy::unwrap_used)]

mod requirements;
mod table;

mod identifier;
mod cookies;
mod fixation;
mod timeouts;
mod logout;
mod races;
mod cancellation;
mod floods;
mod input;
mod caching;
mod csrf;
mod leaks;
mod outages;
mod at_rest;

mod visitor;
mod common;
