//! Which server is the primary, as the sentinels have it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::task::AbortHandle;

use super::{Dialer, Fault, Listener, Server};
use crate::address::Address;
use crate::reply;

/// The sentinels of a service. All are asked at once, over connections for that, when one to the primary
/// has to be opened: that is rare, what they say must not be old, and some may be gone.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) dialer: Dialer,
    pub(crate) addresses: Vec<Address>,
    /// What the sentinels call the service.
    pub(crate) service: String,
}

impl Sentinels {
    /// The address of the primary. The first sentinel that knows one counts.
    pub(crate) async fn primary(&self) -> Result<Address, Fault> {
        let asked = self.addresses.iter().map(|sentinel| Box::pin(self.ask(sentinel)));
        select_ok(asked).await.map(|(primary, _)| primary)
    }

    async fn ask(&self, sentinel: &Address) -> Result<Address, Fault> {
        let (mut connection, driver) = self.dialer.open(sentinel).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = tokio::select! {
            answer = connection.send_packed_command(&question) => answer.map_err(Fault::unsent)?,
            () = driver => return Err(Fault::unsent(NoPrimary)),
            () = tokio::time::sleep(ANSWERS_WITHIN) => return Err(Fault::Silent),
        };
        let mut parts = reply::texts(Fault::unless_refused(answer)?).into_iter();
        let (host, port) = (parts.next(), parts.next().and_then(|port| port.parse().ok()));
        let primary = host.zip(port).map(|(host, port)| Address::new(host, port));
        primary.ok_or_else(|| Fault::unsent(NoPrimary))
    }
}

/// Hears from the sentinels when another server becomes the primary. A server that hung for a while
/// and was replaced goes on answering until it is told; what it says is old.
pub(super) struct Following(AbortHandle);

impl Following {
    pub(super) fn start(sentinels: Sentinels, server: &Arc<Server>) -> Self {
        let server = Arc::downgrade(server);
        let following = tokio::spawn(async move {
            while server.strong_count() > 0 {
                for sentinel in &sentinels.addresses {
                    if let Err(fault) = sentinels.follow(sentinel, &server).await {
                        tracing::debug!(target: "steadfast", ?fault, %sentinel, "not heard");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self(following.abort_handle())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sentinels {
    /// Hears one sentinel, as long as it says anything.
    async fn follow(&self, sentinel: &Address, server: &Weak<Server>) -> Result<(), Fault> {
        let connection = self.dialer.listen(sentinel).await?;
        let mut listener = Listener::subscribe(connection, "+switch-master").await?;
        // What happened before this was not heard.
        let mut primary = Some(self.ask(sentinel).await?);
        loop {
            match (primary, server.upgrade()) {
                (Some(primary), Some(server)) => server.go_to(&primary),
                (None, Some(_)) => {}
                (_, None) => return Ok(()),
            }
            let Some(message) = listener.next().await else {
                return Ok(());
            };
            primary = self.switched_to(&message);
        }
    }

    /// The last two of `SERVICE HOST PORT HOST PORT`.
    fn switched_to(&self, message: &[u8]) -> Option<Address> {
        let words: Vec<_> = std::str::from_utf8(message).ok()?.split(' ').collect();
        match words[..] {
            [service, _, _, host, port] if service == self.service => {
                Some(Address::new(host, port.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// A server that was the primary may come back before the sentinels have told it that it is not.
pub(super) async fn check_role(connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    let role = connection.send_packed_command(&cmd("ROLE")).await.map_err(Fault::unsent)?;
    match Fault::unless_refused(role)? {
        Value::Array(role) if role.first().and_then(reply::bytes) == Some(b"master") => Ok(()),
        _ => Err(Fault::unsent(NoPrimary)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no sentinel knows a server that is the primary")]
pub(super) struct NoPrimary;

/// One that hangs must not keep the others from being asked.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);

/// Between two attempts to hear a sentinel.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_primary_is_the_last_that_is_named() {
        let dialer = Dialer { login: redis::RedisConnectionInfo::default(), tls: None };
        let sentinels = Sentinels { dialer, addresses: Vec::new(), service: "s".to_owned() };
        let switched = |message: &str| sentinels.switched_to(message.as_bytes());
        assert_eq!(switched("s a 1 b 2"), Some(Address::new("b", 2)));
        for other in ["t a 1 b 2", "s a 1 b", "s a 1 b x", ""] {
            assert_eq!(switched(other), None, "{other}");
        }
    }
}
