//! What stores see of a secret: its hash, and the proof a request brings.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::principal::Realm;
use crate::token::Secret;

/// Turns secrets into hashes: `SHA-256(realm, secret)`, or `HMAC-SHA-256` where a key is given.
///
/// A secret has 256 random bits, so its plain hash cannot be searched for. A key adds that a stolen
/// store cannot even be matched against tokens seen elsewhere. The realm is part of the hash: a
/// token of one realm opens nothing in another.
#[derive(Clone, Default)]
pub struct Keyring {
    current: Option<HashKey>,
    accepted: Vec<HashKey>,
    accept_unkeyed: bool,
}

impl Keyring {
    /// Hashes without a key: the default.
    pub fn unkeyed() -> Self {
        Self::default()
    }

    /// Hashes under `key`, at least 32 bytes of it.
    ///
    /// # Errors
    ///
    /// When the key is shorter.
    pub fn keyed(key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { current: Some(HashKey::new(key)?), ..Self::default() })
    }

    /// Also accepts hashes under an earlier key. A match is hashed anew with the next patch.
    ///
    /// # Errors
    ///
    /// When the key is shorter than 32 bytes.
    pub fn accept(mut self, earlier: &[u8]) -> Result<Self, KeyError> {
        self.accepted.push(HashKey::new(earlier)?);
        Ok(self)
    }

    /// Also accepts hashes without a key, while a service moves from none to one.
    pub fn accept_unkeyed(mut self) -> Self {
        self.accept_unkeyed = true;
        self
    }

    /// The hash to store for a secret.
    pub fn hash(&self, realm: &Realm, secret: &Secret) -> SecretHash {
        match &self.current {
            Some(key) => key.hash(realm, secret),
            None => unkeyed_hash(realm, secret),
        }
    }

    /// The proof that a presented secret gives: one hash per key that is still accepted.
    pub fn prove(&self, realm: &Realm, secret: &Secret) -> Proof {
        let unkeyed =
            (self.accept_unkeyed && self.current.is_some()).then(|| unkeyed_hash(realm, secret));
        let earlier = self.accepted.iter().map(|key| key.hash(realm, secret)).chain(unkeyed);
        Proof { current: self.hash(realm, secret), earlier: earlier.collect() }
    }

    /// Whether a stored hash was made under the key that is current now.
    pub fn is_current(&self, hash: &SecretHash) -> bool {
        hash.key == self.current.as_ref().map_or(KeyId::NONE, |key| key.id)
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

/// The hash of a secret, and the name of the key it was made under.
///
/// Equality is constant-time. It opens nothing: presented as a secret, it is hashed again.
#[derive(Clone, Copy)]
pub struct SecretHash {
    key: KeyId,
    digest: [u8; 32],
}

impl SecretHash {
    /// The hash a store kept.
    pub const fn from_parts(key: KeyId, digest: [u8; 32]) -> Self {
        Self { key, digest }
    }

    /// The key it was made under.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The 32 bytes to keep.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
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

/// The name of a hash key: derived from the key, so that it cannot be configured wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId(pub u32);

impl KeyId {
    /// Names the plain hash, made without a key.
    pub const NONE: Self = Self(0);
}

/// What a request shows for the right to a record: the hashes of the secret it presented.
#[derive(Clone, Debug)]
pub struct Proof {
    current: SecretHash,
    earlier: Vec<SecretHash>,
}

impl Proof {
    /// Whether the proof shows knowledge of the secret behind `stored`, in constant time.
    pub fn matches(&self, stored: &SecretHash) -> bool {
        self.current == *stored || self.earlier.iter().any(|hash| hash == stored)
    }

    /// The same proof with a hash under an earlier key: for a store that takes a proof apart to send
    /// it from node to node.
    #[must_use]
    pub fn with_earlier(mut self, earlier: SecretHash) -> Self {
        self.earlier.push(earlier);
        self
    }

    /// The hashes, the one under the current key first, for a store that compares on its server.
    pub fn hashes(&self) -> impl Iterator<Item = &SecretHash> {
        std::iter::once(&self.current).chain(&self.earlier)
    }
}

impl From<SecretHash> for Proof {
    fn from(current: SecretHash) -> Self {
        Self { current, earlier: Vec::new() }
    }
}

/// A key of the keyring is too short to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash key of {len} bytes is too short: use at least {} random bytes", HashKey::MIN)]
pub struct KeyError {
    /// The length of the key that was given, in bytes.
    pub len: usize,
}

#[derive(Clone)]
struct HashKey {
    id: KeyId,
    key: Zeroizing<Vec<u8>>,
}

impl HashKey {
    const MIN: usize = 32;

    fn new(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() < Self::MIN {
            return Err(KeyError { len: key.len() });
        }
        let named = Sha256::new_with_prefix(b"steadfast key id").chain_update(key).finalize();
        let id = u32::from_be_bytes([named[0], named[1], named[2], named[3]]).max(1);
        Ok(Self { id: KeyId(id), key: Zeroizing::new(key.to_vec()) })
    }

    fn hash(&self, realm: &Realm, secret: &Secret) -> SecretHash {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let digest =
            mac.chain_update(realm.as_str()).chain_update([0]).chain_update(secret.bytes());
        SecretHash { key: self.id, digest: digest.finalize().into_bytes().into() }
    }
}

/// A realm has no NUL and at most 22 bytes, a secret has 32: the input is unambiguous, and fits the
/// one block of 55 bytes that SHA-256 hashes at once.
fn unkeyed_hash(realm: &Realm, secret: &Secret) -> SecretHash {
    let digest = Sha256::new_with_prefix(realm.as_str()).chain_update([0]);
    SecretHash { key: KeyId::NONE, digest: digest.chain_update(secret.bytes()).finalize().into() }
}

/// Compares in constant time, a word at a time: what differs is collected, and looked at once.
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
    fn a_proof_matches_the_hash_of_its_own_secret_only() {
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
    fn a_realm_does_not_accept_the_token_of_another() {
        let (ring, token) = (Keyring::unkeyed(), token());
        let elsewhere = ring.hash(&Realm::new("admin").unwrap(), token.secret());
        assert!(!proves(&ring, &token, &elsewhere));
    }

    #[test]
    fn an_earlier_key_still_matches_while_it_is_accepted() {
        let (old, token) = (Keyring::keyed(&[1; 32]).unwrap(), token());
        let new = Keyring::keyed(&[2; 32]).unwrap();
        let both = new.clone().accept(&[1; 32]).unwrap();
        let stored = old.hash(&Realm::default(), token.secret());
        assert!(proves(&both, &token, &stored));
        assert!(!both.is_current(&stored));
        assert!(!proves(&new, &token, &stored));
    }

    #[test]
    fn a_plain_hash_matches_only_while_that_is_accepted() {
        let (keyed, token) = (Keyring::keyed(&[2; 32]).unwrap(), token());
        let stored = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        assert!(!proves(&keyed, &token, &stored));
        assert!(proves(&keyed.accept_unkeyed(), &token, &stored));
    }

    #[test]
    fn a_short_key_is_refused_with_its_length() {
        let error = Keyring::keyed(&[0; 31]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a hash key of 31 bytes is too short: use at least 32 random bytes"
        );
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

    fn proves(ring: &Keyring, token: &Token, stored: &SecretHash) -> bool {
        ring.prove(&Realm::default(), token.secret()).matches(stored)
    }
}
