//! Membership: joining a cluster, changing it, and recovering it.

mod effect;
mod founding;
mod leases;
mod lineages;
mod loss;
mod message;
mod peers;
mod random;
mod spread;
#[cfg(test)]
mod tests;
mod turns;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::effect::{Effect, End, Problem};
use self::leases::Leases;
use self::lineages::{Relation, relation};
use self::loss::{Acceptor, Attempt, Declined, founders};
pub use self::message::{Described, Discovery, Frame, Hello, Message, Refusal};
use self::peers::{Courtesy, Peers};
use self::random::Random;
use self::spread::Spread;
use self::turns::{TURN, Turns, Wish};
pub use self::wishes::Drain;
use self::wishes::{Asked, Situation, Wishes};
use crate::cluster::{self, Ballot, Cluster, Suspicion, Timing, Word};
use crate::description::Reach;
use crate::epoch::{Change, Epoch, EpochId, PartitionPolicy};
use crate::member::{Boot, Member, Name, Role};
use crate::rules::{Rule, Rules};
use crate::settings::Settings;
use crate::slots::{Slot, SlotSet};

/// A node's membership: its cluster, if it is in one, and everything that leads to the next epoch.
///
/// It is driven from outside: frames, ticks, links and what discovery names go in, effects come out. Every
/// call that takes the time has to be given a clock that only rises, counts suspension, and is read after
/// the frames that waited.
// More than eight fields: each is a component of its own, or what all of them share.
#[derive(Clone, Debug)]
pub struct Membership {
    me: Member,
    terms: Terms,
    place: Place,
    peers: Peers,
    suspicion: Suspicion,
    agenda: Agenda,
    recovery: Recovery,
    discovery: Option<Discovery>,
    random: Random,
    effects: Vec<Effect>,
}

/// The constants of a node's whole life.
#[derive(Clone, Copy, Debug)]
struct Terms {
    settings: Settings,
    timing: Timing,
    rules: Rules,
}

/// The epoch in which this node is a member, and the service that it wants to join.
#[derive(Clone, Debug, Default)]
struct Place {
    cluster: Option<Cluster>,
    /// The epoch that it asks to join.
    target: Option<Arc<Epoch>>,
    /// The time when a member of that epoch was last heard.
    target_heard: Duration,
    /// The last epoch that listed this boot.
    listed_in: Option<EpochId>,
    /// The time until which it grants nothing, because leases of the lineage that it left may run.
    silent_until: Duration,
    /// The reason why another node does not admit it.
    obstacle: Option<Problem>,
    /// The reason why this boot ended, or the work left before it ends.
    end: Option<End>,
    has_ended: bool,
}

/// The work of this node in its epoch.
#[derive(Clone, Debug, Default)]
struct Agenda {
    wishes: Wishes,
    asked: Asked,
    /// The time of this node's last requests for changes, and the changes.
    said: Option<(Duration, Vec<Change>)>,
    /// The time since which members are aside, to this node's knowledge.
    aside: BTreeMap<Boot, Duration>,
    turns: Turns,
    spread: Spread,
    leases: Leases,
    /// The time when each boot was last heard.
    heard: BTreeMap<Boot, Duration>,
}

/// The work of this node without a majority.
#[derive(Clone, Debug, Default)]
struct Recovery {
    acceptor: Acceptor,
    attempt: Option<Attempt>,
    turns: Turns,
    /// The time since which no majority of the voters is in sight.
    lost: Option<Duration>,
    /// The time since which everything that a new lineage needs is available.
    able: Option<Duration>,
    /// The epoch from which an operator called to found.
    called: Option<EpochId>,
}

/// The start parameters of a node.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, boot, address, zone and versions of the protocol. The rest is ignored.
    pub member: Member,
    /// Its configuration.
    pub settings: Settings,
    /// The seed of its random numbers: lineages, the key of a service that it founds, and delays.
    pub seed: [u8; 16],
}

impl Membership {
    /// A node that knows nothing yet.
    pub fn new(identity: Identity, timing: Timing, rules: Rules, now: Duration) -> Self {
        let Identity { member, settings, seed } = identity;
        let started_with = Some(settings);
        let mut suspicion = Suspicion::default();
        // The time before this process began is not a stall.
        suspicion.tick(now, rules);
        Self {
            me: Member { role: Role::Joining, votes: false, started_with, ..member },
            terms: Terms { settings, timing, rules },
            place: Place::default(),
            peers: Peers::default(),
            suspicion,
            agenda: Agenda::default(),
            recovery: Recovery::default(),
            discovery: None,
            random: Random::new(seed),
            effects: Vec::new(),
        }
    }

    /// This node's boot.
    pub fn me(&self) -> Boot {
        self.me.boot
    }

    /// Returns this node's greeting on a new link.
    pub fn hello(&self) -> Hello {
        let me = (self.me.name.clone(), self.me.boot);
        let linked = self.peers.iter().filter(|(_, peer)| peer.is_linked());
        let names = linked.filter_map(|(_, peer)| peer.hello());
        let names = names.map(|hello| (hello.member.name.clone(), hello.member.boot));
        let is_waiting = |discovery: &Discovery| !discovery.silent.is_empty();
        Hello {
            member: self.me.clone(),
            listed_in: self.place.listed_in,
            in_sight: self.place.target.as_ref().map(|epoch| epoch.id()),
            lowest: names.chain([me.clone()]).min().unwrap_or(me),
            is_waiting: self.discovery.as_ref().is_none_or(is_waiting),
            is_lost: self.recovery.lost.is_some(),
        }
    }

    /// The same, with the epoch that a new lineage may follow by now.
    fn hello_at(&self, now: Duration) -> Hello {
        let hello = self.hello();
        Hello { in_sight: hello.in_sight.or(self.recovery.acceptor.recent(now)), ..hello }
    }

    /// Notes a link to another node, and what it said of itself.
    pub fn connected(&mut self, hello: Hello, now: Duration) -> Vec<Effect> {
        if hello.member.boot != self.me.boot {
            self.peers.link(hello);
        }
        self.act(now)
    }

