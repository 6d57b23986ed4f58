//! Take-over: a new owner collects all acknowledged writes before it serves a slot.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_core::RecordId;

use crate::epoch::Epoch;
use crate::member::Boot;
use crate::message::Message;
use crate::record::Held;
use crate::replicas::{Inspection, Mark, Page, Replicas, Summary};
use crate::rules::{Rule, Rules};
use crate::slots::Slot;

/// Step 2 of the take-over of a slot: hearing its holders, and taking what they have.
#[derive(Clone, Debug)]
pub struct TakeOver {
    slot: Slot,
    me: Boot,
    epoch: u64,
    sources: Sources,
    heard: BTreeMap<Boot, Inspection>,
    stage: Stage,
    rules: Rules,
}

/// The nodes that may have what was acknowledged.
#[derive(Clone, Debug)]
struct Sources {
    /// The epoch in which the slot was last served.
    last: u64,
    /// Its holders then. In a slot that was given up: all members.
    boots: BTreeSet<Boot>,
    /// The number of them that can be missing, because a write waited for that many.
    spare: usize,
    is_given_up: bool,
    /// Members that are not waited for in a slot that was given up.
    lost: BTreeSet<Boot>,
}

#[derive(Clone, Debug)]
enum Stage {
    Hearing,
    /// The slots that each of these still has to list.
    Listing {
        sources: BTreeSet<Boot>,
        found: BTreeMap<RecordId, Found>,
    },
    Fetching(Fetching),
    Through,
}

/// The awaited and the received records. They are put in place in one step: a copy that claims to
/// be complete never lacks a record.
#[derive(Clone, Debug, Default)]
struct Fetching {
    /// The records that each of these still has to send.
    lacking: BTreeMap<Boot, Vec<RecordId>>,
    fetched: Vec<(RecordId, Held)>,
    /// Own records that no holder has, or that the copies of others override (T6).
    dropped: Vec<RecordId>,
}

/// The newest writes of a record, and where they were found.
#[derive(Clone, Debug, Default)]
struct Found {
    confirmed: Option<(Mark, Boot)>,
    tentative: Option<(Mark, Boot)>,
    /// Other confirmed states in a slot that was given up, one of which may be an end (D1).
    others: Vec<(Mark, Boot)>,
}

impl Found {
    fn note(&mut self, boot: Boot, summary: &Summary, is_given_up: bool) {
        let is_newer =
            |mark: Mark, part: Option<(Mark, Boot)>| part.is_none_or(|(best, _)| mark > best);
        if let Some(mark) = summary.tentative.filter(|mark| is_newer(*mark, self.tentative)) {
            self.tentative = Some((mark, boot));
        }
        let Some(mark) = summary.confirmed else {
            return;
        };
        let mut other = Some((mark, boot));
        if is_newer(mark, self.confirmed) {
            std::mem::swap(&mut self.confirmed, &mut other);
        }
        let known = self.confirmed.iter().chain(&self.others).map(|(mark, _)| *mark);
        let known: Vec<_> = known.collect();
        self.others.extend(other.filter(|(mark, _)| is_given_up && !known.contains(mark)));
    }

    /// The nodes that have a part of it.
    fn boots(&self) -> BTreeSet<Boot> {
        let newest = self.confirmed.iter().chain(&self.tentative);
        newest.chain(&self.others).map(|(_, boot)| *boot).collect()
    }
}

/// Messages to send.
pub type Sends = Vec<(Boot, Message)>;

impl TakeOver {
    /// Begins with the slot of an epoch whose owner this node is.
    pub fn new(slot: Slot, me: Boot, epoch: &Epoch, rules: Rules) -> Self {
        let sources = Sources::of(slot, epoch);
        let (heard, stage) = (BTreeMap::new(), Stage::Hearing);
        Self { slot, me, epoch: epoch.id().number, sources, heard, stage, rules }
    }

    /// The nodes that have to be asked.
    pub fn to_ask(&self) -> impl Iterator<Item = Boot> {
        let others = self.sources.boots.iter().filter(|boot| **boot != self.me);
        others.copied().filter(|boot| !self.heard.contains_key(boot))
    }

    /// Returns true if enough holders can no longer be heard: each missing one is not a member, or
    /// has not answered for too long (G1).
    pub fn is_hopeless(&self, is_gone: impl Fn(Boot) -> bool) -> bool {
        let is_hearing = matches!(self.stage, Stage::Hearing) && !self.sources.is_given_up;
        let missing = |boot: &&Boot| !self.heard.contains_key(boot);
        is_hearing
            && !self.has_heard_enough()
            && self.sources.boots.iter().filter(missing).all(|boot| is_gone(*boot))
    }

    /// The holders when last served that did not answer.
    pub fn silent(&self) -> impl Iterator<Item = Boot> {
        let is_silent = |boot: &Boot| !self.heard.contains_key(boot);
        self.sources.boots.iter().copied().filter(is_silent)
    }

