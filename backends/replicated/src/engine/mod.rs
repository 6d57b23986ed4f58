//! The replication of sessions, as a state machine: fed with calls, messages and time, it says what
//! to send and what to answer. It opens no socket, reads no clock and draws no randomness.
//!
//! # Map
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`message`] | what nodes say to each other |
//! | [`table`] | what is held, and how much memory that takes |
//! | [`view`] | who is there, who owns what, and since when |
//! | [`base`] | the members whose majority counts |
//! | [`alarm`] | what is to be looked at again, and when |
//! | [`calls`] | the way of a call to the owner of its record |
//! | [`owner`] | calls at the owner, one after the other |
//! | [`commit`] | replication, acknowledgements, rollback |
//! | [`replica`] | the other side of it: what a holder keeps |
//! | [`reader`] | reads, and the leases under which copies answer |
//! | [`takeover`] | what a new owner does before it serves |
//! | [`undecided`] | what becomes of writes that it found under way |
//! | [`index`] | whose sessions are whose |
//! | [`repair`] | whatever went missing is found again |
//! | [`budget`] | what ends early, so that memory is bounded |
//! | [`join`], [`drain`] | coming and going |
//! | [`look`] | what an engine says of itself |

pub(crate) mod config;
pub(crate) mod message;
pub(crate) mod table;

mod alarm;
mod base;
mod budget;
mod calls;
mod commit;
mod drain;
mod entry;
mod index;
mod join;
mod look;
mod owner;
mod reader;
mod repair;
mod replica;
mod takeover;
mod undecided;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::{Change, RecordId, Timestamp};

use self::alarm::Alarms;
use self::base::Agreement;
use self::calls::Call;
pub(crate) use self::config::{Config, Rule};
use self::config::{LEASE, TOMBSTONE};
use self::drain::Drain;
use self::entry::Busy;
use self::join::Join;
pub(crate) use self::look::{Figures, Health};
pub(crate) use self::message::{Failure, Message, Reply, Request};
use self::repair::Scrub;
use self::table::Table;
use self::undecided::Undecided;
use self::view::{Peer, View};
use crate::placement::{Name, node_number};
use crate::record::StampClock;

/// One node.
#[derive(Debug)]
pub(crate) struct Engine {
    me: Name,
    incarnation: u64,
    config: Config,
    now: Now,
    stamps: StampClock,
    random: Random,
    view: View,
    agreement: Agreement,
    join: Option<Join>,
    drain: Option<Drain>,
    peers: BTreeMap<Name, Peer>,
    table: Table,
    /// Records that something is under way with.
    busy: BTreeMap<RecordId, Busy>,
    /// Records whose next calls are being taken right now.
    advancing: BTreeSet<RecordId>,
    /// Records with a change that nobody confirmed.
    unsettled: BTreeSet<RecordId>,
    /// Writes under way whose record got another owner.
    undecided: BTreeMap<RecordId, Undecided>,
    calls: BTreeMap<u64, Call>,
    alarms: Alarms,
    leases: reader::Leases,
    scrub: Scrub,
    /// Whether others may be there whom this node has not met.
    expects_others: bool,
    listens: bool,
    /// Whether the changes of all other nodes came here when that was last looked at.
    hears_all: bool,
    /// Whether a link broke or came back since, so that changes may have been missed.
    may_have_missed: bool,
    /// Whether the others may have to hear who this node is.
    speaks: bool,
    last_number: u64,
    last_beat: Duration,
    last_contact: Timestamp,
    /// Whether this node heard of nobody for as long as the end of a record is remembered.
    was_alone: bool,
    /// Of which classes nothing was found that could end, in this beat: it is not looked for again.
    found_none: [bool; 2],
    counts: Counts,
    effects: Vec<Effect>,
}

/// What time it is: monotonic, which decides everything but expiry, and the wall clock's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) mono: Duration,
    pub(crate) wall: Timestamp,
}

/// What an engine wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(Name, Message),
    /// The link lost something: close it and dial anew.
    Close(Name),
    Answer(u64, Reply),
    Changed(Change),
    Expired(RecordId),
    /// A budget ended a session.
    Evicted(RecordId),
    /// A peer was taken for dead, so long after its last sign of life.
    TakenForDead(Duration),
    /// A drain came to its end: sessions that moved, sessions that are lost.
    Drained {
        moved: u64,
        lost: u64,
    },
}

/// What an engine counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) conflicts: u64,
    pub(crate) rolled_back: u64,
    pub(crate) degraded: u64,
    pub(crate) take_overs: u64,
    /// Calls of this node, and how often one was sent to another node.
    pub(crate) calls: u64,
    pub(crate) forwarded: u64,
    /// Reads at a holder without a lease.
    pub(crate) lease_misses: u64,
    /// Sessions that the budgets ended, by class.
    pub(crate) evicted: [u64; 2],
}

