//! Hashes and proofs: the parts of a secret that stores see.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::principal::Realm;
use crate::token::Secret;

/// Turns secrets into hashes: `SHA-256(realm, secret)`, or `HMAC-SHA-256` where a key is given.
///
/// A secret has 256 random bits, so its plain hash cannot be searched for. With a key, a stolen store
/// cannot even be matched against tokens seen elsewhere. The realm is part of the hash: a token of one
/// realm opens nothing in another.
///
/// # Changing a key
///
/// The keys of a service form a ring that is ordered by name: of two keys, the one whose name sorts
/// later (byte by byte) is the newer. A stored hash moves to the current key with the next patch of its
/// session, and only from an older key, so nodes at neighbouring steps of a change never move a hash
/// back and forth. Change a key in three steps, each on every node before the next begins:
///
/// 1. accept the new key: `Keyring::keyed("k1", old)?.accept("k2", new)?`
/// 2. make it current: `Keyring::keyed("k2", new)?.accept("k1", old)?`
/// 3. after the absolute lifetime, drop the old one: `Keyring::keyed("k2", new)?`
///
/// A node that lacks the key which a hash names cannot judge the secret. It answers
/// [`StoreError::UnknownKey`](crate::StoreError::UnknownKey) and changes nothing.
#[derive(Clone, Default)]
pub struct Keyring {
    current: Option<HashKey>,
    accepted: Vec<HashKey>,
    accept_unkeyed: bool,
}

impl Keyring {
    /// Creates a keyring that hashes without a key: the default.
    pub fn unkeyed() -> Self {
        Self::default()
    }

    /// Creates a keyring with one named key.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is shorter than 32 bytes, or the name is not 1 to 16 of `A-Z
    /// a-z 0-9 . _ -`.
    pub fn keyed(name: &str, key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { current: Some(HashKey::new(name, key)?), ..Self::default() })
    }

    /// Also accepts hashes under another key of the ring, older or newer.
    ///
    /// # Errors
    ///
    /// Returns an error when the key is shorter than 32 bytes, the name is not 1 to 16 of `A-Z a-z
    /// 0-9 . _ -`, or another key of the ring has that name.
    pub fn accept(mut self, name: &str, key: &[u8]) -> Result<Self, KeyError> {
        let key = HashKey::new(name, key)?;
        if self.current.iter().chain(&self.accepted).any(|known| known.id.name == key.id.name) {
            return Err(KeyError::Taken { name: name.to_owned() });
        }
        self.accepted.push(key);
        Ok(self)
    }

    /// Also accepts hashes without a key, which count as older than any key. Use it to introduce a
    /// first key.
    #[must_use]
    pub fn accept_unkeyed(mut self) -> Self {
        self.accept_unkeyed = true;
        self
    }

    /// Returns the hash to store for a secret.
    pub fn hash(&self, realm: &Realm, secret: &Secret) -> SecretHash {
        match &self.current {
            Some(key) => key.hash(realm, secret),
            None => unkeyed_hash(realm, secret),
        }
    }

    /// Returns the proof for a presented secret: one hash per accepted key.
    pub fn prove(&self, realm: &Realm, secret: &Secret) -> Proof {
        let accepts_unkeyed = self.accept_unkeyed && self.current.is_some();
        let unkeyed = accepts_unkeyed.then(|| unkeyed_hash(realm, secret));
        let others = self.accepted.iter().map(|key| key.hash(realm, secret)).chain(unkeyed);
        Proof { current: self.hash(realm, secret), others: others.collect() }
    }

    /// Returns the move of a secret to the current key, or `None` if the proof has no hash under an
    /// older key.
    pub fn rehash(&self, proof: &Proof) -> Option<Rehash> {
        let to = proof.current;
        if to.key != self.current_id() {
            return None;
        }
        let is_older = |hash: &&SecretHash| hash.key.is_older_than(&to.key);
        let from: Vec<_> = proof.others.iter().filter(is_older).copied().collect();
        (!from.is_empty()).then_some(Rehash { from, to })
    }

    fn current_id(&self) -> KeyId {
        self.current.as_ref().map_or(KeyId::NONE, |key| key.id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("current", &self.current.as_ref().map(|key| key.id))
            .field("accepted", &self.accepted.iter().map(|key| key.id).collect::<Vec<_>>())
            .field("accept_unkeyed", &self.accept_unkeyed)
            .finish()
    }
}

