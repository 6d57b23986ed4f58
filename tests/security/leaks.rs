//! Leakage: no token and no value in what is logged, answered, or counted.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::Value;
use testkit::client::over_h2c;
use testkit::ports::{fresh_directory, own_addresses};
use testkit::raw::{bytes, flood};
use testkit::redis::Redis;
use testkit::server::program;
use testkit::{Client, Postgres, Server, eventually};

use crate::common::{event, fault, heal, made_up, token, with_cookie};
use crate::identifier::{ROUTES, hex};

/// Shows LG-01.
#[tokio::test]
async fn no_output_holds_a_token() {
    tell_nothing(&["memory:?anonymous-records=4".to_owned()]).await;
}

/// Shows LG-01.
#[tokio::test]
async fn no_output_over_redis_holds_a_token() {
    let redis = Redis::start();
    tell_nothing(&[redis.url()]).await;
    tell_nothing(&[format!("sticky:?backup={}&write-behind-ms=50", redis.url())]).await;
}

/// Shows LG-01.
#[tokio::test]
async fn no_output_over_postgres_holds_a_token() {
    let postgres = Postgres::start(&[]);
    tell_nothing(&[format!("postgres://postgres@{}/postgres", postgres.address())]).await;
}

/// Shows LG-01.
#[tokio::test]
async fn no_token_is_in_what_replicated_nodes_say() {
    let directory = fresh_directory("leaks");
    std::fs::write(directory.join("secret"), "marker-secret of no less than 32 bytes").unwrap();
    let addresses: [_; 2] = own_addresses();
    let store = |own: &String| {
        let (seeds, secret) = (addresses.join(","), directory.join("secret"));
        format!("replicated:?bind={own}&seeds={seeds}&secret-file={}", secret.display())
    };
    tell_nothing(&addresses.each_ref().map(store)).await;
    std::fs::remove_dir_all(directory).unwrap();
}

/// Does a bit of everything on the first of the nodes that these stores make, which log at the finest
/// level, and finds no token and no value in what they say.
async fn tell_nothing(stores: &[String]) {
    let nodes = stores.iter().enumerate().map(|(n, store)| async move {
        let mut program = program(&["--store", store, "--node", &format!("n{}", n + 1)]);
        program.env("RUST_LOG", "trace");
        Server::run(program).await
    });
    let servers = join_all(nodes).await;
    let server = &servers[0];
    let mut issued = vec![made_up(1)];
    for client in [server.client(), server.member("marker-user").await] {
        journey(server, &client, &mut issued).await;
    }
    for cookie in [format!("__Host-id={}", made_up(1)), "__Host-id=marker-malformed".to_owned()] {
        with_cookie(server, "POST", "/incr", cookie.as_bytes()).await;
    }
    let answers = server.client().get("/metrics").await.ok().body
        + &server.control("GET", "/dump").await.body
        + &server.control("GET", "/events").await.ok().body;
    let mut said = String::new();
    for server in servers {
        server.signal("TERM");
        said += &server.ended().await.1;
    }
    assert!(said.contains("TRACE") && said.contains("event=\"rotated\""), "it does log");
    assert!(said.contains("store_call{op="), "and says which call a line is of");
    assert!(issued.len() > 30, "{}", issued.len());
    for shown in issued.iter().flat_map(|token| encodings(token)) {
        let line = said.lines().find(|line| line.contains(&shown));
        assert!(line.is_none() && !answers.contains(&shown), "{shown} in {line:?}");
    }
    for marker in ["marker-value", "marker-malformed", "marker-user", "marker-secret"] {
        let line = said.lines().find(|line| line.contains(marker));
        assert!(line.is_none(), "{line:?}");
    }
}

