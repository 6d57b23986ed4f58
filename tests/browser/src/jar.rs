//! The cookies that a browser keeps (5.7) and sends (5.8).

use std::fmt;

use time::UtcDateTime;

use crate::request::Request;
use crate::rules::{CookiePath, Received, SameSite};
use crate::url::{Site, Url};

/// The cookies of a browser.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    /// The cookies in the order of their creation.
    cookies: Vec<Cookie>,
}

impl Jar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a `Set-Cookie` line of the answer to a request; a line that removes a cookie is taken too.
    ///
    /// # Errors
    ///
    /// Why a browser ignores the line.
    pub fn receive(
        &mut self,
        request: &Request,
        line: impl AsRef<[u8]>,
        now: UtcDateTime,
    ) -> Result<(), Ignored> {
        let received = Received::parse(line.as_ref(), now)?;
        let has_path = received.attributes.path.is_some();
        let cookie = Cookie::new(received, request)?;
        self.check_connection(&cookie, request)?;
        cookie.check_same_site(request)?;
        cookie.check_prefixes(has_path, request)?;
        self.keep(cookie, request)?;
        self.evict(now);
        Ok(())
    }

    /// The `Cookie` line of a request, or what a script sees; `None` if there is nothing to send.
    pub fn cookie_header(&mut self, request: &Request, now: UtcDateTime) -> Option<Vec<u8>> {
        self.evict(now);
        let mut sent: Vec<_> = self.cookies.iter().filter(|c| c.goes_with(request)).collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<_> = sent.into_iter().map(Cookie::pair).collect();
        (!pairs.is_empty()).then(|| pairs.join(&b"; "[..]))
    }

    /// The cookies that have not expired.
    pub fn cookies(&self, now: UtcDateTime) -> impl Iterator<Item = &Cookie> {
        self.cookies.iter().filter(move |cookie| !cookie.is_expired(now))
    }

    /// Closes the browser: what is not persistent is gone.
    pub fn end_session(&mut self) {
        self.cookies.retain(|cookie| cookie.expiry.is_some());
    }

    /// A plain connection sets no `Secure` cookie and hides none (5.7, steps 13 and 16).
    fn check_connection(&self, cookie: &Cookie, request: &Request) -> Result<(), Ignored> {
        if request.url().is_secure() {
            return Ok(());
        }
        if cookie.secure {
            return Err(Ignored::InsecureConnection);
        }
        let hides = |old: &Cookie| {
            let (one, other) = (&cookie.domain, &old.domain);
            old.secure
                && old.name == cookie.name
                && (domain_matches(one, other) || domain_matches(other, one))
                && path_matches(&cookie.path, &old.path)
        };
        if self.cookies.iter().any(hides) {
            return Err(Ignored::Overlay);
        }
        Ok(())
    }

    /// Replaces the cookie of the same identity, or adds one (5.7, steps 23 and 24).
    fn keep(&mut self, cookie: Cookie, request: &Request) -> Result<(), Ignored> {
        match self.cookies.iter_mut().find(|old| old.identity() == cookie.identity()) {
            Some(old) if old.http_only && request.is_by_script() => return Err(Ignored::HttpOnly),
            Some(old) => *old = cookie,
            None => self.cookies.push(cookie),
        }
        Ok(())
    }

    fn evict(&mut self, now: UtcDateTime) {
        self.cookies.retain(|cookie| !cookie.is_expired(now));
    }
}

/// A cookie that a browser keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name, perhaps empty.
    pub name: Vec<u8>,
    /// Its value, perhaps empty.
    pub value: Vec<u8>,
    /// The time at which it expires; `None` for one that ends with the browser's session.
    pub expiry: Option<UtcDateTime>,
    /// The host it is for, or the domain.
    pub domain: String,
    /// True if subdomains are left out.
    pub host_only: bool,
    /// The path below which it is sent.
    pub path: Vec<u8>,
    /// True if it is sent over secure connections only.
    pub secure: bool,
    /// True if scripts do not see it.
    pub http_only: bool,
    /// The requests from other sites that carry it.
    pub same_site: SameSite,
    /// The site below which it counts, if it is partitioned.
    pub partition: Option<Site>,
}