/// The same secret, hashed under a newer key. Unlike a rotation it replaces no secret: a record
/// whose hash is not in `from` keeps it, and the rest of the patch applies all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehash {
    /// Hashes of the secret under older keys.
    pub from: Vec<SecretHash>,
    /// The hash under the current key.
    pub to: SecretHash,
}

impl Rehash {
    /// Returns the new hash of a record that has the hash `stored`, if it changes.
    pub fn of(&self, stored: &SecretHash) -> Option<SecretHash> {
        self.from.contains(stored).then_some(self.to)
    }
}

/// The hash of a secret, and the key it was made under.
///
/// Equality is constant-time. It opens nothing: presented as a secret, it is hashed again.
#[derive(Clone, Copy)]
pub struct SecretHash {
    key: KeyId,
    digest: [u8; 32],
}

impl SecretHash {
    /// Bytes that two hashes of one secret under one key have in common, at the start of
    /// [`to_bytes`](Self::to_bytes): for stores that compare on their server.
    pub const COMPARED: usize = 4 + 32;

    /// Creates a hash from its parts.
    pub const fn from_parts(key: KeyId, digest: [u8; 32]) -> Self {
        Self { key, digest }
    }

    /// Returns the key that it was made with.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// Returns the digest.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Returns the stored form: the key's fingerprint (4 bytes), the digest (32 bytes), and the
    /// key's name (up to 16 bytes; none without a key).
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.print.to_be_bytes(), &self.digest[..], self.key.name().as_bytes()].concat()
    }

    /// Returns the first [`COMPARED`](Self::COMPARED) bytes of the stored form.
    pub fn compared(&self) -> [u8; Self::COMPARED] {
        let mut bytes = [0; Self::COMPARED];
        bytes[..4].copy_from_slice(&self.key.print.to_be_bytes());
        bytes[4..].copy_from_slice(&self.digest);
        bytes
    }

    /// Parses the stored form. Returns `None` if it is malformed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (print, rest) = bytes.split_first_chunk()?;
        let (digest, name) = rest.split_first_chunk()?;
        let name = std::str::from_utf8(name).ok()?;
        Some(Self { key: KeyId::from_parts(u32::from_be_bytes(*print), name)?, digest: *digest })
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && is_same(&self.digest, &other.digest)
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretHash").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The public identity of a hash key: a fingerprint of its bytes, and the name that an operator
/// gave it.
///
/// Two ids are equal if their fingerprints are equal, so a key with the same name and other bytes
/// is another key. The name is for ordering and for people.
#[derive(Clone, Copy)]
pub struct KeyId {
    print: u32,
    /// The name, padded with zeros.
    name: [u8; Self::NAME_BYTES],
}

impl KeyId {
    /// The id of the plain hash, made without a key.
    pub const NONE: Self = Self { print: 0, name: [0; Self::NAME_BYTES] };

    /// The highest number of bytes in a name.
    pub const NAME_BYTES: usize = 16;

    /// Creates an id from its parts. Returns `None` if the name is not 0 to 16 of `A-Z a-z 0-9 . _
    /// -`. Records that were written before keys had names have an empty one.
    pub fn from_parts(print: u32, name: &str) -> Option<Self> {
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let mut padded = [0; Self::NAME_BYTES];
        padded.get_mut(..name.len()).filter(|_| is_plain)?.copy_from_slice(name.as_bytes());
        Some(Self { print, name: padded })
    }

    /// Returns the fingerprint; 0 without a key.
    pub const fn print(&self) -> u32 {
        self.print
    }

    /// Returns the name; empty if there is no key or the name is unknown.
    pub fn name(&self) -> &str {
        let len = self.name.iter().position(|b| *b == 0).unwrap_or(Self::NAME_BYTES);
        std::str::from_utf8(&self.name[..len]).expect("a name is ASCII")
    }

    /// Returns true if hashes move from this key to the other. No key is the oldest; names decide
    /// otherwise.
    fn is_older_than(&self, other: &Self) -> bool {
        *self != *other && self.name < other.name
    }
}

impl PartialEq for KeyId {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for KeyId {}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.print, self.name()) {
            (0, _) => f.write_str("no key"),
            (print, name) => write!(f, "key {name:?} (fingerprint {print:08x})"),
        }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The evidence that a request presents to open a record: the hashes of its secret.
