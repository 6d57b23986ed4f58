//! A patch as the arguments of its statement, and the answer to it.

use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::types::Uuid;
use steadfast_core::{
    Applied, Authentication, Counters, LimitError, Limits, Op, Outcome, Patch, Principal, RawJson,
    Record, RecordId, Rejection, RouteLabel, StoreError, Timestamp, Version,
};

use crate::pool::Resend;
use crate::rows::{self, millis, text};

/// The arguments that take a look at the whole patch.
pub(crate) struct Arguments<'p> {
    patch: &'p Patch,
    limits: &'p Limits,
    over_limit: Option<LimitError>,
    expected: Columns<&'p str, Option<&'p str>>,
    put: Columns<&'p str, &'p str>,
    removed: Vec<&'p str>,
    added: Columns<&'p str, i64>,
    fence: Option<i64>,
}

/// Two arrays of the same length.
type Columns<A, B> = (Vec<A>, Vec<B>);

impl<'p> Arguments<'p> {
    pub(crate) fn of(patch: &'p Patch, limits: &'p Limits) -> Result<Self, StoreError> {
        let mut arguments = Self {
            patch,
            limits,
            // The server says first whether there is a reason that counts more.
            over_limit: patch.check(limits).err(),
            expected: Columns::default(),
            put: Columns::default(),
            removed: Vec::new(),
            added: Columns::default(),
            fence: patch.expected_fence().map(rows::whole).transpose()?,
        };
        for (key, value) in patch.expectations() {
            arguments.expected.0.push(key);
            arguments.expected.1.push(value.map(|value| text(value.as_bytes())).transpose()?);
        }
        if arguments.over_limit.is_none() {
            arguments.take_ops()?;
        }
        Ok(arguments)
    }

    fn take_ops(&mut self) -> Result<(), StoreError> {
        for (key, op) in self.patch.ops() {
            match op {
                Op::Put(value) => {
                    self.put.0.push(key);
                    self.put.1.push(text(RawJson::as_bytes(value))?);
                }
                Op::Remove => self.removed.push(key),
                Op::Add(by) => {
                    self.added.0.push(key);
                    self.added.1.push(*by);
                }
            }
        }
        Ok(())
    }

    /// Whether the patch may be sent again after its connection died.
    pub(crate) fn resend(&self) -> Resend {
        let raises_fence = self.fence.is_some() || self.patch.owner().is_some();
        match self.patch.is_once_only() || raises_fence {
            true => Resend::Never,
            false => Resend::AfterDeath,
        }
    }

    pub(crate) fn bind<'q>(
        &'q self,
        statement: &'q str,
        channel: Option<&'q str>,
        id: RecordId,
        now: Timestamp,
    ) -> Query<'q, Postgres, PgArguments> {
        let rotation = self.patch.rotation();
        let authentication = rotation.and_then(|rotation| rotation.authentication.as_ref());
        let principal = authentication.and_then(|login| login.principal.as_ref());
        let admission = authentication.map(|login: &Authentication| login.admission);
        let replaced_until = now + Record::REPLACED_KEPT;
        let query = sqlx::query(statement)
            .bind(id.as_uuid())
            .bind(millis(now))
            .bind(channel)
            .bind(self.patch.proof().map(rows::hashes))
            .bind(given(&self.expected.0))
            .bind(given(&self.expected.1))
            .bind(self.fence)
            .bind(self.over_limit.is_some())
            .bind(self.patch.is_clear())
            .bind(given(&self.put.0))
            .bind(given(&self.put.1))
            .bind(given(&self.removed))
            .bind(given(&self.added.0))
            .bind(given(&self.added.1))
            .bind(bound(self.limits.keys))
            .bind(bound(self.limits.record_bytes));
        query
            .bind(rotation.map(|rotation| rows::hash(&rotation.hash)))
            .bind(rotation.map(|_| millis(replaced_until)))
            .bind(authentication.map(|login| millis(login.at)))
            .bind(authentication.map(|login| millis(login.absolute_deadline)))
            .bind(principal.map(|principal| principal.realm().as_str()))
            .bind(principal.map(Principal::id))
            .bind(admission.map(|admission| bound(admission.cap)))
            .bind(admission.and_then(|admission| admission.epoch).map(rows::epoch))
            .bind(self.patch.idle_deadline().map(millis))
            .bind(self.patch.owner().map(RouteLabel::as_str))
    }

    /// What the row says was done, and if nothing was, why.
    pub(crate) fn outcome(&self, row: &PgRow) -> Result<Outcome, StoreError> {
        self.read(row).unwrap_or_else(|error| Err(StoreError::unavailable(error)))
    }

    fn read(&self, row: &PgRow) -> Result<Result<Outcome, StoreError>, sqlx::Error> {
        let culprit = || row.try_get::<&str, _>(4);
        let amount = || Ok::<_, sqlx::Error>(row.try_get::<i64, _>(5)? as usize);
        let rejection = match row.try_get(0)? {
            "applied" => return Ok(Ok(Outcome::Applied(self.applied(row)?))),
            "gone" => return Ok(Ok(Outcome::Gone)),
            "superseded" => return Ok(Ok(Outcome::Superseded)),
            "conflict" => return Ok(Ok(Outcome::Conflict)),
            "corrupt" => return Ok(Err(StoreError::corrupt("the values are no texts by key"))),
            "not an integer" => Rejection::not_an_integer(culprit()?),
            "overflow" => Rejection::overflow(culprit()?),
            "below floor" => Rejection::BelowFloor,
            "too many keys" => LimitError::Keys { keys: amount()?, limit: self.limits.keys }.into(),
            "too large" => {
                LimitError::Record { len: amount()?, limit: self.limits.record_bytes }.into()
            }
            "over limit" => self.over_limit.expect("the patch was sent as over a limit").into(),
            other => {
                let error = format!("the database answers {other:?}");
                return Ok(Err(StoreError::unavailable(error)));
            }
        };
        Ok(Ok(Outcome::Rejected(rejection)))
    }

    fn applied(&self, row: &PgRow) -> Result<Applied, sqlx::Error> {
        let sums: Option<Vec<i64>> = row.try_get(2)?;
        let counters = self.added.0.iter().zip(sums.unwrap_or_default());
        let counters: Counters = counters.map(|(key, sum)| (Box::from(*key), sum)).collect();
        let applied = Applied::at(Version(row.try_get::<i64, _>(1)? as u64));
        Ok(Applied { counters, ended: ended(row, 3)?, ..applied })
    }
}

/// The ids in an array of a row, which is missing where there are none.
pub(crate) fn ended(row: &PgRow, column: usize) -> Result<Vec<RecordId>, sqlx::Error> {
    let ids: Option<Vec<Uuid>> = row.try_get(column)?;
    Ok(ids.unwrap_or_default().into_iter().map(RecordId::from).collect())
}

/// A bound of the caller's, which may be higher than any number of the database.
pub(crate) fn bound(bound: usize) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}

/// An array, unless it is empty: nothing is shorter than an empty array.
pub(crate) fn given<T>(items: &[T]) -> Option<&[T]> {
    Some(items).filter(|items| !items.is_empty())
}
