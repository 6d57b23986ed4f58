//! The expected behaviour of a store, on plain maps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::steps::{By, Change, Key, Keys, Login, OWN_IDLE_LIFE, PatchStep, Who};
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::proof::SecretHash;
use crate::rejection::Rejection;
use crate::timestamp::Timestamp;
use crate::token::RecordId;
use crate::version::Version;

/// The live and expired records, and the minimum epochs.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) now: Timestamp,
    has_index: bool,
    records: BTreeMap<RecordId, Kept>,
    floors: BTreeMap<Who, u64>,
}

/// The modelled part of a record.
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
    pub(super) sign_in: u64,
    pub(super) facts: Vec<u8>,
    pub(super) fence: u64,
}

/// A secret, by its hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secret {
    pub(super) old: SecretHash,
    pub(super) new: SecretHash,
}

impl Secret {
    pub(super) fn at(&self, key: Key) -> SecretHash {
        match key {
            Key::Old => self.old,
            Key::New => self.new,
        }
    }
}

/// A client's proof: the hashes of a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) secret: Secret,
    pub(super) keys: Keys,
}

impl Shown {
    pub(super) fn hashes(self) -> Vec<SecretHash> {
        match self.keys {
            Keys::Old => vec![self.secret.old],
            Keys::New => vec![self.secret.new],
            Keys::Both => vec![self.secret.new, self.secret.old],
        }
    }

    /// Returns whether the proof has this hash, or `None` without its key.
    fn shows(self, stored: SecretHash) -> Option<bool> {
        let same_key = |hash: &SecretHash| hash.key() == stored.key();
        self.hashes().into_iter().find(same_key).map(|hash| hash.digest() == stored.digest())
    }
}

impl Kept {
    /// Removes the fields that cannot be compared: the replaced secret, which only shows in
    /// lookups, and for a store that moves records the version and the fence.
    pub(super) fn comparable(self, moves_records: bool) -> Self {
        Self {
            replaced: None,
            version: if moves_records { Version::FIRST } else { self.version },
            fence: if moves_records { 0 } else { self.fence },
            ..self
        }
    }

    fn authenticate(&mut self, by: &By, now: Timestamp) {
        let facts = match by {
            By::Rotation => return,
            By::Elevation(facts) => facts,
            By::Login(login) => {
                self.sign_in += u64::from(self.who != Some(login.who));
                self.who = Some(login.who);
                &login.facts
            }
        };
        if let Some(facts) = facts {
            self.facts = facts.to_vec();
            self.idle = self.idle.min(self.latest_idle(now));
        }
        self.authenticated = Some(now);
        self.absolute = now + Duration::from_secs(8 * 60 * 60);
    }
}

impl Kept {
    /// Returns the latest time to which the idle deadline may move.
    fn latest_idle(&self, now: Timestamp) -> Timestamp {
        match self.facts == OWN_IDLE_LIFE {
            true => now + Duration::from_secs(5 * 60),
            false => Timestamp::MAX,
        }
    }
}

/// The answer to a create or an update, without the version.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Applied {
        counters: Vec<(Box<str>, i64)>,
        ended: BTreeSet<RecordId>,
        /// The expected change of the version. An observed answer does not show it.
        grows: Grows,
    },
    Exists,
    Gone,
    Superseded,
    Conflict,
    UnknownKey,
    Rejected(Rejection),
}

/// The expected change of a version. All values compare equal, because an answer does not show it.
#[derive(Debug)]
pub(super) struct Grows(bool);

impl PartialEq for Grows {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Answer {
    /// Returns an answer for a call that was already applied.
    pub(super) fn unchanged() -> Self {
        Self::Applied { counters: Vec::new(), ended: BTreeSet::new(), grows: Grows(false) }
    }

