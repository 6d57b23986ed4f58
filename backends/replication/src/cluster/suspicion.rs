//! The members that this node does not reach, and those that the voters do not reach.

use std::collections::{BTreeMap, BTreeSet};
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
    /// When this node last looked.
    looked: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Contact {
    /// When its engine last answered.
    answered: Option<Duration>,
    /// Since when an answer is awaited.
    awaited: Option<Duration>,
    /// When this node last said that it does not reach it, as long as it does not.
    said: Option<Duration>,
}

/// What others are to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Word {
    /// To all voters: this node does not reach the boot.
    Suspect(Boot),
    /// To all voters: it does again.
    Trust(Boot),
    /// To the boot, over every path: an answer is awaited.
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
        *contact = Contact { answered: Some(now), awaited: None, said: None };
        was_suspected.then_some(Word::Trust(boot))
    }

    /// Notes that a boot closed its connection and refuses another one: its process ended.
    pub fn on_refused(&mut self, boot: Boot, now: Duration) -> Option<Word> {
        let contact = self.others.entry(boot).or_default();
        contact.awaited.get_or_insert(now);
        let is_new = contact.said.replace(now).is_none();
        is_new.then_some(Word::Suspect(boot))
    }

    /// Notes that another node does not reach a boot; asks that boot, unless it answered just now.
    pub fn on_suspect(&mut self, from: Boot, boot: Boot, now: Duration) -> Option<Word> {
        self.words.insert((from, boot), now);
        let contact = self.others.entry(boot).or_default();
        let is_near = |answered: Duration| now.saturating_sub(answered) < JUST_NOW;
        if contact.answered.is_some_and(is_near) || contact.awaited.is_some() {
            return None;
        }
        contact.awaited = Some(now);
        Some(Word::Ping(boot))
    }

    /// Notes that another node reaches a boot again.
    pub fn on_trust(&mut self, from: Boot, boot: Boot) {
        self.words.remove(&(from, boot));
    }

    /// Looks for answers that did not come, and repeats what was said. To be called every 50 ms or so,
    /// after all frames that wait were handled.
    pub fn tick(&mut self, now: Duration, rules: Rules) -> Vec<Word> {
        let stood_still = now.saturating_sub(std::mem::replace(&mut self.looked, now)) > STALL;
        let mut words = Vec::new();
        for (boot, contact) in &mut self.others {
            // The silence of others while this node did not run is its own.
            if stood_still && contact.said.is_none() && rules.keep(Rule::S2) {
                contact.awaited = contact.awaited.map(|_| now);
            }
            let is_over = |since: Duration| now.saturating_sub(since) >= SILENCE;
            let is_silent = contact.said.is_none() && contact.awaited.is_some_and(is_over);
            if is_silent || contact.said.is_some_and(is_over) {
                contact.said = Some(now);
                words.push(Word::Suspect(*boot));
            }
        }
        words
    }

    /// Whether this node does not reach a boot.
    pub fn suspects(&self, boot: Boot) -> bool {
        self.others.get(&boot).is_some_and(|contact| contact.said.is_some())
    }

    /// The boots that a majority of the voters does not reach, by the own word of each, this node's
    /// included.
    pub fn out_of_reach(&self, me: Boot, voters: &BTreeSet<Boot>, now: Duration) -> Vec<Boot> {
        let quorum = voters.len() / 2 + 1;
        let is_valid = |at: &Duration| now.saturating_sub(*at) <= VALID;
        let says = |voter: &Boot, boot: Boot| match *voter == me {
            true => self.suspects(boot),
            false => self.words.get(&(*voter, boot)).is_some_and(is_valid),
        };
        let named = self.words.keys().map(|(_, boot)| *boot).chain(self.others.keys().copied());
        let is_out = |boot: &Boot| {
            *boot != me && voters.iter().filter(|voter| says(voter, *boot)).count() >= quorum
        };
        named.collect::<BTreeSet<_>>().into_iter().filter(is_out).collect()
    }

    /// Forgets all boots but these, the members of an epoch.
    pub fn keep(&mut self, members: &BTreeSet<Boot>) {
        self.others.retain(|boot, _| members.contains(boot));
        self.words.retain(|(from, boot), _| members.contains(from) && members.contains(boot));
    }
}

/// How long an answer is awaited: longer than the stalls of a busy scheduler, shorter than a caller's
/// patience. What was said is repeated as often.
const SILENCE: Duration = Duration::from_millis(300);

/// How long an answer is evidence against the word of another node.
const JUST_NOW: Duration = Duration::from_millis(150);

/// How long this node may be late before it blames itself.
const STALL: Duration = Duration::from_millis(100);

/// How long the word of a node is valid: a proposer collects those of several.
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
        assert!(words.is_empty());
        assert_eq!(pass(&mut suspicion, 5_000..=5_300), [(5_300, Word::Suspect(boot(1)))]);
        assert!(!stalled(Rules::without(Rule::S2)).1.is_empty());
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
    fn a_majority_speaks_for_itself() {
        let voters = (0..5).map(boot).collect();
        let mut suspicion = suspecting(4);
        let out = |suspicion: &Suspicion, now| suspicion.out_of_reach(boot(0), &voters, ms(now));
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
    fn what_was_said_of_former_members_is_forgotten() {
        let mut suspicion = suspecting(1);
        suspicion.on_suspect(boot(2), boot(1), ms(0));
        suspicion.keep(&[boot(0), boot(2)].into());
        assert!(suspicion.others.is_empty() && suspicion.words.is_empty());
    }

    /// Of a boot, since 300 ms.
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
            said.extend(words.into_iter().map(|word| (millis, word)));
        }
        said
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
