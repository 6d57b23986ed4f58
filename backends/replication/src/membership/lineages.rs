//! The choice between two epochs.

use std::cmp::Reverse;

use crate::epoch::{Epoch, PartitionPolicy};
use crate::member::Role;
use crate::rules::{Rule, Rules};

/// The relation of another epoch to this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It follows the own one, in its lineage or in one that descends from it.
    Descends,
    /// The own one follows it.
    Ancestor,
    /// Neither follows the other, and it prevails: under `Degrade`, by size.
    Prevails,
    /// Neither follows the other, and the own one prevails.
    Yields,
    /// An operator has to decide.
    Foreign,
}

/// Compares another epoch with the own one: descent goes before size, and size counts under `Degrade` only.
pub(super) fn relation(other: &Epoch, own: &Epoch, rules: Rules) -> Relation {
    let (theirs, ours) = (other.id(), own.id());
    if theirs.lineage == ours.lineage {
        let is_later = theirs.number > ours.number;
        return if is_later { Relation::Descends } else { Relation::Ancestor };
    }
    if other.key() != own.key() {
        return Relation::Foreign;
    }
    if rules.keep(Rule::D2) && other.descends_from(ours) {
        return Relation::Descends;
    }
    if rules.keep(Rule::D2) && own.descends_from(theirs) {
        return Relation::Ancestor;
    }
    by_size(other, own, rules)
}

fn by_size(other: &Epoch, own: &Epoch, rules: Rules) -> Relation {
    let is_strict = |epoch: &Epoch| epoch.policy() == PartitionPolicy::Fail && rules.keep(Rule::D2);
    let prevails = match (is_strict(other), is_strict(own)) {
        (true, true) => return Relation::Foreign,
        (false, false) => size(other) > size(own),
        (other, _) => other,
    };
    if prevails { Relation::Prevails } else { Relation::Yields }
}

/// More members that are not aside; then the higher number; then the lower name of the founder.
fn size(epoch: &Epoch) -> impl Ord + '_ {
    let there = epoch.members().iter().filter(|member| member.role != Role::Aside).count();
    let id = epoch.id();
    (there, id.number, Reverse((epoch.founder(), id.lineage)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{SETTINGS, boot, full, grown, next};
    use crate::epoch::{Change, Lineage};
    use crate::member::Member;
    use crate::slots::HashKey;

    #[test]
    fn a_later_epoch_of_the_lineage_follows() {
        let two = grown(2);
        let three = next(&two, &[]).unwrap();
        assert_eq!(compare(&three, &two), [Relation::Descends, Relation::Ancestor]);
    }

    #[test]
    fn descent_goes_before_size() {
        let five = grown(5);
        let members = (0..3).map(full).collect();
        let three = five.found_again(lineage(8), full(0).name, members);
        assert_eq!(compare(&three, &five), [Relation::Descends, Relation::Ancestor]);
        let without = relation(&three, &five, Rules::without(Rule::D2));
        assert_eq!(without, Relation::Yields, "without the rule, the larger one draws it back");
    }

    #[test]
    fn sides_of_a_split_go_by_size() {
        let two = grown(2);
        let split = |n: usize| two.split(lineage(n as u8), full(n).name, &[boot(n)].into());
        let (one, other) = (split(0), split(1));
        assert_eq!(compare(&one, &other), [Relation::Prevails, Relation::Yields], "the name");
        let longer = next(&other, &[]).unwrap();
        assert_eq!(compare(&longer, &one), [Relation::Prevails, Relation::Yields], "the number");
        let larger = next(&one, &[Change::ComeBack(boot(1))]).unwrap();
        let longer = next(&longer, &[]).unwrap();
        assert_eq!(compare(&larger, &longer), [Relation::Prevails, Relation::Yields], "the size");
    }

    #[test]
    fn a_majority_is_not_left_for_a_split() {
        let all: Vec<_> = (0..2).map(voter).collect();
        let two = crate::epoch::Epoch::of(lineage(1), key(7), SETTINGS, all);
        let split = two.split(lineage(2), full(0).name, &[boot(0)].into());
        let on = next(&two, &[Change::Join(full(2))]).unwrap();
        assert_eq!(compare(&on, &split), [Relation::Prevails, Relation::Yields]);
    }

    #[test]
    fn strict_lineages_are_kept_over_lax_ones() {
        let split = grown(2).split(lineage(2), full(0).name, &[boot(0), boot(1)].into());
        let strict = grown(3);
        assert_eq!(compare(&strict, &split), [Relation::Prevails, Relation::Yields]);
    }

    #[test]
    fn two_strict_lineages_are_foreign_to_each_other() {
        let three = grown(3);
        let again = |n| three.found_again(lineage(n), full(0).name, (0..3).map(full).collect());
        assert_eq!(compare(&again(4), &again(5)), [Relation::Foreign; 2]);
        let members = (0..2).map(voter).collect();
        let other_service = crate::epoch::Epoch::of(lineage(6), key(6), SETTINGS, members);
        assert_eq!(compare(&other_service, &grown(2)), [Relation::Foreign; 2]);
    }

    fn compare(one: &Epoch, other: &Epoch) -> [Relation; 2] {
        [relation(one, other, Rules::default()), relation(other, one, Rules::default())]
    }

    fn voter(n: usize) -> Member {
        Member { votes: true, ..full(n) }
    }

    fn lineage(n: u8) -> Lineage {
        Lineage::new([n; 16])
    }

    fn key(n: u8) -> HashKey {
        HashKey::new([n; 16])
    }
}
