//! The members that this node does not reach, and those that the voters do not reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::member::Boot;
use crate::rules::{Rule, Rules};

/// The own suspicions of a node, and the words of others.
///
/// Only an answer that is awaited and does not come is evidence: a service at rest suspects no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Suspicion {
    others: BTreeMap<Boot, Contact>,
    /// Pairs of a node and a boot that it does not reach, and when it last said so.
    words: BTreeMap<(Boot, Boot), Duration>,
    /// The time of this node's last check.
    looked: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Contact {
    /// The time when its engine last answered.
    answered: Option<Duration>,
    /// The time since which an answer is awaited.
    awaited: Option<Duration>,
    /// True if another node's suspicion is the reason for awaiting one.
    is_doubted: bool,
    /// The time of the last ping since an answer is awaited.
    pinged: Option<Duration>,
    /// The time when this node last announced that it does not reach the boot, as long as it does
    /// not.
    said: Option<Duration>,
    /// True if the boot closed its connection and refused another one.
    has_refused: bool,
}

/// The reason for suspecting a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suspected {
    /// It closed its connection, and refused another one.
    Refused,
    /// It did not answer for so long.
    Silent(Duration),
}

impl fmt::Display for Suspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("it closed its connection, and refused another one"),
            Self::Silent(time) => write!(f, "it did not answer for {} ms", time.as_millis()),
        }
    }
}

/// A message to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Word {
    /// Tells all voters that this node does not reach the boot.
    Suspect(Boot),
    /// Tells all voters that this node reaches the boot again.
    Trust(Boot),
    /// Asks the boot for an answer over every path.
    Ping(Boot),
}

impl Suspicion {
    /// Notes that an answer of a boot's engine is awaited.
    pub fn on_awaited(&mut self, boot: Boot, now: Duration) {
        self.others.entry(boot).or_default().awaited.get_or_insert(now);
    }

    /// Notes an answer that was awaited. Other frames do not count: they can come from a process that sends
    /// and handles nothing.
    pub fn on_answer(&mut self, boot: Boot, now: Duration) -> Option<Word> {
        let contact = self.others.entry(boot).or_default();
        let was_suspected = contact.said.is_some();
        *contact = Contact { answered: Some(now), ..Contact::default() };
        was_suspected.then_some(Word::Trust(boot))
    }

    /// Notes that a boot closed its connection and refuses another one: its process ended.
    pub fn on_refused(&mut self, boot: Boot, now: Duration) -> Option<Word> {
        let contact = self.others.entry(boot).or_default();
        contact.awaited.get_or_insert(now);
        contact.has_refused = true;
        let is_new = contact.said.replace(now).is_none();
        is_new.then_some(Word::Suspect(boot))
    }

    /// Notes that another node does not reach a boot; asks that boot, unless it answered just now.
    pub fn on_suspect(&mut self, from: Boot, boot: Boot, now: Duration) -> Option<Word> {
        self.words.insert((from, boot), now);
        self.doubt_again(boot, now)
    }

    /// Asks a boot whether it is there, unless it answered just now.
    pub fn doubt_again(&mut self, boot: Boot, now: Duration) -> Option<Word> {
        let answered = self.others.get(&boot).and_then(|contact| contact.answered);
        let is_near = answered.is_some_and(|at| now.saturating_sub(at) < JUST_NOW);
        if is_near { None } else { self.doubt(boot, now) }
    }

    /// Asks a boot whether it is there, though it answered just now.
    pub fn doubt(&mut self, boot: Boot, now: Duration) -> Option<Word> {
        let contact = self.others.entry(boot).or_default();
        if contact.is_doubted || contact.said.is_some() {
            return None;
        }
        contact.is_doubted = true;
        contact.awaited = Some(now);
        contact.pinged = Some(now);
        Some(Word::Ping(boot))
    }

    /// Notes that another node reaches a boot again.
    pub fn on_trust(&mut self, from: Boot, boot: Boot) {
        self.words.remove(&(from, boot));
    }

    /// Checks for overdue answers, and repeats announcements. To be called every 25 ms or so, after
    /// all frames that wait were handled.
    pub fn tick(&mut self, now: Duration, rules: Rules) -> Vec<Word> {
        let stood_still = now.saturating_sub(std::mem::replace(&mut self.looked, now)) > STALL;
        let mut words = Vec::new();
        for (boot, contact) in &mut self.others {
            // The silence of others while this node did not run is its own.
            if stood_still && contact.said.is_none() && rules.keep(Rule::S2) {
                contact.awaited = contact.awaited.map(|_| now);
            }
            let is_out = contact.is_out(now);
            if is_out {
                contact.said = Some(now);
                words.push(Word::Suspect(*boot));
            }
            if is_out || contact.is_to_be_pinged(now) {
                contact.pinged = Some(now);
                words.push(Word::Ping(*boot));
            }
        }
        words
    }

    /// Returns true if this node does not reach a boot.
    pub fn suspects(&self, boot: Boot) -> bool {
        self.others.get(&boot).is_some_and(|contact| contact.said.is_some())
    }

