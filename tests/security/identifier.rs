//! The token: what it is made of, and what counts as one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use testkit::raw::{bytes, flood};
use testkit::{Raw, Server};

use crate::common::{NAME, calls, event, made_up, records, token, user_of, with_cookie};

/// Shows ID-01.
#[tokio::test]
async fn tokens_have_one_form_and_never_repeat() {
    let server = Server::start(&[]).await;
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tokens);
    let see = move |_, answer: testkit::raw::Answer| {
        seen.lock().unwrap().push(answer.token().unwrap().to_owned());
    };
    flood(&server.address, 10_000, |_| bytes("POST", "/incr", &[]), see).await;
    let tokens = tokens.lock().unwrap().clone();
    let decoded: Vec<_> =
        tokens.iter().map(|token| URL_SAFE_NO_PAD.decode(token).unwrap()).collect();
    assert!(decoded.iter().all(|bytes| bytes.len() == 48));
    for part in [0..8, 16..24, 40..48] {
        let parts: HashSet<_> = decoded.iter().map(|bytes| &bytes[part.clone()]).collect();
        assert_eq!(parts.len(), tokens.len(), "{part:?}");
    }
    // Half of the bits differ between one secret and the next: 1,280,000 of them, give or take
    // five standard deviations.
    let secrets = decoded.iter().map(|bytes| &bytes[16..]);
    let differing: u32 = secrets.clone().zip(secrets.skip(1)).map(|(a, b)| distance(a, b)).sum();
    assert!(differing.abs_diff(9_999 * 128) < 4_000, "{differing}");
}

/// Shows ID-03.
#[tokio::test]
async fn a_well_formed_unknown_token_is_not_adopted() {
    let server = Server::start(&[]).await;
    let chosen = made_up(1);
    let cookie = format!("{NAME}={chosen}");
    for path in ["/incr", "/login?u=alice", "/put", "/cycle", "/csrf"] {
        let method = if path == "/csrf" { "GET" } else { "POST" };
        let answer = with_cookie(&server, method, path, cookie.as_bytes()).await;
        assert_ne!(answer.token(), Some(chosen.as_str()), "{path}");
        assert_eq!(user_of(&server, &chosen).await, None, "{path}");
    }
    let selector = uuid(&URL_SAFE_NO_PAD.decode(&chosen).unwrap()[..16]);
    assert!(!records(&server).await.contains(&selector));
    assert!(event(&server, "unknown_id").await >= 5);
}

/// Shows ID-04.
#[tokio::test]
async fn a_malformed_token_is_neither_sent_nor_echoed() {
    let server = Server::start(&[]).await;
    let token = token(&server.member("alice").await);
    let before = calls(&server).await;
    for junk in malformed(&token) {
        let cookie = [NAME.as_bytes(), b"=", &junk].concat();
        let peek = with_cookie(&server, "GET", "/peek", &cookie).await;
        let marker = String::from_utf8_lossy(&junk[..junk.len().min(12)]).into_owned();
        assert_eq!((peek.status, &peek.json()["user"]), (200, &serde_json::Value::Null));
        let said = format!("{}{}", peek.head, peek.body);
        assert!(marker.len() < 5 || !said.contains(&marker), "{marker}");
        assert_eq!(peek.lines("set-cookie").count(), 0, "{marker}");
    }
    assert_eq!(calls(&server).await, before);
    assert_eq!(event(&server, "malformed_id").await, malformed(&token).len() as u64);
}

/// Shows ID-05.
#[tokio::test]
async fn a_token_has_one_spelling() {
    let server = Server::start(&[]).await;
    let token = token(&server.member("alice").await);
    assert_eq!(user_of(&server, &token).await.as_deref(), Some("alice"));
    let swapped: String = token.chars().map(swap_case).collect();
    let standard = token.replace('-', "+").replace('_', "/");
    for spelling in [
        format!("{token}="),
        format!("{token}=="),
        format!("\"{token}\""),
        format!(" {token}"),
        format!("%{:02X}{}", token.as_bytes()[0], &token[1..]),
        format!("{token}%00"),
        format!("{token}A"),
        token[..63].to_owned(),
        swapped,
    ] {
        assert_eq!(user_of(&server, &spelling).await, None, "{spelling}");
    }
    assert!(standard == token || user_of(&server, &standard).await.is_none());
}

/// Shows ID-06.
#[tokio::test]
async fn a_token_is_only_sent_in_set_cookie() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let handle = crate::common::handle(&client).await;
    let end = format!("/sessions/{handle}x/end");
    for (method, path) in ROUTES.iter().copied().chain([("POST", end.as_str())]) {
        let reply = client.send(method, path, &[("accept", "text/html")], "").await;
        let fork = client.fork();
        for secret in [token(&fork), token(&fork)[22..].to_owned()] {
            assert!(!reply.body.contains(&secret), "{path}");
            let others = reply.headers.iter().filter(|(name, _)| *name != "set-cookie");
            let mut texts = others.map(|(_, value)| value.to_str().unwrap());
            assert!(texts.all(|text| !text.contains(&secret)), "{path}");
        }
    }
}

