//! Checks whether a single server could have produced a history.
//!
//! Each part of a session is a key with a history of its own that has to be linearizable: its life,
//! its secret, each of its values, its counter. A copy may answer a read, so its values may be as
//! old as the version that the client carries. The life and the secret may not be old.

use std::time::Duration;

use linearizability::{Event, Step, check};

use super::{Asked, Call, History, Key, Told, principals, versions};

/// Checks a history.
///
/// # Errors
///
/// Returns the first response that no single server could have given.
pub fn check_history(history: &History) -> Result<(), String> {
    for session in 0..history.sessions.len() {
        let told = |what: &str| {
            let what = what.to_owned();
            move |why: String| format!("session {session}: {what}: {why}")
        };
        versions::check(history, session).map_err(told("versions"))?;
        is_linearizable(&life(history, session)).map_err(told("life"))?;
        is_linearizable(&secret(history, session)).map_err(told("secret"))?;
        for key in [Key::A, Key::B] {
            is_linearizable(&key_events(history, session, key)).map_err(told("key"))?;
        }
        is_linearizable(&counter(history, session)).map_err(told("counter"))?;
        additions(history, session).map_err(told("counter"))?;
    }
    (0..history.caps.len()).try_for_each(|principal| {
        principals::check(history, principal).map_err(|why| format!("principal {principal}: {why}"))
    })
}

/// Checks that every call that began after this time was answered.
///
/// # Errors
///
/// Returns the first call that was not.
pub fn is_available(history: &History, since: Duration) -> Result<(), String> {
    let failed = history.calls.iter().find(|call| call.begin >= since && !call.is_answered());
    failed.map_or(Ok(()), |call| Err(format!("C19: nothing is broken, and a call fails: {call:?}")))
}

/// Checks that at least this percentage of reads were answered immediately, by the node that
/// received them.
///
/// # Errors
///
/// Returns an error if there were fewer.
pub fn answers_from_copies(history: &History, percent: usize) -> Result<(), String> {
    let is_read = |call: &&Call| matches!(call.asked, Asked::Load { .. }) && call.is_answered();
    let reads = history.calls.iter().filter(is_read);
    let (all, own) =
        reads.fold((0, 0), |(all, own), call| (all + 1, own + usize::from(call.begin == call.end)));
    match own * 100 >= all * percent {
        true => Ok(()),
        false => Err(format!("R3: {own} of {all} reads were answered where they were asked")),
    }
}

fn is_linearizable(events: &[Event]) -> Result<(), String> {
    check(events).map_err(|why| {
        let moments = events.iter().filter(|event| event.invoked <= why.stuck.until);
        let around: Vec<_> = moments.filter(|event| event.step.changes()).rev().take(6).collect();
        format!("{why}; changes before: {around:?}")
    })
}

/// The longest time after recovery in which an unanswered call may still take effect.
pub(super) const LATE: Duration = Duration::from_secs(10);

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

impl History {
    /// Returns the effect of a call: between its start and its answer, or at any later time or
    /// never.
    fn event(&self, call: &Call, step: Step) -> Event {
        if call.is_answered() {
            return Event::answered(step, nanos(call.begin), nanos(call.end));
        }
        self.doubtful(step, call.begin)
    }

    fn doubtful(&self, step: Step, begin: Duration) -> Event {
        let until = self.well_since.map_or(u64::MAX, |since| nanos(since.max(begin) + LATE));
        Event { until, ..Event::unanswered(step, nanos(begin)) }
    }
}

/// 0 before the creation, 1 while the session lives, 2 after its end.
fn life(history: &History, session: usize) -> Vec<Event> {
    const CREATED: Step = Step::Replace { from: 0, to: 1 };
    const ENDED: Step = Step::Replace { from: 1, to: 2 };
    let mut events = Vec::new();
    for call in history.of_session(session) {
        let step = match (&call.asked, &call.told) {
            (Asked::Create { .. }, Told::Applied { .. } | Told::Nothing(_)) => CREATED,
            (Asked::Create { .. }, Told::Exists) => Step::Missed(0),
            (Asked::Create { .. }, _) => continue,
            (Asked::Delete, Told::Ended | Told::Nothing(_)) => ENDED,
            (_, Told::Absent) if call.asked.wrong_secret().is_none() => Step::Missed(1),
            _ if call.saw_life() => Step::Read(1),
            _ => continue,
        };
        events.push(history.event(call, step));
    }
    let begins = principals::ends(history, session).into_iter().chain(expiry(history, session));
    let begins = begins.chain(eviction(history, session));
    let ends: Vec<_> = begins
        .map(|(begin, until)| Event {
            until: until.map_or(u64::MAX, nanos),
            ..Event::unanswered(ENDED, nanos(begin))
        })
        .collect();
    events.extend(ends);
    events
}

