//! The database, over the store's own connections or a pool of the application.

use std::time::Duration;

use steadfast_core::StoreError;
use tokio::time::timeout;

use crate::access::Access;
use crate::connection::{Argument, Connection, Failed, Row, Statement};
use crate::error::{Failure, SetupError};
use crate::given::{GivenConnection, GivenPool};
use crate::pool::Pool;
use crate::settings::Settings;

/// Runs statements. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Database {
    connections: Connections,
    /// The time limit of a call, including repetitions.
    timeout: Duration,
}

#[derive(Clone)]
pub(crate) enum Connections {
    Own(Pool),
    Given(GivenPool),
}

/// One connection, for statements that belong together.
pub(crate) enum AnyConnection {
    Own(Box<Connection>),
    Given(Box<dyn GivenConnection>),
}

/// Whether a statement may be sent again if the outcome of the first attempt is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// Always: a repetition has no further effect, and neither has a first attempt that arrives
    /// after all others.
    Freely,
    Never,
}

impl Database {
    pub(crate) fn new(connections: Connections, timeout: Duration) -> Self {
        Self { connections, timeout }
    }

    /// Returns the role that logs in.
    pub(crate) fn role(&self) -> String {
        match &self.connections {
            Connections::Own(pool) => pool.hosts().role().to_owned(),
            Connections::Given(pool) => pool.role(),
        }
    }

    /// Returns the highest number of connections.
    pub(crate) fn size(&self) -> usize {
        match &self.connections {
            Connections::Own(pool) => pool.size(),
            Connections::Given(pool) => pool.size(),
        }
    }

    /// Returns how listeners reach the database.
    pub(crate) fn access(
        &self,
        settings: &Settings,
        timeout: Duration,
    ) -> Result<Access, SetupError> {
        match &self.connections {
            Connections::Own(pool) => settings.access(pool.hosts(), timeout),
            Connections::Given(pool) => Ok(Access::Given(pool.clone())),
        }
    }

    pub(crate) async fn connect(&self) -> Result<AnyConnection, SetupError> {
        Ok(match &self.connections {
            Connections::Own(pool) => AnyConnection::Own(Box::new(pool.hosts().connect().await?)),
            Connections::Given(pool) => {
                AnyConnection::Given(pool.connect().await.map_err(SetupError::Pool)?)
            }
        })
    }

    /// Keeps a connection for later statements.
    pub(crate) fn adopt(&self, connection: AnyConnection) {
        if let (Connections::Own(pool), AnyConnection::Own(connection)) =
            (&self.connections, connection)
        {
            pool.adopt(connection);
        }
    }

    /// Runs a statement. Repeats it if that is safe and may help.
    pub(crate) async fn rows(
        &self,
        resend: Resend,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let run = async {
            let mut attempts = 0;
            loop {
                attempts += 1;
                let failed = match self.attempt(statement, arguments).await? {
                    Ok(rows) => return Ok(rows),
                    Err(failed) => failed,
                };
                let may_resend = failed.had_no_effect || resend == Resend::Freely;
                if !may_resend || attempts == ATTEMPTS || !self.may_help(&failed.failure) {
                    return Err(failed.failure.into());
                }
            }
        };
        timeout(self.timeout, run).await.unwrap_or(Err(StoreError::Timeout))
    }

    async fn attempt(
        &self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Result<Vec<Row>, Failed>, StoreError> {
        match &self.connections {
            Connections::Own(pool) => pool.run(statement, arguments).await,
            Connections::Given(pool) => Ok(pool.run(statement, arguments).await),
        }
    }

    /// Returns true if a failed statement may succeed when it is sent again.
    fn may_help(&self, failure: &Failure) -> bool {
        let may_find_primary = match &self.connections {
            Connections::Own(pool) => pool.hosts().are_several(),
            Connections::Given(_) => false,
        };
        failure.is_passing() && (!failure.is_demotion() || may_find_primary)
    }
}

impl AnyConnection {
    pub(crate) async fn run(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        match self {
            Self::Own(connection) => connection.run(statement, arguments).await,
            Self::Given(connection) => connection.run(statement, arguments).await,
        }
    }

    /// Runs SQL without parameters and rows, which may contain several statements.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        match self {
            Self::Own(connection) => connection.batch(sql).await,
            Self::Given(connection) => connection.batch(sql).await,
        }
    }
}

/// The highest number of attempts of a statement.
const ATTEMPTS: u32 = 3;
