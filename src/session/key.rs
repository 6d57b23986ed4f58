//! Keys that know the type of their value.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use steadfast_core::{EncodeError, PRE_AUTH, RawJson};

/// A key that knows the type of its value, so that a typo or a mixed-up type does not compile.
///
/// ```
/// use steadfast::Key;
///
/// const CART: Key<Vec<String>> = Key::new("cart");
/// const STATE: Key<String> = Key::pre_auth("oauth_state");
/// ```
///
/// A type that does not fit is an error of the compiler:
///
/// ```compile_fail
/// # use steadfast::{Key, Session};
/// const CART: Key<Vec<String>> = Key::new("cart");
/// async fn add(session: Session) {
///     session.insert(CART, 7).await.unwrap();
/// }
/// ```
pub struct Key<T> {
    name: &'static str,
    pre_auth: bool,
    value: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Makes a key of this name: 1 to 128 bytes of UTF-8 without control characters.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Key, KeyName};
    ///
    /// const CART: Key<Vec<String>> = Key::new("cart");
    /// assert_eq!(CART.name(), "cart");
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self { name, pre_auth: false, value: PhantomData }
    }

    /// Makes a key for a value from before a login, which removes it: a value that an attacker planted in a
    /// victim's browser must not follow the victim into their account.
    ///
    /// It is stored under its name with a `~` in front. Every key that begins with `~` is dropped by
    /// a login.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{Key, KeyName};
    ///
    /// const STATE: Key<String> = Key::pre_auth("oauth_state");
    /// assert_eq!(STATE.name(), "~oauth_state");
    /// ```
    pub const fn pre_auth(name: &'static str) -> Self {
        Self { name, pre_auth: true, value: PhantomData }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> std::fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&stored_name(self)).finish()
    }
}

/// The name of a value, regardless of its type: a [`Key`], or any string.
pub trait KeyName: Send {
    /// The name that the store sees.
    fn name(&self) -> Cow<'_, str>;
}

impl<T> KeyName for Key<T> {
    fn name(&self) -> Cow<'_, str> {
        stored_name(self)
    }
}

impl<T> KeyName for &Key<T> {
    fn name(&self) -> Cow<'_, str> {
        stored_name(self)
    }
}

impl KeyName for &str {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl KeyName for &String {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl KeyName for String {
    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

/// A key for values of type `T`: a [`Key<T>`], or any string.
pub trait AsKey<T>: KeyName {
    /// The JSON of a value to be stored.
    ///
    /// # Errors
    ///
    /// When JSON would make something else of it. A [`Key`] also reads it back, so that a type whose
    /// `Deserialize` does not undo its `Serialize` is found out here.
    fn encode(&self, value: &T) -> Result<RawJson, EncodeError>
    where
        T: Serialize,
    {
        RawJson::encode(value)
    }
}

impl<T: Serialize + DeserializeOwned> AsKey<T> for Key<T> {
    fn encode(&self, value: &T) -> Result<RawJson, EncodeError> {
        RawJson::encode_checked(value)
    }
}

impl<T: Serialize + DeserializeOwned> AsKey<T> for &Key<T> {
    fn encode(&self, value: &T) -> Result<RawJson, EncodeError> {
        RawJson::encode_checked(value)
    }
}

impl<T> AsKey<T> for &str {}

impl<T> AsKey<T> for &String {}

impl<T> AsKey<T> for String {}

fn stored_name<T>(key: &Key<T>) -> Cow<'static, str> {
    match key.pre_auth {
        true => Cow::Owned(format!("{PRE_AUTH}{}", key.name)),
        false => Cow::Borrowed(key.name),
    }
}
