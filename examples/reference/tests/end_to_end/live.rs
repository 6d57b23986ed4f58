//! Event streams: what they tell of their session, and how they end.

use std::time::Duration;

use testkit::{Events, Server, eventually};

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let server = Server::start(&[]).await;
    for (end, reason) in [("/logout", "logout"), ("/logout-all", "logout")] {
        let client = server.member("alice").await;
        let mut events = Events::open(&server, &client, "/live").await;
        assert_eq!(events.next().await, ("open".into(), "{}".into()));
        client.post(end).await.ok();
        let reason = format!(r#"{{"reason":"{reason}"}}"#);
        assert_eq!(events.next().await, ("ended".into(), reason));
        assert!(events.is_over().await);
    }
}

#[tokio::test]
async fn a_stream_tells_new_values_and_an_expiry() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let mut events = Events::open(&server, &client, "/live?watch=n").await;
    assert_eq!(events.next().await.0, "open");
    client.post("/incr").await.ok();
    assert_eq!(events.next().await, ("value".into(), r#"{"value":1}"#.into()));
    server.order("/clock/advance?s=1801").await;
    assert_eq!(events.next().await, ("ended".into(), r#"{"reason":"expired"}"#.into()));
    assert_eq!(client.user().await, None);
}

#[tokio::test]
async fn a_touching_stream_keeps_its_session() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let mut events = Events::open(&server, &client, "/live?touch=1").await;
    assert_eq!(events.next().await.0, "open");
    for _ in 0..3 {
        let renewed = server.told("/events").await["renewed"].as_u64().unwrap();
        server.order("/clock/advance?s=1700").await;
        eventually(async || server.told("/events").await["renewed"].as_u64().unwrap() > renewed)
            .await;
    }
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_visitor_without_a_session_has_no_stream() {
    let server = Server::start(&[]).await;
    assert_eq!(server.client().get("/live").await.status, 401);
}

#[tokio::test]
async fn an_open_stream_does_not_block_shutdown() {
    let server = Server::start(&["--shutdown", "20"]).await;
    let client = server.member("alice").await;
    let mut events = Events::open(&server, &client, "/live").await;
    assert_eq!(events.next().await.0, "open");
    server.signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(15), server.ended());
    let (ended, event) = tokio::join!(ended, events.next());
    assert!(ended.expect("it ends before its patience does").0.success());
    assert_eq!(event, ("ended".into(), r#"{"reason":"shutdown"}"#.into()));
}
