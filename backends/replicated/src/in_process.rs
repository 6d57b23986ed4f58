//! Nodes of one process, connected by channels: the contract, without a network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Change, ChangeStream, Env, Limits, SessionStore, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::ReplicatedStore;
use crate::engine::config::{Acks, Budgets, Copies, DrainAs, Partition};
use crate::engine::{Config, Engine, Message};
use crate::node::{CHANGES_KEPT, Net, Node};
use crate::placement::Name;

/// A service of so many nodes.
struct Nodes(usize, Copies, Partition);

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let nodes = self.joined(&env).await;
        nodes.into_iter().map(|node| Arc::new(store(node)) as Arc<dyn Store>).collect()
    }

    fn largest_cap(&self) -> usize {
        50
    }
}

impl Nodes {
    /// Nodes that know of each other.
    async fn joined(&self, env: &Env) -> Vec<Arc<Node>> {
        let hub = Arc::new(Hub::default());
        let nodes: Vec<_> = (0..self.0).map(|n| self.open(n, env, &hub)).collect();
        hub.connect(&nodes);
        for node in &nodes {
            store(Arc::clone(node)).wait_for(self.0).await.unwrap();
        }
        nodes
    }

    fn open(&self, n: usize, env: &Env, hub: &Arc<Hub>) -> Arc<Node> {
        let config = Config {
            copies: self.1,
            acks: Acks::One,
            partition: Some(self.2),
            drain_as: DrainAs::default(),
            limits: Limits::default(),
            budgets: Budgets::default(),
            expects_peers: n > 0,
            without: None,
        };
        let name: Name = format!("n{n}").parse().unwrap();
        let node = Node::new(name, config, env.clone()).unwrap();
        node.start(Arc::new(Port { hub: Arc::clone(hub), name: node.name().clone() }));
        node
    }
}

fn store(node: Arc<Node>) -> ReplicatedStore {
    ReplicatedStore::of(node, Limits::default())
}

/// Knows every node.
#[derive(Default)]
struct Hub {
    nodes: Mutex<Vec<(Weak<Node>, Inbox)>>,
    /// The number of the link in each direction.
    links: Mutex<BTreeMap<(Name, Name), u64>>,
    /// Held by who delivers, and for as long as one end of a link is there and the other is not.
    gate: RwLock<()>,
}

type Inbox = UnboundedSender<Frame>;

/// A message, from whom, and over which link.
type Frame = (Name, u64, Message);

impl Hub {
    fn connect(self: &Arc<Self>, nodes: &[Arc<Node>]) {
        for node in nodes {
            let (sender, frames) = unbounded_channel();
            self.nodes.lock().unwrap().push((Arc::downgrade(node), sender));
            tokio::spawn(Arc::clone(self).deliver(Arc::downgrade(node), frames));
        }
        for (n, node) in nodes.iter().enumerate() {
            nodes[..n].iter().for_each(|other| self.link(node, other));
        }
    }

    /// Links two nodes anew. What was on its way between them is lost.
    fn link(&self, one: &Node, other: &Node) {
        let _shut = self.gate.write().unwrap();
        for (from, to) in [(one, other), (other, one)] {
            from.drive(|engine, now| {
                engine.unlinked(now, to.name());
                let way = (from.name().clone(), to.name().clone());
                *self.links.lock().unwrap().entry(way).or_default() += 1;
            });
        }
        for (from, to) in [(one, other), (other, one)] {
            from.drive(|engine, now| engine.linked(now, to.name()));
        }
    }

    async fn deliver(self: Arc<Self>, node: Weak<Node>, mut frames: UnboundedReceiver<Frame>) {
        while let Some((from, link, message)) = frames.recv().await {
            let _open = self.gate.read().unwrap();
            if let Some(node) = node.upgrade()
                && self.link_of(&from, node.name()) == link
            {
                node.drive(|engine, now| engine.receive(now, &from, message));
            }
        }
    }

    fn link_of(&self, from: &Name, to: &Name) -> u64 {
        let way = (from.clone(), to.clone());
        self.links.lock().unwrap().get(&way).copied().unwrap_or(0)
    }

    fn node(&self, name: &Name) -> Option<(Arc<Node>, Inbox)> {
        let nodes = self.nodes.lock().unwrap();
        let mut nodes =
            nodes.iter().filter_map(|(node, inbox)| Some((node.upgrade()?, inbox.clone())));
        nodes.find(|(node, _)| node.name() == name)
    }
}

struct Port {
    hub: Arc<Hub>,
    name: Name,
}

impl Net for Port {
    fn send(&self, to: &Name, message: Message) -> usize {
        if let Some((_, inbox)) = self.hub.node(to) {
            let link = self.hub.link_of(&self.name, to);
            let _ = inbox.send((self.name.clone(), link, message));
        }
        0
    }

    fn queued(&self) -> BTreeMap<Name, usize> {
        BTreeMap::new()
    }

    /// On a machine that is busy with other things, a node can be late.
    fn close(&self, peer: &Name) {
        let (hub, me, peer) = (Arc::clone(&self.hub), self.name.clone(), peer.clone());
        tokio::spawn(async move {
            if let (Some((me, _)), Some((peer, _))) = (hub.node(&me), hub.node(&peer)) {
                hub.link(&me, &peer);
            }
        });
    }

    fn leave(&self) {}
}

#[tokio::test]
async fn a_slow_listener_hears_that_the_feed_is_down() {
    let nodes = Nodes(2, Copies::Backups(1), Partition::Degrade).joined(&Env::system()).await;
    let (node, peer) = (&nodes[0], nodes[1].name());
    let mut changes = store(Arc::clone(node)).changes().unwrap();
    // Each round is two changes, and the last one is gone with those before it.
    for _ in 0..CHANGES_KEPT {
        node.drive(|engine, now| engine.linked(now, peer));
        node.drive(Engine::tick);
        node.drive(|engine, now| engine.unlinked(now, peer));
    }
    assert_eq!(next(&mut changes).await, Some(Change::Down));
    node.drive(|engine, now| engine.linked(now, peer));
    node.drive(Engine::tick);
    assert_eq!(next(&mut changes).await, Some(Change::Missed));
}

async fn next(changes: &mut ChangeStream) -> Option<Change> {
    timeout(Duration::from_secs(60), changes.next()).await.expect("a change is reported")
}

mod alone {
    use super::*;

    steadfast_core::conformance_tests!(
        Nodes(1, Copies::Backups(1), Partition::Degrade),
        cases = 32
    );
}

mod two_nodes {
    use super::*;

    steadfast_core::conformance_tests!(
        Nodes(2, Copies::Backups(1), Partition::Degrade),
        cases = 32
    );
}

mod three_nodes_with_a_backup {
    use super::*;

    steadfast_core::conformance_tests!(Nodes(3, Copies::Backups(1), Partition::Fail), cases = 32);
}

mod three_nodes_that_hold_everything {
    use super::*;

    steadfast_core::conformance_tests!(Nodes(3, Copies::All, Partition::Fail), cases = 32);
}
