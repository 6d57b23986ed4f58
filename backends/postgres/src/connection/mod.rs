//! A connection to a server, for one statement at a time.
//!
//! A statement is sent in one piece, including its preparation, and its answer arrives in one: one
//! round trip. This driver uses the messages of `postgres-protocol` directly, because the allowed
//! reaction to a failure depends on exactly what was sent and answered before it.

mod row;
mod socket;
mod startup;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::time::Instant;

use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{Message, NotificationResponseBody};
use postgres_protocol::message::frontend::{self, BindError};
use postgres_types::{ToSql, Type};
use tokio::runtime;

pub(crate) use row::{Column, Malformed, Row};
pub(crate) use socket::Socket;
pub(crate) use startup::Login;
pub use tls::{Binding, Tls};
pub(crate) use tls::{Roots, TlsSettings, certificate_hash};

use crate::error::Failure;
use wire::Wire;

pub(crate) struct Connection {
    wire: Wire,
    /// The id of the server process, as reported at the start.
    process: i32,
    /// True if statements are prepared once and kept by the server.
    keeps_statements: bool,
    /// The prepared statements, as a bit set of their numbers.
    prepared: u64,
    /// True while the end of an answer is still to come.
    is_owed_an_answer: bool,
    is_over: bool,
    is_in_transaction: bool,
    heard: Instant,
    /// The runtime that opened the socket. Only that runtime is notified of incoming data.
    runtime: runtime::Id,
    notifications: VecDeque<String>,
}

/// A statement and its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// A unique number below 64, if the statement is to be kept.
    pub(crate) number: u8,
    /// The statement's name at the server.
    pub(crate) name: String,
    pub(crate) sql: String,
    /// The parameters in order.
    pub(crate) takes: Vec<(&'static str, Type)>,
}

/// An argument of a statement, by name.
pub(crate) type Argument<'a> = (&'static str, &'a (dyn ToSql + Sync));

/// A failed statement.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// True if it is certain that the statement had no effect and will have none.
    pub(crate) had_no_effect: bool,
}

impl Connection {
    /// Logs in over a socket.
    pub(crate) async fn start(
        socket: Socket,
        login: &Login,
        certificate: Option<Vec<u8>>,
        keeps_statements: bool,
    ) -> Result<Self, Failure> {
        let mut wire = Wire::new(socket);
        let process = startup::log_in(&mut wire, login, certificate).await?;
        Ok(Self {
            wire,
            process,
            keeps_statements,
            prepared: 0,
            is_owed_an_answer: false,
            is_over: false,
            is_in_transaction: false,
            heard: Instant::now(),
            runtime: runtime::Handle::current().id(),
            notifications: VecDeque::new(),
        })
    }

    pub(crate) fn process(&self) -> i32 {
        self.process
    }

    pub(crate) fn runtime(&self) -> runtime::Id {
        self.runtime
    }

