//! What happened on any node, told by the database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use sqlx::postgres::{PgListener, PgPoolOptions};
use steadfast_core::{Change, ChangeStream, EndReason, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::pool::Pool;

/// The listeners of this process. They share one connection, made for the first of them.
#[derive(Default)]
pub(crate) struct Changes(Mutex<Option<(Sender<Change>, JoinHandle<()>)>>);

impl Changes {
    pub(crate) fn listen(&self, pool: &Pool, channel: &str) -> ChangeStream {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, _) = shared.get_or_insert_with(|| {
            let sender = broadcast::channel(KEPT).0;
            let relaying = relay(pool.clone(), channel.to_owned(), sender.clone());
            (sender, pool.runtime().spawn(relaying))
        });
        ChangeStream::new(stream::unfold(sender.subscribe(), next))
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let shared = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, relaying)) = shared {
            relaying.abort();
        }
    }
}

async fn next(mut receiver: Receiver<Change>) -> Option<(Change, Receiver<Change>)> {
    match receiver.recv().await {
        Ok(change) => Some((change, receiver)),
        Err(RecvError::Lagged(_)) => Some((Change::Missed, receiver)),
        Err(RecvError::Closed) => None,
    }
}

/// Listens for ever. Whenever it begins to, and whenever it has to stop, something may have been missed.
async fn relay(pool: Pool, channel: String, sender: Sender<Change>) {
    // An error says that nobody listens any more.
    let tell = |change| drop(sender.send(change));
    loop {
        if let Some(mut listener) = listen(&pool, &channel).await {
            tell(Change::Missed);
            while let Some(payload) = told(&mut listener).await {
                if let Some(change) = payload.as_deref().and_then(change) {
                    tell(change);
                }
            }
            tell(Change::Missed);
        }
        sleep(PAUSE).await;
    }
}

/// Listens on a connection of its own to the primary, which the pool finds.
async fn listen(pool: &Pool, channel: &str) -> Option<PgListener> {
    let listening = async {
        pool.check().await.ok()?;
        let single = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let single = single.idle_timeout(None).max_lifetime(None);
        let single = single.connect_lazy_with(pool.hosts().primary().clone());
        let mut listener = PgListener::connect_with(&single).await.ok()?;
        listener.listen(channel).await.ok()?;
        listener.eager_reconnect(false);
        Some(listener)
    };
    timeout(ANSWERS_WITHIN, listening).await.ok()?
}

/// What is told next: `None` once the connection is lost, and nothing where it is silent but alive.
async fn told(listener: &mut PgListener) -> Option<Option<String>> {
    match timeout(SILENT_FOR, listener.try_recv()).await {
        Ok(received) => received.ok()?.map(|told| Some(told.payload().to_owned())),
        Err(_) => {
            let asked = sqlx::query("SELECT").execute(&mut *listener);
            timeout(ANSWERS_WITHIN, asked).await.ok()?.ok()?;
            Some(None)
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
