//! Pools of sqlx 0.8.

use async_trait::async_trait;
use bytes::BytesMut;
use postgres_types::{IsNull, Type};
use sqlx::encode::IsNull as Nullness;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnection, PgDatabaseError, PgPool, PgRow, PgSeverity,
    PgTypeInfo,
};
use sqlx::{Arguments, Encode, Executor, Postgres, Row as _, ValueRef};
use sqlx_0_8 as sqlx;

use crate::connection::{Argument, Failed, Row, Statement};
use crate::error::Failure;
use crate::given::{GivenConnection, Pool};

#[async_trait]
impl Pool for PgPool {
    fn role(&self) -> String {
        self.connect_options().get_username().to_owned()
    }

    fn size(&self) -> usize {
        self.options().get_max_connections() as usize
    }

    async fn connect(&self) -> Result<Box<dyn GivenConnection>, Failure> {
        let mut connection = self.acquire().await.map_err(failure)?;
        connection.close_on_drop();
        Ok(Box::new(connection))
    }

    async fn run(
        &self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        let connection = self.acquire().await;
        let mut connection = connection.map_err(|error| Failed::without_effect(failure(error)))?;
        run(&mut connection, statement, arguments).await
    }
}

#[async_trait]
impl GivenConnection for PoolConnection<Postgres> {
    async fn run(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        run(self, statement, arguments).await
    }

    async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        self.execute(sqlx::raw_sql(sql)).await.map(drop).map_err(failure)
    }
}

async fn run(
    connection: &mut PgConnection,
    statement: &Statement,
    arguments: &[Argument<'_>],
) -> Result<Vec<Row>, Failed> {
    let encoded = encode(statement, arguments);
    let encoded = encoded.map_err(|why| Failed::without_effect(Failure::Argument(why)))?;
    let query = sqlx::query_with(&statement.sql, encoded).persistent(statement.is_kept());
    let rows = connection.fetch_all(query).await.map_err(failed)?;
    rows.iter().map(row).collect::<Result<_, _>>().map_err(failed)
}

fn encode(statement: &Statement, arguments: &[Argument<'_>]) -> Result<PgArguments, BoxDynError> {
    let mut encoded = PgArguments::default();
    for ((_, type_), (_, value)) in statement.takes.iter().zip(arguments) {
        let mut bytes = BytesMut::new();
        let bytes = match value.to_sql_checked(type_, &mut bytes)? {
            IsNull::Yes => None,
            IsNull::No => Some(bytes),
        };
        encoded.add(Encoded { bytes, type_ })?;
    }
    Ok(encoded)
}

/// An argument in the binary format.
struct Encoded<'t> {
    bytes: Option<BytesMut>,
    type_: &'t Type,
}

impl Encode<'_, Postgres> for Encoded<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<Nullness, BoxDynError> {
        let Some(bytes) = &self.bytes else { return Ok(Nullness::Yes) };
        buffer.extend_from_slice(bytes);
        Ok(Nullness::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.type_.oid())))
    }
}

impl sqlx::Type<Postgres> for Encoded<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Type::UNKNOWN.oid()))
    }
}

/// Copies a row, whose columns are in the binary format.
fn row(row: &PgRow) -> Result<Row, sqlx::Error> {
    let column = |index| {
        let value = row.try_get_raw(index)?;
        if value.is_null() {
            return Ok(None);
        }
        value.as_bytes().map(Some).map_err(sqlx::Error::Decode)
    };
    let columns = (0..row.len()).map(column).collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(Row::of(&columns))
}

/// The pool does not report what was sent before a connection broke: only an error of the server
/// that leaves the connection open proves that the statement had no effect.
fn failed(error: sqlx::Error) -> Failed {
    let failure = failure(error);
    Failed { had_no_effect: failure.is_rollback() && !failure.ends_connection(), failure }
}

fn failure(error: sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast::<PgDatabaseError>() {
            Ok(error) => {
                let is_fatal = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
                Failure::of(error.code().to_owned(), error.message().to_owned(), is_fatal)
            }
            Err(error) => Failure::Connection(error.into_error()),
        },
        sqlx::Error::Io(error) => error.into(),
        sqlx::Error::Encode(error) => Failure::Argument(error),
        error => Failure::Connection(error.into()),
    }
}
