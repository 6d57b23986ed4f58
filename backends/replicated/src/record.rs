//! A copy of a record: when each part of it was written, and how copies that went apart are merged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Change, Facts, Owner, PRE_AUTH, Patch, Principal, Record, RecordId, Replaced, SecretHash,
    Timestamp, Values, Version,
};

/// When something was written, and by which node: a hybrid logical clock (Kulkarni et al., 2014).
///
/// Stamps order writes to one key in copies that went apart. They decide nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    /// Milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
    pub(crate) time: u64,
    /// The number of the node and its incarnation.
    pub(crate) node: u32,
}

impl Stamp {
    /// Before every write.
    pub(crate) const ZERO: Self = Self { time: 0, node: 0 };
}

/// Makes stamps that grow, whatever the wall clock does.
#[derive(Debug)]
pub(crate) struct StampClock {
    last: u64,
    node: u32,
}

impl StampClock {
    pub(crate) fn new(node: u32) -> Self {
        Self { last: 0, node }
    }

    pub(crate) fn rename(&mut self, node: u32) {
        self.node = node;
    }

    pub(crate) fn node(&self) -> u32 {
        self.node
    }

    pub(crate) fn stamp(&mut self, wall: Timestamp) -> Stamp {
        self.last = (self.last + 1).max(millis(wall) << 16);
        Stamp { time: self.last, node: self.node }
    }

    /// Makes later stamps follow one that was seen, unless it is from further ahead than clocks may
    /// differ: nobody pushes this clock.
    pub(crate) fn observe(&mut self, seen: Stamp, wall: Timestamp) {
        let bound = millis(wall).saturating_add(MAX_SKEW.as_millis() as u64) << 16;
        self.last = self.last.max(seen.time.min(bound));
    }
}

/// How far the wall clocks of two nodes may differ; a peer beyond it is refused.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(5 * 60);

pub(crate) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0)
}

/// A record with the stamps of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) record: Arc<Record>,
    /// The last change of any part.
    pub(crate) stamp: Stamp,
    /// The last change of anything but the values.
    pub(crate) head: Stamp,
    /// The stamps of the values, in the order of their keys.
    pub(crate) written: Box<[Stamp]>,
    /// Keys that were removed, and when.
    pub(crate) removed: Vec<(Box<str>, Stamp)>,
    /// A key that is in neither list was removed at this time, if it ever was there.
    pub(crate) floor: Stamp,
}

impl Copy {
    pub(crate) fn new(record: Record, stamp: Stamp) -> Self {
        let written = vec![stamp; record.values.len()].into();
        Self {
            record: Arc::new(record),
            stamp,
            head: stamp,
            written,
            removed: Vec::new(),
            floor: Stamp::ZERO,
        }
    }

    /// The copy after a change.
    pub(crate) fn changed(&self, delta: &Delta) -> Self {
        let mut parts = self.parts();
        if delta.clear {
            parts.keys.clear();
            parts.floor = delta.stamp;
        }
        for (key, value) in &delta.ops {
            parts.keys.insert(key, (delta.stamp, value.as_deref()));
        }
        let mut record = match &delta.head {
            Some(head) => head.clone().with(&self.record),
            None => self.record.as_ref().clone(),
        };
        record.version = delta.version;
        record.idle_deadline = delta.idle_deadline;
        let head = if delta.head.is_some() { delta.stamp } else { self.head };
        parts.join(record, delta.stamp, head)
    }

    /// The same with a later idle deadline.
    pub(crate) fn kept_until(&self, idle_deadline: Timestamp) -> Self {
        let until = idle_deadline.min(self.record.absolute_deadline);
        if until <= self.record.idle_deadline {
            return self.clone();
        }
        let record = Record { idle_deadline: until, ..self.record.as_ref().clone() };
        Self { record: Arc::new(record), ..self.clone() }
    }

    /// What listeners hear of this copy when it takes the place of another one.
    pub(crate) fn news(&self, id: RecordId, before: Option<&Self>) -> Option<Change> {
        let (version, sign_in) = (self.record.version, self.record.sign_in);
        match before {
            Some(before) if before.record.version == version => None,
            Some(before) if before.record.sign_in != sign_in => Some(Change::SignedIn(id, version)),
            _ => Some(Change::Patched(id, version)),
        }
    }

