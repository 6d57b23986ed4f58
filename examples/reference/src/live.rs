//! Server-sent events for as long as a session lives.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use steadfast::store::EndReason;
use steadfast::{Error, Session};
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
    let ended = Box::pin(session.ended());
    let live = Live { session, wants, seen, ended, pulse: interval(PULSE), step: Step::Open };
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
    ended: Pin<Box<dyn Future<Output = Result<EndReason, Error>> + Send>>,
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
            tokio::select! {
                ended = &mut self.ended => {
                    self.step = Step::Done;
                    return over(ended);
                }
                _ = self.pulse.tick() => {}
            }
            if let Some(value) = self.beat().await {
                return Event::default().event("value").data(value);
            }
        }
    }

    /// Keeps the session alive and looks for a new value, as far as the client wants that. An error is
    /// left to the end of the session, or passes.
    async fn beat(&mut self) -> Option<String> {
        if self.wants.touch == 1 {
            let _ = self.session.touch().await;
        }
        let key = self.wants.watch.as_deref()?;
        self.session.reload().await.ok()?;
        let value: Stored = self.session.get(key).await.ok()?;
        let text = |value: &Stored| value.as_ref().map(|value| value.get().to_owned());
        if text(&value) == text(&self.seen) {
            return None;
        }
        self.seen = value;
        Some(json!({ "value": self.seen }).to_string())
    }
}

fn over(ended: Result<EndReason, Error>) -> Event {
    let event = Event::default().event("ended");
    match ended {
        Ok(reason) => event.data(json!({ "reason": reason.name() }).to_string()),
        Err(error) => event.data(json!({ "error": error.to_string() }).to_string()),
    }
}

/// How often an open stream looks after its session.
const PULSE: Duration = Duration::from_millis(500);
