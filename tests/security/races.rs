//! Races: in any order, an ended session stays ended, and no client sees foreign data.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::raw::bytes;
use testkit::{Client, Raw, Reply, Server};
use tokio::task::JoinHandle;

use crate::common::{event, fault, heal, records, token, user_of};
use crate::visitor::Visitor;

/// Shows RC-01.
#[tokio::test]
async fn a_write_revives_no_logged_out_session() {
    for (mode, load) in [("write", 0), ("write", 1), ("incr", 0), ("incr", 1), ("cycle", 1)] {
        let (server, client) = signed_in().await;
        let old = token(&client);
        let held = hold(&server, &client, &format!("mode={mode}&load={load}")).await;
        client.post("/logout").await.ok();
        server.order("/gate/release?g=held").await;
        held.await.unwrap();
        assert_eq!(user_of(&server, &old).await, None, "{mode} {load}");
        let dump = server.told("/dump").await;
        assert!(!dump.to_string().contains("alice"), "{mode} {load}: {dump}");
    }
}

/// Shows RC-02.
#[tokio::test]
async fn a_concurrent_read_prolongs_no_ended_session() {
    for load in [0, 1] {
        let (server, client) = signed_in().await;
        let old = token(&client);
        let held = hold(&server, &client, &format!("mode=read&load={load}")).await;
        crate::common::advance(&server, 600.0).await;
        client.post("/logout").await.ok();
        server.order("/gate/release?g=held").await;
        assert_eq!(held.await.unwrap().ok().set_cookies(), [""; 0]);
        assert_eq!(user_of(&server, &old).await, None);
        assert!(records(&server).await.is_empty());
    }
}

/// Shows RC-03.
#[tokio::test]
async fn who_lost_to_a_logout_mints_nothing() {
    for mode in ["write", "incr", "cycle", "read", "flush"] {
        let (server, client) = signed_in().await;
        let held = hold(&server, &client, &format!("mode={mode}&load=1")).await;
        client.post("/logout").await.ok();
        server.order("/gate/release?g=held").await;
        let reply = held.await.unwrap();
        assert_eq!(reply.set_cookies(), [""; 0], "{mode}: {reply:?}");
        assert!(records(&server).await.is_empty(), "{mode}");
    }
}

/// Shows RC-03.
#[tokio::test]
async fn a_login_after_a_logout_is_separate() {
    let (server, client) = signed_in().await;
    let old = token(&client);
    let held = hold(&server, &client, "mode=login&u=bob&load=1").await;
    client.post("/logout").await.ok();
    server.order("/gate/release?g=held").await;
    let reply = held.await.unwrap().ok();
    let fresh = reply.set_cookies()[0].strip_prefix("__Host-id=").unwrap()[..64].to_owned();
    assert_eq!(user_of(&server, &fresh).await.as_deref(), Some("bob"));
    assert_eq!((user_of(&server, &old).await, records(&server).await.len()), (None, 1));
}

/// Shows RC-04.
#[tokio::test]
async fn a_write_during_a_rotation_never_doubles() {
    for (load, mode, n) in [
        (1, "write", json!(1)),
        (1, "incr", json!(1)),
        (0, "write", json!(null)),
        (0, "incr", json!(null)),
    ] {
        let (server, client) = signed_in().await;
        let old = token(&client);
        let held = hold(&server, &client, &format!("mode={mode}&load={load}")).await;
        client.post("/elevate").await.ok();
        server.order("/gate/release?g=held").await;
        assert_eq!(held.await.unwrap().set_cookies(), [""; 0], "{mode} {load}");
        assert_eq!(client.peek().await["n"], n, "{mode} {load}");
        assert_eq!(client.user().await.as_deref(), Some("alice"));
        assert_eq!((user_of(&server, &old).await, records(&server).await.len()), (None, 1));
    }
}

/// Shows RC-05.
#[tokio::test]
async fn rotating_tabs_stay_signed_in() {
    for path in ["/cycle", "/elevate", "/reauth", "/login?u=alice", "/logout-others"] {
        let server = Server::start(&[]).await;
        let tab = Visitor::at(&server, "https://shop.example");
        tab.post("/login?u=alice").await.ok();
        for _ in 0..10 {
            let other = tab.clone();
            let (_, _) = tokio::join!(tab.post(path), other.post(path));
            assert_eq!(tab.user().await.as_deref(), Some("alice"), "{path}");
        }
        // A login that lost to another is a session of its own.
        let most = if path.starts_with("/login") { 11 } else { 1 };
        assert!(records(&server).await.len() <= most, "{path}");
    }
}

