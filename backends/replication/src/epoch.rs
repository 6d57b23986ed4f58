//! The agreed state of the cluster, and its successors.

#[cfg(feature = "wire")]
pub(crate) mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::member::{Boot, Member, Name, Role};
use crate::placement::Placement;
use crate::rules::{Rule, Rules};
pub use crate::settings::{Acknowledgements, PartitionPolicy, Replication, Settings};
use crate::slots::{HashKey, SLOTS, Slot, SlotSet};

/// The identity of an epoch: its lineage, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId {
    /// The succession of epochs it belongs to.
    pub lineage: Lineage,
    /// The founding epoch has the number 1, and each successor the next one.
    pub number: u64,
}

/// A succession of epochs, each chosen by the voters of the one before: a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(u128);

impl Lineage {
    /// A lineage of 16 random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// A lineage that another one descends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ancestor {
    /// The epoch from which the other lineage was founded.
    pub epoch: EpochId,
    /// The reason for its foundation.
    pub why: Founding,
}

/// The reason for founding a lineage from an epoch of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Founding {
    /// A majority of the voters was lost for good: no epoch of the other lineage is served any more.
    Loss,
    /// A side without a majority went on under [`PartitionPolicy::Degrade`]: the others may have gone on,
    /// too, from the epoch after.
    Split,
}

/// The state of the cluster that its members agreed on. It does not change; another one follows it.
// More than eight fields: they are the table of `PROTOCOL.md`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    id: EpochId,
    ancestry: Vec<Ancestor>,
    founder: Name,
    members: Vec<Member>,
    settings: Settings,
    policy: PartitionPolicy,
    protocol: u32,
    key: HashKey,
    placement: Placement,
    served: Served,
}

/// The epoch and the holders of the last service of each slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Served {
    /// The epochs in which some slot was last served.
    epochs: Vec<Arc<LastServed>>,
    /// The index of the one that applies, for each slot.
    of: Arc<[u16]>,
    /// The epoch in which each slot was last given up, if ever.
    given_up: BTreeMap<Slot, u64>,
}

/// An epoch in which slots were last served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LastServed {
    number: u64,
    placement: Placement,
    settings: Settings,
}

impl LastServed {
    /// The number of the epoch.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The holders of a slot in that epoch, the owner first.
    pub fn holders(&self, slot: Slot) -> Vec<Boot> {
        self.placement.holders(slot)
    }

    /// The owner of a slot in that epoch.
    pub fn owner(&self, slot: Slot) -> Option<Boot> {
        self.placement.owner(slot)
    }

    /// The number of acknowledgements that a write waited for in that epoch, besides the owner's
    /// own copy: if no more holders than that are missing, the others have the write.
    pub fn acknowledgements(&self, slot: Slot) -> usize {
        self.settings.acknowledgements(self.placement.holders(slot).len())
    }
}

/// A change that an epoch makes to the one before. Members are named by boot, so that a change that
/// comes too late does not hit another process of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// A new name joins, without a vote; or a new boot of a name whose old boot is aside, with the vote of
    /// its name. The old boot ceases to be a member.
    Join(Member),
    /// A joining member holds its slots-to-be completely: slots are placed on it. If it had no vote, it has
    /// one now, and a member that is aside loses its own.
    BecomeFull(Boot),
    /// A majority of the voters does not reach it.
    SetAside(Boot),
    /// A member that was aside is reached again, and fills its slots.
    ComeBack(Boot),
    /// A member that is aside is not expected back soon.
    LoseVote(Boot),
    /// Slots are placed on it no more.
    Drain(Boot),
    /// A member that was drained goes for good, or one that is aside, has no vote, and was not heard for long.
    Leave(Boot),
    /// The holders of these slots when last served are not enough, and will not be: these members among them
    /// did not answer.
    GiveUp(SlotSet, BTreeSet<Boot>),
    /// Other settings, with which all members count as started from then on.
    Reconfigure(Settings),
    /// The highest version of the protocol that all members speak.
    RaiseProtocol,
}

