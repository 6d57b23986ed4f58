//! The relation between a request's route and the node that receives it.

use steadfast_core::{Routed, SessionStore};

use crate::service::{Node, Service, label};

#[tokio::test]
async fn every_route_has_one_relation_to_the_node() {
    let service = Service::with(3, |node| node.peers(["n1", "n2"].map(label)));
    let node = &service.nodes[0];
    for (route, routed) in [
        (&["n1"][..], Routed::Hit),
        (&["n1", "n2"], Routed::Hit),
        (&["n2", "n1"], Routed::Backup),
        (&["n2"], Routed::Misrouted),
        (&["n9", "n2"], Routed::Misrouted),
        (&["n9"], Routed::Unknown),
        (&[], Routed::None),
    ] {
        let labels: Vec<_> = route.iter().map(|name| label(name)).collect();
        assert_eq!(node.routed(&labels), Some(routed), "{route:?}");
    }
    assert_eq!(service.calls(), 0, "it asks no store");
}

#[tokio::test]
async fn peers_are_learned_from_records_only() {
    let service = Service::with(2, |node| node);
    let (id, node) = (service.session().await, &service.nodes[1]);
    assert_eq!(node.routed(&[label("n1")]), Some(Routed::Unknown));
    node.route(id, &["n1", "n7"]).await;
    assert_eq!(node.routed(&[label("n1")]), Some(Routed::Misrouted));
    assert_eq!(node.routed(&[label("n7")]), Some(Routed::Unknown));
}
