//! The agreed state of the cluster, and its successors.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::member::{Boot, Member, Name, Role};
use crate::placement::{Placement, Replication};
use crate::rules::{Rule, Rules};
use crate::slots::{HashKey, SLOTS, Slot, SlotSet};

/// Which epoch: its lineage, and its number in it.
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
}

/// What all members are configured with alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How many members hold a slot.
    pub replication: Replication,
    /// How many acknowledgements a write waits for.
    pub acknowledgements: Acknowledgements,
    /// `None`: `Degrade` until an epoch has had three full members, then `Fail`.
    pub policy: Option<PartitionPolicy>,
}

/// How many acknowledgements a write waits for, beside the owner's own copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acknowledgements {
    /// One of another holder; with [`Replication::Full`], as many as make a majority of the holders.
    #[default]
    One,
    /// All of the other holders.
    All,
}

/// What happens where a majority of the voters is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartitionPolicy {
    /// Calls fail.
    Fail,
    /// Each side goes on, and copies are merged when the sides meet.
    Degrade,
}

/// The state of the cluster that its members agreed on. It does not change; another one follows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    id: EpochId,
    members: Vec<Member>,
    settings: Settings,
    policy: PartitionPolicy,
    key: HashKey,
    placement: Placement,
    served: Served,
}

/// When each slot was last served, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Served {
    /// The epochs in which some slot was last served.
    epochs: Vec<Arc<LastServed>>,
    /// Which of them it is, for each slot.
    of: Arc<[u16]>,
    given_up: SlotSet,
}

/// An epoch in which slots were last served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LastServed {
    number: u64,
    placement: Placement,
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
}

