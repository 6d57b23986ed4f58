//! Every network fault between two messages and at randomly chosen bytes, for every call of a
//! store.
//!
//! The program of this package runs every fault at every byte.

#![allow(missing_docs, clippy::unwrap_used)]

use network::book::{Book, Script};
use network::case::Situation;
use network::deployment::{Deployment, Target};
use network::draw::Draw;
use network::report::Report;
use network::scene::Operation;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_redis_are_whole_and_told_truly() {
    calls(Target::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_calls_over_tls_are_atomic() {
    calls(Target::RedisOverTls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_postgres_are_whole_and_told_truly() {
    calls(Target::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_calls_over_tls_are_atomic() {
    calls(Target::PostgresOverTls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_misses_no_change_of_redis_unawares() {
    tokio::join!(listeners(Target::Redis), listeners(Target::RedisOverTls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_misses_no_change_of_postgres_unawares() {
    tokio::join!(listeners(Target::Postgres), listeners(Target::PostgresOverTls));
}

async fn calls(target: Target) {
    let (book, mut draw) =
        (Book::open(Deployment::start(target).await, JOBS).await, Draw::seeded());
    let mut cases = Vec::new();
    for operation in Operation::CALLS {
        let warm = book.script(Situation::Warm, operation).await;
        cases.extend(warm.every_boundary(&book));
        cases.extend(Script::idle(&book, operation));
        cases.extend(draw.some(DRAWN, warm.every_byte(&book)));
    }
    // All calls open a connection in the same way.
    let cold = book.script(Situation::Cold, Operation::BlindPatch).await;
    cases.extend(cold.every_boundary(&book));
    cases.extend(draw.some(DRAWN, cold.every_byte(&book)));
    let cases = draw.some(cases.len(), cases);
    let reached = judge(&book.run(cases).await);
    assert!(reached > 0.9, "{reached} of them were reached");
}

async fn listeners(target: Target) {
    let (book, mut draw) =
        (Book::open(Deployment::start(target).await, 2 * JOBS).await, Draw::seeded());
    for situation in [Situation::Warm, Situation::Cold] {
        let script = book.script(situation, Operation::Feed).await;
        let mut cases = script.every_boundary(&book);
        cases.extend(draw.some(DRAWN_OF_A_FEED, script.every_byte(&book)));
        let cases = draw.some(cases.len(), cases);
        // Beats and their numbers differ between runs.
        let reached = judge(&book.run_feed(cases).await);
        assert!(reached > 0.5, "{reached} of them were reached");
    }
}

/// Asserts that no case is wrong, and returns the share of cases in which the fault happened.
fn judge(reports: &[Report]) -> f64 {
    let said = |report: &Report| {
        let why = report.verdict.as_ref().err()?;
        Some(format!("{}: {why}", report.case))
    };
    let wrong: Vec<_> = reports.iter().filter_map(said).collect();
    println!("{} cases, {} wrong", reports.len(), wrong.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let reached = reports.iter().filter(|report| report.was_reached).count();
    reached as f64 / reports.len() as f64
}

/// Concurrent cases. They wait most of the time.
const JOBS: usize = 32;

/// The number of bytes drawn for each kind of call, on each of four servers.
const DRAWN: usize = 100;

/// The number of bytes drawn for a feed, for each server and kind of connection. A case takes a
/// second or more.
const DRAWN_OF_A_FEED: usize = 25;
