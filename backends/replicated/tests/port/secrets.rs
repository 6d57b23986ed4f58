//! Secrets: how they change, and what else keeps services apart.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use steadfast_core::Operate;
use steadfast_replicated::{OpenError, ReplicatedStore};

use crate::common::{Visitor, anyone, eventually, founder, free_port, node};
use crate::tap::Tap;

/// Shows CL-09.
#[tokio::test]
async fn replacing_a_secret_loses_no_session() {
    let mut service = Service::open(&[OLD]).await;
    let mut visitors = Vec::new();
    for n in 0..60 {
        visitors.push(Visitor::at(&service.nodes[n % 3].1, &[("n", &n.to_string())]).await);
    }
    for secrets in [&[OLD, NEW][..], &[NEW, OLD], &[NEW]] {
        for n in 0..3 {
            service.restart(n, secrets).await;
            for (number, visitor) in visitors.iter().enumerate() {
                let value = async || visitor.value(&service.nodes[n].1, "n").await;
                eventually(async || value().await.is_some()).await;
                assert_eq!(value().await, Some(number.to_string()));
            }
        }
    }
    assert!(service.refuses(&[OLD]).await, "the old secret is worth nothing any more");
}

/// Shows CL-09.
#[tokio::test]
async fn a_secret_unknown_to_others_is_rejected() {
    let service = Service::open(&[OLD]).await;
    assert!(service.refuses(&[NEW, OLD]).await);
    assert!(!service.refuses(&[OLD, NEW]).await);
}

/// Shows CL-09.
#[tokio::test]
async fn a_secret_is_replaced_in_running_nodes() {
    let service = Service::open(&[OLD]).await;
    for secrets in [&[OLD, NEW][..], &[NEW, OLD], &[NEW]] {
        for (_, node) in &service.nodes {
            node.replace_secrets(secrets.iter().map(|secret| secret.to_vec())).unwrap();
        }
    }
    assert!(service.refuses(&[OLD]).await, "the old secret opens nothing");
    assert!(!service.refuses(&[NEW]).await);
    let short = service.nodes[0].1.replace_secrets([[0; 31]]);
    assert!(matches!(short, Err(OpenError::ShortSecret { len: 31 })));
}

/// Shows CL-17.
#[tokio::test]
async fn two_services_with_one_secret_stay_apart() {
    let mut tap = Tap::new();
    let (shop_port, shop) = founder(node(0)).await;
    let front = tap.in_front_of(shop_port).await;
    let (forum_port, forum) = founder(node(0).cluster("forum")).await;
    let seeds = [front, forum_port.to_string()];
    let second = node(1).cluster("forum").seeds(seeds).open().await.unwrap();
    let visitor = Visitor::at(&shop, &[("n", "1")]).await;
    tap.ended(5).await;
    for node in [&forum, &second] {
        node.wait_for(2).await.unwrap();
        assert!(node.wait_for(3).now_or_never().is_none());
        assert_eq!(node.stats().await.unwrap().records, 0);
        assert_eq!(visitor.value(node, "n").await, None);
    }
    assert!(shop.wait_for(2).now_or_never().is_none());
}

/// Three nodes, and where they are.
struct Service {
    nodes: Vec<(SocketAddr, ReplicatedStore)>,
}

impl Service {
    async fn open(secrets: &[[u8; 32]]) -> Self {
        let mut service = Self { nodes: Vec::new() };
        for n in 0..3 {
            let node = service.node(n, secrets).await;
            service.nodes.push(node);
        }
        service.is_whole().await;
        service
    }

    /// Drains a node, and opens it again with these secrets, at another address.
    async fn restart(&mut self, n: usize, secrets: &[[u8; 32]]) {
        let (_, before) = self.nodes.remove(n);
        assert_eq!(before.drain().await.unwrap().lost, 0);
        drop(before);
        let node = self.node(n, secrets).await;
        self.nodes.insert(n, node);
        self.is_whole().await;
    }

    async fn node(&self, n: usize, secrets: &[[u8; 32]]) -> (SocketAddr, ReplicatedStore) {
        let port = free_port().await;
        let seeds = self.nodes.iter().map(|(port, _)| port.to_string());
        let node = anyone(n).bind(port).seeds(seeds).join_timeout(Duration::from_secs(30));
        let node = secrets.iter().fold(node, |node, secret| node.secret(*secret));
        (port, node.open().await.unwrap())
    }

    async fn is_whole(&self) {
        for (_, node) in &self.nodes {
            node.wait_for(self.nodes.len()).await.unwrap();
            eventually(async || node.under_replicated() == 0).await;
        }
    }

    /// Returns true if a node with these secrets cannot join.
    async fn refuses(&self, secrets: &[[u8; 32]]) -> bool {
        let seeds = self.nodes.iter().map(|(port, _)| port.to_string());
        let node = anyone(9).seeds(seeds).join_timeout(Duration::from_secs(1));
        let node = secrets.iter().fold(node, |node, secret| node.secret(*secret));
        matches!(node.open().await, Err(OpenError::NotJoined { .. }))
    }
}

const OLD: [u8; 32] = [1; 32];

const NEW: [u8; 32] = [2; 32];
