//! An administrator's calls on one node, for sessions that are used on all of them.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::Client;

use crate::service::Service;

/// No node serves a session with the label once the call is answered, and all others live on.
pub async fn ends_sessions_by_their_label(service: &Service) {
    let labelled = join_all((0..SESSIONS).map(|n| sign_in(service, n, "1"))).await;
    let other = sign_in(service, 0, "2").await;
    assert_eq!(service.node(1).order("/admin/end-label?name=sid&value=1").await, ended(SESSIONS));
    let served = join_all(labelled.iter().map(|client| service.users(client))).await;
    assert!(served.iter().flatten().all(Option::is_none), "{served:?}");
    assert!(service.users(&other).await.iter().all(Option::is_some));
    let refused = service.node(1).control("POST", "/admin/end-label?name=colour&value=1").await;
    assert_eq!(refused.status, 400);
}

/// Sessions are issued, listed and ended on nodes that their user was never on.
pub async fn sees_and_ends_sessions(service: &Service) {
    let issued = service.node(0).order("/admin/issue?u=alice&label.device=Firefox").await;
    let (name, value) = issued["cookie"].as_str().unwrap().split_once('=').unwrap();
    let client = service.node(1).client();
    client.set_cookie(name, value.split(';').next().unwrap());
    assert_eq!(client.user().await.as_deref(), Some("alice"));
    let other = service.node(2).member("alice").await;
    let listed = service.node(2).told("/admin/sessions?u=alice").await["sessions"].take();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["labels"], json!({ "device": "Firefox" }));
    let end = format!("/admin/end?handle={}", listed[0]["handle"].as_str().unwrap());
    assert_eq!(service.node(2).order(&end).await, ended(1));
    assert_eq!(service.node(0).order(&end).await, ended(0));
    assert!(service.users(&client).await.iter().all(Option::is_none));
    assert_eq!(service.node(0).order("/admin/end-all?u=alice&epoch=2").await, ended(1));
    assert!(service.users(&other).await.iter().all(Option::is_none));
    assert_eq!(service.node(1).client().post("/login?u=alice&epoch=1").await.status, 409);
    service.node(1).client().post("/login?u=alice&epoch=2").await.ok();
}

async fn sign_in(service: &Service, n: usize, sid: &str) -> Client {
    let client = service.node(n).client();
    client.post(&format!("/login?u=user-{}&label.sid={sid}", n % USERS)).await.ok();
    client
}

fn ended(count: usize) -> Value {
    json!({ "ended": count })
}

const SESSIONS: usize = 60;
const USERS: usize = 20;