/// Returns the time at which a budget may end a session: any time for a visitor's, never for a
/// user's.
fn eviction(history: &History, session: usize) -> Option<(Duration, Option<Duration>)> {
    let is_visitor = history.sessions[session].principal.is_none();
    (history.evicts && is_visitor).then_some((Duration::ZERO, None))
}

/// Returns the time at which a session may expire: never before the latest deadline that its client
/// knows.
fn expiry(history: &History, session: usize) -> Option<(Duration, Option<Duration>)> {
    let deadline = history.of_session(session).filter_map(|call| match call.asked {
        Asked::Touch(until) => call.is_applied().then_some(until),
        Asked::Create { .. } => Some(call.begin + history.sessions[session].idle),
        _ => None,
    });
    deadline.max().map(|at| (at.saturating_sub(Duration::from_secs(1)), None))
}

fn secret(history: &History, session: usize) -> Vec<Event> {
    let step = |call: &Call| match (&call.asked, &call.told) {
        (Asked::Create { secret, .. }, Told::Applied { .. } | Told::Nothing(_)) => {
            Some(Step::Replace { from: 0, to: *secret as i64 })
        }
        (Asked::Rotate(from, to), Told::Applied { .. } | Told::Nothing(_)) => {
            Some(Step::Replace { from: *from as i64, to: *to as i64 })
        }
        (Asked::Load { secret: Some(secret), .. }, Told::Found(_)) => {
            Some(Step::Read(*secret as i64))
        }
        (Asked::Load { secret: Some(old), .. } | Asked::Rotate(old, _), Told::Superseded) => {
            Some(Step::Missed(*old as i64))
        }
        _ => None,
    };
    let calls = history.of_session(session);
    calls.filter_map(|call| Some(history.event(call, step(call)?))).collect()
}

fn key_events(history: &History, session: usize, key: Key) -> Vec<Event> {
    let step = |call: &Call| match (&call.asked, &call.told) {
        (_, Told::Found(state)) => Some(Step::Read(state.keys[key as usize])),
        (Asked::Swap(of, from, _), Told::Conflict) if *of == key => Some(Step::Missed(*from)),
        (asked, Told::Applied { .. } | Told::Nothing(_)) => match asked {
            Asked::Put(of, number) if *of == key => Some(Step::Write(*number)),
            Asked::Remove(of) if *of == key => Some(Step::Write(0)),
            Asked::Clear => Some(Step::Write(0)),
            Asked::Swap(of, from, to) if *of == key => Some(Step::Replace { from: *from, to: *to }),
            _ => None,
        },
        _ => None,
    };
    let calls = history.of_session(session);
    calls.filter_map(|call| Some(shown(history, session, call, step(call)?))).collect()
}

fn counter(history: &History, session: usize) -> Vec<Event> {
    let step = |call: &Call| match (&call.asked, &call.told) {
        (_, Told::Found(state)) => Some(Step::Read(state.counter)),
        (Asked::Add, Told::Applied { counter, .. }) => Some(Step::Count(*counter)),
        (Asked::Add, Told::Nothing(_)) => Some(Step::Count(None)),
        _ => None,
    };
    let calls = history.of_session(session);
    calls.filter_map(|call| Some(shown(history, session, call, step(call)?))).collect()
}

