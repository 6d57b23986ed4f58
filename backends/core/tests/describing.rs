//! Descriptions of nodes, and how they serialize.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::SimpleStore;
use serde_json::json;
use steadfast_core::conformance::faults::{Fault, FaultyStore};
use steadfast_core::description::{Cluster, Epoch, Lacking, Member, Reach, Slots, Traffic};
use steadfast_core::{Description, Env, Operate, SessionStore, Store, StoreError, forward_calls};

#[tokio::test]
async fn a_store_without_nodes_describes_none() {
    let store = SimpleStore::new(Env::system());
    let error = store.describe().await.unwrap_err();
    assert!(matches!(error, StoreError::Unsupported(_)));
    assert_eq!(error.to_string(), "the session store does not support describing a cluster");
}

#[tokio::test]
async fn wrappers_forward_descriptions_while_calls_fail() {
    let inner: Arc<dyn Store> = Arc::new(Described(SimpleStore::new(Env::system())));
    let store = Arc::new(FaultyStore::new(Arc::new(inner)));
    store.set_all(&Fault::Down);
    assert_eq!(store.describe().await.unwrap(), alone());
}

#[test]
fn a_single_node_shows_its_own_fields() {
    let shown = json!({
        "node": "n1",
        "boot": "00",
        "slots": { "served": 0, "waiting": 0, "complete": 0, "filling": 0, "given_up": 0 },
        "sync": { "unsynced_slots": 0, "under_replicated": 0 },
        "relayed": 7,
        "open_calls": 1,
        "clock_offset_ms": 0,
        "problem": "the others are awaited",
    });
    assert_eq!(serde_json::to_value(alone()).unwrap(), shown);
}

#[test]
fn a_cluster_is_flattened_into_its_node() {
    let settings = [("copies".to_owned(), "1".to_owned())].into();
    let cluster = Cluster {
        epoch: Epoch { lineage: "0a".into(), number: 3, protocol: 1 },
        settings,
        policy: "fail".into(),
        members: vec![other()],
    };
    let sync = Lacking { unsynced_slots: 2, under_replicated: 5 };
    let described = Description { cluster: Some(cluster), sync, ..alone() };
    let shown = serde_json::to_value(described).unwrap();
    assert_eq!(shown["epoch"], json!({ "lineage": "0a", "number": 3, "protocol": 1 }));
    assert_eq!((&shown["settings"], &shown["policy"]), (&json!({ "copies": "1" }), &json!("fail")));
    assert_eq!(shown["sync"], json!({ "unsynced_slots": 2, "under_replicated": 5 }));
    let member = json!({
        "name": "n2",
        "boot": "01",
        "address": "10.0.0.2:7946",
        "zone": null,
        "role": "full",
        "votes": true,
        "linked": false,
        "suspected": "it did not answer for 300 ms",
        "suspected_by": ["n3"],
        "clock_offset_ms": -2,
    });
    assert_eq!(shown["members"], json!([member]));
}

#[test]
fn the_member_that_describes_does_not_reach_itself() {
    let shown = serde_json::to_value(Member { reach: None, ..other() }).unwrap();
    let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    for left_out in ["reach", "linked", "suspected", "suspected_by"] {
        assert!(!fields.contains(&left_out), "{fields:?}");
    }
}

fn alone() -> Description {
    Description {
        node: "n1".into(),
        boot: "00".into(),
        cluster: None,
        slots: Slots::default(),
        sync: Lacking::default(),
        traffic: Traffic { relayed: 7, open_calls: 1 },
        clock_offset_ms: 0,
        problem: Some("the others are awaited".into()),
    }
}

fn other() -> Member {
    let reach = Reach {
        linked: false,
        suspected: Some("it did not answer for 300 ms".into()),
        suspected_by: vec!["n3".into()],
    };
    Member {
        name: "n2".into(),
        boot: "01".into(),
        address: "10.0.0.2:7946".into(),
        zone: None,
        role: "full".into(),
        votes: true,
        reach: Some(reach),
        clock_offset_ms: Some(-2),
    }
}

/// A store with one node and no cluster.
#[derive(Debug)]
struct Described(SimpleStore);

#[async_trait]
impl SessionStore for Described {
    forward_calls!(this => this.0);
}

#[async_trait]
impl Operate for Described {
    async fn describe(&self) -> Result<Description, StoreError> {
        Ok(alone())
    }
}
