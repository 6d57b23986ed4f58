//! A server over PostgreSQL, whose pool is smaller than what waits for it.

use futures_util::future::join_all;
use testkit::{Postgres, Server};

use crate::shown::{Shown, until};

pub async fn shown() -> Shown {
    let postgres = Postgres::start(&[]);
    let url = format!("postgres://postgres@{}/postgres", postgres.address());
    let server = Server::start(&["--store", &format!("{url}?connections=2")]).await;
    let members = join_all((0..3).map(async |n| server.member(&format!("user-{n}")).await)).await;
    let state = |state| format!("steadfast_postgres_connections{{state=\"{state}\"}}");
    until(&server, &state("idle"), |idle| idle >= 1.0).await;
    let held = postgres.hold("postgres", "LOCK TABLE steadfast.sessions");
    let waiting = members.iter().map(|member| member.spawn("GET", "/peek"));
    let waiting: Vec<_> = waiting.collect();
    until(&server, &state("lent"), |lent| lent == 2.0).await;
    until(&server, "steadfast_postgres_waiting", |waiting| waiting == 1.0).await;
    held.commit();
    for reply in waiting {
        reply.await.unwrap();
    }
    until(&server, "steadfast_postgres_waiting", |waiting| waiting == 0.0).await;
    until(&server, &state("lent"), |lent| lent == 0.0).await;
    Shown::by(&server).await
}
