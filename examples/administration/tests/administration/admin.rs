//! The page of administrators.

use std::time::Duration;

use axum::http::header::{COOKIE, LOCATION};
use axum::http::{Request, StatusCode};
use steadfast::Login;

use crate::{Node, csrf};

#[tokio::test]
async fn users_and_visitors_see_no_sessions() {
    let node = Node::alone();
    let alice = node.user("alice").await;
    let request = Request::get("/admin?user=alice").header(COOKIE, alice).body(String::new());
    let visitor = node.site.visitor();
    for answer in [visitor.send(request.unwrap()).await, visitor.get("/admin?user=alice").await] {
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        assert_eq!(answer.headers[LOCATION], "/admin/sign-in");
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn only_the_password_opens_the_page() {
    let node = Node::alone();
    let client = node.site.visitor();
    for (password, opens) in [("sesame", false), ("open+sesame", true)] {
        let page = client.get("/admin/sign-in").await.ok();
        let form = format!("csrf={}&password={password}", csrf(page.text()));
        client.post_form("/admin/sign-in", &form).await.ok();
        assert_eq!(client.get("/admin").await.status.is_success(), opens);
    }
    let page = client.get("/admin").await.ok();
    client.post_form("/admin/sign-out", &format!("csrf={}", csrf(page.text()))).await.ok();
    assert_eq!(client.get("/admin").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn devices_are_shown_the_last_used_first() {
    let node = Node::alone();
    node.user(Login::new("alice").label("device", "Firefox on Linux")).await;
    node.site.clock().advance(Duration::from_secs(1200));
    node.user(Login::new("alice").label("device", "<b>Safari</b>")).await;
    let page = node.administrator().await.get("/admin?user=alice").await.ok();
    let (first, second) = page.text().split_once("Firefox on Linux").unwrap();
    assert!(first.contains("&lt;b&gt;Safari&lt;/b&gt;") && !page.text().contains("<b>"));
    assert!(first.contains("Last used 1 Jan 2026, 00:20 UTC"), "{first}");
    assert!(second.contains("Last used 1 Jan 2026, 00:00 UTC"), "{second}");
    let none = node.administrator().await.get("/admin?user=%3Cbob").await.ok();
    assert!(none.text().contains("no sessions") && !none.text().contains("<bob"));
}

#[tokio::test]
async fn one_session_or_all_are_ended() {
    let node = Node::alone();
    let (phone, laptop) = (node.user("al & ice").await, node.user("al & ice").await);
    let other = node.user("bob").await;
    let admin = node.administrator().await;
    let page = admin.get("/admin?user=al+%26+ice").await.ok();
    let token = csrf(page.text());
    let session = page.text().split("name=\"session\" value=\"").nth(1).unwrap();
    let form = format!("csrf={token}&user=al+%26+ice&session={}", &session[..36]);
    let answer = admin.post_form("/admin/end", &form).await.ok();
    assert_ne!(node.serves(&phone).await, node.serves(&laptop).await);
    let page = admin.get(answer.headers[LOCATION].to_str().unwrap()).await.ok();
    assert!(page.text().contains("The session has ended.") && page.text().contains("Last used"));
    admin.post_form("/admin/end-all", &format!("csrf={token}&user=al+%26+ice")).await.ok();
    assert!(!node.serves(&phone).await && !node.serves(&laptop).await);
    assert!(node.serves(&other).await);
}

#[tokio::test]
async fn a_form_without_its_token_ends_nothing() {
    let node = Node::alone();
    let alice = node.user("alice").await;
    let admin = node.administrator().await;
    let page = node.administrator().await.get("/admin?user=alice").await.ok();
    let session = page.text().split("name=\"session\" value=\"").nth(1).unwrap();
    for token in ["", "x", csrf(page.text())] {
        let form = format!("csrf={token}&user=alice&session={}", &session[..36]);
        for path in ["/admin/end", "/admin/end-all", "/admin/sign-out"] {
            assert_eq!(admin.post_form(path, &form).await.status, StatusCode::FORBIDDEN);
        }
    }
    assert!(node.serves(&alice).await);
    admin.get("/admin").await.ok();
}

#[tokio::test]
async fn administrators_are_signed_out_sooner() {
    let node = Node::alone();
    let (admin, alice) = (node.administrator().await, node.user("alice").await);
    node.site.clock().advance(Duration::from_secs(301));
    assert_eq!(admin.get("/admin").await.status, StatusCode::SEE_OTHER);
    assert!(node.serves(&alice).await);
}
