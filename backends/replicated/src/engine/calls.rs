//! The way of a call: to the owner of its record, and back.

use std::time::Duration;

use steadfast_core::{Absence, Deleted, Lookup, Outcome, RecordId, Rejection};

use super::Engine;
use super::alarm::Alarm;
use super::entry::Busy;
use super::message::{Failure, Message, Reply, Request, is_index};
use crate::placement::Name;

/// A call that has no answer yet.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) origin: Origin,
    pub(super) deadline: Duration,
    /// The node it was sent to.
    pub(super) at: Option<Name>,
    /// As a read: whether the other holders were asked for what the client has seen.
    pub(super) consulted: bool,
}

/// Who waits for the answer.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Here,
    Peer {
        name: Name,
        number: u64,
    },
    /// A step of something that is under way with this record.
    Step {
        of: RecordId,
    },
}

impl Engine {
    pub(super) fn begin_call(&mut self, number: u64, request: Request, within: Duration) {
        self.counts.calls += 1;
        self.start_call(number, request, within, Origin::Here);
    }

    /// Calls on behalf of something that is under way.
    pub(super) fn call_step(&mut self, of: RecordId, number: u64, request: Request) {
        self.start_call(number, request, STEP_WITHIN, Origin::Step { of });
    }

    pub(super) fn asked(&mut self, from: &Name, number: u64, request: Request, within: Duration) {
        let origin = Origin::Peer { name: from.clone(), number };
        let number = self.number();
        self.start_call(number, request, within, origin);
    }

    fn start_call(&mut self, number: u64, request: Request, within: Duration, origin: Origin) {
        if let Some(reply) = self.foreign(&request) {
            return self.reply_to(origin, number, reply);
        }
        let deadline = self.now.mono + within;
        let call = Call { request, origin, deadline, at: None, consulted: false };
        self.calls.insert(number, call);
        self.route(number);
        self.watch_call(number);
    }

    /// The answer to a call that no client may make: for an id that no session has.
    fn foreign(&self, request: &Request) -> Option<Reply> {
        match request {
            Request::Load { id, .. } if is_index(*id) => {
                Some(Reply::Lookup(Lookup::Absent(Absence::Unknown)))
            }
            Request::Create { id, .. } if is_index(*id) => Some(Reply::Outcome(Outcome::Exists)),
            Request::Update { id, .. } if is_index(*id) => Some(Reply::Outcome(Outcome::Gone)),
            Request::Delete { id, .. } if is_index(*id) => Some(Reply::Ended(Deleted::Gone)),
            Request::Create { .. } if self.drain.is_some() => {
                Some(Reply::Outcome(Outcome::Rejected(Rejection::Draining)))
            }
            _ => None,
        }
    }

    /// Serves a call here, or sends it to the owner of its record.
    pub(super) fn route(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.at = None;
        let (key, is_load) = (call.request.key(), matches!(call.request, Request::Load { .. }));
        let is_from_peer = matches!(call.origin, Origin::Peer { .. });
        if !self.sees_majority() {
            return self.answer(number, Reply::Failed(Failure::NoMajority));
        }
        if self.owns(key) {
            return if is_load { self.read(number) } else { self.enqueue(number) };
        }
        if is_load && self.read_copy(number) {
            return;
        }
        if is_from_peer {
            return self.answer(number, Reply::Refused);
        }
        self.forward(number);
    }

    /// Puts a call in the queue of its record. What a list asks goes first: others may wait for the list.
    pub(super) fn enqueue(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let (key, is_from_list) = (call.request.key(), call.request.is_from_list());
        let queue = &mut self.busy.entry(key).or_default().queue;
        if is_from_list {
            queue.push_front(number);
        } else {
            queue.push_back(number);
        }
        self.answer_to_dead(key);
        self.overtake(key);
        self.advance(key);
    }

