//! Floods and limits: they harm only the visitors who cause them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use testkit::raw::{Answer, bytes, flood};
use testkit::{Client, Server, eventually};

use crate::common::{event, fault, made_up, records, resident, token, with_cookie};

/// Shows DS-01.
#[tokio::test]
async fn requests_that_touch_no_session_leave_nothing_behind() {
    let server = Server::start(&[]).await;
    let line = format!("Cookie: __Host-id={}", made_up(1));
    let request = move |number: usize| match number % 2 {
        0 => bytes("GET", "/ping", &[]),
        _ => bytes("GET", "/ping", &[line.as_bytes()]),
    };
    let see = |_, answer: Answer| {
        assert_eq!(answer.status, 200);
        for name in ["set-cookie", "vary", "cache-control"] {
            assert_eq!(answer.lines(name).count(), 0, "{answer:?}");
        }
    };
    flood(&server.address, 100_000, request, see).await;
    let stats = server.told("/stats").await;
    assert_eq!((&stats["records"], &stats["ops"]["load"]), (&json!(0), &json!(0)));
}

/// Shows DS-02.
#[tokio::test]
async fn reading_what_is_not_there_creates_nothing() {
    let server = Server::start(&[]).await;
    let see = |_, answer: Answer| {
        assert_eq!((answer.status, answer.lines("set-cookie").count()), (200, 0));
    };
    flood(&server.address, 100_000, |_| bytes("GET", "/peek", &[]), see).await;
    let stats = server.told("/stats").await;
    assert_eq!((&stats["records"], &stats["ops"]["load"]), (&json!(0), &json!(0)));
}

/// Shows DS-03.
#[tokio::test]
async fn a_visitor_flood_ends_no_user_session() {
    let server = Server::start(&["--store", "memory:?anonymous-records=1000"]).await;
    let users = members(&server, 100).await;
    fill(&server, 1_000).await;
    let before = resident(&server);
    let tasks = (fill(&server, 51_000), logins_meanwhile(&server, 20));
    let (_, fresh) = tokio::join!(tasks.0, tasks.1);
    let stats = server.told("/stats").await;
    assert!(stats["records"].as_u64().unwrap() <= 1_000 + 120 + EXCESS, "{stats}");
    assert_eq!(stats["authenticated"], 120);
    assert!(event(&server, "capacity").await >= 50_000 - EXCESS);
    assert!(resident(&server) < before + (32 << 20), "{before} grew to {}", resident(&server));
    all_live(&users).await;
    all_live(&fresh).await;
}

/// Shows DS-04.
#[tokio::test]
async fn a_sign_in_survives_a_flood() {
    let server = Server::start(&["--store", "memory:?anonymous-records=100"]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, address) = (Arc::clone(&is_over), server.address.clone());
    let flooding = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            flood(&address, 800, |_| bytes("POST", "/incr", &[]), |_, _| {}).await;
        }
    });
    let mut users = Vec::new();
    for ten in 0..10 {
        let logins = (0..10).map(|user| visitor_who_signs_in(&server, ten * 10 + user));
        users.extend(futures_util::future::join_all(logins).await);
    }
    is_over.store(true, Ordering::Relaxed);
    flooding.await.unwrap();
    crate::common::advance(&server, 60.0).await;
    all_live(&users).await;
}

/// Shows DS-05.
#[tokio::test]
async fn a_flood_of_unknown_tokens_leaves_nothing() {
    let server = Server::start(&[]).await;
    let users = members(&server, 20).await;
    let unknown = |start: usize| {
        move |number: usize| {
            let line = format!("Cookie: __Host-id={}", made_up(start + number));
            bytes("GET", "/peek", &[line.as_bytes()])
        }
    };
    let see = |_, answer: Answer| {
        assert_eq!((answer.status, answer.lines("set-cookie").count()), (200, 0));
    };
    flood(&server.address, 5_000, unknown(0), see).await;
    let before = resident(&server);
    tokio::join!(flood(&server.address, 95_000, unknown(5_000), see), all_live(&users));
    assert_eq!(records(&server).await.len(), 20);
    assert!(resident(&server) < before + (8 << 20), "{before} grew to {}", resident(&server));
    assert_eq!(event(&server, "unknown_id").await, 100_000);
}

