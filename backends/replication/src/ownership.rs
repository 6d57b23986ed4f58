//! The state of each slot that this node owns: taking it over, settled, or ready to serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::RecordId;

use crate::context::{Context, View};
use crate::member::Boot;
use crate::message::Message;
use crate::record::Held;
use crate::replicas::{Inspection, Page};
use crate::roll::RollCall;
use crate::rules::{Rule, Rules};
use crate::slots::{Slot, SlotSet};
use crate::takeover::{Sends, TakeOver};

/// The slots that this node owns in an epoch.
#[derive(Debug, Default)]
pub struct Ownership {
    taking_over: BTreeMap<Slot, TakeOver>,
    /// Slots that were given up, and of which the lists are rebuilt.
    roll: RollCall,
    /// Slots of which everything is here, and since when: their other holders are being told.
    settled: BTreeMap<Slot, Duration>,
    ready: SlotSet,
    /// Slots that a lease of this epoch named: every later epoch knows their holders (A1).
    served: SlotSet,
    /// Slots that other nodes need not keep, once they are served and their holders are complete.
    kept: SlotSet,
    /// The time when this node learned the epoch.
    since: Duration,
    patience: Patience,
}

/// The time for which members have been asked. The time in which this node stood still does not
/// count: the others may have answered in it (S2).
#[derive(Debug, Default)]
struct Patience {
    looked: Duration,
    asked: Duration,
}

impl Patience {
    fn from(now: Duration) -> Self {
        Self { looked: now, asked: Duration::ZERO }
    }

    /// Returns the time for which they have been asked.
    fn pass(&mut self, now: Duration, rules: Rules) -> Duration {
        let passed = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        self.asked += if rules.keep(Rule::S2) { passed.min(STALL) } else { passed };
        self.asked
    }
}

/// The conditions that an owner waits for before it asks for a lease.
pub trait Progress {
    /// Returns true if a holder has everything of a slot, and knows it.
    fn is_complete(&self, holder: Boot, slot: Slot) -> bool;
    /// Returns true if no other node can still serve a slot.
    fn is_clear(&self, slot: Slot) -> bool;
}

impl Ownership {
    /// Begins with another epoch; says of which slots everything is here.
    pub fn on_epoch(&mut self, cx: &mut Context<'_>) -> Vec<Slot> {
        let patience = Patience::from(cx.now.mono);
        *self = Self { since: cx.now.mono, patience, ..Self::default() };
        let mut asked = BTreeMap::<Boot, SlotSet>::new();
        for slot in Slot::all().filter(|slot| cx.view.owns(*slot)) {
            let mut take_over = TakeOver::new(slot, cx.view.me, &cx.view.epoch, cx.rules);
            let owner_before = cx.view.epoch.last_served(slot).owner(slot);
            cx.out.send_all(take_over.begin(owner_before, cx.replicas));
            if !take_over.is_through() {
                let members = take_over.to_ask().filter(|b| cx.view.epoch.member(*b).is_some());
                members.for_each(|boot| asked.entry(boot).or_default().insert(slot));
            }
            self.taking_over.insert(slot, take_over);
        }
        let inspect = |(boot, slots)| (boot, Message::Inspect(slots));
        cx.out.send_all(asked.into_iter().map(inspect));
        self.settle(cx)
    }

    /// A holder told its part in slots.
    pub fn on_inspected(
        &mut self,
        from: Boot,
        parts: Vec<(Slot, Inspection)>,
        cx: &mut Context<'_>,
    ) -> Vec<Slot> {
        for (slot, part) in parts {
            self.on_part(slot, cx, |take_over, cx| take_over.on_inspected(from, part, cx.replicas));
        }
        self.settle(cx)
    }

    /// A holder listed some of what it has of a slot.
    pub fn on_page(
        &mut self,
        from: Boot,
        slot: Slot,
        page: &Page,
        cx: &mut Context<'_>,
    ) -> Vec<Slot> {
        self.on_part(slot, cx, |take_over, cx| take_over.on_page(from, page, cx.replicas));
        self.settle(cx)
    }

