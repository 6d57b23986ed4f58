//! The keys under which values are sealed.

use std::borrow::Cow;
use std::fmt;

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305, XNonce};
use steadfast_core::{Env, RandomError, RawJson, Sealed};

use super::error::OpenError;
use super::place::Place;

/// The keys under which the values of sessions are sealed: the first one seals, all of them open.
///
/// The cipher is XChaCha20-Poly1305. A value is bound to its realm, its session and its key: moved
/// anywhere else, it does not open. [`guide::sealing`](crate::guide::sealing) says what this protects and
/// what not, what it costs, and how to switch it on in a running service.
///
/// ```
/// use steadfast::{MemoryStore, SealKeys, SessionLayer};
///
/// # fn keys() -> [[u8; 32]; 2] { [[1; 32], [2; 32]] }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let [new, old] = keys();
/// let keys = SealKeys::new("2026-11", &new)?.accept("2026-05", &old)?;
/// let sessions = SessionLayer::new(MemoryStore::new()).seal(keys);
/// # Ok(())
/// # }
/// ```
///
/// # Changing a key
///
/// A stored value names its key, and moves to the first one when it is written again. Change a key in
/// three steps, each on every node before the next begins:
///
/// 1. accept the new key: `SealKeys::new("k1", old)?.accept("k2", new)?`
/// 2. seal under it: `SealKeys::new("k2", new)?.accept("k1", old)?`
/// 3. after the absolute lifetime, drop the old one: `SealKeys::new("k2", new)?`
///
/// # Nonces
///
/// Every seal takes a fresh nonce of 192 random bits from the operating system, and without randomness
/// nothing is sealed. After 2^64 values under one key, the chance that any two of them had the same nonce
/// is 2^-65 (the birthday bound, n^2/2 over 2^192; `draft-irtf-cfrg-xchacha-03`, section 3.1). No node has to
/// remember a counter, so neither a restart nor a copy of a machine can repeat one.
#[derive(Clone)]
pub struct SealKeys {
    /// The first one seals.
    keys: Vec<NamedKey>,
    accepts_plain: bool,
    writes_plain: bool,
}

impl SealKeys {
    /// Seals values under the key of this name, and opens those that it sealed.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::SealKeys;
    ///
    /// assert!(SealKeys::new("2026-11", &[7; 32]).is_ok());
    /// assert!(SealKeys::new("2026-11", &[7; 16]).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// When the key is not 32 bytes long, or the name is not 1 to 16 of `A-Z a-z 0-9 . _ -`.
    pub fn new(name: &str, key: &[u8]) -> Result<Self, SealKeyError> {
        let keys = vec![NamedKey::new(name, key)?];
        Ok(Self { keys, accepts_plain: false, writes_plain: false })
    }

    /// Also opens values that were sealed under another key.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::SealKeys;
    ///
    /// let keys = SealKeys::new("2026-11", &[7; 32]).unwrap();
    /// assert!(keys.clone().accept("2026-05", &[5; 32]).is_ok());
    /// assert!(keys.accept("2026-11", &[5; 32]).is_err(), "the name is taken");
    /// ```
    ///
    /// # Errors
    ///
    /// When the key is not 32 bytes long, the name is not 1 to 16 of `A-Z a-z 0-9 . _ -`, or another key
    /// has that name.
    pub fn accept(mut self, name: &str, key: &[u8]) -> Result<Self, SealKeyError> {
        if self.keys.iter().any(|known| known.name == name) {
            return Err(SealKeyError::Taken { name: name.to_owned() });
        }
        self.keys.push(NamedKey::new(name, key)?);
        Ok(self)
    }

    /// Also accepts values that are not sealed. By default, reading such a value is an error.
    ///
    /// A service that enables sealing needs this until its oldest session has reached its absolute deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::SealKeys;
    ///
    /// let keys = SealKeys::new("2026-11", &[7; 32]).unwrap().accept_plain();
    /// ```
    #[must_use]
    pub fn accept_plain(self) -> Self {
        Self { accepts_plain: true, ..self }
    }

