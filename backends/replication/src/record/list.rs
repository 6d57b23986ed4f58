//! The sessions of a principal, as the owner of their list keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{Principal, Record, RecordId, Timestamp};

use super::stamp::Stamp;
use crate::call::ListPage;

/// The list of a principal's sessions: a record of its own, beside those of the sessions.
///
/// Entries are shared between versions of the list, in parts, so that a change costs what one part takes; and each
/// part is summed up, so that no question about the whole list looks at each entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The principal.
    pub principal: Principal,
    /// The time of the write.
    pub stamp: Stamp,
    /// The entries, by the first byte of the session's id.
    parts: BTreeMap<u8, Arc<Part>>,
    floor: Option<Floor>,
    /// The sessions that end for each login: the same ones if the login is repeated.
    displaced: BTreeMap<RecordId, Displaced>,
}

/// Some sessions of a list, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    entries: BTreeMap<RecordId, ListEntry>,
    /// The number of entries that are not settled.
    open: usize,
    until: Timestamp,
    /// The settled entry that ends first at a cap.
    oldest: Option<(Timestamp, RecordId)>,
}

/// The sessions that end for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The sessions.
    pub ids: Vec<RecordId>,
    /// The time until which the login may be repeated.
    pub until: Timestamp,
}

/// A session of a principal, or one that is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The time when its principal authenticated: at the cap, the oldest session ends.
    pub authenticated: Timestamp,
    /// Its absolute deadline: the entry is kept no longer.
    pub until: Timestamp,
    /// True if the session is known to be the principal's; otherwise it may still become so.
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

/// The sessions of a list, and those that end because of their logins.
#[cfg(any(test, feature = "wire"))]
type Contents = (Vec<(RecordId, ListEntry)>, Vec<(RecordId, Displaced)>);

/// Below which epoch of the principal logins are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The lowest epoch that is admitted.
    pub epoch: u64,
    /// The time until which the floor is remembered.
    pub until: Timestamp,
}

