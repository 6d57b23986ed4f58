//! The workload as a plan: the time, the session and the step of each request.
//!
//! Arrivals are open-loop. A request has its time whether or not earlier ones were answered, so a
//! stall shows as latency and does not reduce the load.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The traffic that every contestant meets.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Workload {
    /// Signed-in sessions.
    pub sessions: usize,
    /// The share of reads among reads and writes.
    pub reads: f64,
    /// Requests per second, on average.
    pub rate: f64,
    /// The size of the value that is written, in bytes.
    pub value_bytes: usize,
    /// The spread of the requests over sessions.
    pub skew: Skew,
    /// Decides the arrivals.
    pub seed: u64,
}

/// The spread of requests over sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skew {
    /// Every session is as busy as any other.
    Even,
    /// The n-th session has 1/n of the requests of the first.
    Zipf,
    /// Every session is as busy as any other, and half of all visitors come from one address.
    Nat,
}

impl Skew {
    /// The name in options and reports.
    pub fn id(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Zipf => "zipf",
            Self::Nat => "nat",
        }
    }

    /// The address that a visitor comes from.
    pub fn address(self, visitor: usize) -> String {
        let number = if self == Self::Nat && visitor.is_multiple_of(2) { 0 } else { visitor };
        format!("198.{}.{}.{}", 18 + (number >> 16), number >> 8 & 0xff, number & 0xff)
    }
}

/// A request to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// The time since the start of the phase.
    pub at: Duration,
    /// The number of the session.
    pub session: usize,
    /// The visitor's step.
    pub step: Step,
}

/// A step of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads the session.
    Read,
    /// Writes the next number to the session.
    Write,
    /// Signs out, tries the old cookie, and signs in again.
    Leave,
}

impl Workload {
    /// Poisson arrivals for so long. The phase makes phases differ under one seed.
    pub fn arrivals(&self, phase: u64, length: Duration) -> Vec<Arrival> {
        let mut random = Random::new(self.seed.wrapping_mul(1_000).wrapping_add(phase));
        let weights = self.cumulated_weights();
        let (mut at, mut arrivals) = (0.0, Vec::new());
        loop {
            at -= (1.0 - random.unit()).ln() / self.rate;
            if at >= length.as_secs_f64() {
                return arrivals;
            }
            let point = random.unit() * weights.last().copied().unwrap_or_default();
            let session = weights.partition_point(|weight| *weight <= point);
            let (at, step) = (Duration::from_secs_f64(at), self.step(random.unit()));
            arrivals.push(Arrival { at, session, step });
        }
    }

    fn step(&self, point: f64) -> Step {
        if point < LEAVES {
            Step::Leave
        } else if point < LEAVES + (1.0 - LEAVES) * self.reads {
            Step::Read
        } else {
            Step::Write
        }
    }

    fn cumulated_weights(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let weight = |n: usize| match self.skew {
            Skew::Even | Skew::Nat => 1.0,
            Skew::Zipf => 1.0 / (n + 1) as f64,
        };
        let mut add = |n| {
            sum += weight(n);
            sum
        };
        (0..self.sessions).map(&mut add).collect()
    }
}

/// One step again and again, at even distances, of one session after the other.
pub fn paced(step: Step, count: usize, sessions: usize, rate: f64) -> Vec<Arrival> {
    let arrival = |n: usize| {
        let at = Duration::from_secs_f64(n as f64 / rate);
        Arrival { at, session: n % sessions, step }
    };
    (0..count).map(arrival).collect()
}

impl Default for Workload {
    fn default() -> Self {
        Self { sessions: 300, reads: 0.9, rate: 150.0, value_bytes: 100, skew: Skew::Zipf, seed: 1 }
    }
}

/// The share of sign-outs among all steps.
const LEAVES: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_the_rate_and_the_order() {
        let arrivals = plan(Workload::default());
        assert!((14_000..16_000).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
    }

    #[test]
    fn a_seed_decides_the_arrivals() {
        let workload = Workload::default();
        assert_eq!(plan(workload), plan(workload));
        assert_ne!(plan(workload), plan(Workload { seed: 2, ..workload }));
        let second = workload.arrivals(2, Duration::from_secs(100));
        assert_ne!(plan(workload), second);
    }

    #[test]
    fn gaps_vary_as_those_of_strangers_do() {
        let arrivals = plan(Workload::default());
        let gaps: Vec<_> =
            arrivals.windows(2).map(|two| (two[1].at - two[0].at).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let variation = variance.sqrt() / mean;
        assert!((0.95..1.05).contains(&variation), "{variation}");
    }

    #[test]
    fn reads_have_their_share() {
        let arrivals = plan(Workload { reads: 0.7, ..Workload::default() });
        let count = |step| arrivals.iter().filter(|arrival| arrival.step == step).count() as f64;
        let share = count(Step::Read) / (count(Step::Read) + count(Step::Write));
        assert!((0.68..0.72).contains(&share), "{share}");
        assert!(count(Step::Leave) > 0.0);
    }

    #[test]
    fn zipf_makes_the_first_session_the_busiest() {
        let share_of_first = |skew| {
            let arrivals = plan(Workload { skew, ..Workload::default() });
            let first = arrivals.iter().filter(|arrival| arrival.session == 0).count();
            first as f64 / arrivals.len() as f64
        };
        assert!((0.13..0.19).contains(&share_of_first(Skew::Zipf)));
        assert!(share_of_first(Skew::Even) < 0.01);
    }

    #[test]
    fn half_of_all_visitors_share_an_address() {
        let addresses = |skew: Skew| (0..100).map(move |n| skew.address(n));
        let first = Skew::Nat.address(0);
        assert_eq!(addresses(Skew::Nat).filter(|one| *one == first).count(), 50);
        assert_eq!(addresses(Skew::Even).filter(|one| *one == first).count(), 1);
    }

    #[test]
    fn paced_steps_take_sessions_in_turn() {
        let plan = paced(Step::Read, 3, 2, 10.0);
        let sessions: Vec<_> = plan.iter().map(|arrival| arrival.session).collect();
        assert_eq!(sessions, [0, 1, 0]);
        assert_eq!(plan[2].at, Duration::from_millis(200));
    }

    fn plan(workload: Workload) -> Vec<Arrival> {
        workload.arrivals(1, Duration::from_secs(100))
    }
}
