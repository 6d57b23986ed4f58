//! An audit log, one JSON line per event, and a line of mail about a new device.

use std::io;

use steadfast::{Realm, SessionEvent, SessionEventKind};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The way into the log: a channel, because a listener of events must not wait.
#[derive(Clone, Debug)]
pub struct Audit(UnboundedSender<SessionEvent>);

impl Audit {
    /// Returns the log, and the events that [`write()`] writes.
    pub fn new() -> (Self, UnboundedReceiver<SessionEvent>) {
        let (events, queue) = unbounded_channel();
        (Self(events), queue)
    }

    /// Returns the listener of a layer.
    pub(crate) fn listener(&self) -> impl Fn(&SessionEvent) + Send + Sync + 'static {
        let events = self.0.clone();
        // Without a task that writes, there is no log to add to.
        move |event| drop(events.send(event.clone()))
    }
}

/// Writes entries until every [`Audit`] is dropped.
///
/// # Errors
///
/// When a line cannot be written.
pub async fn write(
    mut queue: UnboundedReceiver<SessionEvent>,
    mut log: impl AsyncWrite + Unpin,
    mut mails: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(event) = queue.recv().await {
        log.write_all(format!("{}\n", serde_json::to_string(&event)?).as_bytes()).await?;
        log.flush().await?;
        if let Some(mail) = mail(&event) {
            mails.write_all(mail.as_bytes()).await?;
            mails.flush().await?;
        }
    }
    Ok(())
}

/// The mail to a user who signed in on a device that no other session of theirs has.
fn mail(event: &SessionEvent) -> Option<String> {
    let SessionEventKind::SignedIn { new_labels: Some(labels), .. } = &event.kind else {
        return None;
    };
    let (_, device) = labels.iter().find(|(name, _)| name == "device")?;
    let user = event.user.as_ref().filter(|user| *user.realm() == Realm::default())?;
    Some(format!("Mail to {}: new sign-in from {device}\n", user.id()))
}
