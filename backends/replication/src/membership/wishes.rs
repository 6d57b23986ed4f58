//! The requests of nodes, and the changes that follow from a proposer's knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::{Described, Refusal};
use crate::epoch::{Change, Epoch};
use crate::member::{Boot, Member, Role};
use crate::rules::{Rule, Rules};
use crate::settings::Settings;
use crate::slots::SlotSet;

/// The end of a node that drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drain {
    /// Another process of its name follows: it keeps its place, and its vote.
    #[default]
    Restart,
    /// It goes for good.
    Leave,
}

/// The wishes of this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub is_filled: bool,
    pub drain: Option<Drain>,
    pub is_empty: bool,
    /// Slots that cannot be served without members that did not answer, by these members.
    pub give_up: BTreeMap<BTreeSet<Boot>, SlotSet>,
    pub settings: Option<Settings>,
}

impl Wishes {
    /// The changes that this node asks the voters of an epoch for.
    pub(super) fn asks(&self, me: &Member, epoch: &Epoch) -> Vec<Change> {
        let Some(member) = epoch.member(me.boot) else {
            return vec![Change::Join(me.clone())];
        };
        let mut asks = Vec::new();
        let mut ask = |is_wanted: bool, change: Change| {
            if is_wanted && is_useful(&change, epoch) {
                asks.push(change);
            }
        };
        let (boot, drains) = (me.boot, self.drain.is_some());
        ask(member.role == Role::Aside, Change::ComeBack(boot));
        ask(self.is_filled && !drains, Change::BecomeFull(boot));
        ask(drains, Change::Drain(boot));
        ask(self.is_empty && self.drain == Some(Drain::Leave), Change::Leave(boot));
        for (silent, slots) in &self.give_up {
            ask(true, Change::GiveUp(slots.clone(), silent.clone()));
        }
        if let Some(settings) = self.settings {
            ask(true, Change::Reconfigure(settings));
        }
        asks
    }

    /// Drops what an epoch fulfilled, and what holds for one epoch only.
    pub(super) fn on_epoch(&mut self, epoch: &Epoch) {
        self.is_filled = false;
        let is_done = |slots: &SlotSet| slots.iter().all(|slot| epoch.is_given_up(slot));
        self.give_up.retain(|_, slots| !is_done(slots));
        self.settings = self.settings.filter(|settings| settings != epoch.settings());
    }
}

/// The requests of other nodes to this voter.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(BTreeMap<Boot, (Duration, Vec<Change>)>);

impl Asked {
    /// Notes what a node asks for, in place of what it asked for before.
    pub(super) fn hear(&mut self, from: Boot, changes: Vec<Change>, now: Duration) {
        let changes = changes.into_iter().filter(|change| is_of(change, from)).collect();
        self.0.insert(from, (now, changes));
    }

    /// Returns the recent requests: a node that still wants a change asks again.
    pub(super) fn fresh(&self, now: Duration) -> impl Iterator<Item = &Change> {
        let is_fresh = move |(at, _): &&(Duration, Vec<Change>)| now.saturating_sub(*at) <= FRESH;
        self.0.values().filter(is_fresh).flat_map(|(_, changes)| changes)
    }

    /// Forgets what is not fresh.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.0.retain(|_, (at, _)| now.saturating_sub(*at) <= FRESH);
    }
}

/// The time for which a request stands.
const FRESH: Duration = Duration::from_millis(500);

/// Returns true if a node may ask for a change: one of its own, of slots, or of settings.
fn is_of(change: &Change, from: Boot) -> bool {
    match change {
        Change::Join(member) => member.boot == from,
        Change::BecomeFull(boot)
        | Change::ComeBack(boot)
        | Change::Drain(boot)
        | Change::Leave(boot) => *boot == from,
        Change::GiveUp(..) | Change::Reconfigure(_) => true,
        Change::SetAside(_) | Change::LoseVote(_) | Change::RaiseProtocol => false,
    }
}

