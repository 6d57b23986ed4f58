//! The answers of scripts. A malformed part yields `None`.

use redis::Value;
use steadfast_core::{RecordId, StoreError};

use crate::codec::Unpacked;

/// The answer of a script: a letter, followed by its parts.
#[derive(Debug)]
pub(crate) struct ScriptReply {
    pub(crate) word: u8,
    bytes: Vec<u8>,
    at: usize,
}

impl ScriptReply {
    pub(crate) fn of(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::BulkString(bytes) if !bytes.is_empty() => {
                Ok(Self { word: bytes[0], bytes, at: 1 })
            }
            _ => Err(unexpected()),
        }
    }

    /// Takes the next part.
    pub(crate) fn take<'a, T>(
        &'a mut self,
        part: impl Fn(&mut Unpacked<'a>) -> Option<T>,
    ) -> Option<T> {
        let mut rest = Unpacked(&self.bytes[self.at..]);
        let before = rest.0.len();
        let taken = part(&mut rest)?;
        self.at += before - rest.0.len();
        Some(taken)
    }

    /// Returns whether a message was published and received, if the answer says so.
    pub(crate) fn was_told(&mut self) -> Option<bool> {
        self.take(Unpacked::u8).map(|told| told == b'1')
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.take(Unpacked::text).map(str::to_owned)
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.take(Unpacked::u32)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(crate) fn ids(&mut self) -> Option<Vec<RecordId>> {
        self.texts()?.iter().map(|id| id.parse().ok()).collect()
    }

    /// Returns true if parts remain.
    pub(crate) fn has_more(&self) -> bool {
        self.at < self.bytes.len()
    }
}

/// Returns the error for a malformed answer.
pub(crate) fn unexpected() -> StoreError {
    StoreError::refused(Unexpected)
}

#[derive(Debug, thiserror::Error)]
#[error("the server returned a malformed answer")]
pub(crate) struct Unexpected;
