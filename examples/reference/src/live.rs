//! Server-sent events for as long as a session lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use steadfast::{Error, Session, SessionChange, SessionChanges};
use tokio::time::{Interval, interval};

use crate::app::Mount;
use crate::errors::Failure;
use crate::routes::Stored;

pub(crate) fn router() -> Router<Arc<Mount>> {
    Router::new().route("/live", get(live))
}

#[derive(Deserialize)]
struct Wants {
    /// `1` keeps the session alive for as long as the stream is open.
    #[serde(default)]
    touch: u8,
    /// A key whose changes are sent.
    watch: Option<String>,
}

async fn live(
    session: Session,
    Query(wants): Query<Wants>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    session.handle().await?.ok_or(Error::NoSession)?;
    let seen = match &wants.watch {
        Some(key) => session.get(key.as_str()).await?,
        None => None,
    };
    let changes = session.changes();
    let live = Live { session, wants, seen, changes, pulse: interval(PULSE), step: Step::Open };
    Ok(Sse::new(stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok(event), live))
    })))
}

/// A stream under way.
struct Live {
    session: Session,
    wants: Wants,
    seen: Stored,
    changes: SessionChanges,
    pulse: Interval,
    step: Step,
}

enum Step {
    Open,
    Wait,
    Done,
}

impl Live {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        match self.step {
            Step::Open => {
                self.step = Step::Wait;
                Some(Event::default().event("open").data("{}"))
            }
            Step::Wait => Some(self.wait().await),
            Step::Done => None,
        }
    }

    async fn wait(&mut self) -> Event {
        loop {
            let change = tokio::select! {
                change = self.changes.next() => change,
                _ = self.pulse.tick() => {
                    self.touch().await;
                    continue;
                }
            };
            let last = match change {
                Ok(SessionChange::Ended(reason)) => json!({ "reason": reason.name() }),
                Err(error) => json!({ "error": error.to_string() }),
                Ok(_) => match self.new_value().await {
                    Some(value) => return Event::default().event("value").data(value),
                    None => continue,
                },
            };
            self.step = Step::Done;
            return Event::default().event("ended").data(last.to_string());
        }
    }

    /// Keeps the session alive, if the client wants that. An error passes, or the end of the session follows it.
    async fn touch(&self) {
        if self.wants.touch == 1 {
            let _ = self.session.touch().await;
        }
    }

    /// The value that the client watches, if it changed.
    async fn new_value(&mut self) -> Option<String> {
        let key = self.wants.watch.as_deref()?;
        let value: Stored = self.session.get(key).await.ok()?;
        let text = |value: &Stored| value.as_ref().map(|value| value.get().to_owned());
        if text(&value) == text(&self.seen) {
            return None;
        }
        self.seen = value;
        Some(json!({ "value": self.seen }).to_string())
    }
}

/// The interval at which an open stream keeps its session alive: calls within 1/20 of the idle life cost nothing.
const PULSE: Duration = Duration::from_millis(500);
