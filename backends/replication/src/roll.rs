//! The roll call, which rebuilds the lists of principals after a loss: every owner names its
//! sessions (Q2).
//!
//! The owner of a list that was given up may have an old copy of it, or none. It asks the owners of
//! all slots, and each answers once it has everything of its own slots. The list hears of later
//! begins and ends of sessions in the same stream.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_core::{Record, RecordId};

use crate::context::Context;
use crate::member::Boot;
use crate::message::Message;
use crate::record::{Entry, Held, Kept, List, ListEntry};
use crate::slots::{SLOTS, Slot, SlotSet};

/// The slots whose lists this node rebuilds, and what others ask it for.
#[derive(Debug, Default)]
pub struct RollCall {
    /// Slots of which owners are asked together with others.
    lost: SlotSet,
    waiting: SlotSet,
    /// The slots whose owners have not named all sessions.
    owed: BTreeMap<Boot, SlotSet>,
    names: BTreeMap<RecordId, List>,
    asks: Vec<Ask>,
}

/// The sessions that another owner wants named.
#[derive(Debug)]
struct Ask {
    from: Boot,
    /// The slots of their principals' lists.
    lists: SlotSet,
    /// The slot of sessions that is looked through next.
    next: usize,
}

impl RollCall {
    /// The lists in these slots are to be rebuilt.
    pub fn note_lost(&mut self, lists: &SlotSet) {
        self.lost.insert_all(lists);
    }

    /// Asks all owners for the sessions of principals whose lists were lost. To be called once this node has
    /// everything of its own slots, so that each owner is asked once.
    pub fn call(&mut self, cx: &mut Context<'_>) {
        let lists = &std::mem::take(&mut self.lost);
        if lists.is_empty() {
            return;
        }
        self.waiting.insert_all(lists);
        let owners: BTreeSet<_> = Slot::all().filter_map(|slot| cx.view.owner(slot)).collect();
        for owner in owners {
            self.owed.entry(owner).or_default().insert_all(lists);
            match owner == cx.view.me {
                true => self.on_ask(owner, lists.clone()),
                false => cx.out.send(owner, Message::AskNames(lists.clone())),
            }
        }
    }

    /// An owner rebuilds lists.
    pub fn on_ask(&mut self, from: Boot, lists: SlotSet) {
        self.asks.push(Ask { from, lists, next: 0 });
    }

    /// Names some more of the sessions that are asked for. To be called once this node has everything of its
    /// own slots.
    pub fn answer(&mut self, cx: &mut Context<'_>) {
        for mut ask in std::mem::take(&mut self.asks) {
            let lists = ask.look(cx);
            let is_last = ask.next >= SLOTS;
            match ask.from == cx.view.me {
                true => self.on_names(ask.from, &ask.lists, lists, is_last),
                false => ask.send(&lists, is_last, cx),
            }
            if !is_last {
                self.asks.push(ask);
            }
        }
    }

    /// An owner named sessions.
    pub fn on_names(
        &mut self,
        from: Boot,
        slots: &SlotSet,
        lists: Vec<(RecordId, Held)>,
        is_last: bool,
    ) {
        for (id, held) in lists {
            let Some(Kept::List(named)) = held.confirmed.map(|entry| entry.kept) else {
                continue;
            };
            let list = self.names.entry(id).or_insert_with(|| List::new(named.principal.clone()));
            *list = list.merged(&named, named.stamp).unwrap_or_else(|| list.clone());
        }
        if is_last && let Some(owed) = self.owed.get_mut(&from) {
            owed.remove_all(slots);
        }
    }

    /// Returns the number of slots that wait for names.
    pub fn len(&self) -> usize {
        self.lost.len() + self.waiting.len()
    }

    /// Returns true if no slot waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slots of which all sessions are named: their lists are put in place, to be written again.
    pub fn take_rebuilt(&mut self, cx: &mut Context<'_>) -> Vec<Slot> {
        let is_owed = |slot: &Slot| self.owed.values().any(|owed| owed.contains(*slot));
        let rebuilt: SlotSet = self.waiting.iter().filter(|slot| !is_owed(slot)).collect();
        if rebuilt.is_empty() {
            return Vec::new();
        }
        self.waiting.remove_all(&rebuilt);
        let is_rebuilt = |id: &RecordId| rebuilt.contains(cx.replicas.slot_of(*id));
        let named: Vec<_> = self.names.keys().copied().filter(is_rebuilt).collect();
        for id in named {
            if let Some(list) = self.names.remove(&id) {
                rebuild(id, &list, cx);
            }
        }
        rebuilt.iter().collect()
    }
}

/// Replaces the sessions of a list by those that were named. The rest of its memory stays.
fn rebuild(id: RecordId, named: &List, cx: &mut Context<'_>) {
    let latest = cx.replicas.get(id).and_then(Held::latest);
    let (revision, done) = latest.map(|e| (e.revision, e.done.clone())).unwrap_or_default();
    let before = latest.and_then(|entry| entry.kept.list());
    let stamp = before.map(|list| list.stamp).unwrap_or_default();
    let stamp = stamp.followed_by(cx.view.me, cx.now.wall);
    let kept = Kept::List(named.with_memory_of(before, stamp));
    cx.replicas.stage(id, Entry { revision, kept, done }, cx.view.number());
}

impl Ask {
    /// Looks through some more of this node's slots; what it finds, as parts of lists.
    fn look(&mut self, cx: &Context<'_>) -> Vec<(RecordId, Held)> {
        let mut lists = BTreeMap::<RecordId, List>::new();
        let end = (self.next + LOOKED).min(SLOTS);
        for slot in (self.next..end).map(Slot::at).filter(|slot| cx.view.owns(*slot)) {
            let records = cx.replicas.of(slot);
            let live = records.filter_map(|(id, held)| Some((id, held.latest()?.kept.record()?)));
            for (id, record) in live.filter(|(_, record)| !record.is_expired(cx.now.wall)) {
                self.note(id, record, &mut lists, cx);
            }
        }
        self.next = end;
        lists.into_iter().map(|(id, list)| (id, held(list))).collect()
    }

    fn note(
        &self,
        session: RecordId,
        record: &Record,
        lists: &mut BTreeMap<RecordId, List>,
        cx: &Context<'_>,
    ) {
        let Some(principal) = &record.principal else {
            return;
        };
        let id = cx.replicas.key().list_of(principal);
        if self.lists.contains(cx.slot_of(id)) {
            let list = lists.entry(id).or_insert_with(|| List::new(principal.clone()));
            list.insert(session, ListEntry::of(record));
        }
    }

    /// Sends parts of lists, in messages with up to the given number of them.
    fn send(&self, lists: &[(RecordId, Held)], is_last: bool, cx: &mut Context<'_>) {
        let last = lists.chunks(NAMED).count().max(1) - 1;
        let parts: Vec<_> = match lists.is_empty() {
            true => vec![Vec::new()],
            false => lists.chunks(NAMED).map(<[_]>::to_vec).collect(),
        };
        for (n, lists) in parts.into_iter().enumerate() {
            let is_last = is_last && n == last;
            let slots = self.lists.clone();
            cx.out.send(self.from, Message::Names { slots, lists, is_last });
        }
    }
}

fn held(list: List) -> Held {
    let (revision, done) = Default::default();
    let entry = Entry { revision, kept: Kept::List(list), done };
    Held { confirmed: Some(entry), ..Held::default() }
}

/// The number of slots that are searched at a time.
const LOOKED: usize = 256;

/// The highest number of parts of lists in a message.
const NAMED: usize = 512;
