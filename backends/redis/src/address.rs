//! Where servers listen.

use std::fmt;
use std::str::FromStr;

/// The host and the port of a server; the port is 6379 unless said.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// The address of a host's port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The name, or the IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address `host:port` or `host`, with brackets around an IPv6 host; this port if there is
    /// none. `None` for anything else.
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
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a connection leads.
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

/// A text is no address. It is not shown: what is no address may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address is host:port, host, or [ip]:port")]
pub struct AddressError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_perhaps_a_port() {
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
