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
    /// The user's id, as [`Login`](crate::Login) named it.
    pub fn id(&self) -> &str {
        self.principal.id()
    }

    /// The user.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session alone.
    pub fn into_session(self) -> Session {
        self.session
    }
}

impl Session {
    /// This session, if its user is signed in, also if this request just did it. Loads.
    ///
    /// # Errors
    ///
    /// [`Error::NotSignedIn`] for a visitor, or when the store cannot be asked.
    pub async fn signed_in(&self) -> Result<SignedIn, Error> {
        let principal = self.principal().await?.ok_or(Error::NotSignedIn)?;
        Ok(SignedIn { session: self.clone(), principal })
    }
}