impl Cookie {
    /// Stores the cookies that a response sets (5.7, steps 2 to 15).
    fn new(received: Received, request: &Request) -> Result<Self, Ignored> {
        let Received { name, value, attributes } = received;
        if name.is_empty() && value.is_empty() {
            return Err(Ignored::Empty);
        }
        if attributes.http_only && request.is_by_script() {
            return Err(Ignored::HttpOnly);
        }
        if attributes.partitioned && !attributes.secure {
            return Err(Ignored::InsecurePartitioned);
        }
        let expiry = attributes.expiry();
        let (domain, host_only) = domain(&attributes.domain, request.url())?;
        Ok(Self {
            name,
            value,
            expiry,
            domain,
            host_only,
            path: match attributes.path {
                Some(CookiePath::Given(path)) => path,
                Some(CookiePath::Default) | None => request.url().default_path().into(),
            },
            secure: attributes.secure,
            http_only: attributes.http_only,
            same_site: attributes.same_site,
            partition: attributes.partitioned.then(|| request.partition()),
        })
    }

    /// A response to a page embedded in another site sets no cookie that would not be sent back there
    /// (5.7, steps 18 and 19).
    fn check_same_site(&self, request: &Request) -> Result<(), Ignored> {
        if self.same_site == SameSite::None {
            return if self.secure { Ok(()) } else { Err(Ignored::InsecureSameSiteNone) };
        }
        let is_welcome =
            request.is_same_site() || (request.is_navigation() && !request.is_by_script());
        is_welcome.then_some(()).ok_or(Ignored::CrossSite)
    }

    /// The prefixes of 5.4, in any case, also in the value of a cookie without a name (5.7, steps 20
    /// to 22); and the two that browsers added since (draft-ietf-httpbis-layered-cookies).
    fn check_prefixes(&self, has_path: bool, request: &Request) -> Result<(), Ignored> {
        let label = if self.name.is_empty() { &self.value } else { &self.name };
        let has = |prefix: &str| {
            label
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let is_http = self.http_only && !request.is_by_script();
        let is_host = self.host_only && has_path && self.path == b"/";
        let broken = (has("__Secure-") && !self.secure)
            || (has("__Http-") && !(self.secure && is_http))
            || (has("__Host-") && !(self.secure && is_host))
            || (has("__Host-Http-") && !is_http);
        let is_prefixed = ["__Secure-", "__Http-", "__Host-"].into_iter().any(has);
        match broken || (self.name.is_empty() && is_prefixed) {
            true => Err(Ignored::Prefix),
            false => Ok(()),
        }
    }

    /// Returns true if a request carries it (5.8.3, step 3).
    fn goes_with(&self, request: &Request) -> bool {
        let url = request.url();
        let is_host = match self.host_only {
            true => url.host() == self.domain,
            false => is_within(url, &self.domain),
        };
        let is_site = match self.same_site {
            SameSite::None => true,
            SameSite::Strict => request.is_same_site(),
            SameSite::Lax | SameSite::Default => request.is_same_site() || request.is_lax(),
        };
        is_host
            && is_site
            && path_matches(url.path().as_bytes(), &self.path)
            && (url.is_secure() || !self.secure)
            && !(self.http_only && request.is_by_script())
            && self.partition.as_ref().is_none_or(|site| *site == request.partition())
    }

    /// The identity of a cookie.
    fn identity(&self) -> (&[u8], &str, bool, &[u8], Option<&Site>) {
        (&self.name, &self.domain, self.host_only, &self.path, self.partition.as_ref())
    }

    fn is_expired(&self, now: UtcDateTime) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

    fn pair(&self) -> Vec<u8> {
        match self.name.is_empty() {
            true => self.value.clone(),
            false => [&self.name, &b"="[..], &self.value].concat(),
        }
    }
}

/// The reason for which a browser ignores a `Set-Cookie` line. The steps are those of 5.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// It holds a control character (5.6, step 1).
    Control,
    /// Its name and its value are empty (step 2).
    Empty,
    /// Its name and its value are longer than 4096 bytes (step 4).
    TooLong,
    /// Its domain is invalid (step 8).
    Domain,
    /// Its domain is a public suffix (step 9).
    PublicSuffix,
    /// Its domain is not the request's (step 10).
    ForeignDomain,
    /// It is `Secure`, and the connection is not (step 13).
    InsecureConnection,
    /// Scripts neither set nor replace an `HttpOnly` cookie (steps 15 and 23).
    HttpOnly,
    /// It would hide a `Secure` cookie (step 16).
    Overlay,
    /// Another site caused the request (step 18).
    CrossSite,
    /// It is `SameSite=None` and not `Secure` (step 19).
    InsecureSameSiteNone,
    /// It breaks what the prefix of its name promises (steps 20 to 22).
    Prefix,
    /// It is `Partitioned` and not `Secure` (CHIPS).
    InsecurePartitioned,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a browser ignores the cookie: {self:?}")
    }
}

