//! Read leases: under which nodes answer reads from their copies, and which nodes do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::member::Boot;
use crate::slots::{Slot, SlotSet};

/// The read leases that this node has, and those that it granted.
#[derive(Debug, Default)]
pub struct Readers {
    /// The leases that this node has in this epoch, by owner.
    held: BTreeMap<Boot, Held>,
    /// The latest time until which other nodes may read, by this node's clock.
    granted: BTreeMap<Boot, Duration>,
}

#[derive(Debug, Default)]
struct Held {
    slots: SlotSet,
    until: Duration,
    /// The time when it was last requested.
    asked: Option<Duration>,
}

impl Readers {
    /// Returns true if this node may answer reads of a slot that another node owns.
    pub fn may_read(&self, owner: Boot, slot: Slot, now: Duration) -> bool {
        let is_good = |held: &Held| now < held.until && held.slots.contains(slot);
        self.held.get(&owner).is_some_and(is_good)
    }

    /// Returns true if an arriving read has to request a lease: there is none, or half of it is
    /// over.
    pub fn has_to_ask(&mut self, owner: Boot, now: Duration) -> bool {
        let held = self.held.entry(owner).or_default();
        let is_running = held.until.saturating_sub(now) > RENEWED;
        let is_asked = held.asked.is_some_and(|asked| now.saturating_sub(asked) < RENEWED);
        if is_running || is_asked {
            return false;
        }
        held.asked = Some(now);
        true
    }

    /// Takes a lease. It counts from when it was asked for, by this node's clock, which may be slow.
    pub fn on_lease(&mut self, owner: Boot, asked: Duration, length: Duration, slots: SlotSet) {
        let held = self.held.entry(owner).or_default();
        if held.asked == Some(asked) {
            (held.slots, held.until) = (slots, asked.saturating_add(length));
        }
    }

    /// Notes a lease that this node grants, by its own clock, which may be fast.
    pub fn grant(&mut self, reader: Boot, length: Duration, now: Duration) {
        let until = now.saturating_add(length.saturating_mul(6) / 5);
        let granted = self.granted.entry(reader).or_default();
        *granted = until.max(*granted);
    }

    /// The nodes that may read, and until when.
    pub fn granted(&self, now: Duration) -> Vec<(Boot, Duration)> {
        let running = self.granted.iter().filter(|(_, until)| **until > now);
        running.map(|(boot, until)| (*boot, *until)).collect()
    }

    /// Another epoch: the leases of this node are over. Those that it granted may still run.
    pub fn on_epoch(&mut self) {
        self.held.clear();
    }
}

/// A lease is asked for again when less than this is left of it, while reads arrive.
const RENEWED: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn read_leases_count_from_the_request() {
        let mut readers = Readers::default();
        assert!(!readers.may_read(boot(1), slot(), ms(0)));
        assert!(readers.has_to_ask(boot(1), ms(0)));
        assert!(!readers.has_to_ask(boot(1), ms(50)), "it is under way");
        readers.on_lease(boot(1), ms(0), ms(300), SlotSet::from_iter([slot()]));
        assert!(readers.may_read(boot(1), slot(), ms(299)));
        assert!(!readers.may_read(boot(1), slot(), ms(300)));
        assert!(!readers.may_read(boot(1), Slot::at(2), ms(10)), "it names slots");
    }

    #[test]
    fn a_read_lease_is_renewed_before_it_ends() {
        let mut readers = Readers::default();
        readers.has_to_ask(boot(1), ms(0));
        readers.on_lease(boot(1), ms(0), ms(300), SlotSet::from_iter([slot()]));
        assert!(!readers.has_to_ask(boot(1), ms(150)));
        assert!(readers.has_to_ask(boot(1), ms(200)));
        readers.on_epoch();
        assert!(!readers.may_read(boot(1), slot(), ms(210)), "an epoch ends it");
    }

    #[test]
    fn granted_leases_run_longer_here_than_there() {
        let mut readers = Readers::default();
        readers.grant(boot(1), ms(300), ms(0));
        readers.on_epoch();
        assert_eq!(readers.granted(ms(359)), [(boot(1), ms(360))]);
        assert!(readers.granted(ms(360)).is_empty());
    }

    fn slot() -> Slot {
        Slot::at(1)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
