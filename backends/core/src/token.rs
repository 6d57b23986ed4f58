//! Session tokens: a selector that names the record, and a secret that opens it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::{Builder, Uuid};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base64url;
use crate::env::{Env, RandomError};

/// The client's credential: `base64url(selector 16 bytes ++ secret 32 bytes)`.
///
/// It has no `Display`, `Serialize` or ordering, its `Debug` shows only the selector, and its
/// secret is wiped on drop. Only [`encode`](Token::encode) reveals its text.
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn shown<T: std::fmt::Display>() {}
/// shown::<steadfast_core::Token>();
/// ```
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn compared<T: PartialEq>() {}
/// compared::<steadfast_core::Token>();
/// ```
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn ordered<T: PartialOrd>() {}
/// ordered::<steadfast_core::Token>();
/// ```
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn hashed<T: std::hash::Hash>() {}
/// hashed::<steadfast_core::Token>();
/// ```
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn encoded<T: serde::Serialize>() {}
/// encoded::<steadfast_core::Token>();
/// ```
///
/// ```compile_fail,E0277
/// # // Shows ID-08.
/// fn made<T: From<String>>() {}
/// made::<steadfast_core::Token>();
/// ```
///
/// ```
/// # // Shows ID-08.
/// fn wiped_when_dropped<T: zeroize::ZeroizeOnDrop>() {}
/// wiped_when_dropped::<steadfast_core::Secret>();
/// ```
pub struct Token {
    id: RecordId,
    secret: Secret,
}

impl Token {
    /// The number of characters of an encoded token.
    pub const LEN: usize = 64;

    /// Draws a fresh secret for the record `id`.
    ///
    /// # Errors
    ///
    /// Returns an error when the operating system provides no randomness. No weaker source is used.
    pub fn generate(id: RecordId, env: &Env) -> Result<Self, RandomError> {
        let mut secret = Secret([0; 32]);
        env.fill(&mut secret.0)?;
        Ok(Self { id, secret })
    }

    /// Returns the token for a session id of 128 random bits that another library keeps in its cookie.
    ///
    /// Selector and secret are hashes of the id with different prefixes, so a store cannot derive the id
    /// from the selector.
    pub fn derive(id: &[u8; 16]) -> Self {
        let hash = |purpose: &[u8]| Zeroizing::new(derived(purpose, id));
        let selector = hash(b"steadfast selector\0");
        let selector = selector.first_chunk().expect("a hash has 32 bytes");
        Self { id: RecordId::from_bytes(*selector), secret: Secret(*hash(b"steadfast secret\0")) }
    }

    /// Decodes exactly the 64 characters that [`encode`](Token::encode) produces.
    ///
    /// 48 bytes fill 64 base64url characters without a spare bit, so every token has a single
    /// spelling: no padding, no other alphabet, no surrounding space, no percent-encoding.
    pub fn decode(text: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 48]);
        base64url::decode(text.try_into().ok()?, &mut bytes)?;
        let (selector, secret) = bytes.split_first_chunk()?;
        Some(Self { id: RecordId::from_bytes(*selector), secret: Secret(secret.try_into().ok()?) })
    }

    /// Returns the text for the client, which is wiped on drop.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Vec::with_capacity(Self::LEN);
        self.encode_to(&mut text);
        Zeroizing::new(String::from_utf8(text).expect("base64url is ASCII"))
    }

    /// Appends the text for the client.
    pub fn encode_to(&self, text: &mut Vec<u8>) {
        let mut bytes = Zeroizing::new([0; 48]);
        bytes[..16].copy_from_slice(self.id.as_bytes());
        bytes[16..].copy_from_slice(&self.secret.0);
        base64url::encode(&bytes, text);
    }

    /// Returns the id of the record that this token names.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Compares two tokens in constant time.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && bool::from(self.secret.0.ct_eq(&other.secret.0))
    }

    /// Returns the part that opens the record.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The 256 random bits that open a record. They are wiped on drop and never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The identity of a record: a random UUID, the selector of its token.
///
/// It opens nothing, so it is the public handle of "your active sessions" and may be logged. To serde
/// it is a string, the UUID in hexadecimal with hyphens, so that it can be a part of a path or of a
/// JSON body:
///
/// ```
/// use steadfast_core::RecordId;
///
/// let id: RecordId = serde_json::from_str("\"67e55044-10b1-426f-9247-bb680e5fe0c8\"")?;
/// assert_eq!(id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
/// assert!(serde_json::from_str::<RecordId>("\"mine\"").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Uuid);

impl RecordId {
    /// Draws a random (version 4) id.
    ///
    /// # Errors
    ///
    /// Returns an error when the operating system provides no randomness.
    pub fn random(env: &Env) -> Result<Self, RandomError> {
        let mut bytes = [0; 16];
        env.fill(&mut bytes)?;
        Ok(Self(Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// Creates an id from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Returns the id as a UUID, for stores with a UUID type.
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for RecordId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for RecordId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("a session's handle is a UUID"))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn derived(purpose: &[u8], id: &[u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update(id).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_token_is_the_documented_one() {
        let token = Token::derive(&[7; 16]);
        let hash = |purpose: &[u8]| Sha256::digest([purpose, &[7; 16]].concat());
        assert_eq!(token.id().as_bytes()[..], hash(b"steadfast selector\0")[..16]);
        assert_eq!(token.secret().bytes()[..], hash(b"steadfast secret\0")[..]);
        assert!(!token.is_same(&Token::derive(&[8; 16])));
    }

    #[test]
    fn a_token_survives_the_round_trip() {
        let env = Env::system();
        let token = Token::generate(RecordId::random(&env).unwrap(), &env).unwrap();
        let text = token.encode();
        let back = Token::decode(text.as_bytes()).unwrap();
        assert_eq!(text.len(), Token::LEN);
        assert_eq!(back.id(), token.id());
        assert_eq!(back.secret().bytes(), token.secret().bytes());
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let good = "A".repeat(64);
        assert!(Token::decode(good.as_bytes()).is_some());
        for bad in [
            "",
            &good[1..],
            &format!("{good}A"),
            &format!("{}=", &good[1..]),
            &format!(" {}", &good[1..]),
            &format!("{}+", &good[1..]),
            &format!("{}/", &good[1..]),
            &format!("{}.", &good[1..]),
            &format!("{}%41", &good[3..]),
            &format!("\"{}\"", &good[2..]),
            &format!("{}\0", &good[1..]),
            &format!("{}\u{e9}", &good[2..]),
        ] {
            assert!(Token::decode(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::decode("B".repeat(64).as_bytes()).unwrap();
        let shown = format!("{token:?} {:?}", token.secret());
        assert!(shown.contains(&token.id().to_string()));
        assert!(!shown.contains("BBBB") && !shown.contains("65"), "{shown}");
    }
}
