//! Connections that carry exactly the bytes they are given, for where a client's library would tidy
//! up, and for floods.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::eventually::within;

/// A connection to a server.
pub struct Raw {
    write: OwnedWriteHalf,
    read: BufReader<OwnedReadHalf>,
}

impl Raw {
    pub async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        Self { write, read: BufReader::new(read) }
    }

    /// Sends bytes, be they a request or not.
    pub async fn send(&mut self, bytes: &[u8]) {
        within(self.write.write_all(bytes)).await.unwrap();
    }

    /// The next answer; `None` if the server closes the connection instead.
    pub async fn answer(&mut self) -> Option<Answer> {
        let mut answer = within(head(&mut self.read)).await?;
        let length = answer.lines("content-length").next().map(|length| length.parse().unwrap());
        let mut body = vec![0; length.unwrap_or_default()];
        within(self.read.read_exact(&mut body)).await.ok()?;
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// The next answer, to a request that wants its head alone.
    pub async fn head(&mut self) -> Option<Answer> {
        within(head(&mut self.read)).await
    }

    /// Sends requests together, and returns the answers in order.
    async fn batch(
        &mut self,
        numbers: std::ops::Range<usize>,
        request: &impl Fn(usize) -> Vec<u8>,
        see: &(impl Fn(usize, Answer) + Sync),
    ) {
        let bytes: Vec<_> = numbers.clone().flat_map(request).collect();
        self.send(&bytes).await;
        for number in numbers {
            let answer = self.answer().await.expect("each request is answered");
            see(number, answer);
        }
    }

    /// Sends one request with header lines of any bytes, and waits for its answer.
    pub async fn ask(&mut self, method: &str, path: &str, lines: &[&[u8]]) -> Option<Answer> {
        self.send(&bytes(method, path, lines)).await;
        self.answer().await
    }
}

/// A request over HTTP/1.1, with header lines of any bytes and no body.
pub fn bytes(method: &str, path: &str, lines: &[&[u8]]) -> Vec<u8> {
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{length}").into_bytes();
    for line in lines {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Sends many requests over a few connections, each without waiting for the answers to those before
/// it, and sees every answer with the number of its request.
pub async fn flood(
    address: &str,
    requests: usize,
    request: impl Fn(usize) -> Vec<u8> + Clone + Send + Sync + 'static,
    see: impl Fn(usize, Answer) + Clone + Send + Sync + 'static,
) {
    let share = requests.div_ceil(CONNECTIONS).max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for start in (0..requests).step_by(share) {
        let numbers = start..requests.min(start + share);
        let (address, request, see) = (address.to_owned(), request.clone(), see.clone());
        tasks.spawn(async move {
            let mut connection = Raw::connect(&address).await;
            for first in numbers.clone().step_by(BATCH) {
                let batch = first..numbers.end.min(first + BATCH);
                connection.batch(batch, &request, &see).await;
            }
        });
    }
    tasks.join_all().await;
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The values of a header, line by line.
    pub fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head.split("\r\n").skip(1).filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The value of the first `Set-Cookie` line, without its attributes.
    pub fn token(&self) -> Option<&str> {
        let (_, rest) = self.lines("set-cookie").next()?.split_once('=')?;
        rest.split(';').next()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

async fn head(read: &mut BufReader<OwnedReadHalf>) -> Option<Answer> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        let line = read.read_until(b'\n', &mut head).await.ok()?;
        (line > 0).then_some(())?;
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
    Some(Answer { status, head, body: String::new() })
}

const CONNECTIONS: usize = 8;

/// The number of concurrent requests on one connection: few enough for the answers to fit into its buffers.
const BATCH: usize = 100;
