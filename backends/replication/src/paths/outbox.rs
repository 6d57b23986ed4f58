//! The sending side of a stream.

use std::collections::VecDeque;
use std::time::Duration;

use super::packet::{Content, Covered};
use crate::member::Boot;

/// The size of the send window, from the first uncovered number: the receiver keeps no more.
pub(super) const WINDOW: usize = 1_024;

/// The time after which an uncovered message is sent again.
const RESEND: Duration = Duration::from_millis(100);

/// The number of messages that are resent before one of them is covered: most messages after a lost
/// one did arrive.
const RESENT: usize = 64;

/// The messages to one boot that it has not covered.
#[derive(Clone, Debug)]
pub(super) struct Outbox<M> {
    stream: u64,
    first: u64,
    messages: VecDeque<Queued<M>>,
    /// No message before this index waits for a first transmission.
    unsent: usize,
    backlog: usize,
}

#[derive(Clone, Debug)]
struct Queued<M> {
    message: M,
    size: usize,
    sent: Option<(Boot, Duration)>,
}

impl<M: Clone> Outbox<M> {
    pub(super) fn new(stream: u64) -> Self {
        Self { stream, first: 1, messages: VecDeque::new(), unsent: 0, backlog: 0 }
    }

    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// The lowest number that may still be sent.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The size of all messages that are not covered, in bytes.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }

    pub(super) fn push(&mut self, message: M, size: usize) {
        self.messages.push_back(Queued { message, size, sent: None });
        self.backlog = self.backlog.saturating_add(size);
    }

    /// Drops all messages. Their numbers are not used again.
    pub(super) fn clear(&mut self) {
        let (stream, next) = (self.stream, self.first + self.messages.len() as u64);
        *self = Self { first: next, ..Self::new(stream) };
    }

    /// Changes messages that are not covered. One that arrived already stays as it was.
    pub(super) fn amend(&mut self, change: &impl Fn(&mut M)) {
        self.messages.iter_mut().for_each(|queued| change(&mut queued.message));
    }

    /// Drops what the receiver handled.
    pub(super) fn cover(&mut self, covered: Covered) {
        while covered.stream == self.stream
            && covered.below > self.first
            && let Some(message) = self.messages.pop_front()
        {
            self.first += 1;
            self.unsent = self.unsent.saturating_sub(1);
            self.backlog = self.backlog.saturating_sub(message.size);
        }
    }

    /// Queues messages that were sent over a closed link for sending again.
    pub(super) fn on_link_lost(&mut self, link: Boot) {
        let over = |queued: &&mut Queued<M>| queued.sent.is_some_and(|(by, _)| by == link);
        for queued in self.messages.iter_mut().filter(over) {
            queued.sent = None;
            self.unsent = 0;
        }
    }

    /// The messages that wait for a transmission and may be sent now.
    pub(super) fn take_unsent(&mut self, link: Boot, now: Duration) -> Vec<Content<M>> {
        let end = WINDOW.min(self.messages.len());
        let begin = std::mem::replace(&mut self.unsent, end).min(end);
        self.transmit(begin, end, link, now, |queued| queued.sent.is_none())
    }

    /// The messages that were sent too long ago.
    pub(super) fn take_overdue(&mut self, link: Boot, now: Duration) -> Vec<Content<M>> {
        let end = RESENT.min(self.messages.len());
        self.transmit(0, end, link, now, |queued| queued.overdue(now).is_some())
    }

    /// The link that the first message was sent over too long ago.
    pub(super) fn overdue(&self, now: Duration) -> Option<Boot> {
        self.messages.front()?.overdue(now)
    }

    fn transmit(
        &mut self,
        begin: usize,
        end: usize,
        link: Boot,
        now: Duration,
        is_due: impl Fn(&Queued<M>) -> bool,
    ) -> Vec<Content<M>> {
        let mut contents = Vec::new();
        for index in begin..end {
            let queued = &mut self.messages[index];
            if is_due(queued) {
                queued.sent = Some((link, now));
                let (number, message) = (self.first + index as u64, queued.message.clone());
                contents.push(Content { number, message });
            }
        }
        contents
    }
}

impl<M> Queued<M> {
    /// The link that it was sent over, if that was too long ago.
    fn overdue(&self, now: Duration) -> Option<Boot> {
        let is_over = |at| now.saturating_sub(at) >= RESEND;
        self.sent.filter(|(_, at)| is_over(*at)).map(|(link, _)| link)
    }
}
