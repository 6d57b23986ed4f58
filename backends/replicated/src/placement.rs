//! Which nodes hold a record: computed by everybody, kept by nobody.

use std::cmp::Reverse;

use steadfast_core::{RecordId, RouteLabel};

/// The name of a node: stable over restarts, and the label by which a balancer knows it.
pub(crate) type Name = RouteLabel;

/// Rendezvous hashing over the names of the members that records are placed on.
///
/// A member that comes or goes moves the records it takes or leaves, and no other. The hash is part
/// of the protocol: nodes of different versions have to agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Sorted by name, so that equal memberships compare equal.
    members: Vec<Member>,
    copies: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: Name,
    key: (u64, u64),
}

impl Placement {
    /// Places records on `copies` of these members.
    pub(crate) fn new(names: impl IntoIterator<Item = Name>, copies: usize) -> Self {
        let mut members: Vec<_> = names.into_iter().map(Member::new).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Self { members, copies: copies.max(1) }
    }

    /// The member that serialises the writes of a record.
    pub(crate) fn owner(&self, id: RecordId) -> Option<&Name> {
        let highest = self.members.iter().max_by_key(|member| (member.score(id), &member.name));
        highest.map(|member| &member.name)
    }

    /// The members that hold a record, the owner first.
    pub(crate) fn holders(&self, id: RecordId) -> Vec<Name> {
        let mut ranked: Vec<_> =
            self.members.iter().map(|member| Reverse((member.score(id), &member.name))).collect();
        ranked.sort_unstable();
        ranked.truncate(self.copies);
        ranked.into_iter().map(|Reverse((_, name))| name.clone()).collect()
    }

    /// Whether a member is one of those that hold a record.
    pub(crate) fn holds(&self, name: &Name, id: RecordId) -> bool {
        let Some(own) = self.members.iter().find(|member| member.name == *name) else {
            return false;
        };
        let own = (own.score(id), &own.name);
        let higher = self.members.iter().filter(|other| (other.score(id), &other.name) > own);
        higher.take(self.copies).count() < self.copies
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.members.iter().map(|member| &member.name)
    }

    pub(crate) fn contains(&self, name: &Name) -> bool {
        self.members.iter().any(|member| member.name == *name)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// A number that equal placements share, and others by chance only.
    pub(crate) fn digest(&self) -> u64 {
        let fold = |sum: u64, member: &Member| {
            let bytes = [sum.to_le_bytes(), member.key.0.to_le_bytes()].concat();
            siphash(KEY, &bytes)
        };
        self.members.iter().fold(self.copies as u64, fold)
    }
}

impl Member {
    fn new(name: Name) -> Self {
        let (a, b) = KEY;
        let bytes = name.as_str().as_bytes();
        Self { key: (siphash((a, b), bytes), siphash((b, a), bytes)), name }
    }

    fn score(&self, id: RecordId) -> u64 {
        siphash(self.key, id.as_bytes())
    }
}

/// A number for a node: part of its stamps, so that no two nodes make the same one.
pub(crate) fn node_number(name: &Name, incarnation: u64) -> u32 {
    let bytes = [&incarnation.to_le_bytes(), name.as_str().as_bytes()].concat();
    siphash(KEY, &bytes) as u32
}

/// The digits of pi: a key that hides nothing, but separates this use of the hash from others.
const KEY: (u64, u64) = (0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);

/// SipHash-2-4 (Aumasson and Bernstein, 2012). The standard library's hasher promises no version.
pub(crate) fn siphash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut v = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        absorb(&mut v, u64::from_le_bytes(word.try_into().expect("chunks of 8 bytes")));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    last[7] = bytes.len() as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_2_4() {
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn the_placement_of_a_record_never_changes_between_versions() {
        let placement = Placement::new(names(5), 3);
        let holders = placement.holders(id(1));
        assert_eq!(holders.iter().map(Name::as_str).collect::<Vec<_>>(), PLACED);
    }

    #[test]
    fn a_member_that_leaves_moves_its_own_records_only() {
        let (before, after) = (Placement::new(names(5), 2), Placement::new(names(4), 2));
        let gone = &names(5)[4];
        for id in (0..1_000).map(id) {
            let (old, new) = (before.holders(id), after.holders(id));
            let kept: Vec<_> = old.iter().filter(|name| *name != gone).collect();
            assert!(kept.iter().all(|name| new.contains(name)));
            assert_eq!(kept[0], &new[0], "the promoted member is the one that held a copy");
        }
    }

    #[test]
    fn records_are_spread_evenly() {
        let placement = Placement::new(names(4), 2);
        for name in names(4) {
            let owned = (0..4_000).map(id).filter(|id| placement.owner(*id) == Some(&name));
            assert!((850..1_150).contains(&owned.count()));
        }
    }

    #[test]
    fn whoever_is_listed_holds() {
        let placement = Placement::new(names(6), 3);
        for id in (0..100).map(id) {
            let holders = placement.holders(id);
            assert_eq!(placement.owner(id), holders.first());
            for name in names(6) {
                assert_eq!(placement.holds(&name, id), holders.contains(&name));
            }
        }
    }

    fn names(count: usize) -> Vec<Name> {
        (0..count).map(|n| format!("n{n}").parse().unwrap()).collect()
    }

    fn id(n: u128) -> RecordId {
        RecordId::from_bytes(n.to_be_bytes())
    }

    const PLACED: [&str; 3] = ["n3", "n1", "n4"];
}
