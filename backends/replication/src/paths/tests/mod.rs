//! The delivery of messages.

mod net;
mod property;

use std::time::Duration;

use self::net::{Net, SIZE, epoch};
use super::{Arrival, Paths};
use crate::epoch::tests::{SETTINGS, boot, full};
use crate::epoch::{Epoch, Lineage};
use crate::rules::Rules;
use crate::slots::HashKey;

#[test]
fn a_message_is_sent_again_until_covered() {
    let mut net = Net::started(&[0, 1]);
    net.send(0, 1);
    net.flying().clear();
    net.pass(90);
    assert!(net.flying().is_empty());
    net.pass(10);
    assert_eq!(net.flying().len(), 1);
    net.run(1_000);
    assert_eq!(net.handled(0, 1).len(), 1);
}

#[test]
fn an_idle_receiver_covers_after_50_ms() {
    let mut net = Net::started(&[0, 1]);
    net.send(0, 1);
    net.settle();
    assert_eq!(net.run(40), 0);
    assert_eq!(net.paths(0).backlog(boot(1)), SIZE);
    assert_eq!(net.run(10), 1);
    assert_eq!(net.paths(0).backlog(boot(1)), 0);
}

#[test]
fn an_answer_covers_what_it_answers() {
    let mut net = Net::started(&[0, 1]);
    net.send(0, 1);
    net.settle();
    net.send(1, 0);
    net.settle();
    assert_eq!(net.paths(0).backlog(boot(1)), 0);
}

#[test]
fn many_messages_are_covered_at_once() {
    let mut net = Net::started(&[0, 1]);
    (0..5_000).for_each(|_| net.send(0, 1));
    net.settle();
    assert!(net.paths(0).backlog(boot(1)) < 64 * SIZE);
    assert_eq!(net.handled(0, 1).len(), 5_000);
}

#[test]
fn nothing_is_sent_at_rest() {
    let mut net = Net::started(&[0, 1, 2]);
    net.send(0, 1);
    net.send(1, 2);
    net.run(200);
    assert_eq!(net.run(10_000), 0);
}

#[test]
fn at_most_1024_messages_are_under_way() {
    let mut net = Net::started(&[0, 1]);
    (0..3_000).for_each(|_| net.send(0, 1));
    assert_eq!(net.flying().len(), 1_024);
    assert_eq!(net.paths(0).backlog(boot(1)), 3_000 * SIZE);
    net.settle();
    assert_eq!(net.handled(0, 1).len(), 3_000);
}

#[test]
fn one_lost_message_is_made_up_for() {
    let mut net = Net::started(&[0, 1]);
    (0..500).for_each(|_| net.send(0, 1));
    net.flying().remove(0);
    net.settle();
    assert!(net.handled(0, 1).is_empty(), "all others came early");
    let packets = net.run(200);
    assert_eq!(net.handled(0, 1).len(), 500);
    assert!(packets < 100, "{packets} packets for one");
}

#[test]
fn a_cut_pair_goes_through_a_relay() {
    let mut net = Net::started(&[0, 1, 2]);
    net.cut(0, 1);
    net.send(0, 1);
    net.settle();
    assert_eq!(net.handled(0, 1).len(), 1);
    assert_eq!(net.paths(2).relayed(), 1);
}

#[test]
fn a_lost_link_costs_no_time() {
    let mut net = Net::started(&[0, 1, 2]);
    (0..10).for_each(|_| net.send(0, 1));
    net.cut(0, 1);
    net.settle();
    assert_eq!(net.handled(0, 1).len(), 10);
}

#[test]
fn a_link_that_loses_everything_is_avoided() {
    let mut net = Net::started(&[0, 1, 2]);
    net.break_silently(0, 1);
    net.send(0, 1);
    net.run(110);
    assert_eq!(net.handled(0, 1).len(), 1);
    net.send(0, 1);
    net.settle();
    assert_eq!(net.handled(0, 1).len(), 2, "the relay is known to work");
}

#[test]
fn lost_acknowledgements_are_repeated() {
    let mut net = Net::started(&[0, 1, 2]);
    net.break_silently(1, 0);
    net.send(0, 1);
    net.run(300);
    assert_eq!(net.paths(0).backlog(boot(1)), 0);
}

#[test]
fn a_suspected_relay_is_the_last_choice() {
    let mut net = Net::started(&[0, 1, 2, 3]);
    net.cut(0, 1);
    for (suspected, relay) in [(2, 3), (3, 2)] {
        net.paths(0).suspect(boot(suspected), true);
        net.send(0, 1);
        assert_eq!(net.flying()[0].over, (0, relay));
        net.settle();
        net.paths(0).suspect(boot(suspected), false);
    }
}

#[test]
fn a_relay_is_one_hop() {
    let mut net = Net::started(&[0, 1, 2, 3]);
    net.cut(0, 1);
    net.cut(2, 1);
    net.cut(3, 1);
    net.send(0, 1);
    net.settle();
    let relayed: u64 = (0..4).map(|n| net.paths(n).relayed()).sum();
    assert_eq!(relayed, 0);
    assert!(net.handled(0, 1).is_empty());
}

