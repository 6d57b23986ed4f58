//! Whether a caller was told the truth, and a record is whole.

use steadfast_core::{Applied, Deleted, Lookup, Outcome, Scope};

use crate::scene::{Answer, Scene, World};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It had none, or has none by its nature.
    None,
    /// It happened.
    Whole,
}

impl Scene {
    /// What became of the call, or what is wrong.
    ///
    /// # Errors
    ///
    /// What is neither as before nor as after, or told otherwise.
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
            // Sent a second time, it finds nothing.
            Answer::Deleted(Deleted::Ended | Deleted::Gone) => is_whole,
            Answer::DeletedAll(count) => is_whole && [0, self.count()].contains(count),
            Answer::Listed(listed) => *listed == before.listed,
            Answer::Loaded(_) | Answer::Changed(_) | Answer::Deleted(_) => false,
        };
        match is_true {
            true => Ok(effect),
            false => {
                Err(format!("told {answer:?}, found {effect:?}: {}", before.difference(found)))
            }
        }
    }

    fn effect(&self, before: &World, found: &World) -> Result<Effect, String> {
        let after = self.after(before);
        // Sent twice, a plain write is done twice, which shows in the version alone.
        let is_after = *found == after || self.is_repeated(&after, found);
        match is_after {
            true if after != *before => Ok(Effect::Whole),
            _ if found == before => Ok(Effect::None),
            _ => Err(format!(
                "it is neither as before (but {}) nor as after (but {})",
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
        // A call that was sent twice does not name again what its first time ended.
        let ends = applied.ended.is_empty() || applied.ended == self.ended();
        counts && ends && applied.version == record.version
    }
}
