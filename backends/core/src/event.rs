//! What happens to sessions, by name, for logs and metrics.

use crate::token::RecordId;

/// Something worth counting, and worth a line in a log that is asked for it.
///
/// Each is one increment of the counter `steadfast_events_total{event="…"}` of the [`metrics`] facade
/// and one `tracing` event of the target `steadfast`. Neither ever carries a secret, a value, or a
/// principal; a log names a record by its id, which opens nothing; a metric names none.
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
    /// A request came with a token that opens nothing.
    UnknownId,
    /// A request came with a cookie of our name that is no token.
    MalformedId,
    /// A request came with several cookies of our name.
    DuplicateCookie,
    /// A request raced with a rotation.
    Superseded,
    /// A record cannot be read.
    CorruptRecord,
    /// A store call failed.
    StoreError,
    /// A budget ended a session early.
    Capacity,
    /// A request came to another node than its route names.
    Misrouted,
    /// A write is held by fewer copies than configured.
    Degraded,
    /// The authority answered below the version the client has seen.
    RolledBack,
}

impl Event {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Renewed => "renewed",
            Self::Rotated => "rotated",
            Self::Expired => "expired",
            Self::Logout => "logout",
            Self::UnknownId => "unknown_id",
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

    /// Counts the event, and logs it at `debug`.
    pub fn emit(self, id: Option<RecordId>) {
        metrics::counter!("steadfast_events_total", "event" => self.name()).increment(1);
        tracing::debug!(
            target: "steadfast",
            event = self.name(),
            session = id.map(tracing::field::display),
        );
    }
}
