//! The parts of a request's address that matter to cookies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An `http` or `https` URL: what a browser asks for once it has parsed an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: Host,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Url {
    /// The canonical host: lower case, an address in its usual form (5.1.2).
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }

    /// The path, with dot segments resolved and encoded as browsers send it; never empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Scheme and registrable domain: what "same site" compares (5.2).
    pub fn site(&self) -> Site {
        let host = self.host();
        let domain = match self.host {
            Host::Name(_) => {
                let second_dot = host.rmatch_indices('.').nth(1);
                &host[second_dot.map_or(0, |(at, _)| at + 1)..]
            }
            Host::Address(_) => &host,
        };
        Site { scheme: self.scheme.clone(), domain: domain.to_owned() }
    }

    /// Returns true if the connection is secure (5.8.3): TLS, or this machine.
    pub fn is_secure(&self) -> bool {
        let is_local = match &self.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.is_loopback(),
        };
        self.scheme == "https" || is_local
    }

    /// The directory of the path, where a cookie without a `Path` belongs (5.1.4).
    pub(crate) fn default_path(&self) -> &str {
        match self.path.rfind('/') {
            None | Some(0) => "/",
            Some(end) => &self.path[..end],
        }
    }

    pub(crate) fn is_address(&self) -> bool {
        matches!(self.host, Host::Address(_))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "https" && scheme != "http" {
            return Err(UrlError::Scheme);
        }
        let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
        let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
        let address = authority.rsplit('@').next().unwrap_or_default();
        Ok(Self { scheme, host: host(address)?, path: normal_path(path) })
    }
}

/// The scheme and the registrable domain of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    scheme: String,
    domain: String,
}

/// A text that no browser would ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It does not begin with `http://` or `https://`.
    Scheme,
    /// Its host is neither a name of letters, digits and hyphens nor an address.
    Host,
    /// Its port is not a number.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the URL does not begin with http:// or https://",
            Self::Host => "the URL's host is neither a name nor an address",
            Self::Port => "the URL's port is no number",
        })
    }
}

impl std::error::Error for UrlError {}

fn host(address: &str) -> Result<Host, UrlError> {
    let end_of_host = address.find(']').map_or(0, |end| end + 1);
    let (host, port) = match address[end_of_host..].find(':') {
        Some(colon) => address.split_at(end_of_host + colon),
        None => (address, ":0"),
    };
    port[1..].parse::<u16>().map_err(|_| UrlError::Port)?;
    if let Some(v6) = host.strip_prefix('[') {
        let v6 = v6.strip_suffix(']').and_then(|v6| v6.parse::<Ipv6Addr>().ok());
        return v6.map(|v6| Host::Address(v6.into())).ok_or(UrlError::Host);
    }
    if ends_in_a_number(host) {
        return host
            .parse::<Ipv4Addr>()
            .map(|v4| Host::Address(v4.into()))
            .map_err(|_| UrlError::Host);
    }
    let is_name = host.len() <= 253 && host.split('.').all(is_label);
    is_name.then(|| Host::Name(host.to_ascii_lowercase())).ok_or(UrlError::Host)
}

/// A name whose last label is a number is read as an IPv4 address, or not at all (URL Standard,
/// "ends in a number").
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_hex =
        last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

/// A label of a host name (RFC 1034, 3.5, as RFC 1123, 2.1 relaxes it).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The path as it goes over the wire (URL Standard, "path state").
fn normal_path(path: &str) -> String {
    let mut kept = Vec::new();
    let segments: Vec<_> = path.split(['/', '\\']).skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let dots = segment.to_ascii_lowercase().replace("%2e", ".");
        if dots == ".." {
            kept.pop();
        } else if dots != "." {
            kept.push(*segment);
            continue;
        }
        if at + 1 == segments.len() {
            kept.push("");
        }
    }
    encoded(&format!("/{}", kept.join("/")))
}

/// Percent-encodes what the URL Standard's path percent-encode set names.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"#<>?^`{}".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_canonical() {
        for (text, host) in [
            ("https://Shop.Example", "shop.example"),
            ("https://user:p@shop.example:8443/a", "shop.example"),
            ("http://127.0.0.1:80", "127.0.0.1"),
            ("http://[0:0::1]:80/", "[::1]"),
        ] {
            assert_eq!(url(text).host(), host);
        }
    }

    #[test]
    fn what_no_browser_asks_for_is_refused() {
        for (text, error) in [
            ("ftp://a.example", UrlError::Scheme),
            ("a.example", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://a..example", UrlError::Host),
            ("http://-a.example", UrlError::Host),
            ("http://a_b.example", UrlError::Host),
            ("http://1.2.3.4.5", UrlError::Host),
            ("http://a.0x1f", UrlError::Host),
            ("http://a.7", UrlError::Host),
            ("http://[::x]", UrlError::Host),
            ("http://a.example:http", UrlError::Port),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
        assert!(format!("http://{}.example", "a.".repeat(130)).parse::<Url>().is_err());
    }

    #[test]
    fn a_path_is_resolved_and_encoded() {
        for (text, path) in [
            ("https://a.example", "/"),
            ("https://a.example?q=/x", "/"),
            ("https://a.example/a/../b/./c/..", "/b/"),
            ("https://a.example/a/%2E%2e/b", "/b"),
            ("https://a.example\\a\\b", "/a/b"),
            ("https://a.example/a b<\u{e9}#x", "/a%20b%3C%C3%A9"),
            ("https://a.example/a%20;b", "/a%20;b"),
        ] {
            assert_eq!(url(text).path(), path, "{text}");
        }
    }

    /// RFC 6265bis, section 5.1.4.
    #[test]
    fn the_default_path_is_the_directory() {
        for (text, path) in [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a")] {
            assert_eq!(url(&format!("https://a.example{text}")).default_path(), path);
        }
    }

    /// RFC 6265bis, section 5.2.
    #[test]
    fn a_site_is_a_scheme_and_domain() {
        let same = |one: &str, other: &str| url(one).site() == url(other).site();
        assert!(same("https://a.shop.example", "https://b.c.shop.example:8443/x"));
        assert!(!same("https://shop.example", "http://shop.example"));
        assert!(!same("https://shop.example", "https://evil.example"));
        assert!(!same("http://127.0.0.1", "http://1.0.0.1"));
    }

    /// RFC 6265bis, section 5.8.3.
    #[test]
    fn tls_and_localhost_are_secure() {
        for text in ["https://a.example", "http://localhost:1", "http://127.0.0.2", "http://[::1]"]
        {
            assert!(url(text).is_secure());
        }
        assert!(!url("http://a.example").is_secure());
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }
}
