//! The operations of the store. Each is one statement.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Absence, Applied, AtCap, CLAIMED_FOR, ClientState, Deleted, Deletion, Ending, Env, Event,
    Facts, Found, Limits, LoginPolicy, Lookup, Outcome, Patch, Principal, Probe, Proof, Record,
    RecordId, Rejection, Revocation, Scan, Scanned, SessionInfo, Stats, StoreError, Timestamp,
    Verdict, Version,
};

use crate::changes::Changes;
use crate::connection::{Argument, Malformed, Row};
use crate::database::{Database, Resend};
use crate::endings::{self, Keeper};
use crate::patches::{Arguments, ended, non_empty, to_i64_saturating};
use crate::rows::{self, compared, text};
use crate::shares::{Share, Shares};
use crate::statements::Statements;

/// The state that a store shares with its clones.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) database: Database,
    pub(crate) shares: Arc<Shares>,
    pub(crate) statements: Statements,
    /// `None` if changes are not recorded.
    pub(crate) changes: Option<Changes>,
    pub(crate) keeper: Keeper,
    pub(crate) probe: Probe,
}

impl Sessions {
    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: &Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        if let Err(error) = self.limits.check_values(&record.values) {
            return self.refuse_new(id, record, error.into()).await;
        }
        let new = New::of(record, policy)?;
        let sending = new.send(self, id);
        let row = one(self.locking(record.principal.as_ref(), None, sending).await?)?;
        self.take_note(&row, 3, 4)?;
        new.outcome(&row).map_err(StoreError::refused)
    }

    pub(crate) async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
    ) -> Result<Lookup, StoreError> {
        let now = self.env.now();
        let Some(row) = self.row(id).await? else {
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        let record = match rows::record(&row) {
            Err(StoreError::Corrupt(_)) => {
                Event::CorruptRecord.emit(Some(id));
                return Ok(Lookup::Absent(Absence::Unknown));
            }
            record => record?,
        };
        let verdict = proof.map_or(Verdict::Right, |proof| record.verify(proof, now));
        Ok(match (verdict, record.is_expired(now)) {
            (Verdict::Right, true) => Lookup::Absent(Absence::Expired),
            (Verdict::Right, false) => Lookup::Found(Found {
                id,
                record: Arc::new(record),
                client_state: ClientState::default(),
            }),
            (Verdict::Superseded, false) => Lookup::Superseded,
            (Verdict::UnknownKey(key), false) => return Err(StoreError::UnknownKey(key)),
            _ => Lookup::Absent(Absence::Unknown),
        })
    }

    pub(crate) async fn update(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let arguments = Arguments::of(patch, &self.limits)?;
        let login = patch.rotation().and_then(|rotation| rotation.authentication.as_ref());
        let principal = login.and_then(|login| login.principal.as_ref());
        let (statement, now) = (&self.statements.patch, self.env.now());
        let sending = arguments.send(&self.database, statement, self.tells(), id, now);
        let row = one(self.locking(principal, Some(id), sending).await?)?;
        self.take_note(&row, 4, 5)?;
        let outcome = arguments.outcome(&row);
        if let Err(StoreError::Corrupt(_)) = outcome {
            Event::CorruptRecord.emit(Some(id));
        }
        outcome
    }

    pub(crate) async fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        let arguments: [Argument<'_>; 6] = [
            ("id", &id.as_uuid()),
            ("now", &self.env.now().as_millis()),
            ("tells", &self.tells()),
            ("proof", &deletion.proof.map(|proof| compared(proof.hashes()))),
            ("sign_in", &deletion.sign_in.map(to_i64_saturating)),
            ("reason", &deletion.reason.name()),
        ];
        // Ids are never reused, so a late delete can only find the record it was meant for.
        let ending = self.database.rows(Resend::Freely, &self.statements.end, &arguments);
        let row = one(self.locking(None, Some(id), ending).await?)?;
        self.ring_if_told(&row, 1)?;
        match row.get(0).map_err(StoreError::refused)? {
            "ended" => Ok(Deleted::Ended),
            "superseded" => Ok(Deleted::Superseded),
            "gone" => Ok(Deleted::Gone),
            "expired" => {
                Event::Expired.emit(Some(id));
                Ok(Deleted::Gone)
            }
            "unknown key" => {
                let hash = row.get(2).and_then(rows::secret_hash).map_err(StoreError::refused)?;
                Err(StoreError::UnknownKey(hash.key()))
            }
            other => Err(StoreError::refused(format!("unexpected verdict {other:?}"))),
        }
    }

    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let arguments: [Argument<'_>; 3] = [
            ("realm", &principal.realm().as_str()),
            ("principal", &principal.id()),
            ("now", &self.env.now().as_millis()),
        ];
        let rows = self.database.rows(Resend::Freely, &self.statements.list, &arguments).await?;
        Ok(rows.iter().filter_map(|row| rows::session(row).ok()).collect())
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        revocation: Revocation,
    ) -> Result<u64, StoreError> {
        let now = self.env.now();
        let arguments: [Argument<'_>; 8] = [
            ("realm", &principal.realm().as_str()),
            ("principal", &principal.id()),
            ("now", &now.as_millis()),
            ("tells", &self.tells()),
            ("except", &revocation.except.map(|id| id.as_uuid())),
            ("epoch", &revocation.epoch.map(rows::epoch)),
            ("floor_until", &(now + FLOOR_KEPT).as_millis()),
            ("reason", &revocation.reason.name()),
        ];
        // A late repetition would end sessions that began after the first attempt.
        let ending = self.database.rows(Resend::Never, &self.statements.end_all, &arguments);
        let row = one(self.locking(Some(principal), None, ending).await?)?;
        self.take_note(&row, 1, 2)?;
        Ok(row.get::<i64>(0).map_err(StoreError::refused)? as u64)
    }

    /// Removes at most `limit` records that expired before `due`. Returns their number, and whether
    /// there are more.
    pub(crate) async fn collect(
        &self,
        due: Timestamp,
        limit: i64,
    ) -> Result<(u64, bool), StoreError> {
        let arguments: [Argument<'_>; 4] = [
            ("due", &due.as_millis()),
            ("limit", &limit),
            ("known", &i32::from(Record::FORMAT)),
            ("tells", &self.tells()),
        ];
        self.endings_are_kept().await?;
        let rows = self.database.rows(Resend::Freely, &self.statements.collect, &arguments).await?;
        let row = one(rows)?;
        let is_all: bool = row.get(2).map_err(StoreError::refused)?;
        Ok((self.take_note(&row, 0, 1)?, !is_all))
    }

    /// Claims endings, and asks the database to keep further ones.
    pub(crate) async fn claim_endings(&self, limit: usize) -> Result<Vec<Ending>, StoreError> {
        let now = self.env.now();
        let arguments: [Argument<'_>; 3] = [
            ("now", &now.as_millis()),
            ("until", &(now + CLAIMED_FOR).as_millis()),
            ("limit", &to_i64_saturating(limit)),
        ];
        // A claim whose answer was lost lapses.
        let rows = self.database.rows(Resend::Freely, &self.statements.claim, &arguments).await?;
        rows.iter().map(|row| endings::ending(row).map_err(StoreError::refused)).collect()
    }

    pub(crate) async fn acknowledge_endings(&self, ids: &[RecordId]) -> Result<(), StoreError> {
        let ids: Vec<_> = ids.iter().map(RecordId::as_uuid).collect();
        let statement = &self.statements.acknowledge;
        self.database.rows(Resend::Freely, statement, &[("ids", &ids)]).await.map(drop)
    }

    pub(crate) async fn scan(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Scan, StoreError> {
        let arguments: [Argument<'_>; 2] = [
            ("after", &after.map(|id| id.as_uuid())),
            ("limit", &to_i64_saturating(limit).saturating_add(1)),
        ];
        let rows = self.database.rows(Resend::Freely, &self.statements.scan, &arguments).await?;
        let scanned = rows.iter().take(limit).map(|row| {
            let id = rows::id(row).map_err(StoreError::refused)?;
            Ok(Scanned { id, record: rows::record(row).ok().map(Arc::new) })
        });
        let records = scanned.collect::<Result<Vec<_>, StoreError>>()?;
        let next = records.last().map(|scanned| scanned.id).or(after);
        Ok(Scan { records, next: next.filter(|_| rows.len() > limit) })
    }

    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let row = one(self.database.rows(Resend::Freely, &self.statements.stats, &[]).await?)?;
        let count = |column: usize| {
            let count = row.get::<i64>(column).map_err(StoreError::refused)?;
            Ok::<_, StoreError>(count as u64)
        };
        Ok(Stats { records: count(0)?, authenticated: count(1)?, bytes: count(2)? })
    }

    async fn row(&self, id: RecordId) -> Result<Option<Row>, StoreError> {
        let id = id.as_uuid();
        Ok(self.database.rows(Resend::Freely, &self.statements.load, &[("id", &id)]).await?.pop())
    }

    /// Returns once the database keeps endings, if this node wants them. Every call that can end a
    /// session without a request waits for this first.
    async fn endings_are_kept(&self) -> Result<(), StoreError> {
        self.keeper.ready(|| async { self.claim_endings(0).await.map(drop) }).await
    }

    fn tells(&self) -> bool {
        self.changes.is_some()
    }

    /// Reports the records that the row lists as expired, and notifies listeners of the changes.
    fn take_note(&self, row: &Row, expired: usize, is_told: usize) -> Result<u64, StoreError> {
        let expired = ended(row, expired).map_err(StoreError::refused)?;
        for id in &expired {
            Event::Expired.emit(Some(*id));
        }
        self.ring_if_told(row, is_told)?;
        Ok(expired.len() as u64)
    }

    fn ring_if_told(&self, row: &Row, is_told: usize) -> Result<(), StoreError> {
        let is_told: Option<bool> = row.get(is_told).map_err(StoreError::refused)?;
        if let Some(changes) = self.changes.as_ref().filter(|_| is_told == Some(true)) {
            changes.ring(&self.database);
        }
        Ok(())
    }

    /// Makes a call that may wait for the lock of a principal, then of a record, and that may end
    /// sessions.
    async fn locking<T>(
        &self,
        principal: Option<&Principal>,
        record: Option<RecordId>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.endings_are_kept().await?;
        let mut shares = Vec::with_capacity(2);
        if let Some(principal) = principal {
            shares.push(self.shares.of(principal).await?);
        }
        if let Some(record) = record {
            shares.push(self.shares.of(record).await?);
        }
        let answer = call.await;
        if let Err(StoreError::Busy(_)) = answer {
            shares.iter().for_each(Share::is_stuck);
        }
        answer
    }

    /// Rejects a new record over a limit. An existing record takes precedence over the limit.
    async fn refuse_new(
        &self,
        id: RecordId,
        record: &Record,
        why: Rejection,
    ) -> Result<Outcome, StoreError> {
        let there = self.row(id).await?.map(|row| rows::record(&row));
        Ok(match there {
            None => Outcome::Rejected(why),
            Some(Ok(there)) if there.secret == record.secret => {
                Outcome::Applied(Applied::at(there.version))
            }
            Some(_) => Outcome::Exists,
        })
    }
}