impl Engine {
    pub(crate) fn new(me: Name, incarnation: u64, config: Config, now: Now, seed: u64) -> Self {
        let node = node_number(&me, incarnation);
        let mut engine = Self {
            view: View::new(),
            agreement: Agreement::default(),
            join: Some(Join::begin(now.mono)),
            drain: None,
            peers: BTreeMap::new(),
            table: Table::default(),
            busy: BTreeMap::new(),
            advancing: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            undecided: BTreeMap::new(),
            calls: BTreeMap::new(),
            alarms: Alarms::default(),
            leases: reader::Leases::default(),
            scrub: Scrub::default(),
            expects_others: false,
            listens: false,
            hears_all: true,
            may_have_missed: false,
            speaks: true,
            last_number: 0,
            last_beat: now.mono,
            last_contact: now.wall,
            was_alone: false,
            found_none: [false; 2],
            counts: Counts::default(),
            effects: Vec::new(),
            stamps: StampClock::new(node),
            random: Random(seed),
            me,
            incarnation,
            config,
            now,
        };
        engine.found_service();
        engine
    }

    /// Puts a call; its answer is an effect, at once or later. Its number is never used twice.
    pub(crate) fn call(&mut self, now: Now, request: Request, within: Duration) -> u64 {
        self.pass(now);
        let number = self.number();
        self.begin_call(number, request, within);
        self.make_room();
        self.say_status();
        number
    }

    /// Takes a message from a peer, over a link that is up.
    pub(crate) fn receive(&mut self, now: Now, from: &Name, message: Message) {
        self.pass(now);
        self.heard(now, from);
        if self.peers.get(from).is_some_and(|peer| peer.linked) {
            self.was_alone |= self.last_contact + TOMBSTONE < now.wall;
            self.last_contact = now.wall;
            self.dispatch(from, message);
            self.make_room();
        }
        self.say_status();
    }

