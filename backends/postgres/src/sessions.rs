//! What the store does: every operation, one statement each.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::{
    Absence, Admission, Applied, Carry, Deleted, Deletion, Env, Event, Found, Limits, Lookup,
    Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, Scan, Scanned, SessionInfo,
    Stats, StoreError, Timestamp, Verdict, Version,
};

use crate::changes::Changes;
use crate::connection::{Argument, Malformed, Row};
use crate::patches::{Arguments, bound, ended, given};
use crate::pool::{Pool, Resend};
use crate::rows::{self, millis, text};
use crate::shares::{Share, Shares};
use crate::statements::Statements;
use crate::sweep::Sweeper;

/// Everything a store shares with its clones.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    pub(crate) shares: Arc<Shares>,
    pub(crate) statements: Statements,
    pub(crate) changes: Changes,
    pub(crate) sweeper: Option<Sweeper>,
}

impl Sessions {
    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: &Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        if let Err(error) = self.limits.check_values(&record.values) {
            return self.refuse_new(id, record, error.into()).await;
        }
        let new = New::of(record, admission)?;
        let sending = new.send(&self.pool, &self.statements, id, self.env.now());
        let row = one(self.locking(record.principal.as_ref(), None, sending).await?)?;
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
        let Ok(record) = rows::record(&row) else {
            Event::CorruptRecord.emit(Some(id));
            return Ok(Lookup::Absent(Absence::Unknown));
        };
        let verdict = proof.map_or(Verdict::Right, |proof| record.verify(proof, now));
        Ok(match (verdict, record.is_expired(now)) {
            (Verdict::Right, true) => Lookup::Absent(Absence::Expired),
            (Verdict::Right, false) => {
                Lookup::Found(Found { id, record: Arc::new(record), carry: Carry::default() })
            }
            (Verdict::Superseded, false) => Lookup::Superseded,
            (Verdict::UnknownKey(key), false) => return Err(StoreError::UnknownKey(key)),
            _ => Lookup::Absent(Absence::Unknown),
        })
    }

    pub(crate) async fn update(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let arguments = Arguments::of(patch, &self.limits)?;
        let Statements { patch: statement, channel, .. } = &self.statements;
        let login = patch.rotation().and_then(|rotation| rotation.authentication.as_ref());
        let principal = login.and_then(|login| login.principal.as_ref());
        let sending = arguments.send(&self.pool, statement, channel.as_deref(), id, self.env.now());
        let outcome = arguments.outcome(&one(self.locking(principal, Some(id), sending).await?)?);
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
        let Statements { delete, channel, .. } = &self.statements;
        let (proof, now) = (deletion.proof.map(rows::hashes), millis(self.env.now()));
        let arguments: [Argument<'_>; 4] = [&id.as_uuid(), &proof, &now, channel];
        // Ids are used once: what a late delete finds is what it was to end.
        let deleting = self.pool.rows(Resend::Freely, delete, &arguments);
        let Some(row) = self.locking(None, Some(id), deleting).await?.pop() else {
            return Ok(Deleted::Gone);
        };
        let was_live: bool = row.get(0).map_err(StoreError::refused)?;
        if was_live {
            return Ok(Deleted::Ended);
        }
        Event::Expired.emit(Some(id));
        Ok(Deleted::Gone)
    }

    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let (realm, now) = (principal.realm().as_str(), millis(self.env.now()));
        let arguments: [Argument<'_>; 3] = [&realm, &principal.id(), &now];
        let rows = self.pool.rows(Resend::Freely, &self.statements.list, &arguments);
        Ok(rows.await?.iter().filter_map(|row| rows::session(row).ok()).collect())
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> Result<u64, StoreError> {
        let now = self.env.now();
        let arguments: [Argument<'_>; 7] = [
            &principal.realm().as_str(),
            &principal.id(),
            &except.map(|id| id.as_uuid()),
            &epoch.map(rows::epoch),
            &millis(now),
            &millis(now + FLOOR_KEPT),
            &self.statements.channel,
        ];
        // A late one would end sessions that began after it.
        let ending = self.pool.rows(Resend::Never, &self.statements.end_all, &arguments);
        let row = one(self.locking(Some(principal), None, ending).await?)?;
        for expired in ended(&row, 1).map_err(StoreError::refused)? {
            Event::Expired.emit(Some(expired));
        }
        Ok(row.get::<i64>(0).map_err(StoreError::refused)? as u64)
    }

    /// Ends at most `limit` records that expired before `due`, and says how many.
    pub(crate) async fn collect(&self, due: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let Statements { collect, channel, .. } = &self.statements;
        let arguments: [Argument<'_>; 3] = [&millis(due), &limit, channel];
        let rows = self.pool.rows(Resend::Freely, collect, &arguments).await?;
        for id in rows.iter().filter_map(|row| rows::id(row).ok()) {
            Event::Expired.emit(Some(id));
        }
        Ok(rows.len() as u64)
    }

    /// Forgets at most `limit` principals who have no floor and did not sign in lately.
    pub(crate) async fn collect_principals(
        &self,
        due: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let statement = &self.statements.collect_principals;
        let rows = self.pool.rows(Resend::Freely, statement, &[&millis(due), &limit]).await?;
        Ok(rows.len() as u64)
    }

    pub(crate) async fn scan(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Scan, StoreError> {
        let (from, most) = (after.map(|id| id.as_uuid()), bound(limit).saturating_add(1));
        let rows = self.pool.rows(Resend::Freely, &self.statements.scan, &[&from, &most]).await?;
        let scanned = rows.iter().take(limit).map(|row| {
            let id = rows::id(row).map_err(StoreError::refused)?;
            Ok(Scanned { id, record: rows::record(row).ok().map(Arc::new) })
        });
        let records = scanned.collect::<Result<Vec<_>, StoreError>>()?;
        let next = records.last().map(|scanned| scanned.id).or(after);
        Ok(Scan { records, next: next.filter(|_| rows.len() > limit) })
    }

    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let row = one(self.pool.rows(Resend::Freely, &self.statements.stats, &[]).await?)?;
        let count = |column: usize| {
            let count = row.get::<i64>(column).map_err(StoreError::refused)?;
            Ok::<_, StoreError>(count as u64)
        };
        Ok(Stats { records: count(0)?, authenticated: count(1)?, bytes: count(2)? })
    }

    async fn row(&self, id: RecordId) -> Result<Option<Row>, StoreError> {
        let id = id.as_uuid();
        Ok(self.pool.rows(Resend::Freely, &self.statements.load, &[&id]).await?.pop())
    }

    /// A call that may have to wait for the lock of a principal, and then of a record.
    async fn locking<T>(
        &self,
        principal: Option<&Principal>,
        record: Option<RecordId>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
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

    /// A record that is there already counts more than a limit.
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

/// A record as the arguments of its statement.
struct New<'r> {
    record: &'r Record,
    admission: Admission,
    version: i64,
    fence: i64,
    values: (Vec<&'r str>, Vec<&'r str>),
}

impl<'r> New<'r> {
    fn of(record: &'r Record, admission: Admission) -> Result<Self, StoreError> {
        let mut values = (Vec::new(), Vec::new());
        for (key, value) in record.values.iter() {
            values.0.push(key);
            values.1.push(text(value)?);
        }
        let (version, fence) = (rows::whole(record.version.0)?, rows::whole(record.fence())?);
        Ok(Self { record, admission, version, fence, values })
    }

    async fn send(
        &self,
        pool: &Pool,
        statements: &Statements,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Vec<Row>, StoreError> {
        let record = self.record;
        let principal = record.principal.as_ref();
        let replaced = record.replaced.as_ref();
        let arguments: [Argument<'_>; 20] = [
            &id.as_uuid(),
            &millis(now),
            &statements.channel,
            &rows::hash(&record.secret),
            &replaced.map(|replaced| rows::hash(&replaced.hash)),
            &replaced.map(|replaced| millis(replaced.until)),
            &self.version,
            &given(&self.values.0),
            &given(&self.values.1),
            &(record.values.size() as i32),
            &millis(record.created),
            &record.authenticated.map(millis),
            &millis(record.idle_deadline),
            &millis(record.absolute_deadline),
            &principal.map(|principal| principal.realm().as_str()),
            &principal.map(Principal::id),
            &record.owner.as_ref().map(|owner| owner.label.as_str()),
            &self.fence,
            &bound(self.admission.cap),
            &self.admission.epoch.map(rows::epoch),
        ];
        // A late one would bring back what was ended after it.
        pool.rows(Resend::Never, &statements.create, &arguments).await
    }

    fn outcome(&self, row: &Row) -> Result<Outcome, Malformed> {
        Ok(match row.get(0)? {
            "applied" => {
                let version = Version(row.get::<i64>(1)? as u64);
                Outcome::Applied(Applied { ended: ended(row, 2)?, ..Applied::at(version) })
            }
            "exists" => Outcome::Exists,
            "below floor" => Outcome::Rejected(Rejection::BelowFloor),
            other => return Err(format!("unexpected verdict {other:?}").into()),
        })
    }
}

fn one(mut rows: Vec<Row>) -> Result<Row, StoreError> {
    rows.pop().ok_or_else(|| StoreError::refused("the database answers nothing"))
}

/// How long a floor is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
