//! Questions that many tests ask.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use testkit::raw::Answer;
use testkit::{Client, Raw, Server};

/// The name of the session cookie in the default profile.
pub(crate) const NAME: &str = "__Host-id";

/// The token that a client holds in the default profile.
#[track_caller]
pub(crate) fn token(client: &Client) -> String {
    let cookies = client.cookies();
    let pair = cookies.split("; ").find_map(|pair| pair.strip_prefix("__Host-id="));
    pair.unwrap_or_else(|| panic!("no token among {cookies:?}")).to_owned()
}

/// A well-formed token that was never issued.
pub(crate) fn made_up(number: usize) -> String {
    let mut bytes = [7; 48];
    bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[40..].copy_from_slice(&(number as u64).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Asks once, with these bytes as the value of `Cookie`.
pub(crate) async fn with_cookie(server: &Server, method: &str, path: &str, value: &[u8]) -> Answer {
    let mut connection = Raw::connect(&server.address).await;
    let line = [b"Cookie: ", value].concat();
    connection.ask(method, path, &[&line]).await.expect("it is answered")
}

/// Returns the user of a client that presents only this token.
pub(crate) async fn user_of(server: &Server, token: &str) -> Option<String> {
    let cookie = format!("{NAME}={token}");
    let peek = with_cookie(server, "GET", "/peek", cookie.as_bytes()).await;
    assert_eq!(peek.status, 200, "{peek:?}");
    peek.json()["user"].as_str().map(str::to_owned)
}

/// The ids of all records.
pub(crate) async fn records(server: &Server) -> BTreeSet<String> {
    let dump = server.told("/dump").await;
    let records = dump["records"].as_array().unwrap();
    records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// Counts the store calls of any kind.
pub(crate) async fn calls(server: &Server) -> u64 {
    let stats = server.told("/stats").await;
    stats["ops"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

pub(crate) async fn event(server: &Server, name: &str) -> u64 {
    server.told("/events").await[name].as_u64().unwrap()
}

pub(crate) async fn fault(server: &Server, fault: &str) {
    server.order(&format!("/fault?{fault}")).await;
}

pub(crate) async fn heal(server: &Server) {
    fault(server, "op=all&mode=none").await;
}

pub(crate) async fn advance(server: &Server, seconds: f64) {
    server.order(&format!("/clock/advance?s={seconds}")).await;
}

/// The handle of a client's session.
pub(crate) async fn handle(client: &Client) -> String {
    client.peek().await["handle"].as_str().expect("a session is there").to_owned()
}

/// The CSRF token of a client's session.
pub(crate) async fn csrf(client: &Client) -> String {
    let Value::String(token) = client.get("/csrf").await.ok().json()["token"].take() else {
        panic!("no token");
    };
    token
}

/// The memory that a process holds, in bytes.
pub(crate) fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}
