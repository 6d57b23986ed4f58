//! Placement: the members that hold a slot.

use std::cmp::Reverse;

use crate::member::{Boot, Member, Name, Role};
pub use crate::settings::Replication;
use crate::slots::{HashKey, Slot};

/// Places slots on the full members of an epoch: rendezvous hashing over their names, so that a
/// member that comes or goes moves the slots it takes or leaves, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    key: HashKey,
    seats: Vec<Seat>,
    copies: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seat {
    name: Name,
    boot: Boot,
    zone: Option<String>,
}

impl Placement {
    /// Places slots on those of the members that are full.
    pub fn new(key: HashKey, members: &[Member], replication: Replication) -> Self {
        let full = members.iter().filter(|member| member.role == Role::Full);
        let seats: Vec<_> = full.map(Seat::of).collect();
        let copies = match replication {
            Replication::Full => seats.len(),
            Replication::Backups(backups) => 1 + backups as usize,
        };
        Self { key, seats, copies }
    }

    /// The member that serialises the writes of a slot; `None` without full members.
    pub fn owner(&self, slot: Slot) -> Option<Boot> {
        let first = self.seats.iter().min_by_key(|seat| self.rank(seat, slot));
        first.map(|seat| seat.boot)
    }

    /// The members that hold a slot, the owner first, in different zones where possible.
    pub fn holders(&self, slot: Slot) -> Vec<Boot> {
        let mut ranked: Vec<_> = self.seats.iter().collect();
        ranked.sort_by_key(|seat| self.rank(seat, slot));
        let mut holders: Vec<&Seat> = Vec::new();
        while holders.len() < self.copies && !ranked.is_empty() {
            let is_apart = |seat: &&Seat| {
                seat.zone.is_none() || holders.iter().all(|holder| holder.zone != seat.zone)
            };
            let next = ranked.iter().position(is_apart).unwrap_or_default();
            holders.push(ranked.remove(next));
        }
        holders.iter().map(|seat| seat.boot).collect()
    }

    /// The holders of every slot.
    pub fn table(&self) -> Table {
        Table(Slot::all().map(|slot| self.holders(slot).into()).collect())
    }

    /// The members that slots are placed on: their names, boots and zones.
    #[cfg(feature = "wire")]
    pub(crate) fn seats(&self) -> Vec<Member> {
        self.seats.iter().map(Seat::member).collect()
    }

    fn rank<'s>(&self, seat: &'s Seat, slot: Slot) -> (Reverse<u64>, &'s Name) {
        let mut bytes = (slot.index() as u16).to_le_bytes().to_vec();
        bytes.extend(seat.name.as_str().as_bytes());
        (Reverse(self.key.hash(&bytes)), &seat.name)
    }
}

/// The holders of every slot, so that finding them does not depend on the number of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(Vec<Box<[Boot]>>);

impl Table {
    /// The holders of a slot, the owner first.
    pub fn holders(&self, slot: Slot) -> &[Boot] {
        &self.0[slot.index()]
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: Slot) -> Option<Boot> {
        self.holders(slot).first().copied()
    }
}

impl Seat {
    fn of(member: &Member) -> Self {
        Self { name: member.name.clone(), boot: member.boot, zone: member.zone.clone() }
    }

    #[cfg(feature = "wire")]
    fn member(&self) -> Member {
        let Self { name, boot, zone } = self.clone();
        Member { role: Role::Full, ..Member::joining(name, boot, String::new(), zone) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::epoch::tests::{boot, full};

    const KEY: [u8; 16] = [7; 16];

    #[test]
    fn each_slot_has_an_owner_and_backups() {
        let placement = placement(&[full(0), full(1), full(2)], Replication::Backups(1));
        for slot in Slot::all() {
            let holders = placement.holders(slot);
            assert_eq!(holders.len(), 2);
            assert_ne!(holders[0], holders[1]);
            assert_eq!(placement.owner(slot), Some(holders[0]));
        }
    }

    #[test]
    fn members_own_about_the_same_share() {
        let members: Vec<_> = (0..5).map(full).collect();
        let placement = placement(&members, Replication::Backups(1));
        let mut shares = BTreeMap::<_, usize>::new();
        for slot in Slot::all() {
            *shares.entry(placement.owner(slot).unwrap()).or_default() += 1;
        }
        assert!(shares.values().all(|share| (700..940).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_leaving_member_moves_only_its_slots() {
        let members: Vec<_> = (0..4).map(full).collect();
        let before = placement(&members, Replication::Backups(1));
        let after = placement(&members[..3], Replication::Backups(1));
        for slot in Slot::all() {
            let (before, after) = (before.holders(slot), after.holders(slot));
            let stay: Vec<_> = before.iter().filter(|holder| **holder != boot(3)).collect();
            assert!(stay.iter().all(|holder| after.contains(holder)));
            if before[0] != boot(3) {
                assert_eq!(before[0], after[0], "owners stay");
            }
        }
    }

    #[test]
    fn holders_are_in_different_zones_where_possible() {
        let in_zone = |n: usize, zone: &str| Member { zone: Some(zone.to_owned()), ..full(n) };
        let members = [in_zone(0, "x"), in_zone(1, "x"), in_zone(2, "x"), in_zone(3, "y")];
        let placement = placement(&members, Replication::Backups(2));
        for slot in Slot::all() {
            let holders = placement.holders(slot);
            assert_eq!(holders.len(), 3);
            assert!(holders.contains(&boot(3)), "the only one in its zone");
        }
    }

    #[test]
    fn all_full_members_hold_everything_with_full_replication() {
        let aside = Member { role: Role::Aside, ..full(3) };
        let placement = placement(&[full(0), full(1), full(2), aside], Replication::Full);
        assert!(Slot::all().all(|slot| placement.holders(slot).len() == 3));
    }

    fn placement(members: &[Member], replication: Replication) -> Placement {
        Placement::new(HashKey::new(KEY), members, replication)
    }
}
