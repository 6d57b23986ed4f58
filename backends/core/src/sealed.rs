//! The form in which a sealed value is stored. Sealing and opening are the middleware's; stores know the
//! form alone, because limits count what was sealed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::values::RawJson;

/// A sealed value as a store keeps it: the JSON text `"$sealed1:NAME:BASE64"`, with the name of the key and
/// in base64url the nonce, the ciphertext and the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'v> {
    key: &'v str,
    text: &'v str,
}

impl<'v> Sealed<'v> {
    /// Bytes that a sealed value has beside the ciphertext: a nonce of 24 and a tag of 16.
    pub const OVERHEAD: usize = 24 + 16;

    /// What a stored value has that is not sealed, if it has the form of one that is.
    pub fn parse(json: &'v [u8]) -> Option<Self> {
        let inner = json.strip_prefix(START.as_bytes())?.strip_suffix(b"\"")?;
        let (key, text) = std::str::from_utf8(inner).ok()?.split_once(':')?;
        let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_long_enough = text.len() * 3 / 4 >= Self::OVERHEAD;
        (is_long_enough && !key.is_empty() && text.bytes().all(is_base64))
            .then_some(Self { key, text })
    }

    /// The value to store for what was sealed under the key of this name.
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

    /// The name of the key that it names.
    pub fn key(&self) -> &'v str {
        self.key
    }

    /// The nonce, the ciphertext and the tag; `None` if the text is not the one spelling of some bytes.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.text).ok()
    }

    /// The length in bytes of what was sealed.
    pub fn plain_len(&self) -> usize {
        self.text.len() * 3 / 4 - Self::OVERHEAD
    }
}

/// What a value counts against limits, in bytes: of a sealed one, what was sealed.
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
