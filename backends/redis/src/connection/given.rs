//! A connection of the application's own.

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};

use crate::error::Fault;

/// Calls a server over handles of one connection that the application opened, and opens again.
pub(crate) struct Given(Box<dyn Handles>);

/// Where handles come from: each call has one, because they wait for one answer at a time.
trait Handles: Send + Sync {
    fn handle(&self) -> Box<dyn ConnectionLike + Send>;
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Handles for C {
    fn handle(&self) -> Box<dyn ConnectionLike + Send> {
        Box::new(self.clone())
    }
}

impl Given {
    pub(crate) fn new(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self(Box::new(connection))
    }

    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, Fault> {
        let answer = self.0.handle().req_packed_command(command).await;
        Fault::unless_refused(answer.map_err(Fault::given)?)
    }

    pub(super) async fn call_all(&self, commands: &Pipeline) -> Result<Vec<Value>, Fault> {
        let answers = self.0.handle().req_packed_commands(commands, 0, commands.len()).await;
        answers.map_err(Fault::given)
    }
}

/// A feature that needs a connection of the store's own.
#[derive(Debug, thiserror::Error)]
#[error("a connection of the application supports only calls, not subscriptions")]
pub(super) struct CallsAlone;
