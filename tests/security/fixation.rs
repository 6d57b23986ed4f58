//! Fixation: nobody's token from before a sign-in is worth anything after it.

use serde_json::json;
use testkit::{Client, Server};

use crate::common::{NAME, event, fault, heal, records, token, user_of, with_cookie};
use crate::visitor::Visitor;

/// Shows FX-01.
#[tokio::test]
async fn a_login_replaces_the_token() {
    let server = Server::start(&[]).await;
    let client = server.client();
    client.post("/incr").await.ok();
    let before = token(&client);
    client.post("/login?u=alice").await.ok();
    assert_ne!(token(&client), before);
    assert_eq!(client.peek().await["n"], 1);
    assert_eq!(user_of(&server, &before).await, None);
    assert_eq!(user_of(&server, &token(&client)).await.as_deref(), Some("alice"));
}

/// Shows FX-02.
#[tokio::test]
async fn every_change_of_rights_replaces_the_token() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for path in ["/elevate", "/reauth", "/cycle", "/logout-others", "/login?u=bob"] {
        let before = token(&client);
        client.post(path).await.ok();
        assert_ne!(token(&client), before, "{path}");
        assert_eq!(user_of(&server, &before).await, None, "{path}");
        assert!(client.user().await.is_some(), "{path}");
    }
    let before = token(&client);
    client.post("/logout").await.ok();
    client.post("/login?u=bob").await.ok();
    assert_ne!(token(&client)[..22], before[..22], "another record");
}

/// Shows FX-03.
#[tokio::test]
async fn a_planted_token_never_becomes_the_victims() {
    let server = Server::start(&[]).await;
    let attacker = server.client();
    attacker.post("/incr").await.ok();
    let victim = attacker.fork();
    victim.post("/login?u=victim").await.ok();
    assert_eq!(attacker.user().await, None);
    for path in ["/elevate", "/reauth", "/logout-all"] {
        assert_eq!(attacker.fork().post(path).await.status, 409, "{path}");
    }
    attacker.post("/login?u=mallory").await.ok();
    assert_eq!(victim.user().await.as_deref(), Some("victim"));
}

/// Shows FX-04.
#[tokio::test]
async fn a_failed_rotation_is_atomic() {
    let server = Server::start(&[]).await;
    for path in ["/status/500", "/status/503", "/panic", "/status/404", "/status/302"] {
        for mode in ["cycle", "login"] {
            let client = server.member("alice").await;
            let before = token(&client);
            let reply = client.post(&format!("{path}?mode={mode}&u=alice")).await;
            let is_set = reply.set_cookies().len() == 1;
            assert_eq!(is_set, reply.status.as_u16() < 500, "{path} {mode}");
            assert_eq!(is_set, token(&client) != before, "{path} {mode}");
            assert_eq!(user_of(&server, &before).await.is_some(), !is_set, "{path} {mode}");
            assert_eq!(client.user().await.as_deref(), Some("alice"), "{path} {mode}");
        }
    }
}

/// Shows FX-05.
#[tokio::test]
async fn a_failing_login_leaves_at_most_one_token() {
    let server = Server::start(&[]).await;
    for op in ["load", "create", "update"] {
        for mode in ["down", "ack-lost"] {
            for client in [server.client(), server.member("bob").await] {
                login_under(&server, &client, &format!("op={op}&mode={mode}")).await;
            }
        }
    }
}

/// Signs in under a fault, and looks at what lives then.
async fn login_under(server: &Server, client: &Client, with: &str) {
    let before = (!client.cookies().is_empty()).then(|| token(client));
    fault(server, with).await;
    let reply = client.post("/login?u=alice").await;
    heal(server).await;
    let is_set = reply.set_cookies().len();
    assert_eq!(reply.status.is_success(), is_set == 1, "{with}: {reply:?}");
    let mut live = 0;
    for token in before.into_iter().chain((is_set == 1).then(|| token(client))) {
        live += usize::from(user_of(server, &token).await.is_some());
    }
    assert!(live <= 1, "{with}");
}

/// Shows FX-06.
#[tokio::test]
async fn a_session_after_logout_is_empty() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    client.post("/incr").await.ok();
    let (before, known) = (token(&client), records(&server).await);
    client.post("/logout").await.ok();
    client.post("/incr").await.ok();
    let after = token(&client);
    assert!(before[..22] != after[..22] && before[22..] != after[22..]);
    assert!(records(&server).await.is_disjoint(&known));
    let peek = client.peek().await;
    assert_eq!((&peek["user"], &peek["n"]), (&json!(null), &json!(1)));
}

/// Shows FX-07.
#[tokio::test]
async fn a_login_drops_visitor_data() {
    let server = Server::start(&[]).await;
    let client = server.client();
    for key in ["~oauth", "cart"] {
        client.send("POST", &format!("/put?k={key}"), &[], "7").await.ok();
    }
    client.post("/login?u=alice").await.ok();
    assert_eq!(client.get("/get?k=~oauth").await.ok().body, r#"{"value":null}"#);
    assert_eq!(client.get("/get?k=cart").await.ok().body, r#"{"value":7}"#);
}

/// Shows FX-08.
#[tokio::test]
async fn a_token_opens_one_realm_only() {
    let server = Server::start(&[]).await;
    let visitor = Visitor::at(&server, "https://shop.example");
    visitor.post("/login?u=alice").await.ok();
    visitor.post("/b/login?u=bob").await.ok();
    for (from, to, path) in [(NAME, "__Host-b", "/b/peek"), ("__Host-b", NAME, "/peek")] {
        let cookies = visitor.cookies();
        let cookie = cookies.iter().find(|cookie| cookie.name == from.as_bytes()).unwrap();
        let line = [to.as_bytes(), b"=", &cookie.value].concat();
        let peek = with_cookie(&server, "GET", path, &line).await;
        assert_eq!(
            (&peek.json()["user"], &peek.json()["status"]),
            (&json!(null), &json!("unknown"))
        );
        let foreign = with_cookie(&server, "POST", &path.replace("peek", "logout"), &line).await;
        assert_eq!((foreign.status, foreign.lines("set-cookie").count()), (200, 0));
    }
    assert_eq!(visitor.user().await.as_deref(), Some("alice"));
    assert_eq!(event(&server, "logout").await, 0);
}

/// Shows FX-10.
#[tokio::test]
async fn a_replaced_token_has_no_grace() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for path in ["/cycle", "/elevate", "/reauth"] {
        let old = client.fork();
        client.post(path).await.ok();
        assert_eq!(old.peek().await["status"], "superseded");
        old.post("/incr").await;
        assert_eq!(client.peek().await["n"], json!(null), "{path}: the write is dropped");
        assert_eq!(client.user().await.as_deref(), Some("alice"));
    }
}