    /// Whether this copy contains everything that another one does.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let merged = self.merged(other);
        merged.stamp == self.stamp && merged.same_writes(self)
    }

    /// What comes of two copies of one record.
    ///
    /// What one node wrote is one line of changes, so of two such copies the later one counts. Copies
    /// that went apart are merged per key: of each key, the later write or removal counts.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let (newer, older) = if self.stamp >= other.stamp { (self, other) } else { (other, self) };
        // A sign-in with facts may have brought the deadline forward.
        let idle = match newer.record.facts == older.record.facts {
            true => newer.record.idle_deadline.max(older.record.idle_deadline),
            false => newer.record.idle_deadline,
        };
        if newer.stamp.node == older.stamp.node {
            return newer.kept_until(idle);
        }
        let (mine, theirs) = (newer.parts(), older.parts());
        let merged = mine.merged(theirs);
        let head = if newer.head >= older.head { newer } else { older };
        let record = Record {
            version: newer.record.version.max(older.record.version),
            idle_deadline: idle.min(head.record.absolute_deadline),
            values: Values::new(),
            ..head.record.as_ref().clone()
        };
        merged.join(record, newer.stamp, head.head)
    }

    /// The bytes it takes, about.
    pub(crate) fn memory(&self) -> usize {
        let removed: usize = self.removed.iter().map(|(key, _)| key.len() + 40).sum();
        let stamps = self.written.len() * size_of::<Stamp>();
        let record = &self.record;
        let own = record.values.packed_len() + record.facts.as_bytes().len();
        size_of::<Record>() + own + stamps + removed + ENTRY
    }

    /// Whether both hold the same writes, the idle deadline and the version aside.
    pub(crate) fn same_writes(&self, other: &Self) -> bool {
        self.head == other.head
            && self.written == other.written
            && self.record.values == other.record.values
    }

    fn parts(&self) -> Parts<'_> {
        let written = self.written.iter().zip(self.record.values.iter());
        let values = written.map(|(stamp, (key, json))| (key, (*stamp, Some(json))));
        let removed = self.removed.iter().map(|(key, stamp)| (&**key, (*stamp, None)));
        Parts { keys: values.chain(removed).collect(), floor: self.floor }
    }
}

/// The keys of a copy with their stamps; one without a value was removed.
struct Parts<'c> {
    keys: BTreeMap<&'c str, (Stamp, Option<&'c [u8]>)>,
    floor: Stamp,
}

impl Parts<'_> {
    fn merged(mut self, mut other: Self) -> Self {
        let floor = self.floor.max(other.floor);
        self.keys.retain(|key, (stamp, _)| *stamp > other.floor || other.keys.contains_key(key));
        other.keys.retain(|key, (stamp, _)| *stamp > self.floor || self.keys.contains_key(key));
        for (key, theirs) in other.keys {
            match self.keys.get_mut(&key) {
                Some(mine) if mine.0 < theirs.0 => *mine = theirs,
                Some(_) => {}
                None => drop(self.keys.insert(key, theirs)),
            }
        }
        Self { keys: self.keys, floor }
    }

    /// Makes a copy of them. More removals than are kept one by one become the floor.
    fn join(mut self, mut record: Record, stamp: Stamp, head: Stamp) -> Copy {
        let gone = self.keys.iter().filter(|(_, (_, value))| value.is_none());
        let mut removed: Vec<_> = gone.map(|(key, (at, _))| (Box::from(*key), *at)).collect();
        if removed.len() > REMOVALS {
            removed.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
            let folded = removed.split_off(REMOVALS);
            self.floor = folded.iter().fold(self.floor, |floor, (_, at)| floor.max(*at));
            removed.sort();
        }
        let kept = || self.keys.iter().filter_map(|(key, (at, value))| Some((key, at, (*value)?)));
        record.values = kept().map(|(key, _, value)| (key, value)).collect();
        let written = kept().map(|(_, at, _)| *at).collect();
        Copy { record: Arc::new(record), stamp, head, written, removed, floor: self.floor }
    }
}

/// What is kept of a record beside its copy, about.
const ENTRY: usize = 300;

/// Removals of a copy that are remembered key by key; as many as a record may have keys.
const REMOVALS: usize = 64;

/// The raw JSON that was written; `None` removed the key.
type Written = Option<Box<[u8]>>;

/// What one patch changed, as the owner decided it: applying it decides nothing again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) stamp: Stamp,
    pub(crate) version: Version,
    pub(crate) clear: bool,
    /// By key, what was written.
    pub(crate) ops: Vec<(Box<str>, Written)>,
    /// Everything but values, version and idle deadline, where any of it changed.
    pub(crate) head: Option<Box<Head>>,
    pub(crate) idle_deadline: Timestamp,
}

impl Delta {
    /// What a patch made of a record.
    pub(crate) fn of(patch: &Patch, before: &Record, after: &Record, stamp: Stamp) -> Self {
        let op = |key: &str| (key.into(), after.values.get(key).map(Into::into));
        let unseen = before.values.iter().map(|(key, _)| key).filter(|key| {
            patch.clears_pre_auth() && key.starts_with(PRE_AUTH) && patch.op(key).is_none()
        });
        let (old, new) = (Head::of(before), Head::of(after));
        Self {
            stamp,
            version: after.version,
            clear: patch.is_clear(),
            ops: patch.ops().map(|(key, _)| key).chain(unseen).map(op).collect(),
            head: (old != new).then(|| Box::new(new)),
            idle_deadline: after.idle_deadline,
        }
    }

    /// Whether it replaces the secret.
    pub(crate) fn replaces_secret_of(&self, before: &Record) -> bool {
        self.head.as_ref().is_some_and(|head| head.secret != before.secret)
    }
}

/// What a record holds beside its values, its version and its idle deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) secret: SecretHash,
    pub(crate) replaced: Option<Box<Replaced>>,
    pub(crate) created: Timestamp,
    pub(crate) authenticated: Option<Timestamp>,
    pub(crate) absolute_deadline: Timestamp,
    pub(crate) principal: Option<Principal>,
    pub(crate) sign_in: u64,
    pub(crate) facts: Facts,
    pub(crate) owner: Option<Box<Owner>>,
}

