//! Facts about a session: its lifetime, its cookie's persistence and its labels.
//!
//! Stores keep facts as opaque bytes. This release encodes them as follows, big-endian; a session
//! without facts has no bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the form, 1 |
//! | 1 | 1: it says whether its cookie is persistent; 2: it is |
//! | 8 each | the session's own idle and absolute lifetime in milliseconds; 0: none of its own |
//! | 1 + n, 1 + n | the name and the value of each label |
//!
//! Forms 2 to 15 share the first 18 bytes, so that this release respects the lifetimes that a later
//! release sets. Other parts of an unknown form are ignored and passed on unchanged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::lifetime::Lifetime;
use crate::limits::LimitError;

/// Facts that a session carries beside its values. Stores treat them as bytes.
///
/// # Examples
///
/// ```
/// use steadfast_core::{Facts, Lifetime};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let labels = [("device", "Firefox on Linux")];
/// let facts = Facts::of(Some(Lifetime::OWASP_HIGH_VALUE), Some(true), labels)?;
/// assert_eq!(facts.lifetime(), Some(Lifetime::OWASP_HIGH_VALUE));
/// assert_eq!(facts.label("device"), Some("Firefox on Linux"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Facts(Box<[u8]>);

impl Facts {
    /// The highest number of bytes.
    pub const MAX: usize = 4 << 10;

    /// The highest number of labels.
    pub const LABELS: usize = 8;

    /// The highest number of bytes in a label's name. Names consist of ASCII letters and digits,
    /// `-`, `_` and `.`.
    pub const NAME_BYTES: usize = 32;

    /// The highest number of bytes in a label's value, which is UTF-8 without control characters.
    pub const VALUE_BYTES: usize = 255;

    /// Wraps encoded facts.
    ///
    /// # Errors
    ///
    /// Returns an error when there are more than [`Facts::MAX`] bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, LimitError> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX {
            return Err(LimitError::Facts { len: bytes.len(), limit: Self::MAX });
        }
        Ok(Self(bytes))
    }

    /// Encodes facts: the session's own lifetime, whether its cookie is persistent, and its labels.
    /// If two labels have the same name, the later one is kept.
    ///
    /// # Errors
    ///
    /// Returns an error when there are more than [`Facts::LABELS`] labels, or a label is malformed.
    pub fn of<'l>(
        lifetime: Option<Lifetime>,
        is_persistent: Option<bool>,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Result<Self, LimitError> {
        let labels = checked(labels)?;
        if lifetime.is_none() && is_persistent.is_none() && labels.is_empty() {
            return Ok(Self::default());
        }
        let flags = is_persistent.map_or(0, |is_persistent| SAYS | u8::from(is_persistent) << 1);
        let mut bytes = vec![FORM, flags];
        for time in [lifetime.map(|own| own.idle()), lifetime.map(|own| own.absolute())] {
            let millis = time.map_or(0, |time| time.as_millis() as u64);
            bytes.extend(millis.to_be_bytes());
        }
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            bytes.push(u8::try_from(text.len()).expect("a checked label is short"));
            bytes.extend(text.as_bytes());
        }
        Self::new(bytes)
    }

    /// Returns the encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns true if there are no facts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the session's own idle lifetime, if it has one.
    ///
    /// No patch moves the idle deadline further: see [`Record::apply`](crate::Record::apply).
    pub fn idle(&self) -> Option<Duration> {
        self.time(2)
    }

    /// Returns the session's own lifetime, if it has one.
    pub fn lifetime(&self) -> Option<Lifetime> {
        Lifetime::new(self.idle()?, self.time(10)?).ok()
    }

    /// Returns the lifetime that applies: the session's own, capped by that of the layer, or else
    /// the layer's.
    pub fn lifetime_within(&self, layer: &Lifetime) -> Lifetime {
        Lifetime::shorter(layer, self.idle(), self.time(10))
    }

    /// Returns whether the session's cookie outlives the browser, if the sign-in chose it.
    pub fn is_persistent(&self) -> Option<bool> {
        let flags = self.head()?[1];
        (flags & SAYS != 0).then_some(flags & IS_PERSISTENT != 0)
    }

    /// Returns the labels as names and values.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = match self.head() {
            Some([FORM, ..]) => &self.0[HEAD..],
            _ => &[],
        };
        std::iter::from_fn(move || Some((text(&mut rest)?, text(&mut rest)?)))
    }

    /// Returns the value of the label with this name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Returns the part that all known forms share.
    fn head(&self) -> Option<&[u8; HEAD]> {
        let head = self.0.first_chunk()?;
        (FORM..=LAST_FORM).contains(&head[0]).then_some(head)
    }

    fn time(&self, at: usize) -> Option<Duration> {
        let millis = self.head()?[at..at + 8].try_into().expect("eight bytes of the head");
        let time = Duration::from_millis(u64::from_be_bytes(millis));
        (!time.is_zero() && time <= Lifetime::MAX).then_some(time)
    }
}

