//! Principals: the users that sessions belong to.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A part of an application with its own sessions, such as its administration.
///
/// The realm is part of every secret's hash and of every principal, so tokens and users of one
/// realm are not valid in another. Default: `session`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(Arc<str>);

impl Realm {
    /// Creates a realm from 1 to 22 of the characters `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    ///
    /// Returns an error when the name has another form.
    pub fn new(name: &str) -> Result<Self, RealmError> {
        let fits = (1..=22).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| Self(name.into())).ok_or_else(|| RealmError { name: name.to_owned() })
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Realm {
    fn default() -> Self {
        Self("session".into())
    }
}

impl fmt::Debug for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a realm is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("realm {name:?} is not 1 to 22 of the characters A-Z a-z 0-9 _ -")]
#[non_exhaustive]
pub struct RealmError {
    /// The given name.
    pub name: String,
}

/// A user: an id that the application assigns, within a realm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<(Realm, Box<str>)>);

impl Principal {
    /// Creates a principal from an id of 1 to 256 bytes without control characters.
    ///
    /// # Errors
    ///
    /// Returns an error when the id has another form.
    pub fn new(realm: Realm, id: &str) -> Result<Self, PrincipalError> {
        let fits = (1..=256).contains(&id.len()) && !id.chars().any(char::is_control);
        fits.then(|| Self(Arc::new((realm, id.into())))).ok_or(PrincipalError { len: id.len() })
    }

    /// Creates the principal that indexes the sessions of a realm with this label. It belongs to
    /// the realm [`Principal::LABELS`], and its id does not reveal the label's name or value.
    pub fn of_label(realm: &Realm, name: &str, value: &str) -> Self {
        let digest = Sha256::new_with_prefix(realm.as_str())
            .chain_update([0])
            .chain_update(name)
            .chain_update([0])
            .chain_update(value)
            .finalize();
        let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(Arc::new((Realm(Self::LABELS.into()), id.into())))
    }

    /// The realm of the principals that index labels: `steadfast-labels`.
    pub const LABELS: &str = "steadfast-labels";

    /// Returns the realm of the id.
    pub fn realm(&self) -> &Realm {
        &self.0.0
    }

    /// Returns the application's id of the user.
    pub fn id(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Debug for Principal {
    /// Shows only the realm: an id may be personal data, such as an e-mail address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("realm", self.realm()).finish_non_exhaustive()
    }
}

/// The id of a principal is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a principal's id must be 1 to 256 bytes without control characters, not {len} bytes")]
#[non_exhaustive]
pub struct PrincipalError {
    /// The length of the given id in bytes.
    pub len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_is_a_short_plain_word() {
        assert!(Realm::new("admin-2_B").is_ok());
        for bad in ["", "a b", "a\"; drop table x;--", "a*", "{}", "\u{e9}", &"a".repeat(23)] {
            assert_eq!(Realm::new(bad).unwrap_err().name, bad);
        }
    }

    #[test]
    fn a_label_has_a_principal_of_its_own() {
        let of = |realm, name, value| {
            let label = Principal::of_label(&Realm::new(realm).unwrap(), name, value);
            assert_eq!(label.realm(), &Realm::new(Principal::LABELS).unwrap());
            label.id().to_owned()
        };
        let sid = of("shop", "sid", "1");
        assert_eq!(sid, of("shop", "sid", "1"));
        for other in [of("shopsid", "", "1"), of("shop", "si", "d1"), of("shop", "sid", "2")] {
            assert_ne!(sid, other);
        }
    }

    #[test]
    fn debug_hides_the_id_of_a_principal() {
        let alice = Principal::new(Realm::default(), "alice@example.org").unwrap();
        assert!(!format!("{alice:?}").contains("alice"));
        for bad in ["", "a\nb", "a\0", &"a".repeat(257)] {
            assert!(Principal::new(Realm::default(), bad).is_err());
        }
    }
}
