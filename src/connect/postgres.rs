//! `postgres://…`: the store in a database.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use steadfast_core::Env;
use steadfast_postgres::{PostgresStore, PostgresStoreBuilder, Tls};

use super::error::ConnectError;
use super::url::{Answer, Url};

pub(super) async fn open(mut url: Url, env: Env) -> Result<PostgresStore, ConnectError> {
    let builder = PostgresStore::builder(&format!("{}:{}", url.scheme, url.address)).env(env);
    let builder = protected(builder, &mut url)?;
    let builder = named(builder, &mut url)?;
    let builder = bounded(builder, &mut url)?;
    let migrates = url.take::<Answer>("migrate", "yes or no")?;
    url.has_no_other_setting()?;
    if migrates.is_none_or(|Answer(migrates)| migrates) {
        builder.migrate().await.map_err(setup)?;
    }
    builder.build().await.map_err(setup)
}

fn protected(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    let modes = "disable, require or verify-full";
    if let Some(Mode(tls)) = url.take("sslmode", modes)? {
        builder = builder.tls(tls);
    }
    if let Some(file) = url.take::<PathBuf>("sslrootcert", "a file")? {
        builder = builder.root_certificate(file);
    }
    let certificate = url.take::<PathBuf>("sslcert", "a file")?;
    match (certificate, url.take::<PathBuf>("sslkey", "a file")?) {
        (Some(certificate), Some(key)) => Ok(builder.client_certificate(certificate, key)),
        (None, None) => Ok(builder),
        (Some(_), None) => {
            Err(ConnectError::Setting { name: "sslcert", wants: "an sslkey beside it" })
        }
        (None, Some(_)) => {
            Err(ConnectError::Setting { name: "sslkey", wants: "an sslcert beside it" })
        }
    }
}

fn named(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    if let Some(schema) = url.take::<String>("schema", "a name")? {
        builder = builder.schema(&schema);
    }
    if let Some(table) = url.take::<String>("table", "a name")? {
        builder = builder.table(&table);
    }
    Ok(builder)
}

fn bounded(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    if let Some(connections) = url.take("connections", "a whole number from 1 to 1000")? {
        builder = builder.connections(connections);
    }
    if let Some(millis) = url.take("timeout-ms", "milliseconds from 1 to 60000")? {
        builder = builder.timeout(Duration::from_millis(millis));
    }
    if let Some(Answer(tells)) = url.take("changes", "yes or no")? {
        builder = builder.tell_changes(tells);
    }
    Ok(builder)
}

/// How connections are protected, in the words of `libpq`, but for those that fall back to plaintext,
/// and `verify-ca`, which the driver does not tell from `verify-full`.
struct Mode(Tls);

impl FromStr for Mode {
    type Err = ();

    fn from_str(mode: &str) -> Result<Self, ()> {
        match mode {
            "disable" => Ok(Self(Tls::Off)),
            "require" => Ok(Self(Tls::Require)),
            "verify-full" => Ok(Self(Tls::VerifyFull)),
            _ => Err(()),
        }
    }
}

fn setup(error: steadfast_postgres::SetupError) -> ConnectError {
    ConnectError::Setup(error.into())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::super::connect;
    use super::*;

    #[tokio::test]
    async fn st_10_a_mode_that_falls_back_to_plaintext_is_refused() {
        for mode in ["prefer", "allow", "verify-ca", "", "VERIFY-FULL"] {
            let said = refused(&format!("postgres://u@h/d?sslmode={mode}")).await.to_string();
            assert_eq!(said, r#"the setting "sslmode" wants disable, require or verify-full"#);
        }
    }

    #[tokio::test]
    async fn a_setting_that_cannot_be_is_refused_before_the_database_is_asked() {
        for (settings, says) in [
            ("connections=x", "\"connections\" wants"),
            ("timeout-ms=x", "\"timeout-ms\" wants"),
            ("migrate=maybe", "\"migrate\" wants yes or no"),
            ("changes=", "\"changes\" wants yes or no"),
            ("sslcert=a", "wants an sslkey"),
            ("sslkey=a", "wants an sslcert"),
            ("ssl=1", "has no setting \"ssl\""),
        ] {
            let said = refused(&format!("postgres://u@h/d?{settings}")).await.to_string();
            assert!(said.contains(says), "{said}");
        }
        for settings in ["schema=a-b", "table=%22", "connections=0", "timeout-ms=0"] {
            let error = refused(&format!("postgres://u@h/d?{settings}")).await;
            assert!(matches!(error, ConnectError::Setup(_)), "{settings}: {error}");
        }
    }

    #[tokio::test]
    async fn no_cause_of_a_refusal_shows_a_password() {
        for url in [
            "postgres://user:hunter2@127.0.0.1:1/db",
            "postgres://user:hunter2@127.0.0.1:1,127.0.0.1:2/db?migrate=yes",
            "postgres://user:hunter2@127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/nowhere",
            "postgres://user:hunter2@h:port/db",
            "postgres://user:hunter2%ff@h/db",
        ] {
            let error = refused(url).await;
            let mut shown = format!("{error:?}");
            let mut cause: Option<&dyn Error> = Some(&error);
            while let Some(error) = cause {
                shown += &error.to_string();
                cause = error.source();
            }
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    async fn refused(url: &str) -> ConnectError {
        connect(url).await.map(drop).expect_err("the URL is refused")
    }
}
