//! The sessions of a principal, as the owner of their list keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Principal, Record, RecordId, Timestamp};

use super::stamp::Stamp;
use crate::call::ListPage;

/// Whose sessions are whose: a record of its own, beside those of the sessions.
///
/// Entries are shared between versions of the list, in parts, so that a change costs what one part takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Whose sessions they are.
    pub principal: Principal,
    /// When it was written.
    pub stamp: Stamp,
    /// By the first byte of the session's id.
    parts: BTreeMap<u8, Arc<BTreeMap<RecordId, ListEntry>>>,
    floor: Option<Floor>,
    /// By session, what ends for its login: the login can be asked again, and names it then, too.
    displaced: BTreeMap<RecordId, Displaced>,
}

/// The sessions that end for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The sessions.
    pub ids: Vec<RecordId>,
    /// Until when the login may be asked again.
    pub until: Timestamp,
}

/// A session of a principal, or one that is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// When its principal proved who they are: at the cap, the oldest session ends.
    pub authenticated: Timestamp,
    /// Its absolute deadline: the entry is kept no longer.
    pub until: Timestamp,
    /// Whether the session is known to be the principal's; else it may still become so.
    pub is_settled: bool,
}

impl ListEntry {
    /// That of a session which is the principal's.
    pub fn of(record: &Record) -> Self {
        Self {
            authenticated: record.authenticated.unwrap_or(record.created),
            until: record.absolute_deadline,
            is_settled: true,
        }
    }
}

/// Below which epoch of the principal logins are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The lowest epoch that is admitted.
    pub epoch: u64,
    /// Until when the floor is remembered.
    pub until: Timestamp,
}

/// What a write changes of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// When it was written.
    pub stamp: Stamp,
    /// What it does.
    pub step: ListStep,
}

/// One step of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListStep {
    /// A session is about to be the principal's, and the others end for it.
    Reserve(RecordId, ListEntry, Vec<RecordId>),
    /// It is.
    Settle(RecordId),
    /// It has not come in time. It may come yet.
    Release(RecordId),
    /// It is not, or not any more.
    Remove(RecordId),
    /// Logins below an epoch are rejected.
    Raise(Floor),
}

impl List {
    /// A list without sessions.
    pub fn new(principal: Principal) -> Self {
        let (parts, displaced) = (BTreeMap::new(), BTreeMap::new());
        Self { principal, stamp: Stamp::ZERO, parts, floor: None, displaced }
    }

    /// A list with these sessions.
    #[cfg(feature = "wire")]
    pub(crate) fn of(
        principal: Principal,
        stamp: Stamp,
        floor: Option<Floor>,
        (entries, displaced): (Vec<(RecordId, ListEntry)>, Vec<(RecordId, Displaced)>),
    ) -> Self {
        let displaced = displaced.into_iter().collect();
        let mut list = Self { stamp, floor, displaced, ..Self::new(principal) };
        entries.into_iter().for_each(|(id, entry)| list.insert(id, entry));
        list
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.parts.values().map(|part| part.len()).sum()
    }

