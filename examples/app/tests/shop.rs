//! The shop, without a server and without a form to sign in with.

#![allow(missing_docs)]

use std::time::Duration;

use axum::Router;
use example_app::Strategy;
use http::{Request, StatusCode, header};
use steadfast::SessionLayer;
use steadfast::testing::{Client, Site};

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
async fn the_basket_is_emptied() {
    let client = Site::new(shop).visitor();
    client.post_form("/cart", "item=Assam").await.ok();
    client.post("/cart/empty").await.ok();
    assert!(client.get("/").await.ok().text().contains("Nothing yet."));
}

#[tokio::test]
async fn a_user_sees_and_ends_devices() {
    let site = Site::new(shop);
    let (laptop, phone) = (site.visitor(), site.visitor());
    sign_in(&laptop, "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0 Safari/537.36").await;
    site.clock().advance(Duration::from_secs(5 * 60));
    sign_in(&phone, "Mozilla/5.0 (iPhone) Version/17.0 Safari/604.1").await;
    let page = phone.get("/").await.ok();
    let (linux, iphone) =
        page.text().split_once("Safari on iPhone").expect("the younger one is last");
    assert!(linux.contains("Chrome on Linux") && linux.contains(">5 minutes ago<"), "{linux}");
    assert!(iphone.contains("this one") && iphone.contains(">just now<"), "{iphone}");

    let (_, form) = linux.split_once("action=\"/devices/").expect("a device has a form");
    let handle = form.split('/').next().expect("a text has a first part");
    phone.post(&format!("/devices/{handle}/end")).await.ok();
    assert!(laptop.get("/").await.ok().text().contains("Hello, visitor."));
    assert!(phone.get("/").await.ok().text().contains("Hello, alice."));
}

#[tokio::test]
async fn signing_out_reaches_every_device() {
    let site = Site::new(shop);
    for (path, stays) in [
        ("/logout", [false, true]),
        ("/logout-others", [true, false]),
        ("/logout-everywhere", [false, false]),
    ] {
        let clients = [site.signed_in("alice").await, site.signed_in("alice").await];
        clients[0].post(path).await.ok();
        for (client, stays) in clients.iter().zip(stays) {
            let page = client.get("/").await.ok();
            assert_eq!(page.text().contains("Hello, alice."), stays, "{path}");
        }
    }
}

#[tokio::test]
async fn another_user_cannot_end_a_device() {
    let site = Site::new(shop);
    let (alice, mallory) = (site.signed_in("alice").await, site.signed_in("mallory").await);
    let handle = alice.session(|session| async move { session.handle().await }).await;
    let handle = handle.expect("the store answers").expect("she is signed in");
    mallory.post(&format!("/devices/{handle}/end")).await;
    assert!(alice.get("/").await.ok().text().contains("Hello, alice."));
}

#[tokio::test]
async fn the_page_shows_nodes_and_copies() {
    let client = Site::new(shop).visitor();
    let page = through_balancer(&client, "/", "n1=up n2=down").await;
    assert!(page.contains("n1 (copy) and Elsewhere hold your session."), "{page}");
    assert!(page.contains("action=\"/nodes/n1/stop\"") && page.contains("Restart this node"));
    assert!(page.contains("action=\"/nodes/n2/start\"") && page.contains("Start n2"));
    let page = client.get("/").await.ok();
    assert!(!page.text().contains("action=\"/nodes"), "without a balancer, no node can be stopped");
}

#[tokio::test]
async fn the_page_says_what_became_of_a_session() {
    let client = Site::new(shop).signed_in("alice").await;
    client.post_form("/cart", "item=Assam").await.ok();
    let before = client.get("/").await.ok();
    assert!(!before.text().contains("was stopped"));
    let handle = client.session(|session| async move { session.handle().await }).await;
    let handle = handle.expect("the store answers").expect("she is signed in");
    let kept = format!("/?stopped=n2&session={handle}");
    let page = through_balancer(&client, &kept, "n1=up n2=down").await;
    assert!(
        page.contains("Your session survived.") && page.contains("Because it is kept."),
        "{page}"
    );
    assert!(page.contains("still signed in as alice, and the basket still has 1 tea."), "{page}");
    let lost = "/?stopped=n2&session=another";
    let page = through_balancer(&client, lost, "n1=up n2=up").await;
    assert!(
        page.contains("Your session is gone.") && page.contains("Because it was lost."),
        "{page}"
    );
    assert!(page.contains("n2 was stopped and started again."), "{page}");
    let page = through_balancer(&client, "/?stopped=n7&session=x", "n1=up n2=up").await;
    assert!(!page.contains("was stopped"), "a link cannot invent a node");
}

#[tokio::test]
async fn the_page_loads_nothing_and_forbids_frames() {
    let page = Site::new(shop).visitor().get("/").await.ok();
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().expect("it is text");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!page.text().contains("<script") && !page.text().contains("src="));
}

#[tokio::test]
async fn a_failed_call_is_answered_by_a_page() {
    let reply = Site::new(shop).visitor().get("/live").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert!(reply.text().contains("That did not work") && reply.text().contains("href=\"/\""));
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
    assert!(!client.get("/").await.ok().text().contains("<li>Assam"));
}

/// Signs in as alice in a browser that identifies itself so.
async fn sign_in(client: &Client<Router>, agent: &str) {
    let request = Request::post("/login")
        .header(header::USER_AGENT, agent)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    client.send(request.body("user=alice".to_owned()).expect("a request")).await.ok();
}

/// The page at a path, through a balancer that has these nodes.
async fn through_balancer(client: &Client<Router>, path: &str, nodes: &str) -> String {
    let request = Request::get(path).header("x-nodes", nodes).body(String::new());
    client.send(request.expect("a request")).await.ok().text().to_owned()
}

fn shop(sessions: SessionLayer) -> Router {
    let strategy = Strategy {
        name: "A strategy",
        summary: "It keeps sessions.",
        roles: &["copy"],
        beside: Some("Elsewhere"),
        survives: "Because it is kept.",
        lost: "Because it was lost.",
    };
    example_app::router(strategy, "n1", sessions)
}
