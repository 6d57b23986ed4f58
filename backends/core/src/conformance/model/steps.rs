//! The steps of a sequence, and their random generation.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Facts with an idle lifetime of 5 min, an absolute one of 8 h, and a label.
pub(super) const OWN_IDLE_LIFE: &[u8] =
    b"\x01\0\0\0\0\0\0\x04\x93\xe0\0\0\0\0\x01\xb7\x74\0\x01a\x01b";

/// The number of records in a sequence.
pub(super) const SLOTS: usize = 3;

/// A call, or a passage of time.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create { slot: usize, at: Key, facts: &'static [u8], admit: Option<Login> },
    CreateAgain { slot: usize, same: bool },
    Patch(PatchStep),
    RotateAgain { slot: usize },
    Delete { slot: usize, shows: Shows, sees: Option<bool> },
    DeleteAll { who: Who, except: Option<usize>, epoch: Option<u64> },
    Advance { by: Duration },
}

/// A patch, in terms of the model.
#[derive(Clone, Debug)]
pub(super) struct PatchStep {
    pub(super) slot: usize,
    pub(super) shows: Shows,
    /// True if the required sign-in is the current one.
    pub(super) sees: Option<bool>,
    pub(super) clear: bool,
    pub(super) changes: BTreeMap<&'static str, Change>,
    /// A key, and whether the expected value is the current one.
    pub(super) expects: Option<(&'static str, bool)>,
    pub(super) replace: Option<Replace>,
    /// Moves a secret to the newer key: the current secret, or the one before.
    pub(super) rehash: Option<Proved>,
    pub(super) keep_for: Option<Duration>,
    /// True if the required fence is the current one.
    pub(super) owns: Option<bool>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(&'static str),
    Remove,
    Add(i64),
}

/// A client's proof: a secret, hashed by a node with these keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shows {
    pub(super) secret: Proved,
    pub(super) keys: Keys,
}

/// The secret that a client presents.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proved {
    Nothing,
    Current,
    Earlier,
    Wrong,
}

/// A hash key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    Old,
    New,
}

/// The hash keys of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    Old,
    New,
    Both,
}

/// The replacement of the secret, and the key that the new one is hashed under.
#[derive(Clone, Debug)]
pub(super) struct Replace {
    pub(super) at: Key,
    pub(super) by: By,
}

#[derive(Clone, Debug)]
pub(super) enum By {
    Rotation,
    /// An authentication of the record's principal, and the facts it sets.
    Elevation(Option<&'static [u8]>),
    Login(Login),
}

#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) who: Who,
    pub(super) epoch: Option<u64>,
    pub(super) cap: usize,
    /// True if a login at the cap is rejected.
    pub(super) refuses: bool,
    pub(super) facts: Option<&'static [u8]>,
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
    let create = (slot(), at(), facts(), option::of(login()))
        .prop_map(|(slot, at, facts, admit)| Step::Create { slot, at, facts, admit });
    let create_again =
        (slot(), any::<bool>()).prop_map(|(slot, same)| Step::CreateAgain { slot, same });
    let delete = (slot(), shows(proved()), sees()).prop_map(|(slot, shows, sees)| Step::Delete {
        slot,
        shows,
        sees,
    });
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

/// A patch without a rotation.
fn write() -> impl Strategy<Value = Step> {
    let expects = (key(), prop::bool::weighted(0.7));
    let parts = (
        slot(),
        shows(proved()),
        sees(),
        prop::bool::weighted(0.1),
        changes(change()),
        option::weighted(0.3, expects),
        rehash(),
        keep_for(),
        option::weighted(0.1, any::<bool>()),
    );
    parts.prop_map(|(slot, shows, sees, clear, changes, expects, rehash, keep_for, owns)| {
        let replace = None;
        Step::Patch(PatchStep {
            slot,
            shows,
            sees,
            clear,
            changes,
            expects,
            replace,
            rehash,
            keep_for,
            owns,
        })
    })
}

/// A patch with a rotation. It can only fail for its proof, its sign-in and the minimum epoch,
/// because the contract does not say where the minimum epoch comes in the order of the reasons.
fn rotation() -> impl Strategy<Value = Step> {
    let proved = prop_oneof![
        6 => Just(Proved::Current),
        1 => Just(Proved::Earlier),
        1 => Just(Proved::Wrong),
    ];
    let by = prop_oneof![
        2 => Just(By::Rotation),
        1 => option::of(facts()).prop_map(By::Elevation),
        3 => login().prop_map(By::Login),
    ];
    let replace = (at(), by).prop_map(|(at, by)| Some(Replace { at, by }));
    let harmless = prop_oneof![value().prop_map(Change::Put), Just(Change::Remove)];
    let parts = (
        slot(),
        shows(proved),
        sees(),
        any::<bool>(),
        changes(harmless),
        replace,
        rehash(),
        keep_for(),
    );
    parts.prop_map(|(slot, shows, sees, clear, changes, replace, rehash, keep_for)| {
        let (expects, owns) = (None, None);
        Step::Patch(PatchStep {
            slot,
            shows,
            sees,
            clear,
            changes,
            expects,
            replace,
            rehash,
            keep_for,
            owns,
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
    let parts = (who(), epoch(), 1..=SLOTS, prop::bool::weighted(0.3), option::of(facts()));
    parts.prop_map(|(who, epoch, cap, refuses, facts)| Login { who, epoch, cap, refuses, facts })
}

fn shows(secret: impl Strategy<Value = Proved>) -> impl Strategy<Value = Shows> {
    let keys = prop_oneof![6 => Just(Keys::Both), 1 => Just(Keys::Old), 1 => Just(Keys::New)];
    (secret, keys).prop_map(|(secret, keys)| Shows { secret, keys })
}

fn sees() -> impl Strategy<Value = Option<bool>> {
    option::weighted(0.5, prop::bool::weighted(0.7))
}

fn at() -> impl Strategy<Value = Key> {
    prop_oneof![2 => Just(Key::Old), 1 => Just(Key::New)]
}

fn rehash() -> impl Strategy<Value = Option<Proved>> {
    let whose = prop_oneof![4 => Just(Proved::Current), 1 => Just(Proved::Earlier)];
    option::weighted(0.3, whose)
}

fn facts() -> impl Strategy<Value = &'static [u8]> {
    select(vec![b"".as_slice(), b"\0\xff'", OWN_IDLE_LIFE])
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
    select(vec!["a", "b", "~a"])
}

fn value() -> impl Strategy<Value = &'static str> {
    select(vec!["0", "7", "\"\"", "[1, 2]", "9223372036854775807"])
}
