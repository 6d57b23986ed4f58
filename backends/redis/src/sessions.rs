//! Operations on one record. Each is a single script or a plain read.

use std::sync::{Arc, OnceLock};

use redis::cmd;
use steadfast_core::{
    Absence, ClientState, Deleted, Deletion, Env, Event, Found, Limits, LoginPolicy, Lookup,
    Outcome, Patch, Probe, Proof, Record, RecordId, StoreError, Verdict,
};

use crate::change::{Change, Login, is_elevation};
use crate::changes::{Changes, Numbered};
use crate::codec::{self, Corrupt, Packed, Unreadable, newer};
use crate::connection::Servers;
use crate::keeper::Keeper;
use crate::keys::{Prefix, name};
use crate::outcome::{Left, ScriptOutcome, trouble};
use crate::request::{self, LoginContext};
use crate::script::{Call, Copies, Scripts};
use crate::script_reply::{ScriptReply, unexpected};
use crate::seen::{Oldest, Seen};

/// The state that a store shares with its clones.
pub(crate) struct Sessions {
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    pub(crate) prefix: Prefix,
    /// The user of the store at the servers.
    pub(crate) user: String,
    pub(crate) servers: Arc<Servers>,
    pub(crate) scripts: Scripts,
    /// Set by the first call of `endings`.
    pub(crate) endings: OnceLock<Box<Keeper>>,
    /// The replicas that must confirm an operation that ends a session or replaces its secret.
    pub(crate) copies: Option<Copies>,
    pub(crate) changes: Changes,
    pub(crate) seen: Seen,
    pub(crate) oldest: Oldest,
    pub(crate) probe: Probe,
}

impl Sessions {
    pub(crate) async fn create(
        self: &Arc<Self>,
        id: RecordId,
        record: &Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        if let Err(limit) = self.limits.check_values(&record.values) {
            return Ok(Outcome::Rejected(limit.into()));
        }
        let login = Login::by(id, record, policy);
        self.change(id, login, &Change::Create(record, policy)).await?.outcome()
    }

