//! `postgres://…`: the store in a database.

use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use steadfast_core::Env;
use steadfast_postgres::{Binding, Keepalive, Pooler, PostgresStore, PostgresStoreBuilder, Tls};

use super::error::ConnectError;
use super::url::{Url, YesNo};

pub(super) async fn open(mut url: Url, env: Env) -> Result<PostgresStore, ConnectError> {
    let address = located(&mut url)?;
    let builder = PostgresStore::builder(&address).env(env);
    let builder = protected(builder, &mut url)?;
    let builder = named(builder, &mut url)?;
    let builder = connected(builder, &mut url)?;
    let builder = kept_alive(builder, &mut url)?;
    let builder = bounded(builder, &mut url)?;
    pass_over(&mut url)?;
    let migrates = url.take::<YesNo>("migrate", "yes or no")?;
    url.has_no_other_setting()?;
    if migrates.is_none_or(|YesNo(migrates)| migrates) {
        builder.migrate().await.map_err(setup)?;
    }
    builder.build().await.map_err(setup)
}

/// The address, with what `libpq` takes as settings in its place: `?host=%2Frun%2Fpostgresql`.
fn located(url: &mut Url) -> Result<String, ConnectError> {
    let hosts = url.take::<String>("host", "a host")?;
    let ports = url.take::<String>("port", "a port")?;
    let [user, password, database] = [
        url.take::<String>("user", "a name")?,
        url.take::<String>("password", "a password")?,
        url.take::<String>("dbname", "a name")?,
    ];
    let rest = url.address.strip_prefix("//").unwrap_or(&url.address);
    let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(who, rest)| (who, rest));
    let (own_hosts, own_database) = rest.split_once('/').unwrap_or((rest, ""));
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut credentials = user.map_or(credentials.to_owned(), |user| encoded(&user));
    if let Some(password) = password {
        let _ = write!(credentials, ":{}", encoded(&password));
    }
    let hosts = match hosts {
        None => own_hosts.to_owned(),
        Some(hosts) => {
            let ports: Vec<_> = ports.iter().flat_map(|ports| ports.split(',')).collect();
            let at = |(n, host)| match ports.get(n).or(ports.first()) {
                Some(port) => format!("{}:{port}", encoded(host)),
                None => encoded(host),
            };
            hosts.split(',').enumerate().map(at).collect::<Vec<_>>().join(",")
        }
    };
    let database = database.map_or(own_database.to_owned(), |name| encoded(&name));
    let at = if credentials.is_empty() { "" } else { "@" };
    Ok(format!("{}://{credentials}{at}{hosts}/{database}", url.scheme))
}

