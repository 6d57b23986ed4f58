//! The attributes of the session cookie.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use steadfast_core::Token;

use super::companion::MAX_LABELS;

/// The name and the attributes of the session cookie.
///
/// Start from a profile and change what has to differ. Every combination that a browser would
/// refuse is an error when the profile is given to the layer, never fixed in silence. The cookie is
/// always `HttpOnly`, and always says its `SameSite`.
///
/// ```
/// use steadfast::CookieProfile;
///
/// let shop = CookieProfile::host().name("__Host-shop").persistent();
/// assert!(shop.check().is_ok());
/// assert!(shop.path("/cart").check().is_err(), "__Host- requires Path=/");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieProfile {
    name: String,
    path: String,
    domain: Option<String>,
    secure: bool,
    same_site: SameSite,
    partitioned: bool,
    persistent: bool,
}

impl CookieProfile {
    /// `__Host-id; Path=/; Secure; HttpOnly; SameSite=Lax`: bound to one host, the default.
    ///
    /// Browsers take it over https, and over plain http from localhost only.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert_eq!(CookieProfile::host().cookie_name(), "__Host-id");
    /// ```
    pub fn host() -> Self {
        Self {
            name: "__Host-id".to_owned(),
            path: "/".to_owned(),
            domain: None,
            secure: true,
            same_site: SameSite::Lax,
            partitioned: false,
            persistent: false,
        }
    }

    /// `__Secure-id; Domain=…`: shared by a domain and all its subdomains, each of which can then
    /// read the session and replace it.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::domain("example.org").check().is_ok());
    /// assert!(CookieProfile::domain("org").check().is_err());
    /// ```
    pub fn domain(domain: impl Into<String>) -> Self {
        Self { name: "__Secure-id".to_owned(), domain: Some(domain.into()), ..Self::host() }
    }

    /// `__Host-id; SameSite=None; Partitioned`: for a page embedded in other sites, one session for
    /// each of them (CHIPS).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// let embedded = CookieProfile::partitioned();
    /// assert!(embedded.check().is_ok());
    /// ```
    pub fn partitioned() -> Self {
        Self { same_site: SameSite::None, partitioned: true, ..Self::host() }
    }

    /// `id-dev`, without `Secure`: for development over plain http. Anyone on the path reads it.
    ///
    /// Cookies do not know ports. Two applications on one host need names of their own, see
    /// [`guide::browsers`](crate::guide::browsers).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert_eq!(CookieProfile::dev().cookie_name(), "id-dev");
    /// ```
    pub fn dev() -> Self {
        Self { name: "id-dev".to_owned(), secure: false, ..Self::host() }
    }

