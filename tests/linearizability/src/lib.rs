//! Checks that a history of one key is linearizable: that every call can have had its effect at one
//! moment between its invocation and its answer.
//!
//! The search is that of Wing and Gong, with the states that were visited remembered (Lowe). What was
//! never answered may have its effect at any time after its invocation, or none.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// One call to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The effect of the call.
    pub step: Step,
    /// Nanoseconds from a common beginning.
    pub invoked: u64,
    /// The latest time of its effect, if it had any: its answer.
    pub until: u64,
    /// True if it certainly had its effect.
    pub is_certain: bool,
}

impl Event {
    /// It had its effect between its invocation and its answer.
    pub fn answered(step: Step, invoked: u64, at: u64) -> Self {
        Self { step, invoked, until: at, is_certain: true }
    }

    /// It may have its effect at any time, or none.
    pub fn unanswered(step: Step, invoked: u64) -> Self {
        Self { step, invoked, until: u64::MAX, is_certain: false }
    }
}

/// The effect or the question of a call. A key has one number at a time, at first 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It found this number.
    Read(i64),
    /// It replaced the number, whatever that was. Every write of a key has a number of its own.
    Write(i64),
    /// It replaced `from` by `to`; without an answer, if it found `from`.
    Replace {
        /// The value that it found.
        from: i64,
        /// The value that it left.
        to: i64,
    },
    /// It found another number than this.
    Missed(i64),
    /// It added 1, and its answer, if any, has the sum.
    Count(Option<i64>),
}

/// A history that no single key can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// Returns the highest number of answered calls that fit.
    pub fitting: usize,
    /// A call that fits in no order of the others, tried last.
    pub stuck: Event,
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fitting, stuck } = self;
        write!(f, "after {fitting} calls that fit, {stuck:?} does not")
    }
}

/// Checks the calls to one key.
///
/// Of the changes that were not answered, first only those are tried whose number another call has seen: any
/// other may never have happened. Where no order is found so, all of them are tried, since a count sees every
/// number, as does what found another one than it expected. That search is given up after 10,000 places, and
/// what was found first is the answer.
///
/// # Errors
///
/// When there is no order of them.
pub fn check(events: &[Event]) -> Result<(), NotLinearizable> {
    let seen = telling(events);
    let changes = |event: &&Event| event.is_certain || event.step.changes();
    let all: Vec<_> = events.iter().filter(changes).copied().collect();
    let has_more = all.len() > seen.len();
    search(seen, usize::MAX).or_else(|stuck| match has_more {
        true => search(all, PLACES).map_err(|_| stuck),
        false => Err(stuck),
    })
}

fn search(mut events: Vec<Event>, limit: usize) -> Result<(), NotLinearizable> {
    events.sort_by_key(|event| event.invoked);
    let (certain, doubtful) = events.into_iter().partition(|event| event.is_certain);
    Search { certain, doubtful, visited: HashSet::new(), best: None }.run(limit)
}

/// The number of places that are searched with all unanswered changes: each may have happened or not, so
/// that their number doubles with each of them.
const PLACES: usize = 10_000;

/// The calls without those that say nothing: reads that were not answered, and writes that were not
/// answered and whose number no other call that matters has seen.
fn telling(events: &[Event]) -> Vec<Event> {
    let mut seen: HashSet<_> =
        events.iter().filter(|event| event.is_certain).filter_map(sees).collect();
    loop {
        let matters = |event: &&Event| event.is_certain || event.step.shows_in(&seen);
        let telling: Vec<_> = events.iter().filter(matters).copied().collect();
        let before = seen.len();
        seen.extend(telling.iter().filter_map(sees));
        if seen.len() == before {
            return telling;
        }
    }
}

/// The number that a call found.
fn sees(event: &Event) -> Option<i64> {
    match event.step {
        Step::Read(found) | Step::Replace { from: found, .. } => Some(found),
        Step::Write(_) | Step::Missed(_) | Step::Count(_) => None,
    }
}

/// Both by invocation.
struct Search {
    certain: Vec<Event>,
    doubtful: Vec<Event>,
    visited: HashSet<Place>,
    best: Option<NotLinearizable>,
}