/// Serializes the persistence of the cookie as `persistent`, and the `labels` by name.
impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut facts = serializer.serialize_struct("Facts", 2)?;
        facts.serialize_field("persistent", &self.is_persistent())?;
        facts.serialize_field("labels", &self.labels().collect::<BTreeMap<_, _>>())?;
        facts.end()
    }
}

/// Hides the labels: they may identify people and devices and must stay out of logs.
impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({} bytes)", self.0.len())
    }
}

fn checked<'l>(
    given: impl IntoIterator<Item = (&'l str, &'l str)>,
) -> Result<Vec<(&'l str, &'l str)>, LimitError> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    for (name, value) in given {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let is_name = (1..=Facts::NAME_BYTES).contains(&name.len()) && name.bytes().all(is_plain);
        let is_value = value.len() <= Facts::VALUE_BYTES && !value.chars().any(char::is_control);
        if !is_name || !is_value {
            return Err(LimitError::Label { name: name.len(), value: value.len() });
        }
        labels.retain(|(known, _)| *known != name);
        labels.push((name, value));
    }
    if labels.len() > Facts::LABELS {
        return Err(LimitError::Labels { labels: labels.len(), limit: Facts::LABELS });
    }
    Ok(labels)
}

/// Reads a text that follows its length.
fn text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let (len, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*len))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// The form that this release writes.
const FORM: u8 = 1;

/// The last form that shares the first bytes.
const LAST_FORM: u8 = 15;

/// The number of bytes that these forms share.
const HEAD: usize = 18;

const SAYS: u8 = 1;
const IS_PERSISTENT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_say_what_they_were_made_of() {
        let own = Lifetime::NIST_AAL2;
        let facts = Facts::of(Some(own), Some(false), [("a", "1"), ("b", ""), ("a", "ü")]).unwrap();
        assert_eq!((facts.lifetime(), facts.is_persistent()), (Some(own), Some(false)));
        assert_eq!(facts.labels().collect::<Vec<_>>(), [("b", ""), ("a", "ü")]);
        assert_eq!((facts.label("a"), facts.label("c")), (Some("ü"), None));
    }

    #[test]
    fn the_form_of_facts_stays() {
        let facts = Facts::of(Some(Lifetime::NIST_AAL3), Some(true), [("sid", "x")]).unwrap();
        let times = [0, 0, 0, 0, 0, 0x0d, 0xbb, 0xa0, 0, 0, 0, 0, 0x02, 0x93, 0x2e, 0x00];
        let expected = [&[1, 3][..], &times, b"\x03sid\x01x"].concat();
        assert_eq!(facts.as_bytes(), expected);
    }

    #[test]
    fn a_session_that_says_nothing_has_no_facts() {
        let facts = Facts::of(None, None, []).unwrap();
        assert!(facts.is_empty());
        assert_eq!((facts.lifetime(), facts.is_persistent()), (None, None));
    }

    #[test]
    fn labels_are_bounded_and_checked() {
        let names: Vec<_> = (0..9).map(|n| n.to_string()).collect();
        let of = |count: usize| {
            Facts::of(None, None, names[..count].iter().map(|name| (name.as_str(), "v")))
        };
        assert!(of(8).is_ok());
        assert_eq!(of(9), Err(LimitError::Labels { labels: 9, limit: 8 }));
        let (long, longer) = ("v".repeat(255), "v".repeat(256));
        assert!(Facts::of(None, None, [("n", long.as_str())]).is_ok());
        for (name, value) in [("", "v"), ("a b", "v"), ("n", "a\nb"), ("n", &longer)] {
            assert!(Facts::of(None, None, [(name, value)]).is_err(), "{name:?} {value:?}");
        }
    }

    #[test]
    fn the_largest_facts_fit() {
        let names: Vec<_> = (0..8).map(|n| format!("{n:032}")).collect();
        let value = "v".repeat(255);
        let labels = names.iter().map(|name| (name.as_str(), value.as_str()));
        assert!(Facts::of(Some(Lifetime::default()), Some(true), labels).is_ok());
    }

    #[test]
    fn a_later_form_keeps_its_lifetimes() {
        let facts = Facts::of(Some(Lifetime::NIST_AAL2), Some(true), [("a", "1")]).unwrap();
        let mut later = facts.as_bytes().to_vec();
        later[0] = 2;
        let later = Facts::new(later).unwrap();
        assert_eq!((later.lifetime(), later.labels().count()), (Some(Lifetime::NIST_AAL2), 0));
    }

    #[test]
    fn bytes_of_another_form_say_nothing() {
        let every_byte: Vec<_> = (0..=255).collect();
        let torn = [&[1, 0][..], &[0xff; 16], b"\x09name"].concat();
        for bytes in [vec![0; 40], vec![16; 40], vec![1; 17], every_byte, torn] {
            let facts = Facts::new(bytes).unwrap();
            assert_eq!((facts.idle(), facts.lifetime()), (None, None));
            assert_eq!(facts.labels().count(), 0);
        }
    }

    #[test]
    fn no_label_is_in_a_debug_text() {
        let facts = Facts::of(None, None, [("device", "Firefox")]).unwrap();
        assert!(!format!("{facts:?}").contains("Firefox"));
    }
}