    /// Loads a record. Reading a hash is atomic, so the proof can be judged here, by the same
    /// function as everywhere.
    pub(crate) async fn load(
        self: &Arc<Self>,
        id: RecordId,
        proof: Option<&Proof>,
    ) -> Result<Lookup, StoreError> {
        let now = self.env.now();
        let record = match self.read(id).await? {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Lookup::Absent(Absence::Unknown)),
            Err(Unreadable::Newer(head)) if head.record.is_expired(now) => {
                return Ok(Lookup::Absent(Absence::Expired));
            }
            Err(Unreadable::Newer(head)) => return Err(newer(head.format)),
            Err(Unreadable::Corrupt(why)) => {
                tracing::debug!(target: "steadfast", %why, session = %id, "corrupt record");
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
            Verdict::UnknownKey(key) if !is_expired => return Err(StoreError::UnknownKey(key)),
            Verdict::Right if is_expired => Lookup::Absent(Absence::Expired),
            Verdict::Right => {
                self.seen.remember(id, record.principal.as_ref());
                Lookup::Found(Found {
                    id,
                    record: Arc::new(record),
                    client_state: ClientState::default(),
                })
            }
            Verdict::Superseded if !is_expired => Lookup::Superseded,
            Verdict::Superseded | Verdict::Wrong | Verdict::UnknownKey(_) => {
                Lookup::Absent(Absence::Unknown)
            }
        })
    }

    pub(crate) async fn update(
        self: &Arc<Self>,
        id: RecordId,
        patch: &Patch,
    ) -> Result<Outcome, StoreError> {
        let made = self.change(id, Login::of(id, patch), &Change::Patch(patch)).await?;
        // On a single server, the script of the next login at the cap detects the elevation itself.
        if self.servers.is_split()
            && is_elevation(patch)
            && matches!(made, ScriptOutcome::Applied { .. })
        {
            self.relist(id).await;
        }
        made.outcome()
    }

    pub(crate) async fn delete(
        &self,
        id: RecordId,
        deletion: &Deletion<'_>,
    ) -> Result<Deleted, StoreError> {
        let name = self.seen.principal(id).as_ref().map(name).filter(|_| !self.servers.is_split());
        let name = name.unwrap_or_default();
        let keys = self.keys(id, &name, &[]);
        let numbered = self.changes.number(&self.env)?;
        let mut args = self.args(numbered.stamp());
        request::deletion(&mut args, deletion, &name);
        let call = self.scripts().delete.on(&keys, &args);
        // A repeated delete would find nothing and report that nothing was there.
        let mut answer = self.run(&keys[0], call.once().on(self.copies)).await?;
        if let Some(error) = trouble(&mut answer, id) {
            numbered.settle(Some(false));
            return Err(error);
        }
        let deleted = match answer.word {
            b'E' => Deleted::Ended,
            b'g' => Deleted::Gone,
            b's' => {
                numbered.settle(Some(false));
                return Ok(Deleted::Superseded);
            }
            _ => return Err(unexpected()),
        };
        numbered.settle(answer.was_told());
        self.unlist(id, &Left::of(&mut answer).ok_or_else(unexpected)?).await;
        Ok(deleted)
    }

    /// Reads the data stored under an id.
    pub(crate) async fn read(
        &self,
        id: RecordId,
    ) -> Result<Result<Option<Record>, Unreadable>, StoreError> {
        let key = self.prefix.record(id);
        let mut command = cmd("HGETALL");
        command.arg(&key);
        match self.servers.call(key.as_bytes(), &Call::repeatable(&command)).await {
            Ok(answer) => Ok(codec::decode(answer, &self.limits)),
            Err(fault) if fault.is_wrong_type() => Ok(Err(Corrupt::Form.into())),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Removes an expired record, or the remains of a session that the cap ended.
    pub(crate) async fn collect_one(&self, id: RecordId) -> Result<Collected, StoreError> {
        let record = self.prefix.record(id);
        let numbered = self.changes.number(&self.env)?;
        let call = self.scripts().collect.on(&[record.as_str()], &self.args(numbered.stamp()));
        let mut answer = self.run(&record, call.once()).await?;
        numbered.settle(answer.was_told());
        match answer.word {
            b'E' => {
                Event::Expired.emit(Some(id));
                self.unlist(id, &Left::of(&mut answer).ok_or_else(unexpected)?).await;
                Ok(Collected::Expired)
            }
            b'l' => Ok(Collected::Live),
            _ => Ok(Collected::Nothing),
        }
    }

    /// Calls a script and parses its answer.
    pub(crate) async fn run(&self, key: &str, call: Call<'_>) -> Result<ScriptReply, StoreError> {
        ScriptReply::of(self.servers.call(key.as_bytes(), &call).await?)
    }

    /// Returns the arguments that all scripts begin with.
    pub(crate) fn args(&self, stamp: [u8; 16]) -> Packed {
        let mut args = Packed::default();
        args.time(self.env.now()).bytes(&stamp);
        args
    }

    /// Returns the scripts, which are others once the store keeps endings.
    pub(crate) fn scripts(&self) -> &Scripts {
        self.endings.get().map_or(&self.scripts, |keeper| &keeper.scripts)
    }

    /// Removes an expired record in the background: the caller already knows that the session
    /// expired. A store that keeps endings reports it first.
    fn collect_behind(self: &Arc<Self>, id: RecordId) {
        if self.endings.get().is_some() {
            return;
        }
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = sessions.collect_one(id).await {
                tracing::debug!(target: "steadfast", %error, "failed to collect an expired record");
            }
        });
    }

    async fn change(
        self: &Arc<Self>,
        id: RecordId,
        login: Option<Login>,
        change: &Change<'_>,
    ) -> Result<ScriptOutcome, StoreError> {
        self.expect_end(id, change).await?;
        match &login {
            Some(login) if self.servers.is_split() => self.log_in(login, change).await,
            Some(login) => {
                let mut made = self.make(id, change, LoginContext::default()).await?;
                // An entry may have been left behind by a session that ended.
                if made.is_at_cap() && self.prune(&login.name).await? {
                    made = self.make(id, change, LoginContext::default()).await?;
                }
                if let ScriptOutcome::Applied { stale, .. } = &made {
                    self.prune_behind(&login.name, stale);
                    self.seen.remember(id, change.principal());
                }
                Ok(made)
            }
            None => self.make(id, change, LoginContext::default()).await,
        }
    }

    /// Makes a change. If the index is on the same server, the script may ask for the keys of
    /// records that the cap must end, or for an index of an older form to be converted.
    pub(crate) async fn make(
        &self,
        id: RecordId,
        change: &Change<'_>,
        context: LoginContext<'_>,
    ) -> Result<ScriptOutcome, StoreError> {
        let context = LoginContext { is_split: self.servers.is_split(), ..context };
        let name = change.principal().map(name).unwrap_or_default();
        let numbered = self.changes.number(&self.env)?;
        let mut others = if context.is_split { Vec::new() } else { self.oldest.first(&name) };
        for _ in 0..ATTEMPTS {
            let mut answer =
                self.try_to_make(id, change, &name, context, &others, &numbered).await?;
            match answer.word {
                b'L' => {
                    others = answer.ids().ok_or_else(unexpected)?;
                    self.oldest.learn(&name, &others);
                }
                b'C' => self.convert(&name).await?,
                _ => {
                    let made = self.made(id, change, answer, numbered).await?;
                    if let ScriptOutcome::Applied { applied, .. } = &made {
                        self.oldest.follow(&name, &applied.ended);
                    }
                    return Ok(made);
                }
            }
        }
        numbered.settle(Some(false));
        Err(StoreError::busy(LoginsInTheWay))
    }

    async fn try_to_make(
        &self,
        id: RecordId,
        change: &Change<'_>,
        name: &str,
        context: LoginContext<'_>,
        others: &[RecordId],
        numbered: &Numbered<'_>,
    ) -> Result<ScriptReply, StoreError> {
        let mut args = self.args(numbered.stamp());
        let (scripts, queue) = self.writing();
        let (script, ends, is_repeatable) = match change {
            Change::Create(record, policy) => {
                request::new_record(&mut args, record, name, *policy, context);
                (&scripts.create, !name.is_empty(), true)
            }
            Change::Patch(patch) => {
                let only_asks = context.only_asks || patch.check(&self.limits).is_err();
                let context = LoginContext { only_asks, ..context };
                request::patch(&mut args, patch, name, &self.limits, context);
                // A repeated rotation is recognized by the hash of its new secret. A repeated plain
                // write is not: if another request replaced or ended the session in between, the
                // answer would report a dropped write although it was applied.
                let is_known = patch.rotation().is_some() && !patch.is_once_only();
                (&scripts.update, patch.rotation().is_some(), is_known)
            }
        };
        let mut keys = self.keys(id, name, others);
        keys.extend(queue);
        let call = script.on(&keys, &args);
        let call = if is_repeatable { call.repeatable() } else { call.once() };
        self.run(&keys[0], call.on(self.copies.filter(|_| ends))).await
    }

    /// Handles a patch that exceeds a limit. The script was only asked about it, because a record
    /// that has ended takes precedence over the limit.
    async fn made(
        &self,
        id: RecordId,
        change: &Change<'_>,
        mut answer: ScriptReply,
        numbered: Numbered<'_>,
    ) -> Result<ScriptOutcome, StoreError> {
        numbered.settle(if answer.word == b'a' { answer.was_told() } else { Some(false) });
        let made = ScriptOutcome::of(&mut answer, id)?;
        if let ScriptOutcome::Applied { left, .. } = &made {
            self.unlist(id, left).await;
        }
        match (made, change.over_limit(&self.limits)) {
            (ScriptOutcome::WouldApply(_), Some(limit)) => {
                Ok(ScriptOutcome::rejected(limit.into()))
            }
            (made, _) => Ok(made),
        }
    }

    /// Returns the keys of a record's script: the record, and for a login the index and the records
    /// that the cap may have to end.
    fn keys(&self, id: RecordId, name: &str, others: &[RecordId]) -> Vec<String> {
        let mut keys = vec![self.prefix.record(id)];
        if !name.is_empty() && !self.servers.is_split() {
            keys.push(self.prefix.index(name));
            keys.extend(others.iter().map(|other| self.prefix.record(*other)));
        }
        keys
    }
}

/// The result of [`Sessions::collect_one`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// An expired record, which it removed.
    Expired,
    Live,
    Nothing,
}

#[derive(Debug, thiserror::Error)]
#[error("concurrent logins of the principal interfered repeatedly")]
struct LoginsInTheWay;

/// The number of attempts of a login while concurrent logins of the same principal change which
/// sessions the cap must end.
const ATTEMPTS: usize = 128;
