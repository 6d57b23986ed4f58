//! The session cookie: what it looks like, and how it is found in a request.

pub(crate) mod parse;
pub(crate) mod profile;
