//! Founding: the conditions under which a node without an epoch founds a service.

use std::time::Duration;

use super::message::Discovery;
use super::peers::Peers;
use crate::member::{Boot, Name};
use crate::rules::{Rule, Rules};

/// Returns true if this node founds a service: all discovered nodes answered that they have no
/// epoch, and none of them has a lower name. An address that does not answer may belong to a
/// service that is running.
pub(super) fn may_found(
    me: (&Name, Boot),
    discovery: Option<&Discovery>,
    peers: &Peers,
    now: Duration,
    rules: Rules,
) -> bool {
    let Some(discovery) = discovery else {
        return false;
    };
    if !discovery.silent.is_empty() && rules.keep(Rule::F1) {
        return false;
    }
    let mut linked = peers.iter().filter(|(_, peer)| peer.is_linked()).peekable();
    if linked.peek().is_none() {
        return !discovery.has_others || !rules.keep(Rule::F1);
    }
    linked.all(|(_, peer)| {
        let has_no_epoch = peer.epoch().is_none() && peer.is_heard(now);
        has_no_epoch
            && peer.hello().is_some_and(|hello| {
                let lowest = (&hello.lowest.0, hello.lowest.1);
                let is_lowest = me <= lowest;
                is_lowest && hello.in_sight.is_none() && !hello.is_waiting
            })
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::Hello;
    use super::super::peers::tests::hello;
    use super::*;
    use crate::epoch::tests::{boot, grown, joining};

    #[test]
    fn a_node_without_others_founds() {
        assert!(founds(&[], &alone()));
        assert!(!founds(&[], &named(&[])), "others are named, and there is no link to them");
        assert!(!may_found_with(&Peers::default(), None, Rules::default()));
    }

    #[test]
    fn the_lowest_of_nodes_without_an_epoch_founds() {
        assert!(founds(&[hello(1), hello(2)], &named(&[])));
        let lower = Hello { lowest: (joining(0).name, boot(0)), ..hello(2) };
        assert!(founds(&[lower], &named(&[])), "it means this node");
        let mut other = hello(2);
        other.lowest = ("a".parse().unwrap(), boot(9));
        assert!(!founds(&[hello(1), other], &named(&[])), "a lower one is linked to it");
    }

    #[test]
    fn founding_waits_for_a_silent_address() {
        let silent = named(&["10.0.0.9:7000"]);
        assert!(!founds(&[hello(1)], &silent));
        let waiting = Hello { is_waiting: true, ..hello(1) };
        assert!(!founds(&[waiting], &named(&[])));
        let without = Rules::without(Rule::F1);
        assert!(may_found_with(&Peers::default(), Some(&silent), without), "two clusters");
    }

    #[test]
    fn a_service_in_sight_rules_it_out() {
        let in_sight = Some(grown(2).id());
        assert!(!founds(&[Hello { in_sight, ..hello(1) }], &named(&[])));
        let mut peers = heard(&[hello(1)]);
        peers.on_frame(boot(1), in_sight, NOW);
        assert!(!may_found_with(&peers, Some(&named(&[])), Rules::default()));
    }

    #[test]
    fn silent_peers_are_waited_for() {
        let mut peers = Peers::default();
        peers.link(hello(1));
        assert!(!may_found_with(&peers, Some(&named(&[])), Rules::default()));
    }

    fn founds(hellos: &[Hello], discovery: &Discovery) -> bool {
        may_found_with(&heard(hellos), Some(discovery), Rules::default())
    }

    fn may_found_with(peers: &Peers, discovery: Option<&Discovery>, rules: Rules) -> bool {
        may_found((&joining(0).name, boot(0)), discovery, peers, NOW, rules)
    }

    fn heard(hellos: &[Hello]) -> Peers {
        let mut peers = Peers::default();
        for hello in hellos {
            peers.link(hello.clone());
            peers.on_frame(hello.member.boot, None, NOW);
        }
        peers
    }

    fn alone() -> Discovery {
        Discovery::default()
    }

    fn named(silent: &[&str]) -> Discovery {
        let silent = silent.iter().map(|address| (*address).to_owned()).collect();
        Discovery { has_others: true, silent }
    }

    const NOW: Duration = Duration::from_secs(1);
}
