//! Limits on the size of a record.

use crate::sealed::counted_len;
use crate::values::Values;

/// Limits on the content of a record. They are checked when a value is set, and again when a patch
/// is applied.
///
/// A [sealed](crate::Sealed) value counts with the length it had before it was sealed, which is
/// shorter than the stored text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The number of keys. Default: 64.
    pub keys: usize,
    /// The bytes of one value's JSON. Default: 16 KiB.
    pub value_bytes: usize,
    /// The bytes of all keys and values together. Default: 64 KiB.
    pub record_bytes: usize,
    /// The nesting depth of arrays and objects in a value. Default: 32; at most 127.
    pub depth: usize,
}

impl Limits {
    /// The highest number of bytes in a key. Keys are UTF-8 without control characters.
    pub const KEY_BYTES: usize = 128;

    /// Checks a key.
    ///
    /// # Errors
    ///
    /// Returns an error when it is empty, too long, or contains a control character.
    pub fn check_key(key: &str) -> Result<(), LimitError> {
        let fits = (1..=Self::KEY_BYTES).contains(&key.len()) && !key.chars().any(char::is_control);
        fits.then_some(()).ok_or(LimitError::Key { len: key.len() })
    }

    /// Checks the size and depth of a value's JSON.
    ///
    /// # Errors
    ///
    /// Returns an error when it is too long or nested too deeply.
    pub fn check_value(&self, json: &[u8]) -> Result<(), LimitError> {
        if json.len() > self.value_bytes {
            let len = counted_len(json);
            if len > self.value_bytes {
                return Err(LimitError::Value { len, limit: self.value_bytes });
            }
        }
        let (depth, limit) = (depth(json), self.depth.min(READABLE_DEPTH));
        if depth > limit {
            return Err(LimitError::Depth { depth, limit });
        }
        Ok(())
    }

    /// Checks all values of a new record, individually and together.
    ///
    /// # Errors
    ///
    /// Returns the first limit that is exceeded.
    pub fn check_values(&self, values: &Values) -> Result<(), LimitError> {
        values.iter().try_for_each(|(key, json)| {
            Self::check_key(key)?;
            self.check_value(json)
        })?;
        self.check_total(values)
    }

    /// Checks the number of keys and their total size.
    ///
    /// # Errors
    ///
    /// Returns an error when either exceeds its limit.
    pub fn check_total(&self, values: &Values) -> Result<(), LimitError> {
        self.check_change(&Values::new(), values)
    }

