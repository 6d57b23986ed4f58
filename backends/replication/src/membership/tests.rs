use super::message::Hello;
use super::peers::tests::hello;
use super::*;
use crate::epoch::Lineage;
use crate::epoch::tests::{SETTINGS, boot, grown, joining, next, reborn};

#[test]
fn a_boot_that_was_replaced_ends() {
    let three = grown(3);
    let aside = next(&three, &[Change::SetAside(boot(1))]).unwrap();
    let replaced = next(&aside, &[Change::Join(reborn(1))]).unwrap();
    let mut one = member(&three, 1, Rules::default());
    let effects = hear(&mut one, &replaced, ms(10));
    assert!(effects.contains(&Effect::Ended(End::Replaced)));
    assert!(one.tick(ms(1_000)).is_empty(), "it does nothing any more");
}

#[test]
fn a_replaced_boot_asks_to_join_without_i2() {
    let three = grown(3);
    let aside = next(&three, &[Change::SetAside(boot(1))]).unwrap();
    let replaced = next(&aside, &[Change::Join(reborn(1))]).unwrap();
    let mut one = member(&three, 1, Rules::without(Rule::I2));
    let effects = hear(&mut one, &replaced, ms(10));
    let asks = |effect: &Effect| matches!(effect, Effect::Send(_, frame) if matches!(frame.message, Message::Ask(_)));
    assert!(effects.iter().any(asks), "{effects:?}");
}

#[test]
fn a_boot_that_was_listed_before_is_refused() {
    for (rules, is_refused) in [(Rules::default(), true), (Rules::without(Rule::I2), false)] {
        let three = grown(3);
        let mut zero = member(&three, 0, rules);
        let old = Hello { listed_in: Some(three.id()), ..hello(7) };
        zero.connected(old, ms(0));
        let ask = Message::Ask(vec![Change::Join(joining(7))]);
        let effects = zero.receive(Frame { from: boot(7), epoch: None, message: ask }, ms(10));
        let refused = Effect::Refused(boot(7), Refusal::Replaced);
        assert_eq!(effects.contains(&refused), is_refused);
    }
}

#[test]
fn leaving_a_lineage_pauses_grants() {
    let grants = |rules, at| {
        let two = grown(2);
        let split = two.split(lineage(), joining(0).name, &[boot(0), boot(1)].into());
        let mut one = member(&two, 1, rules);
        hear(&mut one, &split, ms(1_000));
        let slots = Slot::all().filter(|slot| split.placement().owner(*slot) == Some(boot(0)));
        let message = cluster::Message::AskLease { number: 1, slots: slots.collect() };
        let frame =
            Frame { from: boot(0), epoch: Some(split.id()), message: Message::Cluster(message) };
        let is_lease = |effect: &Effect| {
            let Effect::Send(_, frame) = effect else {
                return false;
            };
            matches!(frame.message, Message::Cluster(cluster::Message::Lease { .. }))
        };
        one.receive(frame, at).iter().any(is_lease)
    };
    assert!(!grants(Rules::default(), ms(1_359)));
    assert!(grants(Rules::default(), ms(1_360)));
    assert!(grants(Rules::without(Rule::M2), ms(1_000)), "two lineages serve a slot");
}

#[test]
fn a_relayed_ping_is_answered_through_its_relay() {
    let mut one = member(&grown(3), 1, Rules::default());
    let ping = Frame { from: boot(2), epoch: None, message: Message::Ping };
    let relay = Message::Relay { to: boot(1), frame: Box::new(ping.clone()) };
    let effects = one.receive(Frame { from: boot(0), epoch: None, message: relay }, ms(10));
    let is_pong = |effect: &Effect| {
        let Effect::Send(link, frame) = effect else {
            return false;
        };
        let Message::Relay { to, frame } = &frame.message else {
            return false;
        };
        *link == boot(0) && *to == boot(2) && frame.message == Message::Pong
    };
    assert!(effects.iter().any(is_pong), "{effects:?}");
    let onward = Message::Relay { to: boot(0), frame: Box::new(ping) };
    let effects = one.receive(Frame { from: boot(0), epoch: None, message: onward }, ms(20));
    assert!(effects.is_empty(), "a frame is passed on once, by the first that gets it");
}

#[test]
fn a_node_at_rest_says_nothing() {
    let mut one = member(&grown(3), 1, Rules::default());
    let said: Vec<_> = (10..500).flat_map(|n| one.tick(ms(n * 20))).collect();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(one.problem(ms(10_000)), None);
}

/// A node that is in an epoch, and linked to all other members.
fn member(epoch: &Epoch, n: usize, rules: Rules) -> Membership {
    let identity = Identity { member: joining(n), settings: SETTINGS, seed: [n as u8; 16] };
    let mut node = Membership::new(identity, Timing::DEFAULT, rules, ms(0));
    hear(&mut node, epoch, ms(0));
    for other in (0..epoch.members().len()).filter(|other| *other != n) {
        node.connected(hello(other), ms(0));
        let pong = Frame { from: boot(other), epoch: Some(epoch.id()), message: Message::Pong };
        node.receive(pong, ms(0));
    }
    node
}

/// Returns a node's reaction to an epoch that another one sends.
fn hear(node: &mut Membership, epoch: &Epoch, now: Duration) -> Vec<Effect> {
    let message = Message::Cluster(cluster::Message::Epoch(Arc::new(epoch.clone())));
    node.receive(Frame { from: boot(9), epoch: Some(epoch.id()), message }, now)
}

fn lineage() -> Lineage {
    Lineage::new([8; 16])
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