/// Shows DS-06.
#[tokio::test]
async fn a_value_over_the_limit_changes_nothing() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    client.send("POST", "/put?k=v", &[], &text(16_384)).await.ok();
    let before = server.told("/dump").await;
    for body in [text(16_385), text(100_000)] {
        assert_eq!(client.send("POST", "/put?k=v", &[], &body).await.status, 413);
        assert_eq!(client.send("POST", "/append?k=w", &[], &body).await.status, 413);
    }
    assert_eq!(server.told("/dump").await, before);
}

/// Shows DS-07.
#[tokio::test]
async fn keys_depth_and_the_whole_are_bounded() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let put = async |key: &str, body: &str| {
        client.send("POST", &format!("/put?k={key}"), &[], body).await.status.as_u16()
    };
    for key in 0..64 {
        assert_eq!(put(&format!("k{key}"), "1").await, 200);
    }
    assert_eq!((put("k64", "1").await, put("k63", "2").await), (500, 200));
    for (key, status) in [("x".repeat(128), 200), ("x".repeat(129), 413), (String::new(), 413)] {
        client.send("DELETE", "/key?k=k0", &[], "").await.ok();
        assert_eq!(put(&key, "1").await, status, "a key of {}", key.len());
    }
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!((put("k1", &nested(32)).await, put("k1", &nested(33)).await), (200, 413));
    let large = format!("\"{}\"", "x".repeat(16_000));
    let mut statuses = Vec::new();
    for key in ["k1", "k2", "k3", "k4", "k5"] {
        statuses.push(put(key, &large).await);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 500]);
}

/// Shows DS-08.
#[tokio::test]
async fn thousands_of_cookies_are_read_once() {
    let server = Server::start(&[]).await;
    let token = token(&server.member("alice").await);
    let junk = "c=v; ".repeat(12_000);
    let ours = format!("{junk}__Host-id={token}");
    let peek = with_cookie(&server, "GET", "/peek", ours.as_bytes()).await;
    assert_eq!(peek.json()["user"], "alice");
    for part in ["__Host-id=; ", "__Host-id=x; ", ";", "; ;", "=", "\"", "__Host-id"] {
        let line = format!("Cookie: {}", part.repeat(64_000 / part.len()));
        let request = move |_| bytes("GET", "/peek", &[line.as_bytes()]);
        flood(&server.address, 32, request, |_, answer| assert_eq!(answer.status, 200)).await;
    }
}

/// Shows DS-09.
#[tokio::test]
async fn a_hanging_store_delays_only_its_requests() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    fault(&server, "op=all&mode=hang").await;
    let waiting: Vec<_> = (0..50).map(|_| client.fork().spawn("GET", "/peek")).collect();
    eventually(async || server.told("/stats").await["ops"]["load"].as_u64() > Some(0)).await;
    for _ in 0..100 {
        server.client().get("/ping").await.ok();
        server.client().get("/peek").await.ok();
    }
    for reply in waiting {
        let reply = reply.await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, Some("1")));
    }
}

/// Shows DS-13.
#[tokio::test]
async fn a_login_flood_respects_the_cap() {
    let server = Server::start(&["--max-per-principal", "50"]).await;
    let see = |_, answer: Answer| assert_eq!(answer.status, 200);
    flood(&server.address, 40_000, |_| bytes("POST", "/login?u=alice", &[]), see).await;
    let client = server.member("alice").await;
    let sessions = client.get("/sessions").await.ok().json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 50);
    assert_eq!(records(&server).await.len(), 50);
}

async fn fill(server: &Server, visitors: usize) {
    let see = |_, answer: Answer| assert_eq!(answer.status, 200);
    flood(&server.address, visitors, |_| bytes("POST", "/incr", &[]), see).await;
}

async fn members(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in 0..count {
        clients.push(server.member(&format!("member-{user}")).await);
    }
    clients
}

async fn logins_meanwhile(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in 0..count {
        clients.push(server.member(&format!("fresh-{user}")).await);
        server.client().get("/ping").await.ok();
    }
    clients
}

/// A visitor first, so that a flood already has its hands on the record.
async fn visitor_who_signs_in(server: &Server, user: usize) -> Client {
    let client = server.client();
    client.post("/incr").await.ok();
    client.post(&format!("/login?u=user-{user}")).await.ok();
    client
}

async fn all_live(users: &[Client]) {
    for client in users {
        assert!(client.user().await.is_some());
    }
}

/// The amount by which the memory store may exceed a budget during writes.
const EXCESS: u64 = 1_000;
