//! The service's time, by which deadlines are judged: one wrong clock ends no session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steadfast_core::Timestamp;

use crate::context::Now;
use crate::member::Boot;
use crate::rules::{Rule, Rules};

/// The wall clocks of the other members, as this node last heard of them.
#[derive(Debug, Default)]
pub struct ServiceClock {
    /// The reading of each boot's wall clock when this node's monotonic clock began, in
    /// milliseconds since 1970.
    others: BTreeMap<Boot, i64>,
    /// The same of this node's own wall clock, when it was last looked at.
    own: Option<i64>,
    /// The time when they were last asked.
    asked: Option<Duration>,
    /// True if anything happened since.
    is_in_use: bool,
    /// The time since which this node's clock is off the service's time.
    off_since: Option<Duration>,
    doubt: Option<Doubt>,
}

/// This node's clock jumped, and the others have not told yet whether theirs did.
#[derive(Debug)]
struct Doubt {
    since: Duration,
    /// The boots that told their clocks since then.
    told: BTreeSet<Boot>,
}

impl ServiceClock {
    /// This node's wall clock while it is within 1 s of the median of the members' clocks, else that median
    /// (K1, K2): the lower one of the two in the middle, so with two nodes a record is due when it is by both.
    pub fn service_time(&self, now: Now, rules: Rules) -> Timestamp {
        let (own, median) = (origin(now.wall, now.mono), self.median(now));
        let is_right = own.abs_diff(median) <= OFF_BY || !rules.keep(Rule::K1);
        let origin = if is_right { own } else { median };
        Timestamp::from_millis(origin.saturating_add(millis(now.mono)))
    }

    /// The median of what the clocks showed when the monotonic clock began.
    fn median(&self, now: Now) -> i64 {
        let own = origin(now.wall, now.mono);
        let mut origins: Vec<_> = self.others.values().copied().chain([own]).collect();
        origins.sort_unstable();
        origins[(origins.len() - 1) / 2]
    }

    /// Returns the last reading of this node's wall clock.
    pub fn own(&self, mono: Duration) -> Timestamp {
        Timestamp::from_millis(self.own.unwrap_or_default().saturating_add(millis(mono)))
    }

    /// Returns the lead of this node's clock over the median; negative if it is slow.
    pub fn offset_millis(&self, now: Now) -> i64 {
        origin(now.wall, now.mono).saturating_sub(self.median(now))
    }

    /// The same of another member's clock, if it was heard.
    pub fn offset_of(&self, boot: Boot, now: Now) -> Option<i64> {
        Some(self.others.get(&boot)?.saturating_sub(self.median(now)))
    }

    /// Returns true if this node's clock has been off the service's time by more than 1 s for more
    /// than 5 s.
    pub fn is_off(&self, now: Duration) -> bool {
        self.off_since.is_some_and(|since| now.saturating_sub(since) > OFF_FOR)
    }

    /// Notes what the clock of a member shows that asks for this node's.
    pub fn on_question(&mut self, boot: Boot, wall: Timestamp, now: Duration) {
        self.others.insert(boot, origin(wall, now));
    }

    /// Notes what a member's clock showed when it was asked, with the time of this node's monotonic clock then.
    pub fn on_clock(&mut self, boot: Boot, wall: Timestamp, asked: Duration, now: Duration) {
        let there_and_back = now.saturating_sub(asked);
        // An answer that took long says little: the next one is awaited.
        if there_and_back <= SLOW {
            let then = asked.saturating_add(there_and_back / 2);
            self.others.insert(boot, origin(wall, then));
        }
        // An answer to an earlier question may have been under way when all clocks were moved.
        if let Some(doubt) = self.doubt.as_mut().filter(|doubt| asked >= doubt.since) {
            doubt.told.insert(boot);
            let is_majority = 2 * (doubt.told.len() + 1) > self.others.len() + 1;
            self.doubt = self.doubt.take().filter(|_| !is_majority);
        }
    }

