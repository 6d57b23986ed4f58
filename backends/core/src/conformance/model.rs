//! Random sequences of calls against a store and a model of it, which have to agree.
//!
//! The model is plain maps and says again, on its own, what [`Record::apply`] and a store say: it
//! shares no code with either, so that a mistake in one of them shows.

mod expected;
mod steps;

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use self::expected::{Answer, Kept, Model};
use self::steps::{Change, PatchStep, Proved, Replace, SLOTS, Step, Who};
use super::Subject;
use super::fixture::{Fixture, SECOND, Visitor, json, principal};
use crate::lifetime::Lifetime;
use crate::patch::{Admission, Authentication, Patch, Rotation};
use crate::principal::Principal;
use crate::proof::SecretHash;
use crate::record::Record;
use crate::store::{Lookup, Outcome};
use crate::token::RecordId;

/// Plays `cases` random sequences of up to 40 calls, and compares each answer, and after each call
/// everything that can be observed, with a model.
///
/// The sequences are the same in every run. One that fails is made as short as it can be and shown.
///
/// # Panics
///
/// When the store and the model disagree.
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

/// One sequence: its own records and principals in a service that all sequences share.
struct Game<'s> {
    service: &'s Fixture,
    number: u64,
    model: Model,
    slots: [Option<Slot>; SLOTS],
}