/// Does a bit of everything, also while the store fails, and keeps every token that was issued.
async fn journey(server: &Server, client: &Client, issued: &mut Vec<String>) {
    let mut note = |client: &Client| {
        if client.cookies().contains("__Host-id=") && issued.last() != Some(&token(client)) {
            issued.push(token(client));
        }
    };
    for mode in ["none", "down", "ack-lost", "corrupt", "none"] {
        fault(server, &format!("op=update&mode={mode}")).await;
        for (method, path) in ROUTES {
            client.send(method, path, &[], r#""marker-value""#).await;
            note(client);
        }
    }
    let cookies = client.cookies();
    let reply =
        over_h2c(&server.address, "/status/200?mode=login&u=alice", &[("cookie", &cookies)]).await;
    let line = reply.set_cookies()[0].to_owned();
    issued.push(line.split(['=', ';']).nth(1).unwrap().to_owned());
    for (path, mode) in [("/logout", "down"), ("/logout", "none")] {
        fault(server, &format!("op=delete&mode={mode}")).await;
        client.post(path).await;
    }
    heal(server).await;
}

/// The encodings of a token and of its secret.
fn encodings(token: &str) -> Vec<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    let decimal = |part: &[u8]| {
        let numbers: Vec<_> = part.iter().map(u8::to_string).collect();
        numbers.join(", ")
    };
    let secret = &bytes[16..];
    vec![
        token.to_owned(),
        token[22..].to_owned(),
        hex(secret),
        hex(secret).to_uppercase(),
        STANDARD_NO_PAD.encode(secret),
        STANDARD.encode(&bytes),
        URL_SAFE_NO_PAD.encode(secret),
        decimal(secret),
        decimal(&secret[..8]),
        secret.escape_ascii().to_string(),
        String::from_utf8_lossy(secret).into_owned(),
    ]
}

/// Shows LG-03.
#[tokio::test]
async fn errors_reveal_nothing_of_the_store() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for mode in ["down", "ack-lost", "corrupt"] {
        for op in ["load", "create", "update", "delete", "all"] {
            fault(&server, &format!("op={op}&mode={mode}")).await;
            for (method, path) in ROUTES.iter().filter(|(_, path)| *path != "/metrics") {
                let reply = client.send(method, path, &[("accept", "*/*")], "nonsense").await;
                let body = reply.body.to_lowercase();
                for inside in INSIDES {
                    assert!(!body.contains(inside), "{op} {mode} {path}: {inside}: {body}");
                }
            }
            heal(&server).await;
        }
    }
    let panicked = client.post("/panic").await;
    assert_eq!(panicked.error(), "Internal Server Error");
}

/// Shows LG-04.
#[tokio::test]
async fn what_a_request_brings_is_counted_once() {
    let server = Server::start(&[]).await;
    let pair = |number| format!("__Host-id={}", made_up(number));
    for (name, path, cookie) in [
        ("created", "/incr", String::new()),
        ("unknown_id", "/logout", pair(1)),
        ("malformed_id", "/logout", "__Host-id=x; __Host-id=y".to_owned()),
        ("duplicate_cookie", "/logout", format!("{}; {}", pair(1), pair(2))),
    ] {
        let before = event(&server, name).await;
        with_cookie(&server, "POST", path, cookie.as_bytes()).await;
        assert_eq!(event(&server, name).await, before + 1, "{name}");
    }
}

/// Shows LG-04.
#[tokio::test]
async fn what_happens_to_a_session_is_counted() {
    let server = Server::start(&["--idle", "600", "--store", "memory:?anonymous-records=2"]).await;
    let client = server.member("alice").await;
    let old = client.fork();
    for (name, act) in [
        ("rotated", "POST /cycle"),
        ("superseded", "old"),
        ("renewed", "later"),
        ("store_error", "down"),
        ("corrupt_record", "corrupt"),
        ("expired", "too late"),
        ("capacity", "crowd"),
        ("created", "POST /login?u=alice"),
        ("logout", "POST /logout"),
    ] {
        let before = event(&server, name).await;
        cause(&server, &client, &old, act).await;
        eventually(async || event(&server, name).await > before).await;
    }
}