    /// A holder sent records.
    pub fn on_records(
        &mut self,
        from: Boot,
        slot: Slot,
        (records, is_last): (Vec<(RecordId, Held)>, bool),
        cx: &mut Context<'_>,
    ) -> Vec<Slot> {
        self.on_part(slot, cx, |take_over, cx| {
            take_over.on_records(from, records, is_last, cx.replicas)
        });
        self.settle(cx)
    }

    fn on_part(
        &mut self,
        slot: Slot,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut TakeOver, &mut Context<'_>) -> Sends,
    ) {
        if let Some(take_over) = self.taking_over.get_mut(&slot) {
            let sends = step(take_over, cx);
            cx.out.send_all(sends);
        }
    }

    /// Moves on the slots of which everything is here.
    fn settle(&mut self, cx: &mut Context<'_>) -> Vec<Slot> {
        let through = self.taking_over.iter().filter(|(_, take_over)| take_over.is_through());
        let through: SlotSet = through.map(|(slot, _)| *slot).collect();
        self.taking_over.retain(|slot, _| !through.contains(*slot));
        let is_lost = |slot: &Slot| cx.view.epoch.is_given_up(*slot) && cx.rules.keep(Rule::Q2);
        let lost = through.iter().filter(is_lost).collect();
        self.roll.note_lost(&lost);
        if self.taking_over.is_empty() {
            self.roll.call(cx);
        }
        let mut settled: Vec<_> = through.iter().filter(|slot| !lost.contains(*slot)).collect();
        settled.extend(self.roll.take_rebuilt(cx));
        for slot in &settled {
            self.settled.insert(*slot, cx.now.mono);
            self.kept.insert(*slot);
            cx.replicas.set_complete(*slot, cx.view.number());
        }
        settled
    }

    /// The owner of lists that were given up wants the sessions on them named.
    pub fn on_ask_names(&mut self, from: Boot, lists: SlotSet) {
        self.roll.on_ask(from, lists);
    }

    /// An owner named sessions.
    pub fn on_names(
        &mut self,
        from: Boot,
        slots: &SlotSet,
        (lists, is_last): (Vec<(RecordId, Held)>, bool),
        cx: &mut Context<'_>,
    ) -> Vec<Slot> {
        self.roll.on_names(from, slots, lists, is_last);
        self.settle(cx)
    }

    /// Names sessions to the owners of their lists, once everything of the own slots is here.
    pub fn name(&mut self, cx: &mut Context<'_>) -> Vec<Slot> {
        if self.taking_over.is_empty() {
            self.roll.answer(cx);
        }
        self.settle(cx)
    }

    /// The slots for which a lease can be asked: no other node serves them, and the other holders know that
    /// they have everything (T8), or had their time.
    pub fn make_ready(&mut self, progress: &impl Progress, cx: &Context<'_>) -> SlotSet {
        let mut ready = SlotSet::new();
        for (slot, since) in &self.settled {
            let is_late = cx.now.mono.saturating_sub(*since) >= HOLDERS;
            let others = cx.view.holders(*slot).iter().filter(|holder| **holder != cx.view.me);
            let mut open = others.filter(|holder| !progress.is_complete(**holder, *slot));
            // The next epoch takes a slot that was served once for one of which nothing was lost.
            let is_rebuilding =
                cx.view.epoch.is_given_up(*slot) && cx.replicas.has_tentative(*slot);
            let is_told = open.next().is_none() || !cx.rules.keep(Rule::T8);
            if (is_late || is_told && !is_rebuilding) && progress.is_clear(*slot) {
                ready.insert(*slot);
            }
        }
        self.settled.retain(|slot, _| !ready.contains(*slot));
        self.ready.insert_all(&ready);
        ready
    }

