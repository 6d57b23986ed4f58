//! The oracle of one session: it numbers every write and knows which numbers a read may return.

use std::time::Duration;

/// The writes of one session, in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Register {
    writes: Vec<Write>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    sent: Duration,
    /// `None` while the write may or may not have happened.
    acknowledged: Option<Duration>,
}

/// The verdict on what a read returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A register of one server could have returned it.
    Fresh,
    /// A newer value was acknowledged before the read was sent.
    Stale,
}

impl Register {
    /// Numbers a write that is about to be sent. The first one is 1.
    pub fn begin(&mut self, now: Duration) -> u64 {
        self.writes.push(Write { sent: now, acknowledged: None });
        self.writes.len() as u64
    }

    /// Notes that a write was acknowledged.
    pub fn acknowledge(&mut self, number: u64, now: Duration) {
        if let Some(write) = self.write(number) {
            self.writes[write].acknowledged = Some(now);
        }
    }

    /// True if at least one write was acknowledged.
    pub fn has_acknowledged(&self) -> bool {
        self.writes.iter().any(|write| write.acknowledged.is_some())
    }

    /// Judges the number that a read returned, 0 for no value. The read was sent at `sent`.
    ///
    /// A number is stale if another write began after that number was acknowledged, and was itself
    /// acknowledged before the read was sent. A write without an answer may happen at any time.
    pub fn judge(&self, number: u64, sent: Duration) -> Seen {
        let since = match self.write(number) {
            Some(write) => self.writes[write].acknowledged,
            // Before any write there is no value, and no write has another number.
            None => Some(Duration::ZERO),
        };
        let Some(since) = since else { return Seen::Fresh };
        let replaced = |write: &Write| {
            write.sent >= since
                && write.acknowledged.is_some_and(|acknowledged| acknowledged < sent)
        };
        let is_itself = |index: usize| Some(index) == self.write(number);
        let mut others = self.writes.iter().enumerate().filter(|(index, _)| !is_itself(*index));
        if others.any(|(_, write)| replaced(write)) { Seen::Stale } else { Seen::Fresh }
    }

    fn write(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        (index < self.writes.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_write_has_to_be_seen() {
        let mut register = Register::default();
        let first = acknowledged(&mut register, 1, 2);
        assert_eq!(register.judge(first, at(3)), Seen::Fresh);
        assert_eq!(register.judge(0, at(3)), Seen::Stale);
    }

    #[test]
    fn an_overlapping_read_may_miss_a_write() {
        let mut register = Register::default();
        let first = acknowledged(&mut register, 1, 2);
        let second = acknowledged(&mut register, 3, 6);
        assert_eq!(register.judge(first, at(5)), Seen::Fresh);
        assert_eq!(register.judge(second, at(5)), Seen::Fresh);
        assert_eq!(register.judge(first, at(7)), Seen::Stale);
    }

    #[test]
    fn writes_that_overlap_may_happen_in_either_order() {
        let mut register = Register::default();
        let (first, second) = (register.begin(at(1)), register.begin(at(2)));
        register.acknowledge(second, at(3));
        register.acknowledge(first, at(4));
        assert_eq!(register.judge(first, at(5)), Seen::Fresh);
        assert_eq!(register.judge(second, at(5)), Seen::Fresh);
        assert_eq!(register.judge(0, at(5)), Seen::Stale);
    }

    #[test]
    fn an_unanswered_write_may_happen() {
        let mut register = Register::default();
        let first = acknowledged(&mut register, 1, 2);
        let second = register.begin(at(3));
        assert_eq!(register.judge(first, at(9)), Seen::Fresh);
        assert_eq!(register.judge(second, at(9)), Seen::Fresh);
    }

    #[test]
    fn only_acknowledged_writes_can_be_lost() {
        let mut register = Register::default();
        let number = register.begin(at(1));
        assert!(!register.has_acknowledged());
        register.acknowledge(number, at(2));
        assert!(register.has_acknowledged());
    }

    fn acknowledged(register: &mut Register, from: u64, to: u64) -> u64 {
        let number = register.begin(at(from));
        register.acknowledge(number, at(to));
        number
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
