//! The reference application, as a program of its own.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::client::{Client, Reply, exchange, request};
use crate::eventually::{eventually, within};

/// The program, serving on ports of its own. It is killed when this is dropped.
pub struct Server {
    process: Child,
    /// Its standard error, once it has ended.
    said: JoinHandle<String>,
    pub address: String,
    control: Option<String>,
}

impl Server {
    /// Starts it with a control port.
    pub async fn start(options: &[&str]) -> Self {
        Self::run(program(options)).await
    }

    /// Starts it with a control port and further options.
    pub async fn run(mut program: Command) -> Self {
        Self::launch(program.args(["--control", "127.0.0.1:0"])).await.controlled().await
    }

    pub async fn without_control(options: &[&str]) -> Self {
        Self::launch(&mut program(options)).await.server
    }

    /// Another program that says in the same words where it listens.
    pub async fn of(mut program: Command) -> Self {
        program.env_clear().kill_on_drop(true).stdin(Stdio::null());
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        Started::of(&mut program).await.server
    }

    /// Starts it with a control port, at an address that another server used before.
    pub async fn start_at(address: &str, options: &[&str]) -> Self {
        let mut program = program(options);
        program.args(["--control", "127.0.0.1:0", "--listen", address]);
        Started::of(&mut program).await.controlled().await
    }

    async fn launch(program: &mut Command) -> Started {
        Started::of(program.args(["--listen", "127.0.0.1:0"])).await
    }

    /// A client that has never been here.
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// A client with a signed-in user.
    pub async fn member(&self, user: &str) -> Client {
        let client = self.client();
        client.post(&format!("/login?u={user}")).await.ok();
        client
    }

    /// Asks the control port.
    pub async fn control(&self, method: &str, path: &str) -> Reply {
        let address = self.control.as_ref().expect("this server has a control port");
        exchange(address, request(method, path, &[], "")).await
    }

    /// Asks the control port as a browser does.
    pub async fn control_page(&self, path: &str) -> Reply {
        let address = self.control.as_ref().expect("this server has a control port");
        exchange(address, request("GET", path, &[("accept", "text/html,*/*;q=0.8")], "")).await
    }

    /// Returns the answer of the control port.
    pub async fn told(&self, path: &str) -> Value {
        self.control("GET", path).await.ok().json()
    }

    /// Has the control port do something.
    pub async fn order(&self, path: &str) -> Value {
        self.control("POST", path).await.ok().json()
    }

    /// Has the control port do something that takes JSON.
    pub async fn order_json(&self, path: &str, body: &Value) -> Value {
        let address = self.control.as_ref().expect("this server has a control port");
        let headers = [("content-type", "application/json")];
        exchange(address, request("POST", path, &headers, &body.to_string())).await.ok().json()
    }

    /// Waits until as many requests wait at a gate.
    pub async fn waiting(&self, gate: &str, requests: u64) {
        eventually(async || self.told("/gates").await[gate] == requests).await;
    }

    /// Sends a signal, by its name without the `SIG`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Waits for its end: how it ended, and what it said on standard error.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = within(self.process.wait()).await.unwrap();
        (status, within(self.said).await.unwrap())
    }
}

/// A server, and the lines that it prints at its start.
struct Started {
    server: Server,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Started {
    async fn of(program: &mut Command) -> Self {
        let mut process = program.spawn().unwrap();
        let said = tokio::spawn(all(process.stderr.take().unwrap()));
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let server = Server { process, said, address: String::new(), control: None };
        let mut started = Self { server, lines };
        started.server.address = started.announced("listening on http://").await;
        started
    }

    /// Adds the address of its control port.
    async fn controlled(mut self) -> Server {
        self.server.control = Some(self.announced("control on http://").await);
        self.server
    }

    async fn announced(&mut self, start: &str) -> String {
        let Some(line) = within(self.lines.next_line()).await.unwrap() else {
            panic!("the server ends: {}", within(&mut self.server.said).await.unwrap());
        };
        line.strip_prefix(start).unwrap_or_else(|| panic!("unexpected: {line}")).to_owned()
    }
}

/// The program, not started yet, without anything of the environment of these tests.
pub fn program(options: &[&str]) -> Command {
    let path = std::env::var_os("CARGO_BIN_EXE_reference");
    let mut program = Command::new(path.expect("this is a test of the package `reference`"));
    program.args(options).env_clear().kill_on_drop(true);
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Returns the standard error of a program that refuses its options.
pub async fn refusal(mut program: Command) -> String {
    let output = within(program.output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    said
}

async fn all(mut stderr: impl AsyncReadExt + Unpin) -> String {
    let mut said = Vec::new();
    stderr.read_to_end(&mut said).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}
