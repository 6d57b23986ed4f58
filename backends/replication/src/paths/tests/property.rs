//! Delivery under random faults of links and random times of learning epochs.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::net::{EPOCHS, Net};
use crate::rules::{Rule, Rules};

#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Learn(usize, usize),
    Arrive(usize),
    Lose(usize),
    Double(usize),
    Handle(usize),
    Pass(u64),
    Cut(usize, usize),
    Mend(usize, usize),
    BreakSilently(usize, usize),
}

#[test]
fn messages_are_handled_in_order_and_once() {
    let outcome = runner().run(&steps(), |(nodes, steps)| check(nodes, &steps, Rules::default()));
    outcome.unwrap();
}

#[test]
fn an_order_without_numbers_is_noticed() {
    let rules = Rules::without(Rule::N1);
    let outcome = runner().run(&steps(), |(nodes, steps)| check(nodes, &steps, rules));
    assert!(outcome.is_err());
}

fn runner() -> TestRunner {
    TestRunner::new(Config { cases: 256, failure_persistence: None, ..Config::default() })
}

fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
    let node = || 0..4_usize;
    let step = prop_oneof![
        12 => (node(), node()).prop_map(|(from, to)| Step::Send(from, to)),
        2 => (node(), 1..3_usize).prop_map(|(n, by)| Step::Learn(n, by)),
        12 => any::<usize>().prop_map(Step::Arrive),
        3 => any::<usize>().prop_map(Step::Lose),
        2 => any::<usize>().prop_map(Step::Double),
        4 => node().prop_map(Step::Handle),
        6 => (1..120_u64).prop_map(Step::Pass),
        1 => (node(), node()).prop_map(|(one, other)| Step::Cut(one, other)),
        1 => (node(), node()).prop_map(|(one, other)| Step::Mend(one, other)),
        1 => (node(), node()).prop_map(|(from, to)| Step::BreakSilently(from, to)),
    ];
    (2..=4_usize, prop::collection::vec(step, 0..300))
}

fn check(nodes: usize, steps: &[Step], rules: Rules) -> Result<(), TestCaseError> {
    // The node that ceases to be a member for an epoch is always there.
    let numbers = &[3, 0, 1, 2][..nodes];
    let mut net = Net::new(numbers, rules);
    for step in steps {
        take(&mut net, numbers, step);
    }
    end_well(&mut net)?;
    for from in numbers {
        for to in numbers {
            in_order(&net, *from, *to)?;
        }
    }
    Ok(())
}

fn take(net: &mut Net, numbers: &[usize], step: &Step) {
    let node = |n: &usize| numbers[n % numbers.len()];
    match step {
        Step::Send(from, to) => net.send(node(from), node(to)),
        Step::Learn(n, by) => net.learn_later(node(n), *by),
        Step::Handle(n) => net.handle(node(n)),
        Step::Pass(milliseconds) => net.pass(*milliseconds),
        Step::Cut(one, other) => net.cut(node(one), node(other)),
        Step::Mend(one, other) => net.mend(node(one), node(other)),
        Step::BreakSilently(from, to) => net.break_silently(node(from), node(to)),
        Step::Arrive(index) | Step::Lose(index) | Step::Double(index) => {
            let flying = net.flying();
            if flying.is_empty() {
                return;
            }
            let index = index % flying.len();
            let flight = match step {
                Step::Double(_) => flying[index].clone(),
                _ => flying.swap_remove(index),
            };
            if !matches!(step, Step::Lose(_)) {
                net.arrive(flight);
            }
        }
    }
}

/// All links are there again, and all nodes learn the newest epoch: then everything arrives, and
/// nothing is sent any more.
fn end_well(net: &mut Net) -> Result<(), TestCaseError> {
    net.mend_all();
    net.all_learn(EPOCHS - 1);
    let numbers = net.numbers();
    for from in &numbers {
        numbers.iter().for_each(|to| net.send(*from, *to));
    }
    net.run(2_000);
    prop_assert_eq!(net.run(1_000), 0, "packets at rest");
    Ok(())
}

fn in_order(net: &Net, from: usize, to: usize) -> Result<(), TestCaseError> {
    let handled = net.handled(from, to);
    prop_assert!(handled.is_sorted_by_key(|label| label.epoch), "{:?}", handled);
    for epoch in 0..EPOCHS {
        let of_epoch = handled.iter().filter(|label| label.epoch == epoch);
        let nths: Vec<_> = of_epoch.map(|label| label.nth).collect();
        let prefix: Vec<_> = (0..nths.len() as u64).collect();
        prop_assert_eq!(&nths, &prefix, "from {} to {} in epoch {}", from, to, epoch);
    }
    let newest = handled.iter().filter(|label| label.epoch == EPOCHS - 1).count() as u64;
    prop_assert_eq!(newest, net.sent(from, to, EPOCHS - 1));
    Ok(())
}