    /// Returns the time of the server's last answer.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Returns true if the connection cannot run another statement.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over || self.is_in_transaction
    }

    /// Returns true if an answer, or a part of one, is still to come.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_owed_an_answer && self.wire.has_sent()
    }

    /// Runs a statement and returns its rows.
    pub(crate) async fn run(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        if let Err(failure) = self.compose(statement, arguments) {
            return Err(Failed::without_effect(failure));
        }
        self.is_owed_an_answer = true;
        let mut answer = Answer::default();
        match self.exchange(statement.bit(), &mut answer).await {
            Ok(()) => Ok(answer.rows),
            Err(failure) => Err(self.failed(failure, &answer)),
        }
    }

    /// Runs SQL without parameters and rows, which may contain several statements.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        frontend::query(sql, self.wire.compose()).map_err(argument)?;
        self.is_owed_an_answer = true;
        let mut answer = Answer::default();
        self.exchange(0, &mut answer).await
    }

    /// Exchanges an empty message.
    pub(crate) async fn ping(&mut self) -> Result<(), Failure> {
        frontend::sync(self.wire.compose());
        self.is_owed_an_answer = true;
        self.wire.send().await?;
        self.settle().await
    }

    /// Waits for the end of an answer whose caller gave up.
    pub(crate) async fn settle(&mut self) -> Result<(), Failure> {
        if !self.wire.has_sent() {
            self.is_owed_an_answer = false;
            return Ok(());
        }
        self.wire.send().await?;
        while self.is_owed_an_answer {
            match self.wire.receive().await? {
                Message::ReadyForQuery(ready) => self.is_answered(ready.status()),
                Message::ErrorResponse(error) => {
                    let failure = Failure::server(error.fields());
                    if failure.ends_connection() {
                        return Err(failure);
                    }
                }
                Message::NotificationResponse(body) => self.keep(&body),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns true if the connection seems alive.
    ///
    /// A server that closes a connection says so, and that message is normally there before the
    /// next statement is sent.
    pub(crate) async fn is_alive(&mut self) -> bool {
        loop {
            match self.wire.overhear().await {
                Ok(None) => return !self.is_over,
                Ok(Some(Message::NotificationResponse(body))) => self.keep(&body),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
    }

    /// Returns the next notification.
    pub(crate) async fn notified(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(payload) = self.notifications.pop_front() {
                return Ok(payload);
            }
            match self.wire.receive().await? {
                Message::NotificationResponse(body) => self.keep(&body),
                Message::ErrorResponse(error) => return Err(Failure::server(error.fields())),
                _ => return Err(Failure::Protocol("an answer to nothing")),
            }
        }
    }

    fn keep(&mut self, notification: &NotificationResponseBody) {
        self.notifications.extend(notification.message().map(str::to_owned));
    }

    fn compose(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<(), Failure> {
        let names = statement.takes.iter().map(|(name, _)| name);
        debug_assert!(names.eq(arguments.iter().map(|(name, _)| name)), "{}", statement.sql);
        let is_prepared = self.prepared & statement.bit() != 0;
        let name = if self.keeps_statements { &statement.name } else { "" };
        let out = self.wire.compose();
        if !is_prepared {
            let types = statement.takes.iter().map(|(_, type_)| type_.oid());
            frontend::parse(name, &statement.sql, types, out).map_err(argument)?;
        }
        let values = arguments.iter().zip(&statement.takes);
        let bound = frontend::bind(
            "",
            name,
            [BINARY],
            values,
            |((_, value), (_, type_)), out| {
                Ok(match value.to_sql_checked(type_, out)? {
                    postgres_types::IsNull::Yes => IsNull::Yes,
                    postgres_types::IsNull::No => IsNull::No,
                })
            },
            [BINARY],
            out,
        );
        bound.map_err(|error| match error {
            BindError::Conversion(error) => Failure::Argument(error),
            BindError::Serialization(error) => argument(error),
        })?;
        frontend::execute("", 0, out).map_err(argument)?;
        frontend::sync(out);
        Ok(())
    }

    async fn exchange(&mut self, prepares: u64, answer: &mut Answer) -> Result<(), Failure> {
        if let Err(error) = self.wire.send().await {
            // A server that closes a connection sends the reason first.
            return Err(self.last_words().await.unwrap_or_else(|| error.into()));
        }
        while self.is_owed_an_answer {
            match self.wire.receive().await? {
                Message::ParseComplete if self.keeps_statements => self.prepared |= prepares,
                Message::DataRow(body) => {
                    let row = Row::new(&body);
                    answer.rows.push(row.map_err(|_| Failure::Protocol("a row is malformed"))?);
                }
                Message::CommandComplete(_) => answer.is_complete = true,
                Message::ParseComplete
                | Message::BindComplete
                | Message::RowDescription(_)
                | Message::EmptyQueryResponse => {}
                Message::NotificationResponse(body) => self.keep(&body),
                Message::ErrorResponse(error) => {
                    let failure = Failure::server(error.fields());
                    if matches!(failure, Failure::Server { is_fatal: true, .. }) {
                        return Err(failure);
                    }
                    answer.error = Some(failure);
                }
                Message::ReadyForQuery(ready) => self.is_answered(ready.status()),
                _ => return Err(Failure::Protocol("a message at the wrong time")),
            }
        }
        answer.error.take().map_or(Ok(()), Err)
    }

    async fn last_words(&mut self) -> Option<Failure> {
        match self.wire.overhear().await {
            Ok(Some(Message::ErrorResponse(error))) => Some(Failure::server(error.fields())),
            _ => None,
        }
    }

    fn is_answered(&mut self, status: u8) {
        self.is_owed_an_answer = false;
        self.is_in_transaction = status != b'I';
        self.heard = Instant::now();
    }

    fn failed(&mut self, failure: Failure, answer: &Answer) -> Failed {
        self.is_over |= self.is_owed_an_answer || failure.ends_connection();
        let is_before_commit = !self.is_over || !answer.is_complete;
        let is_rolled_back = failure.is_rollback() && is_before_commit;
        Failed { had_no_effect: !self.wire.has_sent() || is_rolled_back, failure }
    }
}

impl Failed {
    /// Creates a failure before anything was sent.
    pub(crate) fn without_effect(failure: Failure) -> Self {
        Self { failure, had_no_effect: true }
    }
}

impl Statement {
    /// Creates a statement that is not kept.
    pub(crate) fn once(sql: &str, takes: &[(&'static str, Type)]) -> Self {
        Self { number: u8::MAX, name: String::new(), sql: sql.to_owned(), takes: takes.to_vec() }
    }

    /// Returns true if the statement calls one of our functions, whose privileges the server only
    /// checks when they run.
    pub(crate) fn is_call(&self) -> bool {
        self.sql.contains(" => $1")
    }

    /// Returns true if the statement is prepared once per connection.
    #[cfg(feature = "sqlx-0_8")]
    pub(crate) fn is_kept(&self) -> bool {
        self.bit() != 0
    }

    fn bit(&self) -> u64 {
        1_u64.checked_shl(self.number.into()).unwrap_or(0)
    }
}

/// The parts of an answer received so far.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    is_complete: bool,
    error: Option<Failure>,
}

fn argument(error: std::io::Error) -> Failure {
    Failure::Argument(error.into())
}

const BINARY: i16 = 1;
