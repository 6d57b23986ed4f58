//! What a sign-in says.

/// A sign-in: who, and in which epoch.
///
/// ```
/// use steadfast::Login;
///
/// let plain = Login::from("alice");
/// let versioned = Login::new("alice").epoch(7);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) principal: String,
    pub(crate) epoch: Option<u64>,
}

impl Login {
    /// Signs in the user with this id: 1 to 256 bytes without control characters.
    pub fn new(principal: impl Into<String>) -> Self {
        Self { principal: principal.into(), epoch: None }
    }

    /// The epoch the decision was made in, for example the version of the user's password.
    ///
    /// When an account is closed, `delete_all` raises the principal's floor; a login that was decided
    /// before, and commits after, is below it and answered 409.
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
    }
}

impl<S: Into<String>> From<S> for Login {
    fn from(principal: S) -> Self {
        Self::new(principal)
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
