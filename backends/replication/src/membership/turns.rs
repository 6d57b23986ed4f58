//! The order of proposers, and the times of repeated attempts.

use std::time::Duration;

use super::random::Random;
use crate::rules::{Rule, Rules};

/// The times at which this node proposes: the first by its rank among the voters in sight, later
/// ones by refusals.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    /// The time since which this node wants a change.
    wanted: Option<Duration>,
    /// The time when it last heard of another node's ballot.
    heard: Option<Duration>,
    /// The time when its own attempt began.
    tried: Option<Duration>,
    /// The time until which it waits after a refusal.
    rests_until: Duration,
    refusals: u32,
    /// The highest ballot that it heard of.
    highest: u32,
}

/// The conditions for a proposal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The place of this node among those that may propose.
    pub rank: u32,
    /// True if a change is wanted.
    pub is_wanted: bool,
    /// True if this node promised, and no epoch followed.
    pub has_promised: bool,
}

impl Turns {
    /// Returns true if this node has to propose now. Call it after every event, and with each tick.
    pub(super) fn is_due(&mut self, wish: Wish, now: Duration, rules: Rules) -> bool {
        self.wanted = wish.is_wanted.then(|| self.wanted.unwrap_or(now));
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let turn = TURN.saturating_mul(wish.rank);
        let is_free = match (since(self.tried), since(self.heard)) {
            (Some(tried), _) => tried >= TIMEOUT,
            (None, Some(heard)) => heard >= TAKE_UP + turn,
            (None, None) => since(self.wanted).is_some_and(|wanted| wanted >= turn),
        };
        let takes_up = wish.has_promised && rules.keep(Rule::A3);
        is_free && now >= self.rests_until && (wish.is_wanted || takes_up)
    }

    /// Notes that this node proposes; the ballot has to be above the number that this returns.
    pub(super) fn begin(&mut self, now: Duration, random: &mut Random) -> u32 {
        if self.tried.is_some() {
            self.rest(now + TIMEOUT, random);
        }
        self.tried = Some(now);
        self.highest
    }

    /// Notes that another node proposes.
    pub(super) fn on_ballot(&mut self, number: u32, now: Duration) {
        self.heard = Some(now);
        self.highest = self.highest.max(number);
    }

    /// Notes that a voter takes part in a higher ballot.
    pub(super) fn on_refused(&mut self, number: u32, now: Duration, random: &mut Random) {
        self.highest = self.highest.max(number);
        if self.tried.take().is_some() {
            self.heard = Some(now);
            self.rest(now, random);
        }
    }

    fn rest(&mut self, from: Duration, random: &mut Random) {
        let longest = LONGEST_REST.min(SHORT_REST.1 * (1 << self.refusals.min(5)));
        let shortest = SHORT_REST.0.max(longest / 5);
        self.rests_until = from + random.between(shortest, longest);
        self.refusals += 1;
    }

    /// Forgets all: another epoch began.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The delay between the proposals of nodes of consecutive ranks.
pub(super) const TURN: Duration = Duration::from_millis(50);

/// The time for which a promise or another node's attempt is left alone.
const TAKE_UP: Duration = Duration::from_millis(100);

/// The time limit of an own attempt.
const TIMEOUT: Duration = Duration::from_millis(150);

/// The time that a proposer waits after its first refusal; it doubles with each further one.
const SHORT_REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

const LONGEST_REST: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish { rank: 0, is_wanted: true, has_promised: false };

    #[test]
    fn each_rank_proposes_later_than_the_one_before() {
        for (rank, at) in [(0, 0), (1, 50), (3, 150)] {
            let wish = Wish { rank, ..WISH };
            assert_eq!(first(&mut Turns::default(), wish, Rules::default()), Some(at));
        }
    }

    #[test]
    fn nothing_is_proposed_that_is_not_wanted() {
        let wish = Wish { is_wanted: false, ..WISH };
        assert_eq!(first(&mut Turns::default(), wish, Rules::default()), None);
    }

    #[test]
    fn a_turn_starts_when_a_change_is_wanted() {
        let (mut turns, second) = (Turns::default(), Wish { rank: 1, ..WISH });
        let idle = Wish { is_wanted: false, ..second };
        assert!(!turns.is_due(second, ms(0), Rules::default()));
        assert!(!turns.is_due(idle, ms(40), Rules::default()));
        assert!(!turns.is_due(second, ms(60), Rules::default()));
        assert!(turns.is_due(second, ms(110), Rules::default()));
    }

    #[test]
    fn a_promise_is_taken_up_after_a_while() {
        let wish = Wish { rank: 1, is_wanted: false, has_promised: true };
        let mut turns = Turns::default();
        turns.on_ballot(3, ms(0));
        turns.on_ballot(3, ms(20));
        assert_eq!(first(&mut turns.clone(), wish, Rules::default()), Some(170));
        assert_eq!(first(&mut turns, wish, Rules::without(Rule::A3)), None);
    }

    #[test]
    fn a_refused_proposer_waits_longer_each_time() {
        let (mut turns, mut random) = (Turns::default(), Random::new([3; 16]));
        let (mut now, mut longest) = (ms(0), ms(0));
        for number in 1..10 {
            assert_eq!(turns.begin(now, &mut random), number - 1);
            turns.on_refused(number, now, &mut random);
            let rest = turns.rests_until - now;
            assert!(rest >= ms(10) && rest <= ms(400));
            (longest, now) = (longest.max(rest), turns.rests_until);
        }
        assert!(longest > ms(100));
        turns.reset();
        assert!(turns.is_due(WISH, ms(0), Rules::default()));
    }

    #[test]
    fn an_attempt_without_an_answer_is_repeated() {
        let (mut turns, mut random) = (Turns::default(), Random::new([3; 16]));
        assert!(turns.is_due(WISH, ms(0), Rules::default()));
        turns.begin(ms(0), &mut random);
        assert_eq!(first(&mut turns, WISH, Rules::default()), Some(150));
    }

    /// The first time at which it is this node's turn.
    fn first(turns: &mut Turns, wish: Wish, rules: Rules) -> Option<u64> {
        (0..1_000).step_by(10).find(|millis| turns.is_due(wish, ms(*millis), rules))
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
