//! A client that disappears at any moment leaves nothing half done.

use testkit::raw::bytes;
use testkit::{Client, Raw, Server, eventually};

use crate::common::{calls, fault, heal, records, token, user_of};

/// Shows RC-14.
#[tokio::test]
async fn a_disconnect_during_a_call_is_atomic() {
    let server = Server::start(&[]).await;
    for path in ["/login?u=alice", "/cycle", "/elevate", "/reauth", "/logout", "/logout-others"] {
        for op in ["load", "update", "delete"] {
            let client = server.member("alice").await;
            fault(&server, &format!("op={op}&mode=slow&ms=50")).await;
            leave_during_a_call(&server, &client, path).await;
            heal(&server).await;
            is_whole(&server, &client).await;
        }
    }
}

/// Shows RC-14.
#[tokio::test]
async fn a_rotation_survives_a_disconnect() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let old = token(&client);
    fault(&server, "op=update&mode=slow&ms=50").await;
    let mut connection = Raw::connect(&server.address).await;
    connection.send(&with_cookies(&client, "/cycle")).await;
    eventually(async || server.told("/stats").await["ops"]["update"] == 1).await;
    drop(connection);
    heal(&server).await;
    eventually(async || user_of(&server, &old).await.is_none()).await;
    assert_eq!(records(&server).await.len(), 1);
}

/// Shows RC-14.
#[tokio::test]
async fn a_truncated_request_does_nothing() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let before = calls(&server).await;
    for path in ["/logout", "/cycle", "/login?u=mallory"] {
        let request = with_cookies(&client, path);
        for cut in [1, 20, request.len() / 2, request.len() - 2, request.len() - 1] {
            let mut connection = Raw::connect(&server.address).await;
            connection.send(&request[..cut]).await;
        }
    }
    assert_eq!((client.user().await.as_deref(), calls(&server).await), (Some("alice"), before + 1));
}

/// Shows RC-14.
#[tokio::test]
async fn a_body_that_never_comes_changes_nothing() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let cookies = client.cookies();
    let head = format!(
        "POST /put?k=a HTTP/1.1\r\nHost: test\r\nCookie: {cookies}\r\nContent-Length: 10\r\n\r\n[1,"
    );
    let mut connection = Raw::connect(&server.address).await;
    connection.send(head.as_bytes()).await;
    drop(connection);
    client.post("/incr").await.ok();
    assert_eq!(client.get("/get?k=a").await.ok().body, r#"{"value":null}"#);
}

/// Sends a request, and is gone when the store has been called for it.
async fn leave_during_a_call(server: &Server, client: &Client, path: &str) {
    let before = calls(server).await;
    let mut connection = Raw::connect(&server.address).await;
    connection.send(&with_cookies(client, path)).await;
    eventually(async || calls(server).await > before).await;
}

/// Waits until the session is as before, or replaced, or ended; then looks whether it is whole.
async fn is_whole(server: &Server, client: &Client) {
    let handle = client.peek().await["handle"].clone();
    eventually(async || server.told("/gates").await.is_object()).await;
    let dump = server.told("/dump").await;
    for record in dump["records"].as_array().unwrap() {
        assert_eq!(record["principal"], "alice", "{record}");
        assert!(handle.is_null() || record["authenticated"].is_string(), "{record}");
    }
    // A login that is still under way comes after the first of these.
    eventually(async || {
        server.member("alice").await.post("/logout-all").await.ok();
        records(server).await.is_empty()
    })
    .await;
    assert_eq!(client.user().await, None);
}

fn with_cookies(client: &Client, path: &str) -> Vec<u8> {
    bytes("POST", path, &[format!("Cookie: {}", client.cookies()).as_bytes()])
}
