//! A node that goes: it takes no new session, and leaves when every record is safe elsewhere.

use super::message::Kept;
use super::{Effect, Engine, Now};

/// A drain that is under way.
#[derive(Debug, Default)]
pub(super) struct Drain {
    is_done: bool,
    moved: u64,
}

impl Engine {
    pub(crate) fn drain(&mut self, now: Now) {
        self.pass(now);
        let is_again = self.drain.is_some();
        self.drain.get_or_insert_default().is_done = false;
        if !is_again {
            self.speaks = true;
            self.refresh_view();
        }
        self.keep_draining();
        self.say_status();
    }

    pub(super) fn keep_draining(&mut self) {
        let live = self.table.values().filter(|entry| entry.kept.live().is_some()).count() as u64;
        let number = self.view.number;
        let has_heirs = self.view.placement.len() > 0;
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_done) else {
            return;
        };
        drain.moved = drain.moved.max(live);
        let is_safe = |entry: &super::entry::Entry| {
            entry.kept == Kept::Nothing || entry.safe.is_some_and(|(view, _)| view == number)
        };
        let all_safe = self.table.values().all(is_safe) && self.busy.is_empty();
        if has_heirs && !all_safe {
            return;
        }
        drain.is_done = true;
        let (moved, lost) = if has_heirs { (drain.moved, 0) } else { (0, live) };
        self.effects.push(Effect::Drained { moved, lost });
    }
}
