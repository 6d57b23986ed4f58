//! The metrics of two nodes, as operators see them.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use steadfast_core::{
    Change, EndReason, KeyId, Lifetime, LoginPolicy, Lookup, Operate, Outcome, Patch, RawJson,
    Record, RecordId, RequestHint, SecretHash, SessionStore,
};
use steadfast_replicated::{Budget, ReplicatedStore, ReplicatedStoreBuilder};
use tokio::net::TcpListener;

#[tokio::test]
async fn metrics_show_copies_and_traffic() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let seen = Seen(recorder.handle());
    let [first, second] = two_nodes().await;
    let ids = [create(&first).await, create(&first).await, create(&second).await];
    for store in [&first, &second] {
        let found = store.load(ids[0], None, &RequestHint::default()).await.unwrap();
        assert!(matches!(found, Lookup::Found(_)));
        let outcome = store.update(ids[0], &patch(), &RequestHint::default()).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied(_)));
    }

    seen.eventually(r#"copies{node="n0",role="owner"}"#, 2.0).await;
    seen.eventually(r#"copies{node="n0",role="backup"}"#, 1.0).await;
    seen.eventually(r#"copies{node="n1",role="owner"}"#, 1.0).await;
    seen.eventually(r#"under_replicated{node="n0"}"#, 0.0).await;
    seen.eventually(r#"base_members{node="n1"}"#, 2.0).await;
    seen.eventually(r#"queued_bytes{node="n0",peer="n1"}"#, 0.0).await;
    seen.eventually(r#"calls_total{node="n0"}"#, 4.0).await;
    seen.eventually(r#"calls_total{node="n1"}"#, 3.0).await;
    seen.eventually(r#"forwarded_calls_total{node="n0"}"#, 0.0).await;
    // The update, and the read that found no lease.
    seen.eventually(r#"forwarded_calls_total{node="n1"}"#, 2.0).await;
    seen.eventually(r#"lease_misses_total{node="n1"}"#, 1.0).await;
    // Two records and two changes of one.
    seen.eventually(r#"sent_messages_total{node="n0",peer="n1",kind="patch"}"#, 4.0).await;
    assert!(seen.figure(r#"sent_bytes_total{node="n0",peer="n1",kind="patch"}"#) > Some(200.0));
    assert!(seen.0.render().contains("# HELP steadfast_copies Copies of records"));
}

#[tokio::test]
async fn an_operator_sees_that_a_node_is_lost() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let seen = Seen(recorder.handle());
    let [first, second] = two_nodes().await;
    create(&first).await;
    seen.eventually(r#"degraded{node="n0"}"#, 0.0).await;

    drop(second);
    seen.eventually(r#"members{node="n0"}"#, 1.0).await;
    seen.eventually(r#"degraded{node="n0"}"#, 1.0).await;
    seen.eventually(r#"ready{node="n0"}"#, 1.0).await;
    seen.eventually(r#"detection_seconds_count{node="n0"}"#, 1.0).await;
    create(&first).await;
    seen.eventually(r#"degraded_writes_total{node="n0"}"#, 1.0).await;
}

#[tokio::test]
async fn metrics_show_what_budgets_hold_and_evict() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let seen = Seen(recorder.handle());
    let two = Budget { records: 2, ..Budget::ANONYMOUS };
    let store = node("n0").anonymous(two).open().await.unwrap();
    let mut changes = store.changes().unwrap();
    for _ in 0..5 {
        create(&store).await;
    }

    assert_eq!(store.stats().await.unwrap().records, 2);
    seen.eventually(r#"held_records{node="n0",class="anonymous"}"#, 2.0).await;
    seen.eventually(r#"held_records{node="n0",class="authenticated"}"#, 0.0).await;
    seen.eventually(r#"evicted_total{node="n0",class="anonymous"}"#, 3.0).await;
    seen.eventually(r#"events_total{event="capacity"}"#, 3.0).await;
    assert!(seen.figure(r#"held_bytes{node="n0",class="anonymous"}"#) > Some(500.0));
    for told in 0..3 {
        let evicted = async {
            while !matches!(changes.next().await, Some(Change::Ended(_, EndReason::Evicted))) {}
        };
        let heard = tokio::time::timeout(Duration::from_secs(10), evicted).await;
        assert!(heard.is_ok(), "{told} of 3 were told");
    }
}

/// Returns the text that a scrape gets.
struct Seen(PrometheusHandle);

impl Seen {
    fn figure(&self, series: &str) -> Option<f64> {
        let text = self.0.render();
        let start = format!("steadfast_{series} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
    }

    async fn eventually(&self, series: &str, value: f64) {
        for _ in 0..1_000 {
            if self.figure(series) == Some(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{series} does not become {value}:\n{}", self.0.render());
    }
}

async fn two_nodes() -> [ReplicatedStore; 2] {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let first = node("n0").bind(address).open().await.unwrap();
    let second = node("n1").seeds([address.to_string()]).open().await.unwrap();
    for store in [&first, &second] {
        store.wait_for(2).await.unwrap();
    }
    [first, second]
}

fn node(name: &str) -> ReplicatedStoreBuilder {
    ReplicatedStore::builder().name(name.parse().unwrap()).secret([7; 32])
}

/// A record that the node owns.
async fn create(store: &ReplicatedStore) -> RecordId {
    let id = store.mint().unwrap();
    let (now, lifetime) = (store.env().now(), Lifetime::default());
    let secret = SecretHash::from_parts(KeyId::NONE, [0; 32]);
    let [idle, absolute] = [lifetime.idle_deadline(now), lifetime.absolute_deadline(now)];
    let record = Record::new(secret, now, idle, absolute);
    store.create(id, record, LoginPolicy::default()).await.unwrap();
    id
}

fn patch() -> Patch {
    let mut patch = Patch::new();
    patch.put("n", RawJson::copied(b"1")).unwrap();
    patch
}
