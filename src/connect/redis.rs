//! `redis:` and its relatives: the store in Redis.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use steadfast_core::Env;
use steadfast_redis::{Address, Prefix, RedisStore, RedisStoreBuilder, SetupError, Tls};

use super::error::ConnectError;
use super::url::Url;

pub(super) async fn open(mut url: Url, env: Env) -> Result<RedisStore, ConnectError> {
    let place = Place::parse(&url.address).ok_or_else(|| misplaced(&url))?;
    let builder = place.identify(RedisStore::builder().env(env));
    let mut builder = settings(&mut url, builder)?;
    if url.scheme.starts_with("rediss") {
        let authorities = url.take::<PathBuf>("ca", "the path of a PEM file")?;
        let tls = authorities.map_or_else(Tls::system, Tls::authorities).map_err(setup)?;
        builder = builder.tls(tls);
    }
    let store = place.store(&url.scheme, builder).ok_or_else(|| misplaced(&url))?;
    url.has_no_other_setting()?;
    let store = store.map_err(setup)?;
    store.check_eviction().await.map_err(ConnectError::Unavailable)?;
    Ok(store)
}

fn settings(url: &mut Url, builder: RedisStoreBuilder) -> Result<RedisStoreBuilder, ConnectError> {
    let prefix = url.take::<Prefix>("prefix", "1 to 32 of the characters A-Z a-z 0-9 _ - . :")?;
    let replicas = url.take::<NonZeroUsize>("wait", "a whole number from 1")?;
    let millis = url.take::<u64>("wait-ms", "a whole number of milliseconds")?;
    let builder = builder.prefix(prefix.unwrap_or_default());
    let builder = builder.wait(
        replicas.map_or(0, NonZeroUsize::get),
        Duration::from_millis(millis.unwrap_or(DEFAULT_WAIT_MILLIS)),
    );
    if !url.scheme.ends_with("sentinel") {
        return Ok(builder);
    }
    let user = url.take::<String>("sentinel-user", "a name")?;
    let password = url.take::<String>("sentinel-password", "a password")?;
    Ok(match password {
        Some(password) => builder.sentinel_user(user.as_deref().unwrap_or("default"), &password),
        None => builder,
    })
}

/// What is between the scheme and the settings: `//USER:PASSWORD@HOST:PORT,HOST:PORT/NAME`.
struct Place {
    user: String,
    password: String,
    hosts: String,
    /// The database, or the name of the service.
    path: String,
}

impl Place {
    fn parse(address: &str) -> Option<Self> {
        let address = address.strip_prefix("//")?;
        let (identity, place) = address.rsplit_once('@').unwrap_or(("", address));
        let (user, password) = identity.split_once(':').unwrap_or((identity, ""));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
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

    /// The store; `None` if this is no place of such a store.
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
        Some((_, "sentinel")) => "//USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE",
        Some(_) => "//USER:PASSWORD@HOST:PORT,HOST:PORT",
        None => "//USER:PASSWORD@HOST:PORT/DATABASE",
    };
    ConnectError::Place { scheme: url.scheme.clone(), wants }
}

fn setup(error: SetupError) -> ConnectError {
    ConnectError::Setup(Box::new(error))
}

/// How long a replica may take to confirm, unless said: well below the middleware's deadline.
const DEFAULT_WAIT_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use crate::connect::connect;

    #[tokio::test]
    async fn a_place_of_another_form_is_refused_with_the_one_that_is_wanted() {
        for (url, wants) in [
            ("redis:", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://a,b", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis://a/first", "//USER:PASSWORD@HOST:PORT/DATABASE"),
            ("redis+sentinel://a,b", "//USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE"),
            ("redis+cluster://a:1,b:x", "//USER:PASSWORD@HOST:PORT,HOST:PORT"),
            ("redis+cluster://a/1", "//USER:PASSWORD@HOST:PORT,HOST:PORT"),
        ] {
            let said = error(url).await;
            assert!(said.ends_with(&format!("wants {wants}")), "{url}: {said}");
        }
    }

    #[tokio::test]
    async fn a_setting_of_another_kind_of_store_is_unknown() {
        let said = error("redis://127.0.0.1:1?ca=x").await;
        assert_eq!(
            said,
            "the store \"redis\" has no setting \"ca\"; there are prefix, wait, wait-ms"
        );
        let said = error("redis://127.0.0.1:1?prefix=a*").await;
        assert!(said.starts_with("the setting \"prefix\" wants 1 to 32"), "{said}");
    }

    #[tokio::test]
    async fn what_cannot_be_set_up_says_why() {
        let said = error("rediss://127.0.0.1:1?ca=/nowhere/ca.pem").await;
        assert_eq!(said, "the store cannot be set up");
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