#[derive(Clone, Debug)]
pub struct Proof {
    current: SecretHash,
    others: Vec<SecretHash>,
}

impl Proof {
    /// Returns whether the proof matches the secret in `stored`, in constant time. Returns `None`
    /// if the proof has no hash under the key of `stored`.
    pub fn judge(&self, stored: &SecretHash) -> Option<bool> {
        let mut comparable = self.hashes().filter(|hash| hash.key == stored.key).peekable();
        comparable.peek()?;
        Some(comparable.fold(false, |found, hash| found | (hash == stored)))
    }

    /// Adds a hash under another key, for a store that sends proofs from node to node.
    #[must_use]
    pub fn with_other(mut self, other: SecretHash) -> Self {
        self.others.push(other);
        self
    }

    /// Returns the hashes, the one under the current key first, for a store that compares on its
    /// server.
    pub fn hashes(&self) -> impl Iterator<Item = &SecretHash> {
        std::iter::once(&self.current).chain(&self.others)
    }
}

impl From<SecretHash> for Proof {
    fn from(current: SecretHash) -> Self {
        Self { current, others: Vec::new() }
    }
}

/// A key that a keyring rejects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key is too short to use.
    #[error("a hash key of {len} bytes is too short: use at least {} random bytes", HashKey::MIN)]
    TooShort {
        /// The length of the given key in bytes.
        len: usize,
    },
    /// The name is malformed.
    #[error("the key name {name:?} is not 1 to 16 of the characters A-Z a-z 0-9 . _ -")]
    Name {
        /// The given name.
        name: String,
    },
    /// Another key of the ring has this name.
    #[error("two keys of the ring are named {name:?}: give the newer one a name that sorts later")]
    Taken {
        /// The name of both keys.
        name: String,
    },
}

#[derive(Clone)]
struct HashKey {
    id: KeyId,
    key: Zeroizing<Vec<u8>>,
}

impl HashKey {
    const MIN: usize = 32;

    fn new(name: &str, key: &[u8]) -> Result<Self, KeyError> {
        if key.len() < Self::MIN {
            return Err(KeyError::TooShort { len: key.len() });
        }
        let digest = Sha256::new_with_prefix(b"steadfast key id").chain_update(key).finalize();
        let print = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1);
        let id = KeyId::from_parts(print, name).filter(|_| !name.is_empty());
        let id = id.ok_or_else(|| KeyError::Name { name: name.to_owned() })?;
        Ok(Self { id, key: Zeroizing::new(key.to_vec()) })
    }

    fn hash(&self, realm: &Realm, secret: &Secret) -> SecretHash {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let digest =
            mac.chain_update(realm.as_str()).chain_update([0]).chain_update(secret.bytes());
        SecretHash { key: self.id, digest: digest.finalize().into_bytes().into() }
    }
}

/// The input is unambiguous, because a realm has at most 22 bytes and no NUL, and a secret has 32.
/// It also fits the 55 bytes that SHA-256 hashes as a single block.
fn unkeyed_hash(realm: &Realm, secret: &Secret) -> SecretHash {
    let digest = Sha256::new_with_prefix(realm.as_str()).chain_update([0]);
    SecretHash { key: KeyId::NONE, digest: digest.chain_update(secret.bytes()).finalize().into() }
}

