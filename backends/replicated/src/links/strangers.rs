//! Connections that other processes open.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::Links;
use crate::detector::BEAT;
use crate::system::TcpListener;

/// Processes that dialled this node and have not shown yet that they are peers. A newer one takes the
/// place of the oldest: a slow stranger cannot keep a peer out.
#[derive(Default)]
pub(super) struct Strangers(pub(super) VecDeque<AbortHandle>);

impl Strangers {
    pub(super) fn admit(&mut self, stranger: AbortHandle) {
        if self.0.len() >= MAX_STRANGERS {
            self.0.retain(|stranger| !stranger.is_finished());
        }
        if self.0.len() >= MAX_STRANGERS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(stranger);
    }
}

/// Accepts connections, dials, and lets time pass, until the node is gone.
pub(super) async fn serve(links: Weak<Links>, listener: TcpListener) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strangers = Strangers::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = beat.tick() => None,
            accepted = listener.accept() => Some(accepted),
        };
        let Some(links) = links.upgrade() else {
            return;
        };
        let node = links.node.upgrade();
        if let Some(node) = node.as_ref().filter(|node| node.is_broken()) {
            tracing::error!(target: "steadfast", "the replication of this node failed: its links end");
            node.abandon();
        }
        let Some(node) = node.filter(|node| !node.is_broken()) else {
            // Ends every link.
            return links.lock().links.clear();
        };
        match accepted {
            None => {
                links.maintain(&node);
                links.dial();
            }
            Some(Ok((stream, _))) => {
                let welcome = tokio::spawn(Arc::clone(&links).welcome(stream));
                strangers.admit(welcome.abort_handle());
            }
            // No file descriptor is left for it: that passes.
            Some(Err(_)) => tokio::time::sleep(BEAT).await,
        }
    }
}

/// The highest number of strangers at a time.
pub(super) const MAX_STRANGERS: usize = 256;
