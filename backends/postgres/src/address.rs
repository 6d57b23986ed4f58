//! The address of a database: `postgres://user:password@host:port,host:port/database`.

use std::env::var;
use std::fmt;
use std::net::IpAddr;
#[cfg(unix)]
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// The hosts of a database, and the user to log in as.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    /// True if no traffic leaves this machine.
    pub(crate) is_local: bool,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Tcp(String, u16),
    /// The directory of the server's socket.
    #[cfg(unix)]
    Unix(PathBuf, u16),
}

/// The kind of pooler between a store and its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooler {
    /// A pooler that assigns a server connection for the lifetime of the client's connection.
    Session,
    /// A pooler that assigns a server connection for one transaction, like PgBouncer with
    /// `pool_mode = transaction` or `statement`. Nothing is prepared, and settings only last for
    /// one statement.
    Transaction,
}

impl Address {
    /// Parses an address. Its parts are percent-encoded. The directory of a socket is a host:
    /// `%2Frun%2Fpostgresql`.
    pub(crate) fn parse(address: &str) -> Result<Self, AddressError> {
        let address = address.trim();
        let rest = address
            .strip_prefix("postgres://")
            .or_else(|| address.strip_prefix("postgresql://"))
            .ok_or(AddressError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(AddressError::Settings);
        }
        let (authority, database) = match rest.rsplit_once('@') {
            // A slash before the last `@` belongs to a password that was not encoded.
            Some((credentials, _)) if credentials.contains('/') => {
                return Err(AddressError::Password);
            }
            _ => rest.split_once('/').unwrap_or((rest, "")),
        };
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (credentials, None),
        };
        let user = non_empty(decoded(user)?).or_else(|| set("PGUSER")).or_else(|| set("USER"));
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            is_local: hosts.iter().all(Host::is_local),
            hosts,
            user: user.ok_or(AddressError::User)?,
            password: password.or_else(|| set("PGPASSWORD")),
            database: non_empty(decoded(database)?).or_else(|| set("PGDATABASE")),
        })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Host {
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(name, _) => {
                let address = name.parse::<IpAddr>();
                name == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Self::Unix(..) => true,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            #[cfg(unix)]
            Self::Unix(path, port) => write!(f, "{}:{port}", path.display()),
        }
    }
}

/// A malformed address. It is not shown, because it may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The prefix is missing.
    #[error("the address does not begin with postgres://")]
    Scheme,
    /// The address has parameters, or a password that is not encoded.
    #[error(
        "it holds a question mark or a hash: settings have no place in it, and in a password they \
         are percent-encoded, as %3F and %23"
    )]
    Settings,
    /// A password is not encoded.
    #[error("a slash in a user or password must be percent-encoded as %2F")]
    Password,
    /// There is no user.
    #[error("no user is given, and neither PGUSER nor USER is set")]
    User,
    /// A host or port is malformed.
    #[error("the hosts are malformed: expected HOST:PORT,HOST:PORT")]
    Host,
    /// A part is not percent-encoded UTF-8.
    #[error("a part of the address is not percent-encoded UTF-8")]
    Encoding,
}

fn host(host: &str) -> Result<Host, AddressError> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            (name, port.parse().map_err(|_| AddressError::Host)?)
        }
        _ => (host, DEFAULT_PORT),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match decoded(name)? {
        name if name.is_empty() || port == 0 => Err(AddressError::Host),
        #[cfg(unix)]
        name if name.starts_with('/') => Ok(Host::Unix(name.into(), port)),
        name => Ok(Host::Tcp(name, port)),
    }
}

fn decoded(part: &str) -> Result<String, AddressError> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| AddressError::Encoding)?;
    if text.contains('\0') { Err(AddressError::Encoding) } else { Ok(text.into_owned()) }
}

fn non_empty(part: String) -> Option<String> {
    Some(part).filter(|part| !part.is_empty())
}

fn set(variable: &str) -> Option<String> {
    var(variable).ok().and_then(non_empty)
}

const DEFAULT_PORT: u16 = 5432;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_host_or_several() {
        let hosts = |address: &str| Address::parse(address).unwrap().hosts;
        let tcp = |host: &str, port| Host::Tcp(host.to_owned(), port);
        assert_eq!(hosts("postgres://u@db"), [tcp("db", 5432)]);
        assert_eq!(
            hosts("postgresql://u:p@a:1,b,[::1]:2/d"),
            [tcp("a", 1), tcp("b", 5432), tcp("::1", 2)]
        );
        assert_eq!(hosts("postgres://u@%2Frun%2Fpg:5433/d"), [Host::Unix("/run/pg".into(), 5433)]);
    }

    #[test]
    fn the_parts_of_an_address_are_decoded() {
        let address = Address::parse(" postgres://u%40x:a%2Fb%3Ac@h/d%20e\n").unwrap();
        assert_eq!(address.user, "u@x");
        assert_eq!(address.password.as_deref(), Some("a/b:c"));
        assert_eq!(address.database.as_deref(), Some("d e"));
    }

    #[test]
    fn a_malformed_address_is_rejected_and_not_shown() {
        for (address, why) in [
            ("mysql://hunter2@h", AddressError::Scheme),
            ("hunter2", AddressError::Scheme),
            ("postgres://u:hunter2@h/d?x=1", AddressError::Settings),
            ("postgres://u:hunter2#@h/d", AddressError::Settings),
            ("postgres://u:hunter2/3@h/d", AddressError::Password),
            ("postgres://u:hunter2@h:port/d", AddressError::Host),
            ("postgres://u:hunter2@h:0/d", AddressError::Host),
            ("postgres://u:hunter2@h:99999/d", AddressError::Host),
            ("postgres://u:hunter2@a,,b/d", AddressError::Host),
            ("postgres://u:hunter2@/d", AddressError::Host),
            ("postgres://u:hunter2%ff@h/d", AddressError::Encoding),
            ("postgres://u:hunter2%00@h/d", AddressError::Encoding),
        ] {
            assert_eq!(Address::parse(address).unwrap_err(), why, "{address}");
            assert!(!why.to_string().contains("hunter2"));
        }
        let shown = format!("{:?}", Address::parse("postgres://u:hunter2@h/d").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn only_this_machine_is_local() {
        let is_local = |address: &str| Address::parse(address).unwrap().is_local;
        for local in ["localhost", "127.0.0.1:1,[::1]", "%2Frun%2Fpg"] {
            assert!(is_local(&format!("postgres://u@{local}")), "{local}");
        }
        for remote in ["db", "10.0.0.1", "localhost,db"] {
            assert!(!is_local(&format!("postgres://u@{remote}")), "{remote}");
        }
    }
}