    /// The slots that other nodes need not keep from now on: all that are to hold them are complete, and a lease
    /// named them, so that no later epoch looks for their holders of before.
    pub fn take_free(
        &mut self,
        serves: impl Fn(Slot) -> bool,
        is_complete: impl Fn(Boot, Slot) -> bool,
        view: &View,
    ) -> SlotSet {
        if self.kept.is_empty() {
            return SlotSet::new();
        }
        let mut named = self.ready.clone();
        named.remove_all(&self.served);
        self.served.insert_all(&named.iter().filter(|slot| serves(*slot)).collect());
        let are_complete =
            |slot: &Slot| view.followers(*slot).iter().all(|b| is_complete(*b, *slot));
        let kept = self.kept.iter().filter(|slot| self.served.contains(*slot));
        let free: SlotSet = kept.filter(are_complete).collect();
        self.kept.remove_all(&free);
        free
    }

    /// The slots whose holders when last served will not be heard any more, by those of them that are members
    /// and did not answer (G1).
    pub fn hopeless(&mut self, cx: &Context<'_>) -> BTreeMap<BTreeSet<Boot>, SlotSet> {
        let is_late = self.patience.pass(cx.now.mono, cx.rules) >= ASKED;
        let is_late = is_late || !cx.rules.keep(Rule::G1);
        let is_member = |boot: &Boot| cx.view.epoch.member(*boot).is_some();
        let is_gone = |boot: Boot| is_late || !is_member(&boot);
        let mut hopeless = BTreeMap::<BTreeSet<Boot>, SlotSet>::new();
        for (slot, take_over) in &self.taking_over {
            if take_over.is_hopeless(is_gone) {
                let silent = take_over.silent().filter(is_member).collect();
                hopeless.entry(silent).or_default().insert(*slot);
            }
        }
        hopeless
    }

    /// Waits no longer, in slots that were given up, for members that were asked for so long, or are lost for
    /// another reason. Any other one may have what no other node has, also if it is aside.
    pub fn lose(&mut self, is_lost: impl Fn(Boot) -> bool, cx: &mut Context<'_>) -> Vec<Slot> {
        let is_late = self.patience.asked >= ASKED;
        let members = cx.view.epoch.members().iter().map(|member| member.boot);
        let lost: Vec<_> = members.filter(|boot| is_late || is_lost(*boot)).collect();
        let given_up = self.taking_over.keys().filter(|slot| cx.view.epoch.is_given_up(**slot));
        for slot in given_up.copied().collect::<Vec<_>>() {
            for boot in &lost {
                self.on_part(slot, cx, |take_over, cx| take_over.on_lost(*boot, cx.replicas));
            }
        }
        self.settle(cx)
    }

    /// Returns true if everything of a slot is here, and only the lease is missing.
    pub fn is_ready(&self, slot: Slot) -> bool {
        self.ready.contains(slot)
    }

    /// Returns the number of slots being taken over, and of those that are settled but not ready.
    pub fn waiting(&self) -> (usize, usize) {
        (self.taking_over.len() + self.roll.len(), self.settled.len())
    }

    /// The slots that are ready.
    pub fn ready(&self) -> &SlotSet {
        &self.ready
    }

    /// The time when this node learned the epoch.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Slots whose holders when last served were not all heard: which of those are missing.
    pub fn missing(&self) -> BTreeMap<Slot, Vec<Boot>> {
        let missing = |(slot, take_over): (&Slot, &TakeOver)| (*slot, take_over.to_ask().collect());
        self.taking_over.iter().map(missing).collect()
    }
}

/// The time after which an owner serves without a complete holder: longer than comparing takes, and
/// about as long as it waits for the owner before it.
const HOLDERS: Duration = Duration::from_millis(400);

/// The time for which a holder is asked before the owner stops waiting for it.
const ASKED: Duration = Duration::from_secs(60);

/// The largest delay between two checks that is not a stall of this node.
const STALL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_count_as_asking() {
        let asked = |rules| {
            let mut patience = Patience::from(Duration::from_secs(1));
            patience.pass(Duration::from_millis(1_025), rules);
            patience.pass(Duration::from_secs(90), rules)
        };
        assert_eq!(asked(Rules::default()), Duration::from_millis(125));
        assert!(asked(Rules::without(Rule::S2)) > ASKED);
    }
}