    /// Returns true if this node's clock has just jumped, and may be wrong: calls wait for the
    /// clocks of a majority, or for 100 ms.
    pub fn is_doubtful(&self, now: Duration) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| now.saturating_sub(doubt.since) < DOUBT)
    }

    /// Looks at this node's own clock: where it jumped, the others are asked, and hear of it.
    pub fn look(&mut self, now: Now) {
        let own = origin(now.wall, now.mono);
        let before = self.own.replace(own);
        if before.is_some_and(|before| before.abs_diff(own) > JUMP) {
            self.asked = None;
            self.is_in_use = true;
            let told = BTreeSet::new();
            let since = now.mono;
            self.doubt = (!self.others.is_empty()).then_some(Doubt { since, told });
        }
        let is_off = self.offset_millis(now).unsigned_abs() > OFF_BY;
        self.off_since = is_off.then(|| self.off_since.unwrap_or(now.mono));
    }

    /// Notes that the service is used.
    pub fn on_use(&mut self) {
        self.is_in_use = true;
    }

    /// Keeps the clocks of these members, and asks them soon.
    pub fn on_epoch(&mut self, is_member: impl Fn(Boot) -> bool) {
        self.others.retain(|boot, _| is_member(*boot));
        self.doubt = None;
        self.asked = None;
        self.is_in_use = true;
    }

    /// Returns true if the members have to be asked: once a second while the service is used.
    pub fn has_to_ask(&mut self, now: Duration) -> bool {
        let is_fresh = self.asked.is_some_and(|asked| now.saturating_sub(asked) < ASKED);
        let has_to_ask = self.is_in_use && !is_fresh;
        if has_to_ask {
            self.asked = Some(now);
            self.is_in_use = false;
        }
        has_to_ask
    }
}

