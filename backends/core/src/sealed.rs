//! The stored form of sealed values. The middleware seals and opens them. Stores only need the form,
//! because limits count the length before sealing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::values::RawJson;

/// A sealed value as stored: the JSON text `"$sealed1:NAME:BASE64"`, with the name of the key, and the
/// nonce, the ciphertext and the tag in base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'v> {
    key: &'v str,
    text: &'v str,
}

impl<'v> Sealed<'v> {
    /// The bytes that sealing adds to a value: a nonce of 24 and a tag of 16.
    pub const OVERHEAD: usize = 24 + 16;

    /// Parses a stored value. Returns `None` unless it has the form of a sealed one.
    pub fn parse(json: &'v [u8]) -> Option<Self> {
        let inner = json.strip_prefix(START.as_bytes())?.strip_suffix(b"\"")?;
        let (key, text) = std::str::from_utf8(inner).ok()?.split_once(':')?;
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_long_enough = text.len() * 3 / 4 >= Self::OVERHEAD;
        (is_long_enough && !key.is_empty() && text.bytes().all(is_base64))
            .then_some(Self { key, text })
    }

    /// Returns the value to store for bytes that were sealed under the key of this name.
    pub fn compose(key: &str, sealed: &[u8]) -> RawJson {
        let mut json =
            String::with_capacity(START.len() + key.len() + 2 + sealed.len() * 4 / 3 + 3);
        json.push_str(START);
        json.push_str(key);
        json.push(':');
        URL_SAFE_NO_PAD.encode_string(sealed, &mut json);
        json.push('"');
        RawJson::copied(json.as_bytes())
    }

    /// Returns the name of the key.
    pub fn key(&self) -> &'v str {
        self.key
    }

    /// Returns the nonce, the ciphertext and the tag, or `None` if the text is not canonical base64url.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.text).ok()
    }

    /// Returns the length of the value before it was sealed, in bytes.
    pub fn plain_len(&self) -> usize {
        self.text.len() * 3 / 4 - Self::OVERHEAD
    }
}

/// Returns the bytes that the limits count for a value: for a sealed one, its length before sealing.
pub fn counted_len(json: &[u8]) -> usize {
    Sealed::parse(json).map_or(json.len(), |sealed| sealed.plain_len())
}

const START: &str = "\"$sealed1:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_is_one_json_text() {
        let json = Sealed::compose("k1", &[7; 43]);
        assert_eq!(RawJson::parse(json.as_bytes()), Ok(json.clone()));
        let sealed = Sealed::parse(json.as_bytes()).unwrap();
        assert_eq!((sealed.key(), sealed.plain_len()), ("k1", 3));
        assert_eq!(sealed.bytes(), Some(vec![7; 43]));
    }

    #[test]
    fn every_length_counts_as_what_was_sealed() {
        for len in 0..100 {
            let json = Sealed::compose("k1", &vec![7; Sealed::OVERHEAD + len]);
            assert_eq!(counted_len(json.as_bytes()), len);
        }
    }

    #[test]
    fn other_values_count_as_they_are() {
        let short = Sealed::compose("k1", &[7; Sealed::OVERHEAD - 1]);
        let nameless = Sealed::compose("", &[7; Sealed::OVERHEAD]);
        for json in [b"7".as_slice(), b"\"$sealed1:k1:a b\"", short.as_bytes(), nameless.as_bytes()]
        {
            assert_eq!(counted_len(json), json.len());
        }
    }
}
