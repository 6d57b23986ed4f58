//! A copy of a record: when each part of it was written, and how copies that went apart are merged.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use steadfast_core::{Record, Values, Version};

use super::delta::{Delta, Head};
use super::stamp::Stamp;

/// A record with the stamps of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The record.
    pub record: Arc<Record>,
    /// The last change of any part.
    pub stamp: Stamp,
    /// The last change of anything but the values.
    pub head: Stamp,
    /// The stamps of the values, in the order of their keys.
    pub written: Box<[Stamp]>,
    /// Keys that were removed, and when.
    pub removed: Vec<(Box<str>, Stamp)>,
    /// A key that is in neither list was removed at this time, if it ever was there.
    pub floor: Stamp,
}

impl Copy {
    /// A record that was written whole.
    pub fn new(record: Record, stamp: Stamp) -> Self {
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
    pub fn changed(&self, delta: &Delta) -> Self {
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

    /// Merges two diverged copies of one record into a write with this stamp; `None` if the other
    /// one adds nothing. Of each key, the later write or removal counts, and of everything else the
    /// later change of any of it.
    pub fn merged(&self, other: &Self, stamp: Stamp) -> Option<Self> {
        let head = if self.head >= other.head { self } else { other };
        let [mine, theirs] = [self, other].map(|copy| copy.record.idle_deadline);
        let record = Record {
            idle_deadline: mine.max(theirs).min(head.record.absolute_deadline),
            values: Values::new(),
            ..head.record.as_ref().clone()
        };
        let merged = self.parts().merged(other.parts()).join(record, stamp, head.head);
        let version = merged.version_after(self, other);
        let is_new = merged.differs_from(self) || version != self.record.version;
        let record = Arc::new(Record { version, ..merged.record.as_ref().clone() });
        is_new.then_some(Self { record, ..merged })
    }

    /// The version of a merged copy: that of a copy which has all of it, or one above both.
    fn version_after(&self, one: &Self, other: &Self) -> Version {
        let [first, second] = [one, other].map(|copy| copy.record.version);
        let is_same = |copy: &Self| !self.differs_from(copy);
        match first.cmp(&second) {
            Ordering::Equal | Ordering::Greater if is_same(one) => first,
            Ordering::Less if is_same(other) => second,
            _ => Version(first.max(second).0.saturating_add(1)),
        }
    }

    /// Returns true if anything but the last write and the version differs.
    fn differs_from(&self, other: &Self) -> bool {
        let [mine, theirs] = [self, other].map(|copy| copy.record.idle_deadline);
        let heads = [self, other].map(|copy| (copy.head, Head::of(&copy.record)));
        self.parts() != other.parts() || mine != theirs || heads[0] != heads[1]
    }

    /// The bytes it takes, about.
    pub fn memory(&self) -> usize {
        let removed: usize = self.removed.iter().map(|(key, _)| key.len() + 40).sum();
        let stamps = self.written.len() * size_of::<Stamp>();
        let record = &self.record;
        let own = record.values.packed_len() + record.facts.as_bytes().len();
        size_of::<Record>() + own + stamps + removed + ENTRY
    }

    fn parts(&self) -> Parts<'_> {
        let written = self.written.iter().zip(self.record.values.iter());
        let values = written.map(|(stamp, (key, json))| (key, (*stamp, Some(json))));
        let removed = self.removed.iter().map(|(key, stamp)| (&**key, (*stamp, None)));
        Parts { keys: values.chain(removed).collect(), floor: self.floor }
    }
}

/// The keys of a copy with their stamps; one without a value was removed.
#[derive(PartialEq)]
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

/// The approximate size of the bookkeeping beside a copy.
const ENTRY: usize = 300;

/// Removals of a copy that are remembered key by key; as many as a record may have keys.
const REMOVALS: usize = 64;

#[cfg(test)]
mod tests {
    use steadfast_core::{KeyId, Limits, Patch, RawJson, Rotation, SecretHash, Timestamp};

    use super::*;

    #[test]
    fn merges_keep_writes_to_different_keys() {
        let start = copy(&[("a", "0"), ("b", "0")]);
        let left = patched(&start, stamp(2, 1), |p| p.put("a", json("1")).unwrap());
        let right = patched(&start, stamp(3, 2), |p| p.put("b", json("1")).unwrap());
        for merged in [merged(&left, &right), merged(&right, &left)] {
            assert_eq!(merged.record.values, values(&[("a", "1"), ("b", "1")]));
            assert!(merged.record.version > left.record.version);
            assert!(
                merged.merged(&left, LATER).is_none() && merged.merged(&right, LATER).is_none()
            );
        }
    }

    #[test]
    fn the_later_write_or_removal_wins() {
        let start = copy(&[("a", "0"), ("b", "0")]);
        let left = patched(&start, stamp(5, 1), |p| p.remove("a").unwrap());
        let right = patched(&start, stamp(4, 2), |p| {
            p.put("a", json("1")).unwrap();
            p.put("b", json("1")).unwrap();
        });
        assert_eq!(merged(&left, &right).record.values, values(&[("b", "1")]));
        assert_eq!(merged(&left, &right), merged(&right, &left));
    }

    #[test]
    fn a_clear_removes_earlier_writes_of_other_copies() {
        let start = copy(&[("a", "0")]);
        let left = patched(&start, stamp(4, 1), Patch::clear);
        let right = patched(&start, stamp(3, 2), |p| p.put("b", json("1")).unwrap());
        let later = patched(&right, stamp(5, 2), |p| p.put("c", json("1")).unwrap());
        assert_eq!(merged(&left, &later).record.values, values(&[("c", "1")]));
    }

    #[test]
    fn a_copy_that_diverged_alone_keeps_its_version() {
        let start = copy(&[("a", "0")]);
        let later = patched(&start, stamp(2, 1), |p| p.put("a", json("1")).unwrap());
        assert_eq!(later.merged(&start, LATER), None);
        let merged = merged(&start, &later);
        assert_eq!(merged.record, later.record);
        assert_eq!(merged.stamp, LATER);
    }

    #[test]
    fn the_later_change_of_the_head_counts() {
        let start = copy(&[]);
        let rotated = |at: Stamp, byte: u8| {
            let hash = SecretHash::from_parts(KeyId::NONE, [byte; 32]);
            let rotation = Rotation { hash, authentication: None };
            patched(&start, at, |p| p.rotate(start.record.secret.into(), rotation))
        };
        let (left, right) = (rotated(stamp(3, 1), 1), rotated(stamp(2, 2), 2));
        assert_eq!(left.merged(&right, LATER), None);
        let merged = merged(&right, &left);
        assert_eq!(merged.record.secret, left.record.secret);
        assert!(merged.record.version > left.record.version, "it was another state");
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
        let all = merged(&start, &empty);
        assert!(all.record.values.is_empty() && all.merged(&start, LATER).is_none());
    }

    fn merged(one: &Copy, other: &Copy) -> Copy {
        one.merged(other, LATER).unwrap()
    }

    const LATER: Stamp = Stamp { time: 99, writer: 9 };

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

    fn stamp(time: u64, writer: u32) -> Stamp {
        Stamp { time, writer }
    }

    fn json(text: &str) -> RawJson {
        RawJson::parse(text).unwrap()
    }

    fn values(entries: &[(&str, &str)]) -> Values {
        entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect()
    }
}