    /// Sets the whole name, with its prefix if it has one.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::host().name("__Host-shop").check().is_ok());
    /// assert!(CookieProfile::host().name("my shop").check().is_err());
    /// ```
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the path below which browsers send the cookie: `/` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::dev().path("/shop").check().is_ok());
    /// assert!(CookieProfile::host().path("/shop").check().is_err(), "__Host- requires Path=/");
    /// ```
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Sets whether browsers send the cookie over encrypted connections only.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::dev().secure(true).check().is_ok());
    /// assert!(CookieProfile::host().secure(false).check().is_err());
    /// ```
    #[must_use]
    pub fn secure(self, secure: bool) -> Self {
        Self { secure, ..self }
    }

    /// Sets when browsers send the cookie along with requests that other sites cause: `Lax` by default. A sign-in
    /// that another site posts back comes without a `Lax` cookie, see
    /// [`guide::browsers`](crate::guide::browsers).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::{CookieProfile, SameSite};
    ///
    /// assert!(CookieProfile::host().same_site(SameSite::Strict).check().is_ok());
    /// assert!(CookieProfile::dev().same_site(SameSite::None).check().is_err());
    /// ```
    #[must_use]
    pub fn same_site(self, same_site: SameSite) -> Self {
        Self { same_site, ..self }
    }

    /// Keeps the cookie when the browser closes: `Max-Age` is what is left of the absolute lifetime
    /// when it is set. Without it, browsers drop the cookie at the end of their session. A sign-in may
    /// say otherwise: [`Login::persistent`](crate::Login::persistent).
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::host().persistent().check().is_ok());
    /// ```
    #[must_use]
    pub fn persistent(self) -> Self {
        Self { persistent: true, ..self }
    }

    /// Checks that browsers accept this cookie. The layer checks it too.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert!(CookieProfile::host().check().is_ok());
    /// let error = CookieProfile::host().path("/a").check().unwrap_err();
    /// assert_eq!(error.to_string(), r#"cookie name "__Host-id" requires Path=/"#);
    /// ```
    ///
    /// # Errors
    ///
    /// The first attribute that browsers would refuse.
    pub fn check(&self) -> Result<(), CookieError> {
        self.check_name()?;
        self.check_path()?;
        self.domain.as_deref().map_or(Ok(()), check_domain)?;
        self.check_prefix()?;
        if self.same_site == SameSite::None && !self.secure {
            return Err(CookieError::Insecure { what: "SameSite=None" });
        }
        if self.partitioned && !self.secure {
            return Err(CookieError::Insecure { what: "Partitioned" });
        }
        if self.partitioned && self.same_site != SameSite::None {
            return Err(CookieError::PartitionedSameSite);
        }
        Ok(())
    }

    /// Returns the name that browsers see.
    ///
    /// # Examples
    ///
    /// ```
    /// use steadfast::CookieProfile;
    ///
    /// assert_eq!(CookieProfile::domain("example.org").cookie_name(), "__Secure-id");
    /// ```
    pub fn cookie_name(&self) -> &str {
        &self.name
    }

    /// Returns true if the cookie outlives the browser, unless a sign-in says otherwise.
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The `Set-Cookie` that hands out a token followed by its route: for a time, or until the browser
    /// closes.
    pub(crate) fn issue(
        &self,
        token: &Token,
        route: &str,
        max_age: Option<Duration>,
    ) -> HeaderValue {
        let max_age = max_age.map(|left| left.min(steadfast_core::Lifetime::MAX));
        let value = |text: &mut Vec<u8>| {
            token.encode_to(text);
            if !route.is_empty() {
                text.push(b'.');
                text.extend_from_slice(route.as_bytes());
            }
        };
        self.header("", value, max_age)
    }

    /// The `Set-Cookie` that removes it. It repeats what identifies the cookie to a browser.
    pub(crate) fn removal(&self) -> HeaderValue {
        self.companion_removal("")
    }

    /// The `Set-Cookie` of an accompanying cookie, whose name is this one's with a suffix.
    pub(crate) fn companion(&self, behind: &str, value: &str) -> HeaderValue {
        self.header(behind, |text| text.extend_from_slice(value.as_bytes()), None)
    }

    /// The `Set-Cookie` that removes such a cookie.
    pub(crate) fn companion_removal(&self, behind: &str) -> HeaderValue {
        self.header(behind, |_| {}, Some(Duration::ZERO))
    }

    fn header(
        &self,
        behind: &str,
        value: impl FnOnce(&mut Vec<u8>),
        max_age: Option<Duration>,
    ) -> HeaderValue {
        let mut text = Vec::with_capacity(192);
        text.extend_from_slice(self.name.as_bytes());
        text.extend_from_slice(behind.as_bytes());
        text.push(b'=');
        value(&mut text);
        text.extend_from_slice(b"; Path=");
        text.extend_from_slice(self.path.as_bytes());
        if let Some(domain) = &self.domain {
            text.extend_from_slice(b"; Domain=");
            text.extend_from_slice(domain.as_bytes());
        }
        if let Some(max_age) = max_age {
            write!(text, "; Max-Age={}", max_age.as_secs()).expect("a vector takes any text");
        }
        if self.secure {
            text.extend_from_slice(b"; Secure");
        }
        text.extend_from_slice(b"; HttpOnly; SameSite=");
        text.extend_from_slice(self.same_site.as_str().as_bytes());
        if self.partitioned {
            text.extend_from_slice(b"; Partitioned");
        }
        let header = HeaderValue::from_maybe_shared(Bytes::from(text));
        let mut header = header.expect("a checked profile is a valid header");
        header.set_sensitive(true);
        header
    }

    fn check_name(&self) -> Result<(), CookieError> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if self.name.is_empty() || !self.name.bytes().all(is_token) {
            return Err(CookieError::Name { name: self.name.clone() });
        }
        let len = self.name.len() + VALUE_LEN;
        if len > MAX_NAME_AND_VALUE {
            return Err(CookieError::TooLong { what: "name and value", len });
        }
        Ok(())
    }

    /// Browsers compare it with the path that they send, in which a query has no place, dot segments
    /// are resolved, and what RFC 3986 keeps out of a path is encoded.
    fn check_path(&self) -> Result<(), CookieError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+=:@".contains(&b);
        let is_dots = |segment: &str| {
            let segment = segment.to_ascii_lowercase().replace("%2e", ".");
            segment == "." || segment == ".."
        };
        let is_sent = self.path.starts_with('/') && self.path.bytes().all(fits);
        if !is_sent || self.path.split('/').any(is_dots) {
            return Err(CookieError::Path { path: self.path.clone() });
        }
        if self.path.len() > MAX_ATTRIBUTE {
            return Err(CookieError::TooLong { what: "path", len: self.path.len() });
        }
        Ok(())
    }

    /// Browsers compare prefixes without regard to case, so a name in another case is bound by the
    /// same rules (RFC 6265bis, 5.7).
    fn check_prefix(&self) -> Result<(), CookieError> {
        let starts_with = |prefix: &str| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let broken = if starts_with("__Host-") {
            [
                (!self.secure, "Secure"),
                (self.path != "/", "Path=/"),
                (self.domain.is_some(), "no Domain"),
            ]
        } else if starts_with("__Secure-") || starts_with("__Http-") {
            [(!self.secure, "Secure"), (false, ""), (false, "")]
        } else {
            [(false, ""); 3]
        };
        match broken.into_iter().find(|(broken, _)| *broken) {
            Some((_, demands)) => Err(CookieError::Prefix { name: self.name.clone(), demands }),
            None => Ok(()),
        }
    }
}

