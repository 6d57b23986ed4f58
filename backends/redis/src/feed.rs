//! Gap detection for the feed: numbers for the messages of this node, and an account of received
//! numbers. This module does no I/O.
//!
//! Each script that may publish gets a number of its node and publishes at most one message. Soon
//! afterwards the node publishes a *beat*: the count of messages published under the numbers since
//! the last beat, and the sum of those numbers. A listener whose count or sum differs has missed a
//! message.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use steadfast_core::{Change, RecordId, Version};
use tokio::time::Instant;

use crate::codec::{Packed, Unpacked};
use crate::request;

/// Numbers the messages of one node.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    last: u64,
    /// The fate of numbers that no beat has covered yet, and the time at which it became known.
    told: BTreeMap<u64, (Fate, Instant)>,
    /// The last number that a beat has covered.
    upto: u64,
    beat: Option<Beat>,
    /// The remaining repetitions of the last beat, which may get lost itself.
    repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The script is in progress.
    Open,
    /// The message was or may have been published.
    Published,
    /// No message was published, or it had no receiver.
    Unheard,
}

impl Numbers {
    pub(crate) fn begin(&mut self, now: Instant) -> u64 {
        self.last += 1;
        self.told.insert(self.last, (Fate::Open, now));
        self.last
    }

    /// Settles the fate of a number; `None` if it is not known.
    pub(crate) fn settle(&mut self, number: u64, was_heard: Option<bool>, now: Instant) {
        let fate = if was_heard == Some(false) { Fate::Unheard } else { Fate::Published };
        self.told.insert(number, (fate, now));
        // Without listeners there are no beats, and nothing needs to be kept.
        while self.told.first_entry().is_some_and(|first| first.get().0 == Fate::Unheard) {
            self.told.pop_first();
        }
    }

    /// Returns true if a beat is or will be due.
    pub(crate) fn is_waiting(&self) -> bool {
        self.repeats > 0 || self.told.values().any(|(fate, _)| *fate != Fate::Unheard)
    }

    /// Returns the next beat, if one is due. A recently settled number must wait: a beat may travel
    /// on another connection than its message, and must not overtake it.
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

/// The count of published messages within a range of numbers, and the sum of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    from: u64,
    upto: u64,
    count: u64,
    sum: u64,
}

/// The messages received from other nodes.
#[derive(Debug, Default)]
pub(crate) struct Ledger(HashMap<u64, Heard>);

#[derive(Debug)]
struct Heard {
    /// The number up to which nothing is missing; `None` before the first beat.
    checked: Option<u64>,
    /// The numbers received since.
    numbers: BTreeSet<u64>,
    /// The time since which a message waits for a beat.
    waiting: Option<Instant>,
    last: Instant,
}

impl Ledger {
    /// Records a message. Returns `false` for a duplicate.
    pub(crate) fn hear(&mut self, sender: u64, number: u64, now: Instant) -> bool {
        let heard = self.heard(sender, now);
        if heard.checked.is_some_and(|checked| number <= checked) {
            return false;
        }
        heard.waiting.get_or_insert(now);
        heard.numbers.insert(number)
    }

    /// Compares received and published messages. Returns `false` if one is missing.
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

    /// Returns true, once per silence, if a sender stopped after a message without sending a beat.
    /// Its other messages may be lost.
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
    /// A message that a listener sends to itself through one of the servers.
    Echo {
        sender: u64,
        server: u64,
    },
}

impl Message {
    /// Parses a message. Returns `None` for one of a later release.
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

/// Parses `p` or `s` with an id and a version, or `e` with an id and a reason.
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

/// The delay from a message to its beat.
const LAG: Duration = Duration::from_millis(200);

/// The time after which the message of an unfinished script counts as published.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

/// The time within which a beat must cover a message. A script in progress delays the beats of its
/// node.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(8);

/// The number of times that the last beat is published, if nothing follows it.
const REPEATS: u32 = 4;

/// The time after which a silent sender is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use steadfast_core::EndReason;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_beat_reveals_a_lost_message() {
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
    async fn a_lost_beat_is_a_gap_unless_repeated() {
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
    async fn nothing_is_sent_or_kept_without_a_listener() {
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
