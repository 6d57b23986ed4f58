//! What happened, for whoever listens: published by the scripts, heard on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use redis::aio::{PubSub, PubSubSink};
use steadfast_core::{Change, ChangeStream, RecordId, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::AbortHandle;

use crate::connection::{Fault, Servers};

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
        let subscribed = tokio::time::timeout(SUBSCRIBES_WITHIN, subscribe(&servers, &channel));
        match subscribed.await {
            Ok(Ok(subscription)) => {
                let _ = sender.send(Change::Missed);
                pass_on(subscription, &sender).await;
                let _ = sender.send(Change::Missed);
            }
            Ok(Err(fault)) => {
                tracing::debug!(target: "steadfast", ?fault, "changes are not heard");
            }
            Err(_) => tracing::debug!(target: "steadfast", "changes are not heard: no answer"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn subscribe(servers: &Servers, channel: &str) -> Result<PubSub, Fault> {
    let mut subscription = servers.listen().await?;
    subscription.subscribe(channel).await.map_err(Fault::unsent)?;
    Ok(subscription)
}

/// Passes changes on until the connection breaks or hangs.
async fn pass_on(subscription: PubSub, sender: &Sender<Change>) {
    let (mut sink, mut messages) = subscription.split();
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    // What is no change is of a later version of this crate; anything may be meant.
                    let change = change(message.get_payload_bytes()).unwrap_or(Change::Missed);
                    let _ = sender.send(change);
                }
                None => return,
            },
            () = tokio::time::sleep(QUIET) => if !is_alive(&mut sink).await { return },
        }
    }
}

async fn is_alive(sink: &mut PubSubSink) -> bool {
    matches!(tokio::time::timeout(SUBSCRIBES_WITHIN, sink.ping::<redis::Value>()).await, Ok(Ok(_)))
}

/// What a message says: `p`, an id and a version, or `e` and an id.
fn change(message: &[u8]) -> Option<Change> {
    let (kind, rest) = std::str::from_utf8(message).ok()?.split_at_checked(1)?;
    let (id, version) = rest.split_at_checked(32)?;
    let id: RecordId = id.parse().ok()?;
    match kind {
        "p" => Some(Change::Patched(id, Version(version.parse().ok()?))),
        "e" => Some(Change::Ended(id)),
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

/// How long a connection may be quiet before it is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(5);

const SUBSCRIBES_WITHIN: Duration = Duration::from_secs(2);

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
        assert_eq!(change(format!("e{hex}").as_bytes()), Some(Change::Ended(id)));
        for junk in ["", "p", "pzz", &format!("p{hex}"), &format!("q{hex}"), "\u{e9}"] {
            assert_eq!(change(junk.as_bytes()), None, "{junk}");
        }
    }
}
