//! The peers that keep sessions on a server.

mod axum_session;
mod steadfast;
mod tower_sessions;

use anyhow::Context;
use axum::Router;
use futures_util::future::BoxFuture;

use crate::cases::Case;
use crate::servers::Server;

/// A peer with one of its stores.
#[derive(Debug)]
pub struct Remote {
    pub name: &'static str,
    pub server: Server,
    open: fn(String) -> Opening,
    /// Returns the number of secrets that a request of this case hashes.
    pub hashes: fn(Case) -> u32,
}

impl Remote {
    /// Returns the routes with the layer around them, and the store on the server at an address.
    /// Called within a runtime that outlives the application.
    pub async fn app(&self, address: &str) -> anyhow::Result<Router> {
        (self.open)(self.server.url(address)).await.context(self.name)
    }
}

type Opening = BoxFuture<'static, anyhow::Result<Router>>;

/// All peers with their stores, in the order of the tables.
pub static REMOTE: [Remote; 6] = [
    Remote {
        name: "tower-sessions 0.14 Redis",
        server: Server::Redis,
        open: tower_sessions::with_redis,
        hashes: none,
    },
    Remote {
        name: "axum_session 0.22 Redis, cached",
        server: Server::Redis,
        open: axum_session::with_redis,
        hashes: none,
    },
    Remote {
        name: "steadfast Redis",
        server: Server::Redis,
        open: steadfast::open,
        hashes: steadfast::hashes,
    },
    Remote {
        name: "tower-sessions 0.14 PostgreSQL",
        server: Server::Postgres,
        open: tower_sessions::with_postgres,
        hashes: none,
    },
    Remote {
        name: "axum_session 0.22 PostgreSQL, cached",
        server: Server::Postgres,
        open: axum_session::with_postgres,
        hashes: none,
    },
    Remote {
        name: "steadfast PostgreSQL",
        server: Server::Postgres,
        open: steadfast::open,
        hashes: steadfast::hashes,
    },
];

pub fn remote_named(name: &str) -> anyhow::Result<&'static Remote> {
    REMOTE.iter().find(|peer| peer.name == name).with_context(|| format!("unknown peer {name:?}"))
}

fn none(_: Case) -> u32 {
    0
}
