//! A pool that the application hands in.
//!
//! One feature for each version of a library that has pools: the application decides on it.

#[cfg(feature = "sqlx-0_8")]
mod sqlx_0_8;

use std::sync::Arc;

use async_trait::async_trait;

use crate::connection::{Argument, Failed, Row, Statement};
use crate::error::Failure;

/// The application's pool.
pub(crate) type GivenPool = Arc<dyn Pool>;

/// A pool of another library.
#[async_trait]
pub(crate) trait Pool: Send + Sync {
    /// Returns the role that logs in.
    fn role(&self) -> String;

    /// Returns the highest number of connections.
    fn size(&self) -> usize;

    async fn connect(&self) -> Result<Box<dyn GivenConnection>, Failure>;

    /// Runs a statement on any connection, and returns its rows.
    async fn run(
        &self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed>;
}

/// A connection for several statements. It is closed when dropped, which rolls back an unfinished
/// transaction.
#[async_trait]
pub(crate) trait GivenConnection: Send {
    async fn run(
        &mut self,
        statement: &Statement,
        arguments: &[Argument<'_>],
    ) -> Result<Vec<Row>, Failed>;

    async fn batch(&mut self, sql: &str) -> Result<(), Failure>;
}