    /// Notes that a link ended, and whether its other side closed it and refused another one: then the
    /// process ended.
    pub fn disconnected(&mut self, boot: Boot, was_refused: bool, now: Duration) -> Vec<Effect> {
        self.peers.unlink(boot);
        if was_refused && self.is_counted(boot) {
            let word = self.suspicion.on_refused(boot, now);
            self.say(word, now);
        }
        self.act(now)
    }

    /// Notes what discovery names.
    pub fn discovered(&mut self, discovery: Discovery, now: Duration) -> Vec<Effect> {
        self.discovery = Some(discovery);
        self.act(now)
    }

    /// Notes that discovery reports a member dead: a reason to ask it.
    pub fn reported_dead(&mut self, boot: Boot, now: Duration) -> Vec<Effect> {
        if self.is_counted(boot) {
            let word = self.suspicion.doubt(boot, now);
            self.say(word, now);
        }
        self.act(now)
    }

    /// Notes that an answer of a member's engine is awaited.
    pub fn on_awaited(&mut self, boot: Boot, now: Duration) {
        if self.is_counted(boot) {
            self.suspicion.on_awaited(boot, now);
        }
    }

    /// Notes an answer of a member's engine that was awaited.
    pub fn on_answer(&mut self, boot: Boot, now: Duration) -> Vec<Effect> {
        self.answered(boot, now);
        self.act(now)
    }

    /// Hands this node's slots over, so that its process can end.
    pub fn ask_to_drain(&mut self, drain: Drain, now: Duration) -> Vec<Effect> {
        self.agenda.wishes.drain = Some(drain);
        self.act(now)
    }

    /// Returns true if this node was asked to leave for good.
    pub fn is_leaving(&self) -> bool {
        self.agenda.wishes.drain == Some(Drain::Leave)
    }

    /// Says whether the slots that this node is going to hold are complete. Each epoch makes them
    /// incomplete.
    pub fn set_filled(&mut self, is_filled: bool, now: Duration) -> Vec<Effect> {
        self.agenda.wishes.is_filled = is_filled;
        self.act(now)
    }

    /// Says that this node holds nothing any more that only it holds: it may leave.
    pub fn set_empty(&mut self, now: Duration) -> Vec<Effect> {
        self.agenda.wishes.is_empty = true;
        self.act(now)
    }

    /// Asks for slots to be given up, each with the members that did not answer (G1).
    pub fn give_up(
        &mut self,
        hopeless: BTreeMap<BTreeSet<Boot>, SlotSet>,
        now: Duration,
    ) -> Vec<Effect> {
        let wished = &mut self.agenda.wishes.give_up;
        if *wished == hopeless {
            return Vec::new();
        }
        *wished = hopeless;
        self.act(now)
    }

    /// Asks for other settings: an operator's call.
    pub fn reconfigure(&mut self, settings: Settings, now: Duration) -> Vec<Effect> {
        self.agenda.wishes.settings = Some(settings);
        self.act(now)
    }

    /// Founds a lineage from an epoch without the voters that are missing: an operator's call, who knows
    /// that they never return.
    pub fn found_from(&mut self, epoch: EpochId, now: Duration) -> Vec<Effect> {
        self.recovery.called = Some(epoch);
        self.act(now)
    }

    /// The epoch that this node is in.
    pub fn epoch(&self) -> Option<&Arc<Epoch>> {
        self.place.cluster.as_ref().map(Cluster::epoch)
    }

    /// Returns true if this node may answer for a slot.
    pub fn serves(&self, slot: Slot, now: Duration) -> bool {
        let is_in = !self.recovery.acceptor.has_surrendered() && !self.place.has_ended;
        is_in && self.place.cluster.as_ref().is_some_and(|cluster| cluster.serves(slot, now))
    }

    /// Returns true if no other node can still serve a slot.
    pub fn is_clear(&self, slot: Slot, now: Duration) -> bool {
        self.place.cluster.as_ref().is_some_and(|cluster| cluster.is_clear(slot, now))
    }

    /// Says that own slots can be served once a lease names them, and asks for one. Slots that are not
    /// clear, or not owned, are left out.
    pub fn make_ready(&mut self, slots: &SlotSet, now: Duration) -> Vec<Effect> {
        if let Some(cluster) = &mut self.place.cluster {
            cluster.make_ready(slots, now);
        }
        self.act(now)
    }

    /// Says that a call needs a lease.
    pub fn want_lease(&mut self, now: Duration) -> Vec<Effect> {
        self.agenda.leases.want(now);
        self.act(now)
    }

    /// Returns true if a lease runs.
    pub fn has_lease(&self, now: Duration) -> bool {
        let until = self.place.cluster.as_ref().and_then(|cluster| cluster.lease_state().until);
        until.is_some_and(|until| now < until)
    }

    /// Returns true if a lease of this epoch ran within the given time.
    pub fn had_lease(&self, now: Duration, within: Duration) -> bool {
        let until = self.place.cluster.as_ref().and_then(|cluster| cluster.lease_state().until);
        until.is_some_and(|until| now.saturating_sub(until) < within)
    }

    /// Returns the path to another node.
    pub fn reach(&self, boot: Boot, now: Duration) -> Reach {
        let name = |by| Some(self.epoch()?.member(by)?.name.clone());
        Reach {
            is_linked: self.peers.is_linked(boot),
            suspected: self.suspicion.why(boot, now),
            suspected_by: self.suspicion.suspected_by(boot, now).filter_map(name).collect(),
        }
    }

    /// Notes that the owner of these slots when last served is out.
    pub fn on_withdrawn(&mut self, from: Boot, slots: &SlotSet) {
        if let Some(cluster) = &mut self.place.cluster {
            cluster.on_withdrawn(from, slots);
        }
    }

    /// Returns true if this node does not reach a member.
    pub fn suspects(&self, boot: Boot) -> bool {
        self.suspicion.suspects(boot)
    }

    /// Returns true if a member was aside for 60 s, and not heard in this time (G1).
    pub fn is_lost(&self, boot: Boot, now: Duration) -> bool {
        let is_long = |since: &Duration| now.saturating_sub(*since) >= HEARD;
        self.agenda.aside.get(&boot).is_some_and(is_long)
            && self.agenda.heard.get(&boot).is_none_or(is_long)
    }

