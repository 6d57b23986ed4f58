//! The example as it is run: one command, three nodes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Stdio;

use testkit::{Shopper, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

#[tokio::test]
async fn a_visitor_moves_when_its_node_ends() {
    let example = Example::start().await;
    let shopper = Shopper::new(&example.address);
    let page = shopper.signs_in_with_a_tea().await;
    let first = page.node().to_owned();
    page.says(&format!("{first} (working copy) and the backup store hold your session."));
    for _ in 0..5 {
        assert_eq!(shopper.page().await.node(), first);
    }

    let page = shopper.orders(&page, &first, "stop").await;
    let second = page.node().to_owned();
    assert_ne!(second, first);
    page.says(&format!("{first} was stopped. {second} serves you now."));
    page.says(
        "Your session survived. You are still signed in as alice, and the basket still has 1 tea.",
    );
    page.says(&format!("{second} (working copy) and the backup store hold your session."));
    page.says("Visits: 8");
    assert_eq!(shopper.page().await.node(), second);

    let page = shopper.orders(&page, &first, "start").await;
    page.says(&format!("{first} runs again."));
    assert_eq!(page.node(), second, "it bounces once");
}

#[tokio::test]
async fn a_drained_node_hands_its_visitors_on() {
    let mut example = Example::start().await;
    let shopper = Shopper::new(&example.address);
    let first = shopper.page().await.node().to_owned();
    shopper.page().await;
    assert!(example.order(&format!("drain {first}")).await.contains("moved: 1"));
    assert_eq!(shopper.page().await.node(), first, "it is served to the end");
    let page = shopper.page().await;
    page.says("Visits: 4");
    assert_ne!(page.node(), first);
}

struct Example {
    address: String,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Example {
    async fn start() -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_example-sticky"));
        program.arg("127.0.0.1:0").kill_on_drop(true);
        let mut process = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = within(lines.next_line()).await.unwrap().expect("it starts");
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.to_owned();
            }
        };
        let orders = process.stdin.take().unwrap();
        Self { address, orders, lines, _process: process }
    }

    /// Returns the example's answer to a line.
    async fn order(&mut self, line: &str) -> String {
        self.orders.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        within(self.lines.next_line()).await.unwrap().unwrap()
    }
}