/// A place in the search: which calls had their effect, and what the key has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// The certain calls before this one are done.
    first: usize,
    /// And these, which are later.
    ahead: BTreeSet<usize>,
    doubtful: BTreeSet<usize>,
    number: i64,
    /// The last invocation of those that are done: no effect is earlier any more.
    latest: u64,
}

impl Search {
    fn run(mut self, limit: usize) -> Result<(), NotLinearizable> {
        let (ahead, doubtful) = (BTreeSet::new(), BTreeSet::new());
        let mut places = vec![Place { first: 0, ahead, doubtful, number: 0, latest: 0 }];
        while let Some(place) = places.pop().filter(|_| self.visited.len() <= limit) {
            if place.first == self.certain.len() {
                return Ok(());
            }
            let next = self.next(&place);
            if next.is_empty() {
                self.stuck(&place);
            }
            // The last one is tried first.
            places.extend(next.into_iter().filter(|place| self.visited.insert(place.clone())));
        }
        let Self { certain, best, .. } = self;
        Err(best.unwrap_or_else(|| NotLinearizable { fitting: 0, stuck: certain[0] }))
    }

    /// Every place after one more call. It has to be invoked before any other is answered.
    fn next(&self, place: &Place) -> Vec<Place> {
        let open = self.open(place);
        let before = open.iter().map(|at| self.certain[*at].until).min().unwrap_or(u64::MAX);
        if let Some(place) = self.next_without_a_choice(place, &open, before) {
            return vec![place];
        }
        let mut next = self.next_doubtful(place, before);
        for at in open.into_iter().rev() {
            let event = &self.certain[at];
            let number = event.step.on(place.number).filter(|_| event.invoked <= before);
            next.extend(number.map(|number| place.with(at, event, number)));
        }
        next
    }

    /// A call that changes nothing and can have its effect now need not wait, unless a doubtful one
    /// would then come too late.
    fn next_without_a_choice(&self, place: &Place, open: &[usize], before: u64) -> Option<Place> {
        let is_free = |event: &Event| {
            let mut doubtful = self.doubtful.iter().enumerate();
            doubtful.all(|(n, other)| {
                place.doubtful.contains(&n)
                    || other.until >= event.invoked
                    || other.until < place.latest
            })
        };
        open.iter().find_map(|at| {
            let event = &self.certain[*at];
            let fits = event.invoked <= before && event.step.on(place.number) == Some(place.number);
            let is_chosen = fits && !event.step.changes() && is_free(event);
            is_chosen.then(|| place.with(*at, event, place.number))
        })
    }

    fn next_doubtful(&self, place: &Place, before: u64) -> Vec<Place> {
        let (mut next, mut counted) = (Vec::new(), None);
        for (at, event) in self.doubtful.iter().enumerate() {
            let is_open = event.invoked <= before && place.latest <= event.until;
            // Of counts that were not answered, one is as good as another: the earliest is enough.
            let is_count = event.step == Step::Count(None);
            if !is_open || place.doubtful.contains(&at) || is_count && counted == Some(event.until)
            {
                continue;
            }
            counted = is_count.then_some(event.until).or(counted);
            next.extend(event.step.on(place.number).map(|number| {
                let mut place = place.clone();
                place.doubtful.insert(at);
                Place { number, latest: place.latest.max(event.invoked), ..place }
            }));
        }
        next
    }

    /// The certain calls that are not done and were invoked before the first of them was answered.
    fn open(&self, place: &Place) -> Vec<usize> {
        let (mut open, mut before) = (Vec::new(), u64::MAX);
        for at in place.first..self.certain.len() {
            if place.ahead.contains(&at) {
                continue;
            }
            if self.certain[at].invoked > before {
                break;
            }
            before = before.min(self.certain[at].until);
            open.push(at);
        }
        open
    }

    fn stuck(&mut self, place: &Place) {
        let fitting = place.first + place.ahead.len();
        if self.best.as_ref().is_none_or(|best| best.fitting <= fitting) {
            let open = self.open(place).into_iter().map(|at| self.certain[at]);
            let stuck = open.min_by_key(|event| event.until).expect("some call is not done");
            self.best = Some(NotLinearizable { fitting, stuck });
        }
    }
}