    /// Returns the reason why this node is not ready, if it is not.
    pub fn problem(&self, now: Duration) -> Option<Problem> {
        if self.place.has_ended {
            return Some(Problem::Ended);
        }
        let Some(epoch) = self.epoch() else {
            let silent = self.discovery.as_ref().map(|discovery| discovery.silent.clone());
            let seeking = Problem::Seeking { silent: silent.unwrap_or_default() };
            let joining = self.place.target.as_ref().map(|_| Problem::Joining);
            return self.place.obstacle.clone().or(joining).or(Some(seeking));
        };
        if self.recovery.lost.is_some() || self.recovery.acceptor.has_surrendered() {
            let missing = self.founders(epoch, now).err().unwrap_or_default();
            return Some(Problem::NoMajority { epoch: epoch.id(), missing });
        }
        let role = epoch.member(self.me.boot).map(|member| member.role);
        role.filter(|role| *role != Role::Full).map(Problem::Role)
    }

    /// Returns the remaining time of this node's lease.
    pub fn lease_left(&self, now: Duration) -> Duration {
        self.place.cluster.as_ref().map_or(Duration::ZERO, |cluster| cluster.lease_left(now))
    }

    /// Notes the epoch that a node names in another frame than those of the membership.
    pub fn on_packet(&mut self, from: Boot, epoch: EpochId, now: Duration) -> Vec<Effect> {
        self.compare(from, Some(epoch), None, now);
        self.act(now)
    }

    /// Handles a frame.
    pub fn receive(&mut self, frame: Frame, now: Duration) -> Vec<Effect> {
        if !self.place.has_ended {
            self.handle(frame, None, now);
        }
        self.act(now)
    }

    /// Does what is due. To be called every 10 to 25 ms, after all frames that wait were handled.
    pub fn tick(&mut self, now: Duration) -> Vec<Effect> {
        if self.place.has_ended {
            return Vec::new();
        }
        for word in self.suspicion.tick(now, self.terms.rules) {
            self.say(Some(word), now);
        }
        self.peers.tidy(now);
        self.agenda.asked.tidy(now);
        self.greet(now);
        self.spread(now);
        self.act(now)
    }

    /// Does everything that what this node knows by now leads to.
    fn act(&mut self, now: Duration) -> Vec<Effect> {
        if !self.place.has_ended {
            self.note_loss(now);
            self.ask(now);
            self.propose(now);
            self.found(now);
            self.recover(now);
            self.split(now);
            self.lease(now);
            self.end();
        }
        std::mem::take(&mut self.effects)
    }
}

/// Frames that arrive.
impl Membership {
    fn handle(&mut self, frame: Frame, via: Option<Boot>, now: Duration) {
        let Frame { from, epoch, message } = frame;
        if let Message::Relay { to, frame } = message {
            return self.on_relay(from, to, *frame, now);
        }
        if from == self.me.boot {
            return;
        }
        self.peers.on_frame(from, epoch, now);
        self.agenda.heard.insert(from, now);
        self.agenda.spread.on_frame(from, epoch);
        let lineage = self.place.target.as_ref().map(|target| target.id().lineage);
        if lineage.is_some() && lineage == epoch.map(|epoch| epoch.lineage) {
            self.place.target_heard = now;
        }
        self.compare(from, epoch, via, now);
        match message {
            Message::Cluster(message) => self.on_cluster(from, (epoch, message), via, now),
            Message::Known => {
                self.agenda.spread.on_known(from);
                self.answered(from, now);
            }
            Message::Hello { hello, asks } => self.on_hello(from, *hello, asks, now),
            Message::Ask(changes) => self.on_ask(from, changes, via, now),
            Message::Wait => self.place.obstacle = Some(Problem::NameTaken),
            Message::Refused(refusal) => self.on_refused(&refusal),
            Message::Suspect(boot) if self.is_counted(boot) => {
                let word = self.suspicion.on_suspect(from, boot, now);
                self.say(word, now);
            }
            Message::Trust(boot) => self.suspicion.on_trust(from, boot),
            Message::Ping => self.reply(from, via, Message::Pong),
            Message::Pong => self.answered(from, now),
            other => self.on_recovery(from, other, via, now),
        }
    }

    /// Passes a frame on, once.
    fn on_relay(&mut self, from: Boot, to: Boot, frame: Frame, now: Duration) {
        if to == self.me.boot {
            self.handle(frame, Some(from), now);
        } else if frame.from == from {
            let frame = Box::new(frame);
            self.send_over(to, Message::Relay { to, frame });
        }
    }

    /// Compares the epoch that a frame names with this node's: the one that is behind learns the other.
    fn compare(&mut self, from: Boot, theirs: Option<EpochId>, via: Option<Boot>, now: Duration) {
        let own = self.epoch().map(|epoch| epoch.id());
        let is_behind = match (own, theirs) {
            (_, None) => false,
            (None, Some(theirs)) => {
                self.place.target.as_ref().is_none_or(|target| target.id() != theirs)
                    && !self.peers.is_compared(from, theirs)
            }
            (Some(own), Some(theirs)) if own.lineage == theirs.lineage => {
                own.number < theirs.number
            }
            (Some(_), Some(theirs)) => !self.peers.is_compared(from, theirs),
        };
        if is_behind && self.peers.may(Courtesy::Fetch, from, now) {
            self.reply(from, via, Message::Cluster(cluster::Message::Fetch));
        }
        let is_ahead = own.is_some_and(|own| {
            theirs.is_none_or(|theirs| own.lineage == theirs.lineage && own.number > theirs.number)
        });
        if is_ahead && self.peers.may(Courtesy::Tell, from, now) {
            self.tell(from, via);
        }
    }

    fn on_cluster(
        &mut self,
        from: Boot,
        (theirs, message): (Option<EpochId>, cluster::Message),
        via: Option<Boot>,
        now: Duration,
    ) {
        match message {
            cluster::Message::Epoch(epoch) => {
                self.on_epoch(from, &epoch, via, now);
                self.reply(from, via, Message::Known);
            }
            cluster::Message::Fetch => self.tell(from, via),
            message if self.epoch().map(|epoch| epoch.id()) == theirs => {
                self.on_ballot(&message, now);
                self.in_cluster(from, message, now);
            }
            _ => {}
        }
    }

