//! Checks that applications learn of the sessions that end without a request.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::RecordId;

use super::{Asked, Call, History, Told};

/// Checks that all of these ends were reported.
///
/// # Errors
///
/// Returns the first one that was not.
pub fn are_told(
    told: &[(RecordId, Duration)],
    mut endings: impl Iterator<Item = RecordId>,
) -> Result<(), String> {
    let told: BTreeSet<_> = told.iter().map(|(id, _)| *id).collect();
    let missing = endings.find(|id| !told.contains(id));
    missing.map_or(Ok(()), |id| Err(format!("X3: {id} ended, and no application was told")))
}

/// Checks that no session lives after its reported end, and that the end of each visitor's session
/// was reported unless a client ended it.
///
/// # Errors
///
/// Returns the first session that violates this.
pub fn check(history: &History, told: &[(RecordId, Duration)]) -> Result<(), String> {
    for (session, known) in history.sessions.iter().enumerate() {
        let ended = told.iter().find(|(id, _)| *id == known.id);
        if let Some((_, at)) = ended
            && let Some(call) = history.of_session(session).find(|c| c.begin > *at && c.saw_life())
        {
            return Err(format!("session {session} was told to have ended, and lives: {call:?}"));
        }
    }
    let gone = (0..history.sessions.len()).filter(|session| is_gone(history, *session));
    are_told(told, gone.map(|session| history.sessions[session].id))
}

/// Returns true if a visitor's session was created, and ended without a request.
fn is_gone(history: &History, session: usize) -> bool {
    let is_created = history.creation(session).is_some_and(Call::is_applied);
    let is_ended = |asked: &Asked, told: &Told| {
        *asked == Asked::Delete && !matches!(told, Told::Absent | Told::Superseded)
    };
    let mut calls = history.of_session(session);
    let reads = calls.clone().filter(|call| matches!(call.asked, Asked::Load { secret: None, .. }));
    is_created
        && history.sessions[session].principal.is_none()
        && reads.last().is_some_and(|call| call.told == Told::Absent)
        && !calls.any(|call| is_ended(&call.asked, &call.told))
}

#[cfg(test)]
mod tests {
    use steadfast_core::Version;

    use super::*;
    use crate::history::{Call, Session, State, Subject};

    #[test]
    fn an_unreported_end_is_found() {
        let mut history = history();
        history.calls.push(call(5, load(), Told::Absent));
        assert!(check(&history, &[(ID, secs(4))]).is_ok());
        assert!(check(&history, &[]).unwrap_err().contains("no application was told"));
        history.calls.insert(1, call(3, Asked::Delete, Told::Nothing(String::new())));
        assert!(check(&history, &[]).is_ok(), "a client may have ended it");
    }

    #[test]
    fn a_session_that_lives_on_is_found() {
        let mut history = history();
        let (keys, counter, secret, version) = ([0, 0], 0, 1, Version(1));
        let state = State { version, keys, counter, secret };
        history.calls.push(call(5, load(), Told::Found(state)));
        assert!(check(&history, &[]).is_ok());
        assert!(check(&history, &[(ID, secs(4))]).unwrap_err().contains("lives"));
        assert!(check(&history, &[(ID, secs(6))]).is_ok());
    }

    const ID: RecordId = RecordId::from_bytes([1; 16]);

    fn history() -> History {
        let created = Told::Applied { version: Version(1), counter: None, ended: Vec::new() };
        let create = call(1, Asked::Create { secret: 1, epoch: None }, created);
        let session = Session { id: ID, principal: None, idle: secs(2) };
        History { sessions: vec![session], calls: vec![create], ..History::default() }
    }

    fn call(begin: u64, asked: Asked, told: Told) -> Call {
        let begin = secs(begin);
        Call { subject: Subject::Session(0), asked, node: 0, begin, end: begin, told }
    }

    fn load() -> Asked {
        Asked::Load { secret: None, carried: None }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
