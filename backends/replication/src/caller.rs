//! The way of a call to the owner of its record: it is asked until it answers, or the caller gives up.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::{Principal, RecordId};

use crate::call::Request;
use crate::member::Boot;

/// The calls of this node that are open.
#[derive(Debug, Default)]
pub struct Caller {
    calls: BTreeMap<u64, Call>,
    last: u64,
    /// The time when a call was last sent, until the others learn that it is over.
    sent: Option<Duration>,
}

/// The call that an answer belongs to.
#[derive(Clone, Debug)]
pub enum Asker {
    /// The application.
    Client,
    /// A call that waits for this step, at a record of this node.
    Step(RecordId, u64),
    /// A procedure.
    Procedure(u64),
    /// A list of this node, which does not know whether the session is the principal's.
    Fence(RecordId, Principal),
    /// Nothing waits for it.
    Background,
}

/// An open call.
#[derive(Debug)]
struct Call {
    asker: Asker,
    request: Request,
    /// The time when its caller gives up.
    until: Duration,
    /// The node that got it in this epoch.
    asked: Option<Boot>,
}

/// A call that has to be sent.
#[derive(Debug)]
pub struct Due {
    /// Its number.
    pub number: u64,
    /// The request.
    pub request: Request,
    /// The time that its caller waits.
    pub within: Duration,
}

impl Caller {
    /// Opens a call; its number is never used twice.
    pub fn open(&mut self, asker: Asker, request: Request, until: Duration) -> u64 {
        let number = self.number();
        self.calls.insert(number, Call { asker, request, until, asked: None });
        number
    }

    /// A number that no other call has.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The lowest number that is still open: below it, no call is asked again.
    pub fn lowest_open(&self) -> u64 {
        self.calls.keys().next().copied().unwrap_or(self.last + 1)
    }

    /// Returns the number of open calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns true if no call is open.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns the request of an open call.
    pub fn request(&self, number: u64) -> Option<&Request> {
        self.calls.get(&number).map(|call| &call.request)
    }

    /// Notes whom a call is sent to; what to send, unless it is closed or was sent there in this epoch.
    pub fn ask(&mut self, number: u64, owner: Boot, now: Duration) -> Option<Due> {
        let call = self.calls.get_mut(&number)?;
        if call.asked.replace(owner) == Some(owner) {
            return None;
        }
        self.sent = Some(now);
        let within = call.until.saturating_sub(now);
        Some(Due { number, request: call.request.clone(), within })
    }

    /// The lowest number that is still open, once after a rest: no later call says so.
    pub fn at_rest(&mut self, now: Duration) -> Option<u64> {
        let is_over = |sent: &Duration| now.saturating_sub(*sent) >= REST;
        self.sent.take_if(|sent| is_over(sent)).map(|_| self.lowest_open())
    }

    /// Takes an answer; for what it is. A refusal counts as the answer to the latest attempt only: another owner may have
    /// applied what an earlier one refused (C3).
    pub fn on_reply(&mut self, from: Boot, number: u64) -> Option<Asker> {
        self.calls.get(&number).filter(|call| call.asked == Some(from))?;
        self.close(number)
    }

    /// Closes a call that was answered here.
    pub fn close(&mut self, number: u64) -> Option<Asker> {
        self.calls.remove(&number).map(|call| call.asker)
    }

    /// Another epoch: open calls have to be asked again, with the same numbers. Steps are forgotten with the
    /// calls that wait for them, which come again: an old step may not end a session for them beside the new one.
    pub fn ask_again(&mut self) -> Vec<u64> {
        self.calls.retain(|_, call| !matches!(call.asker, Asker::Step(..)));
        self.calls.values_mut().for_each(|call| call.asked = None);
        self.calls.keys().copied().collect()
    }

    /// Returns true if a call is the application's.
    pub fn is_of_client(&self, number: u64) -> bool {
        let is_of_client = |call: &Call| matches!(call.asker, Asker::Client);
        self.calls.get(&number).is_some_and(is_of_client)
    }

    /// The calls that were not sent in this epoch.
    pub fn waiting(&self) -> Vec<u64> {
        let waiting = self.calls.iter().filter(|(_, call)| call.asked.is_none());
        waiting.map(|(number, _)| *number).collect()
    }

    /// Gives up the calls whose time is over; says of each whether it is a write of the application.
    pub fn give_up(&mut self, now: Duration) -> Vec<(u64, Asker, bool)> {
        let is_over = |(_, call): &(&u64, &Call)| call.until <= now;
        let over: Vec<_> = self.calls.iter().filter(is_over).map(|(number, _)| *number).collect();
        let give_up = |number| {
            let call = self.calls.remove(&number)?;
            let is_write = !matches!(call.request, Request::Load { .. });
            let is_client = matches!(call.asker, Asker::Client);
            Some((number, call.asker, is_write && is_client))
        };
        over.into_iter().filter_map(give_up).collect()
    }
}

/// The time without calls after which owners learn which calls are over.
const REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn a_call_is_asked_once_per_epoch() {
        let mut caller = Caller::default();
        let number = caller.open(Asker::Client, load(), ms(100));
        assert_eq!(caller.ask(number, boot(1), ms(20)).unwrap().within, ms(80));
        assert!(caller.ask(number, boot(1), ms(20)).is_none());
        assert_eq!(caller.ask_again(), [number]);
        assert!(caller.ask(number, boot(1), ms(20)).is_some());
    }

    #[test]
    fn an_answer_to_an_earlier_attempt_is_none() {
        let mut caller = Caller::default();
        let number = caller.open(Asker::Client, load(), ms(100));
        caller.ask(number, boot(1), ms(0));
        caller.ask_again();
        assert!(caller.on_reply(boot(1), number).is_none());
        caller.ask(number, boot(2), ms(0));
        assert!(caller.on_reply(boot(1), number).is_none());
        assert!(caller.on_reply(boot(2), number).is_some());
        assert!(caller.on_reply(boot(2), number).is_none(), "it is closed");
    }

    #[test]
    fn the_lowest_open_number_is_above_closed_ones() {
        let mut caller = Caller::default();
        assert_eq!(caller.lowest_open(), 1);
        let (first, second) = (
            caller.open(Asker::Client, load(), ms(10)),
            caller.open(Asker::Client, load(), ms(20)),
        );
        assert_eq!(caller.lowest_open(), first);
        assert_eq!(caller.give_up(ms(10)).len(), 1);
        assert_eq!(caller.lowest_open(), second);
        caller.give_up(ms(20));
        assert_eq!((caller.lowest_open(), caller.len()), (second + 1, 0));
    }

    #[test]
    fn an_epoch_forgets_steps() {
        let mut caller = Caller::default();
        let step = Asker::Step(RecordId::from_bytes([1; 16]), 1);
        caller.open(step, load(), ms(100));
        let number = caller.open(Asker::Background, load(), ms(100));
        assert_eq!(caller.ask_again(), [number]);
    }

    #[test]
    fn a_rest_is_noticed_once() {
        let mut caller = Caller::default();
        let number = caller.open(Asker::Client, load(), ms(100));
        assert_eq!(caller.at_rest(ms(5_000)), None, "nothing was sent");
        caller.ask(number, boot(1), ms(0));
        caller.on_reply(boot(1), number);
        assert_eq!(caller.at_rest(ms(999)), None);
        assert_eq!(caller.at_rest(ms(1_000)), Some(number + 1));
        assert_eq!(caller.at_rest(ms(9_000)), None);
    }

    fn load() -> Request {
        Request::Load { id: RecordId::from_bytes([1; 16]), proof: None, seen: None }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
