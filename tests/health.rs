//! The health of a node, as balancers and orchestrators see it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use http::header;
use steadfast::store::conformance::faults::{Call, Fault, FaultyStore};
use steadfast::store::{Operate, Store};
use steadfast::testing::Site;
use steadfast::{Health, MemoryStore, StoreError};

#[tokio::test]
async fn a_node_is_alive_and_ready() {
    assert_eq!(seen(&Health::of(MemoryStore::new())).await, [200, 200]);
}

#[tokio::test]
async fn a_node_without_its_store_is_not_ready() {
    let (health, store) = node();
    store.set(Call::Load, Fault::Down);
    assert_eq!(seen(&health).await, [200, 503]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_ready() {
    assert_eq!(seen(&Health::of(Hanging)).await, [200, 503]);
}

#[tokio::test]
async fn a_node_that_drains_takes_no_new_clients() {
    let (health, _) = node();
    health.drain().await.unwrap();
    assert_eq!(seen(&health).await, [200, 404]);
}

#[tokio::test]
async fn answers_are_not_cached_and_reveal_nothing() {
    let (health, store) = node();
    store.set(Call::Load, Fault::Down);
    let client = Site::new(|_| health.router::<()>()).visitor();
    for path in ["/healthz", "/readyz"] {
        let reply = client.get(path).await;
        assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert!(!reply.text().contains("fault"), "{reply:?}");
    }
}

/// Returns the statuses of `/healthz` and `/readyz` beside an application with a state of its own.
async fn seen(health: &Health) -> [u16; 2] {
    let app = Router::<u8>::new().merge(health.router()).with_state(7);
    let client = Site::new(|_| app).visitor();
    [client.get("/healthz").await.status.as_u16(), client.get("/readyz").await.status.as_u16()]
}

#[derive(Debug)]
struct Hanging;

#[async_trait]
impl Operate for Hanging {
    async fn ready(&self) -> Result<(), StoreError> {
        std::future::pending().await
    }
}

fn node() -> (Health, FaultyStore) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>);
    (Health::of(store.clone()), store)
}
