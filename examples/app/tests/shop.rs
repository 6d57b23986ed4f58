//! The shop, without a server and without a form to sign in with.

#![allow(missing_docs)]

use std::time::Duration;

use axum::Router;
use http::{Request, StatusCode, header};
use steadfast::SessionLayer;
use steadfast::testing::Site;

#[tokio::test]
async fn a_member_is_greeted() {
    assert!(
        Site::new(shop).signed_in("alice").await.get("/").await.text().contains("Hello, alice.")
    );
}

#[tokio::test]
async fn a_visitor_is_offered_to_sign_in() {
    assert!(Site::new(shop).visitor().get("/").await.text().contains("action=\"/login\""));
}

#[tokio::test]
async fn the_cart_stays_through_a_sign_in() {
    let client = Site::new(shop).visitor();
    client.post_form("/cart", "item=Assam").await.ok();
    client.post_form("/login", "user=alice").await.ok();
    let page = client.get("/").await.ok();
    assert!(page.text().contains("Hello, alice.") && page.text().contains("<li>Assam</li>"));
}

#[tokio::test]
async fn what_a_user_types_is_shown_as_text() {
    let client = Site::new(shop).signed_in("<i>alice</i>").await;
    client.post_form("/cart", "item=%3Cscript%3E").await.ok();
    let page = client.get("/").await.ok();
    assert!(page.text().contains("<li>&lt;script&gt;</li>"), "{}", page.text());
    assert!(!page.text().contains("<i>"), "{}", page.text());
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends() {
    let site = Site::new(shop);
    let client = site.signed_in("alice").await;
    client.get("/").await.ok();
    site.settled().await;
    site.clock().advance(Duration::from_secs(30 * 60));
    assert!(client.get("/").await.ok().text().contains("Visits: 1"));
}

#[tokio::test]
async fn another_site_adds_nothing_to_the_cart() {
    let client = Site::new(shop).signed_in("alice").await;
    let request = Request::post("/cart")
        .header("sec-fetch-site", "cross-site")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let reply = client.send(request.body("item=Assam".to_owned()).expect("a request")).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(!client.get("/").await.ok().text().contains("Assam"));
}

fn shop(sessions: SessionLayer) -> Router {
    example_app::router().layer(sessions)
}
