//! The steps of a sequence, and how they are drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// How many records a sequence plays with.
pub(super) const SLOTS: usize = 3;

/// One call, or a while that passes.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create { slot: usize, admit: Option<Login> },
    CreateAgain { slot: usize, same: bool },
    Patch(PatchStep),
    RotateAgain { slot: usize },
    Delete { slot: usize, proved: Proved },
    DeleteAll { who: Who, except: Option<usize>, epoch: Option<u64> },
    Advance { by: Duration },
}

/// A patch, in the words of the model.
#[derive(Clone, Debug)]
pub(super) struct PatchStep {
    pub(super) slot: usize,
    pub(super) proved: Proved,
    pub(super) clear: bool,
    pub(super) changes: BTreeMap<&'static str, Change>,
    /// A key, and whether the value that is expected is the right one.
    pub(super) expects: Option<(&'static str, bool)>,
    pub(super) replace: Option<Replace>,
    pub(super) keep_for: Option<Duration>,
    /// Whether the fence that is expected is the right one.
    pub(super) owns: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(&'static str),
    Remove,
    Add(i64),
}

/// The secret that a client shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proved {
    Nothing,
    Current,
    Earlier,
    Wrong,
}

#[derive(Clone, Debug)]
pub(super) enum Replace {
    Secret,
    Login(Login),
}

#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) who: Who,
    pub(super) epoch: Option<u64>,
    pub(super) cap: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Alice,
    Bob,
}

impl Who {
    pub(super) const ALL: [Self; 2] = [Self::Alice, Self::Bob];
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let create =
        (slot(), option::of(login())).prop_map(|(slot, admit)| Step::Create { slot, admit });
    let create_again =
        (slot(), any::<bool>()).prop_map(|(slot, same)| Step::CreateAgain { slot, same });
    let delete = (slot(), proved()).prop_map(|(slot, proved)| Step::Delete { slot, proved });
    let delete_all = (who(), option::of(slot()), epoch())
        .prop_map(|(who, except, epoch)| Step::DeleteAll { who, except, epoch });
    let by = select(vec![1, 30, 59, 60, 600, 1_799]).prop_map(Duration::from_secs);
    prop_oneof![
        6 => create,
        1 => create_again,
        8 => write(),
        6 => rotation(),
        1 => slot().prop_map(|slot| Step::RotateAgain { slot }),
        2 => delete,
        1 => delete_all,
        3 => by.prop_map(|by| Step::Advance { by }),
    ]
}

/// A patch that replaces no secret.
fn write() -> impl Strategy<Value = Step> {
    let expects = (key(), prop::bool::weighted(0.7));
    let parts = (
        slot(),
        proved(),
        prop::bool::weighted(0.1),
        changes(change()),
        option::weighted(0.3, expects),
        keep_for(),
        option::weighted(0.1, any::<bool>()),
    );
    parts.prop_map(|(slot, proved, clear, changes, expects, keep_for, owns)| {
        Step::Patch(PatchStep {
            slot,
            proved,
            clear,
            changes,
            expects,
            replace: None,
            keep_for,
            owns,
        })
    })
}

/// A patch that replaces the secret. It cannot fail for another reason than its proof and the
/// floor, since nothing says which of two reasons comes first.
fn rotation() -> impl Strategy<Value = Step> {
    let proved = prop_oneof![
        6 => Just(Proved::Current),
        1 => Just(Proved::Earlier),
        1 => Just(Proved::Wrong),
    ];
    let replace = prop_oneof![Just(Replace::Secret), login().prop_map(Replace::Login)];
    let harmless = prop_oneof![value().prop_map(Change::Put), Just(Change::Remove)];
    let parts = (slot(), proved, any::<bool>(), changes(harmless), replace, keep_for());
    parts.prop_map(|(slot, proved, clear, changes, replace, keep_for)| {
        Step::Patch(PatchStep {
            slot,
            proved,
            clear,
            changes,
            expects: None,
            replace: Some(replace),
            keep_for,
            owns: None,
        })
    })
}

fn changes(
    change: impl Strategy<Value = Change>,
) -> impl Strategy<Value = BTreeMap<&'static str, Change>> {
    prop::collection::btree_map(key(), change, 0..3)
}

fn change() -> impl Strategy<Value = Change> {
    let by = prop_oneof![4 => -3..=3_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    prop_oneof![
        2 => value().prop_map(Change::Put),
        1 => Just(Change::Remove),
        2 => by.prop_map(Change::Add),
    ]
}

fn login() -> impl Strategy<Value = Login> {
    (who(), epoch(), 1..=SLOTS).prop_map(|(who, epoch, cap)| Login { who, epoch, cap })
}

fn proved() -> impl Strategy<Value = Proved> {
    prop_oneof![
        4 => Just(Proved::Nothing),
        4 => Just(Proved::Current),
        1 => Just(Proved::Earlier),
        1 => Just(Proved::Wrong),
    ]
}

fn keep_for() -> impl Strategy<Value = Option<Duration>> {
    let for_minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    option::weighted(0.4, (1..600_u64).prop_map(for_minutes))
}

fn slot() -> impl Strategy<Value = usize> {
    0..SLOTS
}

fn who() -> impl Strategy<Value = Who> {
    select(Who::ALL.to_vec())
}

fn epoch() -> impl Strategy<Value = Option<u64>> {
    option::of(0..3_u64)
}

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn value() -> impl Strategy<Value = &'static str> {
    select(vec!["0", "7", "\"\"", "[1, 2]", "9223372036854775807"])
}
