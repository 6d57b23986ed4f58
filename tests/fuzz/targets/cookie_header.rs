//! Any `Cookie` lines, through a layer: a live cookie of ours beside junk stays live, two live ones
//! count as none, the work is bounded, and nothing fails.
//!
//! An input is the lines. As no header holds control characters, six of them stand for what is hard to
//! guess: two live tokens, a dead one, and the names of the cookies.

#![no_main]

use std::sync::LazyLock;

use fuzz::Site;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use steadfast::store::{Deleted, Deletion, SessionStore, Token};
use steadfast::{Session, Status};

fuzz_target!(|data: &[u8]| {
    let lines: Vec<_> = data.split(|byte| *byte == b'\n').filter_map(line).collect();
    let tokens = candidates(&lines);
    let before = SITE.site.loads();
    let reply = SITE.site.visit(&lines, seen);
    assert!(!reply.status.is_server_error(), "{reply:?}");
    assert_eq!(SITE.site.loads() - before, tokens.len() as u64);
    assert_eq!(reply.said, Some(SITE.expected(&tokens)));
    assert!(reply.set_cookies.is_empty(), "reading sets no cookie");
    if reply.said.is_some_and(|(status, _)| status != Status::Existing) {
        start(&lines);
    }
});

struct Planted {
    site: Site,
    live: [String; 2],
}

static SITE: LazyLock<Planted> = LazyLock::new(|| {
    let site = Site::new(Ok::<_, std::convert::Infallible>).unwrap_or_else(|never| match never {});
    let live = [1, 2].map(|who| {
        let reply = site.visit(&[], |session| async move { session.insert("who", who).await });
        token(reply.set_cookie()).to_owned()
    });
    Planted { site, live }
});

impl Planted {
    /// Returns the session that a request with these candidates must see.
    fn expected(&self, tokens: &[Vec<u8>]) -> (Status, Option<i64>) {
        let live = self.live.each_ref().map(|live| tokens.iter().any(|t| t == live.as_bytes()));
        match live {
            [true, true] => (Status::Ambiguous, None),
            [true, false] => (Status::Existing, Some(1)),
            [false, true] => (Status::Existing, Some(2)),
            [false, false] if tokens.is_empty() => (Status::New, None),
            [false, false] => (Status::Unknown, None),
        }
    }
}

async fn seen(session: Session) -> Result<(Status, Option<i64>), steadfast::Error> {
    Ok((session.status().await?, session.get("who").await?))
}

/// A write starts a session of its own, whatever came with it.
fn start(lines: &[HeaderValue]) {
    let reply = SITE.site.visit(lines, |session| async move { session.increment("n", 1).await });
    assert_eq!(reply.said, Some(1));
    let started = Token::decode(token(reply.set_cookie()).as_bytes()).expect("a cookie is a token");
    let end = SITE.site.store.delete(started.id(), &Deletion::LOGOUT);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let ended = std::pin::pin!(end).poll(&mut context);
    assert!(
        matches!(ended, std::task::Poll::Ready(Ok(Deleted::Ended))),
        "what was set opens a live record"
    );
}

fn line(text: &[u8]) -> Option<HeaderValue> {
    let mut bytes = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            1 | 2 => bytes.extend_from_slice(SITE.live[usize::from(byte - 1)].as_bytes()),
            3 => bytes.extend_from_slice(&[b'A'; Token::LEN]),
            4 => bytes.extend_from_slice(b"__Host-id="),
            5 => bytes.extend_from_slice(b"__Host-id-route="),
            6 => bytes.extend_from_slice(b"__Host-id-seen="),
            byte => bytes.push(*byte),
        }
    }
    HeaderValue::from_bytes(&bytes).ok()
}

/// The tokens that count, by the words of the documentation: pairs end at semicolons, spaces before
/// a pair are skipped, the name is ours to the byte, the value is a token and perhaps a dot and more.
fn candidates(lines: &[HeaderValue]) -> Vec<Vec<u8>> {
    let mut tokens = Vec::<Vec<u8>>::new();
    for pair in lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')) {
        let spaces = pair.iter().take_while(|byte| **byte == b' ').count();
        let Some(value) = pair[spaces..].strip_prefix(b"__Host-id=") else { continue };
        let is_token = value.len() >= 64
            && value[..64].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
            && (value.len() == 64 || value[64] == b'.');
        if is_token && tokens.len() < 4 && !tokens.iter().any(|token| token == &value[..64]) {
            tokens.push(value[..64].to_vec());
        }
    }
    tokens
}

fn token(line: &HeaderValue) -> &str {
    let line = line.to_str().expect("our cookies are ASCII");
    line.split(['=', ';']).nth(1).expect("a cookie has a value")
}
