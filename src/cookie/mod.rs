//! The session cookie: what it looks like, how it is found in a request, and what travels beside it;
//! and the header of clients without cookies.

pub(crate) mod parse;
pub(crate) mod profile;
pub(crate) mod companion;
pub(crate) mod header;