    /// Returns the reason why this node does not reach a boot, if it does not.
    pub fn why(&self, boot: Boot, now: Duration) -> Option<Suspected> {
        let contact = self.others.get(&boot).filter(|contact| contact.said.is_some())?;
        let silent = now.saturating_sub(contact.awaited.unwrap_or(now));
        Some(if contact.has_refused { Suspected::Refused } else { Suspected::Silent(silent) })
    }

    /// The boots that said a short while ago that they do not reach another one.
    pub fn suspected_by(&self, boot: Boot, now: Duration) -> impl Iterator<Item = Boot> {
        let is_valid = move |at: &Duration| now.saturating_sub(*at) <= VALID;
        let words =
            self.words.iter().filter(move |((_, named), at)| *named == boot && is_valid(at));
        words.map(|((from, _), _)| *from)
    }

    /// Returns true if an answer is overdue enough to try another path to the boot.
    pub fn is_late(&self, boot: Boot, now: Duration) -> bool {
        self.others.get(&boot).is_some_and(|contact| contact.is_late(now))
    }

    /// The boots that a majority of the voters does not reach, by the own word of each, this node's
    /// included.
    pub fn out_of_reach(
        &self,
        me: Boot,
        voters: &BTreeSet<Boot>,
        now: Duration,
        rules: Rules,
    ) -> BTreeSet<Boot> {
        let quorum = if rules.keep(Rule::S1) { voters.len() / 2 + 1 } else { 1 };
        let is_valid = |at: &Duration| now.saturating_sub(*at) <= VALID;
        let says = |voter: &Boot, boot: Boot| match *voter == me {
            true => self.suspects(boot),
            false => self.words.get(&(*voter, boot)).is_some_and(is_valid),
        };
        let named = self.words.keys().map(|(_, boot)| *boot).chain(self.others.keys().copied());
        let is_out = |boot: &Boot| {
            *boot != me && voters.iter().filter(|voter| says(voter, *boot)).count() >= quorum
        };
        named.filter(is_out).collect()
    }

    /// Forgets all suspicions about a boot, and the answers awaited from it.
    pub fn forget(&mut self, boot: Boot) {
        self.others.remove(&boot);
        self.words.retain(|(_, named), _| *named != boot);
    }

    /// Forgets all boots but these, the members of an epoch.
    pub fn keep(&mut self, members: &BTreeSet<Boot>) {
        self.others.retain(|boot, _| members.contains(boot));
        self.words.retain(|(from, boot), _| members.contains(from) && members.contains(boot));
    }
}

impl Contact {
    /// Returns true if this node has to announce, or to repeat, that it does not reach the boot.
    fn is_out(&self, now: Duration) -> bool {
        let patience = if self.is_doubted { JUST_NOW } else { SILENCE };
        match self.said {
            Some(said) => now.saturating_sub(said) >= SILENCE,
            None => self.awaited.is_some_and(|since| now.saturating_sub(since) >= patience),
        }
    }

    fn is_to_be_pinged(&self, now: Duration) -> bool {
        let is_fresh = self.pinged.is_some_and(|at| now.saturating_sub(at) < PING_AGAIN);
        self.said.is_none() && !is_fresh && (self.is_doubted || self.is_late(now))
    }

    fn is_late(&self, now: Duration) -> bool {
        self.awaited.is_some_and(|since| now.saturating_sub(since) >= LATE)
    }
}

/// The time to wait for an answer: longer than the stalls of a busy scheduler, shorter than a
/// caller's patience. Announcements are repeated at the same interval.
const SILENCE: Duration = Duration::from_millis(300);

/// The time for which an answer outweighs the suspicion of another node, and the time to wait for
/// the answer to a ping after such a suspicion.
const JUST_NOW: Duration = Duration::from_millis(150);

/// The time without an answer after which the boot is pinged over every path: one frame can be
/// lost.
const LATE: Duration = Duration::from_millis(100);

/// The interval of these pings.
const PING_AGAIN: Duration = Duration::from_millis(50);

/// The delay of a timer from which on this node blames itself.
const STALL: Duration = Duration::from_millis(100);

