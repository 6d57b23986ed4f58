//! What a store should do, said with plain maps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::timestamp::Timestamp;

use super::steps::{Change, Login, PatchStep, Replace, Who};
use crate::proof::SecretHash;
use crate::record::Version;
use crate::rejection::Rejection;
use crate::store::Outcome;
use crate::token::RecordId;

/// The records that are live or expired, and the floors.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) now: Timestamp,
    has_index: bool,
    records: BTreeMap<RecordId, Kept>,
    floors: BTreeMap<Who, u64>,
}

/// What is kept of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) secret: SecretHash,
    pub(super) replaced: Option<(SecretHash, Timestamp)>,
    pub(super) values: BTreeMap<String, String>,
    pub(super) created: Timestamp,
    pub(super) authenticated: Option<Timestamp>,
    pub(super) idle: Timestamp,
    pub(super) absolute: Timestamp,
    pub(super) version: Version,
    pub(super) who: Option<Who>,
    pub(super) fence: u64,
}

impl Kept {
    /// Without what cannot be compared: the replaced secret, which shows in lookups only, and, for
    /// a store that moves records, the version and the fence.
    pub(super) fn comparable(self, moves_records: bool) -> Self {
        Self {
            replaced: None,
            version: if moves_records { Version::FIRST } else { self.version },
            fence: if moves_records { 0 } else { self.fence },
            ..self
        }
    }
}

/// An answer to a create or an update, but for the version.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Applied {
        counters: Vec<(Box<str>, i64)>,
        ended: BTreeSet<RecordId>,
        /// What the version has to do; answers that were seen do not say.
        grows: Grows,
    },
    Exists,
    Gone,
    Superseded,
    Conflict,
    Rejected(Rejection),
}

/// Whether a version grows. Equal to itself whatever it says, as an answer does not show it.
#[derive(Debug)]
pub(super) struct Grows(bool);

impl PartialEq for Grows {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Answer {
    /// It is done already.
    pub(super) fn unchanged() -> Self {
        Self::Applied { counters: Vec::new(), ended: BTreeSet::new(), grows: Grows(false) }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Applied(applied) => Self::Applied {
                counters: applied.counters,
                ended: applied.ended.into_iter().collect(),
                grows: Grows(false),
            },
            Outcome::Exists => Self::Exists,
            Outcome::Gone => Self::Gone,
            Outcome::Superseded => Self::Superseded,
            Outcome::Conflict => Self::Conflict,
            Outcome::Rejected(why) => Self::Rejected(why),
        }
    }
}

