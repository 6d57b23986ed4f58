//! What is to be looked at again, and when, so that a beat looks at nothing else.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use steadfast_core::RecordId;

use super::Engine;

/// Something that waits; each has one alarm at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Alarm {
    /// A call without an answer.
    Call(u64),
    /// A change without its acknowledgements.
    Commit(RecordId),
    /// A record that is being taken over.
    Consult(RecordId),
    /// A record that is over, once a majority takes this owner for alive.
    Expiry(RecordId),
    /// A change that nobody confirmed to this holder.
    Unsettled(RecordId),
}

#[derive(Debug, Default)]
pub(super) struct Alarms {
    due: BTreeSet<(Duration, Alarm)>,
    at: HashMap<Alarm, Duration>,
}

impl Alarms {
    /// Rings then, and not when it was to ring before.
    pub(super) fn set(&mut self, alarm: Alarm, at: Duration) {
        self.clear(alarm);
        self.at.insert(alarm, at);
        self.due.insert((at, alarm));
    }

    pub(super) fn is_set(&self, alarm: Alarm) -> bool {
        self.at.contains_key(&alarm)
    }

    pub(super) fn clear(&mut self, alarm: Alarm) {
        if let Some(at) = self.at.remove(&alarm) {
            self.due.remove(&(at, alarm));
        }
    }

    /// Takes those that are due.
    fn ring(&mut self, now: Duration) -> Vec<Alarm> {
        let mut due = Vec::new();
        while let Some((at, alarm)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, alarm));
            self.at.remove(&alarm);
            due.push(alarm);
        }
        due
    }
}

impl Engine {
    pub(super) fn heed_alarms(&mut self) {
        let mut unsettled = Vec::new();
        for alarm in self.alarms.ring(self.now.mono) {
            match alarm {
                Alarm::Call(number) => self.check_call(number),
                Alarm::Commit(id) => self.settle_commit(id),
                Alarm::Consult(id) => self.check_take_over(id),
                Alarm::Expiry(id) => self.check_expiry(id),
                Alarm::Unsettled(id) => unsettled.push(id),
            }
        }
        self.check_unsettled(unsettled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_rings_once_at_the_time_it_was_last_set_to() {
        let mut alarms = Alarms::default();
        alarms.set(Alarm::Call(1), SECOND);
        alarms.set(Alarm::Call(1), 2 * SECOND);
        assert_eq!(alarms.ring(SECOND), []);
        assert_eq!(alarms.ring(2 * SECOND), [Alarm::Call(1)]);
        assert_eq!(alarms.ring(3 * SECOND), []);
    }

    #[test]
    fn an_alarm_that_was_cleared_leaves_nothing() {
        let mut alarms = Alarms::default();
        alarms.set(Alarm::Call(1), SECOND);
        alarms.clear(Alarm::Call(1));
        assert!(!alarms.is_set(Alarm::Call(1)) && alarms.due.is_empty());
    }

    const SECOND: Duration = Duration::from_secs(1);
}
