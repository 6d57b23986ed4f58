//! A check at startup that the database can serve the store.

use std::error::Error;

use bytes::BytesMut;
use postgres_types::{IsNull, ToSql, Type, to_sql_checked};
use steadfast_core::{Env, Record, RecordId};
use uuid::Uuid;

use crate::connection::{Argument, Statement};
use crate::database::AnyConnection;
use crate::error::{Failure, SetupError};
use crate::names::Names;
use crate::statements::Statements;

/// Tries every statement in a transaction that is rolled back.
///
/// The server plans each statement, which requires the same privileges as running it. Statements
/// that call a function are run, because the privileges inside a function are only checked then: a
/// session is created, signed in and ended while a listener is registered.
pub(crate) async fn check(
    connection: &mut AnyConnection,
    statements: &Statements,
    names: &Names,
    role: &str,
    env: &Env,
) -> Result<(), SetupError> {
    let id = RecordId::random(env).map_err(|error| Failure::Argument(error.into()));
    let id = id.map_err(SetupError::Refused)?.as_uuid();
    let trial = Trial { connection, names, role, now: env.now().as_millis(), id, secret: 0 };
    trial.run(statements).await
}

/// Returns the setup error that a server's refusal points to.
pub(crate) fn unfit(failure: Failure, names: &Names, role: &str) -> SetupError {
    let Failure::Server { code, message, .. } = &failure else {
        return SetupError::Refused(failure);
    };
    let remedy = match code.as_str() {
        "42501" => names.grant(object_of(message), role),
        "42883" | "42P01" | "42703" | "3F000" => "migrate the tables and functions".to_owned(),
        _ => return SetupError::Refused(failure),
    };
    SetupError::Unfit { missing: format!("the role {role:?} gets {message:?}"), remedy }
}

/// Parses the kind and the name of the object to which permission is denied.
fn object_of(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("permission denied for ")?.split_once(' ')
}

struct Trial<'a> {
    connection: &'a mut AnyConnection,
    names: &'a Names,
    role: &'a str,
    now: i64,
    /// The id of the session, of its principal, and of the listener.
    id: Uuid,
    /// The number of the session's current secret.
    secret: u8,
}

impl Trial<'_> {
    async fn run(mut self, statements: &Statements) -> Result<(), SetupError> {
        self.batch("BEGIN").await?;
        for statement in statements.all() {
            let sql = format!("EXPLAIN {}", statement.sql);
            self.try_one(&Statement::once(&sql, &statement.takes)).await?;
        }
        self.try_one(&statements.feed.register).await?;
        for statement in statements.all().filter(|statement| statement.is_call()) {
            self.try_one(statement).await?;
        }
        self.batch("ROLLBACK").await
    }

    async fn try_one(&mut self, statement: &Statement) -> Result<(), SetupError> {
        let takes = &statement.takes;
        let given: Vec<_> = takes.iter().map(|(name, _)| self.argument(name)).collect();
        let arguments = takes.iter().zip(&given);
        let arguments: Vec<Argument<'_>> =
            arguments.map(|((name, _), given)| (*name, &**given as _)).collect();
        let rows = self.connection.run(statement, &arguments).await;
        let rows = rows.map_err(|failed| unfit(failed.failure, self.names, self.role))?;
        let verdict = rows.first().and_then(|row| row.get::<&str>(0).ok());
        match verdict {
            Some("gone" | "exists") => Err(SetupError::Unfit {
                missing: format!("the role {:?} does not find the row it has just made", self.role),
                remedy: "see the policies and triggers of the tables".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn batch(&mut self, sql: &str) -> Result<(), SetupError> {
        self.connection.batch(sql).await.map_err(SetupError::Refused)
    }

    /// Returns the argument for a parameter: null, unless the statement would then do nothing.
    fn argument(&mut self, name: &str) -> Box<dyn ToSql + Sync + Send> {
        let in_a_minute = self.now + 60_000;
        match name {
            "id" | "listener" => Box::new(self.id),
            "realm" => Box::new("steadfast-check"),
            "principal" => Box::new(self.id.simple().to_string()),
            "proof" => Box::new(vec![vec![self.secret; 36]]),
            "hash" => {
                self.secret += 1;
                Box::new(vec![self.secret; 36])
            }
            "replaced" => Box::new(vec![0_u8; 36]),
            "now" | "created" | "authenticated" => Box::new(self.now),
            "idle" | "absolute" | "replaced_until" | "floor_until" | "until" => {
                Box::new(in_a_minute)
            }
            "format" | "known" => Box::new(i32::from(Record::FORMAT)),
            "tells" => Box::new(true),
            "clear" | "is_over_limit" | "refuses" => Box::new(false),
            "size" => Box::new(0_i32),
            "version" | "limit" | "epoch" => Box::new(1_i64),
            // No record is due.
            "sign_in" | "fence" | "due" => Box::new(0_i64),
            "cap" | "max_keys" | "max_size" => Box::new(i64::MAX),
            "reason" => Box::new("logout"),
            "channel" => Box::new(self.names.channel()),
            _ => Box::new(Nothing),
        }
    }
}

/// A null of any type.
#[derive(Debug)]
struct Nothing;

impl ToSql for Nothing {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
