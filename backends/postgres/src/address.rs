//! Where the database is: `postgres://user:password@host:port,host:port/database`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// The hosts of a database, and as whom to connect to it.
#[derive(Clone)]
pub(crate) struct Address {
    hosts: Vec<(String, u16)>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

impl Address {
    /// Takes an address apart. Its parts are percent-decoded: a socket's directory is a host as well,
    /// `%2Frun%2Fpostgresql`.
    pub(crate) fn parse(address: &str) -> Result<Self, AddressError> {
        let rest = address
            .strip_prefix("postgres://")
            .or_else(|| address.strip_prefix("postgresql://"))
            .ok_or(AddressError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(AddressError::Settings);
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (credentials, None),
        };
        Ok(Self {
            hosts: hosts.split(',').map(host).collect::<Result<_, _>>()?,
            user: given(decoded(user)?),
            password,
            database: given(decoded(database)?),
        })
    }

    /// Whether nothing of the traffic leaves this machine.
    fn is_local(&self) -> bool {
        self.hosts.iter().all(|(host, _)| {
            let address = host.parse::<IpAddr>();
            host.starts_with('/')
                || host == "localhost"
                || address.is_ok_and(|address| address.is_loopback())
        })
    }

    /// How to connect to each host.
    pub(crate) fn options(&self, tls: &TlsSettings) -> Vec<(String, PgConnectOptions)> {
        let default = if self.is_local() { Tls::Off } else { Tls::VerifyFull };
        let mode = tls.mode.unwrap_or(default).mode();
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name("steadfast")
            .ssl_mode(mode)
            .disable_statement_logging();
        if let Some(user) = &self.user {
            options = options.username(user);
        }
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        if let Some(root) = &tls.root {
            options = options.ssl_root_cert(root);
        }
        if let Some((certificate, key)) = &tls.client {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        let hosts = self.hosts.iter();
        hosts.map(|(host, port)| (named(host, *port), at(&options, host, *port))).collect()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// How connections are protected. There is no mode that falls back to plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: the default where every host is on this machine.
    Off,
    /// Encrypted, to whoever answers: nobody can listen, somebody could stand between.
    Require,
    /// Encrypted, to a server with a certificate of a trusted authority that names the host: the default
    /// for every other host.
    VerifyFull,
}

impl Tls {
    fn mode(self) -> PgSslMode {
        match self {
            Self::Off => PgSslMode::Disable,
            Self::Require => PgSslMode::Require,
            Self::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

/// What a store is told of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) mode: Option<Tls>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// An address of the wrong form. It is not repeated, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins otherwise.
    #[error("it does not begin with postgres://")]
    Scheme,
    /// There are settings behind it.
    #[error("it holds a question mark or a hash, and settings have no place in it")]
    Settings,
    /// A port is no number, or a host is none.
    #[error("its hosts are not of the form HOST:PORT,HOST:PORT")]
    Host,
    /// A part of it is not percent-encoded UTF-8.
    #[error("a part of it is not percent-encoded")]
    Encoding,
}

fn host(host: &str) -> Result<(String, u16), AddressError> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            (name, port.parse().map_err(|_| AddressError::Host)?)
        }
        _ => (host, DEFAULT_PORT),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match decoded(name)? {
        name if name.is_empty() || port == 0 => Err(AddressError::Host),
        name => Ok((name, port)),
    }
}

fn at(options: &PgConnectOptions, host: &str, port: u16) -> PgConnectOptions {
    let options = options.clone().port(port);
    match host.starts_with('/') {
        true => options.socket(host),
        false => options.host(host),
    }
}

fn named(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn decoded(part: &str) -> Result<String, AddressError> {
    let text = percent_decode_str(part).decode_utf8().map_err(|_| AddressError::Encoding)?;
    match text.contains('\0') {
        true => Err(AddressError::Encoding),
        false => Ok(text.into_owned()),
    }
}

fn given(part: String) -> Option<String> {
    Some(part).filter(|part| !part.is_empty())
}

const DEFAULT_PORT: u16 = 5432;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_one_host_or_several() {
        let hosts = |address: &str| Address::parse(address).unwrap().hosts;
        let pair = |host: &str, port| (host.to_owned(), port);
        assert_eq!(hosts("postgres://db"), [pair("db", 5432)]);
        assert_eq!(
            hosts("postgresql://u:p@a:1,b,[::1]:2/d"),
            [pair("a", 1), pair("b", 5432), pair("::1", 2)]
        );
        assert_eq!(hosts("postgres://u@%2Frun%2Fpg:5433/d"), [pair("/run/pg", 5433)]);
    }

    #[test]
    fn the_parts_of_an_address_are_decoded() {
        let address = Address::parse("postgres://u%40x:a%2Fb%3Ac@h/d%20e").unwrap();
        assert_eq!(address.user.as_deref(), Some("u@x"));
        assert_eq!(address.password.as_deref(), Some("a/b:c"));
        assert_eq!(address.database.as_deref(), Some("d e"));
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for (address, why) in [
            ("mysql://hunter2@h", AddressError::Scheme),
            ("hunter2", AddressError::Scheme),
            ("postgres://u:hunter2@h/d?x=1", AddressError::Settings),
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
    fn st_10_plaintext_is_for_this_machine_unless_asked_for() {
        let mode = |address: &str, mode| {
            let tls = TlsSettings { mode, ..TlsSettings::default() };
            let options = Address::parse(address).unwrap().options(&tls).remove(0).1;
            format!("{:?}", options.get_ssl_mode())
        };
        for local in ["localhost", "127.0.0.1:1,[::1]", "%2Frun%2Fpg"] {
            assert_eq!(mode(&format!("postgres://{local}"), None), "Disable");
        }
        for remote in ["db", "10.0.0.1", "localhost,db"] {
            assert_eq!(mode(&format!("postgres://{remote}"), None), "VerifyFull");
        }
        assert_eq!(mode("postgres://db", Some(Tls::Off)), "Disable");
        assert_eq!(mode("postgres://localhost", Some(Tls::Require)), "Require");
    }
}
