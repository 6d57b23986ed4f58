//! The handlers of the shop.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::middleware::from_fn;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use steadfast::store::{Lookup, RecordId, RequestHint, SessionInfo};
use steadfast::{Error, Key, Login, Principal, Session, SessionLayer};
use tower_http::csrf::CsrfLayer;

use crate::failure::{Failure, ask_again};
use crate::page::{HEADERS, View, notice::Change};
use crate::{Strategy, device};

/// The shop on a node, with its session layer.
pub fn router(strategy: Strategy, node: &str, sessions: SessionLayer) -> Router {
    let here = Here { strategy, node: node.to_owned(), sessions: sessions.clone() };
    Router::new()
        .route("/", get(page))
        .route("/cart", post(add_to_cart))
        .route("/cart/empty", post(empty_cart))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/logout-others", post(logout_others))
        .route("/logout-everywhere", post(logout_everywhere))
        .route("/devices/{handle}/end", post(end_device))
        .route("/live", get(live))
        .layer(CsrfLayer::new())
        .layer(from_fn(ask_again))
        .with_state(Arc::new(here))
        .layer(sessions)
}

/// The node that a request reached.
struct Here {
    strategy: Strategy,
    node: String,
    sessions: SessionLayer,
}

const CART: Key<Vec<String>> = Key::new("cart");
const VISITS: Key<i64> = Key::new("visits");

async fn page(
    State(here): State<Arc<Here>>,
    session: Session,
    headers: HeaderMap,
    Query(change): Query<Change>,
) -> Result<impl IntoResponse, Failure> {
    let visits = session.increment(VISITS, 1).await?;
    let handle = session.handle().await?.ok_or(Error::NoSession)?;
    let user = session.principal().await?;
    let view = View {
        strategy: here.strategy,
        node: &here.node,
        nodes: example_balancer::nodes(&headers),
        change,
        visits,
        cart: session.get(CART).await?.unwrap_or_default(),
        user: user.as_ref().map(Principal::id),
        devices: if user.is_some() { oldest_first(session.list().await?) } else { Vec::new() },
        handle,
        holders: here.holders(handle).await?,
        now: here.sessions.store().env().now().into(),
    };
    Ok((HEADERS, view.html()))
}

impl Here {
    /// The nodes that hold the session of a request, preferred first, as its store names them.
    async fn holders(&self, handle: RecordId) -> Result<Vec<String>, Error> {
        let store = self.sessions.store();
        if self.strategy.roles.is_empty() {
            return Ok(Vec::new());
        }
        // The request has proved its right to this session.
        let found = store.load(handle, None, &RequestHint::default()).await;
        let routes = match found.map_err(Error::Store)? {
            Lookup::Found(found) => found.client_state.routes,
            _ => Vec::new(),
        };
        match routes.as_slice() {
            [] => Ok(vec![self.node.clone()]),
            routes => Ok(routes.iter().map(|label| label.as_str().to_owned()).collect()),
        }
    }
}

async fn add_to_cart(session: Session, Form(form): Form<Item>) -> Result<Redirect, Failure> {
    let add = |cart: Option<Vec<String>>| {
        let mut cart = cart.unwrap_or_default();
        cart.push(form.item.clone());
        cart
    };
    session.update(CART, add).await?;
    Ok(Redirect::to("/"))
}

async fn empty_cart(session: Session) -> Result<Redirect, Failure> {
    session.discard(CART).await?;
    Ok(Redirect::to("/"))
}

/// Signs in any name: a real application checks a password here.
async fn login(
    session: Session,
    headers: HeaderMap,
    Form(form): Form<User>,
) -> Result<Redirect, Failure> {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let device = device::name(agent.unwrap_or_default());
    session.login(Login::new(form.user).label("device", device)).await?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> Result<Redirect, Failure> {
    session.flush().await?;
    Ok(Redirect::to("/"))
}

async fn logout_others(session: Session) -> Result<Redirect, Failure> {
    session.end_others().await?;
    Ok(Redirect::to("/"))
}

async fn logout_everywhere(session: Session) -> Result<Redirect, Failure> {
    session.end_all().await?;
    Ok(Redirect::to("/"))
}

/// Ends one of the user's own sessions; another user's is left alone.
async fn end_device(session: Session, Path(handle): Path<RecordId>) -> Result<Redirect, Failure> {
    session.end(handle).await?;
    Ok(Redirect::to("/"))
}

/// A stream that is open for as long as the session lives, and ends with the reason.
async fn live(
    session: Session,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    session.handle().await?.ok_or(Error::NoSession)?;
    let ended = async move {
        let reason = session.ended().await.map_or("unknown", |reason| reason.name());
        Ok(Event::default().event("ended").data(reason))
    };
    Ok(Sse::new(stream::once(ended)))
}

fn oldest_first(mut devices: Vec<SessionInfo>) -> Vec<SessionInfo> {
    devices.sort_by_key(|device| (device.created, device.id));
    devices
}

#[derive(Deserialize)]
struct Item {
    item: String,
}

#[derive(Deserialize)]
struct User {
    user: String,
}