#[test]
fn without_a_path_messages_wait() {
    let mut net = Net::started(&[0, 1]);
    net.cut(0, 1);
    net.send(0, 1);
    assert_eq!(net.run(1_000), 0);
    assert_eq!(net.paths(0).backlog(boot(1)), SIZE);
    net.mend(0, 1);
    net.settle();
    assert_eq!(net.handled(0, 1).len(), 1);
}

#[test]
fn messages_of_a_later_epoch_wait() {
    let mut net = Net::started(&[0, 1]);
    net.learn(0, 1);
    net.send(0, 1);
    let flight = net.flying().remove(0);
    let now = net.now;
    assert_eq!(net.paths(1).receive(boot(0), flight.packet, now), Arrival::Ahead);
    assert_eq!(net.paths(1).next_message(now), None);
    net.learn(1, 1);
    net.settle();
    net.handle(1);
    assert_eq!(net.handled(0, 1).len(), 1);
}

#[test]
fn messages_of_an_earlier_epoch_are_covered() {
    let mut net = Net::started(&[0, 1]);
    net.learn(1, 1);
    net.send(0, 1);
    let flight = net.flying()[0].clone();
    let now = net.now;
    assert_eq!(net.paths(1).receive(boot(0), flight.packet, now), Arrival::Behind);
    net.run(200);
    assert!(net.handled(0, 1).is_empty());
    assert_eq!(net.paths(0).backlog(boot(1)), 0);
}

#[test]
fn an_epoch_drops_what_is_queued() {
    let mut net = Net::started(&[0, 1]);
    net.cut(0, 1);
    net.send(0, 1);
    net.all_learn(1);
    assert_eq!(net.paths(0).backlog(boot(1)), 0);
    net.mend(0, 1);
    net.send(0, 1);
    net.run(200);
    let epochs: Vec<_> = net.handled(0, 1).iter().map(|label| label.epoch).collect();
    assert_eq!(epochs, [1]);
}

#[test]
fn a_boot_that_was_forgotten_begins_again() {
    let mut net = Net::started(&[0, 3]);
    (0..3).for_each(|_| net.send(0, 3));
    (0..2).for_each(|_| net.send(3, 0));
    net.run(200);
    // Only node 0 learns that node 3 ceased to be a member.
    net.learn(0, 2);
    net.all_learn(3);
    net.send(0, 3);
    net.send(3, 0);
    net.run(200);
    assert_eq!((net.handled(0, 3).len(), net.handled(3, 0).len()), (4, 3));
    assert_eq!(net.run(1_000), 0);
}

#[test]
fn packets_of_abandoned_streams_are_dropped() {
    let mut net = Net::started(&[0, 3]);
    net.send(0, 3);
    let old = net.flying().remove(0);
    net.learn(0, 2);
    net.all_learn(3);
    net.send(0, 3);
    net.settle();
    net.arrive(old);
    net.send(0, 3);
    net.run(200);
    let epochs: Vec<_> = net.handled(0, 3).iter().map(|label| label.epoch).collect();
    assert_eq!(epochs, [3, 3]);
}

#[test]
fn a_stranger_is_not_heard() {
    let mut net = Net::started(&[0, 3]);
    net.send(3, 0);
    net.learn(0, 2);
    net.run(200);
    assert!(net.handled(3, 0).is_empty());
    net.send(0, 3);
    assert_eq!(net.paths(0).backlog(boot(3)), 0);
}

#[test]
fn an_epoch_of_another_lineage_is_awaited() {
    let other = Epoch::of(
        Lineage::new([8; 16]),
        HashKey::new([7; 16]),
        SETTINGS,
        [0, 1].map(full).to_vec(),
    );
    let mut net = Net::started(&[0, 1]);
    let (now, old) = (net.now, epoch(0).id());
    let mut there: Paths<_> = net.paths(0).clone();
    net.send(0, 1);
    let (_, label) = (net.settle(), net.handled(0, 1)[0]);
    there.on_epoch(&other);
    there.send(boot(1), other.id(), label, SIZE);
    let packet = there.take_packets(now).remove(0).1;
    let here = net.paths(1);
    assert_eq!(here.receive(boot(0), packet.clone(), now), Arrival::Ahead);
    here.on_epoch(&other);
    assert_eq!(here.receive(boot(0), packet.clone(), now), Arrival::Current);
    let left = super::Packet { epoch: old, ..packet };
    assert_eq!(here.receive(boot(0), left, now), Arrival::Behind);
}

#[test]
fn boots_have_their_turns() {
    let mut net = Net::started(&[0, 1, 2]);
    for _ in 0..2 {
        net.send(1, 0);
        net.send(2, 0);
    }
    for flight in std::mem::take(net.flying()) {
        net.arrive(flight);
    }
    let now = net.now;
    let senders: Vec<_> =
        std::iter::from_fn(|| net.paths(0).next_message(now)).map(|(from, _)| from).collect();
    assert_eq!(senders, [1, 2, 1, 2].map(boot));
}

#[test]
fn a_node_without_an_epoch_sends_nothing() {
    let mut net = Net::new(&[0, 1], Rules::default());
    let mut paths = net.paths(0).clone();
    assert!(paths.take_packets(Duration::ZERO).is_empty());
    net.learn(1, 0);
    net.send(1, 0);
    net.run(1_000);
    assert!(net.handled(1, 0).is_empty());
    net.learn(0, 0);
    net.run(200);
    assert_eq!(net.handled(1, 0).len(), 1);
}
