//! A few lines of the protocol, for the tests' own questions.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Number(i64),
    Bytes(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Reply {
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes == text.as_bytes())
    }

    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(number) => number.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    #[track_caller]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("no bytes: {other:?}"),
        }
    }

    #[track_caller]
    pub fn list(self) -> Vec<Reply> {
        match self {
            Self::List(items) => items,
            other => panic!("no list: {other:?}"),
        }
    }

    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }
}

/// Sees every command that a server is sent, those that scripts call left aside.
pub struct Monitor(BufReader<TcpStream>);

impl Monitor {
    pub(super) fn start(port: u16, user: (&str, &str)) -> Self {
        let mut stream = connect(port, Some(user)).unwrap();
        send(&mut stream, &["MONITOR"]).unwrap();
        assert!(read(&mut stream).unwrap().is("OK"));
        Self(stream)
    }

    /// The names of the commands that came before one that says `mark`, in lower case; the logins of
    /// connections are left aside.
    pub(super) fn until(mut self, mark: &str) -> Vec<String> {
        let mut commands = Vec::new();
        loop {
            let line = read(&mut self.0).unwrap().text();
            if line.contains(mark) {
                return commands;
            }
            // 1690000000.123456 [0 127.0.0.1:50000] "GET" "key"
            let (head, command) = line.split_once("] ").unwrap();
            let name = command.split('"').nth(1).unwrap().to_lowercase();
            if !head.ends_with("lua") && name != "auth" {
                commands.push(name);
            }
        }
    }
}

/// A command that was sent, on a connection that stays open for as long as this is kept.
pub struct Unanswered(#[expect(dead_code, reason = "kept open")] BufReader<TcpStream>);

impl Unanswered {
    pub(super) fn start(port: u16, user: (&str, &str), command: &[&str]) -> Self {
        let mut stream = connect(port, Some(user)).unwrap();
        send(&mut stream, command).unwrap();
        Self(stream)
    }
}

/// Sends one command on a connection of its own.
pub(super) fn ask(
    port: u16,
    user: Option<(&str, &str)>,
    command: &[impl AsRef<[u8]>],
) -> io::Result<Reply> {
    let mut stream = connect(port, user)?;
    send(&mut stream, command)?;
    read(&mut stream)
}

fn connect(port: u16, user: Option<(&str, &str)>) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut stream = BufReader::new(stream);
    if let Some((name, password)) = user {
        send(&mut stream, &["AUTH", name, password])?;
        if !read(&mut stream)?.is("OK") {
            return Err(io::Error::other("the password is wrong"));
        }
    }
    Ok(stream)
}

fn send(stream: &mut BufReader<TcpStream>, command: &[impl AsRef<[u8]>]) -> io::Result<()> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command.iter().map(AsRef::as_ref) {
        bytes.extend(format!("${}\r\n", part.len()).bytes());
        bytes.extend([part, b"\r\n"].concat());
    }
    stream.get_mut().write_all(&bytes)
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = rest.parse().unwrap_or(-1_i64);
    Ok(match kind {
        "+" => Reply::Bytes(rest.into()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(length),
        "*" => Reply::List((0..length).map(|_| read(stream)).collect::<io::Result<_>>()?),
        "$" if length < 0 => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; usize::try_from(length).unwrap() + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Reply::Bytes(bytes)
        }
        _ => return Err(io::Error::other(line)),
    })
}
