//! Tests of the routes for sessions.

use serde_json::json;

use testkit::Server;
use testkit::client::over_h2c;

#[tokio::test]
async fn a_ping_touches_no_session() {
    let server = Server::start(&["--node", "n7"]).await;
    let reply = server.client().get("/ping").await.ok();
    assert_eq!(reply.json(), json!({ "pong": true, "node": "n7" }));
    assert!(reply.header("vary").is_none() && reply.set_cookies().is_empty());
    assert_eq!(server.told("/stats").await["records"], 0);
}

#[tokio::test]
async fn a_peek_reads_and_starts_nothing() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let peek = json!({ "user": null, "n": null, "handle": null, "status": "new", "created": null,
        "authenticated": null, "node": "n1" });
    assert_eq!(client.peek().await, peek);
    assert_eq!(client.cookies(), "");
    client.post("/incr").await.ok();
    let seen = client.peek().await;
    assert_eq!((&seen["status"], &seen["n"]), (&json!("existing"), &json!(1)));
    assert!(seen["created"].as_str().unwrap().ends_with('Z'), "{seen}");
}

#[tokio::test]
async fn a_peek_tells_why_there_is_no_session() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    let rotated = client.fork();
    rotated.post("/cycle").await.ok();
    assert_eq!(client.peek().await["status"], "superseded");
    let ended = rotated.fork();
    rotated.post("/logout").await.ok();
    assert_eq!(ended.peek().await["status"], "unknown");
}

#[tokio::test]
async fn counters_count_by_key() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for (path, value) in [("/incr", 1), ("/incr", 2), ("/incr?k=other", 1), ("/incr?k=n", 3)] {
        assert_eq!(client.post(path).await.ok().json(), json!({ "value": value }), "{path}");
    }
}

