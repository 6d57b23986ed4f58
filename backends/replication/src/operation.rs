//! A node's memory for its operators: counts of events, and a drain.

use crate::figures::Counts;

/// Counts of events since the node began, and the operators' requests.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    pub(crate) counts: Counts,
    drain: Option<Draining>,
    /// True if the node left its cluster as requested.
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
    /// Begins a drain with this number of sessions, or answers one again.
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

    /// Returns true if the node left its cluster.
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