/// What an epoch changes of the one before. Members are named by boot, so that a change that comes too
/// late does not hit another process of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// A new name joins, or a new boot of a name whose old boot is aside and ceases to be a member.
    Join(Member),
    /// A joining member holds its slots-to-be completely: slots are placed on it.
    BecomeFull(Boot),
    /// A majority of the voters does not reach it.
    SetAside(Boot),
    /// A member that was aside is reached again, and fills its slots.
    ComeBack(Boot),
    /// A member that is aside is not expected back soon.
    LoseVote(Boot),
    /// Slots are placed on it no more.
    Drain(Boot),
    /// A member that was drained goes for good.
    Leave(Boot),
    /// The holders of these slots when last served are not enough, and will not be.
    GiveUp(SlotSet),
    /// Other settings.
    Reconfigure(Settings),
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
    #[error("node {name:?} is {role:?}, which rules this change out")]
    WrongRole {
        /// The member.
        name: Name,
        /// Its role.
        role: Role,
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
    pub fn of(
        lineage: Lineage,
        key: HashKey,
        settings: Settings,
        mut members: Vec<Member>,
    ) -> Self {
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let placement = Placement::new(key, &members, settings.replication);
        let first = LastServed { number: 0, placement: placement.clone() };
        let served = Served {
            epochs: vec![Arc::new(first)],
            of: vec![0; SLOTS].into(),
            given_up: SlotSet::new(),
        };
        let id = EpochId { lineage, number: 1 };
        let policy = settings.policy.unwrap_or_else(|| policy(&members, PartitionPolicy::Degrade));
        Self { id, members, settings, policy, key, placement, served }
    }

    /// The next epoch: what changes, and which slots are known to be served in this one.
    pub fn successor(
        &self,
        changes: &[Change],
        served: &SlotSet,
        rules: Rules,
    ) -> Result<Self, IllegalChange> {
        let mut next = self.clone();
        next.id.number += 1;
        next.served.note(&self.placement, self.id.number, served);
        changes.iter().try_for_each(|change| next.apply(change))?;
        next.fill_up();
        let staying = |voter: &&Boot| next.is_voter(**voter);
        let voters = self.voters();
        if rules.keep(Rule::E1) && voters.iter().filter(staying).count() < self.quorum() {
            return Err(IllegalChange::NoMajority);
        }
        next.policy = next.settings.policy.unwrap_or_else(|| policy(&next.members, self.policy));
        next.placement = Placement::new(next.key, &next.members, next.settings.replication);
        Ok(next)
    }

    fn apply(&mut self, change: &Change) -> Result<(), IllegalChange> {
        match change {
            Change::Join(member) => self.join(member)?,
            Change::BecomeFull(boot) => self.become_a(Role::Full, *boot, &[Role::Joining])?,
            Change::SetAside(boot) => {
                let from = [Role::Joining, Role::Full, Role::Draining];
                self.become_a(Role::Aside, *boot, &from)?;
            }
            Change::ComeBack(boot) => {
                self.become_a(Role::Joining, *boot, &[Role::Aside])?;
                self.member_mut(*boot)?.votes = true;
            }
            Change::LoseVote(boot) => {
                self.become_a(Role::Aside, *boot, &[Role::Aside])?;
                self.member_mut(*boot)?.votes = false;
            }
            Change::Drain(boot) => {
                self.become_a(Role::Draining, *boot, &[Role::Joining, Role::Full])?;
            }
            Change::Leave(boot) => {
                self.become_a(Role::Draining, *boot, &[Role::Draining, Role::Aside])?;
                self.members.retain(|member| member.boot != *boot);
            }
            Change::GiveUp(slots) => self.served.given_up.insert_all(slots),
            Change::Reconfigure(settings) => self.settings = *settings,
        }
        Ok(())
    }

    fn join(&mut self, new: &Member) -> Result<(), IllegalChange> {
        let old = self.members.iter().find(|member| member.name == new.name);
        if let Some(old) = old
            && old.role != Role::Aside
        {
            return Err(IllegalChange::WrongRole { name: old.name.clone(), role: old.role });
        }
        self.members.retain(|member| member.name != new.name);
        self.members.push(Member { role: Role::Joining, votes: true, ..new.clone() });
        self.members.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(())
    }

    fn become_a(&mut self, role: Role, boot: Boot, from: &[Role]) -> Result<(), IllegalChange> {
        let member = self.member_mut(boot)?;
        if !from.contains(&member.role) {
            return Err(IllegalChange::WrongRole { name: member.name.clone(), role: member.role });
        }
        member.role = role;
        Ok(())
    }

    /// Without a full member nothing would ever be served again, so the joining ones become full.
    fn fill_up(&mut self) {
        if self.members.iter().any(|member| member.role == Role::Full) {
            return;
        }
        for member in self.members.iter_mut().filter(|member| member.role == Role::Joining) {
            member.role = Role::Full;
        }
    }

    fn member_mut(&mut self, boot: Boot) -> Result<&mut Member, IllegalChange> {
        let member = self.members.iter_mut().find(|member| member.boot == boot);
        member.ok_or(IllegalChange::Unknown { boot })
    }

    /// Which epoch it is.
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

    /// What all members are configured with alike.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What happens where a majority is out of reach.
    pub fn policy(&self) -> PartitionPolicy {
        self.policy
    }

    /// The key of all hashes.
    pub fn key(&self) -> &HashKey {
        &self.key
    }

    /// Who holds the slots in this epoch.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The boots that vote.
    pub fn voters(&self) -> BTreeSet<Boot> {
        self.members.iter().filter(|member| member.votes).map(|member| member.boot).collect()
    }

    /// Whether a boot votes.
    pub fn is_voter(&self, boot: Boot) -> bool {
        self.member(boot).is_some_and(|member| member.votes)
    }

    /// How many voters are a majority.
    pub fn quorum(&self) -> usize {
        self.members.iter().filter(|member| member.votes).count() / 2 + 1
    }

    /// When and by whom a slot was last served, as far as this epoch knows: it may have been served in
    /// this epoch since.
    pub fn last_served(&self, slot: Slot) -> &LastServed {
        &self.served.epochs[usize::from(self.served.of[slot.index()])]
    }

    /// The slots that were given up and not served since.
    pub fn given_up(&self) -> &SlotSet {
        &self.served.given_up
    }
}