impl std::error::Error for Ignored {}

/// Returns the domain of a cookie, and true if subdomains are left out (5.7, steps 7 to 10).
fn domain(attribute: &[u8], url: &Url) -> Result<(String, bool), Ignored> {
    let host = url.host();
    if attribute.is_empty() {
        return Ok((host, true));
    }
    let domain = std::str::from_utf8(attribute).ok().filter(|domain| domain.is_ascii());
    let domain = domain.ok_or(Ignored::Domain)?;
    if !domain.contains('.') {
        return if domain == host { Ok((host, true)) } else { Err(Ignored::PublicSuffix) };
    }
    match is_within(url, domain) {
        true => Ok((domain.to_owned(), false)),
        false => Err(Ignored::ForeignDomain),
    }
}

/// Returns true if the host of an address domain-matches a domain (5.1.3).
fn is_within(url: &Url, domain: &str) -> bool {
    let host = url.host();
    host == domain || (!url.is_address() && domain_matches(&host, domain))
}

fn domain_matches(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Returns true if a request's path path-matches a cookie's (5.1.4).
fn path_matches(request: &[u8], cookie: &[u8]) -> bool {
    request
        .strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: UtcDateTime = UtcDateTime::UNIX_EPOCH;
    const SHOP: &str = "https://shop.example/";

    /// RFC 6265bis, section 5.7.
    #[test]
    fn a_domain_must_match_the_request() {
        for (url, domain, ignored) in [
            (SHOP, "shop.example", None),
            (SHOP, ".SHOP.example", None),
            ("https://a.shop.example", "shop.example", None),
            (SHOP, "", None),
            (SHOP, "a.shop.example", Some(Ignored::ForeignDomain)),
            ("https://myshop.example", "shop.example", Some(Ignored::ForeignDomain)),
            (SHOP, "example", Some(Ignored::PublicSuffix)),
            (SHOP, "sh\u{f6}p.example", Some(Ignored::Domain)),
            ("http://127.0.0.1", "0.0.1", Some(Ignored::ForeignDomain)),
            ("http://localhost", "localhost", None),
        ] {
            let line = format!("a=b; Domain={domain}");
            let kept = Jar::new().receive(&visit(url), line, NOW);
            assert_eq!(kept.err(), ignored, "{url} {domain}");
        }
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn a_cookie_without_a_domain_is_host_only() {
        let mut jar = jar(SHOP, "a=b");
        assert!(is_sent(&mut jar, SHOP) && !is_sent(&mut jar, "https://a.shop.example/"));
        let mut wide = self::jar(SHOP, "a=b; Domain=shop.example");
        assert!(is_sent(&mut wide, "https://a.shop.example/"));
        assert!(!is_sent(&mut wide, "https://myshop.example/"));
    }

    /// RFC 6265bis, section 5.1.4.
    #[test]
    fn a_path_matches_whole_segments() {
        for (path, request, sent) in [
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a/", "/a/b", true),
            ("/a/", "/a", false),
            ("/a", "/ab", false),
            ("/a", "/", false),
            ("/A", "/a", false),
        ] {
            let mut jar = jar(SHOP, &format!("a=b; Path={path}"));
            assert_eq!(
                is_sent(&mut jar, &format!("https://shop.example{request}")),
                sent,
                "{path}"
            );
        }
        assert!(is_sent(&mut jar("https://shop.example/a/b", "a=b"), "https://shop.example/a/c"));
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn plain_connections_cannot_touch_secure_cookies() {
        let plain = "http://shop.example/";
        let mut jar = jar(SHOP, "a=b; Secure; Path=/x");
        assert!(!is_sent(&mut jar, "http://shop.example/x"));
        let mut set = |line: &str| jar.receive(&visit(plain), line, NOW);
        assert_eq!(set("c=d; Secure"), Err(Ignored::InsecureConnection));
        assert_eq!(set("a=d; Path=/x/y"), Err(Ignored::Overlay));
        assert_eq!(set("a=d; Path=/x/y; Domain=shop.example"), Err(Ignored::Overlay));
        assert_eq!(set("a=d; Path=/"), Ok(()));
        assert_eq!(Jar::new().receive(&visit("http://localhost"), "a=b; Secure", NOW), Ok(()));
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn scripts_cannot_touch_http_only_cookies() {
        let script = visit(SHOP).by_script();
        let mut jar = jar(SHOP, "a=b; HttpOnly");
        assert_eq!(jar.cookie_header(&script, NOW), None);
        assert_eq!(jar.receive(&script, "a=c", NOW), Err(Ignored::HttpOnly));
        assert_eq!(jar.receive(&script, "d=e; HttpOnly", NOW), Err(Ignored::HttpOnly));
        assert_eq!(jar.receive(&script, "d=e", NOW), Ok(()));
        assert_eq!(sent(&mut jar, SHOP), "a=b; d=e");
    }

    /// RFC 6265bis, section 5.8.3.
    #[test]
    fn same_site_limits_cross_site_requests() {
        let (to, evil) = (visit(SHOP), url("https://evil.example/"));
        let link = to.clone().linked_from(&evil);
        let own = to.clone().linked_from(&url("https://a.shop.example/"));
        let requests = [to.clone(), own, link.clone(), link.unsafe_method(), to.embedded_in(&evil)];
        for (same_site, goes) in [
            ("Strict", [true, true, false, false, false]),
            ("Lax", [true, true, true, false, false]),
            ("?", [true, true, true, false, false]),
            ("None", [true; 5]),
        ] {
            let mut jar = jar(SHOP, &format!("a=b; Secure; SameSite={same_site}"));
            let went = requests.each_ref().map(|r| jar.cookie_header(r, NOW).is_some());
            assert_eq!(went, goes, "{same_site}");
        }
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn embedded_pages_set_only_same_site_none() {
        let frame = visit(SHOP).embedded_in(&url("https://evil.example/"));
        let set = |line: &str| Jar::new().receive(&frame, line, NOW);
        assert_eq!(set("a=b; Secure; SameSite=Lax"), Err(Ignored::CrossSite));
        assert_eq!(set("a=b"), Err(Ignored::CrossSite));
        assert_eq!(set("a=b; SameSite=None"), Err(Ignored::InsecureSameSiteNone));
        assert_eq!(set("a=b; SameSite=None; Secure"), Ok(()));
    }

    /// RFC 6265bis, section 5.4.
    #[test]
    fn prefixes_apply_in_any_case() {
        for bad in [
            "__Secure-SID=12345; Domain=shop.example",
            "__SECURE-SID=12345; Domain=shop.example",
            "__Host-SID=12345",
            "__host-SID=12345; Secure",
            "__HOST-SID=12345; Secure; Path=/a",
            "__Host-SID=12345; Secure; Domain=shop.example; Path=/",
            "__http-SID=12345; Secure",
            "__Host-Http-SID=12345; Secure; Path=/",
            "=__Host-SID=12345; Secure; Path=/",
            "__secure-SID; Secure",
        ] {
            assert_eq!(Jar::new().receive(&visit(SHOP), bad, NOW), Err(Ignored::Prefix), "{bad}");
        }
        for good in [
            "__SECURE-SID=12345; Domain=shop.example; Secure",
            "__host-SID=12345; Secure; Path=/",
            "__Http-SID=12345; Secure; HttpOnly",
            "__Host-Http-SID=12345; Secure; HttpOnly; Path=/",
            "__HostSID=12345",
        ] {
            assert_eq!(Jar::new().receive(&visit(SHOP), good, NOW), Ok(()), "{good}");
        }
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn a_nameless_cookie_needs_a_value() {
        assert_eq!(sent(&mut jar(SHOP, "b"), SHOP), "b");
        assert_eq!(sent(&mut jar(SHOP, "a="), SHOP), "a=");
        assert_eq!(Jar::new().receive(&visit(SHOP), "=; Path=/", NOW), Err(Ignored::Empty));
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn a_removal_must_identify_the_cookie() {
        let set = "a=b; Path=/x; Domain=shop.example; Secure";
        for (removal, removes) in [
            ("a=; Path=/x; Domain=shop.example; Max-Age=0", true),
            ("a=; Path=/x; Domain=shop.example; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
            ("a=; Path=/x; Max-Age=0", false),
            ("a=; Path=/; Domain=shop.example; Max-Age=0", false),
            ("A=; Path=/x; Domain=shop.example; Max-Age=0", false),
            ("a=; Path=/x; Domain=shop.example; Secure; Max-Age=0; Partitioned", false),
        ] {
            let mut jar = jar(SHOP, set);
            assert_eq!(jar.receive(&visit(SHOP), removal, NOW), Ok(()));
            assert_eq!(jar.cookies(NOW).count() == 0, removes, "{removal}");
        }
    }

    /// RFC 6265bis, section 5.7.
    #[test]
    fn a_cookie_expires_or_ends_with_the_browser() {
        let mut jar = jar(SHOP, "a=b; Max-Age=60");
        jar.receive(&visit(SHOP), "c=d", NOW).unwrap();
        let at = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!((jar.cookies(at(59)).count(), jar.cookies(at(60)).count()), (2, 1));
        jar.end_session();
        assert_eq!(sent(&mut jar, SHOP), "a=b");
    }

    /// RFC 6265bis, section 5.8.3.
    #[test]
    fn longer_paths_come_before_older_cookies() {
        let mut jar = Jar::new();
        for line in ["a=1; Path=/", "b=1; Path=/x", "c=1; Path=/", "a=2; Path=/"] {
            jar.receive(&visit(SHOP), line, NOW).unwrap();
        }
        assert_eq!(sent(&mut jar, "https://shop.example/x"), "b=1; a=2; c=1");
    }

    #[test]
    fn a_partitioned_cookie_is_separate_per_site() {
        let (one, two) = (url("https://one.example/"), url("https://two.example/"));
        let line = "a=b; Secure; SameSite=None; Partitioned";
        let mut jar = Jar::new();
        let within = |page: &Url| visit(SHOP).embedded_in(page);
        jar.receive(&within(&one), line, NOW).unwrap();
        assert!(jar.cookie_header(&within(&one), NOW).is_some());
        assert_eq!(jar.cookie_header(&within(&two), NOW), None);
        assert_eq!(jar.cookie_header(&visit(SHOP), NOW), None);
        let plain = jar.receive(&within(&one), "a=b; Partitioned", NOW);
        assert_eq!(plain, Err(Ignored::InsecurePartitioned));
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn visit(text: &str) -> Request {
        Request::new(url(text))
    }

    fn jar(url: &str, line: &str) -> Jar {
        let mut jar = Jar::new();
        jar.receive(&visit(url), line, NOW).unwrap();
        jar
    }

    fn is_sent(jar: &mut Jar, url: &str) -> bool {
        jar.cookie_header(&visit(url), NOW).is_some()
    }

    fn sent(jar: &mut Jar, url: &str) -> String {
        String::from_utf8(jar.cookie_header(&visit(url), NOW).unwrap()).unwrap()
    }
}
