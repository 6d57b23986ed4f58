//! Writes that were under way when their record got another owner: that one took over what it found
//! of them, and says whether they count.

use steadfast_core::{Applied, Counters, Outcome, RecordId};

use super::Engine;
use super::message::{Failure, Kept, Reply};
use crate::record::Stamp;

/// A write that is held here unconfirmed, and has no answer.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) call: u64,
    /// The state of the record before the write, and with it.
    pub(super) before: Stamp,
    pub(super) stamp: Stamp,
    pub(super) counters: Counters,
    pub(super) ended: Vec<RecordId>,
}

impl Engine {
    /// Has a write wait for the new owner's word; one that may be repeated asks it at once.
    pub(super) fn leave_undecided(&mut self, id: RecordId, write: Undecided) {
        let call = self.calls.get(&write.call);
        if call.is_some_and(|call| call.request.is_repeatable()) {
            return self.route(write.call);
        }
        self.undecided.insert(id, write);
    }

    /// A state of a record counts, be it with a write that waits to hear that, or without it.
    pub(super) fn decide(&mut self, id: RecordId, counts: Stamp) {
        let Some(write) = self.undecided.remove(&id) else {
            return;
        };
        if counts == write.stamp {
            self.answer_counted(id, write);
        } else if counts == write.before {
            self.route(write.call);
        } else if matches!(self.kept(id), Kept::Dead { .. }) {
            self.answer(write.call, Reply::Outcome(Outcome::Gone));
        } else {
            // Others wrote since, on whichever of the two.
            self.answer(write.call, Reply::Failed(Failure::Moving));
        }
    }

    fn answer_counted(&mut self, id: RecordId, write: Undecided) {
        let Some(copy) = self.live(id) else {
            return self.answer(write.call, Reply::Failed(Failure::Moving));
        };
        let Undecided { call, counters, ended, .. } = write;
        let degraded = 1 + self.backups(id).len() < self.wanted_copies();
        let applied = Applied { counters, ended, degraded, ..self.applied(id, copy) };
        self.answer(call, Reply::Outcome(Outcome::Applied(applied)));
    }
}