    /// Tells the turn-taking of proposers about the ballot of a message.
    fn on_ballot(&mut self, message: &cluster::Message, now: Duration) {
        let turns = &mut self.agenda.turns;
        match message {
            cluster::Message::Prepare(ballot) | cluster::Message::Accept(ballot, _) => {
                turns.on_ballot(ballot.number, now);
            }
            cluster::Message::Nack(ballot) => {
                turns.on_refused(ballot.number, now, &mut self.random);
            }
            _ => {}
        }
    }

    /// Handles a message of this epoch, of another node or this one.
    fn in_cluster(&mut self, from: Boot, message: cluster::Message, now: Duration) {
        use cluster::Message::{Accept, Accepted, AskLease, Lease, Nack, Prepare, Promise};
        if matches!(message, Promise(_) | Nack(_) | Accepted(_) | Lease { .. }) {
            self.answered(from, now);
        }
        let is_for_voter = matches!(message, Prepare(_) | Accept(..) | AskLease { .. });
        if is_for_voter && self.recovery.acceptor.has_surrendered() {
            return;
        }
        let is_silent = now < self.place.silent_until && self.terms.rules.keep(Rule::M2);
        if matches!(message, AskLease { .. }) && is_silent {
            return;
        }
        let wanted = matches!(message, Promise(_)).then(|| self.wanted(now));
        let Some(cluster) = &mut self.place.cluster else {
            return;
        };
        if let Some(wanted) = wanted {
            cluster.want_instead(wanted);
        }
        let epoch = cluster.epoch().id();
        let effects = cluster.receive(cluster::Frame { from, epoch, message }, now);
        self.absorb(effects, now);
    }

    /// Carries out what the cluster component answered.
    fn absorb(&mut self, effects: Vec<cluster::Effect>, now: Duration) {
        let mut told = Vec::new();
        let mut learned = None;
        for effect in effects {
            match effect {
                cluster::Effect::Learned(epoch) => learned = Some(epoch),
                cluster::Effect::Send(to, frame) => match frame.message {
                    cluster::Message::Epoch(_) => told.push(to),
                    message => self.on_message(to, message, now),
                },
            }
        }
        if let Some(epoch) = learned {
            self.on_learned(&epoch, now);
            self.tell_all(told, now);
        }
    }

    /// Passes on what the cluster component says to this node or another one.
    fn on_message(&mut self, to: Boot, mut message: cluster::Message, now: Duration) {
        if let cluster::Message::Promise(promise) = &mut message {
            promise.heard = self.heard(now);
        }
        match to == self.me.boot {
            true => self.in_cluster(to, message, now),
            false => self.ask_member(to, message, now),
        }
    }

    /// Returns the boots that were heard recently enough to keep their slots from being given up
    /// (G1).
    fn heard(&self, now: Duration) -> BTreeSet<Boot> {
        let is_recent = |at: &Duration| now.saturating_sub(*at) < HEARD;
        let heard = self.agenda.heard.iter().filter(|(_, at)| is_recent(at));
        heard.map(|(boot, _)| *boot).collect()
    }

    /// Sends a member what it has to answer, if it is a question.
    fn ask_member(&mut self, to: Boot, message: cluster::Message, now: Duration) {
        use cluster::Message::{Accept, AskLease, Prepare};
        if matches!(message, Prepare(_) | Accept(..) | AskLease { .. }) {
            self.on_awaited(to, now);
        }
        self.send(to, Message::Cluster(message), now);
    }

    fn on_hello(&mut self, from: Boot, hello: Hello, asks: bool, now: Duration) {
        if hello.member.boot != from {
            return;
        }
        let in_sight = hello.in_sight;
        self.peers.on_hello(hello, now);
        self.fetch_sight(from, in_sight, now);
        if asks {
            let hello = Box::new(self.hello_at(now));
            self.send(from, Message::Hello { hello, asks: false }, now);
        } else {
            self.answered(from, now);
        }
    }

    /// Asks a node without an epoch for a later one than this node's that it heard of: all that were in it
    /// may be gone.
    fn fetch_sight(&mut self, from: Boot, in_sight: Option<EpochId>, now: Duration) {
        let both = self.epoch().map(|epoch| epoch.id()).zip(in_sight);
        let is_behind = both.is_some_and(|(own, theirs)| {
            own.lineage == theirs.lineage && own.number < theirs.number
        });
        if is_behind && self.peers.may(Courtesy::Fetch, from, now) {
            self.send(from, Message::Cluster(cluster::Message::Fetch), now);
        }
    }

    fn on_refused(&mut self, refusal: &Refusal) {
        let problem = Problem::Refused(refusal.clone());
        if self.epoch().is_none() && self.place.obstacle.as_ref() != Some(&problem) {
            self.effects.push(Effect::Refused(self.me.boot, refusal.clone()));
            self.place.obstacle = Some(problem);
        }
    }

    /// Notes what a node asks for, and tells a joiner what is in its way.
    fn on_ask(&mut self, from: Boot, changes: Vec<Change>, via: Option<Boot>, now: Duration) {
        let Some(epoch) = self.epoch().cloned() else {
            return;
        };
        for change in &changes {
            if let Change::Join(member) = change
                && !self.admits(&epoch, member, via, now)
            {
                return;
            }
        }
        self.agenda.asked.hear(from, changes, now);
    }

    fn admits(&mut self, epoch: &Epoch, node: &Member, via: Option<Boot>, now: Duration) -> bool {
        let listed_in = self.peers.get(node.boot).and_then(|peer| peer.hello()?.listed_in);
        let was_listed = listed_in.is_some_and(|id| id.lineage == epoch.id().lineage);
        let is_replaced = was_listed && epoch.member(node.boot).is_none();
        let replaced = Some(Refusal::Replaced);
        let replaced = replaced.filter(|_| is_replaced && self.terms.rules.keep(Rule::I2));
        if let Some(refusal) = replaced.or_else(|| wishes::refusal(epoch, node)) {
            if self.peers.is_news(node.boot, &refusal) {
                self.effects.push(Effect::Refused(node.boot, refusal.clone()));
            }
            self.reply(node.boot, via, Message::Refused(refusal));
            return false;
        }
        let old = epoch.named(&node.name).filter(|old| old.role != Role::Aside);
        if let Some(old) = old.filter(|old| old.boot != node.boot) {
            self.reply(node.boot, via, Message::Wait);
            if old.boot != self.me.boot {
                let word = self.suspicion.doubt_again(old.boot, now);
                self.say(word, now);
            }
        }
        true
    }
}

