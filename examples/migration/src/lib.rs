//! A shop with users, three times: on tower-sessions and axum-login, on a bridge, and without them.

pub mod users;
pub mod before;
pub mod bridged;
pub mod after;
