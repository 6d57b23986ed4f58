//! Patches as arguments of their statement, and the parsing of its answer.

use steadfast_core::{
    Applied, AtCap, Counters, Facts, KeyId, LimitError, Limits, Op, Outcome, Patch, Principal,
    RawJson, Record, RecordId, Rejection, RouteLabel, SecretHash, StoreError, Timestamp, Version,
};
use uuid::Uuid;

use crate::connection::{Argument, Malformed, Row, Statement};
use crate::database::{Database, Resend};
use crate::rows::{self, compared, text};

/// Arguments that are computed from the whole patch.
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

/// Two columns with the same number of rows.
type Columns<A, B> = (Vec<A>, Vec<B>);

impl<'p> Arguments<'p> {
    pub(crate) fn of(patch: &'p Patch, limits: &'p Limits) -> Result<Self, StoreError> {
        let mut arguments = Self {
            patch,
            limits,
            // The server first checks for reasons that take precedence over the limit.
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

    /// Returns whether the patch may be sent again while its fate is unknown.
    ///
    /// A patch that arrives after all others changes nothing if it compares the secret that it
    /// replaces, or if it only moves the deadline, of which the latest wins.
    fn resend(&self) -> Resend {
        let patch = self.patch;
        let is_guarded = patch.rotation().is_some() || patch.is_touch();
        if is_guarded && !patch.is_once_only() && self.fence.is_none() {
            Resend::Freely
        } else {
            Resend::Never
        }
    }

    pub(crate) async fn send(
        &self,
        database: &Database,
        statement: &Statement,
        tells: bool,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Vec<Row>, StoreError> {
        let patch = self.patch;
        let rotation = patch.rotation();
        let authentication = rotation.and_then(|rotation| rotation.authentication.as_ref());
        let principal = authentication.and_then(|login| login.principal.as_ref());
        let policy = authentication.map(|login| login.policy);
        let facts = authentication.and_then(|login| login.facts.as_ref());
        let rehash = patch.rehashing();
        let arguments: [Argument<'_>; 33] = [
            ("id", &id.as_uuid()),
            ("now", &now.as_millis()),
            ("tells", &tells),
            ("known", &i32::from(Record::FORMAT)),
            ("format", &facts.map(format)),
            ("proof", &patch.proof().map(|proof| compared(proof.hashes()))),
            ("sign_in", &patch.sign_in().map(to_i64_saturating)),
            ("expected_keys", &non_empty(&self.expected.0)),
            ("expected_values", &non_empty(&self.expected.1)),
            ("expected_fence", &self.fence),
            ("is_over_limit", &self.over_limit.is_some()),
            ("clear", &patch.is_clear()),
            ("put_keys", &non_empty(&self.put.0)),
            ("put_values", &non_empty(&self.put.1)),
            ("removed", &non_empty(&self.removed)),
            ("added_keys", &non_empty(&self.added.0)),
            ("added", &non_empty(&self.added.1)),
            ("max_keys", &to_i64_saturating(self.limits.keys)),
            ("max_size", &to_i64_saturating(self.limits.record_bytes)),
            ("rehash_from", &rehash.map(|rehash| compared(&rehash.from))),
            ("rehash_to", &rehash.map(|rehash| rehash.to.to_bytes())),
            ("hash", &rotation.map(|rotation| rotation.hash.to_bytes())),
            ("replaced_until", &rotation.map(|_| (now + Record::REPLACED_KEPT).as_millis())),
            ("authenticated", &authentication.map(|login| login.at.as_millis())),
            ("absolute", &authentication.map(|login| login.absolute_deadline.as_millis())),
            ("facts", &facts.map(Facts::as_bytes)),
            ("realm", &principal.map(|principal| principal.realm().as_str())),
            ("principal", &principal.map(Principal::id)),
            ("cap", &policy.map(|policy| to_i64_saturating(policy.cap))),
            ("epoch", &policy.and_then(|policy| policy.epoch).map(rows::epoch)),
            ("refuses", &policy.is_some_and(|policy| policy.at_cap == AtCap::Refuse)),
            ("idle", &patch.idle_deadline().map(Timestamp::as_millis)),
            ("owner", &patch.owner().map(RouteLabel::as_str)),
        ];
        database.rows(self.resend(), statement, &arguments).await
    }

    /// Parses the outcome: the effects of the patch, or the reason why it had none.
    pub(crate) fn outcome(&self, row: &Row) -> Result<Outcome, StoreError> {
        self.read(row).unwrap_or_else(|error| Err(StoreError::refused(error)))
    }

    fn read(&self, row: &Row) -> Result<Result<Outcome, StoreError>, Malformed> {
        let offending_key = || row.get::<&str>(6);
        let amount = || row.get::<i64>(7);
        let limited = || Ok::<_, Malformed>(amount()? as usize);
        let rejection = match row.get(0)? {
            "applied" => return Ok(Ok(Outcome::Applied(self.applied(row)?))),
            "gone" => return Ok(Ok(Outcome::Gone)),
            "superseded" => return Ok(Ok(Outcome::Superseded)),
            "conflict" => return Ok(Ok(Outcome::Conflict)),
            "corrupt" => return Ok(Err(StoreError::corrupt("the values are no texts by key"))),
            "newer format" => return Ok(Err(rows::newer(amount()?))),
            "unknown key" => {
                let hash = rows::secret_hash(row.get(8)?)?;
                return Ok(Err(StoreError::UnknownKey(hash.key())));
            }
            "not an integer" => Rejection::not_an_integer(offending_key()?),
            "overflow" => Rejection::overflow(offending_key()?),
            "below floor" => Rejection::StaleEpoch,
            "at cap" => Rejection::AtCap,
            "too many keys" => {
                LimitError::Keys { keys: limited()?, limit: self.limits.keys }.into()
            }
            "too large" => {
                LimitError::Record { len: limited()?, limit: self.limits.record_bytes }.into()
            }
            "over limit" => self.over_limit.expect("the patch was sent as over a limit").into(),
            other => return Err(format!("unexpected verdict {other:?}").into()),
        };
        Ok(Ok(Outcome::Rejected(rejection)))
    }

    fn applied(&self, row: &Row) -> Result<Applied, Malformed> {
        let sums: Option<Vec<i64>> = row.get(2)?;
        let counters = self.added.0.iter().zip(sums.unwrap_or_default());
        let counters: Counters = counters.map(|(key, sum)| (Box::from(*key), sum)).collect();
        let applied = Applied::at(Version(row.get::<i64>(1)? as u64));
        Ok(Applied { counters, ended: ended(row, 3)?, ..applied })
    }
}

/// Parses the ids in an array of a row. A null means none.
pub(crate) fn ended(row: &Row, column: usize) -> Result<Vec<RecordId>, Malformed> {
    let ids: Option<Vec<Uuid>> = row.get(column)?;
    Ok(ids.unwrap_or_default().into_iter().map(RecordId::from).collect())
}

/// Converts a number from the caller, which may exceed the range of the database.
pub(crate) fn to_i64_saturating(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Returns the format in which to write a record with these facts.
fn format(facts: &Facts) -> i32 {
    let secret = SecretHash::from_parts(KeyId::NONE, [0; 32]);
    let (now, facts) = (Timestamp::UNIX_EPOCH, facts.clone());
    Record { facts, ..Record::new(secret, now, now, now) }.format().into()
}

/// Returns `None` for an empty array: a null is shorter than an empty array.
pub(crate) fn non_empty<T>(items: &[T]) -> Option<&[T]> {
    Some(items).filter(|items| !items.is_empty())
}
