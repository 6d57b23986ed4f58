//! The servers of a store: which of them is asked, and what becomes of an answer that does not come.

mod cluster;
mod dial;
mod link;
mod listener;
mod sentinel;
mod slot;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, Pipeline, RedisError, ServerError, Value};
use steadfast_core::StoreError;

use self::cluster::Cluster;
pub(crate) use self::dial::Dialer;
use self::dial::Driver;
use self::link::Link;
pub(crate) use self::listener::Listener;
use self::sentinel::Following;
pub(crate) use self::sentinel::Sentinels;
use crate::address::Address;
use crate::script::Script;

/// Where records are.
pub(crate) enum Servers {
    /// On one server at a time, whichever that is.
    One(Arc<Server>),
    /// On the primaries of a cluster, by slot.
    Many(Box<Cluster>),
}

impl Servers {
    pub(crate) fn standalone(dialer: Dialer, address: Address) -> Self {
        Self::One(Arc::new(Server::new(Origin::Fixed(dialer, address))))
    }

    pub(crate) fn behind_sentinels(dialer: Dialer, sentinels: Sentinels) -> Self {
        Self::One(Arc::new(Server::new(Origin::Primary(dialer, sentinels))))
    }

    pub(crate) fn cluster(dialer: Dialer, seeds: Vec<Address>) -> Self {
        Self::Many(Box::new(Cluster::new(dialer, seeds)))
    }

    /// Whether keys of different records and indexes cannot be changed in one step.
    pub(crate) fn are_many(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    /// Asks the server that has the key.
    pub(crate) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Value, Fault> {
        match self {
            Self::One(server) => server.call_again(call).await,
            Self::Many(cluster) => cluster.call(key, call).await,
        }
    }

    /// Every server that has records.
    pub(crate) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Fault> {
        match self {
            Self::One(server) => Ok(vec![Arc::clone(server)]),
            Self::Many(cluster) => cluster.primaries().await,
        }
    }

    /// Hears what is published on a channel, on any server.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Listener, Fault> {
        let connection = match self {
            Self::One(server) => server.listen().await?,
            Self::Many(cluster) => cluster.listen().await?,
        };
        Listener::subscribe(connection, channel).await
    }
}

/// A command, and what is known about sending it.
pub(crate) struct Call<'c> {
    pub(crate) command: &'c Cmd,
    /// The script that it names: sent in full to a server that does not know it.
    pub(crate) script: Option<&'c Script>,
    /// Whether it may be sent again when it is not known what became of it.
    pub(crate) is_repeatable: bool,
    /// How many copies have to confirm it.
    pub(crate) copies: Option<Copies>,
}

impl<'c> Call<'c> {
    /// A plain command that does the same when it is sent again.
    pub(crate) fn repeatable(command: &'c Cmd) -> Self {
        Self { command, script: None, is_repeatable: true, copies: None }
    }

    /// The same, on so many copies.
    pub(crate) fn on(self, copies: Option<Copies>) -> Self {
        Self { copies, ..self }
    }
}

/// How many replicas have to confirm a write, and within what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) replicas: usize,
    pub(crate) within: Duration,
}

/// One server, over one connection that everybody shares and a few for those who wait for copies.
pub(crate) struct Server {
    origin: Arc<Origin>,
    shared: Link,
    /// `WAIT` holds up what comes behind it on its connection, and counts the writes of that one alone.
    waiting: [Link; WAITING],
    turn: AtomicUsize,
    following: OnceLock<Following>,
}

impl Server {
    fn new(origin: Origin) -> Self {
        let origin = Arc::new(origin);
        Self {
            shared: Link::new(Arc::clone(&origin)),
            waiting: std::array::from_fn(|_| Link::new(Arc::clone(&origin))),
            turn: AtomicUsize::new(0),
            following: OnceLock::new(),
            origin,
        }
    }

