//! Who is there: a failure detector behind a trait, so that another one can take its place.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::placement::Name;

/// Says who is dead. It is believed, but under `Partition::Fail` only a majority buries.
pub(crate) trait Membership: fmt::Debug + Send {
    /// A link to a member is up.
    fn reached(&mut self, name: &Name);
    /// A link to a member is gone.
    fn lost(&mut self, name: &Name, now: Instant);
    /// Members that are taken for dead; each again and again, for as long as it is.
    fn dead(&mut self, now: Instant) -> Vec<Name>;
}

/// Takes a member for dead that could not be linked with for a while.
#[derive(Debug, Default)]
pub(crate) struct ReachMembership {
    lost: BTreeMap<Name, Instant>,
}

impl Membership for ReachMembership {
    fn reached(&mut self, name: &Name) {
        self.lost.remove(name);
    }

    fn lost(&mut self, name: &Name, now: Instant) {
        self.lost.entry(name.clone()).or_insert(now);
    }

    fn dead(&mut self, now: Instant) -> Vec<Name> {
        let is_dead = |since: &Instant| now.saturating_duration_since(*since) >= DEAD_AFTER;
        self.lost.iter().filter(|(_, since)| is_dead(since)).map(|(name, _)| name.clone()).collect()
    }
}

/// How long a member may be out of reach.
const DEAD_AFTER: Duration = Duration::from_millis(1_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_is_who_is_out_of_reach_for_a_while() {
        let (mut members, name) = (ReachMembership::default(), "n1".parse().unwrap());
        let now = Instant::now();
        members.lost(&name, now);
        assert!(members.dead(now + DEAD_AFTER / 2).is_empty());
        assert_eq!(members.dead(now + DEAD_AFTER), std::slice::from_ref(&name));
        members.reached(&name);
        assert!(members.dead(now + DEAD_AFTER).is_empty());
    }
}