#[tokio::test]
async fn a_value_comes_back_byte_for_byte() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let value = r#"{"b": 1e400, "a":[1,  2, 12345678901234567890123], "b":"\u0000"}"#;
    assert_eq!(client.send("POST", "/put?k=v", &[], value).await.ok().body, r#"{"ok":true}"#);
    let reply = client.get("/get?k=v").await.ok();
    assert_eq!(reply.body, format!(r#"{{"value":{value}}}"#));
}

#[tokio::test]
async fn a_removed_value_is_null() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    assert_eq!(client.send("DELETE", "/key", &[], "").await.ok().body, r#"{"ok":true}"#);
    assert_eq!(client.get("/get").await.ok().body, r#"{"value":null}"#);
}

#[tokio::test]
async fn concurrent_appends_all_count() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.send("POST", "/append?k=list", &[], r#""first""#).await.ok();
    let one = || async { client.send("POST", "/append?k=list", &[], "{}").await.ok() };
    futures_util::future::join_all((0..8).map(|_| one())).await;
    let list = client.get("/get?k=list").await.ok().json();
    assert_eq!(list["value"].as_array().unwrap().len(), 9);
    assert_eq!(list["value"][0], "first");
}

#[tokio::test]
async fn signing_in_rotates_and_keeps_the_values() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    let before = client.fork();
    let reply = client.post("/login?u=al%20ice").await.ok();
    assert_eq!(reply.json(), json!({ "user": "al ice" }));
    let seen = client.peek().await;
    assert_eq!((&seen["user"], &seen["n"]), (&json!("al ice"), &json!(1)));
    assert!(seen["authenticated"].is_string());
    assert_eq!(before.user().await, None);
}

#[tokio::test]
async fn a_session_begins_with_its_sign_in() {
    let server = Server::start(&[]).await;
    let seen = server.member("alice").await.peek().await;
    assert_eq!(seen["created"], seen["authenticated"]);
}

#[tokio::test]
async fn every_rotation_replaces_the_token() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for path in ["/elevate", "/reauth", "/cycle", "/logout-others"] {
        let before = client.fork();
        client.post(path).await.ok();
        assert_eq!(client.user().await.as_deref(), Some("alice"), "{path}");
        assert_eq!(before.user().await, None, "{path}");
    }
}

#[tokio::test]
async fn signing_out_ends_this_session() {
    let server = Server::start(&[]).await;
    let (here, there) = (server.member("alice").await, server.member("alice").await);
    let copy = here.fork();
    assert_eq!(here.post("/logout").await.ok().body, r#"{"ok":true}"#);
    assert_eq!(here.cookies(), "");
    assert_eq!(copy.user().await, None);
    assert_eq!(there.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn signing_out_elsewhere_ends_the_others() {
    let server = Server::start(&[]).await;
    let (here, there) = (server.member("alice").await, server.member("alice").await);
    let bob = server.member("bob").await;
    assert_eq!(here.post("/logout-others").await.ok().body, r#"{"ended":1}"#);
    assert_eq!(here.user().await.as_deref(), Some("alice"));
    assert_eq!((there.user().await, bob.user().await), (None, Some("bob".to_owned())));
}

#[tokio::test]
async fn signing_out_everywhere_ends_all() {
    let server = Server::start(&[]).await;
    let (here, there) = (server.member("alice").await, server.member("alice").await);
    assert_eq!(here.post("/logout-all").await.ok().body, r#"{"ok":true}"#);
    assert_eq!((here.user().await, there.user().await), (None, None));
}

#[tokio::test]
async fn a_user_lists_sessions_and_ends_one() {
    let server = Server::start(&[]).await;
    let (here, there) = (server.member("alice").await, server.member("alice").await);
    let list = here.get("/sessions").await.ok().json();
    let list = list["sessions"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    let other = list.iter().find(|session| session["current"] == false).unwrap();
    let handle = other["handle"].as_str().unwrap();
    here.post(&format!("/sessions/{handle}/end")).await.ok();
    assert_eq!((here.user().await, there.user().await), (Some("alice".to_owned()), None));
}

/// Shows LO-08.
#[tokio::test]
async fn a_foreign_handle_is_not_there() {
    let server = Server::start(&[]).await;
    let (alice, bob) = (server.member("alice").await, server.member("bob").await);
    let foreign = bob.peek().await["handle"].as_str().unwrap().to_owned();
    for handle in [foreign.as_str(), "nonsense", "00000000-0000-0000-0000-000000000000"] {
        let reply = alice.post(&format!("/sessions/{handle}/end")).await;
        assert_eq!(
            (reply.status.as_u16(), reply.error().as_str()),
            (404, "you have no such session")
        );
    }
    assert_eq!(bob.user().await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn only_its_csrf_token_opens_a_protected_route() {
    let server = Server::start(&[]).await;
    let (client, other) = (server.client(), server.client());
    let token = client.get("/csrf").await.ok().json()["token"].as_str().unwrap().to_owned();
    other.get("/csrf").await.ok();
    let header = [("x-csrf-token", token.as_str())];
    assert_eq!(client.send("POST", "/protected", &header, "").await.ok().body, r#"{"ok":true}"#);
    assert_eq!(client.post("/protected").await.status, 403);
    assert_eq!(other.send("POST", "/protected", &header, "").await.status, 403);
    client.post("/login?u=alice").await.ok();
    assert_eq!(client.send("POST", "/protected", &header, "").await.status, 403);
}

#[tokio::test]
async fn the_second_realm_has_sessions_of_its_own() {
    let server = Server::start(&["--profile", "dev"]).await;
    let client = server.member("alice").await;
    assert_eq!(client.get("/b/peek").await.ok().json()["user"], json!(null));
    client.post("/b/login?u=bob").await.ok();
    assert!(client.cookies().starts_with("b-dev=") && client.cookies().contains("; id-dev="));
    client.post("/b/logout").await.ok();
    assert_eq!(client.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let server = Server::start(&[]).await;
    let reply = over_h2c(&server.address, "/ping", &[]).await.ok();
    assert_eq!(reply.json()["pong"], true);
    assert_eq!(server.client().get("/ping").await.ok().body, reply.body);
}

#[tokio::test]
async fn a_sign_in_says_how_long_and_where() {
    let server = Server::start(&[]).await;
    let client = server.client();
    let said = "/login?u=alice&idle=60&absolute=600&persistent=1&label.device=Firefox+on+Linux";
    let reply = client.post(said).await.ok();
    assert!(reply.set_cookies()[0].contains("; Max-Age="), "{:?}", reply.set_cookies());
    let listed = client.get("/sessions").await.ok().json()["sessions"][0].take();
    assert_eq!(listed["labels"], json!({ "device": "Firefox on Linux" }));
    assert_eq!((&listed["persistent"], &listed["current"]), (&json!(true), &json!(true)));
    assert!(listed["last_used"].is_string() && listed["expires"].is_string(), "{listed}");
    server.order("/clock/advance?s=60").await;
    assert_eq!(client.user().await, None);
}

#[tokio::test]
async fn a_malformed_sign_in_is_refused() {
    let server = Server::start(&[]).await;
    for (parameters, status) in [
        ("", 400),
        ("u=a&idle=x", 400),
        ("u=a&idle=600&absolute=60", 400),
        ("u=a&epoch=x", 400),
        ("u=a&label.a%20b=1", 413),
    ] {
        let reply = server.client().post(&format!("/login?{parameters}")).await;
        assert_eq!(reply.status, status, "{parameters}");
    }
}

#[tokio::test]
async fn visitors_end_sooner_where_asked() {
    let server = Server::start(&["--visitor-idle", "60"]).await;
    let (visitor, member) = (server.client(), server.member("alice").await);
    visitor.post("/incr").await.ok();
    server.order("/clock/advance?s=60").await;
    assert_eq!(visitor.peek().await["status"], "expired");
    assert_eq!(member.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_sign_in_at_the_cap_is_refused() {
    let server = Server::start(&["--max-per-principal", "1", "--at-cap", "refuse"]).await;
    let first = server.member("alice").await;
    let second = server.client();
    let reply = second.post("/login?u=alice").await;
    assert_eq!((reply.status.as_u16(), second.user().await), (409, None));
    assert!(reply.body.contains("as many sessions as they may"), "{}", reply.body);
    assert_eq!(first.user().await.as_deref(), Some("alice"));
    first.post("/logout").await.ok();
    second.post("/login?u=alice").await.ok();
    assert_eq!(second.user().await.as_deref(), Some("alice"));
}
