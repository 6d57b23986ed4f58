//! The names of all keys.
//!
//! | key | what it is |
//! | --- | --- |
//! | `PREFIX:r:{ID}` | a record, as a hash; see [`codec`](crate::codec) |
//! | `PREFIX:p:{REALM:USER}` | the sessions of a principal, and the floor under their logins, as a sorted set |
//! | `PREFIX:e:{N}` | the queue of [endings](crate::endings), in a cluster one of several, as a sorted set |
//! | `PREFIX:f` | the channel of the [feed](crate::feed); that of release 0.1 was `PREFIX:c` |
//!
//! In a cluster every command has exactly one key, so that any slot may move at any time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use steadfast_core::{Principal, RecordId};

/// The first part of the names of all keys of a store: 1 to 32 of `A-Z a-z 0-9 _ - . :`. Default:
/// `steadfast`.
///
/// None of these characters is special in a pattern, so that an ACL for `PREFIX:*` covers exactly
/// the store's keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Returns the prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("steadfast".into())
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b));
        fits.then(|| Self(text.into())).ok_or_else(|| PrefixError { prefix: text.to_owned() })
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key prefix is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key prefix {prefix:?} is not 1 to 32 of the characters A-Z a-z 0-9 _ - . :")]
#[non_exhaustive]
pub struct PrefixError {
    /// The given prefix.
    pub prefix: String,
}

impl Prefix {
    pub(crate) fn record(&self, id: RecordId) -> String {
        // Every call needs a key, and formatting costs several times as much as joining.
        let simple = id.as_uuid().simple();
        [&*self.0, ":r:{", simple.encode_lower(&mut [0; 32]), "}"].concat()
    }

    /// Returns a pattern for the names of all records.
    pub(crate) fn records(&self) -> String {
        format!("{self}:r:*")
    }

    /// Parses the id in the name of a record.
    pub(crate) fn id_of(&self, key: &[u8]) -> Option<RecordId> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&*self.0)?;
        key.strip_prefix(":r:{")?.strip_suffix('}')?.parse().ok()
    }

    pub(crate) fn index(&self, name: &str) -> String {
        [&*self.0, ":p:{", name, "}"].concat()
    }

    pub(crate) fn queue(&self, number: u8) -> String {
        format!("{self}:e:{{{number}}}")
    }

    pub(crate) fn channel(&self) -> String {
        format!("{self}:f")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Formats an id as in a key: 32 hexadecimal digits.
pub(crate) fn hex(id: RecordId) -> String {
    id.as_uuid().simple().to_string()
}

/// Formats a principal. A realm contains no colon, so the result is unambiguous.
pub(crate) fn name(principal: &Principal) -> String {
    [principal.realm().as_str(), ":", principal.id()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows IN-02.
    #[test]
    fn a_prefix_is_a_plain_word() {
        assert_eq!("shop:s-1.b_2".parse::<Prefix>().unwrap().as_str(), "shop:s-1.b_2");
        for bad in ["", "a b", "a*", "{}", "a{b}", "a?", "[a]", "a\\", "\u{e9}", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Prefix>().unwrap_err().prefix, bad);
        }
    }

    #[test]
    fn a_key_contains_the_id_of_its_record() {
        let (prefix, id) = (Prefix::default(), RecordId::from_bytes([0xab; 16]));
        let key = prefix.record(id);
        assert_eq!(key, format!("steadfast:r:{{{}}}", "ab".repeat(16)));
        assert_eq!(prefix.id_of(key.as_bytes()), Some(id));
        assert_eq!(prefix.id_of(b"steadfast:r:{nonsense}"), None);
        assert_eq!(prefix.id_of(b"other:r:{abababababababababababababababab}"), None);
    }
}