    /// Writes values unsealed, and accepts values that are not sealed.
    ///
    /// This is the first step of enabling sealing, as long as other nodes cannot open sealed values, and the
    /// first step of disabling it.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::SealKeys;
    ///
    /// let keys = SealKeys::new("2026-11", &[7; 32]).unwrap().write_plain();
    /// ```
    #[must_use]
    pub fn write_plain(self) -> Self {
        Self { accepts_plain: true, writes_plain: true, ..self }
    }

    pub(crate) fn seals(&self) -> bool {
        !self.writes_plain
    }

    pub(crate) fn seal(
        &self,
        place: Place<'_>,
        value: &[u8],
        env: &Env,
    ) -> Result<RawJson, RandomError> {
        let current = self.keys.first().expect("a ring begins with a key");
        Ok(current.seal(place, fresh_nonce(env)?, value))
    }

    pub(crate) fn open<'v>(
        &self,
        place: Place<'_>,
        stored: &'v [u8],
    ) -> Result<Cow<'v, [u8]>, OpenError> {
        let Some(sealed) = Sealed::parse(stored) else {
            return self.accept_unsealed(stored);
        };
        let name = sealed.key();
        let Some(key) = self.keys.iter().find(|key| key.name == name) else {
            return Err(OpenError::UnknownKey { name: name.to_owned() });
        };
        let opened = sealed.bytes().and_then(|bytes| key.open(place, bytes));
        opened.map(Cow::Owned).ok_or_else(|| OpenError::Altered { name: name.to_owned() })
    }

    /// A counter is never sealed: stores add to it.
    fn accept_unsealed<'v>(&self, stored: &'v [u8]) -> Result<Cow<'v, [u8]>, OpenError> {
        match self.accepts_plain || serde_json::from_slice::<i64>(stored).is_ok() {
            true => Ok(Cow::Borrowed(stored)),
            false => Err(OpenError::Plain),
        }
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.keys.iter().map(|key| &key.name).collect();
        f.debug_struct("SealKeys")
            .field("keys", &names)
            .field("accepts_plain", &self.accepts_plain)
            .field("writes_plain", &self.writes_plain)
            .finish()
    }
}

/// A key that values cannot be sealed under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealKeyError {
    /// The key has another length.
    #[error("a seal key of {len} bytes: expected {KEY} random bytes")]
    Length {
        /// The length of the key that was given, in bytes.
        len: usize,
    },
    /// The name has the wrong form.
    #[error("the key name {name:?} is not 1 to 16 of the characters A-Z a-z 0-9 . _ -")]
    Name {
        /// The name that was given.
        name: String,
    },
    /// Another key has this name.
    #[error("two seal keys are named {name:?}")]
    Taken {
        /// The name.
        name: String,
    },
}

#[derive(Clone)]
struct NamedKey {
    name: String,
    /// Wipes the key when it is dropped.
    cipher: XChaCha20Poly1305,
}

impl NamedKey {
    fn new(name: &str, key: &[u8]) -> Result<Self, SealKeyError> {
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_plain || !(1..=16).contains(&name.len()) {
            return Err(SealKeyError::Name { name: name.to_owned() });
        }
        let cipher = XChaCha20Poly1305::new_from_slice(key);
        let cipher = cipher.map_err(|_| SealKeyError::Length { len: key.len() })?;
        Ok(Self { name: name.to_owned(), cipher })
    }