/// Epochs.
impl Membership {
    /// Goes by an epoch that another node sent, if it prevails over this node's.
    fn on_epoch(&mut self, from: Boot, epoch: &Arc<Epoch>, via: Option<Boot>, now: Duration) {
        let Some(own) = self.epoch().cloned() else {
            self.peers.compare(from, epoch.id());
            return self.on_sight(epoch, now);
        };
        if epoch.id() == own.id() {
            return;
        }
        let relation = relation(epoch, &own, self.terms.rules);
        let is_lost = self.peers.get(from).is_some_and(|peer| peer.is_lost(now));
        if relation == Relation::Prevails && is_lost {
            // It may be the epoch of a node that is alone in it: compared again, once it has a majority.
            return;
        }
        self.peers.compare(from, epoch.id());
        match relation {
            Relation::Descends if epoch.id().lineage == own.id().lineage => {
                let message = cluster::Message::Epoch(Arc::clone(epoch));
                self.in_cluster(from, message, now);
            }
            Relation::Descends | Relation::Prevails => self.follow(epoch, &own, now),
            Relation::Foreign => self.effects.push(Effect::Conflict(epoch.id())),
            Relation::Ancestor | Relation::Yields => {
                if self.peers.may(Courtesy::Tell, from, now) {
                    self.tell(from, via);
                }
            }
        }
    }

    /// Goes over to another lineage.
    fn follow(&mut self, epoch: &Arc<Epoch>, own: &Epoch, now: Duration) {
        let descends = epoch.descends_from(own.id());
        let other = epoch.named(&self.me.name).filter(|member| member.boot != self.me.boot);
        if epoch.member(self.me.boot).is_some() {
            self.enter(epoch, now);
        } else if other.is_some() && descends && self.terms.rules.keep(Rule::I2) {
            self.place.end = Some(End::Replaced);
        } else {
            self.aim_at(epoch, now);
        }
    }

    /// Notes an epoch while this node has none.
    fn on_sight(&mut self, epoch: &Arc<Epoch>, now: Duration) {
        let is_better = |target: &Arc<Epoch>| {
            let relation = relation(epoch, target, self.terms.rules);
            matches!(relation, Relation::Descends | Relation::Prevails)
        };
        if self.place.target.as_ref().is_some_and(|target| !is_better(target)) {
            return;
        }
        if epoch.member(self.me.boot).is_some() {
            self.enter(epoch, now);
        } else {
            self.aim_at(epoch, now);
        }
    }

    fn aim_at(&mut self, epoch: &Arc<Epoch>, now: Duration) {
        self.place.target = Some(Arc::clone(epoch));
        self.place.target_heard = now;
    }

    /// Enters an epoch as a member, other than by the choice of the epoch before it.
    fn enter(&mut self, epoch: &Arc<Epoch>, now: Duration) {
        let Terms { timing, rules, .. } = self.terms;
        // Leases that it granted in the lineage before may run.
        if self.place.cluster.is_some() {
            self.place.silent_until = now + timing.wait;
        }
        self.place.cluster =
            Some(Cluster::new(self.me.boot, Arc::clone(epoch), timing, rules, now));
        self.on_learned(epoch, now);
    }

    /// Begins an epoch, or ends if it does not list this boot.
    fn on_learned(&mut self, epoch: &Arc<Epoch>, now: Duration) {
        let is_new_lineage = self.place.listed_in.is_none_or(|id| id.lineage != epoch.id().lineage);
        if is_new_lineage {
            self.recovery = Recovery::default();
        }
        self.recovery.attempt = None;
        if self.place.target.as_ref().is_some_and(|target| {
            !matches!(relation(target, epoch, self.terms.rules), Relation::Prevails)
        }) {
            self.place.target = None;
        }
        self.agenda.turns.reset();
        self.agenda.spread.end();
        self.agenda.said = None;
        self.agenda.wishes.on_epoch(epoch);
        self.peers.forget_comparisons();
        self.note_members(epoch, now);
        match epoch.member(self.me.boot) {
            Some(_) => {
                (self.place.listed_in, self.place.obstacle) = (Some(epoch.id()), None);
            }
            None if self.agenda.wishes.drain == Some(Drain::Leave) => {
                self.place.end = Some(End::Left);
            }
            None if self.terms.rules.keep(Rule::I2) => self.place.end = Some(End::Replaced),
            None => {
                self.place.cluster = None;
                self.aim_at(epoch, now);
                return;
            }
        }
        self.effects.push(Effect::Learned(Arc::clone(epoch)));
    }

    fn note_members(&mut self, epoch: &Epoch, now: Duration) {
        let members = epoch.members().iter().map(|member| member.boot).collect();
        self.suspicion.keep(&members);
        self.agenda.heard.retain(|boot, _| members.contains(boot));
        let aside = epoch.members().iter().filter(|member| member.role == Role::Aside);
        let aside: BTreeSet<_> = aside.map(|member| member.boot).collect();
        self.agenda.aside.retain(|boot, _| aside.contains(boot));
        for boot in aside {
            self.suspicion.forget(boot);
            self.agenda.aside.entry(boot).or_insert(now);
        }
    }

    /// Tells an epoch that this node chose to all that are concerned, until they know it.
    fn tell_all(&mut self, boots: Vec<Boot>, now: Duration) {
        let Some(epoch) = self.place.cluster.as_ref().map(|cluster| Arc::clone(cluster.epoch()))
        else {
            return;
        };
        for boot in &boots {
            self.on_awaited(*boot, now);
            let message = cluster::Message::Epoch(Arc::clone(&epoch));
            self.send(*boot, Message::Cluster(message), now);
        }
        self.agenda.spread.begin(epoch.id(), boots.into_iter(), now);
    }

    fn spread(&mut self, now: Duration) {
        for boot in self.agenda.spread.due(now, |boot| self.peers.is_linked(boot)) {
            self.on_awaited(boot, now);
            if let Some(epoch) = self.epoch().cloned() {
                self.send(boot, Message::Cluster(cluster::Message::Epoch(epoch)), now);
            }
        }
    }

