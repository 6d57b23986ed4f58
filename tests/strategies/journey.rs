//! The journey of a user over one node after another, with the answers.

use serde_json::Value;

use crate::service::Service;

/// Every answer is the one that a single node with its sessions in memory gives.
pub async fn is_the_same(service: &Service) {
    let expected = journey(&Service::memory(&[]).await).await;
    let seen = journey(service).await;
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(seen, expected);
    }
}

/// Sends every request of the journey to the next node, and gives what was answered.
async fn journey(service: &Service) -> Vec<String> {
    let (laptop, phone) = (service.node(0).client(), service.node(1).client());
    let mut said = Vec::new();
    for (n, (who, method, path, body)) in JOURNEY.iter().enumerate() {
        let client = if *who == "laptop" { &laptop } else { &phone };
        let reply = client.at(service.node(n)).send(method, path, &[], body).await;
        let answer = match serde_json::from_str(&reply.body) {
            Ok(json) => plain(json).to_string(),
            Err(_) => String::new(),
        };
        let cookies = reply.set_cookies().iter().filter(|line| is_of_the_session(line)).count();
        said.push(format!("{who} {method} {path}: {} {answer} {cookies}", reply.status));
    }
    said
}

fn is_of_the_session(set_cookie: &str) -> bool {
    set_cookie.starts_with("__Host-id=")
}

/// The answer without what differs from run to run.
fn plain(mut json: Value) -> Value {
    match &mut json {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                let is_plain = value.is_null() || !DIFFERENT.contains(&name.as_str());
                *value = if is_plain { plain(value.take()) } else { "…".into() };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = plain(item.take())),
        _ => {}
    }
    json
}

const DIFFERENT: [&str; 7] =
    ["handle", "created", "authenticated", "last_used", "expires", "node", "token"];

/// A client and its request. A redirect is followed by the next request, which reaches another node.
const JOURNEY: &[(&str, &str, &str, &str)] = &[
    ("laptop", "GET", "/peek", ""),
    ("laptop", "POST", "/incr", ""),
    ("laptop", "POST", "/append?k=cart", "\"tea\""),
    ("laptop", "POST", "/put?k=theme", "{\"dark\": true}"),
    ("laptop", "POST", "/redirect-login?u=alice", ""),
    ("laptop", "GET", "/peek", ""),
    ("laptop", "GET", "/get?k=cart", ""),
    ("laptop", "POST", "/append?k=cart", "\"milk\""),
    ("laptop", "GET", "/get?k=theme", ""),
    ("laptop", "POST", "/incr?k=theme", ""),
    ("laptop", "DELETE", "/key?k=theme", ""),
    ("laptop", "GET", "/get?k=theme", ""),
    ("laptop", "POST", "/put?k=n", "9223372036854775807"),
    ("laptop", "POST", "/incr", ""),
    ("laptop", "GET", "/csrf", ""),
    ("laptop", "POST", "/protected", ""),
    ("phone", "POST", "/login?u=alice", ""),
    ("phone", "GET", "/sessions", ""),
    ("laptop", "GET", "/sessions", ""),
    ("laptop", "POST", "/login?u=alice&idle=600&persistent=1&label.device=Firefox+on+Linux", ""),
    ("phone", "GET", "/sessions", ""),
    ("laptop", "POST", "/elevate", ""),
    ("laptop", "POST", "/reauth", ""),
    ("laptop", "POST", "/cycle", ""),
    ("laptop", "GET", "/sessions", ""),
    ("laptop", "GET", "/get?k=cart", ""),
    ("laptop", "POST", "/logout-others", ""),
    ("phone", "GET", "/peek", ""),
    ("phone", "POST", "/login?u=alice&max=1&at_cap=refuse", ""),
    ("phone", "GET", "/peek", ""),
    ("phone", "POST", "/login?u=bob", ""),
    ("phone", "POST", "/login?u=alice", ""),
    ("phone", "GET", "/get?k=cart", ""),
    ("phone", "POST", "/logout", ""),
    ("phone", "GET", "/peek", ""),
    ("laptop", "GET", "/b/peek", ""),
    ("laptop", "POST", "/b/incr", ""),
    ("laptop", "POST", "/sessions/00000000-0000-0000-0000-000000000000/end", ""),
    ("laptop", "POST", "/logout-all", ""),
    ("laptop", "GET", "/peek", ""),
    ("laptop", "GET", "/b/peek", ""),
    ("laptop", "GET", "/sessions", ""),
];
