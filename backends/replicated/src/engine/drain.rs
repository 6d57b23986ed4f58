//! A node that goes: it takes no new session, and leaves when every record is safe elsewhere.

use super::config::DrainAs;
use super::{Effect, Engine, Now};

/// A drain that is under way.
#[derive(Debug)]
pub(super) struct Drain {
    is_done: bool,
    /// The sessions that were there when it began.
    live: u64,
}

impl Engine {
    pub(crate) fn drain(&mut self, now: Now) {
        self.pass(now);
        match &mut self.drain {
            Some(drain) => drain.is_done = false,
            None => {
                let live = self.live_records();
                self.drain = Some(Drain { is_done: false, live });
                self.speaks = true;
                self.refresh_view();
            }
        }
        self.keep_draining();
        self.say_status();
    }

    pub(super) fn keep_draining(&mut self) {
        let Some(live) = self.drain.as_ref().filter(|drain| !drain.is_done).map(|drain| drain.live)
        else {
            return;
        };
        let has_heirs = self.view.placement.len() > 0;
        if has_heirs && !self.is_drained() {
            return;
        }
        let (moved, lost) = if has_heirs { (live, 0) } else { (0, self.live_records()) };
        self.drain = Some(Drain { is_done: true, live });
        self.effects.push(Effect::Drained { moved, lost });
    }

    /// Whether this node drains to leave for good.
    pub(super) fn is_leaving(&self) -> bool {
        self.drain.is_some() && self.config.drain_as == DrainAs::Leave
    }

    /// Whether the others have everything, and need this node for nothing any more.
    fn is_drained(&self) -> bool {
        let is_member = self.agreement.base.as_ref().is_some_and(|base| self.is_in(base));
        self.busy.is_empty()
            && self.undecided.is_empty()
            && (self.table.is_empty() || self.is_clean())
            && self.others_are_settled()
            && !(is_member && self.is_leaving())
    }

    fn live_records(&self) -> u64 {
        self.table.values().filter(|entry| entry.kept.live().is_some()).count() as u64
    }
}