/// The time for which a suspicion is valid: a proposer collects those of several nodes.
const VALID: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn silence_counts_while_an_answer_is_awaited() {
        let mut suspicion = Suspicion::default();
        assert!(pass(&mut suspicion, 0..=5_000).is_empty(), "a service at rest");
        suspicion.on_awaited(boot(1), ms(5_000));
        suspicion.on_awaited(boot(1), ms(5_200));
        let words = pass(&mut suspicion, 5_000..=5_700);
        assert_eq!(words, [(5_300, Word::Suspect(boot(1))), (5_600, Word::Suspect(boot(1)))]);
    }

    #[test]
    fn an_answer_takes_a_suspicion_back_once() {
        let mut suspicion = suspecting(1);
        assert_eq!(suspicion.on_answer(boot(1), ms(1_000)), Some(Word::Trust(boot(1))));
        assert_eq!(suspicion.on_answer(boot(1), ms(1_001)), None);
        assert!(!suspicion.suspects(boot(1)));
        assert!(pass(&mut suspicion, 1_000..=3_000).is_empty());
    }

    #[test]
    fn a_process_that_ended_is_suspected_immediately() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.on_refused(boot(1), ms(10)), Some(Word::Suspect(boot(1))));
        assert_eq!(suspicion.on_refused(boot(1), ms(20)), None, "it was said");
        assert!(suspicion.suspects(boot(1)));
    }

    #[test]
    fn a_stall_of_this_node_is_no_evidence() {
        let stalled = |rules| {
            let mut suspicion = Suspicion::default();
            suspicion.tick(ms(0), rules);
            suspicion.on_awaited(boot(1), ms(0));
            let words = suspicion.tick(ms(5_000), rules);
            (suspicion, words)
        };
        let (mut suspicion, words) = stalled(Rules::default());
        assert!(words.is_empty(), "{words:?}");
        assert_eq!(pass(&mut suspicion, 5_000..=5_300), [(5_300, Word::Suspect(boot(1)))]);
        let without = stalled(Rules::without(Rule::S2)).1;
        assert!(without.contains(&Word::Suspect(boot(1))));
    }

    #[test]
    fn a_node_asks_whom_others_do_not_reach() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.on_suspect(boot(2), boot(1), ms(0)), Some(Word::Ping(boot(1))));
        assert_eq!(suspicion.on_suspect(boot(3), boot(1), ms(10)), None, "it is asked already");
        suspicion.on_answer(boot(1), ms(20));
        assert_eq!(suspicion.on_suspect(boot(2), boot(1), ms(169)), None, "it answered just now");
        assert!(suspicion.on_suspect(boot(2), boot(1), ms(170)).is_some());
    }

    #[test]
    fn answers_to_pings_have_a_shorter_deadline() {
        let mut suspicion = Suspicion::default();
        suspicion.on_suspect(boot(2), boot(1), ms(0));
        assert_eq!(pass(&mut suspicion, 0..=150), [(150, Word::Suspect(boot(1)))]);
    }

    #[test]
    fn late_boots_are_pinged_until_suspected() {
        let mut suspicion = Suspicion::default();
        suspicion.tick(ms(0), Rules::default());
        suspicion.on_awaited(boot(1), ms(0));
        let is_pinged = |millis: &u64| {
            let words = suspicion.tick(ms(*millis), Rules::default());
            words.contains(&Word::Ping(boot(1)))
        };
        let pinged: Vec<_> = (50..=700).step_by(50).filter(is_pinged).collect();
        assert_eq!(pinged, [100, 150, 200, 250, 300, 600]);
    }

    #[test]
    fn a_majority_speaks_for_itself() {
        let voters = (0..5).map(boot).collect();
        let mut suspicion = suspecting(4);
        let rules = Rules::default();
        let out = |suspicion: &Suspicion, now| {
            Vec::from_iter(suspicion.out_of_reach(boot(0), &voters, ms(now), rules))
        };
        let one = suspicion.out_of_reach(boot(0), &voters, ms(500), Rules::without(Rule::S1));
        assert_eq!(one, [boot(4)].into(), "without the rule, one word is enough");
        suspicion.on_suspect(boot(1), boot(4), ms(500));
        assert!(out(&suspicion, 500).is_empty(), "two of five");
        suspicion.on_suspect(boot(9), boot(4), ms(500));
        assert!(out(&suspicion, 500).is_empty(), "one of them has no vote");
        suspicion.on_suspect(boot(2), boot(4), ms(900));
        assert_eq!(out(&suspicion, 1_500), [boot(4)]);
        assert!(out(&suspicion, 1_501).is_empty(), "the first word is old");
        suspicion.on_suspect(boot(1), boot(4), ms(1_501));
        assert_eq!(out(&suspicion, 1_501), [boot(4)]);
        suspicion.on_trust(boot(2), boot(4));
        assert!(out(&suspicion, 1_501).is_empty(), "it took its word back");
    }

    #[test]
    fn suspicions_of_former_members_are_forgotten() {
        let mut suspicion = suspecting(1);
        suspicion.on_suspect(boot(2), boot(1), ms(0));
        suspicion.keep(&[boot(0), boot(2)].into());
        assert!(suspicion.others.is_empty() && suspicion.words.is_empty());
    }

    /// An answer of a boot that is 300 ms overdue.
    fn suspecting(n: usize) -> Suspicion {
        let mut suspicion = Suspicion::default();
        suspicion.on_awaited(boot(n), ms(0));
        assert_eq!(pass(&mut suspicion, 0..=300).len(), 1);
        suspicion
    }

    /// Lets time pass in steps of 50 ms, and collects what the node says, and when.
    fn pass(suspicion: &mut Suspicion, ms: std::ops::RangeInclusive<u64>) -> Vec<(u64, Word)> {
        let mut said = Vec::new();
        for millis in ms.step_by(50) {
            let words = suspicion.tick(Duration::from_millis(millis), Rules::default());
            let is_said = |word: &Word| !matches!(word, Word::Ping(_));
            said.extend(words.into_iter().filter(is_said).map(|word| (millis, word)));
        }
        said
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