/// The change that a write makes to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// The time of the write.
    pub stamp: Stamp,
    /// The operation.
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
    /// They are not, or not any more.
    Remove(Vec<RecordId>),
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
    #[cfg(any(test, feature = "wire"))]
    pub(crate) fn of(
        principal: Principal,
        stamp: Stamp,
        floor: Option<Floor>,
        (entries, displaced): Contents,
    ) -> Self {
        let (parts, displaced) = (parts_of(entries), displaced.into_iter().collect());
        Self { stamp, floor, parts, displaced, ..Self::new(principal) }
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.parts.values().map(|part| part.entries.len()).sum()
    }

    /// Returns true if nothing is left to remember.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.floor.is_none()
    }

    /// The bytes it takes, about.
    pub fn memory(&self) -> usize {
        let displaced: usize = self.displaced.values().map(|one| 64 + one.ids.len() * 16).sum();
        size_of::<Self>() + self.len() * 64 + displaced
    }

    /// Returns the next sessions after the given one, up to a number.
    pub fn page(&self, after: Option<RecordId>, len: usize) -> ListPage {
        let is_next = |(id, _): &(RecordId, &ListEntry)| after.is_none_or(|after| *id > after);
        let mut page = ListPage::default();
        let parts = self.parts.range(after.map_or(0, part_of)..);
        let mut entries = parts.flat_map(|(_, part)| part.iter()).filter(is_next);
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
        self.parts.values().flat_map(|part| part.iter())
    }

    /// The sessions that are not settled.
    pub fn open(&self) -> impl Iterator<Item = (RecordId, &ListEntry)> {
        let parts = self.parts.values().filter(|part| part.open > 0);
        parts.flat_map(|part| part.iter()).filter(|(_, entry)| !entry.is_settled)
    }

    /// The entry of a session.
    pub fn get(&self, id: RecordId) -> Option<&ListEntry> {
        self.parts.get(&part_of(id))?.entries.get(&id)
    }

    /// The lowest epoch of the principal that is admitted.
    pub fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// Returns the sessions that end for the login of a session, if the list remembers them.
    pub fn displaced_by(&self, id: RecordId) -> &[RecordId] {
        self.displaced.get(&id).map(|displaced| displaced.ids.as_slice()).unwrap_or_default()
    }

    /// Returns the sessions that end for each login.
    #[cfg(feature = "wire")]
    pub(crate) fn displaced(&self) -> impl Iterator<Item = (RecordId, &Displaced)> {
        self.displaced.iter().map(|(id, displaced)| (*id, displaced))
    }

    /// Returns the time from which on none of it has to be remembered.
    pub fn until(&self) -> Timestamp {
        let entries = self.parts.values().map(|part| part.until);
        let floor = self.floor.iter().map(|floor| floor.until);
        let displaced = self.displaced.values().map(|displaced| displaced.until);
        entries.chain(floor).chain(displaced).max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns the number of other sessions.
    pub fn others(&self, id: RecordId) -> usize {
        self.len() - usize::from(self.get(id).is_some())
    }

    /// Returns the number of other sessions that are known to be the principal's.
    pub fn settled_others(&self, id: RecordId) -> usize {
        let settled = |part: &Arc<Part>| part.entries.len() - part.open;
        let own = self.get(id).is_some_and(|entry| entry.is_settled);
        self.parts.values().map(settled).sum::<usize>() - usize::from(own)
    }

    /// Returns the number of other sessions that have to end for this one to stay within the cap.
    pub fn over_cap(&self, id: RecordId, cap: usize) -> usize {
        (self.others(id) + 1).saturating_sub(cap.max(1))
    }

    /// The oldest sessions that have to go, at most [`NAMED`](Self::NAMED); `None` while too many others are on
    /// their way to become the principal's.
    pub fn above_cap(&self, id: RecordId, cap: usize) -> Option<Vec<RecordId>> {
        let over = self.over_cap(id, cap).min(Self::NAMED);
        let mut parts: Vec<_> = self.parts.values().filter(|_| over > 0).collect();
        parts.sort_by_key(|part| part.oldest);
        let mut oldest = BTreeSet::new();
        for part in parts {
            if oldest.len() == over && part.oldest > oldest.last().copied() {
                break;
            }
            let settled = part.iter().filter(|(other, entry)| entry.is_settled && *other != id);
            oldest.extend(settled.map(|(id, entry)| (entry.authenticated, id)));
            while oldest.len() > over {
                oldest.pop_last();
            }
        }
        (oldest.len() == over).then(|| oldest.into_iter().map(|(_, id)| id).collect())
    }

    /// The highest number of sessions that end for a login at a time.
    pub const NAMED: usize = 512;

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
            ListStep::Remove(ids) => {
                for id in ids {
                    list.remove(*id);
                    list.displaced.remove(id);
                }
            }
            ListStep::Raise(floor) => list.floor = Some(*floor),
        }
        list
    }

    /// Merges two diverged copies of one list into a write with this stamp; `None` if the other one
    /// adds nothing. A session on either list is on the result; its owner is then asked whether it
    /// lives.
    pub fn merged(&self, other: &Self, stamp: Stamp) -> Option<Self> {
        let mut list = Self { stamp, ..self.clone() };
        list.floor = self.floor.into_iter().chain(other.floor).reduce(|one, two| Floor {
            epoch: one.epoch.max(two.epoch),
            until: one.until.max(two.until),
        });
        let theirs = other.iter().map(|(id, entry)| {
            let own = self.get(id);
            let is_settled = entry.is_settled || own.is_some_and(|own| own.is_settled);
            (id, ListEntry { is_settled, ..*own.unwrap_or(entry) })
        });
        let mine = self.iter().map(|(id, entry)| (id, *entry));
        list.parts = parts_of(mine.chain(theirs));
        for (id, displaced) in &other.displaced {
            list.displaced.entry(*id).or_insert_with(|| displaced.clone());
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
        let unsettled = |(id, entry): (_, &_)| (id, ListEntry { is_settled: false, ..*entry });
        Self { parts: parts_of(self.iter().map(unsettled)), ..self.clone() }
    }

    /// Puts a session on the list.
    pub(crate) fn insert(&mut self, id: RecordId, entry: ListEntry) {
        self.change(part_of(id), |entries| entries.insert(id, entry));
    }

    fn remove(&mut self, id: RecordId) {
        self.change(part_of(id), |entries| entries.remove(&id));
    }

    fn change<T>(
        &mut self,
        byte: u8,
        change: impl FnOnce(&mut BTreeMap<RecordId, ListEntry>) -> T,
    ) {
        let part = self.parts.remove(&byte).map(Arc::unwrap_or_clone);
        let mut entries = part.map(|part| part.entries).unwrap_or_default();
        change(&mut entries);
        if !entries.is_empty() {
            self.parts.insert(byte, Arc::new(Part::of(entries)));
        }
    }
}

