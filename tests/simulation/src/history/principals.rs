//! Checks of the sessions of a principal.

use std::time::Duration;

use steadfast_core::RecordId;

use super::{Asked, Call, History, Subject, Told};

/// Checks lists, caps, minimum epochs, and ends of all sessions.
pub(super) fn check(history: &History, principal: usize) -> Result<(), String> {
    for call in history.of_principal(principal) {
        match (&call.asked, &call.told) {
            (Asked::List, Told::Listed(listed)) => is_right(history, principal, call, listed)?,
            (Asked::DeleteAll(_), Told::Count(_)) => all_are_dead(history, principal, call)?,
            _ => {}
        }
    }
    logins_are_above_the_floor(history, principal)
}

/// Returns the intervals in which something other than a call for this session may have ended it.
pub(super) fn ends(history: &History, session: usize) -> Vec<(Duration, Option<Duration>)> {
    let Some(principal) = history.sessions[session].principal else {
        return Vec::new();
    };
    let revocations =
        history.of_principal(principal).filter(|call| matches!(call.asked, Asked::DeleteAll(_)));
    let until = |call: &Call| call.is_answered().then_some(call.end);
    let mut ends: Vec<_> = revocations.map(|call| (call.begin, until(call))).collect();
    ends.extend(evictions(history, principal, session));
    ends
}

/// Returns the other logins of the principal that may have found the cap reached before they were
/// answered.
fn evictions(
    history: &History,
    principal: usize,
    session: usize,
) -> Vec<(Duration, Option<Duration>)> {
    let others = sessions_of(history, principal).filter(|other| *other != session);
    let logins: Vec<_> = others.filter_map(|other| history.creation(other)).collect();
    let until = |login: &Call| login.is_answered().then_some(login.end);
    // The login that began last need not be the one that was admitted last.
    let is_full = |login: &&&Call| {
        let is_there = |other: &&&Call| until(login).is_none_or(|until| other.begin <= until);
        logins.iter().filter(is_there).count() >= history.caps[principal]
    };
    logins.iter().filter(is_full).map(|login| (login.begin, until(login))).collect()
}

fn sessions_of(history: &History, principal: usize) -> impl Iterator<Item = usize> + Clone {
    (0..history.sessions.len())
        .filter(move |session| history.sessions[*session].principal == Some(principal))
}

fn is_right(
    history: &History,
    principal: usize,
    list: &Call,
    listed: &[RecordId],
) -> Result<(), String> {
    if listed.len() > history.caps[principal] {
        return Err(format!("more sessions are listed than the cap allows: {list:?}"));
    }
    for session in sessions_of(history, principal) {
        let id = history.sessions[session].id;
        let is_listed = listed.contains(&id);
        let ended = ended_by(history, principal, session).filter(|end| *end < list.begin);
        if let Some(ended) = ended.filter(|_| is_listed) {
            return Err(format!("session {session} ended at {ended:?} and is listed: {list:?}"));
        }
        if !is_listed && is_surely_live(history, session, list) {
            return Err(format!("session {session} is live and not listed: {list:?}"));
        }
    }
    Ok(())
}

/// Returns the time by which a session had certainly ended.
fn ended_by(history: &History, principal: usize, session: usize) -> Option<Duration> {
    let id = history.sessions[session].id;
    let own = history.of_session(session).filter(|call| call.told == Told::Ended);
    let creation = history.creation(session)?;
    let all = history.of_principal(principal).filter(|call| {
        let is_after = creation.is_applied() && creation.end <= call.begin;
        is_after && matches!(call.told, Told::Count(_))
    });
    let capped = sessions_of(history, principal).filter_map(|other| history.creation(other));
    let capped = capped
        .filter(|login| matches!(&login.told, Told::Applied { ended, .. } if ended.contains(&id)));
    own.chain(all).chain(capped).map(|call| call.end).min()
}

/// Returns true if a session certainly lives during a whole call, because nothing had begun that
/// could end it.
fn is_surely_live(history: &History, session: usize, during: &Call) -> bool {
    let Some(creation) = history.creation(session) else {
        return false;
    };
    let may_end = |call: &Call| call.asked == Asked::Delete && call.begin < during.end;
    let expires = creation.begin + history.sessions[session].idle <= during.end;
    let is_ended_by_others = ends(history, session).iter().any(|(begin, until)| {
        *begin < during.end && until.is_none_or(|until| until > creation.begin)
    });
    creation.is_applied()
        && creation.end <= during.begin
        && !expires
        && !is_ended_by_others
        && !history.of_session(session).any(may_end)
}

/// Checks that everyone who logged in before all sessions were ended is signed out.
fn all_are_dead(history: &History, principal: usize, all: &Call) -> Result<(), String> {
    for session in sessions_of(history, principal) {
        let creation = history.creation(session);
        if !creation.is_some_and(|login| login.is_applied() && login.end <= all.begin) {
            continue;
        }
        let later = history.of_session(session).filter(|call| call.begin > all.end);
        if let Some(call) = later.into_iter().find(|call| call.saw_life()) {
            return Err(format!("session {session} lives on after {all:?}: {call:?}"));
        }
    }
    Ok(())
}

fn logins_are_above_the_floor(history: &History, principal: usize) -> Result<(), String> {
    let floors = history.of_principal(principal).filter_map(|call| match call.asked {
        Asked::DeleteAll(floor) => Some((call, floor)),
        _ => None,
    });
    for session in sessions_of(history, principal) {
        let Some((login, epoch)) = history.creation(session).and_then(|login| login.epoch()) else {
            continue;
        };
        let passed = |(all, floor): &(&Call, u64)| {
            *floor > epoch && all.is_applied() && all.end <= login.begin
        };
        if login.is_applied() && floors.clone().any(|floor| passed(&floor)) {
            return Err(format!("a login below the floor: {login:?}"));
        }
        let explains = |(all, floor): (&Call, u64)| floor > epoch && all.begin < login.end;
        if login.told == Told::StaleEpoch && !floors.clone().any(explains) {
            return Err(format!("a login is refused that is above the floor: {login:?}"));
        }
    }
    Ok(())
}

impl Call {
    /// Returns the call and the principal's epoch, if the call is a login.
    fn epoch(&self) -> Option<(&Self, u64)> {
        match (&self.asked, self.subject) {
            (Asked::Create { epoch: Some(epoch), .. }, Subject::Session(_)) => Some((self, *epoch)),
            _ => None,
        }
    }
}
