//! Running a check against a store that has to fail it: `Flawed::with` a flaw.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a check against a store with a flaw, and asserts that it fails by the words given.
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

/// Asserts that a check fails for a flaw, by the words given.
pub(crate) fn assert_caught<F: Copy + Debug>(check: impl Fn(F), flaw: F, name: &str, words: &str) {
    let panic = catch_unwind(AssertUnwindSafe(|| check(flaw)));
    let panic = panic.expect_err(&format!("{flaw:?} passes {name}"));
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(said.contains(words), "{flaw:?} fails {name} for another reason: {said}");
}

/// One thread: tasks take turns where they yield, and nowhere else.
pub(crate) fn block_on(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(check);
}
