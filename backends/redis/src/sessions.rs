//! What the store does to one record: every operation is one script, or a plain read.

use std::sync::Arc;

use redis::{Value, cmd};
use steadfast_core::{
    Absence, Admission, Carry, Deleted, Deletion, Env, Event, Found, Limits, Lookup, Outcome,
    Patch, Proof, Record, RecordId, StoreError, Timestamp, Verdict,
};

use crate::changes::Changes;
use crate::codec::{self, Corrupt, hash, millis};
use crate::connection::{Call, Copies, Servers};
use crate::index::Login;
use crate::keys::{Prefix, hex, name};
use crate::made::{Made, Unexpected};
use crate::request::{self, Terms};
use crate::script::{Answer, Invocation, Scripts};

/// Everything that a store shares with its clones.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) prefix: Prefix,
    pub(crate) servers: Arc<Servers>,
    pub(crate) scripts: Scripts,
    /// How many replicas confirm what ends a session or replaces its secret.
    pub(crate) copies: Option<Copies>,
    pub(crate) changes: Changes,
}

impl Sessions {
    pub(crate) async fn create(
        &self,
        id: RecordId,
        record: &Record,
        admission: Admission,
    ) -> Result<Outcome, StoreError> {
        if let Err(limit) = self.limits.check_values(&record.values) {
            return Ok(Outcome::Rejected(limit.into()));
        }
        if i64::try_from(record.version.0).is_err() {
            return Err(StoreError::Unsupported("versions over 2^63 - 1"));
        }
        let login = Login::by(id, record, admission);
        let made = self.change(id, login, &Change::Create(record, admission)).await?;
        made.outcome()
    }