/// Returns the reading of a wall clock when the monotonic clock began.
fn origin(wall: Timestamp, mono: Duration) -> i64 {
    wall.as_millis().saturating_sub(millis(mono))
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The interval at which the other clocks are asked for while the service is used.
const ASKED: Duration = Duration::from_secs(1);

/// The difference in milliseconds between a wall clock and the monotonic one that counts as a jump;
/// between two checks, the rates of clocks differ by less.
const JUMP: u64 = 20;

/// The time that calls wait for the clocks of others after a jump.
const DOUBT: Duration = Duration::from_millis(100);

/// The offset in milliseconds from which on a clock counts as off.
const OFF_BY: u64 = 1_000;

/// The time for which a clock may be off: synchronisation needs seconds after a step.
const OFF_FOR: Duration = Duration::from_secs(5);

/// The longest round trip of a useful answer: deadlines are judged to the second.
const SLOW: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn one_wrong_clock_of_three_changes_nothing() {
        let mut clock = ServiceClock::default();
        hear(&mut clock, 1, 1_000);
        hear(&mut clock, 2, 1_001);
        assert_eq!(service(&clock, 1_002), 1_002, "within a second, its own clock");
        assert_eq!(service(&clock, 1_003), 1_001);
        assert_eq!(service(&clock, 9_999_999), 1_001, "its own is wrong");
        hear(&mut clock, 1, 0);
        assert_eq!(service(&clock, 1_003), 1_001, "another one's is");
        let own = clock.service_time(at(9_999), Rules::without(Rule::K1));
        assert_eq!(own.as_millis(), 9_999_000);
    }

    #[test]
    fn clocks_moved_in_turn_are_followed() {
        let mut clock = ServiceClock::default();
        hear(&mut clock, 1, 5_000);
        hear(&mut clock, 2, 1_000);
        assert_eq!(service(&clock, 5_000), 5_000);
    }

    #[test]
    fn of_two_clocks_the_earlier_one_counts() {
        let mut clock = ServiceClock::default();
        hear(&mut clock, 1, 1_000);
        assert_eq!(service(&clock, 5_000), 1_000);
        assert_eq!(service(&clock, 500), 500);
        assert_eq!(clock.offset_millis(at(5_000)), 4_000_000);
    }

    #[test]
    fn time_passes_by_the_monotonic_clock() {
        let mut clock = ServiceClock::default();
        hear(&mut clock, 1, 1_000);
        let later = Now { mono: NOW + Duration::from_secs(60), ..at(9_000) };
        assert_eq!(clock.service_time(later, Rules::default()).as_millis(), 1_060_000);
    }

    #[test]
    fn a_slow_answer_says_nothing() {
        let mut clock = ServiceClock::default();
        clock.on_clock(boot(1), wall(1_000), NOW, NOW + Duration::from_secs(1));
        assert_eq!(service(&clock, 5_000), 5_000);
    }

    #[test]
    fn clocks_are_asked_for_while_in_use() {
        let mut clock = ServiceClock::default();
        assert!(!clock.has_to_ask(NOW));
        clock.on_use();
        assert!(clock.has_to_ask(NOW));
        clock.on_use();
        assert!(!clock.has_to_ask(NOW + Duration::from_millis(999)));
        assert!(clock.has_to_ask(NOW + Duration::from_secs(1)));
        assert!(!clock.has_to_ask(NOW + Duration::from_secs(9)), "nothing happened since");
    }

    #[test]
    fn a_jump_is_a_reason_to_ask() {
        let mut clock = ServiceClock::default();
        clock.look(at(1_000));
        assert!(!clock.has_to_ask(NOW));
        clock.look(at(1_001));
        assert!(clock.has_to_ask(NOW));
    }

    #[test]
    fn a_jump_is_doubtful_until_a_majority_told() {
        let mut clock = ServiceClock::default();
        [1, 2].into_iter().for_each(|n| hear(&mut clock, n, 1_000));
        clock.look(at(1_000));
        assert!(!clock.is_doubtful(NOW));
        clock.look(at(2_000));
        assert!(clock.is_doubtful(NOW));
        assert!(!clock.is_doubtful(NOW + DOUBT), "no answer came");
        let earlier = NOW - Duration::from_millis(1);
        clock.on_clock(boot(1), wall(1_000), earlier, NOW);
        assert!(clock.is_doubtful(NOW), "it was asked before");
        hear(&mut clock, 1, 2_000);
        assert!(!clock.is_doubtful(NOW), "two of three agree");
        assert_eq!(service(&clock, 2_000), 2_000);
    }

    #[test]
    fn a_lone_node_trusts_its_clock() {
        let mut clock = ServiceClock::default();
        clock.look(at(1_000));
        clock.look(at(2_000));
        assert!(!clock.is_doubtful(NOW));
    }

    #[test]
    fn a_clock_is_off_once_that_lasts() {
        let mut clock = ServiceClock::default();
        let look = |clock: &mut ServiceClock, after: u64, ahead: u64| {
            let later = Duration::from_secs(after);
            let wall = wall(1_000 + after) + Duration::from_millis(ahead);
            clock.look(Now { mono: NOW + later, wall });
            clock.is_off(NOW + later)
        };
        hear(&mut clock, 1, 1_000);
        hear(&mut clock, 2, 1_000);
        assert!(!look(&mut clock, 0, 1_001));
        assert!(!look(&mut clock, 5, 1_001));
        assert!(look(&mut clock, 6, 1_001));
        assert!(!look(&mut clock, 7, 1_000), "it was set right");
        assert!(!look(&mut clock, 8, 1_001), "and begins again");
    }

    #[test]
    fn a_peers_clock_offset_is_known_once_heard() {
        let mut clock = ServiceClock::default();
        hear(&mut clock, 1, 1_000);
        hear(&mut clock, 2, 1_007);
        let offset = |n| clock.offset_of(boot(n), at(1_000));
        assert_eq!((offset(1), offset(2), offset(3)), (Some(0), Some(7_000), None));
    }

    const NOW: Duration = Duration::from_secs(100);

    fn hear(clock: &mut ServiceClock, n: usize, seconds: u64) {
        clock.on_clock(boot(n), wall(seconds), NOW, NOW);
    }

    fn service(clock: &ServiceClock, seconds: u64) -> i64 {
        clock.service_time(at(seconds), Rules::default()).as_millis() / 1_000
    }

    fn at(seconds: u64) -> Now {
        Now { mono: NOW, wall: wall(seconds) }
    }

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }
}