/// The transfer of a list.
impl List {
    /// Returns true if it does not fit into one message.
    pub(crate) fn is_long(&self) -> bool {
        let displaced: usize = self.displaced.values().map(Displaced::weight).sum();
        self.len() > TRAVELLING || displaced > TRAVELLING
    }

    /// Removes the entries that exceed one message, in parts of that size.
    pub(crate) fn take_parts(&mut self) -> Vec<Self> {
        if !self.is_long() {
            return Vec::new();
        }
        let (parts, displaced) =
            (std::mem::take(&mut self.parts), std::mem::take(&mut self.displaced));
        let mut taken = vec![self.clone()];
        for (byte, part) in parts {
            for piece in part.pieces() {
                if last(&mut taken).len() + piece.entries.len() > TRAVELLING {
                    taken.push(self.clone());
                }
                last(&mut taken).parts.insert(byte, piece);
            }
        }
        for (id, ids) in displaced {
            let weight: usize = last(&mut taken).displaced.values().map(Displaced::weight).sum();
            if weight + ids.weight() > TRAVELLING {
                taken.push(self.clone());
            }
            last(&mut taken).displaced.insert(id, ids);
        }
        *self = taken.pop().unwrap_or_else(|| self.clone());
        taken
    }

    /// Puts a part back.
    pub(crate) fn join(&mut self, part: &Self) {
        for (byte, part) in &part.parts {
            if self.parts.contains_key(byte) {
                let theirs = part.iter().map(|(id, entry)| (id, *entry));
                self.change(*byte, |entries| entries.extend(theirs));
            } else {
                self.parts.insert(*byte, Arc::clone(part));
            }
        }
        self.displaced.extend(part.displaced.clone());
    }
}

impl Part {
    fn of(entries: BTreeMap<RecordId, ListEntry>) -> Self {
        let settled = entries.iter().filter(|(_, entry)| entry.is_settled);
        let oldest = settled.map(|(id, entry)| (entry.authenticated, *id)).min();
        let open = entries.values().filter(|entry| !entry.is_settled).count();
        let until = entries.values().map(|entry| entry.until).max();
        let until = until.unwrap_or(Timestamp::UNIX_EPOCH);
        Self { entries, open, until, oldest }
    }

