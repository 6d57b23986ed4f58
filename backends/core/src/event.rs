//! Named events of sessions, for logs and metrics.

use std::sync::LazyLock;

use metrics::{Key, Label, Level, Metadata, with_recorder};

use crate::token::RecordId;

/// An event in the life of a session.
///
/// Each event increments the counter `steadfast_events_total{event="…"}` of the [`metrics`] facade
/// and emits a `tracing` event at `debug` with the target `steadfast`. Neither contains a secret, a
/// value or a principal. A log line may name the record's id, which opens nothing; a metric never
/// does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A record was created.
    Created,
    /// An idle deadline was moved.
    Renewed,
    /// A secret was replaced.
    Rotated,
    /// A record ended at a deadline.
    Expired,
    /// A session was ended on purpose.
    Logout,
    /// A request presented a token that opens no session.
    UnknownId,
    /// A request presented the token of an expired session.
    ExpiredId,
    /// A request asked for a session that was lost with its node.
    Lost,
    /// A request presented a session cookie that is not a valid token.
    MalformedId,
    /// A request presented several session cookies.
    DuplicateCookie,
    /// A request raced with a rotation.
    Superseded,
    /// A record could not be read.
    CorruptRecord,
    /// A store call failed.
    StoreError,
    /// A budget ended a session early.
    Capacity,
    /// A request reached a node that its route does not name.
    Misrouted,
    /// A write is held by fewer copies than configured.
    Degraded,
    /// The authority answered with a version older than the client has seen.
    RolledBack,
}

impl Event {
    /// Returns the name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Renewed => "renewed",
            Self::Rotated => "rotated",
            Self::Expired => "expired",
            Self::Logout => "logout",
            Self::UnknownId => "unknown_id",
            Self::ExpiredId => "expired_id",
            Self::Lost => "lost",
            Self::MalformedId => "malformed_id",
            Self::DuplicateCookie => "duplicate_cookie",
            Self::Superseded => "superseded",
            Self::CorruptRecord => "corrupt_record",
            Self::StoreError => "store_error",
            Self::Capacity => "capacity",
            Self::Misrouted => "misrouted",
            Self::Degraded => "degraded",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Counts the event and logs it at `debug`.
    pub fn emit(self, id: Option<RecordId>) {
        let key = &KEYS[self as usize];
        with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(1));
        tracing::debug!(
            target: "steadfast",
            event = self.name(),
            session = id.map(tracing::field::display),
        );
    }

    /// All events, in the order of declaration.
    pub const ALL: [Self; 17] = [
        Self::Created,
        Self::Renewed,
        Self::Rotated,
        Self::Expired,
        Self::Logout,
        Self::UnknownId,
        Self::ExpiredId,
        Self::Lost,
        Self::MalformedId,
        Self::DuplicateCookie,
        Self::Superseded,
        Self::CorruptRecord,
        Self::StoreError,
        Self::Capacity,
        Self::Misrouted,
        Self::Degraded,
        Self::RolledBack,
    ];
}

/// Built once: a key with a label allocates, and some events occur with every request.
static KEYS: LazyLock<[Key; Event::ALL.len()]> = LazyLock::new(|| {
    let key = |event: Event| {
        Key::from_parts("steadfast_events_total", vec![Label::new("event", event.name())])
    };
    Event::ALL.map(key)
});

static METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, Some(module_path!()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_counted_under_its_own_name() {
        for event in Event::ALL {
            let mut labels = KEYS[event as usize].labels();
            assert_eq!(labels.next().map(Label::value), Some(event.name()));
        }
    }
}
