//! The addresses that a node's seeds resolve to: it looks there for others before it founds a
//! service.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_replication::member::Boot;
use steadfast_replication::membership::Discovery;

use super::Place;
use super::addresses::Addresses;

/// The seeds, and the addresses that they stood for last.
pub(super) struct Seeds {
    /// The addresses of this node itself: no other node is there.
    own: String,
    /// `None`: not looked up yet.
    addresses: BTreeMap<String, Option<Vec<String>>>,
    look_up_at: Duration,
    since: Option<Duration>,
    told: Option<Discovery>,
}

impl Seeds {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            own: place.address.clone(),
            addresses: place.seeds.iter().map(|seed| (seed.clone(), None)).collect(),
            look_up_at: Duration::ZERO,
            since: None,
            told: None,
        }
    }

    /// Returns true if the seeds are due to be looked up again, and starts the next interval.
    pub(super) fn are_due(&mut self, is_alone: bool, now: Duration) -> bool {
        let is_due = self.look_up_at <= now;
        if is_due {
            self.look_up_at = now + if is_alone { LOOK_UP_ALONE } else { LOOK_UP };
        }
        is_due
    }

    /// Notes what a seed stands for. One that cannot be looked up stands for itself: a node may be there.
    pub(super) fn found(&mut self, seed: &str, addresses: Vec<String>) {
        let addresses = if addresses.is_empty() { vec![seed.to_owned()] } else { addresses };
        self.addresses.insert(seed.to_owned(), Some(addresses));
    }

    /// Returns the addresses of the seeds if they have changed since the last call.
    pub(super) fn news(
        &mut self,
        addresses: &Addresses,
        me: Boot,
        is_there: impl Fn(Boot) -> bool,
        now: Duration,
    ) -> Option<Discovery> {
        let started = *self.since.get_or_insert(now);
        let all: Option<Vec<_>> = self.addresses.values().cloned().collect();
        let is_own = |address: &String| *address == self.own || addresses.at(address) == Some(me);
        let mut others: Vec<_> = all?.into_iter().flatten().filter(|at| !is_own(at)).collect();
        others.sort();
        others.dedup();
        // A name of several nodes that start together may stand for the first one alone at first.
        let may_grow = self.has_names() && now < started + SETTLE;
        let has_others = !others.is_empty() || may_grow;
        let is_silent = |at: &String| !addresses.at(at).is_some_and(&is_there);
        let silent = others.into_iter().filter(is_silent).collect();
        let discovery = Discovery { has_others, silent };
        let is_new = self.told.as_ref() != Some(&discovery);
        self.told = Some(discovery.clone());
        is_new.then_some(discovery)
    }

    fn has_names(&self) -> bool {
        self.addresses.keys().any(|seed| seed.parse::<std::net::SocketAddr>().is_err())
    }
}

/// The interval at which the seeds are looked up, and the one without any link.
const LOOK_UP: Duration = Duration::from_secs(10);
const LOOK_UP_ALONE: Duration = Duration::from_secs(1);

/// The time to wait until a name that resolves to this node alone resolves to others.
const SETTLE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_seeds_has_no_others() {
        let discovery = Found::new(&[]).news(0);
        assert_eq!(discovery, Some(Discovery { has_others: false, silent: Vec::new() }));
    }

    #[test]
    fn seeds_are_silent_until_they_are_linked() {
        let mut found = Found::new(&["10.0.0.1:1", "10.0.0.2:1"]);
        assert_eq!(found.news(0), None, "not looked up yet");
        found.seeds.found("10.0.0.1:1", vec!["10.0.0.1:1".to_owned()]);
        found.seeds.found("10.0.0.2:1", vec!["10.0.0.2:1".to_owned()]);
        let silent = vec!["10.0.0.2:1".to_owned()];
        assert_eq!(found.news(0), Some(Discovery { has_others: true, silent }));
        assert_eq!(found.news(1), None, "nothing new");
        found.addresses.found("10.0.0.2:1", Boot::new([2; 16]));
        assert_eq!(found.news(2), Some(Discovery { has_others: true, silent: Vec::new() }));
    }

    #[test]
    fn a_seed_may_resolve_to_more_later() {
        let mut found = Found::new(&["sessions:1"]);
        found.seeds.found("sessions:1", vec!["10.0.0.1:1".to_owned()]);
        assert_eq!(found.news(0).map(|news| news.has_others), Some(true));
        assert_eq!(found.news(3).map(|news| news.has_others), Some(false));
    }

    #[test]
    fn an_unresolvable_name_counts_as_silent() {
        let mut found = Found::new(&["sessions:1"]);
        found.seeds.found("sessions:1", Vec::new());
        let silent = vec!["sessions:1".to_owned()];
        assert_eq!(found.news(9), Some(Discovery { has_others: true, silent }));
    }

    struct Found {
        seeds: Seeds,
        addresses: Addresses,
    }

    impl Found {
        fn new(seeds: &[&str]) -> Self {
            let place = Place {
                cluster: String::new(),
                address: "10.0.0.1:1".to_owned(),
                seeds: seeds.iter().map(|seed| (*seed).to_owned()).collect(),
                max_frame: 0,
            };
            Self { seeds: Seeds::new(&place), addresses: Addresses::default() }
        }

        fn news(&mut self, second: u64) -> Option<Discovery> {
            let (me, now) = (Boot::new([1; 16]), Duration::from_secs(second));
            self.seeds.news(&self.addresses, me, |boot| boot == Boot::new([2; 16]), now)
        }
    }
}
