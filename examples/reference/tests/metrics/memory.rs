//! A server with its sessions in memory, and nearly everything that can happen to a session.

use futures_util::future::join_all;
use testkit::{Events, Raw, Server, eventually};

use crate::shown::{Shown, until, value};

pub async fn shown() -> Shown {
    let server = Server::start(&["--store", "memory:?anonymous-records=3"]).await;
    tokens(&server).await;
    visitors(&server).await;
    answers(&server).await;
    streams(&server).await;
    failures(&server).await;
    times(&server).await;
    Shown::by(&server).await
}

/// Each kind of token that a request can bring.
async fn tokens(server: &Server) {
    let member = server.member("alice").await;
    let earlier = member.fork();
    member.post("/cycle").await.ok();
    earlier.get("/peek").await.ok();
    for token in ["no-token", &made_up()] {
        let client = server.client();
        client.set_cookie(NAME, token);
        client.get("/peek").await.ok();
    }
    let (one, other) = (member.cookie(NAME).unwrap(), made_up());
    let cookies = format!("{NAME}={one}; {NAME}={other}");
    server.client().send("GET", "/peek", &[("cookie", &cookies)], "").await.ok();
}

/// More visitors than there is room for; the kinds of sessions are counted.
async fn visitors(server: &Server) {
    for _ in 0..5 {
        server.client().post("/incr").await.ok();
    }
    let kind = |kind| format!("steadfast_sessions{{kind=\"{kind}\"}}");
    assert_eq!(value(server, &kind("visitors")).await, Some(3.0));
    assert_eq!(value(server, &kind("members")).await, Some(1.0));
    let bob = server.member("bob").await;
    assert_eq!(value(server, &kind("members")).await, Some(2.0));
    bob.post("/logout").await.ok();
    assert_eq!(value(server, &kind("members")).await, Some(1.0));
}

/// Each answer that a store can give.
async fn answers(server: &Server) {
    let client = server.member("carol").await;
    client.get("/sessions").await.ok();
    client.send("POST", "/put?k=text", &[], r#""no number""#).await.ok();
    assert_eq!(client.post("/incr?k=text").await.status, 409);
    // Two that read the same list, of which one is the first to write.
    let conflicts = r#"steadfast_store_seconds_count{op="update",outcome="conflict"}"#;
    eventually(async || {
        let append = || client.send("POST", "/append?k=list", &[], "1");
        join_all((0..8).map(|_| append())).await;
        value(server, conflicts).await > Some(0.0)
    })
    .await;
    client.post("/logout-all").await.ok();
}

/// A stream that is open, and one that is not any more.
async fn streams(server: &Server) {
    let client = server.member("dave").await;
    let mut stream = Events::open(server, &client, "/live").await;
    stream.next().await;
    until(server, "steadfast_watch_waits", |waits| waits == 1.0).await;
    until(server, r#"steadfast_watch_feeds{state="up"}"#, |feeds| feeds == 1.0).await;
    drop(stream);
    until(server, "steadfast_watch_waits", |waits| waits == 0.0).await;
}

/// Each way in which a store can fail, and a request that goes away while the store hangs.
async fn failures(server: &Server) {
    let client = server.member("erin").await;
    for mode in ["down", "corrupt"] {
        server.order(&format!("/fault?op=load&mode={mode}")).await;
        client.get("/peek").await;
    }
    server.order("/fault?op=load&mode=hang").await;
    let in_flight = r#"steadfast_store_calls_in_flight{op="load"}"#;
    let dropped = r#"steadfast_store_seconds_count{op="load",outcome="dropped"}"#;
    let mut request = Raw::connect(&server.address).await;
    let cookie = format!("Cookie: {}", client.cookies());
    request.send(&testkit::raw::bytes("GET", "/peek", &[cookie.as_bytes()])).await;
    until(server, in_flight, |calls| calls == 1.0).await;
    drop(request);
    until(server, dropped, |calls| calls == 1.0).await;
    assert_eq!(value(server, in_flight).await, Some(0.0));
    assert_eq!(client.get("/peek").await.status, 503, "it waits for the deadline");
    server.order("/fault?op=all&mode=none").await;
}

/// A session that is used again, one that is not, and one that is collected.
async fn times(server: &Server) {
    let (used, unused) = (server.member("frank").await, server.member("grace").await);
    server.order("/clock/advance?s=600").await;
    used.get("/peek").await.ok();
    let renewed = r#"steadfast_events_total{event="renewed"}"#;
    until(server, renewed, |renewed| renewed > 0.0).await;
    server.order("/clock/advance?s=1500").await;
    assert_eq!(unused.peek().await["status"], "expired");
    server.order("/clock/advance?s=86400").await;
    server.order("/gc").await;
}

/// A well-formed token that was never issued.
fn made_up() -> String {
    "A".repeat(64)
}

const NAME: &str = "__Host-id";
