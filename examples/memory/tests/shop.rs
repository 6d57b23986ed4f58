//! The example as it is run: its only node is restarted.

#![allow(missing_docs)]

use testkit::{Example, Shopper};
use tokio::process::Command;

#[tokio::test]
async fn a_restart_ends_every_session() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-memory"));
    let example = Example::start(program.arg("127.0.0.1:0")).await;
    let shopper = Shopper::new(&example.address);
    let page = shopper.signs_in_with_a_tea().await;
    page.says("Hello, alice.");
    page.says("n1 (the only copy) holds your session.");

    let page = shopper.orders(&page, "n1", "stop").await;
    page.says("n1 was stopped and started again. n1 serves you now.");
    page.says("Your session is gone.");
    page.says("Hello, visitor.");
    assert!(!page.html.contains("<li>Assam"));
    shopper.page().await.says("Visits: 2");
}
