//! Messages for the next page.

use serde::Serialize;
use serde::de::DeserializeOwned;
use steadfast_core::RawJson;

use super::{Session, decode};
use crate::error::Error;

/// Flash messages: a handler that redirects leaves one, and the page that is shown next takes it.
impl Session {
    /// Leaves a message for the page that is shown next, with the commit. Loads.
    ///
    /// Messages of concurrent requests do not overwrite each other. A session keeps the last
    /// [`FLASHES`](Session::FLASHES) that are unread; what is older goes. Each counts as a value of the
    /// session. A response of 500 and above drops what its handler left.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::response::{Html, Redirect};
    /// use steadfast::{Error, Session};
    ///
    /// async fn save(session: Session) -> Result<Redirect, Error> {
    ///     session.flash("Your address is saved.").await?;
    ///     Ok(Redirect::to("/account"))
    /// }
    ///
    /// async fn account(session: Session) -> Result<Html<String>, Error> {
    ///     let notes: Vec<String> = session.take_flashes().await?;
    ///     Ok(Html(notes.iter().map(|note| format!("<p role=status>{note}</p>")).collect()))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// When the store cannot be asked, when the message would not come back from JSON as it is, or when it
    /// is over the limit of a value.
    pub async fn flash<T: Serialize>(&self, message: T) -> Result<(), Error> {
        let json = self.accept("flash", RawJson::encode(&message))?;
        let mut random = [0; 4];
        self.inner.env().fill(&mut random)?;
        let mut guard = self.write().await?;
        guard.read().await?;
        let unread = guard.state.keys().into_iter().filter(|key| is_flash(key));
        let unread: Vec<_> = unread.map(str::to_owned).collect();
        for key in unread.iter().take((unread.len() + 1).saturating_sub(Self::FLASHES)) {
            guard.state.pending.remove(key)?;
        }
        // After every message that there is, also in the same millisecond.
        let last = unread.last().and_then(|key| at(key));
        let at = self.inner.env().now().as_millis().max(last.map_or(0, |last| last + 1));
        let key = format!("{PREFIX}{at:015}.{:08x}", u32::from_be_bytes(random));
        Ok(guard.state.pending.put(&key, json)?)
    }

    /// Takes the unread messages, the oldest first, immediately and atomically across nodes: of
    /// several requests that come in at the same time, one has each message.
    ///
    /// Each message is read at most once. A message that was taken is gone even if the handler fails after
    /// it, or the response never reaches the client: a page that is shown twice is the lesser evil for a
    /// message that must arrive, so keep that as a value of its own, and remove it when the user confirms.
    ///
    /// Costs a load if nothing was read yet, and where there are messages, an update.
    ///
    /// # Examples
    ///
    /// ```
    /// # use steadfast::{Error, testing::Site};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let client = Site::new(|layer| layer).visitor();
    /// # client.session(|session| async move {
    /// session.flash("Your address is saved.").await?;
    /// assert_eq!(session.take_flashes::<String>().await?, ["Your address is saved."]);
    /// assert!(session.take_flashes::<String>().await?.is_empty());
    /// # Ok(())
    /// # })
    /// # .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Session::update); or when a message is of another type, and then all of them are
    /// gone, or every page that shows them would fail.
    pub async fn take_flashes<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        let taken = self.lock().await.take("flash", is_flash, |_| Ok(())).await?;
        taken.iter().map(|json| decode("flash", json.as_bytes())).collect()
    }

    /// The number of unread messages that a session keeps: 8.
    pub const FLASHES: usize = 8;
}

fn is_flash(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The milliseconds in the key of a message.
fn at(key: &str) -> Option<i64> {
    key.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// The prefix of the keys of messages. Each message has its own key, so leaving one does not depend on the
/// others, and a message that was taken cannot come back.
pub(super) const PREFIX: &str = "steadfast.flash.";
