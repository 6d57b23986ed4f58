//! The receiving side of a stream.

use std::collections::BTreeMap;
use std::time::Duration;

use super::horizon::{Age, Horizon};
use super::outbox::WINDOW;
use super::packet::{Content, Covered};
use crate::epoch::EpochId;
use crate::member::Boot;
use crate::rules::{Rule, Rules};

/// The time after which an acknowledgement travels alone, if no other message goes out.
const COVER: Duration = Duration::from_millis(50);

/// The number of messages after which an acknowledgement is sent immediately: otherwise the
/// sender's window would fill.
const COVER_EACH: u64 = 64;

/// The messages of one boot that were not handled.
#[derive(Clone, Debug)]
pub(super) struct Inbox<M> {
    stream: u64,
    next: u64,
    early: BTreeMap<u64, (EpochId, M)>,
    /// The messages that were acknowledged to the sender, and the time since which another
    /// acknowledgement is due.
    covered: u64,
    owed_since: Option<Duration>,
}

impl<M> Inbox<M> {
    pub(super) fn new() -> Self {
        Self { stream: 0, next: 0, early: BTreeMap::new(), covered: 0, owed_since: None }
    }

    /// Follows the sender to another stream, or over numbers that it dropped. `false`: the packet belongs
    /// to a stream that it gave up.
    pub(super) fn follow(&mut self, stream: u64, first: u64) -> bool {
        if stream > self.stream {
            *self = Self { stream, next: first, covered: first, ..Self::new() };
        }
        if stream == self.stream && first > self.next {
            self.early = self.early.split_off(&first);
            self.next = first;
            self.covered = first.max(self.covered);
        }
        stream == self.stream
    }

    /// Keeps a message until its turn.
    pub(super) fn keep(
        &mut self,
        content: Content<M>,
        epoch: EpochId,
        now: Duration,
        rules: Rules,
    ) {
        let Content { number, message } = content;
        if !rules.keep(Rule::N1) {
            self.next = number;
        }
        match number.checked_sub(self.next) {
            // The packet that covered it was lost.
            None => _ = self.owed_since.get_or_insert(now),
            Some(ahead) if ahead < WINDOW as u64 => {
                self.early.entry(number).or_insert((epoch, message));
            }
            Some(_) => {}
        }
    }

    /// The next message of the current epoch. Those of earlier epochs are dropped.
    pub(super) fn pop(&mut self, from: Boot, horizon: &Horizon, now: Duration) -> Option<M> {
        while let Some((epoch, _)) = self.early.get(&self.next) {
            let age = horizon.age(*epoch);
            if age == Age::Unknown {
                return None;
            }
            let (_, message) = self.early.remove(&self.next)?;
            self.next = self.next.saturating_add(1);
            self.owed_since.get_or_insert(now);
            if age == Age::Current && horizon.lists(from) {
                return Some(message);
            }
        }
        None
    }

    /// Drops early messages of earlier epochs, which the sender drops, too, or sends again.
    pub(super) fn on_epoch(&mut self, horizon: &Horizon) {
        self.early.retain(|_, (epoch, _)| horizon.age(*epoch) != Age::Earlier);
    }

    /// Says what was handled.
    pub(super) fn cover(&mut self) -> Covered {
        self.covered = self.next;
        self.owed_since = None;
        Covered { stream: self.stream, below: self.next }
    }

    /// Returns true if a message was acknowledged.
    pub(super) fn has_covered(&self, number: u64) -> bool {
        number < self.covered
    }

    /// Returns true if an acknowledgement is due.
    pub(super) fn owes(&self) -> bool {
        self.owed_since.is_some()
    }

    /// Returns true if the acknowledgement has to travel in a packet of its own.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.owed_since.is_some_and(|since| now.saturating_sub(since) >= COVER)
    }

    /// Returns true if the acknowledgement cannot wait.
    pub(super) fn owes_many(&self) -> bool {
        self.owes() && self.next.saturating_sub(self.covered) >= COVER_EACH
    }
}
