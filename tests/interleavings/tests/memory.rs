//! The store in memory, in many orders of its steps.

#![allow(missing_docs)]

use interleavings::models::memory;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

#[test]
fn a_login_comes_before_an_eviction_or_after() {
    check(memory::a_login_comes_before_an_eviction_or_after);
}

#[test]
fn no_more_is_evicted_than_is_missing() {
    check(memory::no_more_is_evicted_than_is_missing);
}

#[test]
fn what_a_budget_counts_is_given_back() {
    check(memory::what_a_budget_counts_is_given_back);
}

#[test]
fn a_late_write_revives_no_record() {
    check(memory::a_late_write_revives_no_record);
}

#[test]
fn an_id_is_given_once() {
    check(memory::an_id_is_given_once);
}

#[test]
fn a_revocation_ends_or_refuses_a_login() {
    check(memory::a_revocation_ends_or_refuses_a_login);
}

#[test]
fn a_cap_holds_among_logins() {
    check(memory::a_cap_holds_among_logins);
}

#[test]
fn a_session_that_comes_back_is_listed_once() {
    check(memory::a_session_that_comes_back_is_listed_once);
}

#[test]
fn an_elevation_comes_before_a_cap_or_after() {
    check(memory::an_elevation_comes_before_a_cap_or_after);
}

#[test]
fn an_elevation_comes_before_an_eviction_or_after() {
    check(memory::an_elevation_comes_before_an_eviction_or_after);
}

#[test]
fn a_record_is_swept_once_or_lives() {
    check(memory::a_record_is_swept_once_or_lives);
}

#[test]
fn a_listener_learns_of_a_session_end() {
    check(memory::a_listener_learns_of_a_session_end);
}

#[test]
fn a_listener_hears_changes_in_their_order() {
    check(memory::a_listener_hears_changes_in_their_order);
}

/// These have too many steps for every order: half of the orders are drawn at random, half such that
/// one thread is held up at a few points, which finds what needs one unlucky pause.
fn check(model: fn()) {
    Runner::new(RandomScheduler::new(ORDERS), config()).run(model);
    Runner::new(PctScheduler::new(3, ORDERS), config()).run(model);
}

fn config() -> Config {
    let mut config = Config::new();
    // A store is built on the stack.
    config.stack_size = 1 << 20;
    config
}

const ORDERS: usize = 500;