/// Shows ID-07.
#[tokio::test]
async fn a_token_counts_in_its_cookie_only() {
    let server = Server::start(&[]).await;
    let token = token(&server.member("alice").await);
    let before = calls(&server).await;
    let query = format!("/peek?{NAME}={token}&session={token}&id={token}");
    let mut connection = Raw::connect(&server.address).await;
    let answer = connection.ask("GET", &query, &[]).await.unwrap();
    assert_eq!(answer.json()["user"], serde_json::Value::Null);
    for name in ["Authorization", "X-Session", NAME, "Cookie2", "Set-Cookie", "X-Auth-Token"] {
        for value in [token.clone(), format!("Bearer {token}"), format!("{NAME}={token}")] {
            let line = format!("{name}: {value}");
            let answer = connection.ask("GET", "/peek", &[line.as_bytes()]).await.unwrap();
            assert_eq!(answer.json()["user"], serde_json::Value::Null, "{line}");
        }
    }
    let body = format!("{NAME}={token}");
    let reply = server.client().send("POST", "/elevate", &[], &body).await;
    assert_eq!(reply.status, 401);
    assert_eq!(server.client().get(&format!("/peek/{token}")).await.status, 404);
    assert_eq!(calls(&server).await, before);
}

/// Shows ID-10.
#[tokio::test]
async fn two_tokens_of_one_user_are_unrelated() {
    let server = Server::start(&[]).await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let bytes = URL_SAFE_NO_PAD.decode(token(&server.member("alice").await)).unwrap();
        // A random UUID, of version 4 and the usual variant: no time and no place in it.
        assert_eq!((bytes[6] >> 4, bytes[8] >> 6), (4, 2), "{bytes:?}");
        assert!(seen.insert(bytes[..4].to_vec()) && seen.insert(bytes[16..20].to_vec()));
        assert!(!bytes.windows(5).any(|window| window == b"alice"));
    }
}

/// Shows ID-11.
#[tokio::test]
async fn the_store_sees_selector_and_hash() {
    let server = Server::start(&[]).await;
    let bytes = URL_SAFE_NO_PAD.decode(token(&server.member("alice").await)).unwrap();
    let dump = server.told("/dump").await;
    let record = &dump["records"][0];
    assert_eq!(record["id"], uuid(&bytes[..16]));
    let hash = record["hash"].as_str().unwrap();
    assert!(hash.len() == 64 && hash != hex(&bytes[16..]));
}

/// Texts that must not pass as a token; some resemble a real one.
fn malformed(token: &str) -> Vec<Vec<u8>> {
    let texts = [
        "",
        "x",
        "../../../../etc/passwd",
        "%00%00%00%00",
        "' OR 1=1 --",
        "<script>alert(1)</script>",
        "null",
        "undefined",
        "{}",
        "00000000-0000-0000-0000-000000000000",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.extend([b"\xff\xfe\xfd\xfc\xfb".to_vec(), "\u{1f4a9}".repeat(16).into_bytes()]);
    all.extend([token.as_bytes()[1..].to_vec(), format!("x{token}").into_bytes()]);
    all.extend(b"+/=.,!~ \t\"%".map(|odd| [&[odd], &token.as_bytes()[1..]].concat()));
    all.push("A".repeat(65_000).into_bytes());
    all
}

fn uuid(bytes: &[u8]) -> String {
    let hex = hex(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn swap_case(letter: char) -> char {
    match letter.is_ascii_lowercase() {
        true => letter.to_ascii_uppercase(),
        false => letter.to_ascii_lowercase(),
    }
}

fn distance(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Every route that answers without ending the session, and a few ways to fail.
pub(crate) const ROUTES: [(&str, &str); 32] = [
    ("GET", "/"),
    ("GET", "/ping"),
    ("GET", "/peek"),
    ("POST", "/incr"),
    ("POST", "/append"),
    ("POST", "/put"),
    ("GET", "/get"),
    ("DELETE", "/key"),
    ("POST", "/elevate"),
    ("POST", "/reauth"),
    ("POST", "/cycle"),
    ("POST", "/logout-others"),
    ("GET", "/sessions"),
    ("GET", "/csrf"),
    ("POST", "/protected"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/b/peek"),
    ("GET", "/status/302?mode=cycle"),
    ("GET", "/status/404?mode=cycle"),
    ("GET", "/status/500?mode=cycle"),
    ("GET", "/status/999"),
    ("POST", "/panic?mode=cycle"),
    ("POST", "/redirect-login?u=alice"),
    ("GET", "/public?mode=cycle"),
    ("GET", "/other-cookie?mode=cycle"),
    ("GET", "/same-cookie?mode=cycle"),
    ("GET", "/stream"),
    ("GET", "/nowhere"),
    ("GET", "/logout"),
    ("POST", "/login"),
];
