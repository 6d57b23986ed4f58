//! Any configuration: it is taken or refused, within what the documentation says, and no refusal
//! shows a secret.
//!
//! An input is a byte that says what is configured, and the text it is configured with. In a URL, a
//! byte 1 stands for a password.

#![no_main]

use std::error::Error;
use std::time::Duration;

use fuzz::Input;
use libfuzzer_sys::{Corpus, fuzz_target};
use steadfast::core::{RouteLabel, SecretHash, Token};
use steadfast::{Connect, Keyring, Lifetime, Limits, Principal, Realm};
use time::UtcDateTime;

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut input = Input::new(data);
    let kind = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        keyring(input.rest());
        return Corpus::Keep;
    };
    match kind {
        b'u' => return url(text),
        b'l' => lifetime(input),
        b'k' => keyring(input.rest()),
        _ => words(text),
    }
    Corpus::Keep
});

fn url(text: &str) -> Corpus {
    // A file is no business of a fuzzer, and a password that is there already proves nothing.
    if text.starts_with('@') || text.to_ascii_lowercase().contains(PASSWORD) {
        return Corpus::Reject;
    }
    let url = text.replace('\u{1}', &format!("{PASSWORD}!"));
    let connect = Connect::new(&url);
    let mut shown = format!("{connect:?}");
    match now(connect.open()) {
        Ok(store) => shown.push_str(&format!("{store:?}")),
        Err(error) => {
            shown.push_str(&format!("{error:?}"));
            let mut cause: Option<&dyn Error> = Some(&error);
            while let Some(error) = cause {
                shown.push_str(&error.to_string());
                cause = error.source();
            }
        }
    }
    assert!(!shown.contains(PASSWORD), "{shown}");
    Corpus::Keep
}

fn lifetime(mut input: Input<'_>) {
    let mut duration = || Duration::new(input.number(), input.small() % 1_000_000_000);
    let (idle, absolute) = (duration(), duration());
    let second = Duration::from_secs(1);
    let fits = second <= idle && idle <= absolute && absolute <= Lifetime::MAX;
    let made = Lifetime::new(idle, absolute);
    assert_eq!(made.is_ok(), fits, "{idle:?} {absolute:?}");
    let said = made.map_or_else(|error| error.to_string(), |lifetime| lifetime.to_string());
    assert!(!said.is_empty());
    let Ok(lifetime) = made else { return };
    assert!(lifetime.touch_interval() <= lifetime.idle() / 20);
    for now in [UtcDateTime::MIN, UtcDateTime::UNIX_EPOCH, UtcDateTime::MAX] {
        assert!(now <= lifetime.idle_deadline(now));
        assert!(lifetime.idle_deadline(now) <= lifetime.absolute_deadline(now));
    }
}

fn keyring(key: &[u8]) {
    let token = Token::decode(&[b'A'; Token::LEN]).expect("a token");
    let hash = |ring: &Keyring| ring.hash(&Realm::default(), token.secret());
    let proves = |ring: &Keyring, stored: &SecretHash| {
        ring.prove(&Realm::default(), token.secret()).matches(stored)
    };
    let made = Keyring::keyed(key);
    assert_eq!(made.is_ok(), key.len() >= 32);
    let Ok(ring) = made else { return };
    let other = Keyring::keyed(&[7; 33]).expect("a long key");
    assert!(proves(&ring, &hash(&ring)) && ring.is_current(&hash(&ring)));
    assert!(!proves(&ring, &hash(&Keyring::unkeyed())));
    assert_eq!(proves(&other, &hash(&ring)), key == [7; 33]);
    let both = other.accept(key).expect("a long key");
    assert!(proves(&both, &hash(&ring)) && !proves(&both, &hash(&Keyring::unkeyed())));
    assert!(proves(&both.accept_unkeyed(), &hash(&Keyring::unkeyed())));
}

fn words(text: &str) {
    let is_word = |most| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        plain && !text.is_empty() && text.len() <= most
    };
    let is_free = |most| !text.is_empty() && text.len() <= most && !text.contains(char::is_control);
    let realm = Realm::new(text);
    assert_eq!(realm.is_ok(), is_word(22));
    assert_eq!(text.parse::<RouteLabel>().is_ok(), is_word(32));
    assert_eq!(Limits::check_key(text).is_ok(), is_free(128));
    let principal = Principal::new(realm.unwrap_or_default(), text);
    assert_eq!(principal.is_ok(), is_free(256));
}

/// The answer of a future that waits for nothing, as the memory store's do.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a memory store waits for nothing"),
    }
}

/// With a sign behind it that neither a scheme nor the name of a setting has.
const PASSWORD: &str = "hunter2";
