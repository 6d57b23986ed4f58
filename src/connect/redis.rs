//! `redis:` and its relatives: the store in Redis.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use steadfast_core::Env;
use steadfast_redis::{
    Address, CheckError, Prefix, RedisStore, RedisStoreBuilder, SetupError, Tls,
};

use super::error::ConnectError;
use super::url::{Url, YesNo};

pub(super) async fn open(mut url: Url, env: Env) -> Result<RedisStore, ConnectError> {
    let place = Place::parse(&url.scheme, &url.address).ok_or_else(|| misplaced(&url))?;
    let builder = place.identify(RedisStore::builder().env(env));
    let mut builder = settings(&mut url, builder)?;
    if url.scheme.starts_with("rediss") {
        builder = builder.tls(tls(&mut url)?);
    }
    let store = place.store(&url.scheme, builder).ok_or_else(|| misplaced(&url))?;
    url.has_no_other_setting()?;
    let store = store.map_err(setup)?;
    store.check().await.map_err(unfit)?;
    Ok(store)
}

fn tls(url: &mut Url) -> Result<Tls, ConnectError> {
    let authorities = url.take::<PathBuf>("ca", "the path of a PEM file")?;
    let certificate = url.take::<PathBuf>("cert", "the path of a PEM file")?;
    let key = url.take::<PathBuf>("key", "the path of a PEM file")?;
    let tls = authorities.map_or_else(Tls::system, Tls::authorities).map_err(setup)?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => tls.identity(certificate, key).map_err(setup),
        (None, None) => Ok(tls),
        (Some(_), None) => {
            Err(ConnectError::Setting { name: "key", wants: "the path of the key of cert" })
        }
        (None, Some(_)) => {
            Err(ConnectError::Setting { name: "cert", wants: "the path of the certificate of key" })
        }
    }
}

fn settings(url: &mut Url, builder: RedisStoreBuilder) -> Result<RedisStoreBuilder, ConnectError> {
    let prefix = url.take::<Prefix>("prefix", "1 to 32 of the characters A-Z a-z 0-9 _ - . :")?;
    let replicas = url.take::<NonZeroUsize>("wait", "a whole number from 1")?;
    let millis = url.take::<u64>("wait-ms", "a whole number of milliseconds")?;
    let builder = builder.prefix(prefix.unwrap_or_default());
    let mut builder = builder.wait(
        replicas.map_or(0, NonZeroUsize::get),
        Duration::from_millis(millis.unwrap_or(DEFAULT_WAIT_MILLIS)),
    );
    match url.scheme.split_once('+') {
        None => {
            let split = url.take::<YesNo>("split", "yes or no")?;
            if split.is_some_and(|split| split.0) {
                builder = builder.split();
            }
        }
        Some((_, "unix")) => {
            let database = url.take::<u32>("database", "a whole number")?;
            builder = builder.database(database.unwrap_or(0));
        }
        Some((_, "sentinel")) => {
            let user = url.take::<String>("sentinel-user", "a name")?;
            let password = url.take::<String>("sentinel-password", "a password")?;
            if let Some(password) = password {
                builder = builder.sentinel_user(user.as_deref().unwrap_or("default"), &password);
            }
        }
        Some(_) => {}
    }
    Ok(builder)
}

/// The part between the scheme and the settings: `//USER:PASSWORD@HOST:PORT,HOST:PORT/NAME`.
struct Place {
    user: String,
    password: String,
    hosts: String,
    /// The database, the name of the service, or the path of a socket.
    path: String,
}

impl Place {
    fn parse(scheme: &str, address: &str) -> Option<Self> {
        let address = address.strip_prefix("//")?;
        let is_socket = scheme.ends_with("+unix");
        // A path may have an @ as well.
        let at = if is_socket { address.find("@/") } else { address.rfind('@') };
        let (identity, place) = at.map_or(("", address), |at| (&address[..at], &address[at + 1..]));
        let (user, password) = identity.split_once(':').unwrap_or((identity, ""));
        let (hosts, path) = match is_socket {
            true => ("", place),
            false => place.split_once('/').unwrap_or((place, "")),
        };
        let decoded = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        Some(Self {
            user: decoded(user)?,
            password: decoded(password)?,
            hosts: hosts.to_owned(),
            path: decoded(path)?,
        })
    }

    fn identify(&self, builder: RedisStoreBuilder) -> RedisStoreBuilder {
        match (self.user.as_str(), self.password.as_str()) {
            ("", "") => builder,
            ("", password) => builder.password(password),
            (user, password) => builder.user(user, password),
        }
    }

