//! Logout and revocation: what was ended stays ended, and is never only said to be.

use serde_json::{Value, json};
use testkit::raw::{bytes, flood};
use testkit::{Client, Raw, Server};

use crate::common::{
    calls, event, fault, handle, heal, made_up, records, token, user_of, with_cookie,
};

/// Shows LO-01.
#[tokio::test]
async fn a_replay_after_a_logout_fails_immediately() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    let copy = client.fork();
    let reply = client.post("/logout").await.ok();
    assert!(reply.set_cookies()[0].starts_with("__Host-id=; Path=/; Max-Age=0;"), "{reply:?}");
    for _ in 0..3 {
        assert_eq!(copy.user().await, None);
    }
    for (path, status) in [("/elevate", 401), ("/sessions", 405), ("/logout-all", 401)] {
        assert_eq!(copy.post(path).await.status, status, "{path}");
    }
    assert!(records(&server).await.is_empty());
}

/// Shows LO-02.
#[tokio::test]
async fn an_unconfirmed_logout_is_an_error() {
    let server = Server::start(&[]).await;
    for path in ["/logout", "/logout-all", "/logout-others"] {
        for mode in ["down", "corrupt"] {
            let client = server.member("alice").await;
            let before = token(&client);
            fault(&server, &format!("op=delete&mode={mode}")).await;
            let reply = client.post(path).await;
            assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0), "{path}");
            heal(&server).await;
            assert_eq!(client.user().await.as_deref(), Some("alice"), "{path}");
            client.post(path).await.ok();
            assert_eq!(user_of(&server, &before).await, None, "{path}");
        }
    }
}

/// Shows LO-02.
#[tokio::test]
async fn an_unconfirmed_logout_can_be_repeated() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    fault(&server, "op=delete&mode=ack-lost").await;
    let reply = client.post("/logout").await;
    assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (503, 0));
    heal(&server).await;
    client.post("/logout").await.ok();
    assert_eq!(client.user().await, None);
}

/// Shows LO-03.
#[tokio::test]
async fn ten_thousand_logouts_of_nobody_create_nothing() {
    let server = Server::start(&[]).await;
    server.member("alice").await;
    let request = |number: usize| {
        let cookie = format!("Cookie: __Host-id={}", made_up(number));
        match number % 2 {
            0 => bytes("POST", "/logout", &[]),
            _ => bytes("POST", "/logout", &[cookie.as_bytes()]),
        }
    };
    let see = |_, answer: testkit::raw::Answer| {
        assert_eq!((answer.status, answer.lines("set-cookie").count()), (200, 0));
    };
    flood(&server.address, 10_000, request, see).await;
    assert_eq!(server.told("/stats").await["records"], 1);
}

/// Shows LO-04.
#[tokio::test]
async fn a_logout_goes_on_without_its_client() {
    let server = Server::start(&[]).await;
    for path in ["/logout", "/logout-all"] {
        let client = server.member("alice").await;
        let (line, before) =
            (format!("Cookie: {}", client.cookies()), calls_of_deletes(&server).await);
        fault(&server, "op=delete&mode=slow&ms=200").await;
        let mut connection = Raw::connect(&server.address).await;
        connection.send(&bytes("POST", path, &[line.as_bytes()])).await;
        testkit::eventually(async || calls_of_deletes(&server).await > before).await;
        drop(connection);
        testkit::eventually(async || client.user().await.is_none()).await;
        heal(&server).await;
    }
}

/// Shows LO-05.
#[tokio::test]
async fn ending_all_includes_concurrent_logins() {
    let server = Server::start(&[]).await;
    let bystander = server.member("bob").await;
    for round in 0..5 {
        let clients = members(&server, 6).await;
        let late: Vec<_> = (0..6).map(|_| server.client()).collect();
        let logins = late.iter().map(|client| client.post("/login?u=alice"));
        let (ended, _) =
            tokio::join!(clients[0].post("/logout-all"), futures_util::future::join_all(logins));
        ended.ok();
        for client in &clients {
            assert_eq!(client.user().await, None, "round {round}");
        }
        // Those that came after it are signed in, and the next one ends them.
        server.member("alice").await.post("/logout-all").await.ok();
        for client in &late {
            assert_eq!(client.user().await, None, "round {round}");
        }
    }
    assert_eq!(bystander.user().await.as_deref(), Some("bob"));
}

