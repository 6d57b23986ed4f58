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
use steadfast::store::{RouteLabel, SecretHash, Timestamp, Token};
use steadfast::{Connect, Keyring, Lifetime, Limits, Principal, Realm};

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut input = Input::new(data);
    let kind = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        keyring(input);
        return Corpus::Keep;
    };
    match kind {
        b'u' => return url(text),
        b'l' => lifetime(input),
        b'k' => keyring(input),
        _ => words(text),
    }
    Corpus::Keep
});

fn url(text: &str) -> Corpus {
    // A fuzzer must not read files, and a password that is already in the text proves nothing.
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
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        assert!(now <= lifetime.idle_deadline(now));
        assert!(lifetime.idle_deadline(now) <= lifetime.absolute_deadline(now));
    }
}

/// A line that names the key, and the key.
fn keyring(mut input: Input<'_>) {
    let (name, key) = (input.line(), input.rest());
    let token = Token::decode(&[b'A'; Token::LEN]).expect("a token");
    let prove = |ring: &Keyring| ring.prove(&Realm::default(), token.secret());
    let hash = |ring: &Keyring| ring.hash(&Realm::default(), token.secret());
    let judge = |ring: &Keyring, stored: &SecretHash| prove(ring).judge(stored);
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let made = Keyring::keyed(&name, key);
    assert_eq!(made.is_ok(), is_name && (1..=16).contains(&name.len()) && key.len() >= 32);
    let Ok(ring) = made else { return };
    let (other, plain) = (Keyring::keyed("other", &OTHER), hash(&Keyring::unkeyed()));
    let (other, is_same) = (other.expect("a long key"), key == OTHER);
    assert_eq!((judge(&ring, &hash(&ring)), judge(&ring, &plain)), (Some(true), None));
    assert_eq!(judge(&other, &hash(&ring)), is_same.then_some(true));
    let both = other.accept(&name, key);
    assert_eq!(both.is_ok(), name != "other");
    let Ok(both) = both else { return };
    assert_eq!((judge(&both, &hash(&ring)), judge(&both, &plain)), (Some(true), None));
    let moves = both.rehash(&prove(&both)).and_then(|rehash| rehash.of(&hash(&ring)));
    let is_older = *name < *"other" && !is_same;
    assert_eq!(moves, is_older.then(|| hash(&both)));
    assert_eq!(judge(&both.accept_unkeyed(), &plain), Some(true));
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

/// Polls a future that is ready immediately, like those of the memory store.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a memory store is always ready"),
    }
}

/// A password that no generated scheme or setting contains by chance.
const PASSWORD: &str = "hunter2";

const OTHER: [u8; 33] = [7; 33];