    /// Sends another node the epoch that this one is in, or asks to join.
    fn tell(&mut self, to: Boot, via: Option<Boot>) {
        if let Some(epoch) = self.epoch().or(self.place.target.as_ref()).cloned() {
            self.reply(to, via, Message::Cluster(cluster::Message::Epoch(epoch)));
        }
    }

    /// Ends, once the other nodes know that this one left.
    fn end(&mut self) {
        let Some(end) = self.place.end else {
            return;
        };
        if end == End::Replaced || self.agenda.spread.is_over() {
            self.place.has_ended = true;
            self.effects.push(Effect::Ended(end));
        }
    }
}

/// Starts the work that needs no message: proposals and requests.
impl Membership {
    /// Says who this node is: on a new link until the other one answers, and as long as a majority is
    /// missing, or a service.
    fn greet(&mut self, now: Duration) {
        let settled = self.epoch().filter(|_| self.recovery.lost.is_none());
        let settled = settled.map(|epoch| epoch.id());
        let greeted = self.peers.due_greetings(settled, now);
        if greeted.is_empty() {
            return;
        }
        let hello = self.hello_at(now);
        for boot in greeted {
            let hello = Box::new(hello.clone());
            self.send(boot, Message::Hello { hello, asks: true }, now);
        }
    }

    /// Asks the voters for what this node wants.
    fn ask(&mut self, now: Duration) {
        let is_gone = now.saturating_sub(self.place.target_heard) > TARGET_GONE;
        if is_gone && self.place.target.take().is_some() {
            self.place.obstacle = None;
            self.peers.forget_comparisons();
        }
        let epoch = self.place.target.as_ref().or(self.epoch()).cloned();
        let Some(epoch) = epoch.filter(|_| self.place.end.is_none()) else {
            return;
        };
        let asks = self.agenda.wishes.asks(&self.me, &epoch);
        let is_said = |(at, said): &(Duration, Vec<Change>)| {
            *said == asks && now.saturating_sub(*at) < ASK_AGAIN
        };
        if asks.is_empty() || self.agenda.said.as_ref().is_some_and(is_said) {
            return;
        }
        let me = self.me.boot;
        for voter in epoch.voters().into_iter().filter(|voter| *voter != me) {
            self.send(voter, Message::Ask(asks.clone()), now);
        }
        self.agenda.said = Some((now, asks));
    }

    /// The changes that this node would propose now.
    fn wanted(&self, now: Duration) -> Vec<Change> {
        let Some(epoch) = self.epoch() else {
            return Vec::new();
        };
        let rules = self.terms.rules;
        let voters = epoch.voters();
        let out_of_reach = self.suspicion.out_of_reach(self.me.boot, &voters, now, rules);
        let long_aside = self.aside_for(LOSE_VOTE, now).collect();
        let is_silent = |boot: &Boot| !self.peers.is_heard(*boot, now);
        let forgotten = self.aside_for(FORGET, now).filter(is_silent).collect();
        let own = self.agenda.wishes.asks(&self.me, epoch);
        let situation = Situation {
            epoch,
            out_of_reach: &out_of_reach,
            long_aside: &long_aside,
            forgotten: &forgotten,
        };
        wishes::wanted(&situation, own.iter().chain(self.agenda.asked.fresh(now)), rules)
    }

    /// Returns the members that are aside for the given time, to this node's knowledge.
    fn aside_for(&self, span: Duration, now: Duration) -> impl Iterator<Item = Boot> {
        let is_long = move |(_, since): &(&Boot, &Duration)| now.saturating_sub(**since) >= span;
        self.agenda.aside.iter().filter(is_long).map(|(boot, _)| *boot)
    }

    /// Proposes the next epoch, if it is this node's turn.
    fn propose(&mut self, now: Duration) {
        let Some(cluster) = &self.place.cluster else {
            return;
        };
        let (epoch, has_promised) = (Arc::clone(cluster.epoch()), cluster.has_promised());
        let has_majority = self.recovery.lost.is_none();
        let is_free = !self.recovery.acceptor.has_surrendered() && has_majority;
        if !epoch.is_voter(self.me.boot) || !is_free {
            return;
        }
        let wanted = self.wanted(now);
        let rank = self.rank(&epoch, now);
        let wish = Wish { rank, is_wanted: !wanted.is_empty(), has_promised };
        if !self.agenda.turns.is_due(wish, now, self.terms.rules) {
            return;
        }
        let refused = self.agenda.turns.begin(now, &mut self.random);
        if let Some(cluster) = &mut self.place.cluster {
            let effects = cluster.want_above(refused, wanted);
            self.absorb(effects, now);
        }
    }

    /// The place of this node among the voters in sight, by name.
    fn rank(&self, epoch: &Epoch, now: Duration) -> u32 {
        let members = epoch.members().iter();
        let before = members.take_while(|member| member.boot != self.me.boot);
        let in_sight = before.filter(|member| member.votes && self.is_in_sight(member, now));
        in_sight.filter(|member| member.role != Role::Aside).count() as u32
    }

    fn is_in_sight(&self, member: &Member, now: Duration) -> bool {
        let is_there = member.role != Role::Aside || self.peers.is_heard(member.boot, now);
        member.boot == self.me.boot || is_there && !self.suspicion.suspects(member.boot)
    }

    /// Founds a service.
    fn found(&mut self, now: Duration) {
        let is_free =
            self.epoch().is_none() && self.place.target.is_none() && self.place.listed_in.is_none();
        let me = (&self.me.name, self.me.boot);
        let discovery = self.discovery.as_ref();
        if !is_free || !founding::may_found(me, discovery, &self.peers, now, self.terms.rules) {
            return;
        }
        let (lineage, key) = (self.random.lineage(), self.random.key());
        let epoch = Arc::new(Epoch::found(lineage, key, self.terms.settings, self.me.clone()));
        self.enter(&epoch, now);
    }

    /// Asks for a lease, if one is needed.
    fn lease(&mut self, now: Duration) {
        let Some(cluster) = &mut self.place.cluster else {
            return;
        };
        let is_due = self.agenda.leases.is_due(cluster.lease_state(), self.terms.timing, now);
        if is_due && !self.recovery.acceptor.has_surrendered() {
            let effects = cluster.ask_lease(now);
            self.absorb(effects, now);
        }
    }
}

