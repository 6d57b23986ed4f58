//! The messages that a step sends to other members, and the confirmations that ride along.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::RecordId;

use crate::member::Boot;
use crate::message::Message;
use crate::record::Revision;

/// The messages of a step.
#[derive(Debug, Default)]
pub struct Outbox {
    sends: Vec<(Boot, Message)>,
    confirms: BTreeMap<Boot, Confirms>,
}

/// Writes that a holder may show, and has not heard of yet.
#[derive(Debug)]
struct Confirms {
    writes: Vec<(RecordId, Revision)>,
    since: Duration,
}

impl Outbox {
    /// Sends a message, after the confirmations that wait: what the receiver then has confirmed is what the
    /// sender had confirmed at this place.
    pub fn send(&mut self, to: Boot, message: Message) {
        self.flush(to);
        self.sends.push((to, message));
    }

    /// Sends each of some messages.
    pub fn send_all(&mut self, messages: impl IntoIterator<Item = (Boot, Message)>) {
        messages.into_iter().for_each(|(to, message)| self.send(to, message));
    }

    /// Tells a holder with the next message, or soon, that a write may be shown.
    pub fn confirm(&mut self, to: Boot, id: RecordId, revision: Revision, now: Duration) {
        let confirms = self.confirms.entry(to);
        let confirms = confirms.or_insert(Confirms { writes: Vec::new(), since: now });
        confirms.writes.push((id, revision));
    }

    /// Sends the confirmations that waited long enough.
    pub fn tick(&mut self, now: Duration) {
        let is_due = |confirms: &Confirms| now.saturating_sub(confirms.since) >= CONFIRM;
        let due: Vec<_> =
            self.confirms.iter().filter(|(_, c)| is_due(c)).map(|(boot, _)| *boot).collect();
        due.into_iter().for_each(|boot| self.flush(boot));
    }

    /// Another epoch: what waits would be refused.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The messages, in order.
    pub fn take(&mut self) -> Vec<(Boot, Message)> {
        std::mem::take(&mut self.sends)
    }

    fn flush(&mut self, to: Boot) {
        if let Some(confirms) = self.confirms.remove(&to) {
            self.sends.push((to, Message::Confirm(confirms.writes)));
        }
    }
}

/// The time that a confirmation waits for a message to ride on: a holder that takes over commits
/// unconfirmed writes again.
const CONFIRM: Duration = Duration::from_millis(50);
