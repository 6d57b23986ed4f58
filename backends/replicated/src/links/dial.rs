//! Dialling nodes that are not linked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Links, Open};
use crate::system::{self, uptime};

impl Links {
    /// Dials the addresses that are due, and looks the seeds up again.
    pub(super) fn dial(self: &Arc<Self>) {
        let (mut open, now) = (self.lock(), uptime());
        let Open { links, addresses, seeds, .. } = &mut *open;
        if seeds.are_due(links.is_empty(), now) {
            tokio::spawn(Arc::clone(self).look_up());
        }
        let is_there = |boot| boot == self.me || links.contains_key(&boot);
        for address in addresses.due(now, is_there).into_iter() {
            tokio::spawn(Arc::clone(self).call(address));
        }
    }

    /// A name may stand for many nodes, and for others later.
    async fn look_up(self: Arc<Self>) {
        for seed in &self.place.seeds {
            let looked_up = tokio::time::timeout(CONNECT_WITHIN, system::look_up(seed)).await;
            let addresses = looked_up.ok().and_then(Result::ok).unwrap_or_default();
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let mut open = self.lock();
            open.addresses.learn(addresses.iter().cloned());
            open.seeds.found(seed, addresses);
        }
    }

    async fn call(self: Arc<Self>, address: String) {
        let connected = tokio::time::timeout(CONNECT_WITHIN, self.connect(&address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let ended = {
            let mut open = self.lock();
            open.addresses.dialled(&address);
            match &connected {
                Ok(boot) => {
                    open.addresses.found(&address, *boot);
                    open.refusals.forget(&address);
                    None
                }
                Err(error) => {
                    open.addresses.failed(uptime(), &address);
                    let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    let boot = open.addresses.at(&address).filter(|_| is_refused);
                    boot.filter(|boot| open.closed.remove(boot))
                }
            }
        };
        if let (Some(boot), Some(node)) = (ended, self.node.upgrade()) {
            node.with_engine(|engine, now| engine.disconnected(now, boot, true));
        }
    }
}

/// The time that a dialled node has to become a peer.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
