//! Whether all that was published was heard: numbers for what this node has published, and an account
//! of what it hears of others. No I/O happens here.
//!
//! Every script that may publish is given a number of its node, and publishes at most one message. Soon
//! afterwards the node publishes a *beat*: how many messages of the numbers since its last beat there
//! are, and the sum of those numbers. A listener that heard others has missed something.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use steadfast_core::{Change, RecordId, Version};
use tokio::time::Instant;

use crate::codec::{Packed, Unpacked};
use crate::request;

/// Numbers what one node has published.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    last: u64,
    /// What became of the numbers that no beat has told of yet, and since when that is known.
    told: BTreeMap<u64, (Fate, Instant)>,
    /// Up to which number the last beat told.
    upto: u64,
    beat: Option<Beat>,
    /// How often the last beat is published again: it may get lost itself.
    repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its script is under way.
    Open,
    /// It was published, or may have been.
    Published,
    /// It was not published, or nothing listened.
    Unheard,
}

impl Numbers {
    pub(crate) fn begin(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.told.insert(self.last, (Fate::Open, now));
        self.last
    }

    /// Settles a number; `None` if it is not known what became of it.
    pub(crate) fn settle(&mut self, number: u64, was_heard: Option<bool>, now: Instant) {
        let fate = if was_heard == Some(false) { Fate::Unheard } else { Fate::Published };
        self.told.insert(number, (fate, now));
        // Without listeners there are no beats, and nothing is kept.
        while self.told.first_entry().is_some_and(|first| first.get().0 == Fate::Unheard) {
            self.told.pop_first();
        }
    }

    /// Whether there is something to tell, or will be.
    pub(crate) fn is_waiting(&self) -> bool {
        self.repeats > 0 || self.told.values().any(|(fate, _)| *fate != Fate::Unheard)
    }

    /// The next beat, if there is one to be published. What was settled a moment ago waits: the beat
    /// may take another way than the message, and must not overtake it.
    pub(crate) fn beat(&mut self, now: Instant) -> Option<Beat> {
        let mut beat = Beat { from: self.upto, upto: self.upto, count: 0, sum: 0 };
        while let Some(first) = self.told.first_entry() {
            let (fate, since) = *first.get();
            let is_due = match fate {
                Fate::Open => now - since >= GIVEN_UP_AFTER,
                Fate::Published => now - since >= LAG,
                Fate::Unheard => true,
            };
            if !is_due {
                break;
            }
            let (number, _) = first.remove_entry();
            beat.upto = number;
            if fate != Fate::Unheard {
                beat.count += 1;
                beat.sum = beat.sum.wrapping_add(number);
            }
        }
        if beat.count > 0 {
            (self.upto, self.beat, self.repeats) = (beat.upto, Some(beat), REPEATS);
        } else {
            self.repeats = self.repeats.checked_sub(1)?;
        }
        self.beat.filter(|_| self.repeats > 0)
    }
}

/// How many messages of some numbers were published, and the sum of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    from: u64,
    upto: u64,
    count: u64,
    sum: u64,
}

/// What a node has heard of others.
#[derive(Debug, Default)]
pub(crate) struct Ledger(HashMap<u64, Heard>);

#[derive(Debug)]
struct Heard {
    /// Up to which number nothing is missing; `None` before the first beat.
    checked: Option<u64>,
    /// What was heard since.
    numbers: BTreeSet<u64>,
    /// Since when something waits for a beat.
    waiting: Option<Instant>,
    last: Instant,
}

impl Ledger {
    /// Notes a message; `false` if it was heard before.
    pub(crate) fn hear(&mut self, sender: u64, number: u64, now: Instant) -> bool {
        let heard = self.heard(sender, now);
        if heard.checked.is_some_and(|checked| number <= checked) {
            return false;
        }
        heard.waiting.get_or_insert(now);
        heard.numbers.insert(number)
    }