/// Does the work of a node without a majority.
impl Membership {
    fn note_loss(&mut self, now: Duration) {
        let Some(epoch) = self.epoch().cloned() else {
            self.recovery.lost = None;
            return;
        };
        let voters = epoch.members().iter().filter(|member| member.votes);
        let in_sight = voters.filter(|member| self.is_in_sight(member, now)).count();
        let is_lost = in_sight < epoch.quorum();
        self.recovery.lost = is_lost.then(|| self.recovery.lost.unwrap_or(now));
    }

    /// Founds a lineage, once everything is there that this needs.
    fn recover(&mut self, now: Duration) {
        let is_concerned = match self.epoch() {
            Some(_) => self.recovery.lost.is_some() || self.recovery.acceptor.has_surrendered(),
            None => self.place.target.is_some(),
        };
        let epoch = self.epoch().or(self.place.target.as_ref()).filter(|_| is_concerned).cloned();
        let there = epoch.and_then(|epoch| Some((self.founders(&epoch, now).ok()?, epoch)));
        let Some((members, epoch)) =
            there.filter(|(there, epoch)| self.is_lost_for_good(there, epoch))
        else {
            self.recovery.able = None;
            return;
        };
        let able = *self.recovery.able.get_or_insert(now);
        let me = (&self.me.name, self.me.boot);
        let rank = members.values().filter(|member| (&member.name, member.boot) < me).count();
        let is_wanted = now.saturating_sub(able) >= SETTLE;
        let wish = Wish { rank: rank as u32, is_wanted, has_promised: false };
        if self.recovery.turns.is_due(wish, now, self.terms.rules) {
            self.surrender(&epoch, members, now);
        }
    }

    /// Returns true if the present boots are not a majority of the voters of an epoch.
    fn is_lost_for_good(&self, there: &BTreeMap<Boot, Member>, epoch: &Epoch) -> bool {
        let own = there.keys().filter(|boot| epoch.is_voter(**boot)).count();
        own < epoch.quorum() || self.recovery.acceptor.has_surrendered()
    }

    fn founders(&self, epoch: &Epoch, now: Duration) -> Result<BTreeMap<Boot, Member>, Vec<Name>> {
        let is_called = self.recovery.called == Some(epoch.id());
        let rules = self.terms.rules;
        let is_silent = |discovery: &Discovery| !discovery.silent.is_empty();
        let is_waiting = self.discovery.as_ref().is_none_or(is_silent);
        if is_waiting && !is_called && rules.keep(Rule::M1) {
            return Err(Vec::new());
        }
        let me = (&self.me, self.place.listed_in);
        founders(epoch, me, &self.peers, now, (is_called, rules))
    }

    /// Begins a ballot on the lineage that follows a lost one.
    fn surrender(&mut self, from: &Arc<Epoch>, members: BTreeMap<Boot, Member>, now: Duration) {
        let refused = self.recovery.turns.begin(now, &mut self.random);
        let tried = self.recovery.attempt.as_ref().map_or(0, |attempt| attempt.id().1.number);
        let Some(number) = refused.max(tried).checked_add(1) else {
            return;
        };
        let ballot = Ballot { number, proposer: self.me.boot };
        let attempt = Attempt::new(Arc::clone(from), ballot, members);
        let boots: Vec<_> = attempt.acceptors().collect();
        self.recovery.attempt = Some(attempt);
        self.ask_all(boots, &Message::Surrender(from.id(), ballot), now);
    }

    fn on_recovery(&mut self, from: Boot, message: Message, via: Option<Boot>, now: Duration) {
        match message {
            Message::Surrender(id, ballot) if self.may_surrender(id) => {
                if self.place.cluster.is_none() {
                    self.recovery.acceptor.turn_to(id);
                }
                let answer = self.recovery.acceptor.surrender(id, ballot, now);
                let answer = answer.map(|accepted| Message::Surrendered(id, ballot, accepted));
                self.answer_ballot(from, (id, ballot), answer, via, now);
            }
            Message::Found(id, ballot, epoch) if self.may_surrender(id) => {
                let answer = self.recovery.acceptor.accept(id, ballot, &epoch, now);
                let answer = answer.map(|()| Message::Founded(id, ballot));
                self.answer_ballot(from, (id, ballot), answer, via, now);
            }
            Message::Surrendered(id, ballot, accepted) => {
                self.answered(from, now);
                self.on_surrendered(from, (id, ballot), accepted, now);
            }
            Message::Founded(id, ballot) => {
                self.answered(from, now);
                self.on_founded(from, (id, ballot), now);
            }
            Message::Declined(_, ballot) => {
                self.recovery.turns.on_refused(ballot.number, now, &mut self.random);
            }
            _ => {}
        }
    }

    /// Returns true if this boot has no majority itself, and knows of no epoch after the given one.
    fn may_surrender(&self, id: EpochId) -> bool {
        let is_before =
            |epoch: &Arc<Epoch>| epoch.id().lineage == id.lineage && epoch.id().number <= id.number;
        self.epoch().is_none_or(is_before)
    }

    fn answer_ballot(
        &mut self,
        to: Boot,
        (id, ballot): (EpochId, Ballot),
        answer: Result<Message, Declined>,
        via: Option<Boot>,
        now: Duration,
    ) {
        if to != self.me.boot {
            self.recovery.turns.on_ballot(ballot.number, now);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(Declined::Higher(higher)) => Message::Declined(id, higher),
            Err(Declined::Elsewhere) => return,
        };
        match to == self.me.boot {
            true => self.on_recovery(to, answer, None, now),
            false => self.reply(to, via, answer),
        }
    }

    fn on_surrendered(
        &mut self,
        from: Boot,
        id: (EpochId, Ballot),
        accepted: Option<(Ballot, Arc<Epoch>)>,
        now: Duration,
    ) {
        let Some(attempt) = &mut self.recovery.attempt else {
            return;
        };
        let (random, name) = (&mut self.random, &self.me.name);
        let proposed = attempt.on_surrendered(from, id, accepted, |lost, members| {
            lost.found_again(random.lineage(), name.clone(), members)
        });
        if let Some(epoch) = proposed {
            let boots: Vec<_> = attempt.acceptors().collect();
            self.ask_all(boots, &Message::Found(id.0, id.1, epoch), now);
        }
    }