/// Shows LO-06.
#[tokio::test]
async fn ending_others_renews_this_token() {
    let server = Server::start(&[]).await;
    let clients = members(&server, 5).await;
    let before = token(&clients[0]);
    assert_eq!(clients[0].post("/logout-others").await.ok().body, r#"{"ended":4}"#);
    assert_eq!(clients[0].user().await.as_deref(), Some("alice"));
    assert_eq!(user_of(&server, &before).await, None);
    for other in &clients[1..] {
        assert_eq!(other.user().await, None);
    }
    assert_eq!(records(&server).await.len(), 1);
}

/// Shows LO-08.
#[tokio::test]
async fn a_handle_opens_nothing() {
    let server = Server::start(&[]).await;
    let (alice, bob) = (server.member("alice").await, server.member("bob").await);
    let foreign = handle(&bob).await;
    let before = server.told("/dump").await;
    assert_eq!(alice.post(&format!("/sessions/{foreign}/end")).await.status, 404);
    for odd in ["%00", "..%2f", "%22", "{}", "' OR 1=1 --", &"a".repeat(5_000)] {
        let path = format!("/sessions/{}/end", odd.replace(' ', "%20"));
        assert_eq!(alice.post(&path).await.status, 404, "{odd:.20}");
    }
    assert_eq!(server.told("/dump").await, before);
    for shown in [foreign.clone(), foreign.replace('-', "")] {
        assert_eq!(user_of(&server, &shown).await, None);
    }
    let anonymous = server.client().post(&format!("/sessions/{foreign}/end")).await;
    assert_eq!((anonymous.status.as_u16(), bob.user().await.as_deref()), (401, Some("bob")));
}

/// Shows LO-11.
#[tokio::test]
async fn a_replay_sees_no_removed_value() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    client.send("POST", "/put?k=secret", &[], "7").await.ok();
    let replay = client.fork();
    client.send("DELETE", "/key?k=secret", &[], "").await.ok();
    assert_eq!(replay.get("/get?k=secret").await.ok().json()["value"], Value::Null);
    assert_eq!(server.told("/dump").await["records"][0]["values"], json!({}));
}

/// Shows LO-13.
#[tokio::test]
async fn other_sites_cannot_sign_a_user_out() {
    let server = Server::start(&[]).await;
    let client = server.member("alice").await;
    for path in ["/logout", "/logout-all", "/logout-others"] {
        for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
            assert_eq!(client.send(method, path, &[], "").await.status, 405, "{method} {path}");
        }
        let forged = client.send("POST", path, &[("sec-fetch-site", "cross-site")], "").await;
        assert_eq!(forged.status, 403, "{path}");
    }
    assert_eq!(
        (client.user().await.as_deref(), event(&server, "logout").await),
        (Some("alice"), 0)
    );
}

/// Shows LO-14.
#[tokio::test]
async fn concurrent_logins_respect_the_cap() {
    let server = Server::start(&["--max-per-principal", "3"]).await;
    let clients: Vec<_> = (0..50).map(|_| server.client()).collect();
    let logins = clients.iter().map(|client| client.post("/login?u=alice"));
    let replies = futures_util::future::join_all(logins).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let mut live = 0;
    for client in &clients {
        live += usize::from(client.user().await.is_some());
    }
    assert_eq!((live, records(&server).await.len()), (3, 3));
    assert_eq!(event(&server, "capacity").await, 47);
}

/// Shows LO-01.
#[tokio::test]
async fn a_logout_without_a_session_removes_no_cookie() {
    let server = Server::start(&[]).await;
    let cookie = format!("__Host-id={}", made_up(1));
    let before = calls(&server).await;
    let answer = with_cookie(&server, "POST", "/logout", cookie.as_bytes()).await;
    assert_eq!((answer.status, answer.lines("set-cookie").count()), (200, 0));
    assert_eq!(calls(&server).await, before + 1);
}

async fn members(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.member("alice").await);
    }
    clients
}

async fn calls_of_deletes(server: &Server) -> u64 {
    let ops = &server.told("/stats").await["ops"];
    ops["delete"].as_u64().unwrap() + ops["delete_all"].as_u64().unwrap()
}