    /// Returns true if this node has all acknowledged writes.
    pub fn is_through(&self) -> bool {
        matches!(self.stage, Stage::Through)
    }

    /// Begins: an owner that follows itself has everything, a holder hears itself.
    pub fn begin(&mut self, owner_before: Option<Boot>, replicas: &mut Replicas) -> Sends {
        if owner_before == Some(self.me) && !self.sources.is_given_up {
            self.stage = Stage::Through;
            return Vec::new();
        }
        match self.sources.boots.contains(&self.me) {
            true => self.on_inspected(self.me, replicas.inspect(self.slot), replicas),
            false => self.go_on(replicas),
        }
    }

    /// A holder answered, in this epoch.
    pub fn on_inspected(&mut self, from: Boot, part: Inspection, replicas: &mut Replicas) -> Sends {
        if self.sources.boots.contains(&from) {
            self.heard.insert(from, part);
        }
        self.go_on(replicas)
    }

    /// A member of a slot that was given up is not waited for any more.
    pub fn on_lost(&mut self, boot: Boot, replicas: &mut Replicas) -> Sends {
        self.sources.lost.insert(boot);
        self.go_on(replicas)
    }

    fn go_on(&mut self, replicas: &mut Replicas) -> Sends {
        if !matches!(self.stage, Stage::Hearing) || !self.has_heard_enough() {
            return Vec::new();
        }
        let own = replicas.inspect(self.slot);
        let has_evidence = |part: &Inspection| part.complete_in >= self.since();
        let is_equal = |part: &Inspection| {
            part.digest == own.digest && !part.is_tentative && has_evidence(part)
        };
        let others: BTreeSet<_> = self.heard.keys().copied().filter(|b| *b != self.me).collect();
        let own_counts = self.heard.get(&self.me).is_none_or(has_evidence);
        let all_equal = others.iter().all(|boot| is_equal(&self.heard[boot]));
        let is_own_right = !others.is_empty() || self.heard.contains_key(&self.me);
        let has_own_tentative = own.is_tentative && !self.heard.contains_key(&self.me);
        if all_equal && own_counts && is_own_right && !has_own_tentative {
            self.stage = Stage::Through;
            return Vec::new();
        }
        let found = self.own(replicas);
        let pull = |boot: &Boot| (*boot, self.pull(*boot, None));
        let sends = others.iter().map(pull).collect();
        self.stage = Stage::Listing { sources: others, found };
        self.choose(replicas, sends)
    }

    /// All holders when last served but as many as a write did without, and one of them has everything
    /// (T2, T3). In a slot that was given up: all members that can still be heard.
    fn has_heard_enough(&self) -> bool {
        let Sources { last, boots, spare, is_given_up, lost } = &self.sources;
        let missing = boots.iter().filter(|boot| !self.heard.contains_key(boot));
        if *is_given_up {
            return missing.filter(|boot| !lost.contains(boot)).count() == 0;
        }
        let is_complete = |part: &Inspection| part.complete_in >= Some(*last);
        let spare = if self.rules.keep(Rule::T2) { *spare } else { boots.len() };
        let is_complete = self.heard.values().any(is_complete) || !self.rules.keep(Rule::T3);
        missing.count() <= spare && is_complete
    }

    /// The epoch from which on copies of holders count that were not complete in it.
    fn since(&self) -> Option<u64> {
        match self.sources.is_given_up {
            true if self.rules.keep(Rule::G2) => {
                self.heard.values().filter_map(|part| part.complete_in).max()
            }
            true => None,
            false => Some(self.sources.last),
        }
    }

    /// Asks a holder what it has: all of it, if it was complete; else what owners sent it since (T5).
    fn pull(&self, boot: Boot, after: Option<RecordId>) -> Message {
        let since = self.since();
        let is_complete = self.heard.get(&boot).is_some_and(|part| part.complete_in >= since);
        let all = is_complete || !self.rules.keep(Rule::T5);
        Message::Pull { slot: self.slot, since: since.filter(|_| !all), after }
    }

    /// Collects this node's own copies, if it was a holder.
    fn own(&self, replicas: &Replicas) -> BTreeMap<RecordId, Found> {
        let mut found = BTreeMap::new();
        if let Some(part) = self.heard.get(&self.me) {
            let since = self.since();
            let since = since.filter(|_| part.complete_in < since && self.rules.keep(Rule::T5));
            self.note(&mut found, self.me, &replicas.page(self.slot, None, since, usize::MAX));
        } else if !self.rules.keep(Rule::T6) {
            self.note(&mut found, self.me, &replicas.page(self.slot, None, None, usize::MAX));
        }
        found
    }

    /// Notes what a node has, where it is the newest.
    fn note(&self, found: &mut BTreeMap<RecordId, Found>, boot: Boot, page: &Page) {
        let keeps_all = self.sources.is_given_up && self.rules.keep(Rule::D1);
        for summary in &page.summaries {
            found.entry(summary.id).or_default().note(boot, summary, keeps_all);
        }
    }

