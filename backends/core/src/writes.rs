//! Changes to the values of a record.

use crate::limits::{LimitError, Limits};
use crate::rejection::Rejection;
use crate::values::{Entries, Packing, RawJson, Values, integer};

/// Changes to the values of a record, in normal form: an optional `clear`, then one operation per
/// key.
///
/// ```
/// use steadfast_core::{Op, Writes};
///
/// let mut writes = Writes::default();
/// writes.put("n", 1.into())?;
/// writes.add("n", 2)?;
/// assert_eq!(writes.op("n"), Some(&Op::Put(3.into())));
/// # Ok::<(), steadfast_core::Rejection>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Writes {
    clear: bool,
    /// Sorted by key, each key once.
    ops: Vec<(Box<str>, Op)>,
}

impl Writes {
    /// Sets a key to a value.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed.
    pub fn put(&mut self, key: &str, value: RawJson) -> Result<(), LimitError> {
        self.set(key, Op::Put(value))
    }

    /// Removes a key, if present.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed.
    pub fn remove(&mut self, key: &str) -> Result<(), LimitError> {
        self.set(key, Op::Remove)
    }

    /// Adds to a counter. A missing counter starts at 0.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is malformed, when an earlier operation put a value that is not
    /// an integer, or when the sum overflows.
    pub fn add(&mut self, key: &str, by: i64) -> Result<(), Rejection> {
        let sum = |start: i64| start.checked_add(by).ok_or_else(|| Rejection::overflow(key));
        let op = match self.op(key) {
            Some(Op::Put(value)) => {
                let start = value.as_integer().ok_or_else(|| Rejection::not_an_integer(key))?;
                Op::Put(sum(start)?.into())
            }
            Some(Op::Remove) => Op::Put(by.into()),
            Some(Op::Add(before)) => Op::Add(sum(*before)?),
            None if self.clear => Op::Put(by.into()),
            None => Op::Add(by),
        };
        Ok(self.set(key, op)?)
    }

    /// Removes all keys, including those put so far.
    pub fn clear(&mut self) {
        self.clear = true;
        self.ops.clear();
    }

    /// Appends later writes, given the results of their counters.
    pub fn then(&mut self, mut later: Self, counters: &Counters) {
        if later.clear {
            self.clear();
        }
        for (key, value) in counters {
            if let Ok(at) = later.position(key) {
                later.ops[at].1 = Op::Put((*value).into());
            }
        }
        if self.ops.is_empty() {
            self.ops = later.ops;
            return;
        }
        for (key, op) in later.ops {
            match self.position(&key) {
                Ok(at) => self.ops[at].1 = op,
                Err(at) => self.ops.insert(at, (key, op)),
            }
        }
    }

    /// Returns true if they remove all keys first.
    pub fn is_clear(&self) -> bool {
        self.clear
    }

    /// Returns true if they change nothing.
    pub fn is_empty(&self) -> bool {
        !self.clear && self.ops.is_empty()
    }

    /// Returns the operations, sorted by key.
    pub fn ops(&self) -> impl Iterator<Item = (&str, &Op)> {
        self.ops.iter().map(|(key, op)| (&**key, op))
    }

    /// Returns the operation on a key.
    pub fn op(&self, key: &str) -> Option<&Op> {
        self.position(key).ok().map(|at| &self.ops[at].1)
    }

    pub(crate) fn try_map_values<E>(
        &mut self,
        f: &mut impl FnMut(&str, &RawJson) -> Result<RawJson, E>,
    ) -> Result<(), E> {
        for (key, op) in &mut self.ops {
            if let Op::Put(value) = op {
                *value = f(key, value)?;
            }
        }
        Ok(())
    }

    /// Returns the values after the writes, and the counters they added to.
    pub(crate) fn merge(&self, values: &Values) -> Result<(Values, Counters), Rejection> {
        if self.is_empty() {
            return Ok((values.clone(), Counters::new()));
        }
        let mut counters = Counters::new();
        let added: usize = self.ops.iter().map(|(key, op)| Packing::room(key, op.len())).sum();
        let mut packing = Packing::with_capacity(values.packed_len() + added);
        let mut kept = if self.clear { Entries::default() } else { values.entries() };
        for (key, op) in &self.ops {
            packing.copy(&kept.take_before(key.as_bytes()));
            op.write(key, kept.take_key(key.as_bytes()), &mut packing, &mut counters)?;
        }
        packing.copy(&kept);
        Ok((packing.finish(), counters))
    }

