//! The tables and functions, and their migrations.

use crate::check;
use crate::connection::{Column, Statement};
use crate::database::AnyConnection;
use crate::error::{Failure, SetupError};
use crate::names::Names;

/// Migrates the tables and functions of a store to this version. Concurrent callers wait for each
/// other.
pub(crate) async fn migrate(
    connection: &mut AnyConnection,
    names: &Names,
    role: &str,
) -> Result<(), SetupError> {
    // If nothing is to be done, a role without the right to change the schema succeeds.
    if check(connection, names, role).await.is_ok() {
        return Ok(());
    }
    check_encoding(connection).await?;
    // From here on everything is one transaction. If a step fails, the connection is closed, which
    // rolls it back.
    batch(connection, "BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    batch(connection, LOCK).await?;
    let exists = format!("SELECT to_regnamespace(quote_ident('{}')) IS NOT NULL", names.schema());
    // Checked first, because `IF NOT EXISTS` requires the right to create a schema even if it
    // exists.
    if !first::<bool>(connection, &exists).await.map_err(SetupError::Refused)? {
        batch(connection, &names.fill("CREATE SCHEMA {schema}")).await?;
    }
    batch(connection, &names.fill(VERSIONS)).await?;
    let found = version(connection, names).await.map_err(SetupError::Refused)?;
    if found == 1 && first(connection, IS_IN_USE).await.map_err(SetupError::Refused)? {
        return Err(SetupError::InUse);
    }
    for (at, migration) in (1..).zip(MIGRATIONS).filter(|(at, _)| *at > found) {
        batch(connection, &names.fill(migration)).await?;
        let record = format!("INSERT INTO {{migrations}} VALUES ({at})");
        batch(connection, &names.fill(&record)).await?;
    }
    batch(connection, "COMMIT").await
}

/// Checks that the tables and functions exist and have at least this version.
pub(crate) async fn check(
    connection: &mut AnyConnection,
    names: &Names,
    role: &str,
) -> Result<(), SetupError> {
    check_encoding(connection).await?;
    let found = match version(connection, names).await {
        Err(failure) if failure.is_missing() => 0,
        found => found.map_err(|failure| check::unfit(failure, names, role))?,
    };
    if found < WANTED {
        let schema = names.schema().to_owned();
        return Err(SetupError::NotMigrated { schema, found, wanted: WANTED });
    }
    Ok(())
}

async fn check_encoding(connection: &mut AnyConnection) -> Result<(), SetupError> {
    let encoding = first::<String>(connection, "SELECT current_setting('server_encoding')").await;
    match encoding.map_err(SetupError::Refused)? {
        encoding if encoding == "UTF8" => Ok(()),
        encoding => Err(SetupError::Encoding { encoding }),
    }
}

async fn version(connection: &mut AnyConnection, names: &Names) -> Result<i32, Failure> {
    first(connection, &names.fill("SELECT coalesce(max(version), 0) FROM {migrations}")).await
}

async fn batch(connection: &mut AnyConnection, sql: &str) -> Result<(), SetupError> {
    connection.batch(sql).await.map_err(SetupError::Refused)
}

/// Returns the only column of the only row.
async fn first<T: for<'r> Column<'r>>(
    connection: &mut AnyConnection,
    sql: &str,
) -> Result<T, Failure> {
    let rows = connection.run(&Statement::once(sql, &[]), &[]).await;
    let rows = rows.map_err(|failed| failed.failure)?;
    let first = rows.first().and_then(|row| row.get(0).ok());
    first.ok_or(Failure::Protocol("an answer of another form"))
}

/// The migrations: a database at version *n* has the first *n*. From the second on, each only adds
/// objects, so that nodes of the previous version keep working.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("sql/0001.sql"),
    concat!(include_str!("sql/0002.sql"), include_str!("sql/functions.sql")),
];

const WANTED: i32 = MIGRATIONS.len() as i32;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {migrations} (version integer PRIMARY KEY)";

/// Detects connections of release 0.1 by their application name, if this role may see them.
const IS_IN_USE: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'steadfast')";

/// Waits for its turn without a time limit. The number is `steadfas` in ASCII.
const LOCK: &str =
    "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true);
    SELECT pg_advisory_xact_lock(x'7374656164666173'::bigint)";
