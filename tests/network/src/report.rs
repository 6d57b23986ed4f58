//! How cases went, one by one and in sum.

use std::time::Duration;

use crate::case::Case;
use crate::verdict::Effect;

/// How a case went.
#[derive(Debug)]
pub struct Report {
    pub case: Case,
    /// What became of the call, or what is wrong.
    pub verdict: Result<Effect, String>,
    /// Whether the fault happened. In a conversation that was shorter than the byte, it does not.
    pub was_reached: bool,
    /// Whether the caller was told that it failed.
    pub failed: bool,
    pub took: Duration,
    /// Whether the next call needed another try.
    pub was_retried: bool,
    /// Whether the call may have come before its idle connection was dead.
    pub was_too_soon: bool,
}

/// How many cases went how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub cases: u64,
    pub as_before: u64,
    pub as_after: u64,
    pub errors: u64,
    pub retried: u64,
    pub wrong: u64,
    pub slowest: Duration,
}

impl Tally {
    pub fn of<'r>(reports: impl IntoIterator<Item = &'r Report>) -> Self {
        let mut tally = Self::default();
        reports.into_iter().for_each(|report| tally.add(report));
        tally
    }

    fn add(&mut self, report: &Report) {
        self.cases += 1;
        self.slowest = self.slowest.max(report.took);
        self.errors += u64::from(report.failed);
        self.retried += u64::from(report.was_retried);
        match report.verdict {
            Ok(Effect::None) => self.as_before += 1,
            Ok(Effect::Whole) => self.as_after += 1,
            Err(_) => self.wrong += 1,
        }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cases: self.cases + other.cases,
            as_before: self.as_before + other.as_before,
            as_after: self.as_after + other.as_after,
            errors: self.errors + other.errors,
            retried: self.retried + other.retried,
            wrong: self.wrong + other.wrong,
            slowest: self.slowest.max(other.slowest),
        }
    }
}