    /// Compares what was heard with what was published; `false` if something is missing.
    pub(crate) fn check(&mut self, sender: u64, beat: Beat, now: Instant) -> bool {
        let heard = self.heard(sender, now);
        if heard.checked.is_some_and(|checked| beat.upto <= checked) {
            return true;
        }
        let later = heard.numbers.split_off(&(beat.upto + 1));
        let told = heard.numbers.iter().filter(|number| **number > beat.from);
        let (count, sum) =
            told.fold((0, 0_u64), |(count, sum), number| (count + 1, sum.wrapping_add(*number)));
        let follows = heard.checked.is_none_or(|checked| beat.from == checked);
        heard.checked = Some(beat.upto);
        heard.waiting = (!later.is_empty()).then_some(now);
        heard.numbers = later;
        follows && (count, sum) == (beat.count, beat.sum)
    }

    /// Whether a sender has fallen silent after a message: others of it may be lost. It is said once.
    pub(crate) fn has_silence(&mut self, now: Instant) -> bool {
        let mut is_silent = false;
        for heard in self.0.values_mut() {
            if heard.waiting.is_some_and(|since| now - since > CONFIRMED_WITHIN) {
                is_silent = true;
                heard.checked = None;
                heard.numbers.clear();
                heard.waiting = None;
            }
        }
        self.0.retain(|_, heard| heard.waiting.is_some() || now - heard.last < FORGOTTEN_AFTER);
        is_silent
    }

    fn heard(&mut self, sender: u64, now: Instant) -> &mut Heard {
        let new = || Heard { checked: None, numbers: BTreeSet::new(), waiting: None, last: now };
        let heard = self.0.entry(sender).or_insert_with(new);
        heard.last = now;
        heard
    }
}

/// A message of the feed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Changes {
        sender: u64,
        number: u64,
        changes: Vec<Change>,
    },
    Beat {
        sender: u64,
        beat: Beat,
    },
    /// What a listener sends itself, over one of the servers.
    Echo {
        sender: u64,
        server: u64,
    },
}

impl Message {
    /// Takes a message apart; `None` for one of a later version of this crate.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut from = Unpacked(bytes);
        let (sender, number) = (from.u64()?, from.u64()?);
        let message = match from.0.first()? {
            b'b' => {
                from.u8()?;
                let mut next = || from.u64();
                let beat = Beat { from: next()?, upto: next()?, count: next()?, sum: next()? };
                Self::Beat { sender, beat }
            }
            b'l' => {
                from.u8()?;
                Self::Echo { sender, server: number }
            }
            _ => {
                let mut changes = Vec::new();
                while !from.0.is_empty() {
                    changes.push(change(&mut from)?);
                }
                Self::Changes { sender, number, changes }
            }
        };
        from.0.is_empty().then_some(message)
    }

    pub(crate) fn beat(sender: u64, beat: Beat) -> Vec<u8> {
        let mut packed = Packed::default();
        packed.u64(sender).u64(0).u8(b'b');
        packed.u64(beat.from).u64(beat.upto).u64(beat.count).u64(beat.sum);
        packed.0
    }

    pub(crate) fn echo(sender: u64, server: u64) -> Vec<u8> {
        let mut packed = Packed::default();
        packed.u64(sender).u64(server).u8(b'l');
        packed.0
    }
}

/// `p` or `s`, an id and a version, or `e`, an id and a reason.
fn change(from: &mut Unpacked<'_>) -> Option<Change> {
    let kind = from.u8()?;
    let id: RecordId = std::str::from_utf8(from.bytes(32)?).ok()?.parse().ok()?;
    match kind {
        b'p' => Some(Change::Patched(id, Version(from.u64()?))),
        b's' => Some(Change::SignedIn(id, Version(from.u64()?))),
        b'e' => Some(Change::Ended(id, request::reason(from.u8()?)?)),
        _ => None,
    }
}

/// How long after a message its beat comes at the earliest.
const LAG: Duration = Duration::from_millis(200);

/// How long a script may be under way before its message counts as published.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

/// How long after a message a beat has to tell of it. A script that is under way holds up the beats of
/// its node.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(8);

/// How often a beat is published when nothing new follows it, the first time included.
const REPEATS: u32 = 4;

