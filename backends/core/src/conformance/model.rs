//! Compares random sequences of calls on a store with a model.
//!
//! The model uses plain maps and implements the contract a second time. It shares no code with
//! [`Record::apply`] or a store, so that a mistake in either shows.

mod expected;
mod steps;

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::expected::{Answer, Kept, Model, Secret, Shown};
use self::steps::{By, Change, Keys, PatchStep, Proved, Replace, SLOTS, Shows, Step, Who};
use super::Subject;
use super::fixture::{Fixture, SECOND, json, principal};
use crate::error::StoreError;
use crate::facts::Facts;
use crate::outcome::{Deleted, Deletion, Outcome};
use crate::patch::{AtCap, Authentication, LoginPolicy, Patch, Rotation};
use crate::principal::Principal;
use crate::proof::{KeyId, Proof, Rehash, SecretHash};
use crate::record::Record;
use crate::store::Lookup;
use crate::token::RecordId;

/// Runs `cases` random sequences of up to 40 calls. It compares each answer, and all observable
/// state after each call, with a model.
///
/// The sequences are the same in every run. A failing sequence is shrunk and shown.
///
/// # Panics
///
/// Panics when the store and the model disagree.
pub fn model_check(subject: &impl Subject, cases: u32) {
    let runtime = super::runtime();
    let service = runtime.block_on(Fixture::open(subject));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let played = AtomicU64::new(0);
    let result = TestRunner::new_with_rng(config, rng).run(&vec(steps::step(), 1..40), |steps| {
        let mut game = Game::new(&service, played.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(game.play(&steps))
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => {
            let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
            panic!("the store disagrees with the model: {why}\nafter\n{}", steps.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("the model could not be played: {why}"),
    }
}

/// One sequence, with its own records and principals, in a service that all sequences share.
struct Game<'s> {
    service: &'s Fixture,
    number: u64,
    model: Model,
    slots: [Option<Slot>; SLOTS],
}

/// The state of a record's clients.
struct Slot {
    id: RecordId,
    /// All secrets of the record so far, the current one last.
    secrets: Vec<Secret>,
    /// The last rotation, and the proof it presented.
    last_rotation: Option<(Patch, Shown)>,
}

impl<'s> Game<'s> {
    fn new(service: &'s Fixture, number: u64) -> Self {
        Self {
            service,
            number,
            model: Model::new(service.has_index()),
            slots: std::array::from_fn(|_| None),
        }
    }

    async fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        for (n, step) in steps.iter().enumerate() {
            // Each authentication has a distinct time, so that the session a cap ends is unique.
            self.service.advance(SECOND / 1000);
            self.model.now = self.service.now();
            let context = |why| TestCaseError::fail(format!("step {}, {step:?}: {why}", n + 1));
            self.step(step).await.map_err(context)?;
            self.observe().await.map_err(context)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Create { .. } => self.create(step).await,
            Step::CreateAgain { slot, same } => self.create_again(*slot, *same).await,
            Step::Patch(patch) => self.patch(patch).await,
            Step::RotateAgain { slot } => self.rotate_again(*slot).await,
            Step::Delete { slot, shows, sees } => self.delete(*slot, *shows, *sees).await,
            Step::DeleteAll { who, except, epoch } => self.delete_all(*who, *except, *epoch).await,
            Step::Advance { by } => {
                self.service.advance(*by);
                self.model.now = self.service.now();
                Ok(())
            }
        }
    }

    /// Creates a record under a fresh id, unless the slot has a live one.
    async fn create(&mut self, step: &Step) -> Result<(), String> {
        let Step::Create { slot, at, facts, admit } = step else {
            return Ok(());
        };
        if self.slots[*slot].as_ref().is_some_and(|slot| self.model.is_live(slot.id)) {
            return Ok(());
        }
        let (id, secret) = (self.service.id(), self.fresh());
        let record = match admit {
            Some(login) => self.service.record_of(secret.at(*at), &self.principal(login.who)),
            None => self.service.record(secret.at(*at)),
        };
        let record = Record { facts: self::facts(facts), ..record };
        let policy = admit.as_ref().map_or_else(LoginPolicy::default, |l| self.policy(l));
        let outcome = self.service.admit(id, record.clone(), policy).await;
        let kept = kept(&record, admit.as_ref().map(|login| login.who));
        let expected = self.model.create(id, kept, admit.as_ref());
        self.agree(id, Ok(outcome), &expected)?;
        self.slots[*slot] = Some(Slot { id, secrets: vec![secret], last_rotation: None });
        Ok(())
    }

    /// Creates under the id of a live record: the same call again, or another client's.
    async fn create_again(&mut self, slot: usize, same: bool) -> Result<(), String> {
        let Some(id) = self.slots[slot].as_ref().map(|slot| slot.id) else {
            return Ok(());
        };
        let Some(kept) = self.model.secret(id).filter(|_| self.model.is_live(id)) else {
            return Ok(());
        };
        let secret = if same { kept } else { self.service.secret() };
        let outcome = self.service.create(id, self.service.record(secret)).await;
        let expected = if same { Answer::unchanged() } else { Answer::Exists };
        self.agree(id, Ok(outcome), &expected)
    }

    async fn patch(&mut self, step: &PatchStep) -> Result<(), String> {
        let Some(slot) = self.slots[step.slot].as_ref().filter(|_| !self.model.is_undecided(step))
        else {
            return Ok(());
        };
        let (id, shown) = (slot.id, self.shown(slot, step.shows));
        let rehash = step.rehash.and_then(|whose| self.secret(slot, whose));
        let to = self.fresh();
        let patch = self.build(step, id, shown, rehash, to);
        let answer = self.service.try_update(id, &patch).await;
        let moves_records = self.service.moves_records();
        let expected = self.model.patch(id, step, shown, to, rehash, moves_records);
        let applied = matches!(answer, Ok(Outcome::Applied(_)));
        self.agree(id, answer, &expected)?;
        if let (true, Some(_), Some(shown)) = (applied, patch.rotation(), shown) {
            let slot = self.slots[step.slot].as_mut().expect("the slot has a record");
            slot.secrets.push(to);
            slot.last_rotation = Some((patch, shown));
        }
        Ok(())
    }

    async fn rotate_again(&mut self, slot: usize) -> Result<(), String> {
        let Some(slot) = &self.slots[slot] else {
            return Ok(());
        };
        let Some((patch, shown)) = &slot.last_rotation else {
            return Ok(());
        };
        let (id, rotation) = (slot.id, patch.rotation().expect("it rotates"));
        // The contract does not say whether a minimum epoch, raised in between, rejects a login
        // that is sent again.
        if rotation.authentication.is_some() && self.model.has_floors() {
            return Ok(());
        }
        let expected = self.model.patch_again(id, *shown, rotation.hash);
        let answer = self.service.try_update(id, patch).await;
        self.agree(id, answer, &expected)
    }

    async fn delete(
        &mut self,
        slot: usize,
        shows: Shows,
        sees: Option<bool>,
    ) -> Result<(), String> {
        let Some(slot) = &self.slots[slot] else {
            return Ok(());
        };
        let (id, shown) = (slot.id, self.shown(slot, shows));
        let proof = shown.map(proof);
        let sign_in = sees.map(|right| self.model.sign_in(id, right));
        let deletion = Deletion { proof: proof.as_ref(), sign_in, ..Deletion::LOGOUT };
        let deleted = match self.service.node().delete(id, &deletion).await {
            Ok(Deleted::Ended) => "ended",
            Ok(Deleted::Gone) => "gone",
            Ok(Deleted::Superseded) => "superseded",
            Err(StoreError::UnknownKey(_)) => "unknown key",
            Err(error) => panic!("a healthy store answers a delete: {error:?}"),
        };
        same("what a deletion did", &deleted, &self.model.delete(id, shown, sees))
    }

    async fn delete_all(
        &mut self,
        who: Who,
        except: Option<usize>,
        epoch: Option<u64>,
    ) -> Result<(), String> {
        if !self.service.has_index() {
            return Ok(());
        }
        let except = except.and_then(|slot| self.slots[slot].as_ref()).map(|slot| slot.id);
        let ended = self.service.delete_all(&self.principal(who), except, epoch).await;
        same("how many ended", &ended, &self.model.delete_all(who, except, epoch))
    }

    /// Compares an answer with the model's, and takes over its version.
    fn agree(
        &mut self,
        id: RecordId,
        answer: Result<Outcome, StoreError>,
        expected: &Answer,
    ) -> Result<(), String> {
        let version = match &answer {
            Ok(Outcome::Applied(applied)) => Some(applied.version),
            _ => None,
        };
        same("the answer", &Answer::from(answer), expected)?;
        match version {
            Some(version) => self.model.learn(id, version, expected, self.service.moves_records()),
            None => Ok(()),
        }
    }

    async fn observe(&self) -> Result<(), String> {
        for slot in self.slots.iter().flatten() {
            let record = self.service.authoritative(slot.id).await;
            let seen = record.map(|record| {
                let who = record.principal.as_ref().map(|principal| self.who(principal));
                kept(&record, who)
            });
            let expected = self.model.observed(slot.id, self.service.moves_records());
            same(
                "the record",
                &seen.map(|seen| seen.comparable(self.service.moves_records())),
                &expected,
            )?;
            for (n, secret) in slot.secrets.iter().rev().take(3).enumerate() {
                // A copy may still open for a hash that the record no longer has, so a node with
                // only the old key may give either answer.
                for keys in [Keys::Both, Keys::New].into_iter().take(3 - n) {
                    let shown = Shown { secret: *secret, keys };
                    let lookup = self.service.try_load_bare(slot.id, &proof(shown)).await;
                    let expected = self.model.lookup(slot.id, shown);
                    same("what a secret opens", &said(&lookup), &expected)?;
                }
            }
        }
        self.observe_lists().await
    }

    async fn observe_lists(&self) -> Result<(), String> {
        for who in Who::ALL.into_iter().filter(|_| self.service.has_index()) {
            let listed = self.service.list(&self.principal(who)).await;
            same("a list", &listed, &self.model.list(who))?;
        }
        Ok(())
    }

    fn build(
        &self,
        step: &PatchStep,
        id: RecordId,
        shown: Option<Shown>,
        rehash: Option<Secret>,
        to: Secret,
    ) -> Patch {
        let mut patch = Patch::new();
        if step.clear {
            patch.clear();
        }
        for (key, change) in &step.changes {
            match change {
                Change::Put(value) => patch.put(key, json(value)).expect("a plain key"),
                Change::Remove => patch.remove(key).expect("a plain key"),
                Change::Add(by) => patch.add(key, *by).expect("an addition to a fresh key"),
            }
        }
        if let Some((key, right)) = step.expects {
            let value = self.model.expectation(id, key, right);
            patch.expect(key, value.as_deref().map(json)).expect("a plain key");
        }
        if let Some(shown) = shown {
            patch.prove(proof(shown));
        }
        if let (Some(replace), Some(shown)) = (&step.replace, shown) {
            patch.rotate(proof(shown), self.rotation(replace, to));
        }
        if let Some(right) = step.sees {
            patch.within(self.model.sign_in(id, right));
        }
        if let Some(secret) = rehash {
            patch.rehash(Rehash { from: vec![secret.old], to: secret.new });
        }
        if let Some(keep) = step.keep_for {
            patch.keep_until(self.service.now() + keep);
        }
        if let (Some(right), false) = (step.owns, self.service.moves_records()) {
            patch.fence(self.model.fence(id) + u64::from(!right));
            patch.own("n1".parse().expect("a plain label"));
        }
        patch
    }

    fn rotation(&self, Replace { at, by }: &Replace, to: Secret) -> Rotation {
        let elevation = |facts: &Option<&[u8]>| Authentication {
            facts: facts.map(self::facts),
            ..self.service.elevation(LoginPolicy::default())
        };
        let authentication = match by {
            By::Rotation => None,
            By::Elevation(facts) => Some(elevation(facts)),
            By::Login(login) => Some(Authentication {
                principal: Some(self.principal(login.who)),
                policy: self.policy(login),
                ..elevation(&login.facts)
            }),
        };
        Rotation { hash: to.at(*at), authentication }
    }

    /// Returns the proof that a client presents.
    fn shown(&self, slot: &Slot, Shows { secret, keys }: Shows) -> Option<Shown> {
        self.secret(slot, secret).map(|secret| Shown { secret, keys })
    }

    fn secret(&self, slot: &Slot, which: Proved) -> Option<Secret> {
        let last = slot.secrets.len() - 1;
        match which {
            Proved::Nothing => None,
            Proved::Current => Some(slot.secrets[last]),
            Proved::Earlier => Some(slot.secrets[last.saturating_sub(1)]),
            Proved::Wrong => Some(self.fresh()),
        }
    }

    fn fresh(&self) -> Secret {
        let hash = |print, name| {
            let key = KeyId::from_parts(print, name).expect("a plain name");
            SecretHash::from_parts(key, *self.service.secret().digest())
        };
        Secret { old: hash(1, "k1"), new: hash(2, "k2") }
    }

    fn principal(&self, who: Who) -> Principal {
        principal(&format!("{who:?} of {}", self.number))
    }

    fn who(&self, principal: &Principal) -> Who {
        let named = Who::ALL.into_iter().find(|who| self.principal(*who) == *principal);
        named.expect("a record belongs to a principal of its own sequence")
    }

    /// Returns the conditions of a login. A store without an index cannot guarantee a cap, so it
    /// only gets caps that are never reached.
    fn policy(&self, login: &steps::Login) -> LoginPolicy {
        let cap = if self.service.has_index() { login.cap } else { usize::MAX };
        let at_cap = if login.refuses { AtCap::Refuse } else { AtCap::EndOldest };
        LoginPolicy { cap, epoch: login.epoch, at_cap }
    }
}

/// Returns the observable part of a record.
fn kept(record: &Record, who: Option<Who>) -> Kept {
    let values = record
        .values
        .iter()
        .map(|(key, value)| (key.to_owned(), String::from_utf8_lossy(value).into_owned()));
    Kept {
        secret: record.secret,
        replaced: None,
        values: values.collect(),
        created: record.created,
        authenticated: record.authenticated,
        idle: record.idle_deadline,
        absolute: record.absolute_deadline,
        version: record.version,
        who,
        sign_in: record.sign_in,
        facts: record.facts.as_bytes().to_vec(),
        fence: record.fence(),
    }
}

fn proof(shown: Shown) -> Proof {
    let mut hashes = shown.hashes().into_iter();
    let current = hashes.next().expect("a node has a key");
    hashes.fold(current.into(), Proof::with_other)
}

fn facts(bytes: &[u8]) -> Facts {
    Facts::new(bytes).expect("a few bytes")
}

/// Returns a lookup as one word.
fn said(lookup: &Result<Lookup, StoreError>) -> &'static str {
    match lookup {
        Ok(Lookup::Found(_)) => "found",
        Ok(Lookup::Superseded) => "superseded",
        Ok(Lookup::Absent(_)) => "absent",
        Err(StoreError::UnknownKey(_)) => "unknown key",
        Err(error) => panic!("a healthy store answers a load: {error:?}"),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("{what} is {seen:?} and should be {expected:?}")),
    }
}
