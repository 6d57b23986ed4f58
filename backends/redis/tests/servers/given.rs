//! A store over a connection that the application opened.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use steadfast_core::{Deletion, SessionStore};
use steadfast_redis::{RedisStore, SetupError};
use testkit::redis::{PASSWORD, Redis, USER};

use crate::fixture::{Visitor, on};

#[tokio::test]
async fn a_store_over_a_given_connection_opens_none() {
    let server = Redis::start();
    let connection = connect(&server).await;
    let before = connections(&server);
    let store = RedisStore::with_connection(connection);
    store.check().await.unwrap();
    let visitor = Visitor::arrive(&store).await.log_in(&store, "alice").await;
    visitor.write(&store, 1).await.unwrap();
    assert!(visitor.is_live(&store).await);
    assert_eq!(connections(&server), before);
    assert!(store.changes().is_none(), "listening takes a connection of its own");
}

#[tokio::test]
async fn one_command_loads_over_a_given_connection() {
    let server = Redis::start();
    let store = RedisStore::with_connection(connect(&server).await);
    let visitor = Visitor::arrive(&store).await;
    visitor.write(&store, 1).await.unwrap();
    let monitor = server.monitor();
    visitor.load(&store).await.unwrap();
    visitor.write(&store, 2).await.unwrap();
    assert_eq!(server.seen(monitor), ["hgetall", "evalsha"]);
}

#[tokio::test]
async fn it_shares_sessions_with_stores_of_own_connections() {
    let server = Redis::start();
    let builder = RedisStore::builder().prefix("steadfast:same".parse().unwrap());
    let own = on(&server, builder.clone().user(USER, PASSWORD));
    let given = builder.with_connection(connect(&server).await).unwrap();
    let visitor = Visitor::arrive(&given).await;
    assert!(visitor.is_live(&own).await);
    assert!(own.delete(visitor.id, &Deletion::LOGOUT).await.unwrap().is_ended());
    assert!(!visitor.is_live(&given).await);
}

#[tokio::test]
async fn a_given_connection_that_broke_confirms_nothing() {
    let server = Redis::start();
    let store = RedisStore::with_connection(connect(&server).await);
    let visitor = Visitor::arrive(&store).await;
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    let answer = tokio::time::timeout(Duration::from_secs(10), visitor.count(&store)).await;
    assert!(answer.expect("an error comes in time").is_err());
}

#[tokio::test]
async fn what_is_the_connections_own_cannot_be_set() {
    let server = Redis::start();
    let connection = connect(&server).await;
    for builder in [
        RedisStore::builder().user("alice", "secret"),
        RedisStore::builder().password("secret"),
        RedisStore::builder().database(1),
        RedisStore::builder().wait(1, Duration::from_millis(100)),
    ] {
        let refused = builder.with_connection(connection.clone());
        assert!(matches!(refused, Err(SetupError::GivenConnection)), "{refused:?}");
    }
}

async fn connect(server: &Redis) -> MultiplexedConnection {
    let url = format!("redis://{USER}:{PASSWORD}@{}", server.address());
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// How many clients the server has.
fn connections(server: &Redis) -> usize {
    server.ask(&["CLIENT", "LIST"]).text().lines().count()
}
