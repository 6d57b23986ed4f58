//! The shop does the same before, between and after.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;

use axum::Router;
use bridge::Client;
use example_migration::{after, before, bridged};

#[tokio::test]
async fn the_shop_does_the_same_before_the_port() {
    journey(before::router()).await;
}

#[tokio::test]
async fn the_shop_does_the_same_on_a_bridge() {
    journey(bridged::router()).await;
}

#[tokio::test]
async fn the_shop_does_the_same_after_the_port() {
    journey(after::router()).await;
}

#[test]
fn a_bridge_changes_three_lines() {
    let (before, bridged) = (include_str!("../src/before.rs"), include_str!("../src/bridged.rs"));
    let lines = |text: &'static str| {
        text.lines().filter(|line| !line.starts_with("//!")).collect::<BTreeSet<_>>()
    };
    assert_eq!(lines(bridged).difference(&lines(before)).count(), 3);
    assert_eq!(lines(before).difference(&lines(bridged)).count(), 2);
}

async fn journey(shop: Router) {
    let nodes = [shop];
    let (alice, other) = (Client::new(&nodes), Client::new(&nodes));
    assert_eq!(alice.get("/").await.body, "visit 1, cart: ");
    alice.post("/cart", "item=tea").await;
    assert_eq!(alice.get("/account").await.location(), "/login?next=%2Faccount");

    let wrong = alice.post("/login", "user=alice&password=rabbit").await;
    assert_eq!(wrong.status, 401);
    let elsewhere = "user=alice&password=wonderland&next=%2F%2Fevil.example";
    assert_eq!(alice.post("/login", elsewhere).await.location(), "/");
    let right = "user=alice&password=wonderland&next=%2Faccount";
    for client in [&alice, &other] {
        assert_eq!(client.post("/login", right).await.location(), "/account");
        assert_eq!(client.get("/account").await.body, "signed in as alice");
    }
    assert_eq!(alice.get("/").await.body, "visit 2, cart: tea");

    assert_eq!(alice.post("/password", "password=hole").await.location(), "/account");
    assert_eq!(alice.get("/account").await.body, "signed in as alice");
    assert_eq!(other.get("/account").await.location(), "/login?next=%2Faccount");

    alice.post("/logout", "").await;
    assert!(!alice.has_cookie());
    assert_eq!(alice.get("/account").await.location(), "/login?next=%2Faccount");
    assert_eq!(alice.get("/").await.body, "visit 1, cart: ");
}
