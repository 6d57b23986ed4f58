//! Sets of slots, and runs of them.

use std::collections::BTreeMap;

use prost::encoding::encoded_len_varint;

use super::{WireError, proto};
use crate::slots::{SLOTS, Slot, SlotSet};

/// The bytes of a set that is not written in runs.
const BITMAP: usize = SLOTS / 8;

/// A set, in the shorter form.
pub(super) fn encode(set: &SlotSet) -> proto::Slots {
    let runs = runs_of(set);
    let length: usize = runs.iter().map(|run| encoded_len_varint((*run).into())).sum();
    if length < BITMAP {
        return proto::Slots { runs, ..proto::Slots::default() };
    }
    let mut bitmap = vec![0; BITMAP];
    for slot in set.iter() {
        bitmap[slot.index() / 8] |= 1 << (slot.index() % 8);
    }
    proto::Slots { bitmap, ..proto::Slots::default() }
}

fn runs_of(set: &SlotSet) -> Vec<u32> {
    let mut runs = Vec::new();
    let (mut is_in, mut length) = (false, 0);
    for slot in Slot::all() {
        if set.contains(slot) != is_in {
            runs.push(length);
            (is_in, length) = (!is_in, 0);
        }
        length += 1;
    }
    if is_in {
        runs.push(length);
    }
    runs
}

pub(super) fn decode(slots: &proto::Slots) -> Result<SlotSet, WireError> {
    let proto::Slots { bitmap, runs, .. } = slots;
    if bitmap.is_empty() {
        return from_runs(runs).ok_or(INVALID);
    }
    if bitmap.len() != BITMAP {
        return Err(INVALID);
    }
    let is_in = |slot: &Slot| bitmap[slot.index() / 8] & (1 << (slot.index() % 8)) != 0;
    Ok(Slot::all().filter(is_in).collect())
}

fn from_runs(runs: &[u32]) -> Option<SlotSet> {
    let mut set = SlotSet::new();
    let mut rest = Slot::all();
    for (turn, run) in runs.iter().enumerate() {
        for slot in take(&mut rest, u64::from(*run))? {
            if turn % 2 == 1 {
                set.insert(slot);
            }
        }
    }
    Some(set)
}

/// Takes the next slots; `None` if there are fewer.
fn take(rest: &mut impl Iterator<Item = Slot>, length: u64) -> Option<Vec<Slot>> {
    let length = usize::try_from(length).ok().filter(|length| *length <= SLOTS)?;
    let slots: Vec<_> = rest.take(length).collect();
    (slots.len() == length).then_some(slots)
}

/// The value of each slot, of a few values: an index below `kinds`.
pub(super) fn encode_indices(indices: &[u16], kinds: usize) -> Vec<u32> {
    let run = |run: &[u16]| (run.len() * kinds) as u32 + u32::from(run[0]);
    indices.chunk_by(u16::eq).map(run).collect()
}

pub(super) fn decode_indices(runs: &[u32], kinds: usize) -> Result<Vec<u16>, WireError> {
    let mut indices = Vec::with_capacity(SLOTS);
    for run in runs {
        let (length, index) = match kinds {
            0 => return Err(INVALID),
            kinds => (*run as usize / kinds, *run as usize % kinds),
        };
        if length > SLOTS - indices.len() {
            return Err(INVALID);
        }
        indices.extend(std::iter::repeat_n(index as u16, length));
    }
    Ok(indices)
}

/// A number for some of the slots, in runs of three: how many have none, how many have one, and which.
pub(super) fn encode_numbers(numbers: &BTreeMap<Slot, u64>) -> Vec<u64> {
    let all: Vec<Option<u64>> = Slot::all().map(|slot| numbers.get(&slot).copied()).collect();
    let (mut runs, mut without) = (Vec::new(), 0);
    for run in all.chunk_by(Option::eq) {
        match run[0] {
            None => without = run.len() as u64,
            Some(number) => {
                runs.extend([without, run.len() as u64, number]);
                without = 0;
            }
        }
    }
    runs
}

pub(super) fn decode_numbers(runs: &[u64]) -> Result<BTreeMap<Slot, u64>, WireError> {
    let mut numbers = BTreeMap::new();
    let mut rest = Slot::all();
    let (runs, []) = runs.as_chunks() else {
        return Err(INVALID);
    };
    for [without, with, number] in runs {
        take(&mut rest, *without).ok_or(INVALID)?;
        let slots = take(&mut rest, *with).ok_or(INVALID)?;
        numbers.extend(slots.into_iter().map(|slot| (slot, *number)));
    }
    Ok(numbers)
}

const INVALID: WireError = WireError::Part("a set of slots");
