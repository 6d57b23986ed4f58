//! Sticky nodes, alone and over a backup.

use testkit::redis::Redis;
use testkit::{Client, Server, eventually};

use crate::shown::{Shown, until, value};

pub async fn shown() -> Shown {
    let mut shown = alone().await;
    shown.add(with_backup().await);
    shown
}

/// A node whose sessions end with it.
async fn alone() -> Shown {
    let server = Server::start(&["--store", "sticky:?peers=n1,n2", "--node", "n1"]).await;
    let client = server.member("alice").await;
    for route in ["n1", "n2.n1", "n2", "n9"] {
        routed(&client, route).get("/peek").await.ok();
    }
    let stranger = routed(&server.client(), "n2");
    stranger.set_cookie("__Host-id", &"A".repeat(64));
    stranger.get("/peek").await.ok();
    assert!(client.get("/sessions").await.status.is_server_error(), "no node sees all of them");
    // A share is that of some seconds, and requests end them.
    eventually(async || {
        routed(&client, "n1").get("/ping").await.ok();
        value(&server, r#"steadfast_astray_share{node="n1"}"#).await.is_some()
    })
    .await;
    Shown::by(&server).await
}

/// A node that takes a session over, sees a copy that went back, and cannot write what it acknowledged.
async fn with_backup() -> Shown {
    let mut redis = Redis::start();
    let store = format!("sticky:?backup={}&write-behind-ms=5000&drain-ms=200", redis.url());
    let [first, second] = ["n1", "n2"].map(|node| ["--store", &store, "--node", node]);
    let (first, second) = (Server::start(&first).await, Server::start(&second).await);
    let client = second.member("alice").await;
    client.at(&first).get("/peek").await.ok();
    assert_eq!(value(&first, r#"steadfast_takeovers_total{node="n1"}"#).await, Some(1.0));
    client.set_cookie("__Host-id-seen", &u64::MAX.to_string());
    client.at(&first).get("/peek").await.ok();
    redis.kill();
    client.at(&first).send("POST", "/put", &[], "1").await.ok();
    until(&first, r#"steadfast_write_behind_queued{node="n1"}"#, |queued| queued > 0.0).await;
    until(&first, r#"steadfast_feed_up{node="n1"}"#, |up| up == 0.0).await;
    first.control("POST", "/drain").await;
    until(&first, r#"steadfast_write_behind_lost_total{node="n1"}"#, |lost| lost > 0.0).await;
    Shown::by(&first).await
}

fn routed(client: &Client, route: &str) -> Client {
    let client = client.fork();
    client.set_cookie("__Host-id-route", route);
    client
}
