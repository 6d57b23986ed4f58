//! `FaultyStore` fails on demand and counts its calls.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::SimpleStore;
use steadfast_core::conformance::faults::{Call, Fault, FaultyStore};
use steadfast_core::{
    Deletion, EndReason, Env, Lookup, Operate, Outcome, Patch, RawJson, RecordId, RequestHint,
    SessionStore, StoreError,
};

const LOGOUT: Deletion<'_> = Deletion::for_reason(EndReason::Logout);

#[tokio::test]
async fn calls_without_a_fault_are_counted() {
    let store = faulty();
    assert!(matches!(load(&store).await, Ok(Lookup::Absent(_))));
    assert!(matches!(update(&store).await, Ok(Outcome::Gone)));
    assert_eq!([Call::Load, Call::Update, Call::Delete].map(|call| store.calls(call)), [1, 1, 0]);
}

#[tokio::test]
async fn a_store_fails_until_it_is_healed() {
    let store = faulty();
    store.set_all(&Fault::Down);
    assert!(matches!(load(&store).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.delete(ID, &LOGOUT).await, Err(StoreError::Unavailable(_))));
    assert!(store.ready().await.is_err());
    store.heal();
    assert!(load(&store).await.is_ok() && store.ready().await.is_ok());
}

#[tokio::test]
async fn a_fault_affects_its_call_on_all_clones() {
    let store = faulty();
    store.clone().set(Call::Update, Fault::Down);
    assert!(load(&store).await.is_ok());
    assert!(update(&store).await.is_err());
}

#[tokio::test]
async fn a_fault_for_once_applies_once() {
    let store = faulty();
    store.once(Call::Load, Fault::AckLost);
    assert!(matches!(load(&store).await, Err(StoreError::Timeout)));
    assert!(load(&store).await.is_ok());
}

#[tokio::test]
async fn a_corrupt_record_is_absent_or_an_error() {
    let store = faulty();
    store.set_all(&Fault::Corrupt);
    assert!(matches!(load(&store).await, Ok(Lookup::Absent(_))));
    assert!(matches!(update(&store).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_answers_a_hung_one_never() {
    let store = faulty();
    let begin = tokio::time::Instant::now();
    store.set(Call::Load, Fault::Slow(Duration::from_secs(2)));
    assert!(load(&store).await.is_ok());
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
    store.set(Call::Load, Fault::Hang);
    let hour = Duration::from_secs(60 * 60);
    assert!(tokio::time::timeout(hour, load(&store)).await.is_err());
}

#[tokio::test]
async fn a_paused_call_waits_until_it_is_released() {
    let store = faulty();
    let pause = store.pause_before(Call::Load);
    let call = tokio::spawn({
        let store = store.clone();
        async move { load(&store).await.is_ok() }
    });
    pause.arrived(1).await;
    assert!(!call.is_finished());
    pause.release();
    assert!(call.await.unwrap());
}

#[tokio::test]
async fn a_call_that_is_paused_afterwards_is_done() {
    let store = faulty();
    let pause = store.pause_after(Call::Delete);
    let call = tokio::spawn({
        let store = store.clone();
        async move { store.delete(ID, &LOGOUT).await.is_ok() }
    });
    pause.arrived(1).await;
    assert!(matches!(load(&store).await, Ok(Lookup::Absent(_))));
    assert!(!call.is_finished());
    pause.release();
    assert!(call.await.unwrap());
}

fn faulty() -> FaultyStore {
    FaultyStore::new(Arc::new(SimpleStore::new(Env::system())))
}

async fn load(store: &FaultyStore) -> Result<Lookup, StoreError> {
    store.load(ID, None, &RequestHint::default()).await
}

async fn update(store: &FaultyStore) -> Result<Outcome, StoreError> {
    let mut patch = Patch::new();
    patch.put("n", RawJson::from(1)).expect("a plain key");
    store.update(ID, &patch, &RequestHint::default()).await
}

const ID: RecordId = RecordId::from_bytes([7; 16]);
