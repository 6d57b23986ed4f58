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
    /// The leases that other nodes have of this one or of the owner before it, by reader.
    granted: BTreeMap<Boot, Vec<Granted>>,
}

#[derive(Debug, Default)]
struct Held {
    slots: SlotSet,
    until: Duration,
    /// The time when it was last requested.
    asked: Option<Duration>,
}

/// A lease that may still run.
#[derive(Debug)]
struct Granted {
    slots: SlotSet,
    /// By this node's clock.
    until: Duration,
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
    pub fn grant(&mut self, reader: Boot, slots: SlotSet, length: Duration, now: Duration) {
        self.granted.retain(|_, leases| {
            leases.retain(|lease| lease.until > now);
            !leases.is_empty()
        });
        let until = now.saturating_add(length.saturating_mul(6) / 5);
        self.granted.entry(reader).or_default().push(Granted { slots, until });
    }

    /// Returns the nodes that may read a slot, and until when.
    pub fn readers_of(&self, slot: Slot, now: Duration) -> Vec<(Boot, Duration)> {
        self.running(now, |slots| slots.contains(slot))
    }

    /// Returns the nodes that may read one of these slots, and until when.
    pub fn readers_of_any(&self, slots: &SlotSet, now: Duration) -> Vec<(Boot, Duration)> {
        self.running(now, |granted| slots.iter().any(|slot| granted.contains(slot)))
    }

    fn running(&self, now: Duration, names: impl Fn(&SlotSet) -> bool) -> Vec<(Boot, Duration)> {
        let last = |leases: &Vec<Granted>| {
            let named = leases.iter().filter(|lease| names(&lease.slots));
            named.map(|lease| lease.until).max().filter(|until| *until > now)
        };
        let readers = self.granted.iter();
        readers.filter_map(|(boot, leases)| Some((*boot, last(leases)?))).collect()
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
        readers.on_lease(boot(1), ms(0), ms(300), slots());
        assert!(readers.may_read(boot(1), slot(), ms(299)));
        assert!(!readers.may_read(boot(1), slot(), ms(300)));
        assert!(!readers.may_read(boot(1), Slot::at(2), ms(10)), "it names slots");
    }

    #[test]
    fn a_read_lease_is_renewed_before_it_ends() {
        let mut readers = Readers::default();
        readers.has_to_ask(boot(1), ms(0));
        readers.on_lease(boot(1), ms(0), ms(300), slots());
        assert!(!readers.has_to_ask(boot(1), ms(150)));
        assert!(readers.has_to_ask(boot(1), ms(200)));
        readers.on_epoch();
        assert!(!readers.may_read(boot(1), slot(), ms(210)), "an epoch ends it");
    }

    #[test]
    fn granted_leases_run_longer_here_than_there() {
        let mut readers = Readers::default();
        readers.grant(boot(1), slots(), ms(300), ms(0));
        readers.on_epoch();
        assert_eq!(readers.readers_of(slot(), ms(359)), [(boot(1), ms(360))]);
        assert!(readers.readers_of(slot(), ms(360)).is_empty());
    }

    #[test]
    fn a_granted_lease_counts_for_its_slots_alone() {
        let mut readers = Readers::default();
        let other = Slot::at(2);
        readers.grant(boot(1), slots(), ms(300), ms(0));
        readers.grant(boot(1), SlotSet::from_iter([other]), ms(300), ms(200));
        assert_eq!(readers.readers_of(slot(), ms(210)), [(boot(1), ms(360))]);
        assert_eq!(readers.readers_of(other, ms(210)), [(boot(1), ms(560))]);
        let both = SlotSet::from_iter([slot(), other]);
        assert_eq!(readers.readers_of_any(&both, ms(210)), [(boot(1), ms(560))]);
        assert!(readers.readers_of(Slot::at(3), ms(210)).is_empty());
        readers.grant(boot(2), slots(), ms(300), ms(400));
        assert_eq!(readers.readers_of(slot(), ms(410)), [(boot(2), ms(760))]);
    }

    fn slots() -> SlotSet {
        SlotSet::from_iter([slot()])
    }

    fn slot() -> Slot {
        Slot::at(1)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