    fn on_founded(&mut self, from: Boot, id: (EpochId, Ballot), now: Duration) {
        let attempt = self.recovery.attempt.as_mut();
        if let Some(epoch) = attempt.and_then(|attempt| attempt.on_founded(from, id)) {
            self.enter_first(&epoch, now);
        }
    }

    /// Enters the first epoch of a lineage, and tells all that it concerns.
    fn enter_first(&mut self, epoch: &Arc<Epoch>, now: Duration) {
        let linked = self.peers.iter().filter(|(_, peer)| peer.is_linked()).map(|(boot, _)| boot);
        let members = epoch.members().iter().map(|member| member.boot);
        let concerned: BTreeSet<_> = linked.chain(members).collect();
        self.enter(epoch, now);
        let others = concerned.into_iter().filter(|boot| *boot != self.me.boot);
        self.tell_all(others.collect(), now);
    }

    fn ask_all(&mut self, boots: Vec<Boot>, message: &Message, now: Duration) {
        for boot in boots {
            match boot == self.me.boot {
                true => self.on_recovery(boot, message.clone(), None, now),
                false => self.send(boot, message.clone(), now),
            }
        }
    }

    /// Goes on without the majority, under `Degrade`.
    fn split(&mut self, now: Duration) {
        let Some(lost) = self.recovery.lost else {
            return;
        };
        let Some(epoch) = self.epoch().cloned() else {
            return;
        };
        let is_member = |member: &Member| member.role != Role::Aside;
        let is_free = epoch.member(self.me.boot).is_some_and(is_member)
            && epoch.policy() == PartitionPolicy::Degrade
            && !self.recovery.acceptor.has_surrendered();
        let members = epoch.members().iter();
        let in_sight: BTreeSet<_> = members
            .filter(|member| self.is_in_sight(member, now))
            .map(|member| member.boot)
            .collect();
        let before = epoch.members().iter().take_while(|member| member.boot != self.me.boot);
        let rank = before.filter(|member| in_sight.contains(&member.boot) && is_member(member));
        let turn = SPLIT + TURN.saturating_mul(rank.count() as u32);
        if is_free && now.saturating_sub(lost) >= turn {
            let name = self.me.name.clone();
            let first = Arc::new(epoch.split(self.random.lineage(), name, &in_sight));
            self.enter_first(&first, now);
        }
    }
}

/// Suspicion, and ways to other nodes.
impl Membership {
    /// Returns true if the silence of a boot matters: it is a member that is not aside.
    fn is_counted(&self, boot: Boot) -> bool {
        let member = self.epoch().and_then(|epoch| epoch.member(boot));
        boot != self.me.boot && member.is_some_and(|member| member.role != Role::Aside)
    }

    fn answered(&mut self, boot: Boot, now: Duration) {
        if self.is_counted(boot) {
            let word = self.suspicion.on_answer(boot, now);
            self.say(word, now);
        }
    }

    fn say(&mut self, word: Option<Word>, now: Duration) {
        match word {
            None => {}
            Some(Word::Ping(boot)) => self.ping(boot),
            Some(Word::Suspect(boot)) => {
                let why = self.suspicion.why(boot, now);
                self.effects.extend(why.map(|why| Effect::Suspected(boot, why)));
                self.send_voters(&Message::Suspect(boot), now);
            }
            Some(Word::Trust(boot)) => self.send_voters(&Message::Trust(boot), now),
        }
    }

    fn send_voters(&mut self, message: &Message, now: Duration) {
        let voters = self.epoch().map(|epoch| epoch.voters()).unwrap_or_default();
        let me = self.me.boot;
        for voter in voters.into_iter().filter(|voter| *voter != me) {
            self.send(voter, message.clone(), now);
        }
    }

    /// Asks a boot whether it is there, directly and through two others.
    fn ping(&mut self, boot: Boot) {
        if self.peers.is_linked(boot) {
            self.send_over(boot, Message::Ping);
        }
        self.send_by_relays(boot, &Message::Ping, 2);
    }

    /// Sends a message: directly, and through another node if there is no link or answers are late.
    fn send(&mut self, to: Boot, message: Message, now: Duration) {
        let is_linked = self.peers.is_linked(to);
        if !is_linked || self.suspicion.is_late(to, now) {
            self.send_by_relays(to, &message, 1);
        }
        if is_linked {
            self.send_over(to, message);
        }
    }

    /// Answers the way that a question came, and directly.
    fn reply(&mut self, to: Boot, via: Option<Boot>, message: Message) {
        if let Some(relay) = via {
            let frame = Box::new(self.frame(message.clone()));
            self.send_over(relay, Message::Relay { to, frame });
        }
        if self.peers.is_linked(to) {
            self.send_over(to, message);
        }
    }

    fn send_by_relays(&mut self, to: Boot, message: &Message, count: usize) {
        let suspicion = &self.suspicion;
        for relay in self.peers.relays(to, count, |relay| !suspicion.suspects(relay)) {
            let frame = Box::new(self.frame(message.clone()));
            self.send_over(relay, Message::Relay { to, frame });
        }
    }

    fn send_over(&mut self, link: Boot, message: Message) {
        let frame = self.frame(message);
        self.effects.push(Effect::Send(link, frame));
    }

    fn frame(&self, message: Message) -> Frame {
        Frame { from: self.me.boot, epoch: self.epoch().map(|epoch| epoch.id()), message }
    }
}

/// The silence of a member after which its slots may be given up.
const HEARD: Duration = Duration::from_secs(60);

/// The interval at which a node repeats its requests to the voters.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The time for which this node remembers a service that it asked to join and has not heard from.
const TARGET_GONE: Duration = Duration::from_secs(2);

/// The time for which a member that is aside keeps its vote. A process or a small machine restarts
/// in less.
const LOSE_VOTE: Duration = Duration::from_secs(60);

/// The time for which a member that is aside is expected back: as long as the ends of sessions are
/// remembered. After that, its sessions may have ended without any node remembering it.
const FORGET: Duration = Duration::from_secs(24 * 60 * 60);

/// The time after which a side without a majority goes on by itself under `Degrade`.
const SPLIT: Duration = Duration::from_millis(300);

/// The time for which everything that a new lineage needs has to be available.
const SETTLE: Duration = Duration::from_millis(300);