    fn iter(&self) -> impl Iterator<Item = (RecordId, &ListEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// The part, in pieces that each fit into a message.
    fn pieces(self: Arc<Self>) -> Vec<Arc<Self>> {
        if self.entries.len() <= TRAVELLING {
            return vec![self];
        }
        let entries: Vec<_> = self.entries.iter().map(|(id, entry)| (*id, *entry)).collect();
        let piece = |entries: &[(RecordId, ListEntry)]| {
            Arc::new(Self::of(entries.iter().copied().collect()))
        };
        entries.chunks(TRAVELLING).map(piece).collect()
    }
}

impl Displaced {
    /// The entries of a list that take as much.
    fn weight(&self) -> usize {
        1 + self.ids.len() / 2
    }
}

impl ListChange {
    /// The bytes that it takes, about.
    pub(crate) fn size(&self) -> usize {
        let ids = match &self.step {
            ListStep::Reserve(_, _, ids) | ListStep::Remove(ids) => ids.len(),
            _ => 1,
        };
        64 + ids * 16
    }
}

fn last(lists: &mut [List]) -> &mut List {
    lists.last_mut().expect("there is always one")
}

/// The highest number of entries of a list in one message: 33 KiB.
const TRAVELLING: usize = 1_024;

/// The time for which a list remembers the sessions that end for an unsettled login: longer than
/// its caller waits.
const DISPLACED_KEPT: Duration = Duration::from_secs(10);

fn parts_of(entries: impl IntoIterator<Item = (RecordId, ListEntry)>) -> BTreeMap<u8, Arc<Part>> {
    let mut parts = BTreeMap::<u8, BTreeMap<RecordId, ListEntry>>::new();
    for (id, entry) in entries {
        parts.entry(part_of(id)).or_default().insert(id, entry);
    }
    parts.into_iter().map(|(byte, part)| (byte, Arc::new(Part::of(part)))).collect()
}

fn part_of(id: RecordId) -> u8 {
    id.as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast_core::Realm;

    use super::*;

    #[test]
    fn a_part_sums_up_its_sessions() {
        let list = list(&[(1, 1), (2, 2)]).changed(&change(ListStep::Settle(id(2))));
        let unsettled: Vec<_> = list.open().map(|(id, _)| id).collect();
        assert_eq!((list.len(), unsettled, list.until()), (2, vec![id(1)], at(1_000)));
        let list = list.changed(&change(ListStep::Remove(vec![id(1), id(2)])));
        assert_eq!((list.len(), list.until()), (0, Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_login_ends_a_bounded_number_of_sessions() {
        let settled = |n: u64| (long_id(n), ListEntry { is_settled: true, ..entry(n) });
        let entries = (0..2_000).map(settled).collect();
        let list = List::of(principal(), Stamp::ZERO, None, (entries, Vec::new()));
        let above = list.above_cap(long_id(5_000), 1).unwrap();
        assert_eq!(above, (0..512).map(long_id).collect::<Vec<_>>());
        assert_eq!(list.over_cap(long_id(5_000), 1), 2_000);
    }

    #[test]
    fn a_long_list_is_the_same_in_parts() {
        let entries = (0..5_000).map(|n| (long_id(n), entry(n))).collect();
        let displaced = Displaced { ids: vec![id(1); 500], until: at(9) };
        let displaced = (0..9).map(|n| (long_id(n), displaced.clone())).collect();
        let list = List::of(principal(), Stamp::ZERO, None, (entries, displaced));
        let mut joined = list.clone();
        let parts = joined.take_parts();
        assert!(parts.iter().chain([&joined]).all(|part| !part.is_long()), "{}", parts.len());
        parts.iter().for_each(|part| joined.join(part));
        assert_eq!(joined, list);
    }

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
    fn a_login_at_the_cap_awaits_another() {
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
    fn changes_do_not_alter_the_previous_list() {
        let before = list(&[(1, 1)]);
        let after = before.changed(&change(ListStep::Settle(id(1))));
        let is_settled = |list: &List| list.get(id(1)).unwrap().is_settled;
        assert_eq!((is_settled(&before), is_settled(&after)), (false, true));
        assert!(after.changed(&change(ListStep::Remove(vec![id(1)]))).is_empty());
        assert_eq!((before.len(), after.len()), (1, 1));
    }

    #[test]
    fn a_login_remembers_evictions_until_it_is_settled() {
        let reserve = ListStep::Reserve(id(2), entry(2), vec![id(1)]);
        let reserved = settled(&[(1, 1)]).changed(&change(reserve));
        let after = |step| reserved.changed(&change(step)).displaced_by(id(2)).to_vec();
        assert_eq!(after(ListStep::Remove(vec![id(1)])), [id(1)], "also once it has ended");
        assert_eq!(after(ListStep::Release(id(2))), [id(1)], "the login may come yet");
        assert_eq!(after(ListStep::Settle(id(2))), []);
        assert_eq!(after(ListStep::Remove(vec![id(2)])), []);
        let stamp = Stamp { time: 10_000 << 16, writer: 0 };
        let later = ListChange { stamp, step: ListStep::Release(id(2)) };
        assert_eq!(reserved.changed(&later).displaced_by(id(2)), []);
    }

    #[test]
    fn a_list_lives_as_long_as_its_floor() {
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
        let reserve = |(n, at): &(u8, u64)| change(ListStep::Reserve(id(*n), entry(*at), vec![]));
        entries.iter().fold(List::new(principal()), |list, entry| list.changed(&reserve(entry)))
    }

    fn principal() -> Principal {
        Principal::new(Realm::default(), "alice").unwrap()
    }

    fn long_id(n: u64) -> RecordId {
        let spread = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        RecordId::from_bytes((spread << 64).to_be_bytes())
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
