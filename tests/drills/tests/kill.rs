//! A short drill: a node is killed under load.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use drills::drill::{Drill, Settings};
use drills::history::History;
use drills::report;
use drills::statistics::Figures;

/// The node that the first run kills.
const KILLED: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_loses_nothing() {
    let out = testkit::ports::fresh_directory("drills");
    let program = std::env::var_os("CARGO_BIN_EXE_reference").unwrap().into();
    let second = Duration::from_secs(1);
    let settings =
        Settings { calm: second, down: 2 * second, ..Settings::new(program, out.clone()) };
    Drill::Kill.run(1, &settings).await.unwrap();
    assert!(Drill::Kill.missing(&out, 1).unwrap().is_empty(), "it is not run again");
    let history = History::read(&Drill::Kill.path(&out, 1)).unwrap().unwrap();
    let figures = Figures::of(&history);
    eprintln!("{}", report::line(&figures));
    assert!(figures.latencies.count() > 500, "{}", figures.latencies.count());
    assert!(history.load().any(|call| call.node == KILLED), "the node was asked while it lived");
    assert!(figures.verdict.finds_nothing(), "{:#?}", figures.verdict.notes);
    std::fs::remove_dir_all(out).unwrap();
}