    /// A hash is read in one piece, so the decision can be made here, by the one function for it.
    pub(crate) async fn load(
        self: &Arc<Self>,
        id: RecordId,
        proof: Option<&Proof>,
    ) -> Result<Lookup, StoreError> {
        let now = self.env.now();
        let record = match self.read(id).await? {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Lookup::Absent(Absence::Unknown)),
            Err(_) => {
                Event::CorruptRecord.emit(Some(id));
                return Ok(Lookup::Absent(Absence::Unknown));
            }
        };
        let verdict = proof.map_or(Verdict::Right, |proof| record.verify(proof, now));
        let is_expired = record.is_expired(now);
        if is_expired {
            self.collect_behind(id);
        }
        Ok(match verdict {
            Verdict::Right if is_expired => Lookup::Absent(Absence::Expired),
            Verdict::Right => {
                Lookup::Found(Found { id, record: Arc::new(record), carry: Carry::default() })
            }
            Verdict::Superseded if !is_expired => Lookup::Superseded,
            Verdict::Superseded | Verdict::Wrong => Lookup::Absent(Absence::Unknown),
            Verdict::UnknownKey(_) if is_expired => Lookup::Absent(Absence::Unknown),
            Verdict::UnknownKey(key) => return Err(StoreError::UnknownKey(key)),
        })
    }

    pub(crate) async fn update(&self, id: RecordId, patch: &Patch) -> Result<Outcome, StoreError> {
        let made = self.change(id, Login::of(id, patch), &Change::Patch(patch)).await?;
        made.outcome()
    }

    pub(crate) async fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        let proof = deletion.proof;
        let record = self.prefix.record(id);
        let mut call = self.scripts.delete.on(&[record.as_str()]);
        self.address(&mut call, id);
        call.flag(self.servers.are_many()).all(proof.into_iter().flat_map(Proof::hashes).map(hash));
        // Sent again it would find nothing, and say that nothing was there.
        let mut answer = self.run(&record, call.once().on(self.copies)).await?;
        match answer.word.as_str() {
            "ended" | "gone" => {
                let deleted = if answer.word == "ended" { Deleted::Ended } else { Deleted::Gone };
                if let (Some(name), Some(ticket)) = (answer.text(), answer.text()) {
                    self.unlist(&name, id, &ticket).await;
                }
                Ok(deleted)
            }
            "corrupt" => Err(corrupt(id, Corrupt::Form)),
            _ => Err(StoreError::refused(Unexpected)),
        }
    }

    /// What is kept under an id.
    pub(crate) async fn read(
        &self,
        id: RecordId,
    ) -> Result<Result<Option<Record>, Corrupt>, StoreError> {
        let key = self.prefix.record(id);
        let mut command = cmd("HGETALL");
        command.arg(&key);
        match self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await {
            Ok(answer) => Ok(codec::decode(answer, &self.limits)),
            Err(fault) if fault.is_wrong_type() => Ok(Err(Corrupt::Form)),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Gives back what an expired record holds; says whether there was one.
    pub(crate) async fn collect_one(&self, id: RecordId) -> Result<bool, StoreError> {
        let record = self.prefix.record(id);
        let mut call = self.scripts.collect.on(&[record.as_str()]);
        self.address(&mut call, id);
        call.flag(self.servers.are_many());
        let answer = self.servers.call(record.as_bytes(), &call.once()).await?;
        let is_collected = answer == Value::Int(1);
        if is_collected {
            Event::Expired.emit(Some(id));
        }
        Ok(is_collected)
    }

    /// Makes a call of a script, and takes its answer apart.
    pub(crate) async fn run(&self, key: &str, call: Call<'_>) -> Result<Answer, StoreError> {
        let answer = self.servers.call(key.as_bytes(), &call).await?;
        Answer::of(answer).ok_or_else(|| StoreError::refused(Unexpected))
    }

    /// The arguments that scripts on a record begin with.
    pub(crate) fn address(&self, call: &mut Invocation<'_>, id: RecordId) -> Timestamp {
        let now = self.env.now();
        call.arg(self.prefix.as_str()).arg(hex(id)).arg(millis(now));
        now
    }

    /// Nobody waits for it: whoever asked has been told that the session has expired.
    fn collect_behind(self: &Arc<Self>, id: RecordId) {
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = sessions.collect_one(id).await {
                tracing::debug!(target: "steadfast", %error, "expired record not given back");
            }
        });
    }

    async fn change(
        &self,
        id: RecordId,
        login: Option<Login>,
        change: &Change<'_>,
    ) -> Result<Made, StoreError> {
        match login {
            Some(login) if self.servers.are_many() => self.log_in(&login, change).await,
            _ => self.make(id, change, Terms::default()).await,
        }
    }

    pub(crate) async fn make(
        &self,
        id: RecordId,
        change: &Change<'_>,
        terms: Terms<'_>,
    ) -> Result<Made, StoreError> {
        match change {
            Change::Create(record, admission) => self.store(id, record, *admission, terms).await,
            Change::Patch(patch) => self.patch(id, patch, terms).await,
        }
    }

    async fn store(
        &self,
        id: RecordId,
        record: &Record,
        admission: Admission,
        terms: Terms<'_>,
    ) -> Result<Made, StoreError> {
        let name = record.principal.as_ref().map(name).unwrap_or_default();
        let keys = self.keys(id, &name);
        let mut call = self.scripts.create.on(&keys);
        self.address(&mut call, id);
        call.flag(self.servers.are_many());
        request::new_record(&mut call, record, &name, admission, terms);
        let copies = self.copies.filter(|_| !name.is_empty());
        let answer = self.run(&keys[0], call.repeatable().on(copies)).await?;
        Made::of(answer, id)
    }

    /// A patch that is over a limit is only asked about: its record may have ended, and that is said
    /// first.
    async fn patch(
        &self,
        id: RecordId,
        patch: &Patch,
        terms: Terms<'_>,
    ) -> Result<Made, StoreError> {
        let name = Login::principal(patch).map(name).unwrap_or_default();
        let keys = self.keys(id, &name);
        let over_limit = patch.check(&self.limits).err();
        let only_asks = terms.only_asks || over_limit.is_some();
        let mut call = self.scripts.update.on(&keys);
        let now = self.address(&mut call, id);
        call.flag(self.servers.are_many());
        request::patch(&mut call, patch, &self.limits, only_asks);
        request::rotation(&mut call, patch, &name, now, terms.ticket);
        let copies = self.copies.filter(|_| patch.rotation().is_some());
        // Sent again, a new secret is known by its hash. A mere write might come behind another
        // request that replaced or ended what it had been applied to, and be told that it was dropped.
        let is_known = patch.rotation().is_some() && !patch.is_once_only();
        let call = if is_known { call.repeatable() } else { call.once() };
        let answer = self.run(&keys[0], call.on(copies)).await?;
        let made = Made::of(answer, id)?;
        if let Made::Applied { left: Some((left, ticket)), .. } = &made {
            self.unlist(left, id, ticket).await;
        }
        match (made, over_limit) {
            (Made::Fine, Some(limit)) => Ok(Made::rejected(limit.into())),
            (made, _) => Ok(made),
        }
    }

    /// The keys of a record's script: the record, and the index for a login.
    fn keys(&self, id: RecordId, name: &str) -> Vec<String> {
        let mut keys = vec![self.prefix.record(id)];
        if !name.is_empty() && !self.servers.are_many() {
            keys.push(self.prefix.index(name));
        }
        keys
    }
}

/// What may be a login.
pub(crate) enum Change<'c> {
    Create(&'c Record, Admission),
    Patch(&'c Patch),
}

pub(crate) fn corrupt(id: RecordId, why: Corrupt) -> StoreError {
    Event::CorruptRecord.emit(Some(id));
    StoreError::corrupt(why)
}
