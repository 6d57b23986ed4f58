//! Reports sessions that ended without a request: they expired, were evicted, or exceeded the cap.

use std::sync::{Arc, Weak};
use std::time::Duration;

use steadfast_core::{Ending, Endings, Env, RecordId, StoreError};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::events::{Actor, Follower, Listener, SessionEvent, SessionEventKind};
use crate::layer_state::LayerState;

impl LayerState {
    /// Starts a task that reports endings to the layer's listener, unless there is one, or no listener.
    pub(crate) fn follow_endings(self: &Arc<Self>) {
        if let Some(listener) = &self.listener {
            self.start_following(listener);
        }
    }

    fn start_following(self: &Arc<Self>, listener: &Listener) {
        // A layer can be built before its runtime. The first request starts the task then.
        if let Some(permit) = listener.try_follow()
            && let Ok(runtime) = Handle::try_current()
            && let Some(queue) = self.client.store.endings()
        {
            runtime.spawn(follow(Arc::downgrade(self), queue, permit));
        }
    }

    /// Claims endings and reports them. Returns their number.
    async fn report_endings(&self, queue: &dyn Endings, limit: usize) -> Result<usize, StoreError> {
        let Some(listener) = &self.listener else { return Ok(0) };
        let claimed = self.limited(queue.claim(limit)).await?;
        let told: Vec<RecordId> = claimed
            .iter()
            .filter(|ending| listener.tell(&event(ending)))
            .map(|ending| ending.id)
            .collect();
        // An ending that the listener failed to take is claimed again later.
        if !told.is_empty() {
            self.limited(queue.acknowledge(&told)).await?;
        }
        Ok(claimed.len())
    }

    async fn limited<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(self.client.timeouts.critical, call).await.map_err(StoreError::unavailable)?
    }
}

/// Reports endings for as long as the layer exists.
async fn follow(layer: Weak<LayerState>, queue: Arc<dyn Endings>, _permit: Follower) {
    let (mut pace, mut fails) = (Pace::default(), false);
    loop {
        let Some(pause) = layer.upgrade().map(|layer| pace.pause(layer.client.store.env())) else {
            return;
        };
        sleep(pause).await;
        let Some(layer) = layer.upgrade() else { return };
        match layer.report_endings(&*queue, pace.limit).await {
            Ok(reported) => {
                fails = false;
                pace.adapt(reported);
            }
            Err(error) => {
                if !fails {
                    tracing::warn!(target: "steadfast", %error,
                        "sessions that ended cannot be reported; trying again");
                }
                fails = true;
                pace.adapt(0);
            }
        }
    }
}

fn event(ending: &Ending) -> SessionEvent {
    let Ending { id, principal, reason, at } = ending;
    SessionEvent {
        id: format!("{id}.ended"),
        at: (*at).into(),
        realm: principal.as_ref().map(|principal| principal.realm().clone()),
        user: principal.clone(),
        kind: SessionEventKind::Ended { session: *id, reason: *reason, by: Actor::System },
    }
}

/// How often endings are claimed, and how many of them: so that sessions which end at the same moment are
/// reported over some time, and a service where none end is hardly asked.
#[derive(Debug)]
struct Pace {
    limit: usize,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: FEWEST, pause: SHORTEST }
    }
}

impl Pace {
    /// Returns a pause between 50 % and 150 % of the current one, so that nodes ask at different times.
    fn pause(&self, env: &Env) -> Duration {
        let mut random = [128];
        // Without randomness, all nodes ask at the same pace, which is acceptable.
        let _ = env.fill(&mut random);
        self.pause / 2 + self.pause * u32::from(random[0]) / 256
    }

    fn adapt(&mut self, reported: usize) {
        self.limit = if reported < self.limit { FEWEST } else { (self.limit * 5 / 4).min(MOST) };
        self.pause = if reported == 0 { (self.pause * 2).min(LONGEST) } else { SHORTEST };
    }
}

/// The bounds of the number of endings per claim.
const FEWEST: usize = 64;
const MOST: usize = 1_000;

/// The bounds of the pause between two claims.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_endings_are_spread_over_seconds() {
        let mut pace = Pace::default();
        let (mut left, mut claims) = (1_000, Vec::new());
        while left > 0 {
            let claimed = pace.limit.min(left);
            claims.push(claimed);
            pace.adapt(claimed);
            left -= claimed;
            assert_eq!(pace.pause, SHORTEST);
        }
        let mean = 1_000 / claims.len();
        assert!(claims.len() >= 6 && claims.iter().all(|claim| *claim < 3 * mean), "{claims:?}");
    }

    #[test]
    fn an_idle_service_is_hardly_asked() {
        let mut pace = Pace::default();
        (0..10).for_each(|_| pace.adapt(0));
        assert_eq!((pace.limit, pace.pause), (FEWEST, LONGEST));
        pace.adapt(1);
        assert_eq!((pace.limit, pace.pause), (FEWEST, SHORTEST));
        (0..100).for_each(|_| pace.adapt(pace.limit));
        assert_eq!(pace.limit, MOST);
    }
}
