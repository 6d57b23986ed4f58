//! The servers of a store: which one to ask, and how to handle a lost answer.

mod cluster;
mod dial;
mod given;
mod link;
mod listener;
mod sentinel;
mod slot;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, Pipeline, Value};

use self::cluster::Cluster;
pub(crate) use self::dial::Dialer;
use self::dial::Driver;
use self::given::CallsAlone;
pub(crate) use self::given::Given;
use self::link::Link;
pub(crate) use self::listener::Listener;
use self::sentinel::Following;
pub(crate) use self::sentinel::Sentinels;
use crate::address::{Address, Endpoint};
use crate::error::{Fault, Next};
use crate::script::{Call, Copies};

/// The servers that have the records.
pub(crate) enum Servers {
    /// A single server, which may be replaced by another.
    One(Arc<Server>),
    /// A single address that hides several servers.
    Hidden(Arc<Server>),
    /// The primaries of a cluster, by slot.
    Many(Box<Cluster>),
}

impl Servers {
    pub(crate) fn standalone(dialer: Dialer, endpoint: Endpoint) -> Self {
        Self::One(Arc::new(Server::new(Origin::Fixed(dialer, endpoint))))
    }

    pub(crate) fn given(connection: Given) -> Self {
        Self::One(Arc::new(Server::new(Origin::Given(connection))))
    }

    /// Returns true if changes can be received, which takes a separate connection.
    pub(crate) fn can_be_heard(&self) -> bool {
        match self {
            Self::One(server) | Self::Hidden(server) => server.can_be_heard(),
            Self::Many(_) => true,
        }
    }

    /// Returns the servers, treating the single address as one that hides several.
    pub(crate) fn split(self) -> Self {
        match self {
            Self::One(server) => Self::Hidden(server),
            servers => servers,
        }
    }

    pub(crate) fn behind_sentinels(dialer: Dialer, sentinels: Sentinels) -> Self {
        Self::One(Arc::new(Server::new(Origin::Primary(dialer, sentinels))))
    }

    pub(crate) fn cluster(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self::Many(Box::new(Cluster::new(dialer, seeds)))
    }

    /// Returns true if keys of different records and indexes may be on different servers, and
    /// cannot be changed in one step.
    pub(crate) fn is_split(&self) -> bool {
        matches!(self, Self::Many(_) | Self::Hidden(_))
    }

    /// Asks the server that has the key.
    pub(crate) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Value, Fault> {
        match self {
            Self::One(server) | Self::Hidden(server) => server.call_again(call).await,
            Self::Many(cluster) => cluster.call(key, call).await,
        }
    }

    /// Returns true if a server is presumed to have a key.
    pub(crate) fn may_have(&self, key: &[u8], server: &Arc<Server>) -> bool {
        match self {
            Self::One(_) | Self::Hidden(_) => true,
            Self::Many(cluster) => cluster.may_have(key, server),
        }
    }

    /// Returns every server that has records.
    pub(crate) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Fault> {
        match self {
            Self::One(server) | Self::Hidden(server) => Ok(vec![Arc::clone(server)]),
            Self::Many(cluster) => cluster.primaries().await,
        }
    }
}

/// A server, with a connection that all callers share and a few for calls that wait for replicas.
pub(crate) struct Server {
    origin: Arc<Origin>,
    shared: Link,
    /// `WAIT` blocks later commands on its connection, and only covers writes of that connection.
    waiting: [Link; WAITING],
    turn: AtomicUsize,
    following: Mutex<Option<Following>>,
}

impl Server {
    fn new(origin: Origin) -> Self {
        let origin = Arc::new(origin);
        Self {
            shared: Link::new(Arc::clone(&origin)),
            waiting: std::array::from_fn(|_| Link::new(Arc::clone(&origin))),
            turn: AtomicUsize::new(0),
            following: Mutex::default(),
            origin,
        }
    }

    /// Returns true if the server is reached at this address.
    fn is_at(&self, address: &Address) -> bool {
        matches!(&*self.origin, Origin::Fixed(_, Endpoint::Tcp(own)) if own == address)
    }

    /// Returns the host at which the server is reached.
    fn host(&self) -> &str {
        match &*self.origin {
            Origin::Fixed(_, Endpoint::Tcp(address)) => address.host(),
            _ => "",
        }
    }

