//! A small tea shop: the application of all examples. Its handlers take a [`Session`](steadfast::Session)
//! and name no backend; an example adds the store, and the [`Strategy`] that the page explains.
//!
//! | file | what it has |
//! | --- | --- |
//! | `strategy.rs` | the description of a store, which an example gives to the page |
//! | `routes.rs` | the handlers |
//! | `page/mod.rs` | the page, and below it a file for each of its parts |
//! | `device.rs` | names for browsers |
//! | `failure.rs` | the page that answers an error |
//! | `shop.rs` | several nodes in one process, for stores that need no process for each |
//! | `serving.rs` | one node, until its process has to stop |

mod strategy;

mod routes;

mod page;

mod device;
mod failure;

mod serving;
mod shop;

pub use routes::router;
pub use serving::{PATIENCE, ctrl_c, serve};
pub use shop::{Policy, Shop};
pub use strategy::Strategy;
