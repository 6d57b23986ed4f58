//! What the store does: every operation, one statement each.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use steadfast_core::{
    Absence, Admission, Applied, Carry, Deleted, Deletion, Env, Event, Found, Limits, Lookup,
    Outcome, Patch, Principal, Proof, Record, RecordId, Rejection, Scan, Scanned, SessionInfo,
    Stats, StoreError, Timestamp, Verdict, Version,
};

use crate::changes::Changes;
use crate::patches::{Arguments, bound, ended, given};
use crate::pool::{Pool, Resend};
use crate::rows::{self, millis, text};
use crate::statements::Statements;

/// Everything a store shares with its clones.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) pool: Pool,
    pub(crate) statements: Statements,
    pub(crate) changes: Changes,
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
        let rows =
            self.pool.rows(Resend::AfterDeath, || new.bind(&self.statements, id, self.env.now()));
        let row = one(rows.await?)?;
        new.outcome(&row).map_err(StoreError::unavailable)
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
        let rows = self.pool.rows(arguments.resend(), || {
            arguments.bind(statement, channel.as_deref(), id, self.env.now())
        });
        let outcome = arguments.outcome(&one(rows.await?)?);
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
        let proof = deletion.proof;
        let rows = self.pool.rows(Resend::AfterDeath, || {
            sqlx::query(&self.statements.delete)
                .bind(id.as_uuid())
                .bind(proof.map(rows::hashes))
                .bind(millis(self.env.now()))
                .bind(&self.statements.channel)
        });
        let Some(row) = rows.await?.pop() else {
            return Ok(Deleted::Gone);
        };
        let was_live: bool = row.try_get(0).map_err(StoreError::unavailable)?;
        if was_live {
            return Ok(Deleted::Ended);
        }
        Event::Expired.emit(Some(id));
        Ok(Deleted::Gone)
    }

    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionInfo>, StoreError> {
        let rows = self.pool.rows(Resend::Freely, || {
            sqlx::query(&self.statements.list)
                .bind(principal.realm().as_str())
                .bind(principal.id())
                .bind(millis(self.env.now()))
        });
        Ok(rows.await?.iter().filter_map(|row| rows::session(row).ok()).collect())
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> Result<u64, StoreError> {
        let rows = self.pool.rows(Resend::AfterDeath, || {
            let now = self.env.now();
            sqlx::query(&self.statements.end_all)
                .bind(principal.realm().as_str())
                .bind(principal.id())
                .bind(except.map(|id| id.as_uuid()))
                .bind(epoch.map(rows::epoch))
                .bind(millis(now))
                .bind(millis(now + FLOOR_KEPT))
                .bind(&self.statements.channel)
        });
        let row = one(rows.await?)?;
        for expired in ended(&row, 1).map_err(StoreError::unavailable)? {
            Event::Expired.emit(Some(expired));
        }
        Ok(row.try_get::<i64, _>(0).map_err(StoreError::unavailable)? as u64)
    }

    /// Ends at most `limit` records that expired before `due`, and says how many.
    pub(crate) async fn collect(&self, due: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let rows = self.pool.rows(Resend::AfterDeath, || {
            sqlx::query(&self.statements.collect)
                .bind(millis(due))
                .bind(limit)
                .bind(&self.statements.channel)
        });
        let rows = rows.await?;
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
        let rows = self.pool.rows(Resend::AfterDeath, || {
            sqlx::query(&self.statements.collect_principals).bind(millis(due)).bind(limit)
        });
        Ok(rows.await?.len() as u64)
    }

    pub(crate) async fn scan(
        &self,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Scan, StoreError> {
        let rows = self.pool.rows(Resend::Freely, || {
            sqlx::query(&self.statements.scan)
                .bind(after.map(|id| id.as_uuid()))
                .bind(bound(limit).saturating_add(1))
        });
        let rows = rows.await?;
        let scanned = rows.iter().take(limit).map(|row| {
            let id = rows::id(row).map_err(StoreError::unavailable)?;
            Ok(Scanned { id, record: rows::record(row).ok().map(Arc::new) })
        });
        let records = scanned.collect::<Result<Vec<_>, StoreError>>()?;
        let next = records.last().map(|scanned| scanned.id).or(after);
        Ok(Scan { records, next: next.filter(|_| rows.len() > limit) })
    }

    pub(crate) async fn stats(&self) -> Result<Stats, StoreError> {
        let rows = self.pool.rows(Resend::Freely, || sqlx::query(&self.statements.stats));
        let row = one(rows.await?)?;
        let count = |column: usize| {
            let count = row.try_get::<i64, _>(column).map_err(StoreError::unavailable)?;
            Ok::<_, StoreError>(count as u64)
        };
        Ok(Stats { records: count(0)?, authenticated: count(1)?, bytes: count(2)? })
    }

    async fn row(&self, id: RecordId) -> Result<Option<PgRow>, StoreError> {
        let load = || sqlx::query(&self.statements.load).bind(id.as_uuid());
        Ok(self.pool.rows(Resend::Freely, load).await?.pop())
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

    fn bind<'q>(
        &'q self,
        statements: &'q Statements,
        id: RecordId,
        now: Timestamp,
    ) -> Query<'q, Postgres, PgArguments> {
        let record = self.record;
        let principal = record.principal.as_ref();
        sqlx::query(&statements.create)
            .bind(id.as_uuid())
            .bind(millis(now))
            .bind(&statements.channel)
            .bind(rows::hash(&record.secret))
            .bind(record.replaced.as_ref().map(|replaced| rows::hash(&replaced.hash)))
            .bind(record.replaced.as_ref().map(|replaced| millis(replaced.until)))
            .bind(self.version)
            .bind(given(&self.values.0))
            .bind(given(&self.values.1))
            .bind(record.values.size() as i32)
            .bind(millis(record.created))
            .bind(record.authenticated.map(millis))
            .bind(millis(record.idle_deadline))
            .bind(millis(record.absolute_deadline))
            .bind(principal.map(|principal| principal.realm().as_str()))
            .bind(principal.map(Principal::id))
            .bind(record.owner.as_ref().map(|owner| owner.label.as_str()))
            .bind(self.fence)
            .bind(bound(self.admission.cap))
            .bind(self.admission.epoch.map(rows::epoch))
    }

    fn outcome(&self, row: &PgRow) -> Result<Outcome, sqlx::Error> {
        Ok(match row.try_get(0)? {
            "applied" => {
                let version = Version(row.try_get::<i64, _>(1)? as u64);
                Outcome::Applied(Applied { ended: ended(row, 2)?, ..Applied::at(version) })
            }
            "exists" => Outcome::Exists,
            "below floor" => Outcome::Rejected(Rejection::BelowFloor),
            other => return Err(sqlx::Error::Protocol(format!("the answer is {other:?}"))),
        })
    }
}

fn one(mut rows: Vec<PgRow>) -> Result<PgRow, StoreError> {
    rows.pop().ok_or_else(|| StoreError::unavailable("the database answers nothing"))
}

/// How long a floor is kept after it was last raised or confirmed.
const FLOOR_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