    /// The nonce, the ciphertext and the tag, as they are stored.
    fn seal(&self, place: Place<'_>, nonce: [u8; NONCE], value: &[u8]) -> RawJson {
        let mut sealed = Vec::with_capacity(value.len() + Sealed::OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let text = (&mut sealed[NONCE..]).into();
        let tag = self.cipher.encrypt_inout_detached(&nonce.into(), &bound_to(place), text);
        sealed.extend_from_slice(&tag.expect("a value is shorter than 256 GiB"));
        Sealed::compose(&self.name, &sealed)
    }

    fn open(&self, place: Place<'_>, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let tag = *sealed.last_chunk::<TAG>()?;
        sealed.truncate(sealed.len() - TAG);
        let (nonce, text) = sealed.split_first_chunk_mut::<NONCE>()?;
        let nonce = XNonce::from(*nonce);
        let aad = bound_to(place);
        self.cipher.decrypt_inout_detached(&nonce, &aad, text.into(), &tag.into()).ok()?;
        sealed.drain(..NONCE);
        Some(sealed)
    }
}

fn fresh_nonce(env: &Env) -> Result<[u8; NONCE], RandomError> {
    let mut nonce = [0; NONCE];
    env.fill(&mut nonce)?;
    Ok(nonce)
}

/// The associated data. A realm has no NUL, and an id has 16 bytes: no two places have the same.
fn bound_to(Place { realm, id, key }: Place<'_>) -> Vec<u8> {
    [realm.as_str().as_bytes(), &[0], id.as_bytes(), key.as_bytes()].concat()
}

const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use steadfast_core::{Realm, RecordId};

    use super::*;