/// How long a sender that says nothing is remembered.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use steadfast_core::EndReason;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_message_is_missing_at_the_next_beat() {
        for lost in 1..=3 {
            let (mut numbers, mut ledger) = (Numbers::default(), Ledger::default());
            for _ in 0..3 {
                let number = publish(&mut numbers);
                assert!(number == lost || ledger.hear(1, number, Instant::now()));
            }
            tokio::time::advance(LAG).await;
            let beat = numbers.beat(Instant::now()).unwrap();
            assert!(!ledger.check(1, beat, Instant::now()), "{lost} is missing");
            assert!(ledger.check(1, beat, Instant::now()), "and said once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_published_is_not_missed() {
        let (mut numbers, mut ledger) = (Numbers::default(), Ledger::default());
        for n in 0..100 {
            let number = numbers.begin(Instant::now());
            let is_published = n % 3 == 0;
            numbers.settle(number, Some(is_published), Instant::now());
            if is_published {
                assert!(ledger.hear(1, number, Instant::now()));
                assert!(!ledger.hear(1, number, Instant::now()), "it came by two ways");
            }
            tokio::time::advance(LAG / 2).await;
            if let Some(beat) = numbers.beat(Instant::now()) {
                assert!(ledger.check(1, beat, Instant::now()), "{n}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_beat_is_a_gap_unless_it_is_repeated() {
        let (mut numbers, mut ledger) = (Numbers::default(), Ledger::default());
        let mut next = async |ledger: &mut Ledger| {
            let number = publish(&mut numbers);
            ledger.hear(1, number, Instant::now());
            tokio::time::advance(LAG).await;
            (numbers.beat(Instant::now()).unwrap(), numbers.beat(Instant::now()).unwrap())
        };
        let (first, _) = next(&mut ledger).await;
        assert!(ledger.check(1, first, Instant::now()));
        let (_, repeated) = next(&mut ledger).await;
        assert!(ledger.check(1, repeated, Instant::now()));
        let _lost = next(&mut ledger).await;
        let (last, _) = next(&mut ledger).await;
        assert!(!ledger.check(1, last, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_counts_as_published() {
        let (mut numbers, mut ledger) = (Numbers::default(), Ledger::default());
        let number = numbers.begin(Instant::now());
        numbers.settle(number, None, Instant::now());
        tokio::time::advance(LAG).await;
        let beat = numbers.beat(Instant::now()).unwrap();
        assert!(!ledger.check(1, beat, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_falls_silent_is_noticed_once() {
        let mut ledger = Ledger::default();
        ledger.hear(1, 7, Instant::now());
        assert!(!ledger.has_silence(Instant::now()));
        tokio::time::advance(CONFIRMED_WITHIN + LAG).await;
        assert!(ledger.has_silence(Instant::now()));
        assert!(!ledger.has_silence(Instant::now()));
        tokio::time::advance(FORGOTTEN_AFTER).await;
        ledger.has_silence(Instant::now());
        assert!(ledger.0.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_listener_there_are_no_beats_and_nothing_is_kept() {
        let mut numbers = Numbers::default();
        for _ in 0..1_000 {
            let number = numbers.begin(Instant::now());
            numbers.settle(number, Some(false), Instant::now());
        }
        assert!(numbers.told.is_empty() && !numbers.is_waiting());
        assert_eq!(numbers.beat(Instant::now()), None);
    }

    #[test]
    fn a_message_says_what_changed() {
        let id = RecordId::from_bytes([0xab; 16]);
        let text = |kind: &str| [kind.as_bytes(), "ab".repeat(16).as_bytes()].concat();
        let head = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        let version = 12_u64.to_be_bytes();
        let all =
            [&head, &text("s")[..], &version, &text("p"), &version, &text("e"), b"c"].concat();
        let changes = vec![
            Change::SignedIn(id, Version(12)),
            Change::Patched(id, Version(12)),
            Change::Ended(id, EndReason::Cap),
        ];
        assert_eq!(Message::of(&all), Some(Message::Changes { sender: 1, number: 2, changes }));
        let beat = Beat { from: 1, upto: 2, count: 3, sum: 4 };
        assert_eq!(Message::of(&Message::beat(9, beat)), Some(Message::Beat { sender: 9, beat }));
        let echo = Message::Echo { sender: 9, server: 3 };
        assert_eq!(Message::of(&Message::echo(9, 3)), Some(echo));
        for length in 0..all.len() {
            let cut = Message::of(&all[..length]);
            assert!(length == 16 + 41 || length == 16 + 82 || cut.is_none(), "{length}: {cut:?}");
        }
    }

    fn publish(numbers: &mut Numbers) -> u64 {
        let number = numbers.begin(Instant::now());
        numbers.settle(number, Some(true), Instant::now());
        number
    }
}
