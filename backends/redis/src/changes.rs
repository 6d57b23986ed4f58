//! What happened, for whoever listens: published by the scripts, heard on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use steadfast_core::{Change, ChangeStream, EndReason, RecordId, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use crate::connection::{Listener, Servers};

/// The channel on which this node hears of changes, from the first listener on.
pub(crate) struct Changes {
    channel: String,
    hearing: Mutex<Option<Hearing>>,
}

struct Hearing {
    sender: Sender<Change>,
    task: AbortHandle,
}

impl Changes {
    pub(crate) fn new(channel: String) -> Self {
        Self { channel, hearing: Mutex::default() }
    }

    pub(crate) fn listen(&self, servers: &Arc<Servers>) -> ChangeStream {
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        let hearing = hearing.get_or_insert_with(|| {
            let (sender, _) = broadcast::channel(KEPT);
            let hear = hear(Arc::clone(servers), self.channel.clone(), sender.clone());
            let task = tokio::spawn(hear).abort_handle();
            Hearing { sender, task }
        });
        ChangeStream::new(stream::unfold(hearing.sender.subscribe(), next))
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens for ever, over one connection after another. What was published between two of them is
/// lost, and that is told.
async fn hear(servers: Arc<Servers>, channel: String, sender: Sender<Change>) {
    loop {
        match servers.listen(&channel).await {
            Ok(listener) => {
                let _ = sender.send(Change::Missed);
                pass_on(listener, &sender).await;
                let _ = sender.send(Change::Missed);
            }
            Err(fault) => tracing::debug!(target: "steadfast", ?fault, "changes are not heard"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn pass_on(mut listener: Listener, sender: &Sender<Change>) {
    while let Some(message) = listener.next().await {
        // What is no change is of a later version of this crate; anything may be meant. An error says
        // that nobody listens any more.
        let _ = sender.send(change(&message).unwrap_or(Change::Missed));
    }
}

/// What a message says: `p`, an id and a version, or `e` and an id.
fn change(message: &[u8]) -> Option<Change> {
    let (kind, rest) = std::str::from_utf8(message).ok()?.split_at_checked(1)?;
    let (id, version) = rest.split_at_checked(32)?;
    let id: RecordId = id.parse().ok()?;
    match kind {
        "p" => Some(Change::Patched(id, Version(version.parse().ok()?))),
        "e" => Some(Change::Ended(id, EndReason::Logout)),
        _ => None,
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

/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_changed() {
        let id = RecordId::from_bytes([0xab; 16]);
        let hex = "ab".repeat(16);
        assert_eq!(change(format!("p{hex}12").as_bytes()), Some(Change::Patched(id, Version(12))));
        assert_eq!(
            change(format!("e{hex}").as_bytes()),
            Some(Change::Ended(id, EndReason::Logout))
        );
        for junk in ["", "p", "pzz", &format!("p{hex}"), &format!("q{hex}"), "\u{e9}"] {
            assert_eq!(change(junk.as_bytes()), None, "{junk}");
        }
    }
}
