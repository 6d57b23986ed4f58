//! A connection that receives published messages.

use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{PubSub, PubSubSink, PubSubStream};

use crate::error::Fault;

/// A subscription to one channel, until its connection breaks or hangs.
pub(crate) struct Listener {
    sink: PubSubSink,
    messages: PubSubStream,
}

impl Listener {
    pub(crate) async fn subscribe(mut connection: PubSub, channel: &str) -> Result<Self, Fault> {
        let subscribed = tokio::time::timeout(ANSWERS_WITHIN, connection.subscribe(channel)).await;
        subscribed.map_err(|_| Fault::Silent)?.map_err(Fault::of)?;
        let (sink, messages) = connection.split();
        Ok(Self { sink, messages })
    }

    /// Returns the next message; `None` at the end. A quiet server is pinged from time to time.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match tokio::time::timeout(QUIET, self.messages.next()).await {
                Ok(message) => return message.map(|message| message.get_payload_bytes().to_vec()),
                Err(_) if self.is_alive().await => {}
                Err(_) => return None,
            }
        }
    }

    async fn is_alive(&mut self) -> bool {
        let pong = tokio::time::timeout(ANSWERS_WITHIN, self.sink.ping::<redis::Value>()).await;
        matches!(pong, Ok(Ok(_)))
    }
}

const QUIET: Duration = Duration::from_secs(5);

const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
