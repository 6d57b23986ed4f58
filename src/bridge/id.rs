//! The session ids of tower-sessions.

use steadfast_core::{Env, RandomError, RecordId, Token};

/// An id of 128 bits, of which 127 are random. The lowest bit is the mark.
///
/// tower-sessions deletes an id in two cases that a store has to distinguish: the session ends, or it
/// continues under a new id. In the first case it names the id of the cookie, in the second the id of the
/// record that it loaded. A loaded record therefore has a *marked* id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(i128);

impl Id {
    /// Draws an id.
    pub(super) fn random(env: &Env) -> Result<Self, RandomError> {
        let mut bytes = [0; 16];
        env.fill(&mut bytes)?;
        Ok(Self(i128::from_le_bytes(bytes)).unmarked())
    }

    pub(super) const fn new(id: i128) -> Self {
        Self(id)
    }

    pub(super) const fn get(self) -> i128 {
        self.0
    }

    /// Returns true for the id of a loaded record. No session has such an id.
    pub(super) const fn is_marked(self) -> bool {
        self.0 & MARK == MARK
    }

    pub(super) const fn marked(self) -> Self {
        Self(self.0 | MARK)
    }

    pub(super) const fn unmarked(self) -> Self {
        Self(self.0 & !MARK)
    }

    /// The token that the id stands for.
    pub(super) fn token(self) -> Token {
        Token::derive(&self.0.to_le_bytes())
    }

    /// The record that names the successor of a session with this id.
    pub(super) fn successor(self) -> RecordId {
        self.marked().token().id()
    }
}

const MARK: i128 = 1;
