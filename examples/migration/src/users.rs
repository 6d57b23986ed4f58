//! The users of the shop, the same before and after the port.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The accounts, by name. Clones share them.
#[derive(Clone, Debug)]
pub struct Users(Arc<Mutex<HashMap<String, String>>>);

impl Users {
    /// Returns true if this is the user's password. A real application compares a hash of it.
    pub fn knows(&self, name: &str, password: &str) -> bool {
        self.password(name).is_some_and(|known| known == password)
    }

    /// The password of a user.
    pub fn password(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Gives a user another password.
    pub fn change_password(&self, name: &str, password: &str) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.insert(name.to_owned(), password.to_owned());
    }
}

/// Returns the target of a sign-in: only a page of the shop, or a link could send users to another site.
pub fn after_sign_in(next: Option<&str>) -> &str {
    let is_local = |next: &&str| {
        let rest = next.strip_prefix('/');
        let is_path = rest.is_some_and(|rest| !rest.starts_with(['/', '\\']));
        is_path && !next.contains(char::is_control)
    };
    next.filter(is_local).unwrap_or("/")
}

impl Default for Users {
    fn default() -> Self {
        let users = [("alice", "wonderland"), ("bob", "builder")];
        let users = users.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Self(Arc::new(Mutex::new(users.into())))
    }
}