/// A change does not apply to an epoch: it came too late, or it is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IllegalChange {
    /// There is no such member.
    #[error("boot {boot:?} is not a member")]
    Unknown {
        /// The boot that the change names.
        boot: Boot,
    },
    /// A member with another role is needed.
    #[error("node {name:?} is {role:?}, which does not allow this change")]
    WrongRole {
        /// The member.
        name: Name,
        /// Its role.
        role: Role,
    },
    /// A member that is aside leaves after it lost its vote.
    #[error("node {name:?} still votes, so it cannot leave")]
    Votes {
        /// The member.
        name: Name,
    },
    /// Some member speaks no higher version of the protocol.
    #[error("a member does not support any protocol version above {version}")]
    NotHigher {
        /// The version of the epoch.
        version: u32,
    },
    /// No majority of the voters would know the new epoch.
    #[error("fewer than a majority of the voters would be left")]
    NoMajority,
}

impl Epoch {
    /// The first epoch of a service: one member, which has everything there is, nothing.
    pub fn found(lineage: Lineage, key: HashKey, settings: Settings, founder: Member) -> Self {
        let members = vec![Member { role: Role::Full, votes: true, ..founder }];
        Self::of(lineage, key, settings, members)
    }

    /// The first epoch of a lineage with these members, in which no slot was served before but by those
    /// that hold it now.
    ///
    /// # Panics
    ///
    /// If there are no members.
    pub fn of(
        lineage: Lineage,
        key: HashKey,
        settings: Settings,
        mut members: Vec<Member>,
    ) -> Self {
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let placement = Placement::new(key, &members, settings.replication);
        let first = LastServed { number: 0, placement: placement.clone(), settings };
        let served = Served {
            epochs: vec![Arc::new(first)],
            of: vec![0; SLOTS].into(),
            given_up: BTreeMap::new(),
        };
        let id = EpochId { lineage, number: 1 };
        let policy = settings.policy.unwrap_or_else(|| policy(&members, PartitionPolicy::Degrade));
        let founder = members.first().expect("an epoch has members").name.clone();
        let protocol = highest_common(&members);
        let ancestry = Vec::new();
        Self { id, ancestry, founder, members, settings, policy, protocol, key, placement, served }
    }

    /// The first epoch of a lineage after the majority of this one was lost: these members are full, and
    /// every slot is given up.
    pub fn found_again(&self, lineage: Lineage, founder: Name, mut members: Vec<Member>) -> Self {
        for member in &mut members {
            (member.role, member.votes) = (Role::Full, true);
        }
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let mut next = self.founded_by(lineage, founder, Founding::Loss, members);
        let number = next.id.number;
        next.served.given_up = Slot::all().map(|slot| (slot, number)).collect();
        next
    }

    /// The first epoch of a lineage in which a side without a majority goes on: the members that are not in
    /// sight are aside, without a vote.
    pub fn split(&self, lineage: Lineage, founder: Name, in_sight: &BTreeSet<Boot>) -> Self {
        let mut members = self.members.clone();
        for member in members.iter_mut().filter(|member| !in_sight.contains(&member.boot)) {
            (member.role, member.votes) = (Role::Aside, false);
        }
        self.founded_by(lineage, founder, Founding::Split, members)
    }

    fn founded_by(
        &self,
        lineage: Lineage,
        founder: Name,
        why: Founding,
        members: Vec<Member>,
    ) -> Self {
        let mut next = Self { members, founder, ..self.clone() };
        next.id = EpochId { lineage, number: self.id.number + 1 };
        next.ancestry.push(Ancestor { epoch: self.id, why });
        // The slots served in this epoch are in the promises of a majority, which is missing.
        next.served.note(self, &Slot::all().collect());
        next.fill_up();
        next.placement = Placement::new(next.key, &next.members, next.settings.replication);
        next
    }

    /// The next epoch, with these changes.
    pub fn successor(
        &self,
        changes: &[Change],
        served: &SlotSet,
        rules: Rules,
    ) -> Result<Self, IllegalChange> {
        let mut next = self.clone();
        next.id.number += 1;
        next.served.note(self, served);
        changes.iter().try_for_each(|change| next.apply(change, rules))?;
        next.fill_up();
        if rules.keep(Rule::E1) && !self.is_known_to_voters_of(&next) {
            return Err(IllegalChange::NoMajority);
        }
        let before = match rules.keep(Rule::P1) {
            true => self.policy,
            false => PartitionPolicy::Degrade,
        };
        next.policy = next.settings.policy.unwrap_or_else(|| policy(&next.members, before));
        next.placement = Placement::new(next.key, &next.members, next.settings.replication);
        Ok(next)
    }

