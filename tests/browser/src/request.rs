//! A request, and what caused it.

use crate::url::{Site, Url};

/// A request that a browser makes: where to, and in what context.
#[derive(Clone, Debug)]
pub struct Request {
    url: Url,
    cause: Cause,
    is_safe: bool,
    is_by_script: bool,
}

#[derive(Clone, Debug)]
enum Cause {
    /// The user, through the address bar.
    User,
    /// A page that a tab leaves for another.
    Link(Site),
    /// A page with something in it: an image, a frame, a call of its script.
    Embedding(Site),
}

impl Request {
    /// The user goes to an address.
    pub fn new(url: Url) -> Self {
        Self { url, cause: Cause::User, is_safe: true, is_by_script: false }
    }

    /// The user follows a link, or a form is sent, on `page`.
    #[must_use]
    pub fn linked_from(self, page: &Url) -> Self {
        Self { cause: Cause::Link(page.site()), ..self }
    }

    /// `page`, whose address the user sees, holds what is asked for.
    #[must_use]
    pub fn embedded_in(self, page: &Url) -> Self {
        Self { cause: Cause::Embedding(page.site()), ..self }
    }

    /// Its method is not safe: `POST` for example (RFC 9110, 9.2.1).
    #[must_use]
    pub fn unsafe_method(self) -> Self {
        Self { is_safe: false, ..self }
    }

    /// No request, but the script of a document at the address: `document.cookie`.
    #[must_use]
    pub fn by_script(self) -> Self {
        Self { is_by_script: true, ..self }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn is_by_script(&self) -> bool {
        self.is_by_script
    }

    /// Returns true if no other site is involved (5.2).
    pub(crate) fn is_same_site(&self) -> bool {
        match &self.cause {
            Cause::User => true,
            Cause::Link(site) | Cause::Embedding(site) => *site == self.url.site(),
        }
    }

    /// Returns true if the user's address bar changes to this address.
    pub(crate) fn is_navigation(&self) -> bool {
        !matches!(self.cause, Cause::Embedding(_))
    }

    /// Returns true if cookies that are `Lax` go along, although another site causes it (5.8.3).
    pub(crate) fn is_lax(&self) -> bool {
        !self.is_by_script && self.is_safe && self.is_navigation()
    }

    /// The site whose address the user sees: the key of a partitioned cookie (CHIPS).
    pub(crate) fn partition(&self) -> Site {
        match &self.cause {
            Cause::Embedding(site) => site.clone(),
            Cause::User | Cause::Link(_) => self.url.site(),
        }
    }
}