    fn set(&mut self, key: &str, op: Op) -> Result<(), LimitError> {
        Limits::check_key(key)?;
        match self.position(key) {
            Ok(at) => self.ops[at].1 = op,
            Err(at) => self.ops.insert(at, (key.into(), op)),
        }
        Ok(())
    }

    /// Returns the index of the operation on a key, or the index at which to insert one.
    fn position(&self, key: &str) -> Result<usize, usize> {
        self.ops.binary_search_by(|(known, _)| (**known).cmp(key))
    }
}

/// One operation on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the key.
    Put(RawJson),
    /// Removes the key.
    Remove,
    /// Adds to the counter under the key.
    Add(i64),
}

impl Op {
    /// Returns an upper bound of the bytes of the resulting value.
    fn len(&self) -> usize {
        match self {
            Self::Put(value) => value.as_bytes().len(),
            Self::Remove => 0,
            Self::Add(_) => "-9223372036854775808".len(),
        }
    }

    fn write(
        &self,
        key: &str,
        value: Option<&[u8]>,
        packing: &mut Packing,
        counters: &mut Counters,
    ) -> Result<(), Rejection> {
        match self {
            Self::Put(new) => packing.push(key.as_bytes(), new.as_bytes()),
            Self::Remove => {}
            Self::Add(by) => {
                let start = value.map_or(Some(0), integer);
                let start = start.ok_or_else(|| Rejection::not_an_integer(key))?;
                let sum = start.checked_add(*by).ok_or_else(|| Rejection::overflow(key))?;
                packing.push(key.as_bytes(), RawJson::from(sum).as_bytes());
                counters.push((key.into(), sum));
            }
        }
        Ok(())
    }
}

/// Counters by key, with their committed values.
pub type Counters = Vec<(Box<str>, i64)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_on_one_key_collapse_into_one() {
        let mut writes = Writes::default();
        writes.put("n", 1.into()).unwrap();
        writes.add("n", 2).unwrap();
        writes.add("m", 1).unwrap();
        writes.add("m", 1).unwrap();
        writes.remove("gone").unwrap();
        writes.add("gone", 5).unwrap();
        assert_eq!(
            writes.ops().collect::<Vec<_>>(),
            [("gone", &Op::Put(5.into())), ("m", &Op::Add(2)), ("n", &Op::Put(3.into()))]
        );
    }

    #[test]
    fn a_clear_only_removes_earlier_puts() {
        let mut writes = Writes::default();
        writes.put("early", 1.into()).unwrap();
        writes.clear();
        writes.put("late", 2.into()).unwrap();
        let (values, _) = writes.merge(&values(&[("seen", "0")])).unwrap();
        assert_eq!(values, self::values(&[("late", "2")]));
    }

    #[test]
    fn a_merge_keeps_all_other_keys() {
        let mut writes = Writes::default();
        writes.put("b", 2.into()).unwrap();
        writes.remove("c").unwrap();
        writes.add("d", 4).unwrap();
        writes.add("z", 1).unwrap();
        let before = values(&[("a", "1"), ("c", "3"), ("d", "4"), ("e", "5")]);
        let (after, counters) = writes.merge(&before).unwrap();
        assert_eq!(after, values(&[("a", "1"), ("b", "2"), ("d", "8"), ("e", "5"), ("z", "1")]));
        assert_eq!(counters, [("d".into(), 8), ("z".into(), 1)]);
    }

    #[test]
    fn later_writes_win_with_their_counters() {
        let (mut writes, mut later) = (Writes::default(), Writes::default());
        writes.put("a", 1.into()).unwrap();
        writes.put("b", 1.into()).unwrap();
        later.add("n", 5).unwrap();
        later.remove("b").unwrap();
        writes.then(later, &vec![("n".into(), 7)]);
        let (after, _) = writes.merge(&values(&[("b", "0"), ("c", "0")])).unwrap();
        assert_eq!(after, values(&[("a", "1"), ("c", "0"), ("n", "7")]));
    }

    #[test]
    fn an_invalid_addition_names_its_key() {
        let mut writes = Writes::default();
        writes.add("n", 1).unwrap();
        let max = i64::MAX.to_string();
        assert_eq!(writes.merge(&values(&[("n", &max)])), Err(Rejection::overflow("n")));
        assert_eq!(writes.merge(&values(&[("n", "[]")])), Err(Rejection::not_an_integer("n")));
    }

    fn values(entries: &[(&str, &str)]) -> Values {
        entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect()
    }
}