impl Head {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            secret: record.secret,
            replaced: record.replaced.clone(),
            created: record.created,
            authenticated: record.authenticated,
            absolute_deadline: record.absolute_deadline,
            principal: record.principal.clone(),
            sign_in: record.sign_in,
            facts: record.facts.clone(),
            owner: record.owner.clone(),
        }
    }

    /// A record with this head and the rest of another one.
    pub(crate) fn with(self, rest: &Record) -> Record {
        Record {
            secret: self.secret,
            replaced: self.replaced,
            version: rest.version,
            values: rest.values.clone(),
            created: self.created,
            authenticated: self.authenticated,
            idle_deadline: rest.idle_deadline,
            absolute_deadline: self.absolute_deadline,
            principal: self.principal,
            sign_in: self.sign_in,
            facts: self.facts,
            owner: self.owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Limits, RawJson};

    use super::*;

    #[test]
    fn writes_to_different_keys_of_copies_that_went_apart_both_survive() {
        let start = copy(&[("a", "0"), ("b", "0")]);
        let left = patched(&start, stamp(2, 1), |p| p.put("a", json("1")).unwrap());
        let right = patched(&start, stamp(3, 2), |p| p.put("b", json("1")).unwrap());
        for merged in [left.merged(&right), right.merged(&left)] {
            assert_eq!(merged.record.values, values(&[("a", "1"), ("b", "1")]));
            assert!(merged.covers(&left) && merged.covers(&right));
        }
        assert!(!left.covers(&right) && left.covers(&start));
    }

    #[test]
    fn of_one_key_the_later_write_or_removal_counts() {
        let start = copy(&[("a", "0"), ("b", "0")]);
        let left = patched(&start, stamp(5, 1), |p| p.remove("a").unwrap());
        let right = patched(&start, stamp(4, 2), |p| {
            p.put("a", json("1")).unwrap();
            p.put("b", json("1")).unwrap();
        });
        assert_eq!(left.merged(&right).record.values, values(&[("b", "1")]));
        assert_eq!(left.merged(&right), right.merged(&left));
    }

    #[test]
    fn a_clear_removes_what_was_written_before_it_elsewhere() {
        let start = copy(&[("a", "0")]);
        let left = patched(&start, stamp(4, 1), Patch::clear);
        let right = patched(&start, stamp(3, 2), |p| p.put("b", json("1")).unwrap());
        let later = patched(&right, stamp(5, 2), |p| p.put("c", json("1")).unwrap());
        assert_eq!(left.merged(&later).record.values, values(&[("c", "1")]));
    }

    #[test]
    fn what_its_owner_rolled_back_is_not_merged() {
        let start = copy(&[]);
        let rolled_back = patched(&start, stamp(2, 1), |p| p.put("a", json("1")).unwrap());
        let next = patched(&start, stamp(3, 1), |p| p.put("b", json("1")).unwrap());
        assert_eq!(rolled_back.merged(&next).record.values, values(&[("b", "1")]));
    }

    #[test]
    fn many_removals_become_a_floor() {
        let keys: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
        let full: Vec<_> = keys.iter().map(|key| (key.as_str(), "0")).collect();
        let start = copy(&full);
        let empty = patched(&start, stamp(2, 1), |p| {
            keys.iter().for_each(|key| p.remove(key).unwrap());
        });
        assert_eq!((empty.removed.len(), empty.floor), (REMOVALS, stamp(2, 1)));
        assert!(start.merged(&empty).record.values.is_empty());
    }

    #[test]
    fn stamps_grow_and_cannot_be_pushed() {
        let mut clock = StampClock::new(7);
        let wall = Timestamp::UNIX_EPOCH + Duration::from_secs(10);
        let first = clock.stamp(wall);
        clock.observe(Stamp { time: u64::MAX, node: 9 }, wall);
        let second = clock.stamp(wall);
        assert!(second > first);
        assert!(second.time >> 16 <= 10_000 + MAX_SKEW.as_millis() as u64);
    }

    fn copy(entries: &[(&str, &str)]) -> Copy {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let record = Record { values: values(entries), ..Record::new(hash, start, end, end) };
        Copy::new(record, stamp(1, 9))
    }

    fn patched(before: &Copy, stamp: Stamp, fill: impl FnOnce(&mut Patch)) -> Copy {
        let mut patch = Patch::new();
        fill(&mut patch);
        let limits = Limits { keys: 1_000, ..Limits::default() };
        let after = before.record.apply(&patch, Timestamp::UNIX_EPOCH, &limits).unwrap();
        let copy = before.changed(&Delta::of(&patch, &before.record, &after.record, stamp));
        assert_eq!(*copy.record, after.record);
        copy
    }

    fn stamp(time: u64, node: u32) -> Stamp {
        Stamp { time, node }
    }

    fn json(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    fn values(entries: &[(&str, &str)]) -> Values {
        entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect()
    }
}
