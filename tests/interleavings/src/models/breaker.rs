//! The circuit breaker of a store.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread::{self, JoinHandle};

use crate::breaker::{Breaker, Failure, Pass};

/// A call is answered while a failure opens the breaker. The next good probe closes it.
pub fn a_good_probe_closes_it() {
    let breaker = failed(Breaker::LEAST - 1);
    let failing = spawn(&breaker, |breaker| fail(breaker, Pass::Call, START));
    breaker.answered(Pass::Call, START);
    join([failing]);
    if let Some(pass) = breaker.admit(LATER) {
        breaker.answered(pass, LATER);
    }
    assert_eq!((breaker.admit(LATER), breaker.admit(LATER)), (Some(Pass::Call), Some(Pass::Call)));
}

/// Calls fail at the same time.
pub fn every_failure_counts() {
    let breaker = failed(Breaker::LEAST - 2);
    join([0; 2].map(|_| spawn(&breaker, |breaker| fail(breaker, Pass::Call, START))));
    assert!(breaker.is_open());
}

/// A call that began before the breaker opened fails while a probe is answered.
pub fn a_late_failure_does_not_open_it_again() {
    let breaker = failed(Breaker::LEAST);
    let probe = breaker.admit(LATER).expect("the pause is over");
    let late = spawn(&breaker, |breaker| fail(breaker, Pass::Call, LATER));
    breaker.answered(probe, LATER);
    join([late]);
    assert_eq!(breaker.admit(LATER), Some(Pass::Call));
}

/// Requests arrive when the pause is over.
pub fn one_of_many_is_the_probe() {
    let breaker = failed(Breaker::LEAST);
    let admitted = |breaker: &Breaker| breaker.admit(LATER);
    let others = [0; 2].map(|_| spawn(&breaker, admitted));
    let own = admitted(&breaker);
    let passes = join(others).into_iter().chain([own]);
    assert_eq!(passes.flatten().collect::<Vec<_>>(), [Pass::Probe]);
}

/// A sign-out is answered while a probe fails.
pub fn a_failing_probe_leaves_the_breaker_usable() {
    let breaker = failed(Breaker::LEAST);
    let probe = breaker.admit(LATER).expect("the pause is over");
    let failing = spawn(&breaker, move |breaker| fail(breaker, probe, LATER));
    breaker.answered(Pass::Exempt, LATER);
    join([failing]);
    assert_eq!(breaker.admit(LATER), Some(Pass::Call));
}

/// A breaker after so many failures in a row.
fn failed(times: u64) -> Arc<Breaker> {
    let breaker = Arc::new(Breaker::new());
    (0..times).for_each(|_| fail(&breaker, Pass::Call, START));
    breaker
}

fn fail(breaker: &Breaker, pass: Pass, now: Duration) {
    breaker.failed(pass, Failure::Unreachable, now);
}

fn spawn<T: Send + 'static>(
    breaker: &Arc<Breaker>,
    act: impl FnOnce(&Breaker) -> T + Send + 'static,
) -> JoinHandle<T> {
    let breaker = Arc::clone(breaker);
    thread::spawn(move || act(&breaker))
}

fn join<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().expect("a thread of a model does not panic"))
}

const START: Duration = Duration::ZERO;
/// The end of a pause that began at the start.
const LATER: Duration = Breaker::PAUSE;
