//! Checks that a caller got a true answer, and that records are intact.

use steadfast_core::{Applied, Deleted, Lookup, Outcome, Scope};

use crate::scene::{Answer, Scene, World};

/// The effect of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It had no effect, or is a read.
    None,
    /// It took full effect.
    Whole,
}

impl Scene {
    /// Returns the effect of the call.
    ///
    /// # Errors
    ///
    /// Returns a description if the records are neither as before nor as after the call, or
    /// contradict the answer.
    pub fn judge(&self, answer: &Answer, before: &World, found: &World) -> Result<Effect, String> {
        let effect = self.effect(before, found)?;
        let is_whole = effect == Effect::Whole || self.after(before) == *before;
        let is_true = match answer {
            Answer::Failed(error) => error.scope() == Scope::Server,
            Answer::Loaded(Lookup::Found(loaded)) => {
                before.records[&self.id()].as_ref() == Some(&*loaded.record)
            }
            Answer::Changed(Outcome::Applied(applied)) => {
                is_whole && self.is_what_happened(applied, found)
            }
            // A repeated delete finds nothing.
            Answer::Deleted(Deleted::Ended | Deleted::Gone) => is_whole,
            Answer::DeletedAll(count) => is_whole && [0, self.count()].contains(count),
            Answer::Listed(listed) => *listed == before.listed,
            Answer::Loaded(_) | Answer::Changed(_) | Answer::Deleted(_) => false,
        };
        match is_true {
            true => Ok(effect),
            false => Err(format!(
                "the answer {answer:?} contradicts the effect {effect:?}: {}",
                before.difference(found)
            )),
        }
    }

    fn effect(&self, before: &World, found: &World) -> Result<Effect, String> {
        let after = self.after(before);
        // A repeated plain write is applied twice, which only the version shows.
        let is_after = *found == after || self.is_repeated(&after, found);
        match is_after {
            true if after != *before => Ok(Effect::Whole),
            _ if found == before => Ok(Effect::None),
            _ => Err(format!(
                "the records are neither as before (differences: {}) nor as after (differences: {})",
                before.difference(found),
                after.difference(found)
            )),
        }
    }

    fn is_repeated(&self, after: &World, found: &World) -> bool {
        self.may_be_repeated() && *found == self.after(after)
    }

    fn is_what_happened(&self, applied: &Applied, found: &World) -> bool {
        let Some(record) = &found.records[&self.id()] else {
            return false;
        };
        let counts = applied
            .counters
            .iter()
            .all(|(key, value)| record.values.get(key) == Some(value.to_string().as_bytes()));
        // A repeated call does not name again the sessions that its first attempt ended.
        let ends = applied.ended.is_empty() || applied.ended == self.ended();
        counts && ends && applied.version == record.version
    }
}