/// The knowledge of a proposer.
#[derive(Debug)]
pub(super) struct Situation<'s> {
    pub epoch: &'s Epoch,
    /// The members that a majority of the voters does not reach.
    pub out_of_reach: &'s BTreeSet<Boot>,
    /// The members that are aside for so long that they lose their votes.
    pub long_aside: &'s BTreeSet<Boot>,
    /// The members that have been aside for so long that they are forgotten.
    pub forgotten: &'s BTreeSet<Boot>,
}

/// The changes that are to be proposed, given what nodes ask for. Each of them applies.
pub(super) fn wanted<'s>(
    situation: &Situation<'s>,
    asked: impl Iterator<Item = &'s Change>,
    rules: Rules,
) -> Vec<Change> {
    let Situation { epoch, out_of_reach, long_aside, forgotten } = situation;
    let is_there = |change: &&Change| match change {
        Change::ComeBack(boot) => !out_of_reach.contains(boot),
        Change::Join(member) => refusal(epoch, member).is_none(),
        _ => true,
    };
    let aside = out_of_reach.iter().map(|boot| Change::SetAside(*boot));
    let votes = long_aside.iter().map(|boot| Change::LoseVote(*boot));
    let left = forgotten.iter().map(|boot| Change::Leave(*boot));
    let left = left.filter(|_| rules.keep(Rule::E3));
    let all =
        aside.chain(votes).chain(left).chain(asked.filter(is_there).cloned()).chain(of_all(epoch));
    let useful: Vec<_> = all.filter(|change| is_useful(change, epoch)).collect();
    // A change that does not apply is not a reason to propose an epoch.
    if useful.is_empty() { useful } else { epoch.applicable(&useful, rules) }
}

/// The changes that follow from the members of an epoch.
fn of_all(epoch: &Epoch) -> impl Iterator<Item = Change> {
    let there = || epoch.members().iter().filter(|member| member.role != Role::Aside);
    let first = there().next().and_then(|member| member.started_with);
    let alike = first.filter(|_| there().all(|member| member.started_with == first));
    alike.map(Change::Reconfigure).into_iter().chain([Change::RaiseProtocol])
}

/// Returns true if a change would have an effect, or is still to come.
fn is_useful(change: &Change, epoch: &Epoch) -> bool {
    let role = |boot: &Boot| epoch.member(*boot).map(|member| member.role);
    match change {
        Change::Join(new) => match epoch.named(&new.name) {
            Some(old) => old.role == Role::Aside && old.boot != new.boot,
            None => true,
        },
        Change::SetAside(boot) => role(boot).is_some_and(|role| role != Role::Aside),
        Change::BecomeFull(boot) => role(boot) == Some(Role::Joining),
        Change::ComeBack(boot) => role(boot) == Some(Role::Aside),
        Change::LoseVote(boot) => role(boot) == Some(Role::Aside) && epoch.is_voter(*boot),
        Change::Drain(boot) => matches!(role(boot), Some(Role::Joining | Role::Full)),
        Change::Leave(boot) => matches!(role(boot), Some(Role::Draining | Role::Aside)),
        Change::GiveUp(slots, _) => !slots.iter().all(|slot| epoch.is_given_up(slot)),
        Change::Reconfigure(settings) => settings != epoch.settings(),
        Change::RaiseProtocol => {
            epoch.members().iter().all(|member| member.protocol.highest > epoch.protocol())
        }
    }
}

