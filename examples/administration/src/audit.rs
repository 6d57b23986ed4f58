//! An audit log, one JSON line per event, and a line of mail about a new device.

use std::io;

use serde::Serialize;
use steadfast::{Actor, Realm, SessionEvent, SessionEventKind};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The way into the log: a channel, because a listener of events must not wait.
#[derive(Clone, Debug)]
pub struct Audit(UnboundedSender<Entry>);

/// An entry of the log.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Entry {
    /// An event of a session of a realm.
    #[allow(missing_docs)]
    Event {
        realm: String,
        #[serde(flatten)]
        event: SessionEvent,
    },
    /// The action that an administrator begins: events do not say which one it was.
    #[allow(missing_docs)]
    Act { at: String, administrator: String, act: &'static str, to: String },
}

impl Audit {
    /// The log, and the entries that [`write()`] writes.
    pub fn new() -> (Self, UnboundedReceiver<Entry>) {
        let (entries, queue) = unbounded_channel();
        (Self(entries), queue)
    }

    /// Returns the listener of a realm.
    ///
    /// Sessions that end without a request are reported by the layer of any realm. So the realm is that of
    /// the user, and what became of a visitor is not logged.
    pub(crate) fn listener(&self, realm: &Realm) -> impl Fn(&SessionEvent) + Send + Sync + 'static {
        let (audit, realm) = (self.clone(), realm.clone());
        move |event| {
            let by_request =
                !matches!(event.kind, SessionEventKind::Ended { by: Actor::System, .. });
            let realm = match &event.user {
                Some(user) => user.realm(),
                None if by_request => &realm,
                None => return,
            };
            audit.add(Entry::Event { realm: realm.as_str().into(), event: event.clone() });
        }
    }

    pub(crate) fn act(&self, administrator: &str, act: &'static str, to: &str) {
        let at = UtcDateTime::now().format(&Rfc3339).expect("the year has four digits");
        self.add(Entry::Act { at, administrator: administrator.into(), act, to: to.into() });
    }

    fn add(&self, entry: Entry) {
        // Without a task that writes, there is no log to add to.
        self.0.send(entry).ok();
    }
}

/// Writes entries until every [`Audit`] is dropped.
///
/// # Errors
///
/// When a line cannot be written.
pub async fn write(
    mut queue: UnboundedReceiver<Entry>,
    mut log: impl AsyncWrite + Unpin,
    mut mails: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    while let Some(entry) = queue.recv().await {
        log.write_all(format!("{}\n", serde_json::to_string(&entry)?).as_bytes()).await?;
        log.flush().await?;
        if let Some(mail) = mail(&entry) {
            mails.write_all(mail.as_bytes()).await?;
            mails.flush().await?;
        }
    }
    Ok(())
}

/// The mail to a user who signed in on a device that no other session of theirs has.
fn mail(entry: &Entry) -> Option<String> {
    let Entry::Event { event, .. } = entry else { return None };
    let SessionEventKind::SignedIn { new_labels: Some(labels), .. } = &event.kind else {
        return None;
    };
    let (_, device) = labels.iter().find(|(name, _)| name == "device")?;
    let user = event.user.as_ref().filter(|user| *user.realm() == Realm::default())?;
    Some(format!("Mail to {}: new sign-in from {device}\n", user.id()))
}