    /// Checks the number of keys and their total size for values that replace others. Values that
    /// do not grow always pass, so that a session stays usable after a limit is lowered.
    ///
    /// # Errors
    ///
    /// Returns an error when either exceeds its limit and has grown.
    pub fn check_change(&self, before: &Values, after: &Values) -> Result<(), LimitError> {
        let (keys, keys_before) = (after.len(), before.len());
        if keys > self.keys.max(keys_before) {
            return Err(LimitError::Keys { keys, limit: self.keys });
        }
        if after.size_of(keys) <= self.record_bytes {
            return Ok(());
        }
        // Only now are the values looked at: most sessions are far from the limit.
        match counted_size(after) {
            len if len > self.record_bytes && len > counted_size(before) => {
                Err(LimitError::Record { len, limit: self.record_bytes })
            }
            _ => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { keys: 64, value_bytes: 16 << 10, record_bytes: 64 << 10, depth: 32 }
    }
}

/// A limit of the store is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The key is malformed.
    #[error("a key of {len} bytes is not 1 to 128 bytes of UTF-8 without control characters")]
    Key {
        /// The length of the key in bytes.
        len: usize,
    },
    /// The record would have too many keys.
    #[error("{keys} keys exceed the limit of {limit} per record")]
    Keys {
        /// The number of keys it would have.
        keys: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is too long.
    #[error("a value of {len} bytes exceeds the limit of {limit}")]
    Value {
        /// The length of the value in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The record would be too large.
    #[error("a record of {len} bytes exceeds the limit of {limit}")]
    Record {
        /// The size it would have in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The facts of the session are too long.
    #[error("facts of {len} bytes exceed the limit of {limit}")]
    Facts {
        /// Their length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The session has too many labels.
    #[error("{labels} labels exceed the limit of {limit} per session")]
    Labels {
        /// The number of labels it would have.
        labels: usize,
        /// The limit.
        limit: usize,
    },
    /// The label is malformed.
    #[error(
        "a label with a name of {name} bytes and a value of {value} bytes: expected 1 to 32 of the \
         characters A-Z a-z 0-9 - _ . and at most 255 bytes of UTF-8 without control characters"
    )]
    Label {
        /// The length of its name in bytes.
        name: usize,
        /// The length of its value in bytes.
        value: usize,
    },
    /// The value is nested too deeply.
    #[error("a value nested {depth} levels deep exceeds the limit of {limit}")]
    Depth {
        /// The nesting depth of the value.
        depth: usize,
        /// The limit.
        limit: usize,
    },
}

/// Returns the bytes of all keys and values, counting sealed values as they were before.
fn counted_size(values: &Values) -> usize {
    values.iter().map(|(key, json)| key.len() + counted_len(json)).sum()
}

/// The depth at which the parser of serde_json gives up. A deeper value could be written but not
/// read.
const READABLE_DEPTH: usize = 127;

/// Returns the nesting depth of arrays and objects in a JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !in_string => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::Sealed;

    #[test]
    fn each_limit_holds_at_its_edge() {
        let limits = Limits { keys: 2, value_bytes: 4, record_bytes: 8, depth: 2 };
        assert!(limits.check_value("1234".as_bytes()).is_ok());
        assert!(limits.check_value("12345".as_bytes()).is_err());
        assert!(limits.check_value("[[]]".as_bytes()).is_ok());
        assert_eq!(depth(b"[[[]]]"), 3);
        assert!(limits.check_total(&values(&[("a", "123"), ("b", "123")])).is_ok());
        assert!(limits.check_total(&values(&[("a", "1234"), ("b", "123")])).is_err());
        assert!(limits.check_total(&values(&[("a", "1"), ("b", "1"), ("c", "1")])).is_err());
    }

    #[test]
    fn of_a_sealed_value_the_plain_one_counts() {
        let sealed = |len: usize| {
            let json = Sealed::compose("k1", &vec![7; Sealed::OVERHEAD + len]);
            String::from_utf8(json.as_bytes().to_vec()).unwrap()
        };
        let limits = Limits { value_bytes: 4, record_bytes: 8, ..Limits::default() };
        assert!(limits.check_value(sealed(4).as_bytes()).is_ok());
        let error = limits.check_value(sealed(5).as_bytes());
        assert_eq!(error, Err(LimitError::Value { len: 5, limit: 4 }));
        assert!(limits.check_total(&values(&[("a", &sealed(3)), ("b", &sealed(3))])).is_ok());
        let error = limits.check_total(&values(&[("a", &sealed(4)), ("b", &sealed(3))]));
        assert_eq!(error, Err(LimitError::Record { len: 9, limit: 8 }));
    }

    #[test]
    fn a_record_over_a_lowered_limit_may_shrink() {
        let limits = Limits { keys: 2, record_bytes: 8, ..Limits::default() };
        let before = values(&[("a", "12345"), ("b", "12"), ("c", "1")]);
        let check = |after: &[(&str, &str)]| limits.check_change(&before, &values(after));
        assert!(check(&[("a", "12345"), ("b", "12"), ("c", "2")]).is_ok());
        assert!(check(&[("a", "1234"), ("b", "12"), ("c", "1")]).is_ok());
        assert!(check(&[("a", "123456"), ("b", "12"), ("c", "1")]).is_err());
        assert!(check(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).is_err());
    }

    #[test]
    fn a_value_too_deep_to_parse_is_rejected() {
        let limits = Limits { depth: 1_000, ..Limits::default() };
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let is_readable = |json: &str| serde_json::from_str::<serde_json::Value>(json).is_ok();
        for (levels, fits) in [(READABLE_DEPTH, true), (READABLE_DEPTH + 1, false)] {
            assert_eq!(limits.check_value(nested(levels).as_bytes()).is_ok(), fits);
            assert_eq!(is_readable(&nested(levels)), fits);
        }
    }

    #[test]
    fn a_key_has_1_to_128_bytes() {
        for good in ["a", "\u{e9}t\u{e9}", "a b", &"k".repeat(128)] {
            assert!(Limits::check_key(good).is_ok());
        }
        for bad in ["", "a\n", "\0", "\u{85}", &"k".repeat(129)] {
            assert_eq!(Limits::check_key(bad), Err(LimitError::Key { len: bad.len() }));
        }
    }

    #[test]
    fn brackets_in_strings_are_no_levels() {
        assert_eq!(depth(br#""[[[\"[[""#), 0);
        assert_eq!(depth(br#"{"a":["\\"]}"#), 2);
    }

    fn values(entries: &[(&str, &str)]) -> Values {
        entries.iter().map(|(key, value)| (*key, value.as_bytes())).collect()
    }
}
