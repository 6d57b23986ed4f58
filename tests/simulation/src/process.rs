//! The interface of a simulated process: a state machine without I/O.

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
    /// A packet between processes.
    type Packet: Clone + Debug;
    /// A process's introduction on a new link.
    type Hello: Clone + Debug;

    /// Starts a process without any memory.
    fn start(start: &Start, now: Now) -> Self;

    /// Returns the introduction for a link that opens now.
    fn hello(&self) -> Self::Hello;

    /// Handles a new link to another process.
    fn connected(&mut self, now: Now, hello: Self::Hello);

    /// Handles the end of the link to a boot. `was_refused` is true if the boot's address refuses
    /// new links, which means that the process has ended.
    fn disconnected(&mut self, now: Now, boot: Boot, was_refused: bool);

    /// Handles a result of discovery.
    fn discovered(&mut self, now: Now, discovery: &Discovery);

    /// Handles a client's call with its timeout. Returns the number of the call.
    fn call(&mut self, now: Now, request: Request, within: Duration) -> u64;

    /// Handles a packet from the link to a boot.
    fn receive(&mut self, now: Now, link: Boot, packet: Self::Packet);

    /// Handles the passage of time. Called every 10 to 25 ms while the process runs.
    fn tick(&mut self, now: Now);

    /// Asks the process to end, and to move its sessions elsewhere.
    fn drain(&mut self, now: Now, leaves: bool);

    /// Handles an operator's request for other settings.
    fn reconfigure(&mut self, now: Now, settings: Settings);

    /// Makes the process suspect another one, which is healthy.
    fn suspect(&mut self, now: Now, boot: Boot);

    /// Returns the effects since the last call.
    fn take_effects(&mut self) -> Vec<Effect<Self::Packet>>;

    /// Returns the epoch that the process knows.
    fn epoch(&self) -> Option<KnownEpoch>;

    /// Returns the settings of its epoch.
    fn settings(&self) -> Option<Settings>;

    /// Returns the size of a packet to a boot.
    fn measure(&self, to: Boot, packet: &Self::Packet) -> Measure;

    /// Returns the epoch in which a packet is this process's vote, lease, answer or copy, if it is
    /// one of these.
    fn word_in(&self, packet: &Self::Packet) -> Option<([u8; 16], u64)>;

    /// Returns true if the process may answer for a record now.
    fn serves(&self, now: Now, id: RecordId) -> bool;

    /// Returns true if the process reports that it is ready.
    fn is_ready(&self, now: Now) -> bool;

    /// Returns true if the process knows of nothing left to take over or to sync.
    fn is_settled(&self, now: Now) -> bool;

    /// Returns true if the epoch makes the process a holder of a record.
    fn is_holder(&self, id: RecordId) -> bool;

    /// Returns the confirmed records with a digest of their states, and the tombstones.
    fn holdings(&self) -> BTreeMap<RecordId, Holding>;

    /// Returns what has to be empty at rest, with its size: open calls, queues, tentative copies.
    fn open(&self) -> Vec<(&'static str, usize)>;

    /// Returns the sessions that the process remembers to have ended without a request.
    fn endings(&self) -> Vec<RecordId>;

    /// Returns the number of outcomes that the process remembers.
    fn outcomes(&self) -> usize;

    /// Returns the reason why the process is not ready, for traces.
    fn describe(&self, now: Now) -> String;
}

/// The clocks of a process.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// A monotonic clock with a rate of its own.
    pub mono: Duration,
    /// The wall clock, which may jump.
    pub wall: Timestamp,
}

/// The start parameters of a process.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name, which survives restarts.
    pub name: Name,
    /// Its boot, which identifies the process.
    pub boot: Boot,
    /// The address at which others reach it.
    pub address: String,
    /// Its zone.
    pub zone: Option<String>,
    /// Its configuration.
    pub settings: Settings,
    /// Its budgets.
    pub budgets: Budgets,
    /// The seed of its random numbers.
    pub seed: u64,
    /// The rules that it keeps.
    pub rules: Rules,
    /// True if its application wants reports of sessions that end without a request.
    pub is_told: bool,
}

/// A result of discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The addresses of other nodes.
    pub named: Vec<String>,
    /// Those addresses that have no open link.
    pub unanswered: Vec<String>,
}

/// An effect that a process requests.
#[derive(Clone, Debug)]
pub enum Effect<P> {
    /// Sends a packet over the link to a boot.
    Send(Boot, P),
    /// The answer to a call.
    Answer(u64, Reply),
    /// Reports to the application that a session ended without a request.
    Told(RecordId),
    /// The process has drained, and may end without a loss.
    Drained,
    /// The process exits by itself, for this reason.
    Ended(String),
}

/// The size of a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure {
    /// Its bytes on the wire.
    pub bytes: usize,
    /// The number of records that it carries or lists.
    pub records: usize,
}

/// An epoch that a process knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownEpoch {
    /// Its lineage.
    pub lineage: [u8; 16],
    /// Its number in the lineage.
    pub number: u64,
    /// A digest of its contents.
    pub digest: u64,
}

/// The copy that a process holds under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A session, with the digest of its confirmed state.
    Live(u64),
    /// The tombstone of a session.
    Tombstone,
    /// A list or another internal record, with its digest.
    Other(u64),
}

/// A client's call.
#[derive(Clone, Debug)]
pub enum Request {
    /// Stores a new record.
    Create {
        /// Its id.
        id: RecordId,
        /// The record.
        record: Box<Record>,
        /// The policy for its principal's sessions.
        policy: LoginPolicy,
    },
    /// Looks up a record.
    Load {
        /// Its id.
        id: RecordId,
        /// The proof that opens it.
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
        /// The proof that opens it.
        proof: Option<Proof>,
        /// The reason that listeners get.
        reason: EndReason,
    },
    /// Lists the sessions of a principal.
    List {
        /// The principal.
        principal: Principal,
    },
    /// Ends the sessions of a principal.
    DeleteAll {
        /// The principal.
        principal: Principal,
        /// A session to keep.
        except: Option<RecordId>,
        /// The epoch below which logins are refused from then on.
        epoch: Option<u64>,
    },
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The answer to a create or an update.
    Outcome(Outcome),
    /// The answer to a load.
    Lookup(Lookup),
    /// The answer to a delete.
    Deleted(Deleted),
    /// The answer to a list.
    Listed(Vec<SessionInfo>),
    /// The answer to a `delete_all`: the number of sessions that were live.
    Count(u64),
    /// The outcome is unknown.
    Failed(String),
}
