//! The example as it is run: three nodes, of which two are stopped.

#![allow(missing_docs)]

use std::collections::BTreeSet;

use testkit::redis::Redis;
use testkit::{Example, Shopper};
use tokio::process::Command;

#[tokio::test]
async fn a_session_needs_no_particular_node() {
    let redis = Redis::start();
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-redis"));
    let example = Example::start(program.arg("127.0.0.1:0").arg(redis.url())).await;
    let shopper = Shopper::new(&example.address);
    let mut page = shopper.signs_in_with_a_tea().await;
    page.says("Redis holds your session.");

    let mut left = BTreeSet::from(["n1", "n2", "n3"]);
    for _ in 0..2 {
        let stopped = page.node().to_owned();
        left.remove(stopped.as_str());
        page = shopper.orders(&page, &stopped, "stop").await;
        page.says(&format!("{stopped} was stopped. {} serves you now.", page.node()));
        page.says("Your session survived. You are still signed in as alice, and the basket still has 1 tea.");
        assert!(left.contains(page.node()), "{page:?}");
    }
    // The last one, which starts again with a store of its own.
    let last = page.node().to_owned();
    let page = shopper.orders(&page, &last, "stop").await;
    page.says(&format!("{last} was stopped and started again."));
    page.says("Your session survived.");
    let started = if last == "n1" { "n2" } else { "n1" };
    shopper.orders(&page, started, "start").await.says(&format!("{started} runs again."));
    let nodes = [shopper.page().await, shopper.page().await].map(|page| page.node().to_owned());
    assert!(nodes.iter().any(|node| node == started), "{nodes:?}");
}
