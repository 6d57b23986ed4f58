//! The base64url text of tokens: 48 bytes are exactly 64 characters (RFC 4648, section 5).
//!
//! A general decoder spends several times as much on the cases that a token does not have: other
//! lengths, padding, and spare bits.

/// Decodes a text into `bytes`, or returns `None` if a character is not of the alphabet. The time does
/// not depend on where that character is.
pub(crate) fn decode(text: &[u8; 64], bytes: &mut [u8; 48]) -> Option<()> {
    let mut seen = 0;
    for (four, three) in text.as_chunks().0.iter().zip(bytes.as_chunks_mut().0) {
        let [a, b, c, d]: [u8; 4] = four.map(|character: u8| VALUES[usize::from(character)]);
        seen |= a | b | c | d;
        *three = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
    }
    (seen < 64).then_some(())
}

/// Appends the text of these bytes.
pub(crate) fn encode(bytes: &[u8; 48], text: &mut Vec<u8>) {
    let start = text.len();
    text.resize(start + 64, 0);
    for (three, four) in bytes.as_chunks().0.iter().zip(text[start..].as_chunks_mut().0) {
        let [a, b, c]: [u8; 3] = *three;
        let values = [a >> 2, a << 4 | b >> 4, b << 2 | c >> 6, c];
        *four = values.map(|value| ALPHABET[usize::from(value & 63)]);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The value of each character; 255 for those that are not of the alphabet.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 64 {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_directions_agree_with_a_general_codec(bytes: [[u8; 16]; 3]) {
            let bytes = bytes.concat().try_into().unwrap();
            let (mut text, mut back) = (Vec::new(), [0; 48]);
            encode(&bytes, &mut text);
            prop_assert_eq!(&text, &URL_SAFE_NO_PAD.encode(bytes).into_bytes());
            prop_assert_eq!(decode(text.as_slice().try_into().unwrap(), &mut back), Some(()));
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn a_foreign_character_is_refused_anywhere(at in 0..64_usize, character: u8) {
            let mut text = [b'A'; 64];
            text[at] = character;
            let is_decoded = decode(&text, &mut [0; 48]).is_some();
            prop_assert_eq!(is_decoded, URL_SAFE_NO_PAD.decode(text).is_ok());
        }
    }
}
