//! Messages of a bounded length: short ones of a step travel together, and long lists in parts.

use std::collections::BTreeMap;

use steadfast_core::RecordId;

use crate::member::Boot;
use crate::message::{Message, Write};
use crate::record::{Held, Kept, List, Revision};

/// The frames that a node sends in a step, and the parts of lists that have arrived so far.
#[derive(Debug, Default)]
pub struct Frames {
    bundles: BTreeMap<Boot, Bundle>,
    /// Parts of lists, by sender, record and write. The streams are in order, so that the rest of a
    /// list follows its parts.
    parts: BTreeMap<(Boot, RecordId, Revision), List>,
}

/// The messages of a step to one boot.
#[derive(Debug, Default)]
struct Bundle {
    messages: Vec<Message>,
    size: usize,
}

impl Frames {
    /// Adds a message to what goes to a boot in this step; what is to be sent before it.
    pub fn add(&mut self, to: Boot, mut message: Message) -> Vec<Message> {
        let mut full = Vec::new();
        for part in take_parts(&mut message).into_iter().chain([message]) {
            let (bundle, size) = (self.bundles.entry(to).or_default(), part.size());
            if bundle.messages.len() == BUNDLED || bundle.size + size > BYTES {
                full.extend(std::mem::take(bundle).into_message());
            }
            bundle.size += size;
            bundle.messages.push(part);
        }
        full
    }

    /// Returns the messages to each boot at the end of a step.
    pub fn take(&mut self) -> Vec<(Boot, Message)> {
        let bundles = std::mem::take(&mut self.bundles).into_iter();
        bundles.filter_map(|(to, bundle)| Some((to, bundle.into_message()?))).collect()
    }

    /// The messages in one that arrived, in order. Parts of lists wait for the message that has the rest.
    pub fn open(&mut self, from: Boot, message: Message) -> Vec<Message> {
        let messages = match message {
            Message::Bundle(messages) => messages,
            message => vec![message],
        };
        messages.into_iter().filter_map(|message| self.join(from, message)).collect()
    }

    fn join(&mut self, from: Boot, mut message: Message) -> Option<Message> {
        if let Message::Part { id, revision, list } = message {
            match self.parts.get_mut(&(from, id, revision)) {
                Some(parts) => parts.join(&list),
                None => drop(self.parts.insert((from, id, revision), list)),
            }
            return None;
        }
        for (id, revision, list) in lists(&mut message) {
            if let Some(parts) = self.parts.remove(&(from, id, revision)) {
                list.join(&parts);
            }
        }
        Some(message)
    }

    /// Another epoch: what was on its way does not arrive.
    pub fn on_epoch(&mut self) {
        *self = Self::default();
    }
}

impl Bundle {
    fn into_message(mut self) -> Option<Message> {
        match self.messages.len() {
            0 | 1 => self.messages.pop(),
            _ => Some(Message::Bundle(self.messages)),
        }
    }
}

/// Removes the part of a message's lists that exceeds one message.
fn take_parts(message: &mut Message) -> Vec<Message> {
    let part = |id, revision, list| Message::Part { id, revision, list };
    let lists = lists(message).into_iter();
    lists
        .flat_map(|(id, revision, list)| {
            list.take_parts().into_iter().map(move |list| part(id, revision, list))
        })
        .collect()
}

/// The lists of a message that are in it whole.
fn lists(message: &mut Message) -> Vec<(RecordId, Revision, &mut List)> {
    match message {
        Message::Replicate { id, revision, write, .. } => match &mut **write {
            Write::Whole(Kept::List(list)) => vec![(*id, *revision, list)],
            _ => Vec::new(),
        },
        Message::Records { records, .. }
        | Message::Merge { records, .. }
        | Message::Names { lists: records, .. } => {
            records.iter_mut().flat_map(|(id, held)| lists_of(*id, held)).collect()
        }
        _ => Vec::new(),
    }
}

fn lists_of(
    id: RecordId,
    held: &mut Held,
) -> impl Iterator<Item = (RecordId, Revision, &mut List)> {
    let Held { confirmed, tentative, .. } = held;
    let entries = confirmed.iter_mut().chain(tentative.as_deref_mut());
    entries.filter_map(move |entry| match &mut entry.kept {
        Kept::List(list) => Some((id, entry.revision, list)),
        _ => None,
    })
}

/// The highest number of messages in a bundle.
pub const BUNDLED: usize = 512;

/// The size from which on messages travel apart.
const BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use steadfast_core::{Principal, Realm, Timestamp};

    use super::*;
    use crate::epoch::tests::boot;
    use crate::record::{Entry, ListEntry, Stamp};
    use crate::slots::Slot;

    #[test]
    fn messages_of_a_step_travel_together() {
        let mut frames = Frames::default();
        for number in 0..3 {
            assert!(frames.add(boot(1), Message::Open(number)).is_empty());
        }
        frames.add(boot(2), Message::Open(9));
        let sent = frames.take();
        let [(_, bundle), (_, Message::Open(9))] = &sent[..] else { panic!("{sent:?}") };
        let open = |message| match message {
            Message::Open(number) => number,
            message => panic!("{message:?}"),
        };
        let opened = frames.open(boot(0), bundle.clone());
        assert_eq!(opened.into_iter().map(open).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(frames.take().is_empty());
    }

    #[test]
    fn a_bundle_is_bounded() {
        let mut frames = Frames::default();
        let full = (0..2_000).flat_map(|number| frames.add(boot(1), Message::Open(number)));
        let lengths: Vec<_> = full
            .map(|message| match message {
                Message::Bundle(messages) => (messages.len(), message_size(&messages)),
                message => panic!("{message:?}"),
            })
            .collect();
        assert!(!lengths.is_empty());
        assert!(lengths.iter().all(|(len, size)| *len <= BUNDLED && *size <= BYTES), "{lengths:?}");
    }

    #[test]
    fn a_long_list_travels_in_parts() {
        let mut frames = Frames::default();
        let (list, revision) = (list(10_000), Revision { epoch: 5, number: 1 });
        let entry =
            |list: &List| Entry { revision, kept: Kept::List(list.clone()), done: Vec::new() };
        let held = Held { confirmed: Some(entry(&list)), tentative: None, told_in: 5 };
        let records = vec![(id(0), held.clone())];
        let message = Message::Records { slot: Slot::at(1), records, is_last: true };
        let mut sent = frames.add(boot(1), message);
        sent.extend(frames.take().into_iter().map(|(_, message)| message));
        assert!(sent.len() >= 10, "{}", sent.len());
        assert!(sent.iter().all(|message| message.size() <= 2 * BYTES));
        let arrived: Vec<_> = sent.into_iter().flat_map(|m| frames.open(boot(0), m)).collect();
        let [Message::Records { records, .. }] = &arrived[..] else { panic!("{arrived:?}") };
        assert_eq!(records[..], [(id(0), held)]);
        assert!(frames.parts.is_empty());
    }

    fn message_size(messages: &[Message]) -> usize {
        messages.iter().map(Message::size).sum()
    }

    fn list(sessions: u64) -> List {
        let principal = Principal::new(Realm::default(), "alice").unwrap();
        let (authenticated, until) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let entry = ListEntry { authenticated, until, is_settled: true };
        let entries = (0..sessions).map(|n| (id(n), entry)).collect();
        List::of(principal, Stamp::ZERO, None, (entries, Vec::new()))
    }

    fn id(n: u64) -> RecordId {
        let spread = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        RecordId::from_bytes((spread << 64).to_be_bytes())
    }
}
