//! What a node holds, and how much memory that takes.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Deref, SubAssign};

use steadfast_core::{Record, RecordId};

use super::entry::Entry;
use super::message::is_index;
use crate::record::Copy;

/// The entries by id. Nothing but this type changes one, and it keeps the sums along with that.
/// Reading is that of the map.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<RecordId, Entry>,
    totals: Totals,
    /// The record that grew last, and whether any did since that was asked.
    grown: Option<RecordId>,
    has_grown: bool,
}

impl Deref for Table {
    type Target = BTreeMap<RecordId, Entry>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl Table {
    /// Changes what is held of a record, if anything is.
    pub(super) fn change<T>(
        &mut self,
        id: RecordId,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let before = Totals::taken_by(id, entry);
        let changed = change(entry);
        let after = Totals::taken_by(id, entry);
        self.count(id, before, after);
        Some(changed)
    }

    /// The same, from nothing if need be.
    pub(super) fn make<T>(&mut self, id: RecordId, change: impl FnOnce(&mut Entry) -> T) -> T {
        let entry = self.entries.entry(id).or_default();
        let before = Totals::taken_by(id, entry);
        let changed = change(entry);
        let after = Totals::taken_by(id, entry);
        self.count(id, before, after);
        changed
    }

    pub(super) fn remove(&mut self, id: RecordId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.totals -= Totals::taken_by(id, &entry);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The memory of what did not end, by class.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// The record that grew last.
    pub(super) fn grown(&self) -> Option<RecordId> {
        self.grown
    }

    /// Whether anything grew since this was asked last.
    pub(super) fn take_has_grown(&mut self) -> bool {
        std::mem::take(&mut self.has_grown)
    }

    fn count(&mut self, id: RecordId, before: Totals, after: Totals) {
        if before == after {
            return;
        }
        self.totals += after;
        self.totals -= before;
        if Class::ALL.into_iter().any(|class| after.of(class).exceeds(before.of(class))) {
            self.grown = Some(id);
            self.has_grown = true;
        }
    }

    #[cfg(test)]
    pub(super) fn recounted(&self) -> Totals {
        let mut totals = Totals::default();
        self.entries.iter().for_each(|(id, entry)| totals += Totals::taken_by(*id, entry));
        totals
    }
}

/// Whose budget a session counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Sessions that nobody signed in to.
    Anonymous,
    /// Sessions that somebody signed in to, and the lists of them.
    Authenticated,
}

impl Class {
    pub(crate) const ALL: [Self; 2] = [Self::Anonymous, Self::Authenticated];

    pub(super) fn of(id: RecordId, record: &Record) -> Self {
        match record.principal.is_some() || is_index(id) {
            true => Self::Authenticated,
            false => Self::Anonymous,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Authenticated => "authenticated",
        }
    }
}

/// How much is held, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals([Total; 2]);

impl Totals {
    pub(crate) fn of(&self, class: Class) -> Total {
        self.0[class as usize]
    }

    /// What an entry takes. Lists of sessions are no sessions, and a change that is not confirmed is
    /// memory only.
    fn taken_by(id: RecordId, entry: &Entry) -> Self {
        let mut totals = Self::default();
        if let Some(copy) = entry.kept.live() {
            totals.add(id, copy, u64::from(!is_index(id)));
        }
        if let Some(copy) = &entry.tentative {
            totals.add(id, copy, 0);
        }
        totals
    }

    fn add(&mut self, id: RecordId, copy: &Copy, records: u64) {
        let total = &mut self.0[Class::of(id, &copy.record) as usize];
        total.records += records;
        total.bytes += copy.memory() as u64;
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

/// How much is held of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Total {
    fn exceeds(self, other: Self) -> bool {
        self.records > other.records || self.bytes > other.bytes
    }
}