/// What the clients of one record hold.
struct Slot {
    id: RecordId,
    /// Every secret the record ever had, the current one last.
    secrets: Vec<SecretHash>,
    last_rotation: Option<Patch>,
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
            // Every authentication has a time of its own, so that a cap has one oldest session.
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
            Step::Create { slot, admit } => self.create(*slot, admit.as_ref()).await,
            Step::CreateAgain { slot, same } => self.create_again(*slot, *same).await,
            Step::Patch(patch) => self.patch(patch).await,
            Step::RotateAgain { slot } => self.rotate_again(*slot).await,
            Step::Delete { slot, proved } => self.delete(*slot, *proved).await,
            Step::DeleteAll { who, except, epoch } => self.delete_all(*who, *except, *epoch).await,
            Step::Advance { by } => {
                self.service.advance(*by);
                self.model.now = self.service.now();
                Ok(())
            }
        }
    }

    /// Creates a record under a fresh id, unless the slot has a live one.
    async fn create(&mut self, slot: usize, admit: Option<&steps::Login>) -> Result<(), String> {
        if self.slots[slot].as_ref().is_some_and(|slot| self.model.is_live(slot.id)) {
            return Ok(());
        }
        let Visitor { id, secret } = self.service.stranger();
        let record = match admit {
            Some(login) => self.service.record_of(secret, &self.principal(login.who)),
            None => self.service.record(secret),
        };
        let admission = admit.map_or_else(Admission::default, |login| self.admission(login));
        let outcome = self.service.admit(id, record.clone(), admission).await;
        let expected = self.model.create(id, kept(&record, admit.map(|login| login.who)), admit);
        self.agree(id, outcome, &expected)?;
        self.slots[slot] = Some(Slot { id, secrets: vec![secret], last_rotation: None });
        Ok(())
    }

    /// Creates under the id of a live record, as a re-send or as a stranger.
    async fn create_again(&mut self, slot: usize, same: bool) -> Result<(), String> {
        let Some((id, secrets)) = self.live(slot) else {
            return Ok(());
        };
        let secret = if same { secrets[secrets.len() - 1] } else { self.service.secret() };
        let outcome = self.service.create(id, self.service.record(secret)).await;
        let expected = if same { Answer::unchanged() } else { Answer::Exists };
        self.agree(id, outcome, &expected)
    }

    async fn patch(&mut self, step: &PatchStep) -> Result<(), String> {
        let Some(slot) = self.slots[step.slot].as_ref() else {
            return Ok(());
        };
        let (id, shown) = (slot.id, self.shown(slot, step.proved));
        let to = self.service.secret();
        let patch = self.build(step, id, shown, to);
        let outcome = self.service.update(id, &patch).await;
        let expected = self.model.patch(id, step, shown, to, self.service.moves_records());
        let applied = matches!(outcome, Outcome::Applied(_));
        self.agree(id, outcome, &expected)?;
        if let (true, Some(_), Some(slot)) = (applied, patch.rotation(), &mut self.slots[step.slot])
        {
            slot.secrets.push(to);
            slot.last_rotation = Some(patch);
        }
        Ok(())
    }

    async fn rotate_again(&mut self, slot: usize) -> Result<(), String> {
        let Some(slot) = &self.slots[slot] else {
            return Ok(());
        };
        let Some(patch) = &slot.last_rotation else {
            return Ok(());
        };
        let (id, is_login) =
            (slot.id, patch.rotation().is_some_and(|r| r.authentication.is_some()));
        // Whether a floor that was raised since rejects a login that is sent again is left open.
        if is_login && self.model.has_floors() {
            return Ok(());
        }
        let outcome = self.service.update(id, patch).await;
        let expected = match self.model.is_live(id) {
            true => Answer::unchanged(),
            false => Answer::Gone,
        };
        self.agree(id, outcome, &expected)
    }

    async fn delete(&mut self, slot: usize, proved: Proved) -> Result<(), String> {
        let Some(slot) = &self.slots[slot] else {
            return Ok(());
        };
        let (id, shown) = (slot.id, self.shown(slot, proved));
        let deleted = self.service.delete(id, shown.map(Into::into).as_ref()).await;
        same("whether it was live", &deleted, &self.model.delete(id, shown))
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

    /// Compares an answer, and learns the version from it.
    fn agree(&mut self, id: RecordId, outcome: Outcome, expected: &Answer) -> Result<(), String> {
        let version = match &outcome {
            Outcome::Applied(applied) => Some(applied.version),
            _ => None,
        };
        same("the answer", &Answer::from(outcome), expected)?;
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
            for secret in slot.secrets.iter().rev().take(3) {
                let lookup = self.service.load_bare(slot.id, &(*secret).into()).await;
                same("what a secret opens", &said(&lookup), &self.model.lookup(slot.id, *secret))?;
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
        shown: Option<SecretHash>,
        to: SecretHash,
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
            patch.prove(shown.into());
        }
        if let (Some(replace), Some(shown)) = (&step.replace, shown) {
            patch.rotate(shown.into(), self.rotation(replace, to));
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

    fn rotation(&self, replace: &Replace, hash: SecretHash) -> Rotation {
        let Replace::Login(login) = replace else {
            return Rotation { hash, authentication: None };
        };
        let at = self.service.now();
        Rotation {
            hash,
            authentication: Some(Authentication {
                at,
                absolute_deadline: Lifetime::default().absolute_deadline(at),
                principal: Some(self.principal(login.who)),
                facts: None,
                admission: self.admission(login),
            }),
        }
    }

    /// The secret that a client shows.
    fn shown(&self, slot: &Slot, proved: Proved) -> Option<SecretHash> {
        let last = slot.secrets.len() - 1;
        match proved {
            Proved::Nothing => None,
            Proved::Current => Some(slot.secrets[last]),
            Proved::Earlier => Some(slot.secrets[last.saturating_sub(1)]),
            Proved::Wrong => Some(self.service.secret()),
        }
    }

    fn live(&self, slot: usize) -> Option<(RecordId, &[SecretHash])> {
        let slot = self.slots[slot].as_ref()?;
        self.model.is_live(slot.id).then_some((slot.id, &slot.secrets))
    }

    fn principal(&self, who: Who) -> Principal {
        principal(&format!("{who:?} of {}", self.number))
    }

    fn who(&self, principal: &Principal) -> Who {
        let named = Who::ALL.into_iter().find(|who| self.principal(*who) == *principal);
        named.expect("a record belongs to a principal of its own sequence")
    }

    /// On which terms a login is admitted. A store without an index may hold a cap as well as it can,
    /// so it is given none that it could reach.
    fn admission(&self, login: &steps::Login) -> Admission {
        let cap = if self.service.has_index() { login.cap } else { usize::MAX };
        Admission { cap, epoch: login.epoch }
    }
}

/// What can be observed of a record.
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
        fence: record.fence(),
    }
}

/// A lookup in one word.
fn said(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Found(_) => "found",
        Lookup::Superseded => "superseded",
        Lookup::Absent(_) => "absent",
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("{what} is {seen:?} and should be {expected:?}")),
    }
}
