//! The room: every line reaches all members on this node.
//!
//! A chat on several nodes hands its lines on with a broker. Its sessions need nothing: the store tells every
//! node what happens to them.

use serde::Serialize;
use tokio::sync::broadcast::{self, Receiver, Sender};

#[derive(Clone)]
pub(crate) struct Room(Sender<Line>);

#[derive(Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) from: String,
    pub(crate) text: String,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(LINES).0)
    }

    pub(crate) fn say(&self, line: Line) {
        // The room may be empty.
        let _ = self.0.send(line);
    }

    pub(crate) fn listen(&self) -> Receiver<Line> {
        self.0.subscribe()
    }
}

/// The number of lines that wait for a slow reader.
const LINES: usize = 64;
