//! Where other nodes may be found, and who was found there.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::placement::Name;

/// Addresses, as `host:port`. A bounded number of them, whatever peers say.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, Address>);

#[derive(Debug, Default)]
struct Address {
    name: Option<Name>,
    is_being_dialled: bool,
    /// Whether it was certain at the last attempt that nobody is there.
    is_refused: bool,
    failures: u32,
    failing_since: Option<Duration>,
    next: Duration,
}

impl Addresses {
    /// Hears of addresses at which somebody may be.
    pub(super) fn learn(&mut self, addresses: impl IntoIterator<Item = String>) {
        for address in addresses {
            if self.0.len() < MAX_ADDRESSES || self.0.contains_key(&address) {
                self.0.entry(address).or_default();
            }
        }
    }

    /// A node is at an address, and was reached just now.
    pub(super) fn found(&mut self, address: &str, name: &Name) {
        self.learn([address.to_owned()]);
        if let Some(known) = self.0.get_mut(address) {
            let is_being_dialled = known.is_being_dialled;
            *known = Address { name: Some(name.clone()), is_being_dialled, ..Address::default() };
        }
    }

    /// An address was dialled, and nobody answered. It is dialled less and less often, and forgotten
    /// in the end.
    pub(super) fn failed(&mut self, now: Duration, address: &str, is_refused: bool) {
        let Some(known) = self.0.get_mut(address) else {
            return;
        };
        known.is_refused = is_refused;
        known.failures += 1;
        let since = *known.failing_since.get_or_insert(now);
        let pause = DIAL_EVERY * 2_u32.saturating_pow(known.failures - 1);
        known.next = now + pause.min(DIAL_AT_LEAST_EVERY);
        if since + FORGET_AFTER <= now {
            self.0.remove(address);
        }
    }

    /// Whoever dials an address is done with it.
    pub(super) fn dialled(&mut self, address: &str) {
        if let Some(known) = self.0.get_mut(address) {
            known.is_being_dialled = false;
        }
    }

    /// Whether somebody may be out of sight here: who is neither linked nor known not to be there,
    /// unless most of the others are linked.
    pub(super) fn hide_somebody(&self, me: &Name, is_linked: impl Fn(&Name) -> bool) -> bool {
        let others = || self.0.values().filter(|known| known.name.as_ref() != Some(me));
        let is_linked = |known: &&Address| known.name.as_ref().is_some_and(&is_linked);
        let is_silent = |known: &Address| !is_linked(&known) && !known.is_refused;
        let linked = others().filter(is_linked).count();
        others().any(is_silent) && 2 * (linked + 1) <= others().count() + 1
    }

    /// Addresses to be dialled now: of nobody who is linked.
    pub(super) fn due(&mut self, now: Duration, is_linked: impl Fn(&Name) -> bool) -> Vec<String> {
        let is_due = |known: &Address| {
            !known.is_being_dialled
                && known.next <= now
                && !known.name.as_ref().is_some_and(&is_linked)
        };
        let due = self.0.iter_mut().filter(|(_, known)| is_due(known));
        due.map(|(address, known)| {
            known.is_being_dialled = true;
            known.next = now + DIAL_EVERY;
            address.clone()
        })
        .collect()
    }
}

/// How often addresses are dialled that nobody is linked at, and how often at least.
const DIAL_EVERY: Duration = Duration::from_millis(100);
const DIAL_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// How long an address may fail. Seeds are looked up again.
const FORGET_AFTER: Duration = Duration::from_secs(10 * 60);

/// How many addresses are known at most.
const MAX_ADDRESSES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dialled_until_its_node_is_linked() {
        let (mut addresses, name) = (Addresses::default(), "n1".parse().unwrap());
        addresses.learn(["a:1".to_owned()]);
        assert_eq!(addresses.due(Duration::ZERO, |_| false), ["a:1"]);
        assert!(addresses.due(SECOND, |_| false).is_empty(), "it is being dialled");
        addresses.found("a:1", &name);
        addresses.dialled("a:1");
        assert!(addresses.due(SECOND, |linked| *linked == name).is_empty());
        assert_eq!(addresses.due(SECOND, |_| false), ["a:1"]);
    }

    #[test]
    fn an_address_where_nobody_answers_is_dialled_less_often_and_forgotten() {
        let mut addresses = Addresses::default();
        addresses.learn(["a:1".to_owned()]);
        for n in 1..10 {
            addresses.failed(SECOND * n, "a:1", true);
        }
        assert!(addresses.due(SECOND * 9 + SECOND / 2, |_| false).is_empty());
        assert_eq!(addresses.due(SECOND * 10, |_| false), ["a:1"]);
        addresses.failed(SECOND + FORGET_AFTER, "a:1", true);
        assert!(addresses.0.is_empty());
    }

    #[test]
    fn who_is_silent_may_be_there_and_who_refuses_is_not() {
        let mut addresses = Addresses::default();
        let [me, other]: [Name; 2] = ["n0", "n1"].map(|name| name.parse().unwrap());
        addresses.learn(["a:1", "a:2", "a:3"].map(str::to_owned));
        addresses.found("a:1", &me);
        addresses.failed(SECOND, "a:2", true);
        addresses.failed(SECOND, "a:3", false);
        assert!(addresses.hide_somebody(&me, |_| false));
        addresses.found("a:2", &other);
        assert!(!addresses.hide_somebody(&me, |name| *name == other), "two of three are there");
        addresses.failed(SECOND, "a:2", true);
        addresses.failed(SECOND, "a:3", true);
        assert!(!addresses.hide_somebody(&me, |_| false), "nobody else is");
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let mut addresses = Addresses::default();
        addresses.learn((0..2 * MAX_ADDRESSES).map(|n| format!("a:{n}")));
        assert_eq!(addresses.0.len(), MAX_ADDRESSES);
    }

    const SECOND: Duration = Duration::from_secs(1);
}
