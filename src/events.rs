//! Session events for the application, in addition to those in metrics and logs.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use serde::{Serialize, Serializer};
use steadfast_core::{EndReason, Principal, Realm, RecordId};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

/// A change to sessions that the store confirmed: see
/// [`SessionLayer::on_event`](crate::SessionLayer::on_event).
///
/// It serializes to one flat object: `id`, `at` (RFC 3339), `realm`, `user`, `event`, and the fields of the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionEvent {
    /// Identifies the event: drop an event whose id you have seen.
    pub id: String,
    /// The time of the event. A session that expired ended at its deadline, and is reported later.
    #[serde(serialize_with = "rfc3339")]
    pub at: UtcDateTime,
    /// The realm of the layer. `None` for a visitor's session that ended without a request: stores do not
    /// know its realm.
    #[serde(serialize_with = "realm")]
    pub realm: Option<Realm>,
    /// The user of the session; `None` for a visitor's.
    #[serde(serialize_with = "user")]
    pub user: Option<Principal>,
    /// The kind of event, with its details.
    #[serde(flatten)]
    pub kind: SessionEventKind,
}

/// The kinds of session events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionEventKind {
    /// A session was created.
    #[non_exhaustive]
    Created {
        /// The session.
        session: RecordId,
    },
    /// A user signed in.
    #[non_exhaustive]
    SignedIn {
        /// The session.
        session: RecordId,
        /// The labels, by name and value, that no other live session of the user has; `None` if the
        /// store could not be asked.
        new_labels: Option<Vec<(String, String)>>,
    },
    /// The session's token was replaced without a sign-in.
    #[non_exhaustive]
    Rotated {
        /// The session.
        session: RecordId,
    },
    /// A session ended.
    #[non_exhaustive]
    Ended {
        /// The session.
        session: RecordId,
        /// Why.
        reason: EndReason,
        /// The actor that ended it.
        by: Actor,
    },
    /// All sessions of a user ended, or all but one.
    #[non_exhaustive]
    AllEnded {
        /// How many were live.
        count: u64,
        /// The session that was kept, if any.
        except: Option<RecordId>,
        /// Why.
        reason: EndReason,
        /// The actor that ended them.
        by: Actor,
    },
}

/// The actor that ended a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Actor {
    /// A request of this session. It may be the session that ended.
    Session(RecordId),
    /// The application, through [`Sessions`](crate::Sessions), for the administrator that
    /// [`Sessions::acting_as`](crate::Sessions::acting_as) named.
    Administrator(#[serde(serialize_with = "name")] Option<Arc<str>>),
    /// No one: a deadline passed, the user had too many sessions, or the store needed room.
    System,
}

/// The application's callback. Clones share it.
#[derive(Clone)]
pub(crate) struct Listener(Arc<Callback>);

pub(crate) struct Callback {
    call: Box<dyn Fn(&SessionEvent) + Send + Sync>,
    /// True while a task reports sessions that end without a request.
    is_following: AtomicBool,
}

impl Listener {
    pub(crate) fn new(call: impl Fn(&SessionEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Callback { call: Box::new(call), is_following: AtomicBool::new(false) }))
    }

    /// Returns false if the listener panicked. The panic goes no further: the commit is done, and its
    /// response must still deliver the new token.
    pub(crate) fn tell(&self, event: &SessionEvent) -> bool {
        let told = catch_unwind(AssertUnwindSafe(|| (self.0.call)(event)));
        if told.is_err() {
            tracing::error!(target: "steadfast", event = event.kind.name(), "a listener panicked");
        }
        told.is_ok()
    }

    /// Returns a permit to follow the endings of sessions, if no other task does.
    pub(crate) fn try_follow(&self) -> Option<Follower> {
        // Read first, since nearly every request finds a task that follows.
        let is_free = !self.0.is_following.load(Ordering::Relaxed)
            && !self.0.is_following.swap(true, Ordering::AcqRel);
        is_free.then(|| Follower(Arc::downgrade(&self.0)))
    }
}

/// The permit to follow the endings of sessions. It ends with the task that has it, and does not keep the
/// listener alive.
pub(crate) struct Follower(Weak<Callback>);

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(callback) = self.0.upgrade() {
            callback.is_following.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl SessionEventKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::SignedIn { .. } => "signed_in",
            Self::Rotated { .. } => "rotated",
            Self::Ended { .. } => "ended",
            Self::AllEnded { .. } => "all_ended",
        }
    }
}

fn rfc3339<S: Serializer>(at: &UtcDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = at.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}

fn user<S: Serializer>(user: &Option<Principal>, serializer: S) -> Result<S::Ok, S::Error> {
    user.as_ref().map(Principal::id).serialize(serializer)
}

fn realm<S: Serializer>(realm: &Option<Realm>, serializer: S) -> Result<S::Ok, S::Error> {
    realm.as_ref().map(Realm::as_str).serialize(serializer)
}

fn name<S: Serializer>(name: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_deref().serialize(serializer)
}
