//! The breaker, in every order of its steps.

#![allow(missing_docs)]

use interleavings::models::breaker;
use shuttle::check_dfs;

#[test]
fn a_good_probe_closes_the_breaker_whatever_raced() {
    check_dfs(breaker::a_good_probe_closes_it, None);
}

#[test]
fn no_failure_is_lost_among_threads() {
    check_dfs(breaker::every_failure_counts, None);
}

#[test]
fn a_late_failure_keeps_the_breaker_closed() {
    check_dfs(breaker::a_late_failure_does_not_open_it_again, None);
}

#[test]
fn one_request_per_pause_is_the_probe() {
    check_dfs(breaker::one_of_many_is_the_probe, None);
}

#[test]
fn a_confirmed_sign_out_closes_the_breaker() {
    check_dfs(breaker::a_failing_probe_leaves_the_breaker_usable, None);
}
