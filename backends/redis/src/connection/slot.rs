//! The slot of a key, according to the Redis Cluster specification.

/// Returns the slot of a key. If the key contains a non-empty part between the first `{` and the
/// next `}`, only that part is hashed.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(hashed(key)) % SLOTS
}

fn hashed(key: &[u8]) -> &[u8] {
    let part = key.iter().position(|b| *b == b'{').map(|open| &key[open + 1..]);
    let tag = part.and_then(|part| Some(&part[..part.iter().position(|b| *b == b'}')?]));
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// Computes CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = (n as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

const SLOTS: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn a_tag_alone_decides() {
        for (key, hashed_part) in [
            ("a{b}c", "b"),
            ("a{}c", "a{}c"),
            ("a{{b}}c", "{b"),
            ("a{b}{c}", "b"),
            ("a{b", "a{b"),
            ("plain", "plain"),
        ] {
            assert_eq!(hashed(key.as_bytes()), hashed_part.as_bytes(), "{key}");
        }
        assert_eq!(slot(b"steadfast:r:{x}"), slot(b"x"));
    }
}