    /// A peer gave a sign of life.
    pub(crate) fn heard(&mut self, now: Now, from: &Name) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.heard = now.mono;
        }
    }

    /// A link to a peer is up.
    pub(crate) fn linked(&mut self, now: Now, name: &Name) {
        self.pass(now);
        self.link_up(name);
        self.say_status();
    }

    /// A link is gone, with whatever was on its way.
    pub(crate) fn unlinked(&mut self, now: Now, name: &Name) {
        self.pass(now);
        self.link_down(name);
        self.say_status();
    }

    /// The failure detector takes a member for dead.
    pub(crate) fn down(&mut self, now: Now, name: &Name) {
        self.pass(now);
        self.take_for_dead(name);
        self.say_status();
    }

    /// Others may be there whom this node has not met: it founds no service of its own then.
    pub(crate) fn expect_others(&mut self, expects_others: bool) {
        self.expects_others = expects_others;
    }

    /// Has changes reported here from now on; says whether those of all other nodes come here.
    pub(crate) fn listen(&mut self, now: Now) -> bool {
        self.pass(now);
        self.listens = true;
        self.speaks = true;
        self.say_status();
        self.report_feed();
        self.hears_all
    }

    /// Looks around: to be called about every [`BEAT`].
    pub(crate) fn tick(&mut self, now: Now) {
        self.pass(now);
        self.beat();
        self.report_feed();
        self.speaks = true;
        self.say_status();
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Notices what time it is, and whether the process slept: after more than a lease, whatever it
    /// holds may be old.
    fn pass(&mut self, now: Now) {
        let slept = now.mono.saturating_sub(self.last_beat);
        self.now = now;
        if slept > LEASE {
            self.last_beat = now.mono;
            self.wake_up();
        }
    }

    /// What waits in the links was sent to a node that did not sleep.
    fn wake_up(&mut self) {
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.close(&name);
        }
        self.leases.forget();
        for peer in self.peers.values_mut() {
            peer.lease.forget();
        }
        self.doubt();
    }

    fn beat(&mut self) {
        self.last_beat = self.now.mono;
        self.check_links();
        self.heed_alarms();
        self.keep_joining();
        self.agree_on_base();
        self.repair();
        self.make_room_in_beat();
        self.keep_draining();
        self.flush();
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn send(&mut self, to: &Name, message: Message) {
        let Some(peer) = self.peers.get_mut(to).filter(|peer| peer.linked) else {
            return;
        };
        // Confirmations ride on the next frame, and so do the ends of what makes room for it.
        let confirmed = std::mem::take(&mut peer.confirmed);
        let evicted = std::mem::take(&mut peer.evicted);
        if !confirmed.is_empty() {
            self.effects.push(Effect::Send(to.clone(), Message::Confirm(confirmed)));
        }
        if !evicted.is_empty() {
            self.effects.push(Effect::Send(to.clone(), Message::Evicted(evicted)));
        }
        self.effects.push(Effect::Send(to.clone(), message));
    }

    fn changed(&mut self, change: Change) {
        if self.listens {
            self.effects.push(Effect::Changed(change));
        }
        for peer in self.peers.values_mut().filter(|peer| peer.listens()) {
            peer.changes.push(change);
        }
    }

    /// How long a record that ends now is remembered.
    fn tombstone_until(&self, absolute: Timestamp) -> Timestamp {
        absolute.min(self.now.wall + TOMBSTONE)
    }

    fn dispatch(&mut self, from: &Name, message: Message) {
        match message {
            Message::Status(status) => self.hear_status(from, status),
            Message::Ask { number, within, request } => self.asked(from, number, request, within),
            Message::Reply { number, reply } => self.replied(from, number, reply),
            Message::Replicate { seq, id, prev, change } => {
                self.replicated(from, seq, id, prev, change);
            }
            Message::Ack { seq, answer } => self.acknowledged(from, seq, answer),
            Message::Confirm(confirmed) => self.confirmed(from, confirmed),
            Message::Unsettled(ids) => self.settle_for(from, ids),
            Message::Expired(ids) => self.expired(from, ids),
            Message::Evicted(evicted) => self.evicted(from, evicted),
            Message::Lease { number, applied } => self.lease_asked(from, number, applied),
            Message::Grant { number, alive, data } => self.granted(from, number, alive, data),
            Message::Pull { number, id } => self.pulled_by(from, number, id),
            Message::Pulled { number, id, held } => self.pulled(from, number, id, held),
            Message::Offer(offered) => self.offered(from, offered),
            Message::Safe(ids) => self.found_safe(ids),
            Message::Want(ids) => self.wanted(from, ids),
            Message::Handover { id, held } => self.handed_over(from, id, held),
            Message::Digest { from: first, to, sum } => self.compare(from, first, to, sum),
            Message::Stamps { from: first, to, stamps, is_answer } => {
                self.differ(from, first, to, &stamps, is_answer);
            }
            Message::Snapshot { view, after } => self.snapshot(from, view, after),
            Message::Chunk { view, records, next } => self.chunk(from, view, records, next),
            Message::Base(ballot) => self.vote(from, ballot),
            Message::Changes(changes) => {
                self.effects.extend(changes.into_iter().map(Effect::Changed));
            }
        }
    }
}

/// A small generator (SplitMix64), seeded from outside: it picks peers to compare with, no secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A place among the records.
    fn id(&mut self) -> RecordId {
        RecordId::from_bytes((u128::from(self.next()) << 64).to_be_bytes())
    }
}

/// What the simulator looks at.
#[cfg(test)]
impl Engine {
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_empty() && self.unsettled.is_empty() && !self.has_past()
    }

    /// What is held of a record, confirmed or not, unless it ended.
    pub(crate) fn copies_of(&self, id: RecordId) -> impl Iterator<Item = &steadfast_core::Record> {
        let copies = self
            .table
            .get(&id)
            .into_iter()
            .flat_map(|entry| entry.kept.live().into_iter().chain(entry.tentative.as_deref()));
        copies.map(|copy| &*copy.record)
    }

    pub(crate) fn records(&self) -> Vec<(RecordId, message::Kept)> {
        self.table.iter().map(|(id, entry)| (*id, entry.kept.clone())).collect()
    }

    /// Whether the sums of what is held are what counting it anew comes to.
    pub(crate) fn counts_right(&self) -> bool {
        self.table.totals() == self.table.recounted()
    }

    /// The other nodes that it remembers, there or not.
    pub(crate) fn known(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn describe(&self) -> String {
        let stale: Vec<_> = self
            .peers
            .iter()
            .map(|(n, p)| {
                (
                    n,
                    p.linked,
                    p.dead,
                    p.stale.len(),
                    p.status.as_ref().map(|s| (s.incarnation, s.settled, s.view)),
                )
            })
            .collect();
        format!(
            "{:?} join {:?} busy {:.400} unsettled {} past {} peers {stale:?} left {:?}",
            self.status(),
            self.join,
            format!("{:?}", self.busy),
            self.unsettled.len(),
            self.has_past(),
            self.unchecked(),
        )
    }
}