    /// Opens the store; `None` if the address does not suit the scheme.
    fn store(
        &self,
        scheme: &str,
        builder: RedisStoreBuilder,
    ) -> Option<Result<RedisStore, SetupError>> {
        let (_, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let has_path = !self.path.is_empty();
        match kind {
            "" if has_path => {
                let builder = builder.database(self.path.parse().ok()?);
                Some(builder.standalone(self.hosts.parse().ok()?))
            }
            "" => Some(builder.standalone(self.hosts.parse().ok()?)),
            "unix" => self.path.starts_with('/').then(|| builder.unix_socket(&self.path)),
            "sentinel" if has_path => Some(builder.sentinel(self.addresses(26_379)?, &self.path)),
            "cluster" if !has_path => Some(builder.cluster(self.addresses(6_379)?)),
            _ => None,
        }
    }

    fn addresses(&self, default_port: u16) -> Option<Vec<Address>> {
        let hosts = self.hosts.split(',');
        hosts.map(|host| Address::parse(host, default_port)).collect()
    }
}

fn misplaced(url: &Url) -> ConnectError {
    let wants = match url.scheme.split_once('+') {
        Some((_, "sentinel")) => {
            "//USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE, with / ? # % @ in a name or a password \
             percent-encoded"
        }
        Some((_, "unix")) => {
            "//USER:PASSWORD@/PATH, with / ? # % @ in a name or a password percent-encoded"
        }
        Some(_) => {
            "//USER:PASSWORD@HOST:PORT,HOST:PORT, with / ? # % @ in a name or a password \
             percent-encoded"
        }
        None => {
            "//USER:PASSWORD@HOST:PORT/DATABASE, with / ? # % @ in a name or a password \
             percent-encoded"
        }
    };
    ConnectError::Place { scheme: url.scheme.clone(), wants }
}

fn unfit(error: CheckError) -> ConnectError {
    match error {
        CheckError::Unavailable(error) => ConnectError::Unavailable(error),
        error => ConnectError::Setup(Box::new(error)),
    }
}

fn setup(error: SetupError) -> ConnectError {
    ConnectError::Setup(Box::new(error))
}

/// The default time within which a replica must confirm: well below the middleware's timeout.
const DEFAULT_WAIT_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use crate::connect::connect;

    #[tokio::test]
    async fn a_malformed_address_is_refused_with_its_form() {
        for (url, wants) in [
            ("redis:", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://a,b", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://a/first", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis+sentinel://a,b", "//USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE"),
            ("redis+cluster://a:1,b:x", "//USER:PASSWORD@HOST:PORT,HOST:PORT"),
            ("redis+cluster://a/1", "//USER:PASSWORD@HOST:PORT,HOST:PORT"),
            ("redis+unix://socket", "//USER:PASSWORD@/PATH"),
            ("redis://user:pass/word", "//USER:PASSWORD@HOST:PORT/DATABASE"),
        ] {
            let said = error(url).await;
            assert!(said.contains(&format!("expected {wants}, ")), "{url}: {said}");
            assert!(said.ends_with("percent-encoded"), "{said}");
        }
    }

    #[tokio::test]
    async fn settings_of_other_stores_are_unknown() {
        let said = error("redis://127.0.0.1:1?ca=x").await;
        assert_eq!(
            said,
            "the store \"redis\" has no setting \"ca\"; expected one of prefix, wait, wait-ms, split"
        );
        let said = error("redis://127.0.0.1:1?prefix=a*").await;
        assert!(said.starts_with("invalid value for \"prefix\": expected 1 to 32"), "{said}");
    }

    #[tokio::test]
    async fn what_cannot_be_set_up_says_why() {
        let said = error("rediss://127.0.0.1:1?ca=/nowhere/ca.pem").await;
        assert_eq!(said, "the store cannot be set up");
    }

    #[tokio::test]
    async fn a_certificate_and_its_key_are_named_together() {
        let said = error("rediss://127.0.0.1:1?cert=/c.pem").await;
        assert_eq!(said, "invalid value for \"key\": expected the path of the key of cert");
        let said = error("rediss://127.0.0.1:1?key=/k.pem").await;
        assert_eq!(said, "invalid value for \"cert\": expected the path of the certificate of key");
    }

    #[tokio::test]
    async fn no_error_shows_a_password() {
        for url in [
            "redis://user:hunter2@127.0.0.1:1/0",
            "redis://user:hunter2@a,b",
            "redis://user:hunter2",
            "redis://user:hunter2@127.0.0.1:1/hunter2",
            "rediss://user:hunter2@127.0.0.1:1",
            "redis+sentinel://user:hunter2@127.0.0.1:1/name?sentinel-password=hunter2",
            "redis+cluster://:hunter2@127.0.0.1:1",
        ] {
            let error = connect(url).await.expect_err("nobody is there");
            let mut shown = format!("{error:?}");
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                shown += &error.to_string();
                cause = error.source();
            }
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    async fn error(url: &str) -> String {
        connect(url).await.map(drop).expect_err("the URL is refused").to_string()
    }
}
