//! What happened, for whoever listens.

use std::sync::OnceLock;

use futures_util::stream;
use steadfast_core::{Change, ChangeStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// A channel that exists from the first listener on: until then, a change costs one atomic read.
#[derive(Debug, Default)]
pub(crate) struct Changes(OnceLock<Sender<Change>>);

impl Changes {
    pub(crate) fn send(&self, change: Change) {
        if let Some(sender) = self.0.get() {
            // An error says that nobody listens any more.
            let _ = sender.send(change);
        }
    }

    pub(crate) fn listen(&self) -> ChangeStream {
        let sender = self.0.get_or_init(|| broadcast::channel(KEPT).0);
        ChangeStream::complete(stream::unfold(sender.subscribe(), next))
    }
}

async fn next(mut receiver: Receiver<Change>) -> Option<(Change, Receiver<Change>)> {
    match receiver.recv().await {
        Ok(change) => Some((change, receiver)),
        Err(RecvError::Lagged(_)) => Some((Change::Missed, receiver)),
        Err(RecvError::Closed) => None,
    }
}

/// Changes kept for a listener that is slow; beyond them it is told [`Change::Missed`].
const KEPT: usize = 1_024;
