//! Caches: what depends on a session is kept by no shared one.

use testkit::raw::bytes;
use testkit::{Nginx, Raw, Server};

use crate::common::{advance, token};

/// Shows CA-01.
#[tokio::test]
async fn an_answer_with_a_cookie_is_not_cached() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for mode in ["write", "login", "cycle", "flush"] {
        let reply = client.get(&format!("/public?mode={mode}")).await.ok();
        let stored = (reply.set_cookies().len(), reply.header("cache-control"));
        assert_eq!(stored, (1, Some("no-store")), "{mode}");
    }
}

/// Shows CA-02.
#[tokio::test]
async fn an_answer_with_session_data_is_private() {
    let server = Server::start(&[]).await;
    for client in [server.client(), server.member("alice").await] {
        let public = client.get("/public?mode=read").await.ok();
        assert_eq!(public.header("cache-control"), Some("max-age=600, private"));
        assert_eq!(public.header("vary"), Some("Cookie"));
        let peek = client.get("/peek").await.ok();
        assert_eq!(
            (peek.header("cache-control"), peek.header("vary")),
            (Some("private"), Some("Cookie"))
        );
    }
}

/// Shows CA-04.
#[tokio::test]
async fn a_shared_cache_serves_no_foreign_data() {
    let server = Server::start(&[]).await;
    let nginx = Nginx::start(&CACHE.replace("UPSTREAM", &server.address)).await;
    let (alice, bob) = (nginx.client(), nginx.client());
    for (client, user) in [(&alice, "alice"), (&bob, "bob")] {
        client.post(&format!("/login?u={user}")).await.ok();
        for path in ["/peek", "/public?mode=read", "/get?k=own", "/sessions", "/csrf", "/"] {
            client.send("POST", "/put?k=own", &[], &format!("\"{user}'s\"")).await.ok();
            let reply = client.get(path).await.ok();
            assert_eq!(reply.header("x-cache"), Some("MISS"), "{user} {path}");
            let other = if user == "alice" { "bob" } else { "alice" };
            assert!(!reply.body.contains(other), "{user} {path}");
        }
    }
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
    assert_eq!(nginx.client().user().await, None);
}

/// Shows CA-04.
#[tokio::test]
async fn a_cache_hands_no_cookie_to_two_visitors() {
    let server = Server::start(&[]).await;
    let nginx = Nginx::start(&CACHE.replace("UPSTREAM", &server.address)).await;
    for mode in ["write", "login", "incr"] {
        let (one, other) = (nginx.client(), nginx.client());
        for client in [&one, &other] {
            client.get(&format!("/public?mode={mode}")).await.ok();
        }
        assert_ne!(token(&one), token(&other), "{mode}");
    }
}

/// Shows CA-04.
#[tokio::test]
async fn what_touches_no_session_stays_in_the_cache() {
    let server = Server::start(&[]).await;
    let nginx = Nginx::start(&CACHE.replace("UPSTREAM", &server.address)).await;
    let client = nginx.client();
    client.post("/login?u=alice").await.ok();
    for path in ["/public", "/ping"] {
        assert_eq!(client.get(path).await.ok().header("x-cache"), Some("MISS"), "{path}");
        for again in [&client, &nginx.client()] {
            assert_eq!(again.get(path).await.ok().header("x-cache"), Some("HIT"), "{path}");
        }
    }
}

/// Shows CA-05.
#[tokio::test]
async fn partial_and_bodiless_answers_are_private() {
    let server = Server::start(&[]).await;
    for code in [200, 206, 301, 302, 303, 304, 307, 308, 404, 410] {
        for (mode, says) in [("read", Some("private")), ("login", Some("no-store")), ("none", None)]
        {
            for method in ["GET", "HEAD"] {
                let client = server.member("alice").await;
                let path = format!("/status/{code}?mode={mode}");
                let reply = client.send(method, &path, &[], "").await;
                let said = (reply.status.as_u16(), reply.header("cache-control"));
                assert_eq!(said, (code, says), "{method} {mode}");
                assert_eq!(reply.header("vary"), says.map(|_| "Cookie"), "{method} {code} {mode}");
            }
        }
    }
}

/// Shows CA-06.
#[tokio::test]
async fn answers_without_sessions_stay_cacheable() {
    let server = Server::start(&[]).await;
    let cookie = format!("Cookie: __Host-id={}", token(&server.member("alice").await));
    let mut connection = Raw::connect(&server.address).await;
    for _ in 0..4 {
        advance(&server, 400.0).await;
        connection.send(&bytes("GET", "/public", &[cookie.as_bytes()])).await;
        let answer = connection.answer().await.unwrap();
        let cached: Vec<_> = answer.lines("cache-control").collect();
        assert_eq!(cached, ["public, max-age=600"]);
        assert_eq!(answer.lines("set-cookie").chain(answer.lines("vary")).count(), 0);
    }
    assert_eq!(crate::common::calls(&server).await, 1);
}

/// Keeps everything that it may, for everybody, by path alone; even what says nothing at all.
const CACHE: &str = "proxy_cache_path DIRECTORY/kept keys_zone=kept:1m;
server {
    listen LISTEN;
    location / {
        proxy_pass http://UPSTREAM;
        proxy_cache kept;
        proxy_cache_key $request_uri;
        proxy_cache_valid any 10m;
        add_header X-Cache $upstream_cache_status always;
    }
}";