    /// A holder listed some of what it has.
    pub fn on_page(&mut self, from: Boot, page: &Page, replicas: &mut Replicas) -> Sends {
        let Stage::Listing { sources, found } = &mut self.stage else {
            return Vec::new();
        };
        if !sources.contains(&from) {
            return Vec::new();
        }
        let mut all = std::mem::take(found);
        self.note(&mut all, from, page);
        let Stage::Listing { sources, found } = &mut self.stage else {
            return Vec::new();
        };
        *found = all;
        if let Some(next) = page.next {
            return vec![(from, self.pull(from, Some(next)))];
        }
        sources.remove(&from);
        self.choose(replicas, Vec::new())
    }

    /// Once all is listed, fetches what this node lacks.
    fn choose(&mut self, replicas: &mut Replicas, sends: Sends) -> Sends {
        let Stage::Listing { sources, found } = &mut self.stage else {
            return sends;
        };
        if !sources.is_empty() {
            return sends;
        }
        let found = std::mem::take(found);
        let everything = Page { after: None, summaries: Vec::new(), next: None };
        let own = replicas.ids(self.slot, &everything);
        let is_gone = |id: &RecordId| !found.contains_key(id);
        let dropped = own.into_iter().filter(is_gone).collect();
        let mut fetching = Fetching { dropped, ..Fetching::default() };
        found.into_iter().for_each(|(id, found)| self.look_for(id, found, replicas, &mut fetching));
        self.stage = Stage::Fetching(fetching);
        self.fetch_first(replicas)
    }

    /// Notes from which nodes a record has to be fetched, unless it is here.
    fn look_for(
        &self,
        id: RecordId,
        mut found: Found,
        replicas: &Replicas,
        fetching: &mut Fetching,
    ) {
        let confirmed = found.confirmed.map(|(mark, _)| mark);
        let newer = |(mark, _): &(Mark, Boot)| {
            confirmed.is_none_or(|confirmed| mark.revision > confirmed.revision)
        };
        found.tentative = found.tentative.filter(newer);
        let newest = Some((confirmed, found.tentative.map(|(mark, _)| mark)));
        let own = replicas.get(id).map(|held| replicas.summary(id, held));
        let own = own.map(|own| (own.confirmed, own.tentative));
        if own == newest && found.others.is_empty() {
            return;
        }
        let mut boots = found.boots();
        if !boots.remove(&self.me) {
            fetching.dropped.push(id);
        }
        for boot in boots {
            fetching.lacking.entry(boot).or_default().push(id);
        }
    }

    fn fetch_first(&mut self, replicas: &mut Replicas) -> Sends {
        let Stage::Fetching(fetching) = &self.stage else {
            return Vec::new();
        };
        let fetch = |(boot, ids): (&Boot, &Vec<RecordId>)| (*boot, self.fetch(ids));
        let sends: Sends = fetching.lacking.iter().map(fetch).collect();
        if sends.is_empty() {
            self.settle(replicas);
        }
        sends
    }

    fn fetch(&self, ids: &[RecordId]) -> Message {
        Message::Fetch { slot: self.slot, ids: ids[..ids.len().min(BATCH)].to_vec() }
    }

    /// A holder sent records that this node lacked.
    pub fn on_records(
        &mut self,
        from: Boot,
        records: Vec<(RecordId, Held)>,
        is_last: bool,
        replicas: &mut Replicas,
    ) -> Sends {
        let Stage::Fetching(fetching) = &mut self.stage else {
            return Vec::new();
        };
        let Some(ids) = fetching.lacking.get_mut(&from) else {
            return Vec::new();
        };
        fetching.fetched.extend(records);
        if !is_last {
            return Vec::new();
        }
        ids.drain(..ids.len().min(BATCH));
        if !ids.is_empty() {
            let ids = ids.clone();
            return vec![(from, self.fetch(&ids))];
        }
        fetching.lacking.remove(&from);
        if fetching.lacking.is_empty() {
            self.settle(replicas);
        }
        Vec::new()
    }

    /// Puts everything in place.
    fn settle(&mut self, replicas: &mut Replicas) {
        if let Stage::Fetching(fetching) = std::mem::replace(&mut self.stage, Stage::Through) {
            fetching.dropped.iter().for_each(|id| replicas.remove(*id));
            for (id, held) in fetching.fetched {
                replicas.merge(id, held, self.epoch);
            }
        }
    }
}

impl Sources {
    fn of(slot: Slot, epoch: &Epoch) -> Self {
        let last = epoch.last_served(slot);
        let is_given_up = epoch.is_given_up(slot);
        let boots = match is_given_up {
            true => epoch.members().iter().map(|member| member.boot).collect(),
            false => last.holders(slot).into_iter().collect(),
        };
        let spare = last.acknowledgements(slot);
        Self { last: last.number(), boots, spare, is_given_up, lost: BTreeSet::new() }
    }
}

/// The number of records fetched at a time.
const BATCH: usize = 64;