impl Served {
    /// Notes that slots were served in an epoch, and forgets the epochs that no slot names any more.
    fn note(&mut self, placement: &Placement, number: u64, slots: &SlotSet) {
        if slots.is_empty() {
            return;
        }
        let mut epochs = self.epochs.clone();
        epochs.push(Arc::new(LastServed { number, placement: placement.clone() }));
        let newest = epochs.len() - 1;
        let old = |slot: Slot| match slots.contains(slot) {
            true => newest,
            false => usize::from(self.of[slot.index()]),
        };
        let used: BTreeSet<_> = Slot::all().map(old).collect();
        let rank = |index: usize| used.range(..index).count() as u16;
        self.of = Slot::all().map(|slot| rank(old(slot))).collect();
        self.epochs = used.iter().map(|index| Arc::clone(&epochs[*index])).collect();
        self.given_up.remove_all(slots);
    }
}

/// The policy that nobody configured never relaxes.
fn policy(members: &[Member], before: PartitionPolicy) -> PartitionPolicy {
    let full = members.iter().filter(|member| member.role == Role::Full).count();
    if full >= 3 { PartitionPolicy::Fail } else { before }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_founder_is_alone_and_full() {
        let epoch = Epoch::found(lineage(), key(), SETTINGS, joining(0));
        assert_eq!(epoch.members()[0].role, Role::Full);
        assert_eq!(epoch.voters(), BTreeSet::from([boot(0)]));
        assert_eq!(epoch.policy(), PartitionPolicy::Degrade);
        assert!(Slot::all().all(|slot| epoch.last_served(slot).holders(slot) == [boot(0)]));
    }

    #[test]
    fn a_policy_that_is_not_configured_becomes_strict_and_stays_so() {
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
        let replaced = [Change::Join(reborn(1)), Change::Join(reborn(2))];
        assert_eq!(next(&aside, &replaced), Err(IllegalChange::NoMajority));
        assert!(next(&aside, &replaced[..1]).is_ok());
    }

    #[test]
    fn a_new_boot_waits_until_the_old_one_is_aside() {
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
    fn joining_members_become_full_if_no_full_one_is_left() {
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
        let four = three.successor(&[Change::SetAside(owner)], &known, Rules::default()).unwrap();
        assert_eq!(four.last_served(served).number(), three.id().number);
        assert_eq!(four.last_served(served).owner(served), Some(owner));
        assert_eq!(*four.last_served(idle), before);
        let five = next(&four, &[]).unwrap();
        assert_eq!(five.last_served(served), four.last_served(served), "nobody served it since");
    }

    #[test]
    fn a_slot_that_was_given_up_stays_so_until_it_is_served() {
        let slots = SlotSet::from_iter([Slot::at(1), Slot::at(2)]);
        let given_up = next(&grown(3), &[Change::GiveUp(slots.clone())]).unwrap();
        let still = next(&given_up, &[]).unwrap();
        assert_eq!(*still.given_up(), slots);
        let one = SlotSet::from_iter([Slot::at(1)]);
        let served = still.successor(&[], &one, Rules::default()).unwrap();
        assert_eq!(*served.given_up(), SlotSet::from_iter([Slot::at(2)]));
    }

    #[test]
    fn epochs_that_no_slot_was_last_served_in_are_forgotten() {
        let mut epoch = grown(3);
        for _ in 0..10 {
            let all: SlotSet = Slot::all().collect();
            epoch = epoch.successor(&[], &all, Rules::default()).unwrap();
            assert_eq!(epoch.served.epochs.len(), 1);
        }
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

    /// A service that grew to so many full members.
    pub(crate) fn grown(size: usize) -> Epoch {
        let mut epoch = Epoch::found(lineage(), key(), SETTINGS, joining(0));
        for n in 1..size {
            epoch = next(&epoch, &[Change::Join(joining(n))]).unwrap();
            epoch = next(&epoch, &[Change::BecomeFull(boot(n))]).unwrap();
        }
        epoch
    }

    fn next(epoch: &Epoch, changes: &[Change]) -> Result<Epoch, IllegalChange> {
        epoch.successor(changes, &SlotSet::new(), Rules::default())
    }

    fn lineage() -> Lineage {
        Lineage::new([9; 16])
    }

    fn key() -> HashKey {
        HashKey::new([7; 16])
    }
}