fn protected(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    let mode = url.take("sslmode", "disable, require, verify-ca or verify-full")?;
    let roots = url.take::<String>("sslrootcert", "a file")?;
    let roots = roots.filter(|file| file != "system");
    // As in `libpq`: naming an authority means that it is checked.
    let mode = match mode {
        Some(Mode(Tls::Require)) if roots.is_some() => Some(Tls::VerifyCa),
        mode => mode.map(|Mode(mode)| mode),
    };
    if let Some(tls) = mode {
        builder = builder.tls(tls);
    }
    if let Some(file) = roots {
        builder = builder.root_certificate(file);
    }
    if let Some(Negotiation(is_direct)) = url.take("sslnegotiation", "postgres or direct")? {
        builder = builder.direct_tls(is_direct);
    }
    if let Some(Bound(binding)) = url.take("channel_binding", "disable, prefer or require")? {
        builder = builder.channel_binding(binding);
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
    let fallback = url.take::<String>("fallback_application_name", "a name")?;
    if let Some(name) = url.take("application_name", "a name")?.or(fallback) {
        builder = builder.application_name(&name);
    }
    Ok(builder)
}

fn connected(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    if let Some(Between(pooler)) = url.take("pooler", "session or transaction")? {
        builder = builder.pooler(pooler);
    }
    if let Some(address) = url.take::<String>("listen", "the URL of the server itself")? {
        builder = builder.listen_at(&address);
    }
    if let Some(options) = url.take::<String>("options", "settings of the server")? {
        builder = builder.session_options(&options);
    }
    // Zero is the default, as in `libpq`.
    match url.take("connect_timeout", "seconds from 0 to 60")? {
        Some(0) | None => Ok(builder),
        Some(seconds) => Ok(builder.connect_timeout(Duration::from_secs(seconds))),
    }
}

fn kept_alive(
    mut builder: PostgresStoreBuilder,
    url: &mut Url,
) -> Result<PostgresStoreBuilder, ConnectError> {
    let is_on = url.take::<u8>("keepalives", "0 or 1")?;
    let mut seconds = |name| url.take(name, "whole seconds").map(|s| s.map(Duration::from_secs));
    let default = Keepalive::default();
    let keepalive = Keepalive {
        idle: seconds("keepalives_idle")?.unwrap_or(default.idle),
        interval: seconds("keepalives_interval")?.unwrap_or(default.interval),
        count: url.take("keepalives_count", "a whole number")?.unwrap_or(default.count),
    };
    builder = builder.keepalive((is_on != Some(0)).then_some(keepalive));
    if let Some(millis) = url.take("tcp_user_timeout", "whole milliseconds")? {
        builder = builder.tcp_user_timeout(Duration::from_millis(millis));
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
    if let Some(YesNo(tells)) = url.take("changes", "yes or no")? {
        builder = builder.tell_changes(tells);
    }
    Ok(builder)
}

/// Settings of `libpq` that change nothing here, as long as they have one of these values.
fn pass_over(url: &mut Url) -> Result<(), ConnectError> {
    const ANY: &[&str] = &[];
    let settings: [(&str, &[&str], &str); 11] = [
        ("target_session_attrs", &["any", "read-write", "primary"], "any, read-write or primary"),
        ("load_balance_hosts", &["disable", "random"], "disable or random"),
        ("client_encoding", &["UTF8", "utf8", "UTF-8", "utf-8", "auto"], "UTF8 or auto"),
        ("gssencmode", &["disable", "prefer"], "disable or prefer"),
        ("gssdelegation", &["0"], "0"),
        ("krbsrvname", ANY, "a name"),
        ("gsslib", ANY, "a name"),
        ("sslcompression", &["0"], "0"),
        ("sslsni", &["1"], "1"),
        ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"], "TLSv1.2 or less"),
        ("ssl_max_protocol_version", &["TLSv1.3"], "TLSv1.3"),
    ];
    for (name, values, wants) in settings {
        let given = url.take::<String>(name, wants)?;
        if given.is_some_and(|given| !values.is_empty() && !values.contains(&given.as_str())) {
            return Err(ConnectError::Setting { name, wants });
        }
    }
    Ok(())
}

/// The protection of connections, in the words of `libpq`. Modes that fall back to plaintext are left out.
struct Mode(Tls);

impl FromStr for Mode {
    type Err = ();

    fn from_str(mode: &str) -> Result<Self, ()> {
        match mode {
            "disable" => Ok(Self(Tls::Off)),
            "require" => Ok(Self(Tls::Require)),
            "verify-ca" => Ok(Self(Tls::VerifyCa)),
            "verify-full" => Ok(Self(Tls::VerifyFull)),
            _ => Err(()),
        }
    }
}

/// True if a connection begins with TLS.
struct Negotiation(bool);

impl FromStr for Negotiation {
    type Err = ();

    fn from_str(negotiation: &str) -> Result<Self, ()> {
        match negotiation {
            "postgres" => Ok(Self(false)),
            "direct" => Ok(Self(true)),
            _ => Err(()),
        }
    }
}

struct Bound(Binding);

impl FromStr for Bound {
    type Err = ();

    fn from_str(binding: &str) -> Result<Self, ()> {
        match binding {
            "disable" => Ok(Self(Binding::Disable)),
            "prefer" => Ok(Self(Binding::Prefer)),
            "require" => Ok(Self(Binding::Require)),
            _ => Err(()),
        }
    }
}

struct Between(Pooler);

impl FromStr for Between {
    type Err = ();

    fn from_str(pooler: &str) -> Result<Self, ()> {
        match pooler {
            "session" => Ok(Self(Pooler::Session)),
            "transaction" => Ok(Self(Pooler::Transaction)),
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

    /// Shows ST-10.
    #[tokio::test]
    async fn a_mode_with_plaintext_fallback_is_refused() {
        for mode in ["prefer", "allow", "", "VERIFY-FULL"] {
            let said = refused(&format!("postgres://u@h/d?sslmode={mode}")).await.to_string();
            let wants = "disable, require, verify-ca or verify-full";
            assert_eq!(said, format!(r#"invalid value for "sslmode": expected {wants}"#));
        }
    }

    #[tokio::test]
    async fn an_invalid_setting_is_refused_without_connecting() {
        for (settings, says) in [
            ("connections=x", "\"connections\": expected"),
            ("timeout-ms=x", "\"timeout-ms\": expected"),
            ("migrate=maybe", "\"migrate\": expected yes or no"),
            ("changes=", "\"changes\": expected yes or no"),
            ("sslcert=a", "expected an sslkey"),
            ("sslkey=a", "expected an sslcert"),
            ("ssl=1", "has no setting \"ssl\""),
            ("service=db", "has no setting \"service\""),
            ("require_auth=none", "has no setting \"require_auth\""),
            ("pooler=statement", "\"pooler\": expected session or transaction"),
            ("channel_binding=yes", "\"channel_binding\": expected disable, prefer or require"),
            ("connect_timeout=soon", "\"connect_timeout\": expected seconds"),
            ("sslnegotiation=none", "\"sslnegotiation\": expected postgres or direct"),
            ("keepalives_idle=x", "\"keepalives_idle\": expected whole seconds"),
            ("target_session_attrs=standby", "\"target_session_attrs\": expected any, read-write"),
            ("gssencmode=require", "\"gssencmode\": expected disable or prefer"),
            ("ssl_min_protocol_version=TLSv1.3", "expected TLSv1.2 or less"),
            ("client_encoding=LATIN1", "\"client_encoding\": expected UTF8 or auto"),
        ] {
            let said = refused(&format!("postgres://u@h/d?{settings}")).await.to_string();
            assert!(said.contains(says), "{said}");
        }
        for settings in ["schema=a-b", "table=%22", "connections=0", "timeout-ms=0"] {
            let error = refused(&format!("postgres://u@h/d?{settings}")).await;
            assert!(matches!(error, ConnectError::Setup(_)), "{settings}: {error}");
        }
    }

    #[test]
    fn the_parts_of_an_address_may_be_settings() {
        for (url, address) in [
            ("postgres://u:p@h:1/d", "postgres://u:p@h:1/d"),
            ("postgresql:///d?host=%2Frun%2Fpg&user=u", "postgresql://u@%2Frun%2Fpg/d"),
            ("postgres://?host=a,b&port=1,2&dbname=d", "postgres://a:1,b:2/d"),
            ("postgres://?host=a,b&port=1", "postgres://a:1,b:1/"),
            ("postgres://u@h/d?password=a%2Fb%40", "postgres://u:a%2Fb%40@h/d"),
        ] {
            assert_eq!(located(&mut Url::parse(url).unwrap()).unwrap(), address);
        }
    }

    #[tokio::test]
    async fn the_settings_of_a_pasted_url_are_accepted() {
        for settings in [
            "channel_binding=prefer&sslmode=require",
            "channel_binding=require&sslmode=verify-full&sslrootcert=system",
            "application_name=shop&fallback_application_name=x",
            "connect_timeout=1",
            "connect_timeout=0",
            "target_session_attrs=read-write",
            "target_session_attrs=primary&load_balance_hosts=random",
            "options=-c%20search_path%3Dpublic",
            "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=2",
            "keepalives=0&tcp_user_timeout=10000",
            "gssencmode=prefer&krbsrvname=postgres&sslcompression=0&sslsni=1",
            "sslnegotiation=postgres&ssl_min_protocol_version=TLSv1.2&client_encoding=auto",
            "pooler=transaction&listen=postgres%3A%2F%2Fu@127.0.0.1:1%2Fd",
        ] {
            // Nothing listens there: the settings were all taken before that was found.
            let error = refused(&format!("postgres://u@127.0.0.1:1/d?{settings}")).await;
            let cause = error.source().unwrap().to_string();
            assert_eq!(cause, "no host of the database can be written to", "{settings}");
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
