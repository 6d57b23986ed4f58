//! Latencies and failures at healthy nodes.

use crate::history::{Answer, Call, History};
use crate::verdict::Verdict;

/// Durations of calls in microseconds, in ascending order.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl FromIterator<u64> for Latencies {
    fn from_iter<I: IntoIterator<Item = u64>>(latencies: I) -> Self {
        let mut sorted: Vec<_> = latencies.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

impl Latencies {
    /// Returns the lowest latency that this percentage of all does not exceed, or 0 if there is
    /// none.
    pub fn percentile(&self, percent: usize) -> u64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0)
    }

    pub fn slowest(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Returns the number of calls that took longer.
    pub fn over(&self, limit: u64) -> usize {
        self.0.len() - self.0.partition_point(|latency| *latency <= limit)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

/// Facts about the slow responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    pub answers: usize,
    /// Those of sessions that a broken node held.
    pub of_broken: usize,
    /// Those in progress within a second of a fault or of its repair.
    pub near: usize,
}

impl Slow {
    /// Counts the responses of healthy nodes that took longer than a limit.
    fn of(history: &History, limit: u64) -> Self {
        let slow: Vec<_> =
            history.elsewhere().filter(|call| call.end - call.start > limit).collect();
        Self {
            answers: slow.len(),
            of_broken: slow.iter().filter(|call| history.was_held_by_a_broken_node(call)).count(),
            near: slow.iter().filter(|call| history.is_near_a_change(call, A_SECOND)).count(),
        }
    }
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Latencies at healthy nodes, including those of failed calls.
    pub latencies: Latencies,
    /// Calls at healthy nodes that got an error or no response.
    pub failed: usize,
    /// The longest delay of a request by the test itself, because the machine was busy.
    pub lag: u64,
    pub slow: Slow,
    pub verdict: Verdict,
}

impl Figures {
    pub fn of(history: &History) -> Self {
        let has_failed = |call: &&Call| !call.answer.is_done() && call.answer != Answer::Refused;
        Self {
            latencies: history.elsewhere().map(|call| call.end - call.start).collect(),
            failed: history.elsewhere().filter(has_failed).count(),
            lag: history.load().map(|call| call.start - call.due).max().unwrap_or(0),
            slow: Slow::of(history, HALF_A_SECOND),
            verdict: Verdict::of(history),
        }
    }
}

pub const HALF_A_SECOND: u64 = 500_000;
pub const A_SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Operation, Run};

    #[test]
    fn a_percentile_covers_its_share() {
        let latencies: Latencies = (1..=200).rev().collect();
        let found = [50, 99, 100].map(|percent| latencies.percentile(percent));
        assert_eq!(found, [100, 198, 200]);
        assert_eq!(latencies.slowest(), 200);
    }

    #[test]
    fn only_what_exceeds_a_limit_is_over_it() {
        let latencies: Latencies = [500, 501, 3, 1_000].into_iter().collect();
        assert_eq!((latencies.over(500), latencies.over(1_000), latencies.over(0)), (2, 0, 4));
    }

    #[test]
    fn an_unsent_call_is_not_a_failure() {
        let answers = [Answer::Refused, Answer::Late, told(503), told(200)];
        let calls = answers.into_iter().enumerate().map(|(n, answer)| call(n as u64, answer));
        let (run, events) =
            (Run { drill: String::new(), number: 1, users: 1, rate: 1 }, Vec::new());
        let figures = Figures::of(&History { run, events, calls: calls.collect() });
        assert_eq!((figures.failed, figures.latencies.count(), figures.lag), (2, 4, 7));
        assert_eq!(figures.slow, Slow { answers: 4, ..Slow::default() });
    }

    fn told(status: u16) -> Answer {
        Answer::Told { status, body: String::new(), token: false }
    }

    fn call(due: u64, answer: Answer) -> Call {
        let (route, operation) = (String::new(), Operation::Add);
        let (start, end) = (due + 7, due + 600_000);
        Call { due, start, end, node: 0, session: 0, route, operation, answer }
    }

    #[test]
    fn no_latency_is_no_panic() {
        let none = Latencies::default();
        assert_eq!((none.percentile(99), none.slowest(), none.over(0)), (0, 0, 0));
    }
}