/// A read may show any values that existed since the carried version was written.
fn shown(history: &History, session: usize, call: &Call, step: Step) -> Event {
    let event = history.event(call, step);
    let Asked::Load { carried, .. } = call.asked else {
        return event;
    };
    let written = |other: &&Call| other.is_applied() && other.version() == carried;
    let mut writes = history.of_session(session).filter(|_| carried.is_some());
    let since = writes.find(written).map_or(0, |write| nanos(write.begin));
    Event { invoked: event.invoked.min(since), ..event }
}

/// Checks that every acknowledged addition is present, and none that was not requested.
fn additions(history: &History, session: usize) -> Result<(), String> {
    let adds = history.of_session(session).filter(|call| call.asked == Asked::Add);
    let acknowledged = adds.clone().filter(|call| call.is_applied()).count() as i64;
    let asked = adds.filter(|call| call.is_applied() || !call.is_answered()).count() as i64;
    let last = history.well_since.and_then(|since| {
        let reads = history.of_session(session).filter(|call| call.begin > since + LATE);
        reads
            .filter_map(|call| match &call.told {
                Told::Found(state) => Some(state.counter),
                _ => None,
            })
            .last()
    });
    match last {
        Some(last) if last < acknowledged => {
            Err(format!("C18: {acknowledged} additions were acknowledged, and {last} are left"))
        }
        Some(last) if last > asked => {
            Err(format!("C18: {asked} additions were asked for, and {last} were made"))
        }
        _ => Ok(()),
    }
}

