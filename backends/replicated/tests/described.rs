//! Descriptions of two nodes, as operators see them.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use steadfast_core::description::{Lacking, Reach, Slots};
use steadfast_core::{Description, Operate};
use steadfast_replicated::{
    Acknowledgements, ClusterSettings, ReplicatedStore, ReplicatedStoreBuilder, Replication,
};
use tokio::net::TcpListener;

#[tokio::test]
async fn two_nodes_describe_one_cluster() {
    let stores = two_nodes().await;
    let described = at_rest(&stores).await;
    let [first, second] = &described;
    assert_eq!((first.node.as_str(), second.node.as_str()), ("n0", "n1"));
    let [own, other] = [first, second].map(|node| node.cluster.clone().unwrap());
    assert_eq!((&own.epoch, &own.settings), (&other.epoch, &other.settings));
    assert_eq!(own.epoch.lineage.len(), 32);
    assert_eq!((own.settings["copies"].as_str(), own.policy.as_str()), ("1", "degrade"));
    let members: Vec<_> =
        own.members.iter().map(|member| (member.name.as_str(), member.role.as_str())).collect();
    assert_eq!(members, [("n0", "full"), ("n1", "full")]);
    assert_eq!(own.members[1].boot, second.boot);
    assert_eq!(own.members[0].reach, None);
    assert_eq!(own.members[1].reach, Some(Reach { linked: true, ..Reach::default() }));
    assert_eq!(first.problem, None);
}

#[tokio::test]
async fn every_slot_has_an_owner_and_a_holder() {
    let stores = two_nodes().await;
    let [first, second] = at_rest(&stores).await.map(|node| node.slots);
    assert_eq!(first.served + second.served, SLOTS);
    assert_eq!((first.complete, second.complete), (second.served, first.served));
    let rest = |slots: Slots| slots.waiting + slots.filling + slots.given_up;
    assert_eq!((rest(first), rest(second)), (0, 0));
}

#[tokio::test]
async fn a_running_service_takes_another_configuration() {
    let stores = two_nodes().await;
    let settings = ClusterSettings {
        replication: Replication::Full,
        acknowledgements: Acknowledgements::All,
        policy: None,
    };
    stores[0].reconfigure(settings);
    for store in &stores {
        let settings = async || store.describe().await.unwrap().cluster.unwrap().settings;
        for _ in 0..1_000 {
            if settings().await["copies"] == "all" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(settings().await["copies"], "all");
        assert_eq!(settings().await["acks"], "all");
    }
    at_rest(&stores).await;
}

/// Returns the descriptions of both nodes once no copy is missing.
async fn at_rest(stores: &[ReplicatedStore; 2]) -> [Description; 2] {
    for _ in 0..1_000 {
        let [first, second] = stores;
        let described = [first.describe().await.unwrap(), second.describe().await.unwrap()];
        let is_at_rest = |node: &Description| {
            let slots = &node.slots;
            node.sync == Lacking::default() && slots.waiting + slots.filling == 0
        };
        if described.iter().all(|node| is_at_rest(node) && node.slots.served > 0) {
            return described;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the nodes do not come to rest");
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

const SLOTS: u64 = 4_096;
