//! The cookie, judged by a browser's own rules.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::client::over_h2c;
use testkit::{Raw, Server};

use crate::common::{NAME, calls, event, made_up, records, token, user_of, with_cookie};
use crate::visitor::Visitor;

/// Shows CK-01.
#[tokio::test]
async fn a_browser_keeps_the_cookie_host_only() {
    let server = Server::start(&[]).await;
    let visitor = Visitor::at(&server, "https://shop.example");
    let reply = visitor.post("/login?u=alice").await.ok();
    let (pair, attributes) = reply.set_cookies()[0].split_once("; ").unwrap();
    let attributes: Vec<_> = attributes.split("; ").collect();
    let expected = BTreeSet::from(["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]);
    assert_eq!((attributes.len(), attributes.into_iter().collect()), (4, expected));
    assert_eq!((pair.len(), pair.starts_with("__Host-id=")), (NAME.len() + 65, true));
    let cookie = &visitor.cookies()[0];
    assert!(cookie.host_only && cookie.secure && cookie.http_only && cookie.expiry.is_none());
    assert_eq!(visitor.seen_by_scripts(), None);
    assert_eq!(visitor.user().await.as_deref(), Some("alice"));
}

/// Shows CK-03.
#[tokio::test]
async fn every_line_says_its_same_site_once() {
    for (profile, says) in
        [("host", "Lax"), ("domain", "Lax"), ("dev", "Lax"), ("partitioned", "None")]
    {
        let server = Server::start(&["--profile", profile]).await;
        let client = server.client();
        for path in ["/incr", "/login?u=a", "/cycle", "/elevate", "/reauth", "/logout"] {
            let reply = client.post(path).await.ok();
            let line = reply.set_cookies()[0].to_owned();
            assert!(line.contains(&format!("; SameSite={says}")), "{path}: {line}");
            assert_eq!(line.matches("SameSite").count(), 1, "{path}: {line}");
        }
    }
}

/// Shows CK-04.
#[tokio::test]
async fn a_logout_removes_the_browser_cookie() {
    for (profile, origin, page) in PROFILES {
        let server = Server::start(&["--profile", profile]).await;
        let visitor = Visitor::at(&server, origin).embedded_in(page);
        for ending in ["/logout", "/logout-all"] {
            visitor.post("/login?u=alice").await.ok();
            assert_eq!(visitor.user().await.as_deref(), Some("alice"), "{profile}");
            visitor.post("/cycle").await.ok();
            assert_eq!(visitor.cookies().len(), 1, "{profile}");
            visitor.post(ending).await.ok();
            assert_eq!(visitor.cookies(), [], "{profile}{ending}");
        }
    }
}

/// Shows CK-05.
#[tokio::test]
async fn an_application_cookie_never_replaces_ours() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for path in [
        "/same-cookie?mode=write",
        "/same-cookie?mode=login",
        "/same-cookie?mode=cycle",
        "/same-cookie?mode=flush",
        "/other-cookie?mode=login",
    ] {
        let reply = client.get(path).await.ok();
        let ours = reply.set_cookies().iter().filter(|line| line.starts_with(NAME)).count();
        assert_eq!((ours, reply.body.contains("imposter")), (1, false), "{path}: {reply:?}");
    }
}

/// Shows CK-07.
#[tokio::test]
async fn the_cookie_is_found_on_any_line() {
    let server = Server::start(&[]).await;
    let ours = format!("{NAME}={}", token(&server.member("alice").await));
    for pairs in [["a=1", "b=2", &ours], [&ours, "a=1", "b=2"], ["a=1", &ours, "b=2"]] {
        let lines = pairs.map(|pair| format!("Cookie: {pair}"));
        let lines = lines.each_ref().map(String::as_bytes);
        let answer = Raw::connect(&server.address).await.ask("GET", "/peek", &lines).await;
        assert_eq!(answer.unwrap().json()["user"], "alice", "{pairs:?}");
        let crumbs = pairs.map(|pair| ("cookie", pair));
        let reply = over_h2c(&server.address, "/peek", &crumbs).await.ok();
        assert_eq!(reply.json()["user"], "alice", "h2: {pairs:?}");
    }
}

/// Shows CK-08.
#[tokio::test]
async fn an_encoded_cookie_name_is_not_ours() {
    let server = Server::start(&[]).await;
    let token = token(&server.member("alice").await);
    let before = calls(&server).await;
    for name in LOOKALIKES {
        let cookie = [name, b"=", token.as_bytes()].concat();
        let peek = with_cookie(&server, "GET", "/peek", &cookie).await;
        assert_eq!(peek.json()["user"], Value::Null, "{}", cookie.escape_ascii());
    }
    assert_eq!(calls(&server).await, before);
}

/// Shows CK-09.
#[tokio::test]
async fn hostile_siblings_do_not_hide_the_cookie() {
    let server = Server::start(&[]).await;
    let ours = format!("{NAME}={}", token(&server.member("alice").await)).into_bytes();
    let many: Vec<_> = (0..800).map(|number| format!("c{number}=v")).collect();
    for junk in SIBLINGS.into_iter().chain([many.join("; ").as_bytes()]) {
        for pairs in [[junk, &ours], [&ours[..], junk]] {
            let peek = with_cookie(&server, "GET", "/peek", &pairs.join(&b"; "[..])).await;
            assert_eq!(peek.json()["user"], "alice", "{}", junk.escape_ascii());
        }
    }
}

/// Shows CK-10.
#[tokio::test]
async fn of_two_live_cookies_neither_counts() {
    let server = Server::start(&[]).await;
    let (mine, planted) = (server.member("alice").await, server.member("mallory").await);
    let (mine, planted, before) = (token(&mine), token(&planted), records(&server).await);
    for (pair, user, events) in [
        ([&mine, &planted], Value::Null, 1),
        ([&planted, &mine], Value::Null, 1),
        ([&mine, &made_up(3)], json!("alice"), 1),
        ([&made_up(3), &mine], json!("alice"), 1),
        ([&mine, &mine], json!("alice"), 0),
    ] {
        let counted = event(&server, "duplicate_cookie").await;
        let cookie = pair.map(|token| format!("{NAME}={token}")).join("; ");
        let peek = with_cookie(&server, "GET", "/peek", cookie.as_bytes()).await;
        assert_eq!((&peek.json()["user"], peek.lines("set-cookie").count()), (&user, 0));
        assert_eq!(event(&server, "duplicate_cookie").await, counted + events);
    }
    assert_eq!(records(&server).await, before, "reading them ends neither");
    let cookie = format!("{NAME}={mine}; {NAME}={planted}");
    let logout = with_cookie(&server, "POST", "/logout", cookie.as_bytes()).await;
    assert_eq!(logout.status, 200);
    assert!(records(&server).await.is_empty(), "a sign-out ends both");
}

/// Shows CK-11.
#[tokio::test]
async fn two_hundred_candidates_cost_four_loads() {
    let server = Server::start(&[]).await;
    let before = calls(&server).await;
    let cookies: Vec<_> = (0..200).map(|n| format!("{NAME}={}", made_up(n))).collect();
    let answer = with_cookie(&server, "GET", "/peek", cookies.join("; ").as_bytes()).await;
    assert_eq!((answer.status, calls(&server).await - before), (200, 4));
}

/// Shows CK-13.
#[tokio::test]
async fn use_does_not_send_the_cookie_again() {
    let server = Server::start(&["--idle", "600"]).await;
    let client = server.member("alice").await;
    for _ in 0..5 {
        crate::common::advance(&server, 300.0).await;
        for (method, path) in [("GET", "/peek"), ("POST", "/incr"), ("POST", "/put?k=a")] {
            let reply = client.send(method, path, &[], "1").await.ok();
            assert_eq!(reply.set_cookies(), [""; 0], "{path}");
        }
    }
    assert!(event(&server, "renewed").await >= 1);
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

/// Shows CK-15.
#[tokio::test]
async fn a_partitioned_cookie_is_bound_to_its_page() {
    let server = Server::start(&["--profile", "partitioned"]).await;
    let here = Visitor::at(&server, "https://widget.example").embedded_in("https://news.example");
    here.post("/login?u=alice").await.ok();
    assert_eq!(here.user().await.as_deref(), Some("alice"));
    assert_eq!(here.embedded_in("https://other.example").user().await, None);
    here.post("/logout").await.ok();
    assert_eq!(here.cookies(), []);
}

/// Shows CK-18.
#[tokio::test]
async fn no_header_of_a_request_steers_the_cookie() {
    let server = Server::start(&[]).await;
    let mut connection = Raw::connect(&server.address).await;
    for line in SPOOFED {
        let answer = connection.ask("POST", "/incr", &[line.as_bytes()]).await.unwrap();
        let (_, attributes) = answer.lines("set-cookie").next().unwrap().split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Secure; HttpOnly; SameSite=Lax", "{line}");
    }
    let evil = b"POST /incr HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";
    connection.send(evil).await;
    let answer = connection.answer().await.unwrap();
    assert!(answer.lines("set-cookie").next().unwrap().ends_with("; SameSite=Lax"));
    assert!(!answer.head.contains("evil"));
}

/// Shows CK-19.
#[tokio::test]
async fn the_cookie_is_set_whatever_the_status() {
    let server = Server::start(&[]).await;
    for code in [200, 201, 204, 302, 303, 307, 400, 401, 403, 404, 410] {
        for mode in ["write", "login"] {
            let reply = server.client().get(&format!("/status/{code}?mode={mode}")).await;
            assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (code, 1), "{mode}");
        }
    }
    let mut connection = Raw::connect(&server.address).await;
    connection.send(&testkit::raw::bytes("HEAD", "/status/200?mode=login", &[])).await;
    let head = connection.head().await.unwrap();
    assert_eq!(user_of(&server, head.token().unwrap()).await.as_deref(), Some("somebody"));
}

/// Profiles, where a browser sees the site, and inside of which page.
const PROFILES: [(&str, &str, &str); 5] = [
    ("host", "https://shop.example", "https://shop.example"),
    ("domain", "https://shop.example.org", "https://shop.example.org"),
    ("dev", "http://shop.example", "http://shop.example"),
    ("partitioned", "https://shop.example", "https://shop.example"),
    ("partitioned", "https://widget.example", "https://news.example"),
];

/// Names that are ours only for who decodes, trims, folds or guesses.
const LOOKALIKES: [&[u8]; 14] = [
    b"__host-id",
    b"__HOST-ID",
    b"__Host-id ",
    b"a=b; \t__Host-id",
    b"%5F_Host-id",
    b"__Host%2Did",
    b"\"__Host-id\"",
    b"\xc2\xa0__Host-id",
    b"\xe2\x80\x83__Host-id",
    b"=__Host-id",
    b"$Version=1; $__Host-id",
    b"a=b,__Host-id",
    b"__Host-id[]",
    b"x__Host-id",
];

/// Cookies that others may have set beside ours.
const SIBLINGS: [&[u8]; 14] = [
    b"=",
    b";;;",
    b"no-value",
    b"=no-name",
    b"a=\"open",
    b"a=\\\"",
    b"\xff\xfe=\x80",
    b"\xe9=\xe9",
    b"a==",
    b"a=b=c",
    b",",
    b"{\"json\": [1, 2]}",
    b"__Host-id2=x",
    b"a=\t",
];

/// Headers that a proxy sets, or that a client forges.
const SPOOFED: [&str; 11] = [
    "X-Forwarded-Proto: http",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Port: 80",
    "Forwarded: for=1.2.3.4;host=evil.example;proto=http",
    "X-Forwarded-Ssl: off",
    "Front-End-Https: off",
    "X-Original-Host: evil.example",
    "Origin: http://test",
    "Referer: http://evil.example/",
];
