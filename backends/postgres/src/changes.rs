//! What happened on any node, told by the database.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream;
use steadfast_core::{Change, ChangeStream, EndReason, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender, WeakSender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::error::Failure;
use crate::hosts::Hosts;

/// The listeners of this process. They share one connection, made for the first of them.
#[derive(Clone)]
pub(crate) struct Changes(Arc<Shared>);

struct Shared {
    hosts: Arc<Hosts>,
    channel: String,
    relay: Mutex<Option<Relay>>,
}

/// What listens for all, on the runtime where it was first asked for.
struct Relay {
    sender: WeakSender<Change>,
    task: JoinHandle<()>,
}

impl Changes {
    pub(crate) fn new(hosts: Arc<Hosts>, channel: String) -> Self {
        Self(Arc::new(Shared { hosts, channel, relay: Mutex::default() }))
    }

    pub(crate) fn listen(&self) -> ChangeStream {
        let listening = (self.0.subscribe(), Arc::downgrade(&self.0));
        ChangeStream::new(stream::unfold(listening, next))
    }
}

impl Shared {
    /// Begins to listen where nothing does, or where the runtime that did has ended.
    fn subscribe(&self) -> Receiver<Change> {
        let mut relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = relay.as_ref().and_then(|relay| relay.sender.upgrade()) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(KEPT);
        let weak = sender.downgrade();
        let task =
            tokio::spawn(keep_relaying(Arc::clone(&self.hosts), self.channel.clone(), sender));
        *relay = Some(Relay { sender: weak, task });
        receiver
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let relay = self.relay.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(relay) = relay {
            relay.task.abort();
        }
    }
}

type Listening = (Receiver<Change>, Weak<Shared>);

async fn next((mut receiver, shared): Listening) -> Option<(Change, Listening)> {
    match receiver.recv().await {
        Ok(change) => Some((change, (receiver, shared))),
        Err(RecvError::Lagged(_)) => Some((Change::Missed, (receiver, shared))),
        // The relay says that something was missed once it listens again, and now it does not.
        Err(RecvError::Closed) => {
            let receiver = shared.upgrade()?.subscribe();
            Some((Change::Missed, (receiver, shared)))
        }
    }
}

/// Listens for ever. Whenever it begins to, and whenever it has to stop, something may have been missed.
async fn keep_relaying(hosts: Arc<Hosts>, channel: String, sender: Sender<Change>) {
    // An error says that nobody listens any more.
    let tell = |change| drop(sender.send(change));
    loop {
        let listening = timeout(ANSWERS_WITHIN, listen(&hosts, &channel)).await;
        if let Ok(Some(mut connection)) = listening {
            tell(Change::Missed);
            while let Ok(payload) = told(&mut connection).await {
                if let Some(change) = payload.as_deref().and_then(change) {
                    tell(change);
                }
            }
            tell(Change::Missed);
        }
        sleep(PAUSE).await;
    }
}

/// Listens on a connection of its own to the primary.
async fn listen(hosts: &Hosts, channel: &str) -> Option<Connection> {
    let mut connection = hosts.connect().await.ok()?;
    connection.batch(&format!("LISTEN \"{channel}\"")).await.ok()?;
    Some(connection)
}

/// What is told next, and nothing where the connection is silent but alive.
async fn told(connection: &mut Connection) -> Result<Option<String>, Failure> {
    match timeout(SILENT_FOR, connection.notified()).await {
        Ok(told) => told.map(Some),
        Err(_) => {
            let answered = timeout(ANSWERS_WITHIN, connection.ping()).await;
            answered.unwrap_or(Err(Failure::Hung)).map(|()| None)
        }
    }
}

fn change(payload: &str) -> Option<Change> {
    let mut words = payload.split(' ');
    let (what, id) = (words.next()?, words.next()?.parse().ok()?);
    match what {
        "ended" => Some(Change::Ended(id, EndReason::Logout)),
        "patched" => Some(Change::Patched(id, Version(words.next()?.parse().ok()?))),
        _ => None,
    }
}

/// Changes kept for a listener that is slow; beyond them it is told [`Change::Missed`].
const KEPT: usize = 1_024;

/// How long a silent connection is trusted.
const SILENT_FOR: Duration = Duration::from_secs(5);

const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// How long nobody tries to listen after that failed.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_change_or_nothing() {
        let id = "7f0c0b5e-95ee-4b1c-8a53-1d2b1f3d9a11";
        let parsed = id.parse().unwrap();
        assert_eq!(change(&format!("ended {id}")), Some(Change::Ended(parsed, EndReason::Logout)));
        let patched = change(&format!("patched {id} 7"));
        assert_eq!(patched, Some(Change::Patched(parsed, Version(7))));
        for other in ["", "ended", "ended x", "patched", "born x", &format!("patched {id} x")] {
            assert_eq!(change(other), None, "{other}");
        }
    }
}
