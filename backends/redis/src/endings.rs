//! The queue of sessions that ended without a request.
//!
//! Each record has an entry in a sorted set with a time, from which a node looks whether the
//! session has ended. The record itself is what a report is made of, so nothing is kept twice:
//!
//! - An expired record stays until its end is acknowledged, or for a day.
//! - The cap replaces a record by its *remains*, in the same atomic step.
//!
//! On a single server, a script that moves a deadline also moves the entry. In a cluster, the queue
//! is in other slots, and an entry is written before its record. An entry may be early or have no
//! record, but never be missing: the node that claims it reads the record, and settles the entry if
//! the session is live or was ended by a request.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::cmd;
use steadfast_core::{
    CLAIMED_FOR, EndReason, Ending, Endings, Facts, RecordId, StoreError, Timestamp,
};

use crate::change::Change;
use crate::changes::UNSTAMPED;
use crate::codec::{HEAD, Head, Unpacked, principal};
use crate::keeper::Keeper;
use crate::keys::hex;
use crate::reply;
use crate::request::reason;
use crate::script::{Call, SPARED, Scripts};
use crate::script_reply::unexpected;
use crate::sessions::{Collected, Sessions};

/// The public handle of the queue.
pub(crate) struct Queue(Arc<Sessions>);

impl Queue {
    /// Makes the store keep endings from now on.
    pub(crate) fn of(sessions: &Arc<Sessions>) -> Self {
        sessions.endings.get_or_init(|| Box::new(Keeper::new(sessions.servers.is_split())));
        Self(Arc::clone(sessions))
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

#[async_trait]
impl Endings for Queue {
    async fn claim(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        match self.0.endings.get() {
            Some(keeper) => self.0.claim(keeper, limit).await,
            None => Ok(Vec::new()),
        }
    }

    async fn acknowledge(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        match self.0.endings.get() {
            Some(keeper) => self.0.acknowledge(keeper, ids).await,
            None => Ok(()),
        }
    }
}

impl Sessions {
    /// Returns the scripts to use, and the key that those that write a record need at last: the
    /// queue, if it is on the same server.
    pub(crate) fn writing(&self) -> (&Scripts, Option<String>) {
        match self.endings.get() {
            Some(keeper) => {
                let is_here = !self.servers.is_split();
                (&keeper.scripts, is_here.then(|| self.prefix.queue(0)))
            }
            None => (&self.scripts, None),
        }
    }

    /// In a cluster, enqueues a record before a change that moves its deadline.
    pub(crate) async fn expect_end(
        &self,
        id: RecordId,
        change: &Change<'_>,
    ) -> Result<(), StoreError> {
        match (self.endings.get(), earliest_end(change)) {
            (Some(keeper), Some(ends)) if self.servers.is_split() => {
                self.enqueue(keeper, id, Some(ends + SPARED)).await
            }
            _ => Ok(()),
        }
    }

    /// In a cluster, makes sessions due that the cap ended. Otherwise they are found at the
    /// deadline that they had.
    pub(crate) async fn make_due(&self, ended: &[RecordId]) {
        let Some(keeper) = self.endings.get() else {
            return;
        };
        for id in ended {
            if let Err(error) = self.enqueue(keeper, *id, None).await {
                tracing::debug!(target: "steadfast", %error, "failed to queue the end of a session; it will be reported late");
            }
        }
    }

    /// Makes a session due that has ended without a request. Returns whether it has.
    pub(crate) async fn make_due_if_ended(&self, id: RecordId) -> Result<bool, StoreError> {
        let Some(keeper) = self.endings.get() else {
            return Ok(false);
        };
        let has_ended = matches!(self.fate(id).await?, Fate::Ended(_));
        if has_ended {
            self.enqueue(keeper, id, None).await?;
        }
        Ok(has_ended)
    }

    /// Enqueues a record for a time at which it may have ended; `None` if it has.
    async fn enqueue(
        &self,
        keeper: &Keeper,
        id: RecordId,
        time: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let queue = self.prefix.queue(keeper.queue_of(id));
        let mut args = self.args(UNSTAMPED);
        args.bytes(hex(id).as_bytes()).maybe_time(time).flag(time.is_none());
        let call = keeper.queue.enqueue.on(&[&queue], &args);
        self.run(&queue, call.repeatable()).await.map(drop)
    }

    async fn claim(&self, keeper: &Keeper, limit: usize) -> Result<Vec<Ending>, StoreError> {
        let (mut endings, mut failure) = (Vec::new(), None);
        for queue in keeper.all() {
            let queue = self.prefix.queue(queue);
            let claimed = self.claim_from(keeper, &queue, limit, &mut endings).await;
            failure = failure.or(claimed.err());
        }
        // Claimed endings are reported, even if a server of a cluster does not answer.
        match failure {
            Some(error) if endings.is_empty() => Err(error),
            _ => Ok(endings),
        }
    }

    /// Claims entries of a queue until there are `limit` endings, or no entry is due.
    async fn claim_from(
        &self,
        keeper: &Keeper,
        queue: &str,
        limit: usize,
        endings: &mut Vec<Ending>,
    ) -> Result<(), StoreError> {
        while endings.len() < limit {
            let wanted = (limit - endings.len()).min(PAGE);
            let until = self.env.now() + CLAIMED_FOR;
            let entries = self.claim_entries(keeper, queue, wanted, until).await?;
            let fates = join_all(entries.iter().map(|(id, _)| self.fate(*id))).await;
            let (mut settled, mut failure) = (Vec::new(), None);
            for ((id, due), fate) in entries.iter().zip(fates) {
                match fate {
                    Ok(Fate::Ended(ending)) if self.is_spared(&ending, *due) => {
                        settled.push((*id, Some(ending.at + SPARED)));
                    }
                    Ok(Fate::Ended(ending)) => endings.push(ending),
                    Ok(Fate::Live(deadline)) => settled.push((*id, Some(deadline + SPARED))),
                    Ok(Fate::Absent) => settled.push((*id, None)),
                    Err(error) => failure = Some(error),
                }
            }
            self.settle(keeper, queue, until, &settled).await?;
            if let Some(error) = failure {
                return Err(error);
            }
            if entries.len() < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Returns true if a session that expired is not reported yet. An entry that was due before the
    /// deadline was an estimate; see [`earliest_end`].
    fn is_spared(&self, ending: &Ending, due: Timestamp) -> bool {
        let is_expired = ending.reason == EndReason::Expired;
        is_expired && due < ending.at && self.env.now() < ending.at + SPARED
    }

    /// Claims entries of a queue. Returns the time at which each was due.
    async fn claim_entries(
        &self,
        keeper: &Keeper,
        queue: &str,
        most: usize,
        until: Timestamp,
    ) -> Result<Vec<(RecordId, Timestamp)>, StoreError> {
        let mut args = self.args(UNSTAMPED);
        args.u32(most).time(until);
        let call = keeper.queue.claim.on(&[queue], &args);
        let mut answer = self.run(queue, call.once()).await?;
        let count = answer.take(Unpacked::u32).ok_or_else(unexpected)?;
        (0..count).map(|_| answer.take(entry).ok_or_else(unexpected)).collect()
    }

    /// Gives claimed entries another time, or removes them.
    async fn settle(
        &self,
        keeper: &Keeper,
        queue: &str,
        claimed: Timestamp,
        settled: &[(RecordId, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        if settled.is_empty() {
            return Ok(());
        }
        let mut args = self.args(UNSTAMPED);
        args.time(claimed).u32(settled.len());
        for (id, time) in settled {
            args.bytes(hex(*id).as_bytes()).maybe_time(*time);
        }
        let call = keeper.queue.settle.on(&[queue], &args);
        self.run(queue, call.repeatable()).await.map(drop)
    }

    /// Looks at what is stored of a session.
    async fn fate(&self, id: RecordId) -> Result<Fate, StoreError> {
        let (key, now) = (self.prefix.record(id), self.env.now());
        let command = cmd("HMGET").arg(&key).arg(&HEAD).arg(REMAINS).to_owned();
        let fields = match self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await {
            Err(fault) if fault.is_wrong_type() => return Ok(Fate::Absent),
            answer => reply::items(answer?),
        };
        if let Some(Head { record, .. }) = Head::of(&fields) {
            if !record.is_expired(now) {
                return Ok(Fate::Live(record.deadline()));
            }
            let (at, reason) = (record.deadline(), EndReason::Expired);
            return Ok(Fate::Ended(Ending { id, principal: record.principal, reason, at }));
        }
        let remains = fields.get(HEAD.len()).and_then(reply::bytes);
        Ok(remains.and_then(|remains| ending(id, remains)).map_or(Fate::Absent, Fate::Ended))
    }

    async fn acknowledge(&self, keeper: &Keeper, ids: &[RecordId]) -> Result<(), StoreError> {
        for ids in ids.chunks(PAGE) {
            let collected = join_all(ids.iter().map(|id| self.collect_one(*id))).await;
            let mut gone = vec![Vec::new(); keeper.queues.into()];
            let mut failure = None;
            for (id, collected) in ids.iter().zip(collected) {
                match collected {
                    // A node with another clock has used it. It ends later.
                    Ok(Collected::Live) => {}
                    Ok(_) => gone[usize::from(keeper.queue_of(*id))].push(hex(*id)),
                    Err(error) => failure = Some(error),
                }
            }
            for (number, members) in (0..).zip(gone).filter(|(_, members)| !members.is_empty()) {
                let queue = self.prefix.queue(number);
                let command = cmd("ZREM").arg(&queue).arg(members).to_owned();
                self.servers.call(queue.as_bytes(), &Call::repeatable(&command)).await?;
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The state of a session with an entry in the queue.
enum Fate {
    /// It is live until this deadline.
    Live(Timestamp),
    /// It ended without a request.
    Ended(Ending),
    /// A request ended it, or the server lost it.
    Absent,
}

/// Parses an id and a time.
fn entry(from: &mut Unpacked<'_>) -> Option<(RecordId, Timestamp)> {
    Some((std::str::from_utf8(from.bytes(32)?).ok()?.parse().ok()?, from.time()?))
}

/// Parses remains: the time, the reason and the principal. See `endings.lua`.
fn ending(id: RecordId, remains: &[u8]) -> Option<Ending> {
    let mut from = Unpacked(remains);
    let (at, reason) = (from.time()?, from.u8().and_then(reason)?);
    Some(Ending { id, principal: Some(principal(from.0)?), reason, at })
}

/// Returns the earliest time at which the record may expire after a change, if the change moves a
/// deadline.
fn earliest_end(change: &Change<'_>) -> Option<Timestamp> {
    let patch = match change {
        Change::Create(record, _) => return Some(record.deadline()),
        Change::Patch(patch) => patch,
    };
    let authentication = patch.rotation().and_then(|rotation| rotation.authentication.as_ref());
    let Some(authentication) = authentication else {
        return patch.idle_deadline();
    };
    let own_idle = authentication.facts.as_ref().and_then(Facts::idle);
    let ends = [
        // The patch may leave the idle deadline alone, and the record's is not known here.
        patch.idle_deadline().unwrap_or(authentication.at),
        authentication.absolute_deadline,
    ];
    let own_idle = own_idle.map(|own_idle| authentication.at + own_idle);
    ends.into_iter().chain(own_idle).min()
}

/// The field in place of a record that the cap ended.
const REMAINS: &str = "x!";

/// The number of entries that are claimed or acknowledged together.
const PAGE: usize = 500;