    /// Those of the changes that apply, each after those before it.
    pub fn applicable(&self, wanted: &[Change], rules: Rules) -> Vec<Change> {
        let (mut changes, none) = (Vec::new(), SlotSet::new());
        for change in wanted {
            changes.push(change.clone());
            if self.successor(&changes, &none, rules).is_err() {
                changes.pop();
            }
        }
        changes
    }

    /// Returns true if a majority of the voters stays. Of two, one may leave: it waits until the
    /// other one knows.
    fn is_known_to_voters_of(&self, next: &Self) -> bool {
        let voters = self.voters();
        let stay = voters.iter().filter(|voter| next.is_voter(**voter)).count();
        let leaves = |voter: &&Boot| next.member(**voter).is_none();
        let leave = voters.iter().filter(leaves).filter(|voter| self.is_draining(**voter)).count();
        stay >= self.quorum() || (voters.len(), stay, leave) == (2, 1, 1)
    }

    fn is_draining(&self, boot: Boot) -> bool {
        self.member(boot).is_some_and(|member| member.role == Role::Draining)
    }

    fn apply(&mut self, change: &Change, rules: Rules) -> Result<(), IllegalChange> {
        match change {
            Change::Join(member) => self.join(member, rules)?,
            Change::BecomeFull(boot) => {
                self.become_a(Role::Full, *boot, &[Role::Joining])?;
                self.admit_to_vote(*boot)?;
            }
            Change::SetAside(boot) => {
                let from = [Role::Joining, Role::Full, Role::Draining];
                self.become_a(Role::Aside, *boot, &from)?;
            }
            Change::ComeBack(boot) => self.become_a(Role::Joining, *boot, &[Role::Aside])?,
            Change::LoseVote(boot) => {
                self.member_in(*boot, &[Role::Aside])?.votes = false;
            }
            Change::Drain(boot) => {
                self.become_a(Role::Draining, *boot, &[Role::Joining, Role::Full])?;
            }
            Change::Leave(boot) => {
                let member = self.member_in(*boot, &[Role::Draining, Role::Aside])?;
                if member.role == Role::Aside && member.votes {
                    return Err(IllegalChange::Votes { name: member.name.clone() });
                }
                self.members.retain(|member| member.boot != *boot);
            }
            Change::GiveUp(slots, _) => {
                let number = self.id.number;
                self.served.given_up.extend(slots.iter().map(|slot| (slot, number)));
            }
            Change::Reconfigure(settings) => self.reconfigure(*settings),
            Change::RaiseProtocol => self.raise_protocol()?,
        }
        Ok(())
    }

    fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
        for member in &mut self.members {
            member.started_with = None;
        }
    }

    fn raise_protocol(&mut self) -> Result<(), IllegalChange> {
        let version = highest_common(&self.members);
        if version <= self.protocol {
            return Err(IllegalChange::NotHigher { version: self.protocol });
        }
        self.protocol = version;
        Ok(())
    }

    fn join(&mut self, new: &Member, rules: Rules) -> Result<(), IllegalChange> {
        let old = self.members.iter().find(|member| member.name == new.name);
        if let Some(old) = old
            && old.role != Role::Aside
        {
            return Err(IllegalChange::WrongRole { name: old.name.clone(), role: old.role });
        }
        let votes = old.map_or(!rules.keep(Rule::E2), |old| old.votes);
        self.members.retain(|member| member.name != new.name);
        self.members.push(Member { role: Role::Joining, votes, ..new.clone() });
        self.members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    /// Gives a member a vote, if possible that of a member that is aside: joiners that end again
    /// then cannot take the majority from healthy members.
    fn admit_to_vote(&mut self, boot: Boot) -> Result<(), IllegalChange> {
        if self.is_voter(boot) {
            return Ok(());
        }
        self.member_mut(boot)?.votes = true;
        let is_aside = |member: &&mut Member| member.role == Role::Aside && member.votes;
        if let Some(member) = self.members.iter_mut().find(is_aside) {
            member.votes = false;
        }
        Ok(())
    }

    fn become_a(&mut self, role: Role, boot: Boot, from: &[Role]) -> Result<(), IllegalChange> {
        self.member_in(boot, from)?.role = role;
        Ok(())
    }

    /// The joining members become full if no full one is left: otherwise no slot would ever be
    /// served again.
    fn fill_up(&mut self) {
        if self.members.iter().any(|member| member.role == Role::Full) {
            return;
        }
        for member in self.members.iter_mut().filter(|member| member.role == Role::Joining) {
            (member.role, member.votes) = (Role::Full, true);
        }
    }

    /// A member that has one of these roles.
    fn member_in(&mut self, boot: Boot, roles: &[Role]) -> Result<&mut Member, IllegalChange> {
        let member = self.member_mut(boot)?;
        if roles.contains(&member.role) {
            Ok(member)
        } else {
            Err(IllegalChange::WrongRole { name: member.name.clone(), role: member.role })
        }
    }

    fn member_mut(&mut self, boot: Boot) -> Result<&mut Member, IllegalChange> {
        let member = self.members.iter_mut().find(|member| member.boot == boot);
        member.ok_or(IllegalChange::Unknown { boot })
    }

    /// The identity of the epoch.
    pub fn id(&self) -> EpochId {
        self.id
    }

    /// All members, by name.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this boot.
    pub fn member(&self, boot: Boot) -> Option<&Member> {
        self.members.iter().find(|member| member.boot == boot)
    }

    /// The lineages that its own one descends from, the oldest first.
    pub fn ancestry(&self) -> &[Ancestor] {
        &self.ancestry
    }

    /// The node that founded its lineage.
    pub fn founder(&self) -> &Name {
        &self.founder
    }

    /// Returns true if it belongs to a lineage that was founded after another one's epoch, in its
    /// place.
    pub fn descends_from(&self, other: EpochId) -> bool {
        self.ancestry.iter().any(|ancestor| {
            let is_before = other.number <= ancestor.epoch.number;
            other.lineage == ancestor.epoch.lineage && (is_before || ancestor.why == Founding::Loss)
        })
    }

    /// The last epoch that both this one and another one follow, or are; `None` if they have none.
    pub fn common_ancestor(&self, other: &Self) -> Option<EpochId> {
        let line = |epoch: &Self| {
            let ancestors = epoch.ancestry.iter().map(|ancestor| ancestor.epoch);
            ancestors.chain([epoch.id]).collect::<Vec<_>>()
        };
        let theirs = line(other);
        line(self).into_iter().rev().find_map(|EpochId { lineage, number }| {
            let other = theirs.iter().find(|other| other.lineage == lineage)?;
            Some(EpochId { lineage, number: number.min(other.number) })
        })
    }

    /// The version of the protocol that all members speak.
    pub fn protocol(&self) -> u32 {
        self.protocol
    }

    /// The member with this name.
    pub fn named(&self, name: &Name) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// The settings that all members share.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the number of copies that a record should have: with [`Full`](Replication::Full),
    /// one on each voter.
    pub fn wanted_copies(&self) -> usize {
        match self.settings.replication {
            Replication::Full => self.voters().len(),
            Replication::Backups(k) => 1 + k as usize,
        }
    }

    /// Returns the behaviour when a majority is unreachable.
    pub fn policy(&self) -> PartitionPolicy {
        self.policy
    }

    /// The key of all hashes.
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// Returns the holders of the slots in this epoch.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The boots that vote.
    pub fn voters(&self) -> BTreeSet<Boot> {
        self.members.iter().filter(|member| member.votes).map(|member| member.boot).collect()
    }

    /// Returns true if a boot votes.
    pub fn is_voter(&self, boot: Boot) -> bool {
        self.member(boot).is_some_and(|member| member.votes)
    }

    /// Returns the number of voters that are a majority.
    pub fn quorum(&self) -> usize {
        self.members.iter().filter(|member| member.votes).count() / 2 + 1
    }

    /// The epoch before this one in which a slot was last served. It may have been served in this epoch
    /// since.
    pub fn last_served(&self, slot: Slot) -> &LastServed {
        &self.served.epochs[usize::from(self.served.of[slot.index()])]
    }

    /// The lowest number of an epoch in which some slot was last served.
    pub fn oldest_served(&self) -> u64 {
        let numbers = self.served.epochs.iter().map(|epoch| epoch.number);
        numbers.min().expect("each slot names one")
    }

    /// The epoch in which a slot was last given up, if it ever was.
    pub fn given_up_in(&self, slot: Slot) -> Option<u64> {
        self.served.given_up.get(&slot).copied()
    }

    /// Returns true if a slot was given up and not served since.
    pub fn is_given_up(&self, slot: Slot) -> bool {
        self.given_up_in(slot).is_some_and(|number| self.last_served(slot).number < number)
    }
}