impl Default for CookieProfile {
    fn default() -> Self {
        Self::host()
    }
}

/// The requests from other sites with which browsers send a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Never, not even when a user follows a link.
    Strict,
    /// Only when a user follows a link.
    Lax,
    /// Always.
    None,
}

impl SameSite {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// A cookie that no browser would accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is not a token.
    #[error("cookie name {name:?} is not one or more of the token characters of RFC 9110")]
    Name {
        /// The name.
        name: String,
    },
    /// The path has the wrong form.
    #[error(
        "cookie path {path:?} is not a URL's path from its first `/`, without `;`, `,` and dot segments"
    )]
    Path {
        /// The path.
        path: String,
    },
    /// The domain has the wrong form.
    #[error("cookie domain {domain:?} is not a host name with at least one dot inside")]
    Domain {
        /// The domain.
        domain: String,
    },
    /// The prefix of the name demands something else.
    #[error("cookie name {name:?} requires {demands}")]
    Prefix {
        /// The name.
        name: String,
        /// The requirement.
        demands: &'static str,
    },
    /// It demands `Secure`.
    #[error("{what} requires Secure")]
    Insecure {
        /// The attribute or prefix that requires it.
        what: &'static str,
    },
    /// Partitioned cookies are for embedded pages.
    #[error("Partitioned requires SameSite=None")]
    PartitionedSameSite,
    /// Browsers ignore what is longer (RFC 6265bis, 5.6).
    #[error("the cookie's {what} has {len} bytes, which exceeds what browsers accept")]
    TooLong {
        /// The part that is too long.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
}

fn check_domain(domain: &str) -> Result<(), CookieError> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number is an address to browsers, or nothing.
    let is_name = domain
        .rsplit('.')
        .next()
        .is_some_and(|top| top.starts_with(|c: char| c.is_ascii_alphabetic()));
    let fits = domain.contains('.') && domain.split('.').all(is_label) && is_name;
    if !fits || domain.len() > MAX_DOMAIN {
        return Err(CookieError::Domain { domain: domain.to_owned() });
    }
    Ok(())
}

