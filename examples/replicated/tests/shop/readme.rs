//! Every command of the README works as described.

use std::path::Path;
use std::process::Stdio;

use testkit::ports::{free_address, fresh_directory};
use testkit::within;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::example::Example;

#[tokio::test]
async fn what_there_is_to_try_can_be_tried() {
    let [start, visits, user, crash, deploy, ..] = commands();
    assert_eq!(start, START);
    let mut example = Example::start().await;
    let here = fresh_directory("newcomer");
    let at = |commands: &str| commands.replace("127.0.0.1:3000", &example.address);

    let said = run(&here, &at(&visits)).await;
    for visit in 1..=6 {
        assert!(said.contains(&format!("\nVisits: {visit}\n")), "{said}");
    }
    let said = run(&here, &at(&user)).await;
    assert!(said.contains("Hello, alice"), "{said}");
    let said = run(&here, &at(&visits)).await;
    assert!(said.contains("\nVisits: 1\n"), "the sign-out starts a new session: {said}");

    for (command, node, ends) in [(crash, "n1", "SIGKILL"), (deploy, "n2", "exit status: 0")] {
        run(&here, &command.replace("4711", &example.nodes[node].to_string())).await;
        let said = example.says(node).await;
        assert!(said.contains(ends), "{said}");
    }
    std::fs::remove_dir_all(here).unwrap();
}

#[tokio::test]
async fn separately_started_nodes_share_sessions() {
    let [.., secret, mut nodes] = commands();
    let here = fresh_directory("operator");
    run(&here, &secret).await;
    assert_eq!(std::fs::read(here.join("secret")).unwrap().len(), 32);
    for port in [8081, 8082, 8083, 7001, 7002, 7003] {
        nodes = nodes.replace(&format!("127.0.0.1:{port}"), &free_address().await);
    }
    let mut processes: Vec<_> = nodes.lines().map(|command| node(&here, command)).collect();
    let mut addresses = Vec::new();
    for process in &mut processes {
        addresses.push(listening(process).await);
    }
    for (address, visit) in addresses.iter().zip(1..) {
        let page = run(&here, &format!("curl -s -b jar -c jar http://{address}/")).await;
        assert!(page.contains(&format!("Visits: {visit}<")), "{page}");
        assert!(page.contains(&format!("Served by n{visit}<")), "{page}");
    }
    std::fs::remove_dir_all(here).unwrap();
}

/// The commands of the README, block by block.
fn commands() -> [String; 7] {
    let readme = include_str!("../../README.md").split("```sh\n").skip(1);
    let blocks = readme.map(|rest| rest.split("```").next().unwrap().trim_end().to_owned());
    blocks.collect::<Vec<_>>().try_into().expect("there are seven blocks")
}

/// Runs commands in a directory, and gives what they say.
async fn run(here: &Path, commands: &str) -> String {
    let mut shell = Command::new("bash");
    let output = within(shell.args(["-ec", commands]).current_dir(here).output()).await.unwrap();
    assert!(output.status.success(), "{commands}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts a node by its command.
fn node(here: &Path, command: &str) -> Child {
    let program = command.replace(START, env!("CARGO_BIN_EXE_example-replicated"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec {program}")]).current_dir(here).kill_on_drop(true);
    shell.stdout(Stdio::piped()).spawn().unwrap()
}

async fn listening(process: &mut Child) -> String {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = within(lines.next_line()).await.unwrap().expect("it starts");
    line.strip_prefix("listening on http://").unwrap().to_owned()
}

const START: &str = "cargo run -p example-replicated";
