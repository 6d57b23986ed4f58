//! The control port: what tests and drills do to the application from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use steadfast::store::{Clock, Operate, Scanned, SecretHash};
use steadfast::{Principal, SessionLayer, StoreError};
use steadfast_core::conformance::faults::{Call, Fault, FaultyStore};
use tower_http::csrf::CsrfLayer;

use crate::app::{App, Mount};
use crate::clock::OffsetClock;
use crate::errors;
use crate::routes::{ok, rfc3339};
use crate::{admin, cluster, options, page};

/// The parts that the control port can move.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) faults: FaultyStore,
    pub(crate) clock: OffsetClock,
    pub(crate) layers: Vec<SessionLayer>,
}

impl Control {
    /// Waits for what outlives its request, so that a touch of a moment ago does not come to a record
    /// that expired by a jump of the clock. Not for long: a store may hang.
    async fn settle(&self) {
        let settled = async {
            while self.layers.iter().any(SessionLayer::has_pending_work) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(SETTLES_WITHIN, settled).await;
    }
}

/// The routes of the control port.
pub(crate) fn router(app: Arc<App>, control: Control, mount: Arc<Mount>) -> Router {
    let over_app = Router::new()
        .route("/gate/release", post(release))
        .route("/gates", get(gates))
        .route("/drain", post(drain))
        .route("/events", get(events))
        .route("/reports", get(reports))
        .with_state(app);
    Router::new()
        .route("/clock/advance", post(advance))
        .route("/fault", post(fault))
        .route("/keys", post(keys))
        .route("/seal-keys", post(seal_keys))
        .route("/gc", post(gc))
        .route("/dump", get(dump))
        .route("/stats", get(stats))
        .route("/cluster", get(cluster))
        .with_state(control)
        .merge(over_app)
        .merge(admin::router(mount))
        .layer(CsrfLayer::new())
        .layer(from_fn(errors::answer))
}

#[derive(Deserialize)]
struct Gate {
    g: String,
}

async fn release(
    State(app): State<Arc<App>>,
    Query(Gate { g }): Query<Gate>,
) -> Json<serde_json::Value> {
    app.gates.release(&g);
    ok()
}

async fn gates(State(app): State<Arc<App>>) -> Json<BTreeMap<String, usize>> {
    Json(app.gates.waiting())
}

async fn drain(State(app): State<Arc<App>>) -> Answer {
    let drained = app.drain().await?;
    Ok(Json(json!({ "moved": drained.moved, "lost": drained.lost })))
}

/// The counts of the events, out of the text that a Prometheus server would read.
async fn events(State(app): State<Arc<App>>) -> Json<BTreeMap<String, u64>> {
    let count = |line: &str| {
        let event = line.strip_prefix(r#"steadfast_events_total{event=""#)?;
        let (name, count) = event.split_once(r#""} "#)?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    Json(app.metrics.render().lines().filter_map(count).collect())
}

/// The latest session events, if the server was started to keep any.
async fn reports(
    State(app): State<Arc<App>>,
) -> Result<Json<serde_json::Value>, (StatusCode, &'static str)> {
    let reports = app.reports.as_ref();
    let reports =
        reports.ok_or((StatusCode::NOT_FOUND, "start the server with --report-events"))?;
    Ok(Json(json!({ "reports": reports.all() })))
}

#[derive(Deserialize)]
struct Advance {
    s: f64,
}

async fn advance(
    State(control): State<Control>,
    Query(Advance { s }): Query<Advance>,
) -> Result<Json<serde_json::Value>, (StatusCode, &'static str)> {
    let by = time::Duration::checked_seconds_f64(s);
    let by = by.ok_or((StatusCode::BAD_REQUEST, "that is no time"))?;
    control.settle().await;
    control.clock.advance(by);
    Ok(Json(json!({ "now": rfc3339(control.clock.now().into()) })))
}

#[derive(Deserialize)]
struct Break {
    op: Op,
    mode: Mode,
    #[serde(default = "second")]
    ms: u64,
}

/// The calls of a store, a few of them together.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Load,
    Create,
    Update,
    Delete,
    All,
}

impl Op {
    fn calls(self) -> &'static [Call] {
        match self {
            Self::Load => &[Call::Load, Call::List],
            Self::Create => &[Call::Create],
            Self::Update => &[Call::Update],
            Self::Delete => &[Call::Delete, Call::DeleteAll],
            Self::All => &Call::ALL,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    None,
    Down,
    Slow,
    Hang,
    Corrupt,
    AckLost,
}

async fn fault(
    State(control): State<Control>,
    Query(Break { op, mode, ms }): Query<Break>,
) -> Json<serde_json::Value> {
    let fault = match mode {
        Mode::None => Fault::None,
        Mode::Down => Fault::Down,
        Mode::Slow => Fault::Slow(Duration::from_millis(ms)),
        Mode::Hang => Fault::Hang,
        Mode::Corrupt => Fault::Corrupt,
        Mode::AckLost => Fault::AckLost,
    };
    op.calls().iter().for_each(|call| control.faults.set(*call, fault.clone()));
    ok()
}

#[derive(Deserialize)]
struct Keys {
    current: String,
    #[serde(default)]
    accept: Vec<String>,
}

/// Replaces the ring of both layers, while requests are served.
async fn keys(
    State(control): State<Control>,
    Json(Keys { current, accept }): Json<Keys>,
) -> Result<Json<serde_json::Value>, (StatusCode, String)> {
    let keys = std::iter::once(&current).chain(&accept).map(String::as_str);
    let ring = options::keyring(keys).map_err(|e| (StatusCode::BAD_REQUEST, format!("{e:#}")))?;
    control.layers.iter().for_each(|layer| layer.replace_keyring(ring.clone()));
    Ok(ok())
}

#[derive(Deserialize)]
struct Seal {
    keys: Vec<String>,
}

/// Replaces the ring under which both layers seal, while requests are served.
async fn seal_keys(
    State(control): State<Control>,
    Json(Seal { keys }): Json<Seal>,
) -> Result<Json<serde_json::Value>, (StatusCode, String)> {
    let ring = options::seal_keys(keys.iter().map(String::as_str));
    let ring = ring.map_err(|e| (StatusCode::BAD_REQUEST, format!("{e:#}")))?;
    let ring = ring.ok_or((StatusCode::BAD_REQUEST, "a ring has a key".to_owned()))?;
    match control.layers.iter().all(|layer| layer.replace_seal_keys(ring.clone())) {
        true => Ok(ok()),
        false => Err((StatusCode::CONFLICT, "start the server with --seal".to_owned())),
    }
}

async fn gc(State(control): State<Control>) -> Answer {
    Ok(Json(json!({ "collected": control.faults.collect().await? })))
}

async fn dump(State(control): State<Control>) -> Answer {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = control.faults.scan(after, PAGE).await?;
        records.extend(page.records.iter().map(scanned));
        after = page.next;
        if after.is_none() {
            return Ok(Json(json!({ "records": records })));
        }
    }
}

async fn stats(State(control): State<Control>) -> Answer {
    let stats = control.faults.stats().await?;
    let ops: BTreeMap<_, _> = Call::ALL
        .iter()
        .filter_map(|call| Some((name(*call)?, control.faults.calls(*call))))
        .collect();
    Ok(Json(json!({
        "records": stats.records,
        "authenticated": stats.authenticated,
        "bytes": stats.bytes,
        "ops": ops,
    })))
}

/// The nodes of the store, as this one sees them: a page for people, else JSON.
async fn cluster(State(control): State<Control>, headers: HeaderMap) -> Result<Response, Failure> {
    let description = match control.faults.describe().await {
        Err(error @ StoreError::Unsupported(_)) => {
            return Ok((StatusCode::NOT_FOUND, error.to_string()).into_response());
        }
        description => description?,
    };
    let shown = match page::accepts_html(&headers) {
        true => cluster::page(&description).into_response(),
        false => Json(description).into_response(),
    };
    Ok(([(header::VARY, "accept"), (header::CACHE_CONTROL, "no-store")], shown).into_response())
}

/// A record as the store keeps it; a value is the text of its JSON.
fn scanned(Scanned { id, record }: &Scanned) -> serde_json::Value {
    let id = id.to_string();
    let Some(record) = record else {
        return json!({ "id": id, "corrupt": true });
    };
    let text = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
    let values: BTreeMap<_, _> =
        record.values.iter().map(|(key, json)| (key, text(json))).collect();
    json!({
        "id": id,
        "format": record.format(),
        "sign_in": record.sign_in,
        "hash": hex(&record.secret),
        "hash_key": record.secret.key().name(),
        "replaced_hash": record.replaced.as_ref().map(|replaced| hex(&replaced.hash)),
        "replaced_until": record.replaced.as_ref().map(|replaced| rfc3339(replaced.until.into())),
        "version": record.version.0,
        "values": values,
        "created": rfc3339(record.created.into()),
        "authenticated": record.authenticated.map(|at| rfc3339(at.into())),
        "idle_deadline": rfc3339(record.idle_deadline.into()),
        "absolute_deadline": rfc3339(record.absolute_deadline.into()),
        "realm": record.principal.as_ref().map(|principal| principal.realm().as_str()),
        "principal": record.principal.as_ref().map(Principal::id),
        "owner": record.owner.as_ref().map(|owner| owner.label.as_str()),
        "fence": record.fence(),
    })
}

fn hex(hash: &SecretHash) -> String {
    hash.digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the name of a call that requests make.
fn name(call: Call) -> Option<&'static str> {
    match call {
        Call::Create => Some("create"),
        Call::Load => Some("load"),
        Call::Update => Some("update"),
        Call::Delete => Some("delete"),
        Call::List => Some("list"),
        Call::DeleteAll => Some("delete_all"),
        Call::Claim | Call::Acknowledge => None,
    }
}

fn second() -> u64 {
    1_000
}

type Answer = Result<Json<serde_json::Value>, Failure>;

/// The store did not do what an operator asked.
struct Failure(StoreError);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            StoreError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.0.to_string()).into_response()
    }
}

const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Records of one page of a dump.
const PAGE: usize = 10_000;