/// Makes one thing happen, so that its event is due.
async fn cause(server: &Server, client: &Client, old: &Client, act: &str) {
    match act {
        "old" => drop(old.get("/peek").await),
        "later" => {
            crate::common::advance(server, 300.0).await;
            client.get("/peek").await.ok();
        }
        "down" | "corrupt" => {
            fault(server, &format!("op=load&mode={act}")).await;
            client.get("/peek").await;
            heal(server).await;
        }
        "too late" => {
            crate::common::advance(server, 601.0).await;
            client.get("/peek").await.ok();
        }
        "crowd" => {
            for _ in 0..400 {
                server.client().post("/incr").await.ok();
            }
        }
        path => drop(client.post(path.trim_start_matches("POST ")).await.ok()),
    }
}

/// Shows LG-04.
#[tokio::test]
async fn an_outage_does_not_flood_the_log() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    fault(&server, "op=all&mode=down").await;
    let line = format!("Cookie: {}", client.cookies());
    let request = move |number: usize| match number % 2 {
        0 => bytes("GET", "/peek", &[line.as_bytes()]),
        _ => bytes("POST", "/incr", &[]),
    };
    flood(&server.address, 2_000, request, |_, answer| assert_eq!(answer.status, 503)).await;
    server.signal("TERM");
    let (_, said) = server.ended().await;
    let told = said.matches("the fault `down` is set").count();
    assert!((1..500).contains(&told), "{told}");
    assert_eq!(said.matches("next try").count(), 0);
}

/// Shows LG-05.
#[tokio::test]
async fn a_cookie_cannot_break_a_log_line() {
    let mut program = program(&[]);
    program.env("RUST_LOG", "trace");
    let server = Server::run(program).await;
    for odd in ["%0d%0aFORGED", "\\r\\nFORGED", "\u{9b}31mFORGED", "\u{2028}FORGED", "a\tFORGED"] {
        for name in ["__Host-id", "other"] {
            with_cookie(&server, "POST", "/incr", format!("{name}={odd}").as_bytes()).await;
        }
    }
    for path in
        ["/login?u=%0aFORGED", "/put?k=%0aFORGED", "/nowhere%0aFORGED", "/login?u=%1b%5b31mFORGED"]
    {
        server.client().post(path).await;
    }
    server.signal("TERM");
    let (_, said) = server.ended().await;
    assert!(said.lines().all(|line| !line.starts_with("FORGED")));
    assert!(!said.contains("\u{1b}[31mFORGED") && !said.contains("\u{9b}"));
}

/// Shows LG-06.
#[tokio::test]
async fn metrics_name_no_session_and_no_user() {
    let server = Server::start(&[]).await;
    let (mut secrets, mut series) = (Vec::new(), Vec::new());
    for user in 0..20 {
        let client = server.member(&format!("marker-{user}")).await;
        client.post("/incr?k=marker-key").await.ok();
        secrets.extend([token(&client), crate::common::handle(&client).await]);
        let metrics = server.client().get("/metrics").await.ok().body;
        assert!(secrets.iter().all(|secret| !metrics.contains(secret)));
        assert!(!metrics.contains("marker"), "{metrics}");
        series.push(metrics.lines().filter(|line| !line.starts_with('#')).count());
    }
    assert_eq!(series[0], series[19], "they do not grow with the users");
}

/// Shows LG-04.
#[tokio::test]
async fn an_event_holds_no_secret() {
    let mut program = program(&[]);
    program.env("RUST_LOG", "steadfast=debug");
    let server = Server::run(program).await;
    let client = server.member("alice").await;
    let handle = crate::common::handle(&client).await;
    client.post("/cycle").await.ok();
    let events = server.told("/events").await;
    assert!(events.as_object().unwrap().values().all(Value::is_u64));
    server.signal("TERM");
    let (_, said) = server.ended().await;
    assert!(said.contains(&handle) && !said.contains("alice"), "{said}");
}

/// Texts that an answer must not contain: types, modules, files, and what the store says of itself.
const INSIDES: [&str; 12] = [
    "steadfast::",
    "storeerror",
    "faultystore",
    "fault `",
    "unavailable(",
    "src/",
    ".rs:",
    "panicked",
    "rust_backtrace",
    "memory:",
    "moka",
    "sql",
];
