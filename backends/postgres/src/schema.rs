//! The tables and functions, and how they come into the database.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};

use crate::error::{Failure, SetupError};
use crate::names::Names;

/// Brings the tables and functions of a store to this version. Runs once, whoever else tries.
pub(crate) async fn migrate(
    connection: &mut PgConnection,
    names: &Names,
) -> Result<(), SetupError> {
    let refused = |error: sqlx::Error| SetupError::Refused(Failure::from(error));
    // A role that may change nothing can find that there is nothing to do.
    if check(connection, names).await.is_ok() {
        return Ok(());
    }
    check_encoding(connection).await?;
    let mut transaction = connection.begin().await.map_err(refused)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1), set_config('statement_timeout', '0', true)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    let exists = sqlx::query("SELECT to_regnamespace(quote_ident($1)) IS NOT NULL")
        .bind(names.schema())
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get(0));
    // Asked before, because `IF NOT EXISTS` wants the right to create one in any case.
    let schema = if exists.map_err(refused)? { "" } else { "CREATE SCHEMA {schema};" };
    let prepared = names.fill(&format!("{schema}{VERSIONS}"));
    transaction.execute(prepared.as_str()).await.map_err(refused)?;
    let found = version(&mut transaction, names).await.map_err(SetupError::Refused)?;
    for (at, migration) in (1..).zip(MIGRATIONS).filter(|(at, _)| *at > found) {
        let sql = names.fill(&format!("{migration}; INSERT INTO {{migrations}} VALUES ({at});"));
        transaction.execute(sql.as_str()).await.map_err(refused)?;
    }
    transaction.commit().await.map_err(refused)
}

/// Checks that the tables and functions are there, and no older than this version.
pub(crate) async fn check(connection: &mut PgConnection, names: &Names) -> Result<(), SetupError> {
    check_encoding(connection).await?;
    let found = match version(connection, names).await {
        Err(failure) if failure.is_missing() => 0,
        found => found.map_err(SetupError::Refused)?,
    };
    if found < WANTED {
        let schema = names.schema().to_owned();
        return Err(SetupError::NotMigrated { schema, found, wanted: WANTED });
    }
    Ok(())
}

async fn check_encoding(connection: &mut PgConnection) -> Result<(), SetupError> {
    let row = sqlx::query("SELECT current_setting('server_encoding')").fetch_one(connection).await;
    let encoding: Result<String, _> = row.and_then(|row| row.try_get(0));
    match encoding.map_err(|error| SetupError::Refused(error.into()))? {
        encoding if encoding == "UTF8" => Ok(()),
        encoding => Err(SetupError::Encoding { encoding }),
    }
}

async fn version(connection: &mut PgConnection, names: &Names) -> Result<i32, Failure> {
    let sql = names.fill("SELECT coalesce(max(version), 0) FROM {migrations}");
    Ok(sqlx::query(&sql).fetch_one(connection).await?.try_get(0)?)
}

/// What was done to a database that is at version *n*: the first *n* of these. Each only adds, so that
/// nodes of the version before go on.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("sql/0001.sql")];

const WANTED: i32 = MIGRATIONS.len() as i32;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {migrations} (version integer PRIMARY KEY)";

/// `steadfas`, in ASCII.
const LOCK: i64 = 0x7374_6561_6466_6173;
