//! A user in the room, for as long as their session lives.

use serde::Serialize;
use steadfast::{Error, Key, Session, SessionChange, SessionChanges, SignedIn};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::room::{Line, Room};

pub(crate) const NICKNAME: Key<String> = Key::new("nickname");

/// A message that a stream or a socket sends on.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Heard {
    Line(Line),
    Nickname { nickname: String },
    Ended { reason: &'static str },
}

pub(crate) struct Member {
    session: Session,
    user: String,
    nickname: String,
    changes: SessionChanges,
    room: Room,
    lines: Receiver<Line>,
}

impl Member {
    pub(crate) async fn enter(user: SignedIn, room: Room) -> Result<Self, Error> {
        let (user, session) = (user.id().to_owned(), user.session().clone());
        let nickname = session.get(NICKNAME).await?.unwrap_or_else(|| user.clone());
        let (changes, lines) = (session.changes(), room.listen());
        Ok(Self { session, user, nickname, changes, room, lines })
    }

    /// Waits for the next event. It may be dropped and called again.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                change = self.changes.next() => match change {
                    Ok(SessionChange::Ended(reason)) => {
                        return Heard::Ended { reason: reason.name() };
                    }
                    Ok(_) if self.is_renamed().await => {
                        return Heard::Nickname { nickname: self.nickname.clone() };
                    }
                    Ok(_) => {}
                    Err(_) => return Heard::Ended { reason: "unknown" },
                },
                line = self.lines.recv() => match line {
                    Ok(line) => return Heard::Line(line),
                    // A slow reader misses some.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Heard::Ended { reason: "shutdown" },
                },
            }
        }
    }

    /// Says something. That is a use of the session, and keeps it alive as a request would.
    pub(crate) async fn say(&self, text: String) -> Result<(), Error> {
        self.session.touch().await?;
        self.room.say(Line { from: self.nickname.clone(), text });
        Ok(())
    }

    /// Returns true if another request changed the user's name.
    async fn is_renamed(&mut self) -> bool {
        let nickname = self.session.get(NICKNAME).await.ok().flatten();
        let nickname = nickname.unwrap_or_else(|| self.user.clone());
        let before = std::mem::replace(&mut self.nickname, nickname);
        before != self.nickname
    }
}
