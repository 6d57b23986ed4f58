//! Examples as they are run: a program that says where it listens, and ends on request.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::client::Client;
use crate::events::Events;
use crate::eventually::within;

/// An example that serves. It is killed when this is dropped.
pub struct Example {
    pub address: String,
    process: Child,
    /// Read no further, and open for as long as the program writes.
    _lines: Lines<BufReader<ChildStdout>>,
}

/// The end of an example that was stopped.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub took: Duration,
    /// The last event of the stream that was open: its name and its data.
    pub last_event: Option<(String, String)>,
}

impl Example {
    /// Waits until it listens.
    pub async fn start(program: &mut Command) -> Self {
        program.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = program.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = within(lines.next_line()).await.unwrap().expect("it starts");
            if let Some(address) = line.strip_prefix("listening on http://") {
                break address.to_owned();
            }
        };
        Self { address, process, _lines: lines }
    }

    /// Opens a stream as a signed-in user, presses Ctrl-C, and waits for the end.
    pub async fn ends_with_a_stream_open(mut self) -> Ended {
        let client = Client::new(&self.address);
        let form = ("content-type", "application/x-www-form-urlencoded");
        client.send("POST", "/login", &[form], "user=alice").await.ok();
        let mut stream = Events::open_at(&self.address, &client, "/live").await;
        let (id, asked) = (self.process.id().unwrap().to_string(), Instant::now());
        let sent = Command::new("kill").args(["-s", "INT", &id]).status().await;
        assert!(sent.unwrap().success());
        let last_event = stream.last().await;
        let status = within(self.process.wait()).await.unwrap();
        Ended { status, took: asked.elapsed(), last_event }
    }
}
