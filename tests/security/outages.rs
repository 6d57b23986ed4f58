//! Outages of the store: users do not turn into visitors, and nothing is half done.

use serde_json::json;
use testkit::Server;

use crate::common::{fault, heal, records, token, user_of};

/// Shows ST-01.
#[tokio::test]
async fn a_load_that_fails_makes_nobody_a_stranger() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for mode in ["down", "ack-lost", "hang"] {
        // A hanging store costs a request its timeout, so one request must be enough.
        let paths = if mode == "hang" { &READS[..1] } else { &READS[..] };
        fault(&server, &format!("op=load&mode={mode}")).await;
        for path in paths {
            let reply = client.get(path).await;
            assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0), "{path}");
            assert_eq!(reply.header("retry-after"), Some("1"), "{path}");
            assert!(!reply.error().is_empty());
        }
        heal_and_wait(&server, &client).await;
    }
}

/// Shows ST-02.
#[tokio::test]
async fn an_unstored_login_is_an_error() {
    let server = Server::start(&[]).await;
    for mode in ["down", "hang"] {
        let client = server.member("alice").await;
        let (before, known) = (token(&client), records(&server).await);
        fault(&server, &format!("op=all&mode={mode}")).await;
        for somebody in [&client, &server.client()] {
            let reply = somebody.post("/login?u=bob").await;
            assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0), "{mode}");
        }
        heal_and_wait(&server, &client).await;
        assert_eq!(records(&server).await, known, "{mode}");
        assert_eq!(user_of(&server, &before).await.as_deref(), Some("alice"), "{mode}");
    }
}

/// Shows ST-03.
#[tokio::test]
async fn requests_without_a_session_notice_no_outage() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for mode in ["down", "hang"] {
        fault(&server, &format!("op=all&mode={mode}")).await;
        for path in ["/ping", "/healthz", "/metrics", "/public", "/status/200"] {
            client.get(path).await.ok();
        }
        server.client().get("/peek").await.ok();
        assert_eq!(client.get("/readyz").await.status, 503, "{mode}");
        heal(&server).await;
    }
}

/// Shows ST-04.
#[tokio::test]
async fn a_logout_during_an_outage_is_no_success() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for mode in ["down", "hang"] {
        fault(&server, &format!("op=delete&mode={mode}")).await;
        let reply = client.post("/logout").await;
        assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0), "{mode}");
        heal_and_wait(&server, &client).await;
    }
    client.post("/logout").await.ok();
    assert!(records(&server).await.is_empty());
}

/// Shows ST-05.
#[tokio::test]
async fn a_lost_answer_doubles_nothing() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    fault(&server, "op=all&mode=ack-lost").await;
    for (path, body) in [("/incr", ""), ("/put?k=v", "[1]"), ("/append?k=l", "1")] {
        assert_eq!(client.send("POST", path, &[], body).await.status, 503, "{path}");
    }
    assert_eq!(server.client().post("/incr").await.status, 503);
    heal(&server).await;
    let dump = server.told("/dump").await;
    let records = dump["records"].as_array().unwrap();
    let own = records.iter().find(|record| record["principal"] == "alice").unwrap();
    assert_eq!(own["values"], json!({ "n": "1", "v": "[1]" }));
    assert_eq!(records.len(), 2, "the visitor's is whole, and nobody has its token");
}

/// Shows ST-09.
#[tokio::test]
async fn a_dead_store_is_rarely_asked() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let mut clients = Vec::new();
    for n in 0..10 {
        clients.push(server.member(&format!("user-{n}")).await);
    }
    for mode in ["hang", "down"] {
        fault(&server, &format!("op=load&mode={mode}")).await;
        let before = loads(&server).await;
        // One session alone may be stuck by itself; the silence about several is the server's.
        let requests = (0..200).map(|n| clients[n % clients.len()].get("/peek"));
        for reply in futures_util::future::join_all(requests).await {
            assert_eq!(reply.status, 503);
        }
        let first = loads(&server).await;
        assert!(first - before <= 200, "one try a request: {}", first - before);
        for _ in 0..100 {
            assert_eq!(client.get("/peek").await.status, 503);
        }
        assert!(loads(&server).await - first < 50, "the breaker is open");
        heal_and_wait(&server, &client).await;
    }
}

async fn loads(server: &Server) -> u64 {
    server.told("/stats").await["ops"]["load"].as_u64().unwrap()
}

/// Takes the fault away, and waits until the breaker has noticed.
async fn heal_and_wait(server: &Server, client: &testkit::Client) {
    heal(server).await;
    testkit::eventually(async || client.get("/peek").await.status == 200).await;
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

/// Requests that read the session, in every way to answer.
const READS: [&str; 7] =
    ["/peek", "/get", "/sessions", "/csrf", "/", "/status/200?mode=read", "/status/302?mode=read"];
