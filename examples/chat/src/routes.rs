//! The pages and calls of the chat, its event stream and its WebSocket.

use std::convert::Infallible;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use steadfast::{Error, Session, SignedIn};
use tower_http::csrf::CsrfLayer;

use crate::member::{Heard, Member, NICKNAME};
use crate::room::Room;

pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/nickname", post(nickname))
        .route("/say", post(say))
        .route("/live", get(live))
        .route("/socket", get(socket))
        .layer(CsrfLayer::new())
        .with_state(Room::new())
}

async fn page(user: Option<SignedIn>) -> Html<&'static str> {
    match user {
        Some(_) => Html(include_str!("chat.html")),
        None => Html(include_str!("door.html")),
    }
}

/// Signs in any name: a real application checks a password here.
async fn login(session: Session, Form(form): Form<Said>) -> Result<Redirect, Error> {
    session.login(form.user).await?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> Result<Redirect, Error> {
    session.flush().await?;
    Ok(Redirect::to("/"))
}

/// Sets a value of the session, which every open stream of the user reports.
async fn nickname(user: SignedIn, Form(form): Form<Said>) -> Result<StatusCode, Error> {
    user.session().insert(NICKNAME, form.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn say(
    State(room): State<Room>,
    user: SignedIn,
    Form(form): Form<Said>,
) -> Result<StatusCode, Error> {
    Member::enter(user, room).await?.say(form.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Streams the user's messages until the session is over.
async fn live(
    State(room): State<Room>,
    user: SignedIn,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    let member = Member::enter(user, room).await?;
    Ok(Sse::new(stream::unfold(Some(member), |member| async move {
        let mut member = member?;
        let heard = member.hear().await;
        let is_last = matches!(heard, Heard::Ended { .. });
        Some((Ok(event(&heard)), (!is_last).then_some(member)))
    })))
}

fn event(heard: &Heard) -> Event {
    match heard {
        Heard::Line(line) => Event::default().event("line").data(json(line)),
        Heard::Nickname { nickname } => Event::default().event("nickname").data(json(nickname)),
        Heard::Ended { reason } => Event::default().event("ended").data(reason),
    }
}

/// The same both ways.
async fn socket(
    State(room): State<Room>,
    user: SignedIn,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Error> {
    // A browser opens sockets for pages of any site, and a cross-site check of unsafe methods lets them pass.
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin") {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let member = Member::enter(user, room).await?;
    Ok(upgrade.on_upgrade(|socket| talk(socket, member)))
}

/// Ends with the session, or when the client goes away.
async fn talk(mut socket: WebSocket, mut member: Member) {
    loop {
        tokio::select! {
            heard = member.hear() => {
                let sent = socket.send(Message::text(json(&heard))).await;
                if let Heard::Ended { reason } = heard {
                    let (code, reason) = (close_code::NORMAL, reason.into());
                    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason }))).await;
                    return;
                }
                if sent.is_err() {
                    return;
                }
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    // If the session is over, that is the next thing heard.
                    let _ = member.say(text.to_string()).await;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a line is JSON")
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    user: String,
    #[serde(default)]
    text: String,
}