/// A token, followed by a route of labels of 32 bytes.
const VALUE_LEN: usize = Token::LEN + MAX_LABELS * 33;
const MAX_NAME_AND_VALUE: usize = 4096;
const MAX_ATTRIBUTE: usize = 1024;
/// A name of 255 bytes in a DNS message (RFC 1035, 2.3.4), without what surrounds it there.
const MAX_DOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows CK-01.
    #[test]
    fn the_default_has_exactly_the_attributes_it_says() {
        let cookie = CookieProfile::host();
        assert_eq!(
            cookie.removal(),
            "__Host-id=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        );
    }

    /// Shows CK-15.
    #[test]
    fn a_partitioned_cookie_is_removed_in_its_partition() {
        let removal = CookieProfile::partitioned().removal();
        assert_eq!(
            removal,
            "__Host-id=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=None; Partitioned"
        );
    }

    /// Shows CK-02.
    #[test]
    fn what_a_browser_refuses_is_refused_here() {
        for prefix in ["__Host-", "__host-", "__HOST-", "__Secure-", "__SECURE-", "", "id"] {
            for combination in 0..32 {
                let bit = |n: u8| combination >> n & 1 == 1;
                let mut cookie = CookieProfile::host().name(format!("{prefix}x")).secure(bit(0));
                cookie.domain = bit(1).then(|| "example.org".to_owned());
                cookie.path = if bit(2) { "/" } else { "/a" }.to_owned();
                cookie.same_site = if bit(3) { SameSite::None } else { SameSite::Lax };
                cookie.partitioned = bit(4);
                let host = prefix.to_lowercase() == "__host-";
                let wants_secure = !prefix.is_empty() && prefix != "id" || bit(3) || bit(4);
                let possible = (bit(0) || !wants_secure)
                    && (!host || (!bit(1) && bit(2)))
                    && (!bit(4) || bit(3));
                assert_eq!(cookie.check().is_ok(), possible, "{cookie:?}");
            }
        }
    }

    /// Shows CK-16.
    #[test]
    fn no_attribute_can_end_the_header() {
        for bad in ["a\r\nb", "a\0", "a;b", "a,b", "a b", "\u{e9}", "a=b", ""] {
            assert!(CookieProfile::dev().name(bad).check().is_err(), "name {bad:?}");
            assert!(CookieProfile::dev().path(bad).check().is_err(), "path {bad:?}");
            assert!(CookieProfile::domain(bad).check().is_err(), "domain {bad:?}");
        }
        assert!(CookieProfile::domain("example.org").check().is_ok());
        for bad in [".example.org", "org", "127.0.0.1", "a.7", "a.0x1f", "-a.org", "a..org"] {
            assert!(CookieProfile::domain(bad).check().is_err(), "domain {bad:?}");
        }
        let long = format!("{}org", "a.".repeat(125));
        assert!(CookieProfile::domain(&long).check().is_ok(), "{}", long.len());
        assert!(CookieProfile::domain(format!("a.{long}")).check().is_err());
    }

    /// Shows CK-02.
    #[test]
    fn a_path_that_browsers_never_send_is_refused() {
        for good in ["/a", "/a/", "/a//b", "/.a/b..", "/a%20b", "/~a:@!$&'()*+=_-"] {
            assert!(CookieProfile::dev().path(good).check().is_ok(), "{good}");
        }
        for bad in
            ["/a?b", "/a#b", "/a\\b", "/a/../b", "/.", "/a/%2E", "/%2e.", "/<a>", "/`", "/a|b"]
        {
            assert!(CookieProfile::dev().path(bad).check().is_err(), "{bad}");
        }
    }

    /// Shows CK-14.
    #[test]
    fn what_is_longer_than_browsers_take_is_refused() {
        let dev = CookieProfile::dev;
        assert!(dev().name("n".repeat(MAX_NAME_AND_VALUE - VALUE_LEN)).check().is_ok());
        assert!(dev().name("n".repeat(MAX_NAME_AND_VALUE - VALUE_LEN + 1)).check().is_err());
        assert!(dev().path(format!("/{}", "p".repeat(1023))).check().is_ok());
        assert!(dev().path(format!("/{}", "p".repeat(1024))).check().is_err());
    }
}
