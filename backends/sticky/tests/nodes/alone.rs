//! A node without a backup reports lost sessions.

use std::time::Duration;

use steadfast_core::{
    Absence, Deletion, Drained, Env, LoginPolicy, Lookup, ManualClock, Operate, Outcome, Principal,
    Realm, RecordId, RequestHint, Revocation, SessionStore, StoreError, Version,
};
use steadfast_memory::MemoryStore;
use steadfast_sticky::StickyStore;

use crate::service::{Node, label, put, record};

#[tokio::test]
async fn a_session_of_another_node_is_lost() {
    let node = alone("n2", &ManualClock::default());
    assert_eq!(absence(&node, &["n1"], None).await, Absence::Lost);
    assert_eq!(absence(&node, &["n1", "n2"], None).await, Absence::Unknown);
    assert_eq!(absence(&node, &[], None).await, Absence::Unknown);
}

#[tokio::test]
async fn a_session_of_an_earlier_process_is_lost() {
    let clock = ManualClock::default();
    let first = alone("n1", &clock);
    let id = create(&first).await;
    let seen = first.write(id, &put("n", 1)).await;
    clock.advance(Duration::from_secs(1));
    let second = alone("n1", &clock);
    assert_eq!(absence(&second, &["n1"], seen).await, Absence::Lost);
    let ended = create(&second).await;
    let seen = second.write(ended, &put("n", 1)).await;
    second.delete(ended, &Deletion::LOGOUT).await.unwrap().is_ended();
    assert_eq!(absence(&second, &["n1"], seen).await, Absence::Unknown, "it was signed out");
}

#[tokio::test]
async fn what_no_node_can_know_is_unsupported() {
    let node = alone("n1", &ManualClock::default());
    let alice = Principal::new(Realm::default(), "alice").unwrap();
    assert!(matches!(node.list(&alice).await, Err(StoreError::Unsupported(_))));
    let ended = node.delete_all(&alice, Revocation::LOGOUT).await;
    assert!(matches!(ended, Err(StoreError::Unsupported(_))));
    assert!(matches!(node.rehome(1.0), Err(StoreError::Unsupported(_))));
}

#[tokio::test]
async fn a_drain_counts_the_lost_sessions() {
    let node = alone("n1", &ManualClock::default());
    let id = create(&node).await;
    assert_eq!(node.drain().await.unwrap(), Drained { moved: 0, lost: 1 });
    assert!(node.ready().await.is_err());
    assert!(node.opens(id).await, "it is served to the end");
}

fn alone(name: &str, clock: &ManualClock) -> StickyStore {
    let memory = MemoryStore::builder().env(Env::with_clock(clock.clone())).build();
    StickyStore::builder(label(name)).memory(memory).build()
}

async fn create(node: &StickyStore) -> RecordId {
    let id = node.mint().unwrap();
    let outcome = node.create(id, record(node.env()), LoginPolicy::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    id
}

async fn absence(node: &StickyStore, routes: &[&str], seen: Option<Version>) -> Absence {
    let hint =
        RequestHint { routes: routes.iter().map(|name| label(name)).collect(), min_version: seen };
    match node.load(node.mint().unwrap(), None, &hint).await.unwrap() {
        Lookup::Absent(absence) => absence,
        other => panic!("{other:?}"),
    }
}