    fn forward(&mut self, number: u64) {
        let now = self.now.mono;
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let key = call.request.key();
        let is_load = matches!(call.request, Request::Load { .. });
        let mut holders = self.view.placement.holders(key);
        holders.truncate(if is_load { usize::MAX } else { 1 });
        let is_linked = |name: &&Name| self.peers.get(*name).is_some_and(|peer| peer.linked);
        let Some(to) = holders.iter().find(is_linked).cloned() else {
            return self.try_again(number);
        };
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.at = Some(to.clone());
        let within = call.deadline.saturating_sub(now + ANSWER_WITHIN);
        let request = call.request.clone();
        self.counts.forwarded += u64::from(matches!(call.origin, Origin::Here));
        self.send(&to, Message::Ask { number, within, request });
    }

    pub(super) fn try_again(&mut self, number: u64) {
        let again = self.now.mono + AGAIN_AFTER;
        if let Some(call) = self.calls.get_mut(&number) {
            call.at = None;
            self.alarms.set(Alarm::Call(number), again.min(call.deadline));
        }
    }

    pub(super) fn replied(&mut self, from: &Name, number: u64, reply: Reply) {
        let Some(call) = self.calls.get(&number).filter(|call| call.at.as_ref() == Some(from))
        else {
            return;
        };
        match reply {
            Reply::Refused => self.try_again(number),
            Reply::Failed(Failure::Moving | Failure::NoMajority | Failure::Unreachable)
                if call.request.is_repeatable() =>
            {
                self.try_again(number);
            }
            reply => self.answer(number, reply),
        }
    }

    /// A call whose answer is lost is sent again where that cannot do anything else.
    pub(super) fn lose_replies(&mut self, name: &Name) {
        let lost = self.calls.iter().filter(|(_, call)| call.at.as_ref() == Some(name));
        let is_repeatable = |call: &Call| call.request.is_repeatable();
        let lost: Vec<_> = lost.map(|(number, call)| (*number, is_repeatable(call))).collect();
        for (number, is_repeatable) in lost {
            if is_repeatable {
                self.try_again(number);
            } else {
                self.answer(number, Reply::Failed(Failure::Unreachable));
            }
        }
    }

    /// A call that this node cannot serve any more, since it is not the owner.
    pub(super) fn reroute(&mut self, number: u64) {
        self.route(number);
    }

    pub(super) fn answer(&mut self, number: u64, reply: Reply) {
        if let Some(call) = self.calls.remove(&number) {
            self.alarms.clear(Alarm::Call(number));
            self.reply_to(call.origin, number, reply);
        }
    }

    fn reply_to(&mut self, origin: Origin, number: u64, reply: Reply) {
        match origin {
            Origin::Here => self.effects.push(super::Effect::Answer(number, reply)),
            Origin::Peer { name, number } => self.send(&name, Message::Reply { number, reply }),
            Origin::Step { of } => self.step_done(of, number, reply),
        }
    }

    /// Sends a call again, or gives it up where it is too late.
    pub(super) fn check_call(&mut self, number: u64) {
        match self.calls.get(&number) {
            Some(call) if call.deadline <= self.now.mono => self.time_out(number),
            Some(_) => {
                self.route(number);
                self.watch_call(number);
            }
            None => {}
        }
    }

    /// Has a call that was not answered at once looked at when it is too late, if not before.
    fn watch_call(&mut self, number: u64) {
        if let Some(call) = self.calls.get(&number)
            && !self.alarms.is_set(Alarm::Call(number))
        {
            self.alarms.set(Alarm::Call(number), call.deadline);
        }
    }

    /// Gives a call up. Where it was sent to a node that did not even say so, the link is closed, so
    /// that the call cannot arrive after later ones.
    fn time_out(&mut self, number: u64) {
        let at = self.calls.get(&number).and_then(|call| call.at.clone());
        let failure = if at.is_some() { Failure::Timeout } else { Failure::Moving };
        self.answer(number, Reply::Failed(failure));
        if let Some(peer) = at {
            self.close(&peer);
        }
    }

    pub(super) fn busy(&mut self, id: RecordId) -> &mut Busy {
        self.busy.entry(id).or_default()
    }
}

/// How long a step of something that is under way may take.
const STEP_WITHIN: Duration = Duration::from_millis(2_200);

/// How long before its own deadline a node wants to hear that there is no answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// After what time a call is sent again that nobody could take.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
