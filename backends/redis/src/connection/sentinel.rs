//! Which server is the primary, as the sentinels have it.

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

use super::{Dialer, Fault};
use crate::address::Address;
use crate::reply;

/// The sentinels of a service. Each is asked over a connection of its own, when a connection to the
/// primary has to be opened: that is rare, and what they say must not be old.
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
        let mut fault = Fault::unsent(NoPrimary);
        for sentinel in &self.addresses {
            match self.ask(sentinel).await {
                Ok(Some(primary)) => return Ok(primary),
                Ok(None) => {}
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    async fn ask(&self, sentinel: &Address) -> Result<Option<Address>, Fault> {
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
        Ok(host.zip(port).map(|(host, port)| Address::new(host, port)))
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
const ANSWERS_WITHIN: std::time::Duration = std::time::Duration::from_millis(300);
