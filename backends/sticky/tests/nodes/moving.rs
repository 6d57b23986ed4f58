//! Sessions that change their node: after a failure, in a drain, and to balance the load.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::conformance::faults::{Call, Fault};
use steadfast_core::{
    Drained, LoginPolicy, Lookup, Operate, Outcome, Proof, RecordId, Rejection, RequestHint,
    SessionStore,
};

use crate::service::{Node, Service, add, hash, label, proof, put, record};

#[tokio::test]
async fn a_takeover_costs_one_patch() {
    let service = Service::with(2, |node| node.recheck(LONG));
    let id = service.session().await;
    let before = service.backup.calls(Call::Update);
    assert_eq!(service.nodes[1].route(id, &["n1"]).await, "n2");
    assert_eq!(service.nodes[1].route(id, &["n2"]).await, "n2");
    assert_eq!(service.backup.calls(Call::Update), before + 1);
    let owner = service.kept(id).await.owner.clone().unwrap();
    assert_eq!((owner.label, owner.fence), (label("n2"), 2));
}

#[tokio::test]
async fn a_write_takes_over_the_session() {
    let service = Service::new();
    let id = service.session().await;
    let before = service.calls();
    service.nodes[1].write(id, &put("n", 1)).await;
    assert_eq!(service.calls(), before + 1);
    assert_eq!(service.kept(id).await.owner.as_ref().unwrap().label, label("n2"));
}

#[tokio::test]
async fn a_touch_is_no_takeover() {
    let service = Service::new();
    let id = service.session().await;
    let before = service.kept(id).await.version;
    let touch = steadfast_core::Patch::touch(service.backup.env().now() + LONG);
    service.nodes[1].write(id, &touch).await;
    assert_eq!(service.kept(id).await.version, before);
}

#[tokio::test]
async fn concurrent_takeovers_leave_one_owner() {
    let service = Service::with(3, |node| node);
    let id = service.session().await;
    let pause = service.backup.pause_before(Call::Update);
    let (second, third) = (service.nodes[1].clone(), service.nodes[2].clone());
    let routes = [
        tokio::spawn(async move { second.route(id, &["n1"]).await }),
        tokio::spawn(async move { third.route(id, &["n1"]).await }),
    ];
    pause.arrived(2).await;
    pause.release();
    let owner = |routes: &[String]| routes[0].clone();
    let mut told = Vec::new();
    for route in routes {
        told.push(route.await.unwrap());
    }
    assert_eq!(told[0], told[1], "both name the owner");
    assert_eq!(service.kept(id).await.owner.as_ref().unwrap().label, label(&owner(&told)));
}

#[tokio::test]
async fn a_session_moves_once_after_a_failover() {
    let service = Service::with(3, |node| node);
    let id = service.session().await;
    let mut route = "n1".to_owned();
    // The first node is dead. The load balancer picks another one, then follows the
    // route.
    let mut moves = 0;
    for visit in 0..20 {
        let at = if visit == 0 { 2 } else { route[1..].parse::<usize>().unwrap() - 1 };
        let told = service.nodes[at].route(id, &[&route]).await;
        moves += u32::from(told != route);
        route = told;
    }
    assert_eq!((moves, route.as_str()), (1, "n3"));
}

#[tokio::test]
async fn a_write_with_an_old_fence_is_merged() {
    let service = Service::with(2, |node| node.follow_changes(false).recheck(LONG));
    let id = service.session().await;
    service.nodes[1].write(id, &put("n", 2)).await;
    service.nodes[1].write(id, &add("m", 1)).await;
    let seen = service.nodes[0].write(id, &add("m", 1)).await;
    for node in &service.nodes {
        assert_eq!(node.n(id, seen).await, Some(2));
    }
    assert_eq!(service.kept(id).await.values.get("m"), Some(&b"2"[..]));
}

#[tokio::test]
async fn no_old_copy_is_served_with_the_feed() {
    let service = Service::with(2, |node| node.recheck(LONG));
    let id = service.session().await;
    for n in 0..500 {
        service.nodes[0].write(id, &put("n", 2 * n)).await;
        assert_eq!(service.nodes[0].n(id, None).await, Some(2 * n));
        service.nodes[1].write(id, &put("n", 2 * n + 1)).await;
        assert_eq!(service.nodes[0].n(id, None).await, Some(2 * n + 1));
    }
}

#[tokio::test]
async fn no_old_copy_is_served_without_the_feed() {
    let service = Service::with(2, |node| node.follow_changes(false).recheck(LONG));
    let id = service.session().await;
    for n in 0..1_000 {
        let seen = service.nodes[0].write(id, &put("n", 2 * n)).await;
        assert_eq!(service.nodes[0].n(id, seen).await, Some(2 * n));
        let seen = service.nodes[1].write(id, &put("n", 2 * n + 1)).await;
        assert_eq!(service.nodes[0].n(id, seen).await, Some(2 * n + 1));
    }
}

#[tokio::test]
async fn a_drained_node_only_serves_existing_sessions() {
    let service = Service::with(3, |node| node.peers(["n1", "n2", "n3"].map(label)));
    let id = service.session().await;
    let node = &service.nodes[0];
    assert_eq!(node.drain().await.unwrap(), Drained { moved: 1, lost: 0 });
    assert!(node.ready().await.is_err());
    let new = node.create(node.mint().unwrap(), record(node.env()), LoginPolicy::default()).await;
    assert!(matches!(new, Ok(Outcome::Rejected(Rejection::Draining))), "{new:?}");
    node.write(id, &put("n", 1)).await;
    assert_eq!(node.n(id, None).await, Some(1));
}

