//! What the simulation drives: one process of a service, as a state machine without I/O.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use steadfast_core::{
    Deleted, EndReason, LoginPolicy, Lookup, Outcome, Patch, Principal, Proof, Record, RecordId,
    SessionInfo, Timestamp, Version,
};
use steadfast_replication::budget::Budgets;
use steadfast_replication::epoch::Settings;
use steadfast_replication::member::{Boot, Name};
use steadfast_replication::rules::Rules;

/// A process that serves sessions together with others.
pub trait Process: Sized {
    /// What processes send each other.
    type Packet: Clone + Debug;
    /// What a process says of itself on a new link.
    type Hello: Clone + Debug;

    /// Starts a process, which remembers nothing.
    fn start(start: &Start, now: Now) -> Self;

    /// What it says on a link that opens now.
    fn hello(&self) -> Self::Hello;

    /// A link to another process is open.
    fn connected(&mut self, now: Now, hello: Self::Hello);

    /// The link to a boot is closed. `was_refused` says that its address refuses new links, so that
    /// the process has ended.
    fn disconnected(&mut self, now: Now, boot: Boot, was_refused: bool);

    /// What discovery names, and what came of it.
    fn discovered(&mut self, now: Now, discovery: &Discovery);

    /// A client's call, to be answered within a time; returns the number under which it is.
    fn call(&mut self, now: Now, request: Request, within: Duration) -> u64;

    /// A packet came over the link to a boot.
    fn receive(&mut self, now: Now, link: Boot, packet: Self::Packet);

    /// Time has passed. Comes every 10 to 25 ms, unless the process stands still.
    fn tick(&mut self, now: Now);

    /// The process is to end: its sessions go elsewhere.
    fn drain(&mut self, now: Now, leaves: bool);

    /// An operator asks for other settings.
    fn reconfigure(&mut self, now: Now, settings: Settings);

    /// The process is made to suspect another one, which is well.
    fn suspect(&mut self, now: Now, boot: Boot);

    /// What came of the inputs since the last time.
    fn take_effects(&mut self) -> Vec<Effect<Self::Packet>>;

    /// The epoch it knows.
    fn epoch(&self) -> Option<KnownEpoch>;

    /// The settings of its epoch.
    fn settings(&self) -> Option<Settings>;

    /// How much a packet is that goes to a boot.
    fn measure(&self, to: Boot, packet: &Self::Packet) -> Measure;

    /// The epoch in which a packet counts as the word of this process: a vote, a lease, an answer, or what it
    /// holds.
    fn word_in(&self, packet: &Self::Packet) -> Option<([u8; 16], u64)>;

    /// Whether it may answer for a record now.
    fn serves(&self, now: Now, id: RecordId) -> bool;

    /// Whether it says that it is ready.
    fn is_ready(&self, now: Now) -> bool;

    /// Whether nothing is left to take over or to sync, for all it knows.
    fn is_settled(&self, now: Now) -> bool;

    /// Whether the epoch makes it a holder of a record.
    fn is_holder(&self, id: RecordId) -> bool;

    /// The confirmed records that it holds, each with a digest of its state, and the tombstones.
    fn holdings(&self) -> BTreeMap<RecordId, Holding>;

    /// What has to be empty at rest: open calls, queues, tentative copies; with counts.
    fn open(&self) -> Vec<(&'static str, usize)>;

    /// The sessions that ended without a request, for all it remembers.
    fn endings(&self) -> Vec<RecordId>;

    /// How many outcomes of calls it remembers.
    fn outcomes(&self) -> usize;

    /// Why it is not ready, for traces.
    fn describe(&self, now: Now) -> String;
}

/// The clocks of a process.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// A clock that only goes forward, at its own rate.
    pub mono: Duration,
    /// The clock on the wall, which may jump.
    pub wall: Timestamp,
}

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Stable over restarts.
    pub name: Name,
    /// Which process it is.
    pub boot: Boot,
    /// Where others reach it.
    pub address: String,
    /// Where it runs.
    pub zone: Option<String>,
    /// Its configuration.
    pub settings: Settings,
    /// How much it may hold.
    pub budgets: Budgets,
    /// What its random numbers depend on.
    pub seed: u64,
    /// The rules that it keeps.
    pub rules: Rules,
    /// Whether its application wants to be told of sessions that end without a request.
    pub is_told: bool,
}

/// What discovery came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The addresses of others that it names.
    pub named: Vec<String>,
    /// Those of them to which no link is open.
    pub unanswered: Vec<String>,
}

/// What a process wants done.
#[derive(Clone, Debug)]
pub enum Effect<P> {
    /// A packet goes over the link to a boot.
    Send(Boot, P),
    /// The answer to a call.
    Answer(u64, Reply),
    /// Its application was told that a session ended without a request.
    Told(RecordId),
    /// It may end: nothing is lost with it.
    Drained,
    /// It ends itself.
    Ended(String),
}

/// How much a packet is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure {
    /// Its bytes on the wire.
    pub bytes: usize,
    /// The records that it carries, or lists.
    pub records: usize,
}

/// An epoch that a process knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownEpoch {
    /// Its lineage.
    pub lineage: [u8; 16],
    /// Its number in the lineage.
    pub number: u64,
    /// A digest of all that it says.
    pub digest: u64,
}

/// What a process holds under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A session, with the digest of its confirmed state.
    Live(u64),
    /// The remains of one.
    Tombstone,
    /// A list or another record of the process's own, with its digest.
    Other(u64),
}

/// A call of a client.
#[derive(Clone, Debug)]
pub enum Request {
    /// Stores a new record.
    Create {
        /// Its id.
        id: RecordId,
        /// The record.
        record: Box<Record>,
        /// On which terms its principal gets it.
        policy: LoginPolicy,
    },
    /// Looks a record up.
    Load {
        /// Its id.
        id: RecordId,
        /// What opens it.
        proof: Option<Proof>,
        /// The version that the client carries.
        seen: Option<Version>,
    },
    /// Changes a record.
    Update {
        /// Its id.
        id: RecordId,
        /// The change.
        patch: Box<Patch>,
    },
    /// Ends a record.
    Delete {
        /// Its id.
        id: RecordId,
        /// What opens it.
        proof: Option<Proof>,
        /// The reason that listeners are given.
        reason: EndReason,
    },
    /// Lists the sessions of a principal.
    List {
        /// Whose.
        principal: Principal,
    },
    /// Ends the sessions of a principal.
    DeleteAll {
        /// Whose.
        principal: Principal,
        /// All but this one.
        except: Option<RecordId>,
        /// Logins below it are refused from then on.
        epoch: Option<u64>,
    },
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To a create or an update.
    Outcome(Outcome),
    /// To a load.
    Lookup(Lookup),
    /// To a delete.
    Deleted(Deleted),
    /// To a list.
    Listed(Vec<SessionInfo>),
    /// To a `delete_all`: how many were live.
    Count(u64),
    /// It is not known what came of it.
    Failed(String),
}
