//! Sentinels: they know which server is the primary.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::task::AbortHandle;

use super::{Dialer, Listener, Server};
use crate::address::{Address, Endpoint};
use crate::error::Fault;
use crate::reply;

/// The sentinels of a service. Whenever a connection to the primary is opened, all of them are
/// asked concurrently on fresh connections. That is rare, the answer must be current, and some
/// sentinels may be down.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) dialer: Dialer,
    pub(crate) addresses: Vec<Address>,
    /// The name of the service at the sentinels.
    pub(crate) service: String,
}

impl Sentinels {
    /// Returns the address of the primary. Sentinels learn of a failover at different times, so the
    /// answer with the highest epoch is used.
    pub(crate) async fn primary(&self) -> Result<Endpoint, Fault> {
        let (mut known, mut fault) = (None, Fault::unsent(NoPrimary));
        for answer in join_all(self.addresses.iter().map(|sentinel| self.ask(sentinel))).await {
            match answer {
                Ok(named) => known = known.max(Some(named)),
                Err(why) => fault = why,
            }
        }
        known.map(|Named { address, .. }| address.into()).ok_or(fault)
    }

    async fn ask(&self, sentinel: &Address) -> Result<Named, Fault> {
        let asking = async {
            let (mut connection, driver) = self.dialer.open(&sentinel.clone().into()).await?;
            let question = cmd("SENTINEL").arg("MASTER").arg(&self.service).to_owned();
            tokio::select! {
                answer = connection.send_packed_command(&question) => answer.map_err(Fault::unsent),
                () = driver => Err(Fault::unsent(NoPrimary)),
            }
        };
        let answer = tokio::time::timeout(ANSWERS_WITHIN, asking).await;
        let answer = Fault::unless_refused(answer.unwrap_or(Err(Fault::Silent))?)?;
        Named::of(&reply::texts(answer)).ok_or_else(|| Fault::unsent(NoPrimary))
    }
}

/// A primary according to a sentinel.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    epoch: u64,
    address: Address,
}

impl Named {
    /// Parses alternating names and values.
    fn of(fields: &[String]) -> Option<Self> {
        let field = |name: &str| {
            let pair = fields.chunks_exact(2).find(|pair| pair[0] == name);
            pair.map(|pair| pair[1].as_str())
        };
        let address = Address::new(field("ip")?, field("port")?.parse().ok()?);
        Some(Self { epoch: field("config-epoch")?.parse().ok()?, address })
    }
}

/// Listens to the sentinels for changes of the primary. A server that hung and was replaced keeps
/// answering, with old data, until it learns of its replacement.
///
/// The sentinels announce a change up to seconds apart, so all of them are followed.
pub(super) struct Following(Vec<AbortHandle>);

impl Following {
    pub(super) fn start(sentinels: &Sentinels, server: &Arc<Server>) -> Self {
        let follow = |sentinel: &Address| {
            let following = follow(sentinels.clone(), sentinel.clone(), Arc::downgrade(server));
            tokio::spawn(following).abort_handle()
        };
        Self(sentinels.addresses.iter().map(follow).collect())
    }

    /// Returns true if the tasks have ended with their runtime.
    pub(super) fn has_ended(&self) -> bool {
        self.0.iter().all(AbortHandle::is_finished)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn follow(sentinels: Sentinels, sentinel: Address, server: Weak<Server>) {
    while server.strong_count() > 0 {
        if let Err(fault) = sentinels.hear(&sentinel, &server).await {
            tracing::debug!(target: "steadfast", ?fault, %sentinel, "lost the subscription to a sentinel");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Sentinels {
    /// Listens to one sentinel until the connection ends.
    async fn hear(&self, sentinel: &Address, server: &Weak<Server>) -> Result<(), Fault> {
        let connection = self.dialer.listen(&sentinel.clone().into()).await?;
        let mut listener = Listener::subscribe(connection, "+switch-master").await?;
        // Changes before the subscription were not announced on it.
        let mut primary = Some(self.primary().await?);
        loop {
            match (primary, server.upgrade()) {
                (Some(primary), Some(server)) => server.go_to(&primary),
                (None, Some(_)) => {}
                (_, None) => return Ok(()),
            }
            let Some(message) = listener.next().await else {
                return Ok(());
            };
            primary = self.switched_to(&message).map(Endpoint::from);
        }
    }

    /// Parses the last two parts of `SERVICE HOST PORT HOST PORT`.
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

/// Checks that a server is still a primary: a former primary may come back before the sentinels
/// have demoted it.
pub(super) async fn check_role(connection: &mut MultiplexedConnection) -> Result<(), Fault> {
    let question = cmd("ROLE");
    let asked = connection.send_packed_command(&question);
    let role = tokio::time::timeout(ANSWERS_WITHIN, asked).await.map_err(|_| Fault::Silent)?;
    match Fault::unless_refused(role.map_err(Fault::unsent)?)? {
        Value::Array(role) if role.first().and_then(reply::bytes) == Some(b"master") => Ok(()),
        _ => Err(Fault::unsent(NoPrimary)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no sentinel knows a primary")]
pub(super) struct NoPrimary;

/// The time limit for one sentinel, so that a hung one does not delay the others.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);

/// The pause between two attempts to follow a sentinel.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_named_address_is_the_primary() {
        let dialer = Dialer { login: redis::RedisConnectionInfo::default(), tls: None };
        let sentinels = Sentinels { dialer, addresses: Vec::new(), service: "s".to_owned() };
        let switched = |message: &str| sentinels.switched_to(message.as_bytes());
        assert_eq!(switched("s a 1 b 2"), Some(Address::new("b", 2)));
        for other in ["t a 1 b 2", "s a 1 b", "s a 1 b x", ""] {
            assert_eq!(switched(other), None, "{other}");
        }
    }
}
