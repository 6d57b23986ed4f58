//! Runs a check on a store that must fail it.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Asserts that a check fails on a store with a flaw, with the given words.
macro_rules! caught {
    ($flaw:expr, $($check:path => $words:literal),+ $(,)?) => {
        $($crate::caught::assert_caught(
            |flaw| $crate::caught::block_on($check(&Flawed::with(flaw))),
            $flaw,
            stringify!($check),
            $words,
        );)+
    };
}

/// Asserts that a check fails on a flaw, with the given words.
pub(crate) fn assert_caught<F: Copy + Debug>(check: impl Fn(F), flaw: F, name: &str, words: &str) {
    let panic = catch_unwind(AssertUnwindSafe(|| check(flaw)));
    let panic = panic.expect_err(&format!("{flaw:?} passes {name}"));
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(said.contains(words), "{flaw:?} fails {name} for another reason: {said}");
}

/// Runs on one thread, so that tasks only switch where they yield.
pub(crate) fn block_on(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(check);
}