impl Asked {
    /// Returns a secret that may be wrong. "Absent" then says nothing about the session.
    fn wrong_secret(&self) -> Option<u64> {
        match self {
            Self::Load { secret, .. } => *secret,
            Self::Rotate(secret, _) => Some(*secret),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use steadfast_core::{RecordId, Version};

    use super::super::{Session, State, Subject};
    use super::*;

    #[test]
    fn an_empty_history_is_right() {
        assert_eq!(check_history(&history(&[])), Ok(()));
    }

    #[test]
    fn a_session_is_absent_only_after_its_deadline() {
        let absent = |at| history(&[(load(None), at, at + 1, Told::Absent)]);
        assert_is_wrong(&absent(30_000), "life");
        assert_eq!(check_history(&absent(101_000)), Ok(()));
        let touch = (Asked::Touch(ms(150_000)), 90_000, 90_001, applied(1));
        let touched = history(&[touch, (load(None), 101_000, 101_001, Told::Absent)]);
        assert_is_wrong(&touched, "life");
    }

    #[test]
    fn a_budget_may_end_a_visitor_session() {
        let mut history = history(&[(load(None), 10, 11, Told::Absent)]);
        assert_is_wrong(&history, "life");
        history.evicts = true;
        assert_eq!(check_history(&history), Ok(()));
        history.calls.push(call((load(None), 20, 21, found(1, 0))));
        assert_is_wrong(&history, "life");
    }

    #[test]
    fn a_deleted_session_is_not_found() {
        let delete = (Asked::Delete, 10, 20, Told::Ended);
        let read = (load(None), 15, 25, found(1, 0));
        assert_eq!(check_history(&history(&[delete.clone(), read])), Ok(()));
        let read = (load(None), 21, 25, found(1, 0));
        assert_is_wrong(&history(&[delete, read]), "life");
    }

    #[test]
    fn a_slow_login_may_end_a_session_last() {
        let create = Asked::Create { secret: 7, epoch: None };
        let login = |session, begin, end| {
            let subject = Subject::Session(session);
            Call { subject, ..call((create.clone(), begin, end, applied(1))) }
        };
        let reads = [(load(None), 10, 11, found(1, 0)), (load(None), 15, 16, Told::Absent)];
        let mut history = history(&reads);
        let session = |n| Session {
            id: RecordId::from_bytes([n; 16]),
            principal: Some(0),
            ..history.sessions[0].clone()
        };
        history.sessions = [1, 2, 3].map(session).into();
        history.calls.extend([login(1, 2, 20), login(2, 3, 4)]);
        history.caps = vec![2];
        assert_eq!(check_history(&history), Ok(()));
        history.caps = vec![3];
        assert_is_wrong(&history, "life");
    }

    #[test]
    fn a_copy_may_be_older_than_the_owner() {
        let put = (Asked::Put(Key::A, 5), 10, 11, applied(2));
        let read = |carried| (load(carried), 20, 21, found(1, 0));
        assert_eq!(check_history(&history(&[put.clone(), read(None)])), Ok(()));
        assert_eq!(check_history(&history(&[put.clone(), read(Some(Version(1)))])), Ok(()));
        assert_is_wrong(&history(&[put, read(Some(Version(2)))]), "older than its client knows");
    }

    #[test]
    fn one_version_has_one_state() {
        let reads = [(load(None), 10, 11, found(2, 5)), (load(None), 12, 13, found(2, 6))];
        assert_is_wrong(&history(&reads), "two states have one version");
        let writes = [
            (Asked::Put(Key::A, 5), 10, 11, applied(2)),
            (Asked::Put(Key::A, 6), 10, 12, applied(2)),
        ];
        assert_is_wrong(&history(&writes), "two writes have one version");
    }

    #[test]
    fn an_acknowledged_addition_is_there_at_rest() {
        let adds = [10, 20].map(|at| (Asked::Add, at, at + 1, counted(at / 10)));
        let mut wrong = history(&adds);
        wrong.well_since = Some(ms(30));
        let mut state = State { version: Version(2), keys: [0; 2], counter: 1, secret: 7 };
        wrong.calls.push(call((load(None), 20_000, 20_001, Told::Found(state.clone()))));
        assert_is_wrong(&wrong, "counter");
        (state.version, state.counter) = (Version(3), 2);
        wrong.calls.last_mut().unwrap().told = Told::Found(state);
        assert_eq!(check_history(&wrong), Ok(()));
    }

    #[test]
    fn an_unanswered_call_has_no_late_effect() {
        let put = (Asked::Put(Key::A, 5), 10, 11, Told::Nothing(String::new()));
        let reads = [
            (load(None), 11_000, 11_001, found(1, 0)),
            (load(Some(Version(2))), 12_000, 12_001, found(2, 5)),
        ];
        let mut history = history(&[&[put][..], &reads].concat());
        assert_eq!(check_history(&history), Ok(()));
        history.well_since = Some(ms(100));
        // The first read may be old, but the second client carries its version.
        history.calls[2].asked = load(Some(Version(1)));
        history.calls.push(call((Asked::Put(Key::A, 6), 10_500, 10_600, applied(2))));
        assert_is_wrong(&history, "does not show in its version");
    }

    #[test]
    fn a_failure_without_a_fault_is_noticed() {
        let failed = history(&[(load(None), 50, 60, Told::Nothing("503".to_owned()))]);
        assert_eq!(is_available(&failed, ms(51)), Ok(()));
        assert!(is_available(&failed, ms(50)).is_err());
    }

    type Told4 = (Asked, u64, u64, Told);

    /// Builds a history of calls to a session that lives for 100 s and has secret 7.
    fn history(calls: &[Told4]) -> History {
        let id = RecordId::from_bytes([1; 16]);
        let session = Session { id, principal: None, idle: ms(100_000) };
        let create = (Asked::Create { secret: 7, epoch: None }, 0, 1, applied(1));
        let calls = [create].into_iter().chain(calls.iter().cloned()).map(call).collect();
        History { sessions: vec![session], calls, ..History::default() }
    }

    fn call((asked, begin, end, told): Told4) -> Call {
        let (begin, end) = (ms(begin), ms(end));
        Call { subject: Subject::Session(0), asked, node: 0, begin, end, told }
    }

    fn load(carried: Option<Version>) -> Asked {
        Asked::Load { secret: None, carried }
    }

    fn applied(version: u64) -> Told {
        Told::Applied { version: Version(version), counter: None, ended: Vec::new() }
    }

    fn counted(sum: u64) -> Told {
        let (version, counter) = (Version(1 + sum), Some(sum as i64));
        Told::Applied { version, counter, ended: Vec::new() }
    }

    fn found(version: u64, a: i64) -> Told {
        let version = Version(version);
        Told::Found(State { version, keys: [a, 0], counter: 0, secret: 7 })
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn assert_is_wrong(history: &History, why: &str) {
        let found = check_history(history).unwrap_err();
        assert!(found.contains(why), "{found}");
    }
}
