//! Checks of `Degrade`, under which the sides of a split serve independently, and are merged when
//! they meet.
//!
//! After recovery, all nodes show the same. If no process lost its memory, a session that ended on
//! one side has ended, every write of each side is present, and the latest write of each value
//! wins.

use std::collections::BTreeSet;
use std::time::Duration;

use super::checks::LATE;
use super::{Asked, Call, History, Key, State, Told};

/// Checks a history with split sides.
///
/// # Errors
///
/// Returns the first thing that merging does not explain.
pub fn check_sides(history: &History, is_lossless: bool) -> Result<(), String> {
    let mut live = BTreeSet::new();
    for session in 0..history.sessions.len() {
        let of = move |why: String| format!("session {session}: {why}");
        let last = agreed(history, session).map_err(of)?;
        live.extend(last.map(|_| session));
        if is_lossless {
            lives(history, session, last).map_err(of)?;
            last.map_or(Ok(()), |state| values(history, session, state)).map_err(of)?;
        }
    }
    (0..history.caps.len()).try_for_each(|principal| lists(history, principal, &live))
}

/// Returns the calls made at rest, after recovery.
fn last_calls<'h>(
    history: &History,
    calls: impl Iterator<Item = &'h Call>,
) -> impl Iterator<Item = &'h Call> {
    let since = history.well_since.map_or(Duration::MAX, |since| since + LATE);
    calls.filter(move |call| call.begin > since && call.is_answered())
}

/// Returns the session that all nodes show at the end, or `None` if it is absent.
fn agreed(history: &History, session: usize) -> Result<Option<&State>, String> {
    let is_look = |call: &&Call| matches!(call.asked, Asked::Load { secret: None, carried: None });
    let looks = last_calls(history, history.of_session(session)).filter(is_look);
    let shown: Vec<_> = looks
        .map(|call| match &call.told {
            Told::Found(state) => Some(state),
            _ => None,
        })
        .collect();
    let is_short = history.sessions[session].idle < LONG;
    match shown.iter().find(|other| **other != shown[0]) {
        Some(other) if !is_short => Err(format!("nodes show {:?} and {other:?}", shown[0])),
        _ => Ok(shown.first().copied().flatten()),
    }
}

/// Checks that a session that ended on one side has ended, and that one that nothing could end is
/// present.
fn lives(history: &History, session: usize, last: Option<&State>) -> Result<(), String> {
    let id = history.sessions[session].id;
    let end = history.calls.iter().find(|call| match &call.told {
        Told::Ended => history.of_session(session).any(|own| std::ptr::eq(own, *call)),
        Told::Applied { ended, .. } => ended.contains(&id),
        _ => false,
    });
    if let (Some(end), Some(state)) = (end, last) {
        return Err(format!("it ended and is back: {end:?}, {state:?}"));
    }
    let is_created = history.creation(session).is_some_and(Call::is_applied);
    if is_created && last.is_none() && !may_end(history, session) {
        return Err("it is lost".to_owned());
    }
    Ok(())
}

fn may_end(history: &History, session: usize) -> bool {
    let is_deleted = history.of_session(session).any(|call| call.asked == Asked::Delete);
    let is_short = history.sessions[session].idle < LONG;
    is_deleted || is_short || history.sessions[session].principal.is_some()
}

/// Checks that the latest write of each value won.
fn values(history: &History, session: usize, last: &State) -> Result<(), String> {
    for key in [Key::A, Key::B] {
        let shown = last.keys[key as usize];
        is_latest(history, session, shown, |call| written(call, key))
            .map_err(|why| format!("key {key:?}: {why}"))?;
    }
    is_latest(history, session, last.counter, |call| match (&call.asked, &call.told) {
        (Asked::Add, Told::Applied { counter, .. }) => counter.map(Written::This),
        (Asked::Add, Told::Nothing(_)) => Some(Written::Any),
        (Asked::Clear, _) => Some(Written::This(0)),
        _ => None,
    })
    .map_err(|why| format!("counter: {why}"))?;
    is_latest(history, session, last.secret as i64, |call| match call.asked {
        Asked::Create { secret, .. } => Some(Written::This(secret as i64)),
        Asked::Rotate(_, to) => Some(Written::This(to as i64)),
        _ => None,
    })
    .map_err(|why| format!("secret: {why}"))
}

/// The write of a call, if it wrote.
enum Written {
    This(i64),
    /// It is unknown.
    Any,
}

fn written(call: &Call, key: Key) -> Option<Written> {
    match call.asked {
        Asked::Put(of, number) | Asked::Swap(of, _, number) if of == key => {
            Some(Written::This(number))
        }
        Asked::Remove(of) if of == key => Some(Written::This(0)),
        Asked::Create { .. } | Asked::Clear => Some(Written::This(0)),
        _ => None,
    }
}

/// Returns true if a call wrote the value, and no other call certainly wrote later.
fn is_latest(
    history: &History,
    session: usize,
    shown: i64,
    written: impl Fn(&Call) -> Option<Written>,
) -> Result<(), String> {
    let writes: Vec<_> = history
        .of_session(session)
        .filter(|call| call.is_applied() || !call.is_answered())
        .filter_map(|call| Some((call, written(call)?)))
        .collect();
    let is_it = |written: &Written| match written {
        Written::This(value) => *value == shown,
        Written::Any => true,
    };
    let is_last = |write: &Call| {
        let later =
            |(other, _): &&(&Call, Written)| other.is_applied() && other.begin > write.end + APART;
        !write.is_answered() || writes.iter().find(later).is_none()
    };
    let by = writes.iter().filter(|(_, written)| is_it(written)).collect::<Vec<_>>();
    // No call writes 0. The key never existed.
    let is_first = shown == 0 && writes.iter().all(|(call, _)| !call.is_applied());
    match is_first || by.iter().any(|(call, _)| is_last(call)) {
        true => Ok(()),
        false => Err(format!("{shown} is not of the latest write, but of {:?}", first(&by))),
    }
}

