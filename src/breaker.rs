//! A circuit breaker: while a server is known to be down, requests fail without waiting for it.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Opens when at least half of the calls fail, and at least [`Breaker::LEAST`] of them: of the calls
/// of the last second or two, or of the last [`Breaker::MOST`] if that is fewer.
///
/// While it is open, calls fail immediately, except one per [`Breaker::PAUSE`], the *probe*. A probe that is
/// answered closes the breaker. A probe that fails, or that is dropped without an answer, begins another
/// pause. Times are durations since a start that the caller chose.
///
/// The whole state is one word, and each event replaces all of it, so no thread ever sees half of a change.
#[derive(Debug)]
pub(crate) struct Breaker(AtomicU64);

/// The right to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The breaker is closed.
    Call,
    /// The breaker is open, and the answer decides whether it closes.
    Probe,
    /// The call is made even while the breaker is open, and a good answer closes it.
    Exempt,
}

/// A failure that says something about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server cannot be reached.
    Unreachable,
    /// The server gave no answer in time; the number stands for the subject of the call. All calls that wait
    /// for one stuck subject count as one failure per second, because they say nothing about the others.
    Silent(u8),
}

impl Breaker {
    /// The number of failed calls that open it.
    pub(crate) const LEAST: u64 = 5;
    /// The number of calls that it remembers.
    pub(crate) const MOST: u64 = 255;
    /// The time for which calls fail before one is let through.
    pub(crate) const PAUSE: Duration = Duration::from_millis(500);

    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(State::Closed(Tally::default()).pack()))
    }

    /// Decides whether a call may be made now.
    pub(crate) fn admit(&self, now: Duration) -> Option<Pass> {
        let State::Open { until } = self.state() else {
            return Some(Pass::Call);
        };
        if now < until {
            return None;
        }
        // Only the caller that moves the end of this very pause is the probe.
        let paused = State::Open { until: now + Self::PAUSE }.pack();
        let known = State::Open { until }.pack();
        let is_first =
            self.0.compare_exchange(known, paused, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_first.then_some(Pass::Probe)
    }

    /// The server answered, with success or an error of its own.
    pub(crate) fn answered(&self, pass: Pass, now: Duration) {
        self.replace(|state| match (state, pass) {
            (State::Closed(tally), _) => State::Closed(tally.at(now).answered()),
            (State::Open { .. }, Pass::Probe | Pass::Exempt) => State::Closed(Tally::default()),
            // It began before the breaker opened.
            (State::Open { .. }, Pass::Call) => state,
        });
    }

    /// The server did not answer.
    pub(crate) fn failed(&self, pass: Pass, failure: Failure, now: Duration) {
        let paused = now + Self::PAUSE;
        self.replace(|state| match (state, pass) {
            (State::Closed(tally), _) => match tally.at(now).failed(failure) {
                tally if tally.is_bad() => State::Open { until: paused },
                tally => State::Closed(tally),
            },
            (State::Open { until }, Pass::Probe) => State::Open { until: until.max(paused) },
            // Such a call must not delay the next probe.
            (State::Open { .. }, Pass::Call | Pass::Exempt) => state,
        });
    }

    /// True while calls fail without being made.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state(), State::Open { .. })
    }

    fn state(&self) -> State {
        State::unpack(self.0.load(Ordering::Relaxed))
    }

    /// Uses relaxed ordering, because the word guards no other memory.
    fn replace(&self, change: impl Fn(State) -> State) {
        let change = |word| Some(change(State::unpack(word)).pack());
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .expect("every state has a successor");
    }
}

/// The state in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calls are made and counted.
    Closed(Tally),
    /// Calls fail until this time, to the millisecond; then one is let through.
    Open { until: Duration },
}

/// Counts of calls, in which earlier seconds weigh less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    second: u32,
    /// The number of calls, at most [`Breaker::MOST`].
    calls: u64,
    failures: u64,
    /// One bit for each subject that had a timeout in this second.
    silent: u16,
}

impl State {
    /// Bit 63 says whether it is open. The rest is the time, or, from the highest bit: the second
    /// (31 bits, 68 years), what was silent (16), the failures (8), the calls (8).
    fn pack(self) -> u64 {
        match self {
            Self::Open { until } => OPEN | until.as_millis() as u64,
            Self::Closed(Tally { second, calls, failures, silent }) => {
                u64::from(second) << 32 | u64::from(silent) << 16 | failures << 8 | calls
            }
        }
    }

    fn unpack(word: u64) -> Self {
        if word & OPEN != 0 {
            return Self::Open { until: Duration::from_millis(word & !OPEN) };
        }
        Self::Closed(Tally {
            second: (word >> 32) as u32,
            silent: (word >> 16) as u16,
            failures: word >> 8 & 0xff,
            calls: word & 0xff,
        })
    }
}

impl Tally {
    /// Halves the counts for each second that has passed. A thread reads the clock before it gets here, so it may
    /// be late; its call then counts for the later second.
    fn at(self, now: Duration) -> Self {
        let second = (now.as_secs() & SECONDS) as u32;
        let passed = second.saturating_sub(self.second).min(u64::BITS - 1);
        match passed {
            0 => self,
            _ => Self {
                second,
                calls: self.calls >> passed,
                failures: self.failures >> passed,
                silent: 0,
            },
        }
    }

    fn answered(self) -> Self {
        let Self { calls, failures, .. } = self.with_room();
        Self { calls: calls + 1, failures, ..self }
    }

