//! The access of a listener to the database: its own connection, or the pool of the application.

use std::sync::Arc;

use crate::connection::{Argument, Connection, Failed, Row, Statement};
use crate::error::Failure;
use crate::given::GivenPool;
use crate::hosts::Hosts;
use crate::statements::Feed;

/// How a listener reaches the database.
#[derive(Clone)]
pub(crate) enum Access {
    /// On a separate connection, which receives notifications if `can_be_rung`.
    Own { hosts: Arc<Hosts>, can_be_rung: bool },
    /// On any connection of the application's pool, for one statement at a time.
    Given(GivenPool),
}

impl Access {
    /// Opens a line, and asks for notifications where it can receive them.
    pub(crate) async fn open(&self, feed: &Feed) -> Result<Line, Failure> {
        let (hosts, can_be_rung) = match self {
            Self::Own { hosts, can_be_rung } => (hosts, *can_be_rung),
            Self::Given(pool) => return Ok(Line::Given(pool.clone())),
        };
        let opened = hosts.connect().await;
        let mut connection = opened.map_err(|error| Failure::Connection(error.into()))?;
        if !can_be_rung {
            return Ok(Line::Own(Box::new(connection)));
        }
        connection.batch(&format!("LISTEN \"{}\"", feed.channel)).await?;
        Ok(Line::Rung(Box::new(connection)))
    }
}

/// The line of a listener to the database.
pub(crate) enum Line {
    /// A connection that receives notifications.
    Rung(Box<Connection>),
    Own(Box<Connection>),
    Given(GivenPool),
}

impl Line {
    pub(crate) async fn run(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed> {
        match self {
            Self::Rung(connection) | Self::Own(connection) => {
                connection.run(statement, arguments).await
            }
            Self::Given(pool) => pool.run(statement, arguments).await,
        }
    }
}