    /// Returns true if there is an open connection to the server.
    fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// Sends a plain command.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, Fault> {
        self.shared.call(command).await
    }

    /// Sends several plain commands as one.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        self.shared.call_all(commands).await
    }

    /// Makes a call, and repeats it if that is safe.
    pub(crate) async fn call_again(self: &Arc<Self>, call: &Call<'_>) -> Result<Value, Fault> {
        self.follow();
        match self.call(call, false).await {
            Err(fault) => match fault.next(call.is_repeatable) {
                Next::Elsewhere => self.call(call, false).await,
                _ => Err(fault),
            },
            answer => answer,
        }
    }

    /// Makes a call once. `asks` sends `ASKING` first, for a slot that is being migrated to this
    /// server.
    async fn call(&self, call: &Call<'_>, asks: bool) -> Result<Value, Fault> {
        let link = self.link(call);
        let answer = match (send(link, call.command, call.copies, asks).await, call.script) {
            (Err(fault), Some(script)) if fault.next(call.is_repeatable) == Next::InFull => {
                send(link, &script.in_full(call.command), call.copies, asks).await
            }
            (answer, _) => answer,
        };
        let answer = match (answer, call.script) {
            (Err(fault), Some(script)) if script.can_be_plainer(&fault, call.command) => {
                send(link, &script.in_full(call.command), call.copies, asks).await
            }
            (answer, _) => answer,
        };
        answer.inspect_err(|fault| {
            // A refused call means that another server may be the primary. A broken connection is
            // noticed without this.
            if matches!(fault, Fault::Refused(_)) && fault.next(false) == Next::Elsewhere {
                link.discard();
            }
        })
    }

    /// Makes later calls use new connections, unless the current ones lead to this address.
    fn go_to(&self, primary: &Endpoint) {
        self.waiting.iter().chain([&self.shared]).for_each(|link| link.go_to(primary));
    }

    /// Leaves a primary that was replaced, even if it still answers.
    fn follow(self: &Arc<Self>) {
        if let Origin::Primary(_, sentinels) = &*self.origin {
            let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
            if following.as_ref().is_none_or(Following::has_ended) {
                *following = Some(Following::start(sentinels, self));
            }
        }
    }

    fn link(&self, call: &Call<'_>) -> &Link {
        match call.copies {
            None => &self.shared,
            Some(_) => &self.waiting[self.turn.fetch_add(1, Ordering::Relaxed) % WAITING],
        }
    }

    /// Whether it can be listened to.
    pub(crate) fn can_be_heard(&self) -> bool {
        !matches!(&*self.origin, Origin::Given(_))
    }

    pub(crate) async fn listen(&self) -> Result<PubSub, Fault> {
        self.origin.listen().await
    }
}

/// Sends a command with its prefix and suffix as one.
async fn send(
    link: &Link,
    command: &Cmd,
    copies: Option<Copies>,
    asks: bool,
) -> Result<Value, Fault> {
    if !asks && copies.is_none() {
        return link.call(command).await;
    }
    let mut commands = redis::pipe();
    if asks {
        commands.cmd("ASKING");
    }
    commands.add_command(command.clone());
    if let Some(copies) = copies {
        commands.cmd("WAIT").arg(copies.replicas).arg(copies.within.as_millis() as u64);
    }
    let mut answers = link.call_all(&commands).await?.into_iter().skip(usize::from(asks));
    let answer = Fault::unless_refused(answers.next().unwrap_or_default())?;
    match (copies, answers.next()) {
        (None, _) => Ok(answer),
        (Some(copies), Some(Value::Int(got))) if got >= copies.replicas as i64 => Ok(answer),
        (Some(copies), got) => {
            Err(Fault::TooFewCopies { wanted: copies.replicas, got: copied(got.as_ref()) })
        }
    }
}

fn copied(answer: Option<&Value>) -> i64 {
    match answer {
        Some(Value::Int(copies)) => *copies,
        _ => 0,
    }
}

/// The destination of a server's connections.
pub(crate) enum Origin {
    /// A fixed address.
    Fixed(Dialer, Endpoint),
    /// The primary according to the sentinels.
    Primary(Dialer, Sentinels),
    /// Where the application says: this side opens none.
    Given(Given),
}

impl Origin {
    async fn open(&self) -> Result<(Endpoint, MultiplexedConnection, Driver), Fault> {
        match self {
            Self::Fixed(dialer, endpoint) => {
                let (connection, driver) = dialer.open(endpoint).await?;
                Ok((endpoint.clone(), connection, driver))
            }
            Self::Primary(dialer, sentinels) => {
                let endpoint = sentinels.primary().await?;
                let (mut connection, mut driver) = dialer.open(&endpoint).await?;
                tokio::select! {
                    checked = sentinel::check_role(&mut connection) => checked?,
                    () = &mut driver => return Err(Fault::unsent(sentinel::NoPrimary)),
                }
                Ok((endpoint, connection, driver))
            }
            Self::Given(_) => Err(Fault::unsent(CallsAlone)),
        }
    }

    async fn listen(&self) -> Result<PubSub, Fault> {
        match self {
            Self::Fixed(dialer, endpoint) => dialer.listen(endpoint).await,
            Self::Primary(dialer, sentinels) => dialer.listen(&sentinels.primary().await?).await,
            Self::Given(_) => Err(Fault::unsent(CallsAlone)),
        }
    }
}

/// The number of connections for calls that wait for replicas.
const WAITING: usize = 8;
