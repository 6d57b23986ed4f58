//! The program ends within its stated time, also with a stream open.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn an_open_stream_does_not_keep_it_from_ending() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-memory"));
    let mut process = program.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();

    let form = "user=alice";
    let login = ask(
        &address,
        &format!(
            "POST /login HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{form}",
            form.len()
        ),
    );
    let login = whole(login);
    let cookie = login.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let stream = ask(&address, &format!("GET /live HTTP/1.0\r\nCookie: {cookie}\r\n\r\n"));
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    assert!(status.contains("200"), "{status}");

    let asked = Instant::now();
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("event: ended\ndata: shutdown"), "{rest}");
    assert!(process.wait().unwrap().success());
    assert!(asked.elapsed() < 3 * example_app::PATIENCE);
}

fn ask(address: &str, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

fn whole(mut socket: TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}