/// Shows RC-06.
#[tokio::test]
async fn a_hundred_updates_at_once_all_count() {
    let (server, client) = signed_in().await;
    let increments = (0..100).map(|_| client.post("/incr"));
    let appends = (0..30).map(|_| client.send("POST", "/append?k=list", &[], "1"));
    let (counted, appended) = tokio::join!(
        futures_util::future::join_all(increments),
        futures_util::future::join_all(appends)
    );
    let mut values: Vec<_> =
        counted.into_iter().map(|reply| reply.ok().json()["value"].as_i64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    // One that cannot get its turn says so, and counts as nothing.
    let kept = appended.iter().filter(|reply| reply.status == 200).count();
    assert!(appended.iter().all(|reply| [200, 409].contains(&reply.status.as_u16())));
    let list = client.get("/get?k=list").await.ok().json();
    assert_eq!(list["value"].as_array().unwrap().len(), kept);
    assert_eq!(records(&server).await.len(), 1);
}

/// Shows RC-08.
#[tokio::test]
async fn a_write_to_an_evicted_session_revives_nothing() {
    let server = Server::start(&["--store", "memory:?anonymous-records=8"]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    let (old, evicted) = (token(&client), records(&server).await);
    let held = hold(&server, &client, "mode=write&load=1").await;
    for _ in 0..200 {
        server.client().post("/incr").await.ok();
    }
    assert!(records(&server).await.is_disjoint(&evicted));
    server.order("/gate/release?g=held").await;
    assert_eq!(held.await.unwrap().set_cookies(), [""; 0]);
    assert_eq!(peek(&server, &old).await["status"], "unknown");
    assert!(records(&server).await.is_disjoint(&evicted));
}

/// Shows RC-12.
#[tokio::test]
async fn shared_connections_never_mix_sessions() {
    let server = Server::start(&[]).await;
    let address: Arc<str> = server.address.as_str().into();
    let tokens: Arc<Vec<String>> = Arc::new(signed_in_users(&address).await);
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (address, tokens) = (Arc::clone(&address), Arc::clone(&tokens));
        tasks.spawn(async move { take_turns(&address, &tokens, worker).await });
    }
    tasks.join_all().await;
    assert_eq!(server.told("/stats").await["records"], CLIENTS);
}

/// The tokens of as many users, each signed in over a connection that all of them share.
async fn signed_in_users(address: &str) -> Vec<String> {
    let mut connection = Raw::connect(address).await;
    let mut tokens = Vec::new();
    for user in 0..CLIENTS {
        let path = format!("/login?u=user-{user}");
        let answer = connection.ask("POST", &path, &[]).await.unwrap();
        tokens.push(answer.token().unwrap().to_owned());
    }
    tokens
}

/// Sends batches of requests of many users in turn over one connection, and cuts each tenth of them
/// off in the middle.
async fn take_turns(address: &str, tokens: &[String], worker: usize) {
    let mut connection = Raw::connect(address).await;
    for batch in 0..CLIENTS * REQUESTS / WORKERS / BATCH {
        let users = (0..BATCH).map(|n| (batch * BATCH * 7 + n * 31 + worker * 13) % tokens.len());
        let requests = users.clone().flat_map(|user| {
            let line = format!("Cookie: __Host-id={}", tokens[user]);
            let path = format!("/status/200?mode=write&v=user-{user}");
            let own = bytes("POST", &path, &[line.as_bytes()]);
            [own, bytes("GET", "/peek", &[line.as_bytes()])].concat()
        });
        let requests: Vec<_> = requests.collect();
        let is_cut = batch % 10 == 9;
        connection.send(&requests[..requests.len() / (1 + usize::from(is_cut))]).await;
        if is_cut {
            connection = Raw::connect(address).await;
            continue;
        }
        for user in users {
            let written = connection.answer().await.unwrap().body;
            assert_eq!(written, format!(r#"{{"value":"user-{user}"}}"#));
            let peek = connection.answer().await.unwrap().body;
            let own = format!(r#"{{"user":"user-{user}","n":"user-{user}","#);
            assert!(peek.starts_with(&own), "{peek}");
        }
    }
}

/// Shows RC-17.
#[tokio::test]
async fn concurrent_first_requests_leave_one_session() {
    let server = Server::start(&[]).await;
    let visitor = Visitor::at(&server, "https://shop.example");
    let visits = (0..20).map(|_| visitor.post("/incr"));
    futures_util::future::join_all(visits).await;
    assert_eq!(visitor.cookies().len(), 1);
    let peek = visitor.get("/peek").await.ok().json();
    assert_eq!((&peek["status"], &peek["n"]), (&json!("existing"), &json!(1)));
    crate::common::advance(&server, 1_700.0).await;
    visitor.get("/peek").await.ok();
    crate::common::advance(&server, 1_700.0).await;
    server.order("/gc").await;
    assert_eq!(records(&server).await.len(), 1, "the others expire");
}

/// Shows RC-02.
#[tokio::test]
async fn a_logout_ends_a_touched_session() {
    let (server, client) = signed_in().await;
    let old = token(&client);
    crate::common::advance(&server, 600.0).await;
    fault(&server, "op=update&mode=slow&ms=100").await;
    let (reading, ending) = (client.fork(), client.clone());
    let (_, ended) = tokio::join!(reading.get("/peek"), ending.post("/logout"));
    ended.ok();
    heal(&server).await;
    assert_eq!(user_of(&server, &old).await, None);
    assert_eq!(event(&server, "logout").await, 1);
}

async fn signed_in() -> (Server, Client) {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    (server, client)
}

/// Has a copy of the client wait at a gate, and then act.
async fn hold(server: &Server, client: &Client, act: &str) -> JoinHandle<Reply> {
    let (copy, path) = (client.fork(), format!("/gate?g=held&{act}"));
    let held = tokio::spawn(async move { copy.post(&path).await });
    server.waiting("held", 1).await;
    held
}

async fn peek(server: &Server, token: &str) -> Value {
    let cookie = format!("__Host-id={token}");
    crate::common::with_cookie(server, "GET", "/peek", cookie.as_bytes()).await.json()
}

const CLIENTS: usize = 1_000;
/// The requests of each client: half of them write, half of them read.
const REQUESTS: usize = 50;
const WORKERS: usize = 10;
const BATCH: usize = 25;