    /// Whether nothing is left to remember.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.floor.is_none()
    }

    /// The bytes it takes, about.
    pub fn memory(&self) -> usize {
        let displaced: usize = self.displaced.values().map(|one| 64 + one.ids.len() * 16).sum();
        size_of::<Self>() + self.len() * 64 + displaced
    }

    /// The next sessions after one, at most so many.
    pub fn page(&self, after: Option<RecordId>, len: usize) -> ListPage {
        let is_next = |(id, _): &(RecordId, &ListEntry)| after.is_none_or(|after| *id > after);
        let mut page = ListPage::default();
        let mut entries = self.iter().filter(is_next);
        for (id, entry) in entries.by_ref().take(len) {
            let part = if entry.is_settled { &mut page.settled } else { &mut page.reserved };
            part.push(id);
            page.next = Some(id);
        }
        page.next = page.next.filter(|_| entries.next().is_some());
        page
    }

    /// The sessions, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (RecordId, &ListEntry)> {
        self.parts.values().flat_map(|part| part.iter().map(|(id, entry)| (*id, entry)))
    }

    /// The entry of a session.
    pub fn get(&self, id: RecordId) -> Option<&ListEntry> {
        self.parts.get(&part_of(id))?.get(&id)
    }

    /// The lowest epoch of the principal that is admitted.
    pub fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// The sessions that end for the login of a session, as far as the list remembers.
    pub fn displaced_by(&self, id: RecordId) -> &[RecordId] {
        self.displaced.get(&id).map(|displaced| displaced.ids.as_slice()).unwrap_or_default()
    }

    /// What ends for each login.
    #[cfg(feature = "wire")]
    pub(crate) fn displaced(&self) -> impl Iterator<Item = (RecordId, &Displaced)> {
        self.displaced.iter().map(|(id, displaced)| (*id, displaced))
    }

    /// When nothing of it has to be remembered any more.
    pub fn until(&self) -> Timestamp {
        let entries = self.iter().map(|(_, entry)| entry.until);
        let floor = self.floor.iter().map(|floor| floor.until);
        let displaced = self.displaced.values().map(|displaced| displaced.until);
        entries.chain(floor).chain(displaced).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The oldest sessions that have to go, so that another one leaves the principal with as many as the cap
    /// allows; `None` while too many others are on their way to become the principal's.
    pub fn above_cap(&self, id: RecordId, cap: usize) -> Option<Vec<RecordId>> {
        let others = || self.iter().filter(|(other, _)| *other != id);
        let over = (others().count() + 1).saturating_sub(cap.max(1));
        if over == 0 {
            return Some(Vec::new());
        }
        let mut settled: Vec<_> = others().filter(|(_, entry)| entry.is_settled).collect();
        settled.sort_by_key(|(id, entry)| (entry.authenticated, *id));
        let oldest = || settled.iter().take(over).map(|(id, _)| *id).collect();
        (settled.len() >= over).then(oldest)
    }

    /// The list after a change.
    #[must_use]
    pub fn changed(&self, change: &ListChange) -> Self {
        let mut list = Self { stamp: change.stamp, ..self.clone() };
        let now = change.stamp.wall();
        list.displaced.retain(|_, displaced| displaced.until > now);
        match &change.step {
            ListStep::Reserve(id, entry, ids) => {
                list.insert(*id, *entry);
                list.displaced.remove(id);
                if !ids.is_empty() {
                    let until = now + DISPLACED_KEPT;
                    list.displaced.insert(*id, Displaced { ids: ids.clone(), until });
                }
            }
            ListStep::Settle(id) => {
                if let Some(entry) = self.get(*id) {
                    list.insert(*id, ListEntry { is_settled: true, ..*entry });
                }
                list.displaced.remove(id);
            }
            ListStep::Release(id) => list.remove(*id),
            ListStep::Remove(id) => {
                list.remove(*id);
                list.displaced.remove(id);
            }
            ListStep::Raise(floor) => list.floor = Some(*floor),
        }
        list
    }

    /// What comes of two copies of one list that went apart, as a write with this stamp; `None` where the
    /// other one adds nothing. A session that one of them does not have is on it: whether it lives is asked of
    /// its owner.
    pub fn merged(&self, other: &Self, stamp: Stamp) -> Option<Self> {
        let mut list = Self { stamp, ..self.clone() };
        list.floor = self.floor.into_iter().chain(other.floor).reduce(|one, two| Floor {
            epoch: one.epoch.max(two.epoch),
            until: one.until.max(two.until),
        });
        for (id, entry) in other.iter() {
            let own = self.get(id);
            let is_settled = entry.is_settled || own.is_some_and(|own| own.is_settled);
            list.insert(id, ListEntry { is_settled, ..*own.unwrap_or(entry) });
        }
        (list.floor != self.floor || list.parts != self.parts).then_some(list)
    }

    /// The sessions of this list, with what another one remembers besides, as a write with this stamp.
    #[must_use]
    pub fn with_memory_of(&self, other: Option<&Self>, stamp: Stamp) -> Self {
        let rest = other.unwrap_or(self).clone();
        Self { stamp, parts: self.parts.clone(), ..rest }
    }

    /// The same list, of which no session is known to be the principal's still.
    #[must_use]
    pub fn unsettled(&self) -> Self {
        let mut list = self.clone();
        for (id, entry) in self.iter() {
            list.insert(id, ListEntry { is_settled: false, ..*entry });
        }
        list
    }

    /// Puts a session on the list.
    pub(crate) fn insert(&mut self, id: RecordId, entry: ListEntry) {
        let part = self.parts.entry(part_of(id)).or_default();
        Arc::make_mut(part).insert(id, entry);
    }

    fn remove(&mut self, id: RecordId) {
        let Some(part) = self.parts.get_mut(&part_of(id)) else {
            return;
        };
        Arc::make_mut(part).remove(&id);
        if part.is_empty() {
            self.parts.remove(&part_of(id));
        }
    }
}

/// How long a list remembers what ends for a login that is not settled: longer than its caller waits.
const DISPLACED_KEPT: Duration = Duration::from_secs(10);

