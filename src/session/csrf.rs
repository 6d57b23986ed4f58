//! A synchroniser token against cross-site request forgery.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use steadfast_core::RandomError;
use subtle::ConstantTimeEq;

use super::{Key, Session};
use crate::error::Error;

/// The CSRF token, for forms.
///
/// `SameSite=Lax` and a check of the fetch metadata (`Sec-Fetch-Site`) stop cross-site requests of
/// current browsers. This token stops them in every browser, at the price of a hidden field.
impl Session {
    /// Returns a token to put into a form or a header. Starts a session if there is none.
    ///
    /// It is bound to the session and to the login: it dies with either. Every call returns another
    /// text for the same token, so that compressed pages do not leak it (BREACH); all of them are
    /// valid. It has nothing to do with the session's own token.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// let token = session.csrf_token().await?;
    /// session.verify_csrf(&token).await?;
    /// assert!(matches!(session.verify_csrf("a guess").await, Err(Error::Csrf)));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Session::update).
    pub async fn csrf_token(&self) -> Result<String, Error> {
        let secret = match self.get(SECRET).await? {
            Some(secret) => secret,
            None => {
                let fresh = self.random()?;
                self.update(SECRET, |known| known.unwrap_or(fresh)).await?
            }
        };
        let mask = self.random()?;
        let masked: Vec<_> = secret.iter().zip(&mask).map(|(a, b)| a ^ b).collect();
        Ok(URL_SAFE_NO_PAD.encode([mask.as_slice(), &masked].concat()))
    }

    /// Checks the token that a request brought back, in constant time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// assert!(matches!(session.verify_csrf("a guess").await, Err(Error::Csrf)));
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Csrf`] unless it is one of this session since the last login.
    pub async fn verify_csrf(&self, token: &str) -> Result<(), Error> {
        let secret = self.get(SECRET).await?.ok_or(Error::Csrf)?;
        let mut bytes = [0; 2 * LEN];
        match URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) {
            Ok(len) if len == bytes.len() => {}
            _ => return Err(Error::Csrf),
        }
        let (mask, masked) = bytes.split_at(LEN);
        let shown: Vec<_> = mask.iter().zip(masked).map(|(a, b)| a ^ b).collect();
        bool::from(shown.ct_eq(&secret)).then_some(()).ok_or(Error::Csrf)
    }

    fn random(&self) -> Result<[u8; LEN], RandomError> {
        let mut bytes = [0; LEN];
        self.inner.env().fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// Pre-authentication, so that a login drops it: a token handed to a visitor is worth nothing after.
pub(super) const SECRET: Key<[u8; LEN]> = Key::pre_auth("csrf");
const LEN: usize = 32;
