//! The time of a read from a server, as a multiple of the driver's own time in one interleaved run.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

use super::{connected_runtime, median};
use crate::cases::{Case, Size};
use crate::client::Client;
use crate::peers::REMOTE;
use crate::servers::{Server, Servers};

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The number of rounds.
    pub rounds: usize,
    /// The number of reads per peer and round.
    pub requests: usize,
}

/// Multiples of the driver's own read of the same size, by peer.
pub type Distances = BTreeMap<String, f64>;

pub fn run(plan: &Plan) -> anyhow::Result<Distances> {
    let servers = Servers::start();
    connected_runtime().block_on(async {
        let mut distances = Distances::new();
        for server in [Server::Redis, Server::Postgres] {
            distances.extend(from(plan, &servers, server).await?);
        }
        Ok(distances)
    })
}

async fn from(plan: &Plan, servers: &Servers, server: Server) -> anyhow::Result<Distances> {
    let address = servers.address(server);
    let mut driver = Driver::connect(server, &address, plan.requests).await?;
    let mut clients = Vec::new();
    for peer in REMOTE.iter().filter(|peer| peer.server == server) {
        let client = Client::warm(peer.app(&address).await?, Case::Read, plan.requests).await?;
        clients.push((peer.name, client, Vec::new()));
    }
    for _ in 0..plan.rounds {
        let start = Instant::now();
        driver.read(plan.requests).await?;
        let floor = start.elapsed().as_secs_f64();
        for (_, client, ratios) in &mut clients {
            let start = Instant::now();
            client.serve(Case::Read, plan.requests).await?;
            ratios.push(start.elapsed().as_secs_f64() / floor);
        }
    }
    Ok(clients.into_iter().map(|(name, _, ratios)| (name.to_owned(), median(ratios))).collect())
}

/// A connection of one of steadfast's drivers, and records of the size of a small session.
enum Driver {
    Redis(MultiplexedConnection),
    Postgres(PgConnection),
}

impl Driver {
    async fn connect(server: Server, address: &str, records: usize) -> anyhow::Result<Self> {
        let url = server.url(address);
        let mut driver = match server {
            Server::Redis => {
                let client = redis::Client::open(url)?;
                Self::Redis(client.get_multiplexed_async_connection().await?)
            }
            Server::Postgres => Self::Postgres(PgConnection::connect(&url).await?),
        };
        driver.fill(records).await?;
        driver.read(records).await?;
        Ok(driver)
    }

    async fn fill(&mut self, records: usize) -> anyhow::Result<()> {
        let value = "x".repeat(Size::SMALL.bytes);
        match self {
            Self::Redis(connection) => {
                for n in 0..records {
                    let mut hash = redis::cmd("HSET");
                    hash.arg(key(n)).arg("n").arg(1).arg("k01").arg(&value).arg("k02").arg(&value);
                    hash.exec_async(connection).await?;
                }
            }
            Self::Postgres(connection) => {
                sqlx::raw_sql("CREATE TABLE raw (id text PRIMARY KEY, data text NOT NULL)")
                    .execute(&mut *connection)
                    .await?;
                for n in 0..records {
                    let row = sqlx::query("INSERT INTO raw VALUES ($1, $2)").bind(key(n));
                    row.bind(value.repeat(2)).execute(&mut *connection).await?;
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, records: usize) -> anyhow::Result<()> {
        for n in 0..records {
            match self {
                Self::Redis(connection) => {
                    let mut read = redis::cmd("HGETALL");
                    let read = read.arg(key(n)).query_async(connection);
                    let _: HashMap<Vec<u8>, Vec<u8>> = read.await?;
                }
                Self::Postgres(connection) => {
                    let read = sqlx::query_scalar("SELECT data FROM raw WHERE id = $1");
                    let _: String = read.bind(key(n)).fetch_one(&mut *connection).await?;
                }
            }
        }
        Ok(())
    }
}

fn key(n: usize) -> String {
    format!("raw:{n:016}")
}
