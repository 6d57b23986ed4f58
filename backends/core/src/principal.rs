//! Who a session belongs to once somebody signed in.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A part of an application with sessions of its own, for example its administration.
///
/// The realm is part of every secret's hash and of every principal, so neither a token nor a user
/// of one realm counts in another. `session` unless set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(Arc<str>);

impl Realm {
    /// A realm of this name: 1 to 22 of `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    ///
    /// When the name is anything else.
    pub fn new(name: &str) -> Result<Self, RealmError> {
        let fits = (1..=22).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| Self(name.into())).ok_or_else(|| RealmError { name: name.to_owned() })
    }

    /// The name.
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

/// The name of a realm has the wrong form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("realm {name:?} is not 1 to 22 of the characters A-Z a-z 0-9 _ -")]
#[non_exhaustive]
pub struct RealmError {
    /// The name that was given.
    pub name: String,
}

/// Whose session it is: an id that the application gives its users, within a realm.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<(Realm, Box<str>)>);

impl Principal {
    /// The principal `id` of a realm: 1 to 256 bytes, without control characters.
    ///
    /// # Errors
    ///
    /// When the id is anything else.
    pub fn new(realm: Realm, id: &str) -> Result<Self, PrincipalError> {
        let fits = (1..=256).contains(&id.len()) && !id.chars().any(char::is_control);
        fits.then(|| Self(Arc::new((realm, id.into())))).ok_or(PrincipalError { len: id.len() })
    }

    /// The principal that stands for all sessions of a realm with this label, for what finds sessions by a
    /// label: of the realm [`Principal::LABELS`], with an id that shows neither.
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

    /// The realm of the principals that stand for labels: `steadfast-labels`.
    pub const LABELS: &str = "steadfast-labels";

    /// The realm in which the id counts.
    pub fn realm(&self) -> &Realm {
        &self.0.0
    }

    /// The application's id of the user.
    pub fn id(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Debug for Principal {
    /// Names the realm only: an id may be personal, an e-mail address for example.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("realm", self.realm()).finish_non_exhaustive()
    }
}

/// The id of a principal has the wrong form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a principal's id of {len} bytes is not 1 to 256 bytes without control characters")]
#[non_exhaustive]
pub struct PrincipalError {
    /// The length of the id that was given, in bytes.
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
    fn a_principal_has_a_bounded_id_that_debug_does_not_show() {
        let alice = Principal::new(Realm::default(), "alice@example.org").unwrap();
        assert!(!format!("{alice:?}").contains("alice"));
        for bad in ["", "a\nb", "a\0", &"a".repeat(257)] {
            assert!(Principal::new(Realm::default(), bad).is_err());
        }
    }
}