impl Place {
    /// The place after a certain call.
    fn with(&self, at: usize, event: &Event, number: i64) -> Self {
        let mut place = self.clone();
        place.ahead.insert(at);
        while place.ahead.remove(&place.first) {
            place.first += 1;
        }
        Self { number, latest: place.latest.max(event.invoked), ..place }
    }
}

impl Step {
    /// Returns true if the number may change.
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read(_) | Self::Missed(_))
    }

    /// Returns true if other calls saw its number or its addition.
    fn shows_in(self, found: &HashSet<i64>) -> bool {
        match self {
            Self::Read(_) | Self::Missed(_) => false,
            Self::Write(number) | Self::Replace { to: number, .. } => found.contains(&number),
            Self::Count(_) => true,
        }
    }

    /// Returns the same call without its answer.
    #[must_use]
    pub fn untold(self) -> Self {
        match self {
            Self::Count(_) => Self::Count(None),
            step => step,
        }
    }

    /// Returns the state of the key after the call, if the call fits the state before.
    fn on(self, number: i64) -> Option<i64> {
        match self {
            Self::Read(found) => (found == number).then_some(number),
            Self::Write(new) => Some(new),
            Self::Replace { from, to } => (from == number).then_some(to),
            Self::Missed(other) => (other != number).then_some(number),
            Self::Count(sum) => (sum.unwrap_or(number + 1) == number + 1).then_some(number + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Count, Missed, Read, Replace, Write};

    #[test]
    fn calls_in_turn_are_linearizable() {
        let events = [at(Read(0), 0, 1), at(Write(1), 2, 3), at(Read(1), 4, 5)];
        assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let events = [at(Write(1), 0, 1), at(Write(2), 2, 3), at(Read(1), 4, 5)];
        let error = check(&events).unwrap_err();
        assert_eq!(error, NotLinearizable { fitting: 2, stuck: events[2] });
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(check(&[at(Write(1), 0, 1), at(Read(0), 2, 3)]).is_err());
    }

    #[test]
    fn a_write_seen_too_early_is_found() {
        assert!(check(&[at(Read(1), 0, 1), at(Write(1), 2, 3)]).is_err());
        assert!(check(&[at(Read(1), 0, 1), unanswered(Write(1), 2)]).is_err());
    }

    #[test]
    fn concurrent_calls_are_tried_in_every_order() {
        let writes = [at(Write(1), 0, 10), at(Write(2), 0, 10), at(Write(3), 0, 10)];
        for last in 1..=3 {
            let mut events = writes.to_vec();
            events.push(at(Read(last), 11, 12));
            assert_eq!(check(&events), Ok(()));
        }
        let mut events = writes.to_vec();
        events.extend([at(Read(1), 11, 12), at(Read(2), 13, 14)]);
        assert!(check(&events).is_err(), "one of them is the last for everybody");
    }

    #[test]
    fn readers_agree_on_concurrent_writes() {
        let write = at(Write(1), 0, 100);
        assert_eq!(check(&[write, at(Read(0), 1, 2), at(Read(1), 3, 4)]), Ok(()));
        assert!(check(&[write, at(Read(1), 1, 2), at(Read(0), 3, 4)]).is_err());
    }

    #[test]
    fn an_unanswered_call_may_happen_any_time() {
        let write = unanswered(Write(1), 0);
        assert_eq!(check(&[write, at(Read(0), 50, 51)]), Ok(()));
        assert_eq!(check(&[write, at(Read(0), 50, 51), at(Read(1), 90, 91)]), Ok(()));
        let undone = [write, at(Read(1), 50, 51), at(Read(0), 90, 91)];
        assert!(check(&undone).is_err(), "but once");
    }

    #[test]
    fn a_doubtful_call_has_a_latest_time() {
        let write = Event { until: 10, ..unanswered(Write(1), 0) };
        assert_eq!(check(&[write, at(Read(1), 5, 15)]), Ok(()));
        assert_eq!(check(&[write, at(Read(1), 20, 25), at(Write(2), 30, 31)]), Ok(()));
        assert!(check(&[write, at(Read(0), 20, 25), at(Read(1), 30, 31)]).is_err());
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(check(&[at(Count(Some(1)), 0, 5), at(Count(Some(2)), 0, 5)]), Ok(()));
        assert!(check(&[at(Count(Some(1)), 0, 5), at(Count(Some(1)), 0, 5)]).is_err());
        assert!(check(&[at(Count(Some(2)), 0, 1), at(Count(Some(1)), 2, 3)]).is_err());
        assert!(check(&[at(Count(Some(1)), 0, 1), at(Read(0), 2, 3)]).is_err(), "one is lost");
        assert!(check(&[at(Count(Some(1)), 0, 1), at(Read(2), 2, 3)]).is_err(), "one is too many");
    }

    #[test]
    fn unanswered_counts_explain_a_surplus() {
        let unknown = [unanswered(Count(None), 0), unanswered(Count(None), 10)];
        let with = |more: &[Event]| check(&[&unknown, more].concat());
        assert_eq!(with(&[at(Read(2), 20, 21)]), Ok(()));
        assert_eq!(with(&[at(Count(Some(2)), 20, 21), at(Count(Some(4)), 30, 31)]), Ok(()));
        assert!(with(&[at(Read(2), 5, 6)]).is_err(), "the second was not asked for yet");
        assert!(with(&[at(Read(3), 20, 21)]).is_err(), "each of them counts once");
    }

    #[test]
    fn an_unanswered_write_shows_in_a_sum() {
        let events = [at(Count(Some(1)), 0, 1), unanswered(Write(7), 2), at(Count(Some(8)), 3, 4)];
        assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn many_unanswered_writes_are_pruned() {
        let lost = (0..60).map(|n| unanswered(Write(100 + n), 2));
        let events: Vec<_> = [at(Write(1), 0, 1)].into_iter().chain(lost).collect();
        let with = |last| [&events[..], &[at(Count(Some(2)), 3, 4), last]].concat();
        assert_eq!(check(&with(at(Read(2), 5, 6))), Ok(()));
        assert!(check(&with(at(Read(9), 5, 6))).is_err());
    }

    #[test]
    fn an_unanswered_write_explains_a_miss() {
        assert_eq!(check(&[unanswered(Write(7), 0), at(Missed(0), 1, 2)]), Ok(()));
    }

    #[test]
    fn a_doubtful_call_precedes_a_later_read() {
        let write = Event { until: 4, ..unanswered(Write(1), 0) };
        let events = [write, at(Read(0), 3, 9), at(Read(0), 5, 6), at(Read(1), 7, 8)];
        assert!(check(&events).is_err());
        let events = [write, at(Missed(2), 5, 9), at(Read(1), 6, 7)];
        assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn a_replacement_needs_what_it_replaces() {
        let (one, two) = (Replace { from: 0, to: 1 }, Replace { from: 0, to: 2 });
        assert!(check(&[at(one, 0, 9), at(two, 0, 9)]).is_err(), "only one of them can");
        assert_eq!(check(&[at(one, 0, 9), at(Missed(0), 0, 9), at(Read(1), 10, 11)]), Ok(()));
        assert!(check(&[at(Missed(0), 0, 1), at(Read(0), 2, 3)]).is_err());
        assert_eq!(check(&[unanswered(one, 0), at(Replace { from: 1, to: 2 }, 5, 6)]), Ok(()));
    }

    #[test]
    fn a_long_history_takes_no_long_search() {
        let mut events = Vec::new();
        for n in 0..2_000 {
            events.push(at(Count(Some(n + 1)), n as u64 * 10, n as u64 * 10 + 35));
            events.push(at(Read(n + 1), n as u64 * 10 + 5, n as u64 * 10 + 45));
        }
        events.push(unanswered(Count(None), 3));
        assert_eq!(check(&events), Ok(()));
        events.push(at(Read(1_999), 30_000, 30_001));
        assert!(check(&events).is_err());
    }

    fn at(step: Step, invoked: u64, answered: u64) -> Event {
        Event::answered(step, invoked, answered)
    }

    fn unanswered(step: Step, invoked: u64) -> Event {
        Event::unanswered(step, invoked)
    }
}
