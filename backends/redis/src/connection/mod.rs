//! The servers of a store: which of them is asked, and what becomes of an answer that does not come.

mod cluster;
mod dial;
mod given;
mod link;
mod listener;
mod sentinel;
mod slot;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use crate::script::Script;

/// Where records are.
pub(crate) enum Servers {
    /// On one server at a time, whichever that is.
    One(Arc<Server>),
    /// At one address that hides several servers.
    Hidden(Arc<Server>),
    /// On the primaries of a cluster, by slot.
    Many(Box<Cluster>),
}

impl Servers {
    pub(crate) fn standalone(dialer: Dialer, endpoint: Endpoint) -> Self {
        Self::One(Arc::new(Server::new(Origin::Fixed(dialer, endpoint))))
    }

    pub(crate) fn given(connection: Given) -> Self {
        Self::One(Arc::new(Server::new(Origin::Given(connection))))
    }

    /// Whether changes can be heard: that takes a connection of its own.
    pub(crate) fn can_be_heard(&self) -> bool {
        match self {
            Self::One(server) | Self::Hidden(server) => server.can_be_heard(),
            Self::Many(_) => true,
        }
    }

    /// The same servers, where the one address of them hides several.
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

    /// Whether keys of different records and indexes cannot be changed in one step.
    pub(crate) fn are_many(&self) -> bool {
        matches!(self, Self::Many(_) | Self::Hidden(_))
    }

    /// Asks the server that has the key.
    pub(crate) async fn call(&self, key: &[u8], call: &Call<'_>) -> Result<Value, Fault> {
        match self {
            Self::One(server) | Self::Hidden(server) => server.call_again(call).await,
            Self::Many(cluster) => cluster.call(key, call).await,
        }
    }

    /// Whether a server has a key, as far as that is known.
    pub(crate) fn may_have(&self, key: &[u8], server: &Arc<Server>) -> bool {
        match self {
            Self::One(_) | Self::Hidden(_) => true,
            Self::Many(cluster) => cluster.may_have(key, server),
        }
    }

    /// Every server that has records.
    pub(crate) async fn primaries(&self) -> Result<Vec<Arc<Server>>, Fault> {
        match self {
            Self::One(server) | Self::Hidden(server) => Ok(vec![Arc::clone(server)]),
            Self::Many(cluster) => cluster.primaries().await,
        }
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

    /// Whether it is reached at this address.
    fn is_at(&self, address: &Address) -> bool {
        matches!(&*self.origin, Origin::Fixed(_, Endpoint::Tcp(own)) if own == address)
    }

    /// The host that it is reached by.
    fn host(&self) -> &str {
        match &*self.origin {
            Origin::Fixed(_, Endpoint::Tcp(address)) => address.host(),
            _ => "",
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

    /// Makes a call once. `asks` goes before it where a slot is on its way to this server.
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
            // The answer to a call that was refused; a connection that broke is noticed by itself.
            if matches!(fault, Fault::Refused(_)) && fault.next(false) == Next::Elsewhere {
                link.discard();
            }
        })
    }

    /// Opens new connections for the calls that follow, unless they lead to this address already.
    fn go_to(&self, primary: &Endpoint) {
        self.waiting.iter().chain([&self.shared]).for_each(|link| link.go_to(primary));
    }

    /// Sees to it that a primary that was replaced is left, even if it still answers.
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
    Fixed(Dialer, Endpoint),
    /// To the primary, as the sentinels have it.
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

/// Connections for those who wait for copies.
const WAITING: usize = 8;
