//! The memory that a node uses, and the budgets that bound it.

use std::ops::{AddAssign, SubAssign};

use steadfast_core::{Budget, Record};

use crate::record::{Held, Kept};

/// The budgets of a node, one for each class of session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// For anonymous sessions. By default 100,000 records in 256 MiB.
    pub visitors: Budget,
    /// For users' sessions, and the lists of them. By default 1,000,000 records in 1 GiB.
    pub users: Budget,
}

impl Budgets {
    /// The budget of a class.
    pub fn of(&self, class: Class) -> Budget {
        match class {
            Class::Visitors => self.visitors,
            Class::Users => self.users,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self { visitors: Budget::ANONYMOUS, users: Budget::AUTHENTICATED }
    }
}

/// The budget that a session counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Anonymous sessions.
    Visitors,
    /// Sessions of users, and the lists of them.
    Users,
}

impl Class {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Visitors, Self::Users];

    /// The class of a session.
    pub fn of(record: &Record) -> Self {
        if record.principal.is_some() { Self::Users } else { Self::Visitors }
    }

    /// The name of the class in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visitors => "anonymous",
            Self::Users => "authenticated",
        }
    }
}

/// Usage by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([Total; 2]);

/// The usage of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Sessions.
    pub records: u64,
    /// Bytes of memory, about.
    pub bytes: u64,
}

impl Totals {
    /// Returns the usage of a class.
    pub fn of(&self, class: Class) -> Total {
        self.0[class as usize]
    }

    /// The sessions of both classes.
    pub fn records(&self) -> u64 {
        self.0.iter().map(|total| total.records).sum()
    }

    /// The bytes of both classes.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|total| total.bytes).sum()
    }

    /// Returns the usage of a record. A list is not a session, and a write that is not confirmed
    /// takes memory only. A session that is about to end does not count, nor does the end of one.
    pub fn taken_by(held: &Held) -> Self {
        let mut totals = Self::default();
        let tentative = held.tentative.as_deref().map(|entry| &entry.kept);
        if tentative.is_some_and(Kept::is_ended) {
            return totals;
        }
        if let Some(confirmed) = &held.confirmed {
            totals.add(&confirmed.kept, 1);
        }
        if let Some(kept) = tentative {
            totals.add(kept, 0);
        }
        totals
    }

    fn add(&mut self, kept: &Kept, records: u64) {
        let (class, records) = match kept {
            Kept::Live(copy) => (Class::of(&copy.record), records),
            Kept::List(_) => (Class::Users, 0),
            Kept::Ended(_) => return,
        };
        let total = &mut self.0[class as usize];
        total.records += records;
        total.bytes += kept.size() as u64;
    }

    /// Returns true if the usage of any class is higher than in another sum.
    pub fn exceeds(&self, other: &Self) -> bool {
        let exceeds =
            |(one, other): (&Total, &Total)| one.records > other.records || one.bytes > other.bytes;
        self.0.iter().zip(&other.0).any(exceeds)
    }

    /// Returns true if the usage of a class exceeds a budget, which allows at least one record.
    pub fn is_over(&self, budget: Budget, class: Class) -> bool {
        let held = self.of(class);
        held.records > budget.records.max(1) || held.bytes > budget.bytes
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        for (total, other) in self.0.iter_mut().zip(other.0) {
            total.records += other.records;
            total.bytes += other.bytes;
        }
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        for (total, other) in self.0.iter_mut().zip(other.0) {
            total.records -= other.records;
            total.bytes -= other.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use steadfast_core::{EndReason, KeyId, Principal, Realm, SecretHash, Timestamp};

    use super::*;
    use crate::record::{Copy, Entry, List, Revision, Stamp, Tombstone};

    #[test]
    fn sessions_count_for_their_class() {
        let (visitor, user) = (confirmed(live(None)), confirmed(live(Some(alice()))));
        let counts = |held: &Held| {
            let totals = Totals::taken_by(held);
            Class::ALL.map(|class| totals.of(class).records)
        };
        assert_eq!((counts(&visitor), counts(&user)), ([1, 0], [0, 1]));
        let bytes = Totals::taken_by(&visitor).of(Class::Visitors).bytes;
        assert_eq!(bytes, live(None).size() as u64);
    }

    #[test]
    fn a_list_takes_bytes_of_users() {
        let totals = Totals::taken_by(&confirmed(Kept::List(List::new(alice()))));
        assert_eq!(totals.records(), 0);
        assert!(totals.of(Class::Users).bytes > 0);
    }

    #[test]
    fn ending_sessions_do_not_count() {
        let held = Held { tentative: Some(Box::new(entry(ended()))), ..confirmed(live(None)) };
        assert_eq!(Totals::taken_by(&held), Totals::default());
        assert_eq!(Totals::taken_by(&confirmed(ended())), Totals::default());
    }

    #[test]
    fn a_tentative_write_takes_memory_only() {
        let held = Held { tentative: Some(Box::new(entry(live(None)))), ..Held::default() };
        let total = Totals::taken_by(&held).of(Class::Visitors);
        assert!(total.records == 0 && total.bytes > 0);
    }

    #[test]
    fn both_bounds_of_a_budget_hold() {
        let totals = Totals::taken_by(&confirmed(live(None)));
        let bytes = totals.bytes();
        let is_over = |records, bytes| totals.is_over(Budget { records, bytes }, Class::Visitors);
        assert!(!is_over(1, bytes) && is_over(1, bytes - 1));
        assert!(!is_over(0, bytes), "one record is allowed always");
        assert!(!totals.is_over(Budget { records: 0, bytes: 0 }, Class::Users));
    }

    fn confirmed(kept: Kept) -> Held {
        Held { confirmed: Some(entry(kept)), ..Held::default() }
    }

    fn entry(kept: Kept) -> Entry {
        Entry { revision: Revision::default(), kept, done: Vec::new() }
    }

    fn live(principal: Option<Principal>) -> Kept {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let record = Record { principal, ..Record::new(hash, start, end, end) };
        Kept::Live(Copy::new(record, Stamp::ZERO))
    }

    fn ended() -> Kept {
        let (stamp, until) = (Stamp::ZERO, Timestamp::MAX);
        Kept::Ended(Tombstone { stamp, until, reason: EndReason::Evicted, unreported: None })
    }

    fn alice() -> Principal {
        Principal::new(Realm::default(), "alice").unwrap()
    }
}
