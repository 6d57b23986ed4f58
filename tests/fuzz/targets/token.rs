//! A token has one spelling: `decode` takes that one alone, and `encode` gives it back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use steadfast::store::Token;
use steadfast::{Keyring, Realm};

fuzz_target!(|data: &[u8]| {
    check(data);
    if let Ok(bytes) = <&[u8; 48]>::try_from(data) {
        let spelling = spelling(bytes);
        assert!(decoded(&spelling).is_some_and(|decoded| decoded == *bytes));
        check(&spelling);
    }
});

fn check(text: &[u8]) {
    let (token, reference) = (Token::decode(text), decoded(text));
    assert_eq!(token.is_some(), reference.is_some(), "{text:?}");
    let (Some(token), Some(bytes)) = (token, reference) else { return };
    assert_eq!(token.encode().as_bytes(), text);
    assert_eq!(token.id().as_bytes(), &bytes[..16]);
    let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
    let expected = Sha256::digest([b"session\0", &bytes[16..]].concat());
    assert_eq!(hash.digest()[..], expected[..]);
}

/// base64url without padding (RFC 4648, 5), bit by bit.
fn decoded(text: &[u8]) -> Option<[u8; 48]> {
    let mut bytes = [0; 48];
    if text.len() != 64 {
        return None;
    }
    for (at, character) in text.iter().enumerate() {
        let value = ALPHABET.iter().position(|known| known == character)?;
        for bit in (0..6).filter(|bit| value >> (5 - bit) & 1 == 1) {
            let at = at * 6 + bit;
            bytes[at / 8] |= 0x80 >> (at % 8);
        }
    }
    Some(bytes)
}

fn spelling(bytes: &[u8; 48]) -> [u8; 64] {
    std::array::from_fn(|at| {
        let bits = (at * 6..at * 6 + 6).map(|at| usize::from(bytes[at / 8] >> (7 - at % 8) & 1));
        ALPHABET[bits.fold(0, |value, bit| value << 1 | bit)]
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
