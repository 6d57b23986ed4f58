//! The settings of a layer, shared by the requests that it serves.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use steadfast_core::{
    AtCap, Facts, Keyring, Lifetime, Patch, Realm, RecordId, SessionInfo, StoreError, Timestamp,
};
use time::UtcDateTime;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::bounds::Bounds;
use crate::cookie::companion::Affinity;
use crate::cookie::profile::CookieProfile;
use crate::cutoff::Cutoff;
use crate::end_watcher::EndWatcher;
use crate::error::Error;
use crate::events::Listener;
use crate::labels::IndexedLabels;
use crate::replaceable::Replaceable;
use crate::seal::Seal;
use crate::store_client::StoreClient;

/// The state that all requests of a layer share.
#[derive(Clone)]
pub(crate) struct LayerState {
    pub(crate) client: StoreClient,
    pub(crate) realm: Realm,
    pub(crate) keyring: Replaceable<Arc<Keyring>>,
    pub(crate) seal: Seal,
    pub(crate) cookie: CookieProfile,
    pub(crate) affinity: Affinity,
    pub(crate) header: Option<HeaderName>,
    /// True if a request without that header is served as if it had an empty one.
    pub(crate) header_only: bool,
    /// The request headers that responses depend on.
    pub(crate) vary: HeaderValue,
    pub(crate) bounds: Replaceable<Bounds>,
    pub(crate) cutoff: Option<Arc<Cutoff>>,
    /// The facts of visitors' sessions.
    pub(crate) visitor: Facts,
    pub(crate) max_per_principal: usize,
    pub(crate) indexed: IndexedLabels,
    pub(crate) at_cap: AtCap,
    pub(crate) commit_on_server_error: bool,
    pub(crate) listener: Option<Listener>,
    pub(crate) on_failure: Option<Arc<Render>>,
    /// The headers that a failure keeps of the response it replaces, beside [`KEPT`].
    pub(crate) kept: Vec<HeaderName>,
    pub(crate) tasks: TaskTracker,
    pub(crate) end_watcher: Arc<EndWatcher>,
}

impl LayerState {
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.get()
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        self.bounds.get().lifetime
    }

    /// Limits a list of sessions by the present lifetimes, and adds the time at which each was last used.
    pub(crate) fn bounded(&self, mut listed: Vec<SessionInfo>) -> Vec<SessionInfo> {
        let (bounds, now) = (self.bounds.get(), self.client.store.env().now());
        listed.retain_mut(|info| bound(info, &bounds, now));
        listed
    }

    /// Runs a call to completion even if its caller is dropped.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = self.tasks.spawn(call.in_current_span()).await;
        ended.unwrap_or_else(|cut| Err(StoreError::unavailable(cut).into()))
    }

    /// Gives the layer its own cutoff, and with it bounds and streams that no clone shares.
    pub(crate) fn separate_cutoff(&mut self, interval: Duration) {
        self.cutoff = Some(Arc::new(Cutoff::new(interval)));
        self.bounds = Replaceable::new(Bounds::new(self.lifetime()));
        self.end_watcher = Arc::default();
    }

    /// Separates the cutoff again after a change of the realm or the lifetime, if the layer has one.
    pub(crate) fn separate_cutoff_again(&mut self) {
        if let Some(interval) = self.cutoff.as_ref().map(|cutoff| cutoff.interval) {
            self.separate_cutoff(interval);
        }
    }

    /// The patch as it is sent to a record: its values sealed. `None` if it is sent as it is.
    pub(crate) fn sealed(&self, id: RecordId, patch: &Patch) -> Result<Option<Box<Patch>>, Error> {
        self.seal.patch(&self.realm, id, patch, self.client.store.env())
    }

    /// The value that was stored under a key of a record.
    pub(crate) fn opened<'v>(
        &self,
        id: RecordId,
        key: &str,
        stored: &'v [u8],
    ) -> Result<Cow<'v, [u8]>, Error> {
        self.seal.open(&self.realm, id, key, stored)
    }

    pub(crate) fn render(&self, error: &Error) -> Response<String> {
        match &self.on_failure {
            Some(render) => render(error),
            None => error.to_response(),
        }
    }

    /// True for headers that do not depend on the handler's work.
    pub(crate) fn keeps(&self, name: &HeaderName) -> bool {
        let is = |kept: &&str| match kept.strip_suffix('*') {
            Some(start) => name.as_str().starts_with(start),
            None => name == *kept,
        };
        KEPT.iter().any(is) || self.kept.contains(name)
    }
}

/// Limits a listed session by the present lifetimes, and adds the time at which it was last used. Returns
/// `false` if it is over by them.
fn bound(info: &mut SessionInfo, bounds: &Bounds, now: Timestamp) -> bool {
    let begun = info.authenticated.unwrap_or(info.created);
    let absolute = bounds.absolute_deadline(begun.into());
    info.deadline = info.deadline.min(absolute.into());
    let idle = info.facts.lifetime_within(&bounds.lifetime).idle();
    let last_used = Timestamp::from(info.idle_deadline) - idle;
    info.last_used = Some(UtcDateTime::from(last_used.min(now)).max(begun));
    now < absolute
}

/// Makes the answer to a failure.
pub(crate) type Render = dyn Fn(&Error) -> Response<String> + Send + Sync;

/// Headers that layers add to every response. Any other header may be part of what the handler promised.
const KEPT: [&str; 20] = [
    "access-control-*",
    "vary",
    "timing-allow-origin",
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "traceparent",
    "tracestate",
    "server-timing",
    "strict-transport-security",
    "content-security-policy",
    "content-security-policy-report-only",
    "cross-origin-*",
    "origin-agent-cluster",
    "permissions-policy",
    "referrer-policy",
    "reporting-endpoints",
    "x-content-type-options",
    "x-frame-options",
    "server",
];

impl fmt::Debug for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("realm", &self.realm)
            .field("cookie", &self.cookie)
            .field("header", &self.header)
            .field("lifetime", &self.lifetime())
            .field("keyring", &self.keyring())
            .finish_non_exhaustive()
    }
}
