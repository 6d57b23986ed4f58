//! The privileges of the store's user, and the contents of a stolen dump.

use steadfast_core::{
    Deletion, Keyring, Lookup, Realm, RequestHint, SecretHash, SessionStore, Token,
};
use testkit::redis::{Redis, Reply};

use crate::fixture::{Visitor, builder, on, store};

/// Shows AR-08.
#[tokio::test]
async fn the_user_has_only_its_keys_and_channels() {
    let server = Redis::start();
    server.ask(&["SET", "other", "1"]);
    for forbidden in [
        &["FLUSHALL"][..],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["CONFIG", "GET", "requirepass"],
        &["CONFIG", "SET", "maxmemory", "1"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
        &["SAVE"],
        &["REPLICAOF", "NO", "ONE"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["MONITOR"],
        &["SCRIPT", "FLUSH"],
        &["FUNCTION", "LIST"],
        &["MODULE", "LIST"],
        &["DUMP", "steadfast:x"],
        &["RENAME", "steadfast:x", "steadfast:y"],
        &["SWAPDB", "0", "1"],
        &["CLUSTER", "RESET"],
        &["GET", "other"],
        &["DEL", "other"],
        &["EVAL", "return redis.call('GET', 'other')", "0"],
        &["EVAL", "return redis.call('FLUSHALL')", "0"],
        &["PUBLISH", "other", "1"],
        &["SUBSCRIBE", "other"],
    ] {
        let reply = server.ask_as_store(forbidden);
        let said = ["NOPERM", "can't run this command", "can't access at least one of the keys"];
        let refused =
            matches!(&reply, Reply::Error(why) if said.iter().any(|said| why.contains(said)));
        assert!(refused, "{forbidden:?}: {reply:?}");
    }
    assert_eq!(server.ask(&["GET", "other"]).text(), "1");
}

/// Shows ID-09.
#[tokio::test]
async fn a_dump_has_no_secret_in_any_encoding() {
    let server = Redis::start();
    let store = store(&server);
    let mut secrets = Vec::new();
    for n in 0..8 {
        let visitor = Visitor::arrive(&store).await;
        secrets.push(visitor.token.encode().to_string());
        let visitor = visitor.log_in(&store, &format!("user{n}")).await;
        visitor.write(&store, n).await.unwrap();
        secrets.push(visitor.token.encode().to_string());
    }
    let dump = server.dump();
    assert!(dump.len() >= 16, "records and indexes");
    for token in secrets {
        let secret = raw(&token)[16..].to_vec();
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        // As encoded inside the token, and as encoded on its own.
        let texts = [token.as_bytes()[22..].to_vec(), encoded(&secret[..30])];
        let standard = texts.clone().map(|text| {
            let letter = |b| {
                if b == b'-' {
                    b'+'
                } else if b == b'_' {
                    b'/'
                } else {
                    b
                }
            };
            text.into_iter().map(letter).collect::<Vec<_>>()
        });
        let others = [secret, hex.to_uppercase().into(), hex.into()];
        for encoding in texts.into_iter().chain(standard).chain(others) {
            for (key, bytes) in &dump {
                assert!(!holds(bytes, &encoding) && !holds(key.as_bytes(), &encoding), "{key}");
            }
        }
    }
}

/// Shows AR-02.
#[tokio::test]
async fn what_is_stored_opens_nothing() {
    let server = Redis::start();
    let store = store(&server);
    let visitor = Visitor::arrive(&store).await;
    // The stored digest, presented as a secret.
    let stolen = [visitor.id.as_bytes().as_slice(), visitor.hash().digest()].concat();
    let stolen = Token::decode(&encoded(&stolen)).unwrap();
    let hash: SecretHash = Keyring::unkeyed().hash(&Realm::default(), stolen.secret());
    let lookup = store.load(visitor.id, Some(&hash.into()), &RequestHint::default()).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(_)));
    assert!(
        !store
            .delete(visitor.id, &Deletion { proof: Some(&hash.into()), ..Deletion::LOGOUT })
            .await
            .unwrap()
            .is_ended()
    );
    assert!(visitor.is_live(&store).await);
}

#[tokio::test]
async fn two_prefixes_share_a_server_and_nothing_else() {
    let server = Redis::start();
    let [one, other] = [(); 2].map(|()| on(&server, builder()));
    let visitor = Visitor::arrive(&one).await;
    assert!(visitor.is_live(&one).await);
    assert!(!visitor.is_live(&other).await);
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Decodes a token's text.
fn raw(text: &str) -> Vec<u8> {
    let sextets = text.bytes().map(|b| ALPHABET.iter().position(|a| *a == b).unwrap());
    let bits: Vec<_> = sextets.collect();
    let triple = |four: &[usize]| {
        let word = (four[0] << 18) | (four[1] << 12) | (four[2] << 6) | four[3];
        [(word >> 16) as u8, (word >> 8) as u8, word as u8]
    };
    bits.chunks_exact(4).flat_map(triple).collect()
}

/// Encodes a token's bytes.
fn encoded(bytes: &[u8]) -> Vec<u8> {
    let four = |three: &[u8]| {
        let word = usize::from(three[0]) << 16 | usize::from(three[1]) << 8 | usize::from(three[2]);
        [18, 12, 6, 0].map(|shift| ALPHABET[(word >> shift) & 63])
    };
    bytes.chunks_exact(3).flat_map(four).collect()
}