impl Model {
    /// A model of a store that keeps an index, and so a cap, or of one that does not.
    pub(super) fn new(has_index: bool) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            has_index,
            records: BTreeMap::new(),
            floors: BTreeMap::new(),
        }
    }

    /// Keeps a record under an id that was never used.
    pub(super) fn create(&mut self, id: RecordId, kept: Kept, admit: Option<&Login>) -> Answer {
        if admit.is_some_and(|login| self.is_below_floor(login)) {
            return Answer::Rejected(Rejection::BelowFloor);
        }
        self.records.insert(id, kept);
        Answer::Applied {
            counters: Vec::new(),
            ended: admit.map_or_else(BTreeSet::new, |login| self.end_over_cap(id, login)),
            grows: Grows(true),
        }
    }

    pub(super) fn patch(
        &mut self,
        id: RecordId,
        step: &PatchStep,
        shown: Option<SecretHash>,
        to: SecretHash,
        moves_records: bool,
    ) -> Answer {
        match shown.map_or("found", |shown| self.lookup(id, shown)) {
            "found" if self.is_live(id) => {}
            "superseded" => return Answer::Superseded,
            _ => return Answer::Gone,
        }
        let owns = step.owns.filter(|_| !moves_records);
        if owns == Some(false) || step.expects.is_some_and(|(_, right)| !right) {
            return Answer::Conflict;
        }
        let login = match &step.replace {
            Some(Replace::Login(login)) => Some(login),
            _ => None,
        };
        if login.is_some_and(|login| self.is_below_floor(login)) {
            return Answer::Rejected(Rejection::BelowFloor);
        }
        let now = self.now;
        let kept = self.records.get_mut(&id).expect("a live record is kept");
        let (values, counters) = match changed(&kept.values, step) {
            Ok(changed) => changed,
            Err(why) => return Answer::Rejected(why),
        };
        kept.values = values;
        if step.replace.is_some() {
            kept.replaced = Some((kept.secret, now + Duration::from_secs(60)));
            kept.secret = to;
        }
        if let Some(login) = login {
            kept.who = Some(login.who);
            kept.authenticated = Some(now);
            kept.absolute = now + Duration::from_secs(8 * 60 * 60);
        }
        if let Some(keep) = step.keep_for {
            kept.idle = kept.idle.max(now + keep).min(kept.absolute);
        }
        kept.fence += u64::from(owns.is_some());
        let grows = step.clear || !step.changes.is_empty() || step.replace.is_some();
        Answer::Applied {
            counters,
            ended: login.map_or_else(BTreeSet::new, |login| self.end_over_cap(id, login)),
            grows: Grows(grows || owns.is_some()),
        }
    }

    pub(super) fn delete(&mut self, id: RecordId, shown: Option<SecretHash>) -> bool {
        let opens = shown.is_none_or(|shown| self.lookup(id, shown) == "found");
        let was_live = opens && self.is_live(id);
        if was_live {
            self.records.remove(&id);
        }
        was_live
    }

    pub(super) fn delete_all(
        &mut self,
        who: Who,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> u64 {
        if let Some(epoch) = epoch {
            let floor = self.floors.entry(who).or_insert(epoch);
            *floor = epoch.max(*floor);
        }
        let mut ended = self.list(who);
        ended.retain(|id| Some(*id) != except);
        for id in &ended {
            self.records.remove(id);
        }
        ended.len() as u64
    }

    /// What a secret opens, in one word.
    pub(super) fn lookup(&self, id: RecordId, shown: SecretHash) -> &'static str {
        let Some(kept) = self.records.get(&id).filter(|_| self.is_live(id)) else {
            return "absent";
        };
        match kept.replaced {
            _ if shown == kept.secret => "found",
            Some((replaced, until)) if shown == replaced && self.now < until => "superseded",
            _ => "absent",
        }
    }

    pub(super) fn list(&self, who: Who) -> Vec<RecordId> {
        let records = self.records.iter();
        let live = records.filter(|(id, kept)| kept.who == Some(who) && self.is_live(**id));
        live.map(|(id, _)| *id).collect()
    }

    pub(super) fn is_live(&self, id: RecordId) -> bool {
        let kept = self.records.get(&id);
        kept.is_some_and(|kept| self.now < kept.idle && self.now < kept.absolute)
    }

    /// The record, as far as it can be observed.
    pub(super) fn observed(&self, id: RecordId, moves_records: bool) -> Option<Kept> {
        let kept = self.records.get(&id).filter(|_| self.is_live(id));
        kept.cloned().map(|kept| kept.comparable(moves_records))
    }

    /// Takes over the version of an answer, if it did what it had to.
    pub(super) fn learn(
        &mut self,
        id: RecordId,
        version: Version,
        expected: &Answer,
        moves_records: bool,
    ) -> Result<(), String> {
        let Some(kept) = self.records.get_mut(&id) else {
            return Ok(());
        };
        let created = kept.version == version && version == Version::FIRST;
        let holds = match expected {
            Answer::Applied { grows, .. } if grows.0 => version > kept.version || created,
            _ if moves_records => version >= kept.version,
            _ => version == kept.version,
        };
        let before = std::mem::replace(&mut kept.version, version);
        match holds {
            true => Ok(()),
            false => Err(format!("the version is {version} after {before}")),
        }
    }

    /// The value that a patch expects under a key: the right one, or one that it never has.
    pub(super) fn expectation(&self, id: RecordId, key: &str, right: bool) -> Option<String> {
        let value = self.records.get(&id).and_then(|kept| kept.values.get(key).cloned());
        if right { value } else { Some("\"never\"".to_owned()) }
    }

    pub(super) fn fence(&self, id: RecordId) -> u64 {
        self.records.get(&id).map_or(0, |kept| kept.fence)
    }

    pub(super) fn has_floors(&self) -> bool {
        !self.floors.is_empty()
    }

    fn is_below_floor(&self, login: &Login) -> bool {
        let floor = self.floors.get(&login.who);
        floor.is_some_and(|floor| login.epoch.is_none_or(|epoch| epoch < *floor))
    }

    /// Ends the sessions that are over the cap, now that `id` is one of them.
    fn end_over_cap(&mut self, id: RecordId, login: &Login) -> BTreeSet<RecordId> {
        if !self.has_index {
            return BTreeSet::new();
        }
        let mut sessions = self.list(login.who);
        sessions.sort_by_key(|other| (*other == id, self.records[other].authenticated));
        sessions.truncate(sessions.len().saturating_sub(login.cap));
        for other in &sessions {
            self.records.remove(other);
        }
        sessions.into_iter().collect()
    }
}

type Changed = (BTreeMap<String, String>, Vec<(Box<str>, i64)>);

/// The values after a patch, and the counters it answers.
fn changed(before: &BTreeMap<String, String>, step: &PatchStep) -> Result<Changed, Rejection> {
    let (mut values, mut counters) = (before.clone(), Vec::new());
    if step.clear {
        values.clear();
    }
    for (key, change) in &step.changes {
        match change {
            Change::Put(value) => drop(values.insert((*key).to_owned(), (*value).to_owned())),
            Change::Remove => drop(values.remove(*key)),
            Change::Add(by) => {
                let start = values.get(*key).map_or("0", |value| value);
                let start: i64 = start.parse().map_err(|_| Rejection::not_an_integer(key))?;
                let sum = start.checked_add(*by).ok_or_else(|| Rejection::overflow(key))?;
                values.insert((*key).to_owned(), sum.to_string());
                // After a clear the value is known beforehand: the patch carries it as a put.
                if !step.clear {
                    counters.push(((*key).into(), sum));
                }
            }
        }
    }
    Ok((values, counters))
}