    /// Converts the answer of a store.
    pub(super) fn from(answer: Result<Outcome, StoreError>) -> Self {
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(StoreError::UnknownKey(_)) => return Self::UnknownKey,
            Err(error) => panic!("a healthy store answers: {error:?}"),
        };
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
    /// Creates a model of a store with or without an index. Without one there is no cap.
    pub(super) fn new(has_index: bool) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            has_index,
            records: BTreeMap::new(),
            floors: BTreeMap::new(),
        }
    }

    /// Creates a record under an id that was never used.
    pub(super) fn create(&mut self, id: RecordId, kept: Kept, admit: Option<&Login>) -> Answer {
        if admit.is_some_and(|login| self.is_below_floor(login)) {
            return Answer::Rejected(Rejection::StaleEpoch);
        }
        if admit.is_some_and(|login| self.is_full(id, login)) {
            return Answer::Rejected(Rejection::AtCap);
        }
        self.records.insert(id, kept);
        Answer::Applied {
            counters: Vec::new(),
            ended: admit.map_or_else(BTreeSet::new, |login| self.end_over_cap(id, login)),
            grows: Grows(true),
        }
    }

    /// Applies a patch. `to` is the new secret of a rotation, and `rehash` the secret that moves to
    /// the newer key.
    pub(super) fn patch(
        &mut self,
        id: RecordId,
        step: &PatchStep,
        shown: Option<Shown>,
        to: Secret,
        rehash: Option<Secret>,
        moves_records: bool,
    ) -> Answer {
        match shown.map_or("found", |shown| self.lookup(id, shown)) {
            "found" if self.is_live(id) => {}
            "superseded" => return Answer::Superseded,
            "unknown key" => return Answer::UnknownKey,
            _ => return Answer::Gone,
        }
        if step.sees == Some(false) {
            return Answer::Superseded;
        }
        let owns = step.owns.filter(|_| !moves_records);
        if owns == Some(false) || step.expects.is_some_and(|(_, right)| !right) {
            return Answer::Conflict;
        }
        let login = step.login();
        if login.is_some_and(|login| self.is_below_floor(login)) {
            return Answer::Rejected(Rejection::StaleEpoch);
        }
        if login.is_some_and(|login| self.is_full(id, login)) {
            return Answer::Rejected(Rejection::AtCap);
        }
        let now = self.now;
        let kept = self.records.get_mut(&id).expect("a live record is kept");
        let (values, counters) = match changed(&kept.values, step) {
            Ok(changed) => changed,
            Err(why) => return Answer::Rejected(why),
        };
        kept.values = values;
        let moved = rehash.filter(|secret| secret.old == kept.secret);
        kept.secret = moved.map_or(kept.secret, |secret| secret.new);
        if let Some(replace) = &step.replace {
            kept.replaced = Some((kept.secret, now + Duration::from_secs(60)));
            kept.secret = to.at(replace.at);
            kept.authenticate(&replace.by, now);
        }
        if let Some(keep) = step.keep_for {
            let asked = (now + keep).min(kept.latest_idle(now));
            kept.idle = kept.idle.max(asked).min(kept.absolute);
        }
        kept.fence += u64::from(owns.is_some());
        let grows = step.clear || !step.changes.is_empty() || step.replace.is_some();
        Answer::Applied {
            counters,
            ended: login.map_or_else(BTreeSet::new, |login| self.end_over_cap(id, login)),
            grows: Grows(grows || owns.is_some() || moved.is_some()),
        }
    }

    /// Returns the answer to a rotation that is sent again.
    pub(super) fn patch_again(&self, id: RecordId, shown: Shown, to: SecretHash) -> Answer {
        let is_there = self.records.get(&id).is_some_and(|kept| kept.secret == to);
        match self.lookup(id, shown) {
            _ if is_there && self.is_live(id) => Answer::unchanged(),
            "superseded" => Answer::Superseded,
            "unknown key" => Answer::UnknownKey,
            _ => Answer::Gone,
        }
    }

    /// Returns the answer to a deletion, as one word.
    pub(super) fn delete(
        &mut self,
        id: RecordId,
        shown: Option<Shown>,
        sees: Option<bool>,
    ) -> &'static str {
        match shown.map_or("found", |shown| self.lookup(id, shown)) {
            _ if !self.is_live(id) => "gone",
            "found" if sees == Some(false) => "superseded",
            "found" => {
                self.records.remove(&id);
                "ended"
            }
            "absent" => "gone",
            other => other,
        }
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

    /// Returns the answer to a lookup, as one word.
    pub(super) fn lookup(&self, id: RecordId, shown: Shown) -> &'static str {
        let Some(kept) = self.records.get(&id).filter(|_| self.is_live(id)) else {
            return "absent";
        };
        let replaced = kept.replaced.filter(|(_, until)| self.now < *until);
        match (shown.shows(kept.secret), replaced.map(|(replaced, _)| shown.shows(replaced))) {
            (Some(true), _) => "found",
            (None, _) | (_, Some(None)) => "unknown key",
            (_, Some(Some(true))) => "superseded",
            _ => "absent",
        }
    }

    /// Returns the record's hash.
    pub(super) fn secret(&self, id: RecordId) -> Option<SecretHash> {
        self.records.get(&id).map(|kept| kept.secret)
    }

    /// Returns the sign-in that a client claims to have seen.
    pub(super) fn sign_in(&self, id: RecordId, right: bool) -> u64 {
        let there_is = self.records.get(&id).map_or(0, |kept| kept.sign_in);
        if right { there_is } else { there_is.checked_sub(1).unwrap_or(1) }
    }

    /// Returns true if a patch fails for two reasons and the contract does not say which one is
    /// reported: the minimum epoch and the sign-in.
    pub(super) fn is_undecided(&self, step: &PatchStep) -> bool {
        let stale_epoch = step.login().is_some_and(|login| self.is_below_floor(login));
        stale_epoch && step.sees == Some(false)
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

    /// Returns the observable part of the record.
    pub(super) fn observed(&self, id: RecordId, moves_records: bool) -> Option<Kept> {
        let kept = self.records.get(&id).filter(|_| self.is_live(id));
        kept.cloned().map(|kept| kept.comparable(moves_records))
    }

    /// Takes over the version of an answer, if it changed as expected.
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

    /// Returns the value that a patch expects under a key: the current one, or one that it never
    /// has.
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

    /// Returns true if a login is refused because the principal's other sessions reach the cap.
    fn is_full(&self, id: RecordId, login: &Login) -> bool {
        let others = self.list(login.who).iter().filter(|other| **other != id).count();
        login.refuses && self.has_index && others >= login.cap
    }

    /// Ends the sessions above the cap, given that `id` is one of the principal's.
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

impl PatchStep {
    fn login(&self) -> Option<&Login> {
        match &self.replace.as_ref()?.by {
            By::Login(login) => Some(login),
            By::Rotation | By::Elevation(_) => None,
        }
    }
}

type Changed = (BTreeMap<String, String>, Vec<(Box<str>, i64)>);

/// Returns the values after a patch, and the counters of its answer.
fn changed(before: &BTreeMap<String, String>, step: &PatchStep) -> Result<Changed, Rejection> {
    let (mut values, mut counters) = (before.clone(), Vec::new());
    if step.clear {
        values.clear();
    }
    if step.login().is_some() {
        values.retain(|key, _| !key.starts_with('~'));
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
                // After a clear, the patch itself knows the value and carries it as a put.
                if !step.clear {
                    counters.push(((*key).into(), sum));
                }
            }
        }
    }
    Ok((values, counters))
}
