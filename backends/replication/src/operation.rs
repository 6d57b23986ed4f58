//! What a node remembers for its operators: what happened to it, and a drain.

use crate::figures::Counts;

/// What happened since the node began, and what it was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    pub(crate) counts: Counts,
    drain: Option<Draining>,
    /// Whether the node left its cluster, as it was asked to.
    has_left: bool,
}

/// A drain.
#[derive(Clone, Copy, Debug)]
struct Draining {
    /// The sessions that were here when it began.
    live: u64,
    is_answered: bool,
}

impl Operation {
    /// Begins a drain with so many sessions, or answers one again.
    pub(crate) fn drain(&mut self, live: u64) {
        let begun = self.drain.map_or(live, |drain| drain.live);
        self.drain = Some(Draining { live: begun, is_answered: false });
    }

    /// The sessions that were here when a drain began that is not answered yet.
    pub(crate) fn draining(&self) -> Option<u64> {
        self.drain.filter(|drain| !drain.is_answered).map(|drain| drain.live)
    }

    /// Notes that the node left its cluster.
    pub(crate) fn leave(&mut self) {
        self.has_left = true;
    }

    /// Whether the node left its cluster.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Notes that the drain is answered.
    pub(crate) fn answer(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.is_answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_answered_once_each_time() {
        let mut operation = Operation::default();
        assert_eq!(operation.draining(), None);
        operation.drain(7);
        assert_eq!(operation.draining(), Some(7));
        operation.answer();
        assert_eq!(operation.draining(), None);
        operation.drain(0);
        assert_eq!(operation.draining(), Some(7), "it began with seven");
    }
}
