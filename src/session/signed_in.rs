//! A session with a signed-in user.

use steadfast_core::Principal;

use super::Session;
use crate::error::Error;

/// The session of a request whose user is signed in, and who that is.
///
/// As an extractor of axum, it lets a handler be called for users only. A visitor is answered 401, an
/// outage of the store 503 and never 401. It costs the load that the first read of a session costs.
///
/// To answer a visitor otherwise, for example with a redirect to a sign-in page, take an
/// `Option<SignedIn>`.
///
/// It says who was signed in when it was made. After another user signs in to the session, its calls fail,
/// as those of every handle from before do.
///
/// # Examples
///
/// ```
/// use axum::response::{IntoResponse, Redirect, Response};
/// use steadfast::{Error, SignedIn};
///
/// async fn account(user: SignedIn) -> Result<String, Error> {
///     let visits = user.session().increment("visits", 1).await?;
///     Ok(format!("hello {}, this is visit {visits}", user.id()))
/// }
///
/// async fn home(user: Option<SignedIn>) -> Response {
///     match user {
///         Some(user) => format!("hello {}", user.id()).into_response(),
///         None => Redirect::to("/login").into_response(),
///     }
/// }
/// ```
///
/// Without axum, [`Session::signed_in`] makes one.
#[derive(Clone, Debug)]
pub struct SignedIn {
    session: Session,
    principal: Principal,
}

impl SignedIn {
    /// Returns the user's id, as [`Login`](crate::Login) named it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let user = session.signed_in().await?;
    /// assert_eq!(user.id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn id(&self) -> &str {
        self.principal.id()
    }

    /// Returns the user.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let user = session.signed_in().await?;
    /// assert_eq!(user.principal().id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let user = session.signed_in().await?;
    /// user.session().insert("theme", "dark").await?;
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Turns it into its session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).signed_in("alice").await;
    /// # client.session(|session| async move {
    /// let user = session.signed_in().await?;
    /// user.into_session().flush().await?;
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    pub fn into_session(self) -> Session {
        self.session
    }
}

impl Session {
    /// Returns this session if its user is signed in, including by this request. Loads the session.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert!(matches!(session.signed_in().await, Err(Error::NotSignedIn)));
    /// session.login("alice").await?;
    /// assert_eq!(session.signed_in().await?.id(), "alice");
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotSignedIn`] for a visitor, or when the store cannot be asked.
    pub async fn signed_in(&self) -> Result<SignedIn, Error> {
        let principal = self.principal().await?.ok_or(Error::NotSignedIn)?;
        Ok(SignedIn { session: self.clone(), principal })
    }
}