    fn failed(self, failure: Failure) -> Self {
        let silent = match failure {
            Failure::Unreachable => 0,
            Failure::Silent(about) => 1 << (about % 16),
        };
        if self.silent & silent != 0 {
            return self;
        }
        let Self { calls, failures, .. } = self.with_room();
        Self { calls: calls + 1, failures: failures + 1, silent: self.silent | silent, ..self }
    }

    /// Halves the counts when they are full: only the share of failures matters.
    fn with_room(self) -> Self {
        match self.calls {
            Breaker::MOST => Self { calls: self.calls / 2, failures: self.failures / 2, ..self },
            _ => self,
        }
    }

    fn is_bad(self) -> bool {
        self.failures >= Breaker::LEAST && self.failures * 2 >= self.calls
    }
}

const OPEN: u64 = 1 << 63;
const SECONDS: u64 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_server_is_probed_once_a_pause() {
        let breaker = open();
        assert_eq!(breaker.admit(ms(499)), None);
        assert_eq!(breaker.admit(ms(500)), Some(Pass::Probe));
        assert_eq!(breaker.admit(ms(500)), None, "only one probe");
        assert_eq!(breaker.admit(ms(1_000)), Some(Pass::Probe), "the first was dropped");
        breaker.failed(Pass::Probe, Failure::Unreachable, ms(1_200));
        assert_eq!(breaker.admit(ms(1_699)), None);
        assert_eq!(breaker.admit(ms(1_700)), Some(Pass::Probe));
    }

    #[test]
    fn an_answered_probe_closes_it() {
        let breaker = open();
        let probe = breaker.admit(ms(500)).unwrap();
        breaker.answered(probe, ms(501));
        assert_eq!((breaker.admit(ms(501)), breaker.admit(ms(501))), (CALL, CALL));
        fail(&breaker, Breaker::LEAST - 1, ms(502));
        assert!(!breaker.is_open(), "the counts start at zero");
    }

    #[test]
    fn calls_from_before_it_opened_change_nothing() {
        let breaker = open();
        breaker.answered(Pass::Call, ms(10));
        breaker.failed(Pass::Call, Failure::Unreachable, ms(400));
        assert!(breaker.is_open());
        assert_eq!(breaker.admit(ms(500)), Some(Pass::Probe));
    }

    #[test]
    fn an_exempt_call_closes_it_without_delaying_probes() {
        let breaker = open();
        breaker.failed(Pass::Exempt, Failure::Unreachable, ms(499));
        assert_eq!(breaker.admit(ms(500)), Some(Pass::Probe));
        breaker.answered(Pass::Exempt, ms(501));
        assert_eq!(breaker.admit(ms(501)), CALL);
    }

    #[test]
    fn half_of_the_calls_must_fail() {
        for (failures, answers, opens) in
            [(5, 5, true), (5, 6, false), (4, 0, false), (49, 60, false), (60, 60, true)]
        {
            let breaker = Breaker::new();
            (0..answers).for_each(|_| breaker.answered(Pass::Call, ms(0)));
            fail(&breaker, failures, ms(0));
            assert_eq!(breaker.is_open(), opens, "{failures} failed, {answers} did not");
        }
    }

    #[test]
    fn twelve_timeouts_among_100_calls_keep_it_closed() {
        for before in 0..=88 {
            let breaker = Breaker::new();
            (0..before).for_each(|_| breaker.answered(Pass::Call, ms(0)));
            (0..12).for_each(|_| breaker.failed(Pass::Call, Failure::Silent(7), ms(1_000)));
            (before..88).for_each(|_| breaker.answered(Pass::Call, ms(1_000)));
            assert!(!breaker.is_open(), "{before} of the answers came first");
        }
    }

    #[test]
    fn one_stuck_record_never_opens_it() {
        let breaker = Breaker::new();
        for now in 0..100 {
            (0..50).for_each(|_| breaker.failed(Pass::Call, Failure::Silent(7), ms(now * 100)));
            assert!(!breaker.is_open(), "after {now} tenths of a second");
        }
    }

    #[test]
    fn silence_about_many_records_opens_it() {
        let breaker = Breaker::new();
        (0..5).for_each(|about| breaker.failed(Pass::Call, Failure::Silent(about), ms(0)));
        assert!(breaker.is_open());
    }

    #[test]
    fn a_crash_under_load_opens_it_soon() {
        let breaker = Breaker::new();
        (0..100_000).for_each(|_| breaker.answered(Pass::Call, ms(0)));
        fail(&breaker, Breaker::MOST, ms(0));
        assert!(breaker.is_open());
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let breaker = Breaker::new();
        (0..60).for_each(|second| fail(&breaker, 2, Duration::from_secs(second)));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_word_holds_every_state() {
        let most = Tally {
            second: SECONDS as u32,
            calls: Breaker::MOST,
            failures: Breaker::MOST,
            silent: u16::MAX,
        };
        for state in [
            State::Closed(Tally::default()),
            State::Closed(most),
            State::Open { until: Duration::ZERO },
            State::Open { until: Duration::from_millis(!OPEN) },
        ] {
            assert_eq!(State::unpack(state.pack()), state);
        }
    }

    /// One that opened at 0.
    fn open() -> Breaker {
        let breaker = Breaker::new();
        fail(&breaker, Breaker::LEAST, ms(0));
        assert!(breaker.is_open());
        breaker
    }

    fn fail(breaker: &Breaker, times: u64, now: Duration) {
        (0..times).for_each(|_| breaker.failed(Pass::Call, Failure::Unreachable, now));
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const CALL: Option<Pass> = Some(Pass::Call);
}