fn part_of(id: RecordId) -> u8 {
    id.as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast_core::Realm;

    use super::*;

    #[test]
    fn the_oldest_sessions_are_above_the_cap() {
        let list = settled(&[(3, 3), (1, 10), (2, 20)]);
        assert_eq!(list.above_cap(id(9), 4), Some(vec![]));
        assert_eq!(list.above_cap(id(9), 3), Some(vec![id(3)]));
        assert_eq!(list.above_cap(id(9), 2), Some(vec![id(3), id(1)]));
        assert_eq!(list.above_cap(id(1), 3), Some(vec![]), "it is on the list already");
        assert_eq!(list.above_cap(id(9), 0).unwrap().len(), 3, "one session is allowed always");
    }

    #[test]
    fn a_login_at_the_cap_waits_for_another_one() {
        let list = list(&[(1, 1), (2, 2)]);
        assert_eq!(list.above_cap(id(9), 3), Some(vec![]));
        assert_eq!(list.above_cap(id(9), 2), None, "none of them is settled");
        let list = list.changed(&change(ListStep::Settle(id(2))));
        assert_eq!(list.above_cap(id(9), 2), Some(vec![id(2)]));
    }

    #[test]
    fn pages_tell_settled_sessions_from_others() {
        let list = list(&[(1, 1), (2, 2), (3, 3)]).changed(&change(ListStep::Settle(id(2))));
        let first = list.page(None, 2);
        assert_eq!(
            (first.settled, first.reserved, first.next),
            (vec![id(2)], vec![id(1)], Some(id(2)))
        );
        let second = list.page(Some(id(2)), 2);
        assert_eq!((second.reserved, second.next), (vec![id(3)], None));
    }

    #[test]
    fn a_change_leaves_the_list_before_it_as_it_was() {
        let before = list(&[(1, 1)]);
        let after = before.changed(&change(ListStep::Settle(id(1))));
        let is_settled = |list: &List| list.get(id(1)).unwrap().is_settled;
        assert_eq!((is_settled(&before), is_settled(&after)), (false, true));
        assert!(after.changed(&change(ListStep::Remove(id(1)))).is_empty());
        assert_eq!((before.len(), after.len()), (1, 1));
    }

    #[test]
    fn what_ends_for_a_login_is_remembered_until_it_is_settled() {
        let reserve = ListStep::Reserve(id(2), entry(2), vec![id(1)]);
        let reserved = settled(&[(1, 1)]).changed(&change(reserve));
        let after = |step| reserved.changed(&change(step)).displaced_by(id(2)).to_vec();
        assert_eq!(after(ListStep::Remove(id(1))), [id(1)], "also once it has ended");
        assert_eq!(after(ListStep::Release(id(2))), [id(1)], "the login may come yet");
        assert_eq!(after(ListStep::Settle(id(2))), []);
        assert_eq!(after(ListStep::Remove(id(2))), []);
        let stamp = Stamp { time: 10_000 << 16, writer: 0 };
        let later = ListChange { stamp, step: ListStep::Release(id(2)) };
        assert_eq!(reserved.changed(&later).displaced_by(id(2)), []);
    }

    #[test]
    fn a_list_is_remembered_as_long_as_its_floor() {
        let floor = Floor { epoch: 3, until: at(100) };
        let list = list(&[]).changed(&change(ListStep::Raise(floor)));
        assert_eq!((list.is_empty(), list.until()), (false, at(100)));
    }

    #[test]
    fn merged_lists_have_the_sessions_of_both() {
        let floor = |epoch, until| Floor { epoch, until: at(until) };
        let mine = settled(&[(1, 1)]).changed(&change(ListStep::Raise(floor(2, 9))));
        let theirs = settled(&[(1, 1), (2, 2)]).changed(&change(ListStep::Raise(floor(1, 10))));
        let merged = mine.merged(&theirs.unsettled(), Stamp::ZERO).unwrap();
        let is_settled = |n| merged.get(id(n)).unwrap().is_settled;
        assert_eq!((is_settled(1), is_settled(2)), (true, false));
        assert_eq!(merged.floor(), Some(floor(2, 10)));
        assert_eq!(merged.merged(&mine, Stamp::ZERO), None);
        assert_eq!(merged.merged(&theirs.unsettled(), Stamp::ZERO), None);
    }

    fn list(entries: &[(u8, u64)]) -> List {
        let principal = Principal::new(Realm::default(), "alice").unwrap();
        let reserve = |(n, at): &(u8, u64)| change(ListStep::Reserve(id(*n), entry(*at), vec![]));
        entries.iter().fold(List::new(principal), |list, entry| list.changed(&reserve(entry)))
    }

    fn settled(entries: &[(u8, u64)]) -> List {
        let settle = |list: List, n: u8| list.changed(&change(ListStep::Settle(id(n))));
        entries.iter().fold(list(entries), |list, (n, _)| settle(list, *n))
    }

    fn change(step: ListStep) -> ListChange {
        ListChange { stamp: Stamp::ZERO, step }
    }

    fn entry(authenticated: u64) -> ListEntry {
        ListEntry { authenticated: at(authenticated), until: at(1_000), is_settled: false }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn id(n: u8) -> RecordId {
        RecordId::from_bytes([n; 16])
    }
}
