//! The parameters of a sign-in.

use std::fmt;

use steadfast_core::{AtCap, Facts, Lifetime, LimitError, LoginPolicy};

/// A sign-in: the user, its terms, and the facts that the session keeps from then on.
///
/// # Examples
///
/// ```
/// use steadfast::Login;
///
/// let plain = Login::from("alice");
/// let versioned = Login::new("alice").epoch(7);
/// let shown = Login::new("alice").label("device", "Firefox on Linux");
/// ```
///
/// "Remember me": the layer has the longest lifetime, and a sign-in without the tick asks for a shorter one.
///
/// ```
/// use steadfast::{Error, Lifetime, Login, MemoryStore, Session, SessionLayer};
///
/// fn layer() -> SessionLayer {
///     SessionLayer::new(MemoryStore::new()).lifetime(Lifetime::NIST_AAL1)
/// }
///
/// async fn sign_in(session: Session, remember_me: bool) -> Result<(), Error> {
///     let login = Login::new("alice").persistent(remember_me);
///     session
///         .login(match remember_me {
///             true => login,
///             false => login.lifetime(Lifetime::OWASP_LOW_RISK),
///         })
///         .await
/// }
/// ```
///
/// A shorter life for administrators:
///
/// ```
/// use steadfast::{Error, Lifetime, Login, Session};
///
/// # struct User { id: String, is_admin: bool }
/// async fn sign_in(session: Session, user: &User) -> Result<(), Error> {
///     let login = Login::new(&user.id);
///     session
///         .login(match user.is_admin {
///             true => login.lifetime(Lifetime::OWASP_HIGH_VALUE),
///             false => login,
///         })
///         .await
/// }
/// ```
///
/// Step-up: an important action requires a fresh proof, however old the sign-in is. The page that asks for the
/// password again calls [`reauthenticate`](crate::Session::reauthenticate):
///
/// ```
/// use std::time::Duration;
/// use steadfast::{Error, Session};
///
/// # async fn is_right(_: &str) -> bool { true }
/// async fn may_delete(session: &Session) -> Result<bool, Error> {
///     session.authenticated_within(Duration::from_secs(300)).await
/// }
///
/// async fn prove_again(session: &Session, password: &str) -> Result<bool, Error> {
///     if !is_right(password).await {
///         return Ok(false);
///     }
///     session.reauthenticate().await?;
///     Ok(true)
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) principal: String,
    epoch: Option<u64>,
    lifetime: Option<Lifetime>,
    is_persistent: Option<bool>,
    labels: Vec<(String, String)>,
    max_sessions: Option<usize>,
    at_cap: Option<AtCap>,
}

impl Login {
    /// Signs in the user with this id: 1 to 256 bytes without control characters.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue(Login::new("alice")).await?;
    /// assert_eq!(layer.sessions().count("alice").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(principal: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            epoch: None,
            lifetime: None,
            is_persistent: None,
            labels: Vec::new(),
            max_sessions: None,
            at_cap: None,
        }
    }

    /// Sets the epoch in which the decision was made, for example the version of the user's password.
    ///
    /// When an account is closed, `end_all` raises the user's lowest accepted epoch. A login that was decided
    /// before, and commits after, has a lower one and is answered 409.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().end_all("alice", Some(8)).await?;
    /// assert!(layer.sessions().issue(Login::new("alice").epoch(7)).await.is_err());
    /// assert!(layer.sessions().issue(Login::new("alice").epoch(8)).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// Sets how long this session lives: as the layer says by default, and never longer than that.
    ///
    /// It holds until the next sign-in: rotations keep it, and
    /// [`reauthenticate`](crate::Session::reauthenticate) restarts the absolute one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Lifetime, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue(Login::new("alice").lifetime(Lifetime::OWASP_HIGH_VALUE)).await?;
    /// let facts = &layer.sessions().list("alice").await?[0].facts;
    /// assert_eq!(facts.lifetime(), Some(Lifetime::OWASP_HIGH_VALUE));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }

    /// Sets whether the cookie outlives the browser, for the rest of the absolute lifetime: as
    /// [`CookieProfile::persistent`](crate::CookieProfile::persistent) says by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue(Login::new("alice").persistent(true)).await?;
    /// assert_eq!(layer.sessions().list("alice").await?[0].facts.is_persistent(), Some(true));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn persistent(self, persistent: bool) -> Self {
        Self { is_persistent: Some(persistent), ..self }
    }

    /// Adds a fact about the session that its user may see in a list: the device, an address, the `sid` of an
    /// identity provider. A session has at most [`Facts::LABELS`] labels; the later of two with the same name is kept.
    ///
    /// Stores keep labels unencrypted, and no log line or metric shows them. Put no secret in one. A name
    /// or a value over its bounds, [`Facts::NAME_BYTES`] and [`Facts::VALUE_BYTES`], fails the sign-in:
    /// shorten a `User-Agent` before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue(Login::new("alice").label("device", "phone")).await?;
    /// let facts = &layer.sessions().list("alice").await?[0].facts;
    /// assert_eq!(facts.label("device"), Some("phone"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Sets how many sessions the user may have, including this one, at least 1: as
    /// [`SessionLayer::max_per_principal`](crate::SessionLayer::max_per_principal) says by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue("alice").await?;
    /// layer.sessions().issue(Login::new("alice").max_sessions(1)).await?;
    /// assert_eq!(layer.sessions().count("alice").await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_sessions(self, sessions: usize) -> Self {
        Self { max_sessions: Some(sessions.max(1)), ..self }
    }

    /// Sets how to handle this sign-in if the user is at the maximum number of sessions: as
    /// [`SessionLayer::at_cap`](crate::SessionLayer::at_cap) says by default.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, AtCap, Login, MemoryStore, SessionLayer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// layer.sessions().issue("alice").await?;
    /// let second = Login::new("alice").max_sessions(1).at_cap(AtCap::Refuse);
    /// assert!(matches!(layer.sessions().issue(second).await, Err(Error::TooManySessions)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at_cap(self, at_cap: AtCap) -> Self {
        Self { at_cap: Some(at_cap), ..self }
    }

    /// The sign-in as the store takes it, with the policy of its layer.
    pub(crate) fn terms(&self, max_sessions: usize, at_cap: AtCap) -> Result<Terms, LimitError> {
        let labels = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let facts = Facts::of(self.lifetime, self.is_persistent, labels)?;
        let cap = self.max_sessions.unwrap_or(max_sessions);
        let at_cap = self.at_cap.unwrap_or(at_cap);
        Ok(Terms { facts, policy: LoginPolicy { cap, epoch: self.epoch, at_cap } })
    }
}

impl From<&str> for Login {
    fn from(principal: &str) -> Self {
        Self::new(principal)
    }
}

impl From<&String> for Login {
    fn from(principal: &String) -> Self {
        Self::new(principal)
    }
}

impl From<String> for Login {
    fn from(principal: String) -> Self {
        Self::new(principal)
    }
}

/// The terms of a sign-in.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) facts: Facts,
    pub(crate) policy: LoginPolicy,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
