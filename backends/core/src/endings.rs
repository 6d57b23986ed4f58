//! Sessions that ended without a request, kept until they are reported.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::outcome::EndReason;
use crate::principal::Principal;
use crate::timestamp::Timestamp;
use crate::token::RecordId;

/// The queue of sessions that ended without a request: they expired, were evicted, or exceeded the cap.
///
/// A store keeps such an ending from the moment at which the session ends until it is
/// [acknowledged](Self::acknowledge). A node that claims it and stops does not lose it: the claim lapses
/// after [`CLAIMED_FOR`], and another node can claim it. So each ending is reported at least once.
///
/// A node keeps endings from its first call of [`SessionStore::endings`](crate::SessionStore::endings) on, so
/// every node should call it. Nodes that share sessions share the queue.
///
/// # What may be missing
///
/// - What a node ended before its first call, and what an earlier release stored.
/// - What the store itself lost: with a process that keeps sessions in memory, with the last copy, or
///   because a server evicted it or failed over.
/// - The oldest endings, if none is acknowledged for a day, or if there are more than the store has room
///   for. The store's documentation says which.
#[async_trait]
pub trait Endings: fmt::Debug + Send + Sync + 'static {
    /// Claims at most `limit` endings for [`CLAIMED_FOR`]. No other call claims them until then.
    ///
    /// A session that expired is in the queue at the latest when
    /// [`Operate::collect`](crate::Operate::collect) has returned.
    ///
    /// # Errors
    ///
    /// Returns an error when the store cannot be asked. Endings that were claimed nevertheless can be
    /// claimed again after [`CLAIMED_FOR`].
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError>;

    /// Removes endings from the queue for good. An id that is not in the queue is ignored.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not confirmed that all of them were removed.
    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError>;
}

/// A session that ended without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The id of the record.
    pub id: RecordId,
    /// The user; `None` for a visitor.
    pub principal: Option<Principal>,
    /// [`Expired`](EndReason::Expired), [`Evicted`](EndReason::Evicted) or [`Cap`](EndReason::Cap).
    pub reason: EndReason,
    /// The time at which it ended: the deadline of a session that expired.
    pub at: Timestamp,
}

impl Ending {
    /// Returns true if endings for this reason are kept, because no request reports them.
    pub const fn is_kept(reason: EndReason) -> bool {
        matches!(reason, EndReason::Expired | EndReason::Evicted | EndReason::Cap)
    }
}

/// The time for which a claimed ending is not claimed again, by the application's clock: 30 s.
pub const CLAIMED_FOR: Duration = Duration::from_secs(30);