#[tokio::test]
async fn a_drained_node_moves_its_sessions() {
    let service = Service::with(2, |node| node.peers(["n1", "n2"].map(label)));
    let id = service.session().await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.nodes[0].route(id, &["n1"]).await, "n2");
    assert_eq!(service.nodes[1].route(id, &["n2"]).await, "n2");
    let other = service.nodes[1].mint().unwrap();
    let record = record(service.backup.env());
    service.nodes[1].create(other, record, LoginPolicy::default()).await.unwrap();
    assert_eq!(service.nodes[0].route(other, &["n2"]).await, "n2", "it takes none over");
}

#[tokio::test]
async fn a_session_moves_from_a_cut_off_node() {
    let service = Service::new();
    let id = service.session().await;
    let seen = service.nodes[0].write(id, &put("n", 1)).await;
    service.nodes[0].drain().await.unwrap();
    assert_eq!(service.nodes[1].n(id, seen).await, Some(1));
    assert_eq!(service.nodes[1].route(id, &["n1"]).await, "n2");
}

#[tokio::test]
async fn a_read_only_backup_still_serves_reads() {
    let service = Service::new();
    let id = service.session().await;
    service.backup.set(Call::Update, Fault::Down);
    assert_eq!(service.nodes[1].route(id, &["n1"]).await, "n1", "it is the other node's still");
}

#[tokio::test]
async fn rehoming_keeps_users_signed_in() {
    let service = Service::with(4, |node| node);
    // Three nodes have all sessions when the fourth joins.
    let mut clients = Clients::default();
    for n in 0..300 {
        let id = service.session().await;
        let node = n % 3;
        clients.0.insert(id, service.nodes[node].route(id, &["n1"]).await);
    }
    assert_eq!(clients.skew(4), 300);
    for node in &service.nodes[..3] {
        assert_eq!(node.rehome_to(0.25, &[label("n4")]).unwrap(), 25);
    }
    for _ in 0..3 {
        clients.visit(&service).await;
    }
    assert!(clients.skew(4) * 10 <= 13 * 75, "{:?}", clients.shares());
}

#[tokio::test]
async fn rehoming_spreads_sessions_over_the_peers() {
    let service = Service::with(3, |node| node.peers(["n1", "n2", "n3"].map(label)));
    let mut clients = Clients::default();
    for n in 0..250 {
        let id = service.session().await;
        let node = [0, 0, 0, 1, 2][n % 5];
        clients.0.insert(id, service.nodes[node].route(id, &["n1"]).await);
    }
    assert_eq!(service.nodes[0].rehome(4.0 / 9.0).unwrap(), 67);
    for _ in 0..3 {
        clients.visit(&service).await;
    }
    assert!(clients.skew(3) * 10 <= 13 * 250 / 3, "{:?}", clients.shares());
}

#[tokio::test]
async fn a_session_stays_if_its_target_is_unreachable() {
    let service = Service::with(1, |node| node.peers([label("n2")]));
    let id = service.session().await;
    assert_eq!(service.nodes[0].rehome(1.0).unwrap(), 1);
    assert_eq!(service.nodes[0].route(id, &["n1"]).await, "n2");
    for _ in 0..3 {
        assert_eq!(service.nodes[0].route(id, &["n2"]).await, "n1");
        assert_eq!(service.nodes[0].route(id, &["n1"]).await, "n1");
    }
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write() {
    let service = Service::with(2, |node| node);
    let mut acknowledged = BTreeMap::new();
    for n in 0..500 {
        let id = service.session().await;
        let seen = service.nodes[0].write(id, &put("n", n)).await;
        acknowledged.insert(id, (n, seen));
    }
    // The first node is gone for good.
    for (id, (n, seen)) in acknowledged {
        assert_eq!(service.nodes[1].n(id, seen).await, Some(n));
    }
}

/// Shows SK-01.
#[tokio::test]
async fn a_route_never_decides_whose_session_it_is() {
    let service = Service::with(2, |node| node);
    let (id, stranger) = (service.session().await, service.nodes[0].mint().unwrap());
    for routes in [&["n1"][..], &["n2"], &["evil", "n1"], &["n1", "n2", "n3"], &[]] {
        let hint = RequestHint {
            routes: routes.iter().map(|name| label(name)).collect(),
            min_version: None,
        };
        for node in &service.nodes {
            let opens = async |id, proof: Proof| {
                let lookup = node.load(id, Some(&proof), &hint).await.unwrap();
                matches!(lookup, Lookup::Found(_))
            };
            assert!(opens(id, proof()).await);
            assert!(!opens(stranger, proof()).await);
            assert!(!opens(id, hash(9).into()).await);
        }
    }
}

/// Clients of a load balancer that follows routes, each with its route.
#[derive(Default)]
struct Clients(BTreeMap<RecordId, String>);

impl Clients {
    async fn visit(&mut self, service: &Service) {
        for (id, route) in &mut self.0 {
            let node = route[1..].parse::<usize>().unwrap() - 1;
            *route = service.nodes[node].route(*id, &[route]).await;
        }
    }

    fn shares(&self) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for route in self.0.values() {
            *shares.entry(route.as_str()).or_default() += 1;
        }
        shares
    }

    /// Returns the largest number of clients on one node, or all of them if a node has none.
    fn skew(&self, nodes: usize) -> usize {
        let shares = self.shares();
        if shares.len() == nodes { *shares.values().max().unwrap() } else { self.0.len() }
    }
}

const LONG: Duration = Duration::from_secs(3_600);
