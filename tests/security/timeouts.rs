//! Lifetimes: both end a session, and nothing lengthens one.

use serde_json::Value;
use testkit::Server;
use testkit::server::{program, refusal};

use crate::common::{advance, records, token, user_of, with_cookie};

/// Shows TO-01.
#[tokio::test]
async fn an_unused_session_ends_after_its_idle_lifetime() {
    let server = Server::start(&SHORT).await;
    let clients = [server.member("alice").await, server.member("alice").await];
    advance(&server, 57.0).await;
    assert!(clients[0].user().await.is_some());
    advance(&server, 3.0).await;
    assert_eq!((clients[0].user().await.is_some(), clients[1].user().await), (true, None));
    advance(&server, 60.0).await;
    assert_eq!(clients[0].user().await, None);
}

/// Shows TO-02.
#[tokio::test]
async fn reading_counts_as_use() {
    let server = Server::start(&SHORT).await;
    let client = server.member("alice").await;
    for _ in 0..10 {
        advance(&server, 30.0).await;
        assert!(client.user().await.is_some());
    }
}

/// Shows TO-03.
#[tokio::test]
async fn constant_use_ends_at_the_absolute_lifetime() {
    let server = Server::start(&SHORT).await;
    let client = server.member("alice").await;
    for _ in 0..19 {
        advance(&server, 30.0).await;
        client.post("/incr").await.ok();
        assert!(client.user().await.is_some());
    }
    advance(&server, 30.0).await;
    assert_eq!(client.user().await, None);
}

/// Shows TO-04.
#[tokio::test]
async fn only_a_fresh_proof_extends_a_session() {
    let server = Server::start(&SHORT).await;
    let (rotating, renewing) = (server.member("alice").await, server.member("bob").await);
    for _ in 0..12 {
        advance(&server, 50.0).await;
        rotating.post("/cycle").await.ok();
        renewing.post("/reauth").await.ok();
    }
    assert_eq!((rotating.user().await, renewing.user().await.as_deref()), (None, Some("bob")));
}

/// Shows TO-05.
#[tokio::test]
async fn the_server_decides_when_a_session_ends() {
    let server = Server::start(&SHORT).await;
    let client = server.member("alice").await;
    let token = token(&client);
    advance(&server, 61.0).await;
    let cookie = format!("__Host-id={token}; Max-Age=99999; Expires=Fri, 31 Dec 9999 23:59:59 GMT");
    let peek = with_cookie(&server, "GET", "/peek", cookie.as_bytes()).await;
    assert_eq!(peek.json()["user"], Value::Null);
    assert_eq!(user_of(&server, &token).await, None, "still, without anything collected");
}

/// Shows TO-06.
#[tokio::test]
async fn a_write_after_the_end_revives_nothing() {
    for mode in ["write", "incr", "cycle", "read"] {
        let server = Server::start(&SHORT).await;
        let client = server.member("alice").await;
        let old = token(&client);
        let path = format!("/gate?g=late&load=1&mode={mode}");
        let held = client.fork();
        let held = tokio::spawn(async move { held.post(&path).await });
        advance(&server, 59.0).await;
        server.waiting("late", 1).await;
        advance(&server, 2.0).await;
        server.order("/gate/release?g=late").await;
        let reply = held.await.unwrap();
        assert_eq!(reply.set_cookies(), [""; 0], "{mode}: {reply:?}");
        assert_eq!(user_of(&server, &old).await, None, "{mode}");
        server.order("/gc").await;
        assert!(records(&server).await.is_empty(), "{mode}");
    }
}

/// Shows TO-08.
#[tokio::test]
async fn a_clock_that_jumps_lengthens_no_absolute_lifetime() {
    let server = Server::start(&SHORT).await;
    let client = server.member("alice").await;
    let deadline = absolute(&server).await;
    for jump in [20.0, -15.0, 40.0, -30.0, 55.0] {
        advance(&server, jump).await;
        for path in ["/incr", "/cycle", "/elevate"] {
            client.post(path).await.ok();
        }
        assert_eq!(absolute(&server).await, deadline);
    }
    for jump in [1e9, -1e9] {
        advance(&server, jump).await;
        client.user().await;
    }
    let user = client.user().await;
    assert!(user.is_none() || absolute(&server).await == deadline);
}

/// Shows TO-09.
#[tokio::test]
async fn expired_records_are_collected() {
    let server = Server::start(&SHORT).await;
    for _ in 0..50 {
        server.client().post("/incr").await.ok();
    }
    advance(&server, 120.0).await;
    let client = server.client();
    for _ in 0..50 {
        client.post("/incr").await.ok();
    }
    assert_eq!(records(&server).await.len(), 1);
}

/// Shows TO-11.
#[tokio::test]
async fn invalid_lifetimes_stop_the_program_at_start() {
    let most = u64::MAX.to_string();
    for (idle, absolute) in [
        ("0", "10"),
        ("-1", "10"),
        ("10", "0"),
        ("10", "9"),
        ("1", most.as_str()),
        ("1", "99999999999999999999"),
        ("1", "253402300800"),
        ("1.5", "10"),
        ("", "0"),
    ] {
        let said = refusal(program(&["--idle", idle, "--absolute", absolute])).await;
        assert_eq!(said.lines().count(), 1, "{idle} {absolute}: {said}");
    }
}

async fn absolute(server: &Server) -> String {
    server.told("/dump").await["records"][0]["absolute_deadline"].to_string()
}

const SHORT: [&str; 4] = ["--idle", "60", "--absolute", "600"];