    /// Shows AR-10.
    #[test]
    fn the_cipher_is_that_of_the_draft() {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce: [u8; NONCE] = std::array::from_fn(|n| 0x40 + n as u8);
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let mut text =
            *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
            for the future, sunscreen would be it.";
        let cipher = NamedKey::new("k", &key).unwrap().cipher;
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, (&mut text[..]).into());
        // Appendix A.3.1 of draft-irtf-cfrg-xchacha-03.
        assert_eq!(
            hex(&text),
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda\
             7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b23835\
             65d3fff921f9664c97637da9768812f615c68b13b52e"
        );
        assert_eq!(hex(&tag.unwrap()), "c0875924c1c7987947deafd8780acf49");
    }

    /// Shows AR-10.
    #[test]
    fn no_nonce_comes_twice() {
        let (env, mut seen) = (Env::system(), HashSet::new());
        for _ in 0..200_000 {
            // No third of it comes twice either, so none of its bits is wasted.
            for word in fresh_nonce(&env).unwrap().chunks(8) {
                assert!(seen.insert(<[u8; 8]>::try_from(word).unwrap()));
            }
        }
    }

    /// Shows AR-10.
    #[test]
    fn every_seal_takes_a_fresh_nonce() {
        let nonce =
            |sealed: &[u8]| Sealed::parse(sealed).unwrap().bytes().unwrap()[..NONCE].to_vec();
        let nonces: HashSet<_> = (0..300).map(|_| nonce(&sealed(&ring(), b"1"))).collect();
        assert_eq!(nonces.len(), 300);
    }

    /// Shows AR-03.
    #[test]
    fn a_value_with_a_flipped_bit_stays_sealed() {
        let keys = ring().accept("k3", &[3; 32]).unwrap();
        let sealed = sealed(&keys, br#"{"name":"alice"}"#);
        for bit in 0..8 * sealed.len() {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.open(home(), &changed).is_err(), "bit {bit}");
        }
        assert!(keys.open(home(), &sealed[..sealed.len() - 2]).is_err());
    }

    /// Shows AR-04.
    #[test]
    fn a_value_opens_at_its_own_place_only() {
        let (keys, realm) = (ring(), Realm::new("b").unwrap());
        let sealed = sealed(&keys, b"\"x\"");
        for place in [
            Place { realm: &realm, ..home() },
            Place { id: RecordId::random(&Env::system()).unwrap(), ..home() },
            Place { key: "carts", ..home() },
            Place { key: "", ..home() },
        ] {
            let error = keys.open(place, &sealed).unwrap_err();
            assert_eq!(error, OpenError::Altered { name: "k1".to_owned() });
        }
    }

    /// Shows AR-06.
    #[test]
    fn an_old_key_opens_values_after_rotation() {
        let old = sealed(&ring(), b"1");
        let both = SealKeys::new("k2", &[2; 32]).unwrap().accept("k1", &[1; 32]).unwrap();
        assert_eq!(both.open(home(), &old).unwrap(), b"1".as_slice());
        let new = sealed(&both, b"1");
        assert_eq!(Sealed::parse(&new).unwrap().key(), "k2");
        let error = ring().open(home(), &new).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"it is sealed under the key "k2", which is not in the ring"#
        );
    }

    #[test]
    fn another_key_of_the_same_name_opens_nothing() {
        let other = SealKeys::new("k1", &[9; 32]).unwrap();
        let error = other.open(home(), &sealed(&ring(), b"1")).unwrap_err();
        assert_eq!(error, OpenError::Altered { name: "k1".to_owned() });
    }

    /// Shows IN-07.
    #[test]
    fn what_is_not_sealed_is_refused() {
        let plain =
            [br#""alice""#.as_slice(), b"true", b"null", b"1.5", b"[1]", b"", b"\"$sealed2:\""];
        for json in plain {
            assert_eq!(ring().open(home(), json), Err(OpenError::Plain));
            assert_eq!(ring().accept_plain().open(home(), json).unwrap(), json);
        }
        assert_eq!(ring().open(home(), b"-7").unwrap(), b"-7".as_slice(), "a counter");
    }

    #[test]
    fn a_ring_that_writes_plain_opens_sealed_values() {
        let keys = ring().write_plain();
        assert!(!keys.seals());
        assert_eq!(keys.open(home(), &sealed(&ring(), b"1")).unwrap(), b"1".as_slice());
    }

    #[test]
    fn without_randomness_nothing_is_sealed() {
        let broken = Env::new(steadfast_core::SystemClock, Broken);
        assert!(ring().seal(home(), b"1", &broken).is_err());
    }

    #[test]
    fn a_key_that_is_not_taken_says_why() {
        let error = SealKeys::new("k1", &[0; 31]).unwrap_err();
        assert_eq!(error.to_string(), "a seal key of 31 bytes: expected 32 random bytes");
        for bad in ["", "a b", "k:1", "seventeen-letters"] {
            let error = SealKeys::new(bad, &[0; 32]).unwrap_err();
            assert_eq!(error, SealKeyError::Name { name: bad.to_owned() });
        }
        let error = ring().accept("k1", &[9; 32]).unwrap_err();
        assert_eq!(error, SealKeyError::Taken { name: "k1".to_owned() });
    }

    #[test]
    fn debug_shows_names_and_no_key() {
        assert_eq!(
            format!("{:?}", ring()),
            r#"SealKeys { keys: ["k1"], accepts_plain: false, writes_plain: false }"#
        );
    }

    proptest! {
        #[test]
        fn every_value_opens_as_it_was(value in proptest::collection::vec(any::<u8>(), 0..600)) {
            let keys = ring();
            let sealed = sealed(&keys, &value);
            prop_assert_eq!(Sealed::parse(&sealed).unwrap().plain_len(), value.len());
            prop_assert_eq!(&keys.open(home(), &sealed).unwrap()[..], &value[..]);
            let shown = value.len() >= 8 && sealed.windows(8).any(|part| part == &value[..8]);
            prop_assert!(!shown);
        }

        #[test]
        fn what_was_never_sealed_does_not_open(text in "\"\\$sealed1:k1:[A-Za-z0-9_-]{54,90}\"") {
            prop_assert!(ring().open(home(), text.as_bytes()).is_err());
        }
    }

    /// No source of randomness at all.
    #[derive(Debug)]
    struct Broken;

    impl steadfast_core::Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError("there is none".into()))
        }
    }

    fn ring() -> SealKeys {
        SealKeys::new("k1", &[1; 32]).unwrap()
    }

    fn home() -> Place<'static> {
        static REALM: std::sync::LazyLock<Realm> = std::sync::LazyLock::new(Realm::default);
        static ID: std::sync::LazyLock<RecordId> =
            std::sync::LazyLock::new(|| RecordId::random(&Env::system()).unwrap());
        Place { realm: &REALM, id: *ID, key: "cart" }
    }

    fn sealed(keys: &SealKeys, value: &[u8]) -> Vec<u8> {
        keys.seal(home(), value, &Env::system()).unwrap().as_bytes().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
