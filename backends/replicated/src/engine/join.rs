//! A node that joins: it gets writes at once, and everything from before in parts. Until it has all
//! of it, that it lacks a record means nothing, and nobody counts on it.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::RecordId;

use super::Engine;
use super::config::FOUND_AFTER;
use super::message::{Kept, Message};
use crate::placement::{Name, Placement};
use crate::record::Copy;

/// How far the snapshots from the others are.
#[derive(Debug)]
pub(super) struct Join {
    began: Duration,
    from: BTreeMap<Name, Progress>,
}

#[derive(Debug)]
enum Progress {
    /// Asked for what comes after an id, at a time.
    Asked(Option<RecordId>, Duration),
    /// What comes after an id is to be asked for in the next beat: a part in each, so that nobody is
    /// busy with nothing else.
    Next(RecordId),
    Done,
}

impl Join {
    pub(super) fn begin(now: Duration) -> Self {
        Self { began: now, from: BTreeMap::new() }
    }

    pub(super) fn has_waited(&self, now: Duration) -> bool {
        self.began + FOUND_AFTER <= now
    }

    /// The view changed, so records may have moved from one node to another behind the cursor.
    pub(super) fn restart(&mut self) {
        self.from.clear();
    }
}

impl Engine {
    pub(super) fn complete_join(&mut self) {
        self.join = None;
        self.speaks = true;
        self.refresh_view();
    }

    /// Asks everybody who has something for the next part of it; resumes where it was interrupted.
    pub(super) fn keep_joining(&mut self) {
        if self.join.is_none() || self.agreement.base.is_none() {
            return;
        }
        let members: Vec<_> = self.view.placement.names().cloned().collect();
        let now = self.now.mono;
        let mut ask = Vec::new();
        let Some(join) = &mut self.join else {
            return;
        };
        for name in &members {
            match join.from.get_mut(name) {
                None => ask.push((name.clone(), None)),
                Some(Progress::Asked(after, at)) if *at + CHUNK_WITHIN <= now => {
                    ask.push((name.clone(), *after));
                }
                Some(Progress::Next(after)) => ask.push((name.clone(), Some(*after))),
                Some(Progress::Asked(..) | Progress::Done) => {}
            }
        }
        let is_done = |name| matches!(join.from.get(name), Some(Progress::Done));
        if !members.is_empty() && members.iter().all(is_done) {
            return self.complete_join();
        }
        for (name, after) in ask {
            self.ask_snapshot(&name, after);
        }
    }

    fn ask_snapshot(&mut self, name: &Name, after: Option<RecordId>) {
        let view = self.view.placement.digest();
        if let Some(join) = &mut self.join {
            join.from.insert(name.clone(), Progress::Asked(after, self.now.mono));
        }
        self.send(name, Message::Snapshot { view, after });
    }

    /// Answers with a part of what this node owns and the other one should hold. The other one asks
    /// for the next part when it has this one.
    pub(super) fn snapshot(&mut self, from: &Name, view: u64, after: Option<RecordId>) {
        if view != self.view.placement.digest() || self.join.is_some() {
            return;
        }
        let next = self.placement_with(from);
        let start = after.unwrap_or(RecordId::from_bytes([0; 16]));
        let later = self.table.range(start..).filter(|(id, _)| Some(**id) != after);
        let (mut records, mut bytes, mut looked_at, mut last) = (Vec::new(), 0, 0, None);
        for (id, entry) in later {
            if bytes >= CHUNK_BYTES || looked_at >= CHUNK_LOOKED_AT {
                break;
            }
            looked_at += 1;
            last = Some(*id);
            if self.owns(*id) && next.holds(from, *id) && entry.kept != Kept::Nothing {
                bytes += 200 + entry.kept.live().map_or(0, |copy| copy.record.values.packed_len());
                records.push((*id, entry.kept.clone()));
            }
        }
        let is_cut = bytes >= CHUNK_BYTES || looked_at >= CHUNK_LOOKED_AT;
        let next = last.filter(|_| is_cut);
        self.send(from, Message::Chunk { view, records, next });
    }

    fn placement_with(&self, name: &Name) -> Placement {
        if self.view.next.contains(name) {
            self.view.next.clone()
        } else {
            self.view.placement.clone()
        }
    }

    pub(super) fn chunk(
        &mut self,
        from: &Name,
        view: u64,
        records: Vec<(RecordId, Kept)>,
        next: Option<RecordId>,
    ) {
        if view != self.view.placement.digest() || !self.is_awaited(from, next) {
            return;
        }
        for (id, kept) in records {
            if self.owner(id) == Some(from) {
                self.receive_record(id, kept);
            }
        }
        if let Some(join) = &mut self.join {
            join.from.insert(from.clone(), next.map_or(Progress::Done, Progress::Next));
        }
    }

    /// Whether a part of a snapshot was asked for, and goes on from there.
    fn is_awaited(&self, from: &Name, next: Option<RecordId>) -> bool {
        match self.join.as_ref().and_then(|join| join.from.get(from)) {
            Some(Progress::Asked(after, _)) => next.is_none() || next > *after,
            _ => false,
        }
    }

    /// A record of the snapshot, unless a newer state of it came in the meantime. What this node had
    /// before and the snapshot has not is compared later.
    fn receive_record(&mut self, id: RecordId, kept: Kept) {
        if let Kept::Dead { .. } = kept {
            return self.hear_end(id, kept);
        }
        let theirs = kept.live().map(|copy: &Copy| copy.stamp).unwrap_or_default();
        self.stamps.observe(theirs, self.now.wall);
        let is_new = match self.kept(id) {
            Kept::Nothing => true,
            Kept::Live(mine) => kept.live().is_some_and(|copy| copy.covers(mine)),
            Kept::Dead { .. } => false,
        };
        if is_new {
            let number = self.view.number;
            self.table.make(id, |entry| {
                entry.kept = kept;
                entry.sure = number;
            });
        }
    }
}

/// About how many bytes a part of a snapshot has: with one in a beat, 10 MB in a second of each node.
const CHUNK_BYTES: usize = 256 << 10;

/// At how many records one is looked for a part: 160,000 in a second.
const CHUNK_LOOKED_AT: usize = 4_000;

/// How long a part is waited for before it is asked for again.
const CHUNK_WITHIN: Duration = Duration::from_millis(500);
