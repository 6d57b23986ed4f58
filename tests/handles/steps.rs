//! The steps of a history.

use proptest::prelude::*;

/// Handles and nodes are numbers of any size: there are so many, and then it begins again.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request arrives with the cookies that its browser has now, and stays in its handler.
    Open {
        browser: usize,
        node: usize,
        loads: bool,
    },
    /// A handle is used: one of a request that is under way, or one that its response left behind.
    Act {
        handle: usize,
        act: Act,
    },
    /// A request is answered. Its handle lives on.
    Finish {
        handle: usize,
    },
    /// A request from its arrival to its answer.
    Visit {
        browser: usize,
        node: usize,
        act: Act,
    },
    Pass {
        seconds: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Reads every value, and who is signed in.
    Look,
    Insert(&'static str, i64),
    Increment(&'static str),
    Update(&'static str),
    Pop(&'static str),
    Save,
    Reload,
    Touch,
    Login(Who),
    Cycle,
    Elevate,
    Reauthenticate,
    Logout,
    EndAll,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Alice,
    Bob,
}

pub const KEYS: [&str; 2] = ["a", "b"];

/// The idle lifetime of a session, in seconds.
pub const IDLE: u64 = 600;

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..32)
}

fn step() -> impl Strategy<Value = Step> {
    let handle = || 0..64_usize;
    // Most of what happens is about one session.
    let browser = || prop_oneof![4 => Just(0_usize), 1 => Just(1)];
    let node = || 0..3_usize;
    prop_oneof![
        3 => (browser(), node(), any::<bool>())
            .prop_map(|(browser, node, loads)| Step::Open { browser, node, loads }),
        8 => (handle(), act()).prop_map(|(handle, act)| Step::Act { handle, act }),
        3 => handle().prop_map(|handle| Step::Finish { handle }),
        5 => (browser(), node(), act())
            .prop_map(|(browser, node, act)| Step::Visit { browser, node, act }),
        1 => prop::sample::select(&[20, 61, IDLE + 1][..]).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let key = || prop::sample::select(&KEYS[..]);
    let who = prop_oneof![3 => Just(Who::Alice), 2 => Just(Who::Bob)];
    prop_oneof![
        3 => Just(Act::Look),
        2 => (key(), 100..1_000_i64).prop_map(|(key, value)| Act::Insert(key, value)),
        2 => key().prop_map(Act::Increment),
        2 => key().prop_map(Act::Update),
        1 => key().prop_map(Act::Pop),
        1 => Just(Act::Save),
        1 => Just(Act::Reload),
        1 => Just(Act::Touch),
        4 => who.prop_map(Act::Login),
        2 => Just(Act::Cycle),
        1 => Just(Act::Elevate),
        1 => Just(Act::Reauthenticate),
        1 => Just(Act::Logout),
        1 => Just(Act::EndAll),
        1 => Just(Act::List),
    ]
}