    /// Whether there is a connection to it.
    fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// A plain command.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, Fault> {
        self.shared.call(command).await
    }

    /// Several plain commands that are sent together.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        self.shared.call_all(commands).await
    }

    /// Makes a call, and makes it again where that can change nothing but the answer.
    async fn call_again(self: &Arc<Self>, call: &Call<'_>) -> Result<Value, Fault> {
        self.follow();
        match self.call(call, false).await {
            Err(fault) if fault.is_worth_another_try(call.is_repeatable) => {
                self.call(call, false).await
            }
            answer => answer,
        }
    }

    /// Makes a call once. `asks` goes before it where a slot is on its way to this server.
    async fn call(&self, call: &Call<'_>, asks: bool) -> Result<Value, Fault> {
        let link = self.link(call);
        let answer = match (send(link, call.command, call.copies, asks).await, call.script) {
            (Err(Fault::Refused(why)), Some(script)) if why.code() == "NOSCRIPT" => {
                send(link, &script.in_full(call.command), call.copies, asks).await
            }
            (answer, _) => answer,
        };
        answer.inspect_err(|fault| {
            if fault.says_it_is_no_primary() {
                link.discard();
            }
        })
    }

    /// Opens new connections for the calls that follow, unless they lead to this address already.
    fn go_to(&self, primary: &Address) {
        self.waiting.iter().chain([&self.shared]).for_each(|link| link.go_to(primary));
    }

    /// Sees to it that a primary that was replaced is left, even if it still answers.
    fn follow(self: &Arc<Self>) {
        if let Origin::Primary(_, sentinels) = &*self.origin {
            self.following.get_or_init(|| Following::start(sentinels, self));
        }
    }

    fn link(&self, call: &Call<'_>) -> &Link {
        match call.copies {
            None => &self.shared,
            Some(_) => &self.waiting[self.turn.fetch_add(1, Ordering::Relaxed) % WAITING],
        }
    }

    async fn listen(&self) -> Result<PubSub, Fault> {
        self.origin.listen().await
    }
}

/// Sends a command, with what has to go before and after it, in one piece.
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

/// Where connections to a server lead.
pub(crate) enum Origin {
    /// To one address.
    Fixed(Dialer, Address),
    /// To the primary, as the sentinels have it.
    Primary(Dialer, Sentinels),
}

impl Origin {
    async fn open(&self) -> Result<(Address, MultiplexedConnection, Driver), Fault> {
        match self {
            Self::Fixed(dialer, address) => {
                let (connection, driver) = dialer.open(address).await?;
                Ok((address.clone(), connection, driver))
            }
            Self::Primary(dialer, sentinels) => {
                let address = sentinels.primary().await?;
                let (mut connection, mut driver) = dialer.open(&address).await?;
                tokio::select! {
                    checked = sentinel::check_role(&mut connection) => checked?,
                    () = &mut driver => return Err(Fault::unsent(sentinel::NoPrimary)),
                }
                Ok((address, connection, driver))
            }
        }
    }

    async fn listen(&self) -> Result<PubSub, Fault> {
        match self {
            Self::Fixed(dialer, address) => dialer.listen(address).await,
            Self::Primary(dialer, sentinels) => dialer.listen(&sentinels.primary().await?).await,
        }
    }
}

/// Why there is no answer, by what is known of the command.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It was not sent.
    Unsent(Box<dyn Error + Send + Sync>),
    /// The connection broke while it was under way.
    Lost(RedisError),
    /// Nothing came back.
    Silent,
    /// The server refused it, and did nothing.
    Refused(ServerError),
    /// It was done, and is on fewer replicas than it should be.
    TooFewCopies { wanted: usize, got: i64 },
}

impl Fault {
    pub(crate) fn unsent(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unsent(cause.into())
    }

    /// Whether what is kept under a key has another type than it should.
    pub(crate) fn is_wrong_type(&self) -> bool {
        matches!(self, Self::Refused(why) if why.code() == "WRONGTYPE")
    }

    fn unless_refused(answer: Value) -> Result<Value, Self> {
        match answer {
            Value::ServerError(why) => Err(Self::Refused(why)),
            answer => Ok(answer),
        }
    }

    /// Whether the server does not take writes, or has nothing to say on reads either.
    fn says_it_is_no_primary(&self) -> bool {
        matches!(self, Self::Refused(why) if ["READONLY", "MASTERDOWN", "LOADING"].contains(&why.code()))
    }

    /// A connection that broke tells nothing of what it carried; a server that refuses did nothing.
    fn is_worth_another_try(&self, is_repeatable: bool) -> bool {
        match self {
            Self::Lost(_) => is_repeatable,
            Self::Refused(_) => self.says_it_is_no_primary(),
            Self::Unsent(_) | Self::Silent | Self::TooFewCopies { .. } => false,
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsent(cause) => Self::Unavailable(cause),
            Fault::Lost(cause) => Self::unavailable(cause),
            Fault::Silent => Self::Timeout,
            Fault::Refused(why) => Self::unavailable(Refused(why)),
            Fault::TooFewCopies { wanted, got } => Self::unavailable(TooFewCopies { wanted, got }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server refuses: {0}")]
struct Refused(ServerError);

#[derive(Debug, thiserror::Error)]
#[error("{got} replicas confirmed what {wanted} should have")]
struct TooFewCopies {
    wanted: usize,
    got: i64,
}

/// Connections for those who wait for copies.
const WAITING: usize = 8;
