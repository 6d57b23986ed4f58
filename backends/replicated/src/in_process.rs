//! Nodes of one process, connected by channels: the contract, without a network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use steadfast_core::conformance::Subject;
use steadfast_core::{Env, Limits, Store};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::ReplicatedStore;
use crate::engine::config::{Acks, Copies, DrainAs, Partition};
use crate::engine::{Config, Message};
use crate::node::{Net, Node};
use crate::placement::Name;

/// A service of so many nodes.
struct Nodes(usize, Copies, Partition);

#[async_trait]
impl Subject for Nodes {
    async fn nodes(&self, env: Env) -> Vec<Arc<dyn Store>> {
        let hub = Arc::new(Hub::default());
        let nodes: Vec<_> = (0..self.0).map(|n| self.open(n, &env, &hub)).collect();
        hub.connect(&nodes);
        let mut stores: Vec<Arc<dyn Store>> = Vec::new();
        for node in nodes {
            let store = ReplicatedStore::of(node, Limits::default());
            store.wait_for(self.0).await.unwrap();
            stores.push(Arc::new(store));
        }
        stores
    }
}

impl Nodes {
    fn open(&self, n: usize, env: &Env, hub: &Arc<Hub>) -> Arc<Node> {
        let config = Config {
            copies: self.1,
            acks: Acks::One,
            partition: Some(self.2),
            drain_as: DrainAs::default(),
            limits: Limits::default(),
            expects_peers: n > 0,
            without: None,
        };
        let name: Name = format!("n{n}").parse().unwrap();
        let node = Node::new(name, config, env.clone()).unwrap();
        node.start(Arc::new(Port { hub: Arc::clone(hub), name: node.name().clone() }));
        node
    }
}

/// Knows every node.
#[derive(Default)]
struct Hub(Mutex<Vec<(Weak<Node>, Inbox)>>);

type Inbox = UnboundedSender<(Name, Message)>;

impl Hub {
    fn connect(&self, nodes: &[Arc<Node>]) {
        for node in nodes {
            let (sender, mut messages) = unbounded_channel::<(Name, Message)>();
            self.0.lock().unwrap().push((Arc::downgrade(node), sender));
            let node = Arc::downgrade(node);
            tokio::spawn(async move {
                while let Some((from, message)) = messages.recv().await {
                    if let Some(node) = node.upgrade() {
                        node.drive(|engine, now| engine.receive(now, &from, message));
                    }
                }
            });
        }
        for node in nodes {
            for other in nodes.iter().filter(|other| other.name() != node.name()) {
                node.drive(|engine, now| engine.linked(now, other.name()));
            }
        }
    }
}

struct Port {
    hub: Arc<Hub>,
    name: Name,
}

impl Net for Port {
    fn send(&self, to: &Name, message: Message) -> usize {
        let nodes = self.hub.0.lock().unwrap();
        let to =
            nodes.iter().find(|(node, _)| node.upgrade().is_some_and(|node| node.name() == to));
        if let Some((_, sender)) = to {
            let _ = sender.send((self.name.clone(), message));
        }
        0
    }

    fn queued(&self) -> BTreeMap<Name, usize> {
        BTreeMap::new()
    }

    fn close(&self, peer: &Name) {
        panic!("{peer:?} is late, in one process");
    }

    fn leave(&self) {}
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
