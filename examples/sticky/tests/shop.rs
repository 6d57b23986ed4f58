//! The example as it is run: one command, three nodes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Stdio;

use testkit::{Client, Reply, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

#[tokio::test]
async fn a_visitor_moves_when_its_node_ends() {
    let mut example = Example::start().await;
    let visitor = Client::new(&example.address);
    let first = node(&visitor.get("/").await.ok());
    for _ in 0..5 {
        assert_eq!(node(&visitor.get("/").await.ok()), first);
    }
    assert!(example.order(&format!("kill {first}")).await.contains("is gone"));
    let reply = visitor.get("/").await.ok();
    assert!(reply.body.contains("Visits: 7"), "{reply:?}");
    let second = node(&reply);
    assert_ne!(second, first);
    assert_eq!(node(&visitor.get("/").await.ok()), second);
    assert!(example.order(&format!("start {first}")).await.contains("Ok"));
    assert_eq!(node(&visitor.get("/").await.ok()), second, "it bounces once");
}

#[tokio::test]
async fn a_drained_node_hands_its_visitors_on() {
    let mut example = Example::start().await;
    let visitor = Client::new(&example.address);
    let first = node(&visitor.get("/").await.ok());
    visitor.get("/").await.ok();
    assert!(example.order(&format!("drain {first}")).await.contains("moved: 1"));
    assert_eq!(node(&visitor.get("/").await.ok()), first, "it is served to the end");
    let reply = visitor.get("/").await.ok();
    assert!(reply.body.contains("Visits: 4"), "{reply:?}");
    assert_ne!(node(&reply), first);
}

fn node(reply: &Reply) -> String {
    let (_, node) = reply.body.split_once("Served by ").expect("the page says who served it");
    node.split('<').next().unwrap().to_owned()
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
        let line = within(lines.next_line()).await.unwrap().unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().to_owned();
        let orders = process.stdin.take().unwrap();
        Self { address, orders, lines, _process: process }
    }

    /// Returns the example's answer to a line.
    async fn order(&mut self, line: &str) -> String {
        self.orders.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        within(self.lines.next_line()).await.unwrap().unwrap()
    }
}
