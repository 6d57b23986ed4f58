//! The results of cases, one by one and in total.

use std::time::Duration;

use crate::case::Case;
use crate::verdict::Effect;

/// The result of a case.
#[derive(Debug)]
pub struct Report {
    pub case: Case,
    /// The effect of the call, or a description of what is wrong.
    pub verdict: Result<Effect, String>,
    /// True if the fault happened. It does not if the conversation was too short to reach the byte.
    pub was_reached: bool,
    /// True if the caller got an error.
    pub failed: bool,
    pub took: Duration,
    /// True if the next call needed another attempt.
    pub was_retried: bool,
    /// True if the call may have started before its idle connection ended.
    pub was_too_soon: bool,
}

/// Counts of results.
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
