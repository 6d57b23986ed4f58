//! A server over Redis, which loses its feed, and then Redis.

use testkit::redis::Redis;
use testkit::{Client, Events, Server, eventually};

use crate::shown::{Shown, until, value};

pub async fn shown() -> Shown {
    let mut redis = Redis::start();
    let server = Server::start(&["--store", &redis.url()]).await;
    each_call(&server).await;
    let client = server.member("alice").await;
    let mut stream = Events::open(&server, &client, "/live").await;
    stream.next().await;
    let up = r#"steadfast_watch_feeds{state="up"}"#;
    until(&server, up, |feeds| feeds == 1.0).await;
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until(&server, "steadfast_watch_feed_gaps_total", |gaps| gaps == 1.0).await;
    until(&server, "steadfast_redis_connections", |open| open >= 1.0).await;
    until(&server, "steadfast_redis_waiting", |waiting| waiting == 0.0).await;
    redis.kill();
    until(&server, "steadfast_redis_connections", |open| open == 0.0).await;
    until_breakers(&server, &client, 1.0).await;
    client.get("/peek").await;
    let refused = r#"steadfast_store_errors_total{reason="breaker_open"}"#;
    until(&server, refused, |calls| calls > 0.0).await;
    redis.restart();
    until_breakers(&server, &client, 0.0).await;
    Shown::by(&server).await
}

/// Each kind of call once, which waits for the server.
async fn each_call(server: &Server) {
    let client = server.client();
    client.post("/incr").await.ok();
    client.post("/login?u=bob").await.ok();
    client.get("/sessions").await.ok();
    client.post("/logout").await.ok();
    server.member("bob").await.post("/logout-all").await.ok();
}

/// Sends requests until both breakers are open, or closed.
async fn until_breakers(server: &Server, client: &Client, state: f64) {
    for (calls, method, path) in [("reads", "GET", "/peek"), ("writes", "POST", "/incr")] {
        let open = format!("steadfast_breaker_open{{calls=\"{calls}\"}}");
        eventually(async || {
            client.send(method, path, &[], "").await;
            value(server, &open).await == Some(state)
        })
        .await;
    }
}
