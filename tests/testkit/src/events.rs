//! A stream of server-sent events, as it arrives.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::eventually::within;
use crate::server::Server;

/// An open stream. Dropped, it hangs up.
pub struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    /// Opens a stream as a client with cookies would.
    pub async fn open(server: &Server, client: &Client, path: &str) -> Self {
        Self::open_at(&server.address, client, path).await
    }

    /// The same, of a server at an address.
    pub async fn open_at(address: &str, client: &Client, path: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let (host, cookies) = (address, client.cookies());
        // HTTP/1.0, so that the stream comes without chunks.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(socket).lines();
        let status = within(lines.next_line()).await.unwrap().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        while within(lines.next_line()).await.unwrap().is_some_and(|line| !line.is_empty()) {}
        Self(lines)
    }

    /// The next event: its name and its data.
    pub async fn next(&mut self) -> (String, String) {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = within(self.0.next_line()).await.unwrap().expect("the stream goes on");
            match line.split_once(": ") {
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => text.clone_into(&mut data),
                _ if line.is_empty() && !name.is_empty() => return (name, data),
                _ => {}
            }
        }
    }

    /// The last event before the stream ends, or is cut.
    pub async fn last(&mut self) -> Option<(String, String)> {
        let (mut name, mut last) = (String::new(), None);
        while let Ok(Some(line)) = within(self.0.next_line()).await {
            match line.split_once(": ") {
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => last = Some((name.clone(), text.to_owned())),
                _ => {}
            }
        }
        last
    }

    /// Returns true if the stream ends without another event.
    pub async fn is_over(&mut self) -> bool {
        within(self.0.next_line()).await.unwrap().is_none()
    }
}
