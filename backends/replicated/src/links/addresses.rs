//! Addresses of other nodes, and the boot that was found at each.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_replication::member::Boot;

/// Addresses, as `host:port`: a bounded number of them, however many peers name.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, Address>);

#[derive(Debug, Default)]
struct Address {
    boot: Option<Boot>,
    is_being_dialled: bool,
    failures: u32,
    failing_since: Option<Duration>,
    next: Duration,
}

impl Addresses {
    /// Learns addresses at which nodes may be.
    pub(super) fn learn(&mut self, addresses: impl IntoIterator<Item = String>) {
        for address in addresses {
            if self.0.len() < MAX_ADDRESSES || self.0.contains_key(&address) {
                self.0.entry(address).or_default();
            }
        }
    }

    /// Notes that a node was reached at an address.
    pub(super) fn found(&mut self, address: &str, boot: Boot) {
        self.learn([address.to_owned()]);
        if let Some(known) = self.0.get_mut(address) {
            let is_being_dialled = known.is_being_dialled;
            *known = Address { boot: Some(boot), is_being_dialled, ..Address::default() };
        }
    }

    /// Notes that an address was dialled in vain. It is dialled less and less often, and forgotten in the
    /// end.
    pub(super) fn failed(&mut self, now: Duration, address: &str) {
        let Some(known) = self.0.get_mut(address) else {
            return;
        };
        known.failures += 1;
        let since = *known.failing_since.get_or_insert(now);
        let pause = DIAL_EVERY * 2_u32.saturating_pow(known.failures - 1);
        known.next = now + pause.min(DIAL_AT_LEAST_EVERY);
        if since + FORGET_AFTER <= now {
            self.0.remove(address);
        }
    }

    /// Notes that the attempt to dial an address is over.
    pub(super) fn dialled(&mut self, address: &str) {
        if let Some(known) = self.0.get_mut(address) {
            known.is_being_dialled = false;
        }
    }

    /// Has the addresses of a boot dialled without a pause: its link just ended.
    pub(super) fn dial_again(&mut self, boot: Boot) {
        for known in self.0.values_mut().filter(|known| known.boot == Some(boot)) {
            known.next = Duration::ZERO;
        }
    }

    /// The boot that was last found at an address.
    pub(super) fn at(&self, address: &str) -> Option<Boot> {
        self.0.get(address).and_then(|known| known.boot)
    }

    /// The addresses to be dialled now: those of boots that are linked are left out.
    pub(super) fn due(&mut self, now: Duration, is_linked: impl Fn(Boot) -> bool) -> Vec<String> {
        let is_due = |known: &Address| {
            !known.is_being_dialled && known.next <= now && !known.boot.is_some_and(&is_linked)
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

/// The interval at which addresses without a link are dialled: the first one and the longest.
const DIAL_EVERY: Duration = Duration::from_millis(100);
const DIAL_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// The time after which a failing address is forgotten. Seeds are looked up again.
const FORGET_AFTER: Duration = Duration::from_secs(10 * 60);

/// The highest number of known addresses.
const MAX_ADDRESSES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dialled_until_it_is_linked() {
        let mut addresses = Addresses::default();
        addresses.learn(["a:1".to_owned()]);
        assert_eq!(addresses.due(Duration::ZERO, |_| false), ["a:1"]);
        assert!(addresses.due(SECOND, |_| false).is_empty(), "it is being dialled");
        addresses.found("a:1", BOOT);
        addresses.dialled("a:1");
        assert!(addresses.due(SECOND, |linked| linked == BOOT).is_empty());
        assert_eq!(addresses.due(SECOND, |_| false), ["a:1"]);
    }

    #[test]
    fn silent_addresses_are_dialled_less_and_forgotten() {
        let mut addresses = Addresses::default();
        addresses.learn(["a:1".to_owned()]);
        for n in 1..10 {
            addresses.failed(SECOND * n, "a:1");
        }
        assert!(addresses.due(SECOND * 9 + SECOND / 2, |_| false).is_empty());
        assert_eq!(addresses.due(SECOND * 10, |_| false), ["a:1"]);
        addresses.failed(SECOND + FORGET_AFTER, "a:1");
        assert!(addresses.0.is_empty());
    }

    #[test]
    fn addresses_of_closed_links_are_dialled_immediately() {
        let mut addresses = Addresses::default();
        addresses.found("a:1", BOOT);
        addresses.failed(SECOND, "a:1");
        addresses.failed(SECOND, "a:1");
        assert!(addresses.due(SECOND, |_| false).is_empty());
        addresses.dial_again(BOOT);
        assert_eq!(addresses.due(SECOND, |_| false), ["a:1"]);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let mut addresses = Addresses::default();
        addresses.learn((0..2 * MAX_ADDRESSES).map(|n| format!("a:{n}")));
        assert_eq!(addresses.0.len(), MAX_ADDRESSES);
    }

    const BOOT: Boot = Boot::new([1; 16]);

    const SECOND: Duration = Duration::from_secs(1);
}