/// Returns the reason why a node is not admitted to an epoch, if it is not.
pub(super) fn refusal(epoch: &Epoch, node: &Member) -> Option<Refusal> {
    if !node.protocol.contains(epoch.protocol()) {
        return Some(Refusal::Protocol { node: node.protocol, service: epoch.protocol() });
    }
    let (service, started) = (*epoch.settings(), node.started_with?);
    let others = epoch.members().iter().filter(|other| other.name != node.name);
    let mut there = others.filter(|other| other.role != Role::Aside).peekable();
    let is_alone = there.peek().is_none();
    let is_like_all = !is_alone && there.all(|other| other.started_with == Some(started));
    let is_admitted = started == service || is_like_all;
    (!is_admitted)
        .then_some(Refusal::Settings { node: Described(started), service: Described(service) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{SETTINGS, boot, grown, joining, next, reborn};
    use crate::member::Versions;
    use crate::settings::Acknowledgements;
    use crate::slots::Slot;

    #[test]
    fn a_node_asks_for_what_its_role_allows() {
        let wishes = Wishes { is_filled: true, ..Wishes::default() };
        let three = grown(3);
        let joined = next(&three, &[Change::Join(joining(3))]).unwrap();
        let asks = |wishes: &Wishes, n, epoch: &Epoch| wishes.asks(&joining(n), epoch);
        assert_eq!(asks(&wishes, 3, &three), [Change::Join(joining(3))]);
        assert_eq!(asks(&wishes, 3, &joined), [Change::BecomeFull(boot(3))]);
        assert!(asks(&wishes, 1, &joined).is_empty(), "it is full");
        let aside = next(&joined, &[Change::SetAside(boot(3))]).unwrap();
        assert_eq!(asks(&wishes, 3, &aside), [Change::ComeBack(boot(3))]);
    }

    #[test]
    fn drained_nodes_leave_on_request() {
        let draining = next(&grown(3), &[Change::Drain(boot(1))]).unwrap();
        let asks = |drain, is_empty| {
            let wishes = Wishes { drain: Some(drain), is_empty, ..Wishes::default() };
            wishes.asks(&joining(1), &draining)
        };
        assert!(asks(Drain::Leave, false).is_empty());
        assert!(asks(Drain::Restart, true).is_empty());
        assert_eq!(asks(Drain::Leave, true), [Change::Leave(boot(1))]);
    }

    #[test]
    fn wishes_end_when_they_are_fulfilled() {
        let slots = SlotSet::from_iter([Slot::at(1)]);
        let other = Settings { acknowledgements: Acknowledgements::All, ..SETTINGS };
        let give_up = [(BTreeSet::new(), slots.clone())].into();
        let mut wishes = Wishes { give_up, settings: Some(other), ..Wishes::default() };
        let three = grown(3);
        wishes.on_epoch(&three);
        assert_eq!(wishes.asks(&joining(1), &three).len(), 2);
        let changes = [Change::GiveUp(slots, BTreeSet::new()), Change::Reconfigure(other)];
        wishes.on_epoch(&next(&three, &changes).unwrap());
        assert!(wishes.give_up.is_empty() && wishes.settings.is_none());
    }

    #[test]
    fn a_node_asks_for_itself_and_again() {
        let mut asked = Asked::default();
        let of_another = Change::Leave(boot(1));
        asked.hear(boot(2), vec![of_another, Change::Drain(boot(2))], ms(0));
        assert_eq!(Vec::from_iter(asked.fresh(ms(500))), [&Change::Drain(boot(2))]);
        assert_eq!(asked.fresh(ms(501)).count(), 0);
        asked.tidy(ms(501));
        assert!(asked.0.is_empty());
    }

    #[test]
    fn unreachable_members_go_aside_for_good() {
        let three = grown(3);
        let out = BTreeSet::from([boot(2)]);
        assert_eq!(wanted_in(&three, &out, &[]), [Change::SetAside(boot(2))]);
        let aside = next(&three, &[Change::SetAside(boot(2))]).unwrap();
        let back = [Change::ComeBack(boot(2))];
        assert!(wanted_in(&aside, &out, &back).is_empty());
        assert_eq!(wanted_in(&aside, &BTreeSet::new(), &back), back);
    }

    #[test]
    fn inapplicable_changes_are_not_proposed() {
        let three = grown(3);
        let none = BTreeSet::new();
        assert!(wanted_in(&three, &none, &[]).is_empty());
        let late = [Change::ComeBack(boot(1)), Change::Join(reborn(1)), Change::Leave(boot(1))];
        assert!(wanted_in(&three, &none, &late).is_empty());
    }

    #[test]
    fn a_member_long_aside_loses_its_vote() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let (none, long) = (BTreeSet::new(), BTreeSet::from([boot(1), boot(2)]));
        let situation =
            Situation { epoch: &aside, out_of_reach: &none, long_aside: &long, forgotten: &none };
        let wanted = wanted(&situation, [].iter(), Rules::default());
        assert_eq!(wanted, [Change::LoseVote(boot(2))]);
    }

    #[test]
    fn a_member_that_is_not_expected_back_leaves() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let (none, gone) = (BTreeSet::new(), BTreeSet::from([boot(1), boot(2)]));
        let situation =
            Situation { epoch: &aside, out_of_reach: &none, long_aside: &gone, forgotten: &gone };
        let changes = [Change::LoseVote(boot(2)), Change::Leave(boot(2))];
        assert_eq!(wanted(&situation, [].iter(), Rules::default()), changes);
        let back = [Change::ComeBack(boot(2))];
        let wanted_by = |rules| wanted(&situation, back.iter(), rules);
        assert_eq!(wanted_by(Rules::without(Rule::E3)), [changes[0].clone(), back[0].clone()]);
    }

    #[test]
    fn the_protocol_is_raised_when_all_speak_it() {
        let speaking = |n: usize, highest| {
            let protocol = Versions { lowest: 1, highest };
            Change::Join(Member { protocol, ..joining(n) })
        };
        let founded = grown(1);
        let two = next(&founded, &[speaking(1, 2)]).unwrap();
        assert!(wanted_in(&two, &BTreeSet::new(), &[]).is_empty());
        let drained = next(&two, &[Change::BecomeFull(boot(1)), Change::Drain(boot(0))]).unwrap();
        let left = next(&drained, &[Change::Leave(boot(0))]).unwrap();
        assert_eq!(wanted_in(&left, &BTreeSet::new(), &[]), [Change::RaiseProtocol]);
    }

    #[test]
    fn a_node_with_other_settings_is_refused() {
        let other = Settings { acknowledgements: Acknowledgements::All, ..SETTINGS };
        let node = |settings| Member { started_with: Some(settings), ..joining(3) };
        let three = grown(3);
        assert_eq!(refusal(&three, &node(SETTINGS)), None);
        let refused = Refusal::Settings { node: Described(other), service: Described(SETTINGS) };
        assert_eq!(refusal(&three, &node(other)), Some(refused));
        let changed = next(&three, &[Change::Reconfigure(other)]).unwrap();
        assert_eq!(refusal(&changed, &node(other)), None);
        assert!(refusal(&changed, &node(SETTINGS)).is_some());
    }

    #[test]
    fn members_with_the_same_other_settings_reconfigure() {
        let other = Settings { acknowledgements: Acknowledgements::All, ..SETTINGS };
        let with = |n| Member { started_with: Some(other), ..joining(n) };
        let again = grown(2).found_again(
            crate::epoch::Lineage::new([4; 16]),
            joining(0).name,
            vec![with(0), with(1)],
        );
        assert_eq!(refusal(&again, &with(2)), None, "all others have them");
        assert_eq!(wanted_in(&again, &BTreeSet::new(), &[]), [Change::Reconfigure(other)]);
    }

    #[test]
    fn a_node_of_another_protocol_is_refused() {
        let versions = Versions { lowest: 2, highest: 3 };
        let node = Member { protocol: versions, ..joining(3) };
        let refused = Refusal::Protocol { node: versions, service: 1 };
        assert_eq!(refusal(&grown(3), &node), Some(refused));
    }

    fn wanted_in(epoch: &Epoch, out: &BTreeSet<Boot>, asked: &[Change]) -> Vec<Change> {
        let none = BTreeSet::new();
        let situation = Situation { epoch, out_of_reach: out, long_aside: &none, forgotten: &none };
        wanted(&situation, asked.iter(), Rules::default())
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