impl Served {
    /// Notes that slots were served in an epoch, and forgets the epochs that no slot names any more.
    fn note(&mut self, epoch: &Epoch, slots: &SlotSet) {
        if slots.is_empty() {
            return;
        }
        let Epoch { id, placement, settings, .. } = epoch;
        let (number, placement, settings) = (id.number, placement.clone(), *settings);
        let mut epochs = self.epochs.clone();
        epochs.push(Arc::new(LastServed { number, placement, settings }));
        let newest = epochs.len() - 1;
        let old = |slot: Slot| match slots.contains(slot) {
            true => newest,
            false => usize::from(self.of[slot.index()]),
        };
        let used: BTreeSet<_> = Slot::all().map(old).collect();
        let rank = |index: usize| used.range(..index).count() as u16;
        self.of = Slot::all().map(|slot| rank(old(slot))).collect();
        self.epochs = used.iter().map(|index| Arc::clone(&epochs[*index])).collect();
    }
}

/// The default policy, which never relaxes.
fn policy(members: &[Member], before: PartitionPolicy) -> PartitionPolicy {
    let full = members.iter().filter(|member| member.role == Role::Full).count();
    if full >= 3 { PartitionPolicy::Fail } else { before }
}

/// The highest version of the protocol that all members speak.
fn highest_common(members: &[Member]) -> u32 {
    members.iter().map(|member| member.protocol.highest).min().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::member::Versions;
    use crate::placement::Replication;

    #[test]
    fn a_founder_is_alone_and_full() {
        let epoch = Epoch::found(lineage(), key(), SETTINGS, joining(0));
        assert_eq!(epoch.members()[0].role, Role::Full);
        assert_eq!(epoch.voters(), BTreeSet::from([boot(0)]));
        assert_eq!(epoch.policy(), PartitionPolicy::Degrade);
        assert!(Slot::all().all(|slot| epoch.last_served(slot).holders(slot) == [boot(0)]));
    }

    #[test]
    fn the_default_policy_becomes_strict_for_good() {
        let three = grown(3);
        assert_eq!(three.policy(), PartitionPolicy::Fail);
        let two = next(&three, &[Change::SetAside(boot(2))]).unwrap();
        let one = next(&two, &[Change::LoseVote(boot(2)), Change::Drain(boot(1))]).unwrap();
        assert_eq!((two.policy(), one.policy()), (PartitionPolicy::Fail, PartitionPolicy::Fail));
    }

    #[test]
    fn a_majority_of_the_voters_stays() {
        let three = grown(3);
        let both = [Change::SetAside(boot(1)), Change::SetAside(boot(2))];
        let aside = next(&three, &both).unwrap();
        assert_eq!(aside.voters().len(), 3, "who is aside keeps the vote");
        let gone = [1, 2].map(|n| Change::LoseVote(boot(n)));
        assert_eq!(next(&aside, &gone), Err(IllegalChange::NoMajority));
        let slots = SlotSet::new();
        assert!(aside.successor(&gone, &slots, Rules::without(Rule::E1)).is_ok());
        assert!(next(&aside, &gone[..1]).is_ok());
    }

    #[test]
    fn one_of_two_may_leave() {
        let two = grown(2);
        let leave = [Change::Leave(boot(1))];
        assert!(next(&two, &leave).is_err(), "it did not drain");
        let draining = next(&two, &[Change::Drain(boot(1))]).unwrap();
        assert_eq!(next(&draining, &leave).unwrap().voters(), [boot(0)].into());
    }

    #[test]
    fn a_member_set_aside_leaves_without_a_vote() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let leave = [Change::Leave(boot(2))];
        assert!(next(&aside, &leave).is_err(), "it votes");
        let left = next(&aside, &[Change::LoseVote(boot(2)), leave[0].clone()]).unwrap();
        assert_eq!(left.members().len(), 2);
    }

    #[test]
    fn new_boots_wait_for_the_old_one() {
        let three = grown(3);
        let join = [Change::Join(reborn(2))];
        assert!(matches!(next(&three, &join), Err(IllegalChange::WrongRole { .. })));
        let aside = next(&three, &[Change::SetAside(boot(2))]).unwrap();
        let joined = next(&aside, &join).unwrap();
        assert!(joined.member(boot(2)).is_none(), "one name is one process");
        assert_eq!(joined.member(reborn(2).boot).unwrap().role, Role::Joining);
    }

    #[test]
    fn changes_that_come_too_late_are_refused() {
        let three = grown(3);
        let late = [
            Change::BecomeFull(boot(0)),
            Change::ComeBack(boot(0)),
            Change::LoseVote(boot(0)),
            Change::Leave(boot(0)),
            Change::SetAside(boot(9)),
        ];
        for change in late {
            assert!(next(&three, std::slice::from_ref(&change)).is_err(), "{change:?}");
        }
    }

    #[test]
    fn joining_members_replace_the_last_full_one() {
        let three = grown(3);
        let two = next(&three, &[Change::SetAside(boot(1))]).unwrap();
        let back = next(&two, &[Change::ComeBack(boot(1))]).unwrap();
        assert_eq!(back.member(boot(1)).unwrap().role, Role::Joining);
        let gone = [Change::SetAside(boot(0)), Change::SetAside(boot(2))];
        let left = next(&back, &gone).unwrap();
        assert_eq!(left.member(boot(1)).unwrap().role, Role::Full);
    }

    #[test]
    fn a_slot_remembers_who_served_it_last() {
        let three = grown(3);
        let [served, idle] = [Slot::at(1), Slot::at(2)];
        let owner = three.placement().owner(served).unwrap();
        let before = three.last_served(idle).clone();
        let known = SlotSet::from_iter([served]);
        let four = after(&three, &[Change::SetAside(owner)], &known).unwrap();
        assert_eq!(four.last_served(served).number(), three.id().number);
        assert_eq!(four.last_served(served).owner(served), Some(owner));
        assert_eq!(*four.last_served(idle), before);
        let five = next(&four, &[]).unwrap();
        assert_eq!(five.last_served(served), four.last_served(served), "it was not served since");
    }

    #[test]
    fn lost_slots_stay_lost_until_served() {
        let slots = SlotSet::from_iter([Slot::at(1), Slot::at(2)]);
        let given_up = next(&grown(3), &[Change::GiveUp(slots.clone(), BTreeSet::new())]).unwrap();
        let still = next(&given_up, &[]).unwrap();
        assert!(slots.iter().all(|slot| still.is_given_up(slot)));
        let served = after(&still, &[], &SlotSet::from_iter([Slot::at(1)])).unwrap();
        assert!(!served.is_given_up(Slot::at(1)) && served.is_given_up(Slot::at(2)));
        let number = Some(given_up.id().number);
        assert_eq!(served.given_up_in(Slot::at(1)), number, "who was away has to know");
    }

    #[test]
    fn epochs_without_served_slots_are_forgotten() {
        let mut epoch = grown(3);
        for _ in 0..10 {
            let all: SlotSet = Slot::all().collect();
            epoch = after(&epoch, &[], &all).unwrap();
            assert_eq!(epoch.served.epochs.len(), 1);
        }
    }

    #[test]
    fn joiners_cannot_take_the_majority() {
        let mut epoch = grown(3);
        for n in 3..8 {
            epoch = next(&epoch, &[Change::Join(joining(n))]).unwrap();
            epoch = next(&epoch, &[Change::SetAside(boot(n))]).unwrap();
        }
        assert_eq!(epoch.voters().len(), 3, "five ended before they were full");
    }

    #[test]
    fn new_members_take_votes_from_aside() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let joined = next(&aside, &[Change::Join(joining(3))]).unwrap();
        let full = next(&joined, &[Change::BecomeFull(boot(3))]).unwrap();
        assert_eq!(full.voters(), [boot(0), boot(1), boot(3)].into());
        let back = next(&full, &[Change::ComeBack(boot(2))]).unwrap();
        assert!(!back.is_voter(boot(2)));
        let four = next(&back, &[Change::BecomeFull(boot(2))]).unwrap();
        assert_eq!(four.voters().len(), 4);
    }

    #[test]
    fn new_boots_inherit_the_vote() {
        let aside = next(&grown(3), &[Change::SetAside(boot(2))]).unwrap();
        let joined = next(&aside, &[Change::Join(reborn(2))]).unwrap();
        assert_eq!(joined.voters(), [boot(0), boot(1), reborn(2).boot].into());
    }

    #[test]
    fn acknowledgements_bound_the_missing_holders() {
        use Acknowledgements::{All, One};
        use Replication::{Backups, Full};
        for (replication, acknowledgements, holders, expected) in [
            (Backups(1), One, 2, 1),
            (Backups(2), One, 3, 1),
            (Backups(2), All, 3, 2),
            (Backups(2), One, 1, 0),
            (Full, One, 5, 2),
            (Full, One, 4, 2),
            (Full, One, 2, 1),
            (Full, All, 5, 4),
        ] {
            let settings = Settings { replication, acknowledgements, policy: None };
            let a = settings.acknowledgements(holders);
            assert_eq!(a, expected, "{settings:?} with {holders}");
            let has_a_majority = a + 1 > holders / 2;
            assert!(replication != Full || has_a_majority);
        }
    }

    #[test]
    fn without_its_rule_the_policy_relaxes() {
        let change = [Change::SetAside(boot(2))];
        let without = Rules::without(Rule::P1);
        let two = grown(3).successor(&change, &SlotSet::new(), without).unwrap();
        assert_eq!(two.policy(), PartitionPolicy::Degrade);
    }

    #[test]
    fn without_their_rule_joiners_take_the_majority() {
        let change = [Change::Join(joining(3))];
        let without = Rules::without(Rule::E2);
        let joined = grown(3).successor(&change, &SlotSet::new(), without).unwrap();
        assert!(joined.is_voter(boot(3)), "before it holds anything");
    }

    #[test]
    fn the_protocol_is_raised_when_all_speak_it() {
        let speaking = |n, highest| {
            let protocol = Versions { lowest: 1, highest };
            Member { votes: true, protocol, ..full(n) }
        };
        let epoch = |highest: [u32; 2]| {
            let members = (0..2).map(|n| speaking(n, highest[n])).collect();
            Epoch { protocol: 1, ..Epoch::of(lineage(), key(), SETTINGS, members) }
        };
        let raise = [Change::RaiseProtocol];
        let refused = Err(IllegalChange::NotHigher { version: 1 });
        assert_eq!(next(&epoch([1, 2]), &raise), refused);
        let raised = next(&epoch([3, 2]), &raise).unwrap();
        assert_eq!(raised.protocol(), 2);
    }

    #[test]
    fn recovery_gives_up_every_slot() {
        let three = grown(3);
        let again = three.found_again(other(), name(1), vec![reborn(0), joining(1), reborn(2)]);
        let EpochId { lineage, number } = again.id();
        assert_eq!((lineage, number), (other(), three.id().number + 1));
        assert!(Slot::all().all(|slot| again.is_given_up(slot)));
        assert!(again.members().iter().all(|member| member.role == Role::Full && member.votes));
        assert_eq!((again.policy(), again.founder()), (three.policy(), &name(1)));
        assert_eq!(again.key(), three.key());
        let later = EpochId { number: 99, ..three.id() };
        assert!(again.descends_from(three.id()) && again.descends_from(later));
    }

    #[test]
    fn a_split_takes_the_votes_of_others() {
        let two = grown(2);
        let split = two.split(other(), name(0), &[boot(0)].into());
        assert_eq!((split.voters(), split.quorum()), ([boot(0)].into(), 1));
        assert_eq!(split.member(boot(1)).unwrap().role, Role::Aside);
        assert_eq!(split.last_served(Slot::at(1)).number(), two.id().number);
        assert!(split.descends_from(two.id()));
        let later = EpochId { number: two.id().number + 1, ..two.id() };
        assert!(!split.descends_from(later), "the other side went on");
        assert!(!two.descends_from(split.id()));
    }

    #[test]
    fn sides_of_a_split_have_a_common_ancestor() {
        let two = grown(2);
        let split = |n: usize| two.split(Lineage::new([n as u8; 16]), name(n), &[boot(n)].into());
        let (one, other) = (split(0), split(1));
        let later = next(&one, &[]).unwrap();
        assert_eq!(later.common_ancestor(&other), Some(two.id()));
        assert_eq!(later.common_ancestor(&one), Some(one.id()));
        let on = next(&two, &[]).unwrap();
        assert_eq!(on.common_ancestor(&later), Some(two.id()), "the others went on");
        let alone = Epoch::found(other.id().lineage, key(), SETTINGS, joining(0));
        assert_eq!(alone.common_ancestor(&two), None);
    }

    #[test]
    fn a_reconfiguration_counts_as_what_all_started_with() {
        let started_with = Some(SETTINGS);
        let joined = [Change::Join(Member { started_with, ..joining(3) })];
        let four = next(&grown(3), &joined).unwrap();
        assert_eq!(four.member(boot(3)).unwrap().started_with, Some(SETTINGS));
        let other = Settings { acknowledgements: Acknowledgements::All, ..SETTINGS };
        let after = next(&four, &[Change::Reconfigure(other)]).unwrap();
        assert_eq!(*after.settings(), other);
        assert!(after.members().iter().all(|member| member.started_with.is_none()));
    }

    fn other() -> Lineage {
        Lineage::new([8; 16])
    }

    fn name(n: usize) -> Name {
        joining(n).name
    }

    pub(crate) const SETTINGS: Settings = Settings {
        replication: Replication::Backups(1),
        acknowledgements: Acknowledgements::One,
        policy: None,
    };

    pub(crate) fn boot(n: usize) -> Boot {
        Boot::new([n as u8 + 1; 16])
    }

    pub(crate) fn joining(n: usize) -> Member {
        Member::joining(format!("n{n}").parse().unwrap(), boot(n), String::new(), None)
    }

    pub(crate) fn full(n: usize) -> Member {
        Member { role: Role::Full, ..joining(n) }
    }

    /// Another process of the same name.
    pub(crate) fn reborn(n: usize) -> Member {
        Member { boot: boot(n + 100), ..joining(n) }
    }

    /// A service that grew to the given number of full members.
    pub(crate) fn grown(size: usize) -> Epoch {
        let mut epoch = Epoch::found(lineage(), key(), SETTINGS, joining(0));
        for n in 1..size {
            epoch = next(&epoch, &[Change::Join(joining(n))]).unwrap();
            epoch = next(&epoch, &[Change::BecomeFull(boot(n))]).unwrap();
        }
        epoch
    }

    /// The successor, where no slot is served.
    pub(crate) fn next(epoch: &Epoch, changes: &[Change]) -> Result<Epoch, IllegalChange> {
        after(epoch, changes, &SlotSet::new())
    }

    /// The successor, where these slots are served.
    pub(crate) fn after(
        epoch: &Epoch,
        changes: &[Change],
        served: &SlotSet,
    ) -> Result<Epoch, IllegalChange> {
        epoch.successor(changes, served, Rules::default())
    }

    pub(crate) fn lineage() -> Lineage {
        Lineage::new([9; 16])
    }

    pub(crate) fn key() -> HashKey {
        HashKey::new([7; 16])
    }
}
