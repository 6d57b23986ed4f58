//! The example as a process, its visitors, and what it says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use testkit::ports::fresh_directory;
use testkit::{Client, eventually, within};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub struct Example {
    pub address: String,
    /// The processes of the nodes.
    pub nodes: BTreeMap<String, u32>,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    directory: PathBuf,
}

impl Example {
    pub async fn start() -> Self {
        let directory = fresh_directory("example");
        let mut program = Command::new(env!("CARGO_BIN_EXE_example-replicated"));
        program.arg("127.0.0.1:0").env("TMPDIR", &directory).kill_on_drop(true);
        let mut process = program.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut nodes = BTreeMap::new();
        let address = loop {
            let line = within(lines.next_line()).await.unwrap().expect("it starts");
            nodes.extend(started(&line));
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.to_owned();
            }
        };
        Self { address, nodes, process, lines, directory }
    }

    pub fn visitor(&self) -> Visitor {
        Visitor(Client::new(&self.address))
    }

    /// Returns the next line about a node.
    pub async fn says(&mut self, node: &str) -> String {
        loop {
            let line = within(self.lines.next_line()).await.unwrap().expect("it runs");
            self.nodes.extend(started(&line));
            if line.starts_with(node) {
                return line;
            }
        }
    }

    pub fn secret(&self) -> PathBuf {
        let entry = std::fs::read_dir(&self.directory).unwrap().next().expect("there is one");
        entry.unwrap().path().join("secret")
    }

    pub fn id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub async fn ended(&mut self) -> ExitStatus {
        within(self.process.wait()).await.unwrap()
    }

    pub async fn has_no_process_left(&self) {
        eventually(async || !self.nodes.values().any(|id| is_running(*id))).await;
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The name of a node that started, and its process.
fn started(line: &str) -> Option<(String, u32)> {
    let (node, process) = line.split_once(" is process ")?;
    Some((node.split(' ').next()?.to_owned(), process.parse().ok()?))
}

/// Sends a signal, by its name without the `SIG`.
pub fn send(signal: &str, process: u32) {
    let process = process.to_string();
    let sent = std::process::Command::new("kill").args(["-s", signal, &process]).status();
    assert!(sent.unwrap().success());
}

fn is_running(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A visitor with one jar of cookies.
pub struct Visitor(Client);

/// Returns the text of a page.
#[derive(Debug)]
pub struct Page {
    pub visits: u32,
    pub node: String,
    pub user: Option<String>,
}

impl Visitor {
    /// The page, unless it is not confirmed.
    pub async fn page(&self) -> Option<Page> {
        let reply = self.0.get("/").await;
        if reply.status == 503 {
            assert_eq!(reply.header("retry-after"), Some("1"));
            return None;
        }
        let text = reply.ok().body;
        let user = between(&text, "Hello, ", ".");
        let visits = between(&text, "Visits: ", "<").unwrap().parse().unwrap();
        Some(Page { visits, node: between(&text, "Served by ", "<").unwrap(), user })
    }

    /// The first page after a crash: what was confirmed is there, and what was not may be.
    pub async fn page_after_outage(&self, before: &Page) -> Page {
        let mut asked = 1;
        let page = within(async {
            loop {
                match self.page().await {
                    Some(page) => break page,
                    None => asked += 1,
                }
            }
        });
        let page = page.await;
        let possible = before.visits + 1..=before.visits + asked;
        assert!(possible.contains(&page.visits), "{page:?} after {before:?}, asked {asked} times");
        page
    }

    pub async fn signs_in(&self, user: &str) {
        let form = ("content-type", "application/x-www-form-urlencoded");
        self.0.send("POST", "/login", &[form], &format!("user={user}")).await.ok();
    }

    /// The node that owns the session, which the route names first.
    pub fn owner(&self) -> String {
        let route = self.0.cookie("__Host-id-route").expect("an answer names the route");
        route.split('.').next().unwrap().to_owned()
    }
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0.to_owned())
}