fn first<'h>(by: &[&(&'h Call, Written)]) -> Option<&'h Call> {
    by.first().map(|(call, _)| *call)
}

/// Checks that a list has exactly the sessions that live.
fn lists(history: &History, principal: usize, live: &BTreeSet<usize>) -> Result<(), String> {
    let listed = last_calls(history, history.of_principal(principal));
    for call in listed {
        let Told::Listed(listed) = &call.told else {
            continue;
        };
        for (session, of) in history.sessions.iter().enumerate() {
            let is_concerned = of.principal == Some(principal) && of.idle >= LONG;
            let is_live = live.contains(&session);
            if is_concerned && listed.contains(&of.id) != is_live {
                return Err(format!("session {session} lives: {is_live}, and {call:?}"));
            }
        }
    }
    Ok(())
}

/// The lifetime of sessions that do not expire in a run.
const LONG: Duration = Duration::from_secs(3_600);

/// The greatest difference between the service times of two sides.
const APART: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use steadfast_core::{RecordId, Version};

    use super::super::{Session, Subject};
    use super::*;

    #[test]
    fn an_ended_session_does_not_return() {
        let delete = (Asked::Delete, 5, Told::Ended);
        assert_eq!(told(&[delete.clone(), (load(), 100, Told::Absent)]), Ok(()));
        assert!(told(&[delete, (load(), 100, found(0, 0))]).unwrap_err().contains("is back"));
    }

    #[test]
    fn nothing_is_lost_that_a_side_wrote() {
        assert!(told(&[(load(), 100, Told::Absent)]).unwrap_err().contains("lost"));
        let puts = [(put(5), 10, applied(None)), (put(6), 20, applied(None))];
        let then = |last| told(&[&puts[..], &[(load(), 100, last)]].concat());
        assert_eq!(then(found(6, 0)), Ok(()));
        assert!(then(found(5, 0)).is_err() && then(found(0, 0)).is_err());
    }

    #[test]
    fn concurrent_writes_may_both_be_latest() {
        let puts = [(put(5), 10, applied(None)), (put(6), 10, applied(None))];
        let then = |last| told(&[&puts[..], &[(load(), 100, last)]].concat());
        assert_eq!((then(found(5, 0)), then(found(6, 0))), (Ok(()), Ok(())));
    }

    #[test]
    fn a_counter_has_its_last_written_value() {
        let adds = [(Asked::Add, 10, applied(Some(1))), (Asked::Add, 20, applied(Some(1)))];
        let then = |last| told(&[&adds[..], &[(load(), 100, last)]].concat());
        assert_eq!(then(found(0, 1)), Ok(()));
        assert!(then(found(0, 2)).is_err() && then(found(0, 0)).is_err());
    }

    #[test]
    fn a_list_has_the_sessions_that_live() {
        let listed = |ids: &[RecordId]| {
            let mut history = history(&[(load(), 100, found(0, 0))]);
            history.caps = vec![9];
            history.sessions[0].principal = Some(0);
            let told = Told::Listed(ids.to_vec());
            let [begin, end] = [Duration::from_secs(100); 2];
            let (subject, asked) = (Subject::Principal(0), Asked::List);
            history.calls.push(Call { subject, asked, node: 0, begin, end, told });
            check_sides(&history, false)
        };
        assert_eq!(listed(&[RecordId::from_bytes([1; 16])]), Ok(()));
        assert!(listed(&[]).is_err());
    }

    #[test]
    fn nodes_have_to_agree() {
        let looks = [(load(), 100, found(0, 0)), (load(), 101, Told::Absent)];
        assert!(told(&looks).unwrap_err().contains("nodes show"));
    }

    fn told(calls: &[(Asked, u64, Told)]) -> Result<(), String> {
        check_sides(&history(calls), true)
    }

    fn history(calls: &[(Asked, u64, Told)]) -> History {
        let id = RecordId::from_bytes([1; 16]);
        let session = Session { id, principal: None, idle: LONG };
        let create = (Asked::Create { secret: 7, epoch: None }, 0, applied(None));
        let call = |(asked, at, told): &(Asked, u64, Told)| {
            let [begin, end] = [*at, *at].map(Duration::from_secs);
            let (asked, told) = (asked.clone(), told.clone());
            Call { subject: Subject::Session(0), asked, node: 0, begin, end, told }
        };
        let calls = [create].iter().chain(calls).map(call).collect();
        let well_since = Some(Duration::from_secs(50));
        History { sessions: vec![session], calls, well_since, ..History::default() }
    }

    fn load() -> Asked {
        Asked::Load { secret: None, carried: None }
    }

    fn put(number: i64) -> Asked {
        Asked::Put(Key::A, number)
    }

    fn applied(counter: Option<i64>) -> Told {
        Told::Applied { version: Version(1), counter, ended: Vec::new() }
    }

    fn found(a: i64, counter: i64) -> Told {
        Told::Found(State { version: Version(1), keys: [a, 0], counter, secret: 7 })
    }
}