/// Compares in constant time, a word at a time: differences are accumulated and tested once.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let words = |digest: &[u8; 32]| {
        std::array::from_fn::<_, 4, _>(|n| {
            let word = digest[8 * n..8 * n + 8].try_into().expect("8 bytes are a word");
            u64::from_ne_bytes(word)
        })
    };
    let different = words(one).iter().zip(words(other)).fold(0, |sum, (a, b)| sum | (a ^ b));
    different.ct_eq(&0).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::token::{RecordId, Token};

    #[test]
    fn a_proof_only_matches_its_own_secret() {
        let (ring, mine, other) = (Keyring::unkeyed(), token(), token());
        assert!(proves(&ring, &mine, &ring.hash(&Realm::default(), mine.secret())));
        assert!(!proves(&ring, &other, &ring.hash(&Realm::default(), mine.secret())));
    }

    #[test]
    fn hashes_that_differ_in_one_bit_are_different() {
        let hash = |digest| SecretHash::from_parts(KeyId::NONE, digest);
        for bit in 0..256 {
            let mut digest = [7; 32];
            digest[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash(digest), hash([7; 32]));
        }
        assert_eq!(hash([7; 32]), hash([7; 32]));
    }

    #[test]
    fn a_realm_rejects_tokens_of_another() {
        let (ring, token) = (Keyring::unkeyed(), token());
        let elsewhere = ring.hash(&Realm::new("admin").unwrap(), token.secret());
        assert!(!proves(&ring, &token, &elsewhere));
    }

    #[test]
    fn an_accepted_key_still_matches() {
        let (old, token) = (ring("k1"), token());
        let both = ring("k2").accept("k1", &[b'1'; 32]).unwrap();
        let stored = old.hash(&Realm::default(), token.secret());
        assert!(proves(&both, &token, &stored));
    }

    #[test]
    fn an_unknown_key_cannot_be_judged() {
        let (old, new, token) = (ring("k1"), ring("k2"), token());
        let stored = old.hash(&Realm::default(), token.secret());
        let proof = new.prove(&Realm::default(), token.secret());
        assert_eq!(proof.judge(&stored), None);
        let plain = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        assert_eq!(proof.judge(&plain), None);
        let accepting = new.accept_unkeyed().prove(&Realm::default(), token.secret());
        assert_eq!(accepting.judge(&plain), Some(true));
    }

    #[test]
    fn a_hash_moves_to_the_newer_key() {
        let token = token();
        let moves = |ring: &Keyring, from: &Keyring| {
            let stored = from.hash(&Realm::default(), token.secret());
            let rehash = ring.rehash(&ring.prove(&Realm::default(), token.secret()));
            rehash.and_then(|rehash| rehash.of(&stored)).is_some()
        };
        let (first, second) = (ring("k1"), ring("k2"));
        let accepts_newer = ring("k1").accept("k2", &[b'2'; 32]).unwrap();
        let accepts_older = ring("k2").accept("k1", &[b'1'; 32]).unwrap();
        assert!(moves(&accepts_older, &first));
        assert!(!moves(&accepts_newer, &second));
        assert!(!moves(&accepts_older, &second));
        assert!(moves(&ring("k1").accept_unkeyed(), &Keyring::unkeyed()));
        assert!(!moves(&ring("k1"), &Keyring::unkeyed()));
    }

    #[test]
    fn a_hash_survives_its_stored_form() {
        for ring in [Keyring::unkeyed(), ring("k1"), ring("november-16bytes")] {
            let hash = ring.hash(&Realm::default(), token().secret());
            let back = SecretHash::from_bytes(&hash.to_bytes()).unwrap();
            assert_eq!(back, hash);
            assert_eq!(back.key().name(), hash.key().name());
            assert_eq!(hash.to_bytes()[..SecretHash::COMPARED], hash.compared());
        }
        assert!(SecretHash::from_bytes(&[0; 35]).is_none());
        assert!(SecretHash::from_bytes(&[7; 53]).is_none());
    }

    #[test]
    fn a_key_that_is_not_taken_says_why() {
        let error = Keyring::keyed("k1", &[0; 31]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a hash key of 31 bytes is too short: use at least 32 random bytes"
        );
        for bad in ["", "a b", "k=1", "seventeen-letters"] {
            let error = Keyring::keyed(bad, &[0; 32]).unwrap_err();
            assert_eq!(error, KeyError::Name { name: bad.to_owned() });
        }
        let error = ring("k1").accept("k1", &[9; 32]).unwrap_err();
        assert_eq!(error, KeyError::Taken { name: "k1".to_owned() });
    }

    #[test]
    fn the_plain_hash_is_the_documented_one() {
        let token = Token::decode("A".repeat(64).as_bytes()).unwrap();
        let expected = Sha256::digest([b"session\0".as_slice(), &[0; 32]].concat());
        let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        assert_eq!(hash.digest()[..], expected[..]);
    }

    fn token() -> Token {
        let env = Env::system();
        Token::generate(RecordId::random(&env).unwrap(), &env).unwrap()
    }

    /// Creates a ring of one key, derived from its name.
    fn ring(name: &str) -> Keyring {
        Keyring::keyed(name, &[*name.as_bytes().last().unwrap(); 32]).unwrap()
    }

    fn proves(ring: &Keyring, token: &Token, stored: &SecretHash) -> bool {
        ring.prove(&Realm::default(), token.secret()).judge(stored) == Some(true)
    }
}
