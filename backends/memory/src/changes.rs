//! The change feed.

use std::sync::OnceLock;

use futures_util::stream;
use steadfast_core::{Change, ChangeStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// A broadcast channel, created with the first listener. Until then, a change costs one atomic
/// read.
#[derive(Debug, Default)]
pub(crate) struct Changes(OnceLock<Sender<Change>>);

impl Changes {
    pub(crate) fn send(&self, change: Change) {
        if let Some(sender) = self.0.get() {
            // The send fails only if all listeners are gone.
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

/// The number of changes buffered for a slow listener. Beyond it, the listener receives
/// [`Change::Missed`].
const KEPT: usize = 1_024;
