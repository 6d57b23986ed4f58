//! Addresses of servers.

use std::fmt;
use std::str::FromStr;

/// The host and port of a server. The default port is 6379.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Creates an address from a host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Returns the host name, or the IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Parses `host:port` or `host`, with brackets around an IPv6 host. Returns `None` for anything
    /// else.
    pub fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
        let port = if port.is_empty() { Some(default_port) } else { port.parse().ok() };
        let fits = !host.is_empty() && host.bytes().all(is_host);
        fits.then_some(Self::new(host, port?))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, 6379).ok_or(AddressError)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The destination of a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    Tcp(Address),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            #[cfg(unix)]
            Self::Unix(path) => fmt::Display::fmt(&path.display(), f),
        }
    }
}

/// A text is not an address. The text is not shown, because it may be a misplaced password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address: expected host:port, host, or [ip]:port")]
pub struct AddressError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_an_optional_port() {
        for (text, host, port) in [
            ("localhost", "localhost", 6379),
            ("10.0.0.1:7000", "10.0.0.1", 7000),
            ("[::1]:7000", "::1", 7000),
            ("[::1]", "::1", 6379),
        ] {
            assert_eq!(text.parse(), Ok(Address::new(host, port)), "{text}");
        }
        for bad in ["", ":1", "h:x", "h:70000", "u:p@h:1", "[::1", "[::1]x", "h/1", "a b"] {
            assert_eq!(bad.parse::<Address>(), Err(AddressError), "{bad}");
        }
    }
}