/// A record as arguments of its statement.
struct New<'r> {
    record: &'r Record,
    policy: LoginPolicy,
    version: i64,
    fence: i64,
    values: (Vec<&'r str>, Vec<&'r str>),
}

impl<'r> New<'r> {
    fn of(record: &'r Record, policy: LoginPolicy) -> Result<Self, StoreError> {
        let mut values = (Vec::new(), Vec::new());
        for (key, value) in record.values.iter() {
            values.0.push(key);
            values.1.push(text(value)?);
        }
        let (version, fence) = (rows::whole(record.version.0)?, rows::whole(record.fence())?);
        Ok(Self { record, policy, version, fence, values })
    }

    async fn send(&self, sessions: &Sessions, id: RecordId) -> Result<Vec<Row>, StoreError> {
        let record = self.record;
        let principal = record.principal.as_ref();
        let replaced = record.replaced.as_ref();
        let facts = Some(&record.facts).filter(|facts| !facts.is_empty());
        let arguments: [Argument<'_>; 24] = [
            ("id", &id.as_uuid()),
            ("now", &sessions.env.now().as_millis()),
            ("tells", &sessions.tells()),
            ("format", &i32::from(record.format())),
            ("hash", &record.secret.to_bytes()),
            ("replaced", &replaced.map(|replaced| replaced.hash.to_bytes())),
            ("replaced_until", &replaced.map(|replaced| replaced.until.as_millis())),
            ("version", &self.version),
            ("keys", &non_empty(&self.values.0)),
            ("values", &non_empty(&self.values.1)),
            ("size", &(record.values.size() as i32)),
            ("created", &record.created.as_millis()),
            ("authenticated", &record.authenticated.map(Timestamp::as_millis)),
            ("idle", &record.idle_deadline.as_millis()),
            ("absolute", &record.absolute_deadline.as_millis()),
            ("realm", &principal.map(|principal| principal.realm().as_str())),
            ("principal", &principal.map(Principal::id)),
            ("sign_in", &to_i64_saturating(record.sign_in)),
            ("facts", &facts.map(Facts::as_bytes)),
            ("owner", &record.owner.as_ref().map(|owner| owner.label.as_str())),
            ("fence", &self.fence),
            ("cap", &to_i64_saturating(self.policy.cap)),
            ("epoch", &self.policy.epoch.map(rows::epoch)),
            ("refuses", &(self.policy.at_cap == AtCap::Refuse)),
        ];
        // A late repetition would bring back a record that was ended after the first attempt.
        sessions.database.rows(Resend::Never, &sessions.statements.create, &arguments).await
    }

    fn outcome(&self, row: &Row) -> Result<Outcome, Malformed> {
        Ok(match row.get(0)? {
            "applied" => {
                let version = Version(row.get::<i64>(1)? as u64);
                Outcome::Applied(Applied { ended: ended(row, 2)?, ..Applied::at(version) })
            }
            "exists" => Outcome::Exists,
            "below floor" => Outcome::Rejected(Rejection::StaleEpoch),
            "at cap" => Outcome::Rejected(Rejection::AtCap),
            other => return Err(format!("unexpected verdict {other:?}").into()),
        })
    }
}

fn one(mut rows: Vec<Row>) -> Result<Row, StoreError> {
    rows.pop().ok_or_else(|| StoreError::refused("the database answers nothing"))
}

/// The time that a minimum epoch is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
