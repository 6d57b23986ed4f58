//! What every check needs: a fresh service, visitors, patches, and calls that interleave.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Subject;
use super::faults::Pause;
use crate::env::{Env, ManualClock};
use crate::error::StoreError;
use crate::lifetime::Lifetime;
use crate::operate::Store;
use crate::patch::{Admission, Authentication, Patch, Rotation};
use crate::principal::{Principal, Realm};
use crate::proof::{KeyId, Keyring, Proof, SecretHash};
use crate::record::{Record, Version};
use crate::store::{
    Applied, Carry, Deleted, Deletion, EndReason, Hint, Lookup, Outcome, Revocation,
};
use crate::timestamp::Timestamp;
use crate::token::{RecordId, Token};
use crate::values::{RawJson, Values};

/// One fresh service. Calls go to its nodes in turn, and bring what a client would have carried
/// from the answers before.
pub(crate) struct Fixture {
    nodes: Vec<Arc<dyn Store>>,
    clock: ManualClock,
    env: Env,
    has_index: bool,
    moves_records: bool,
    turn: AtomicUsize,
    carried: Mutex<HashMap<RecordId, Hint>>,
}

impl Fixture {
    pub(crate) async fn open(subject: &impl Subject) -> Arc<Self> {
        let clock = ManualClock::default();
        let env = Env::with_clock(clock.clone());
        let nodes = subject.nodes(env.clone()).await;
        assert!(!nodes.is_empty(), "a service has at least one node");
        Arc::new(Self {
            nodes,
            clock,
            env,
            has_index: subject.has_index(),
            moves_records: subject.moves_records(),
            turn: AtomicUsize::new(0),
            carried: Mutex::default(),
        })
    }

    /// A fresh service, if its stores keep an index of principals.
    pub(crate) async fn with_index(subject: &impl Subject) -> Option<Arc<Self>> {
        match subject.has_index() {
            true => Some(Self::open(subject).await),
            false => None,
        }
    }

    pub(crate) fn nodes(&self) -> &[Arc<dyn Store>] {
        &self.nodes
    }

    /// The node whose turn it is.
    pub(crate) fn node(&self) -> &Arc<dyn Store> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.nodes[turn % self.nodes.len()]
    }

    pub(crate) fn has_index(&self) -> bool {
        self.has_index
    }

    pub(crate) fn moves_records(&self) -> bool {
        self.moves_records
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.now()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn id(&self) -> RecordId {
        self.node().mint().expect("a store mints ids")
    }

    pub(crate) fn secret(&self) -> SecretHash {
        let mut digest = [0; 32];
        self.env.fill(&mut digest).expect("the system's randomness");
        SecretHash::from_parts(KeyId::NONE, digest)
    }

    /// A record that begins now, idle 30 min, absolute 8 h.
    pub(crate) fn record(&self, secret: SecretHash) -> Record {
        let (now, lifetime) = (self.now(), Lifetime::default());
        let absolute = lifetime.absolute_deadline(now);
        Record::new(secret, now, lifetime.idle_deadline(now), absolute)
    }

    /// A record of a principal who signs in now.
    pub(crate) fn record_of(&self, secret: SecretHash, principal: &Principal) -> Record {
        Record {
            principal: Some(principal.clone()),
            authenticated: Some(self.now()),
            ..self.record(secret)
        }
    }

    /// A visitor with a fresh record that holds these values, which every node has seen and may
    /// have copied.
    pub(crate) async fn visitor(&self, entries: &[(&str, &str)]) -> Visitor {
        let visitor = self.unseen_visitor(entries).await;
        assert!(self.opens(visitor.id, &visitor.proof()).await, "what was created is live");
        visitor
    }

    /// A visitor with a fresh record, which no node has looked up.
    pub(crate) async fn unseen_visitor(&self, entries: &[(&str, &str)]) -> Visitor {
        let visitor = self.stranger();
        let record = Record { values: values(entries), ..self.record(visitor.secret) };
        let outcome = self.create(visitor.id, record).await;
        applied(outcome, "a create under a fresh id is applied");
        visitor
    }

    /// A visitor who signed in with the creation of the record, which every node has seen.
    pub(crate) async fn member(&self, principal: &Principal) -> Visitor {
        let visitor = self.stranger();
        let record = self.record_of(visitor.secret, principal);
        let outcome = self.create(visitor.id, record).await;
        applied(outcome, "a create under a fresh id is applied");
        assert!(self.opens(visitor.id, &visitor.proof()).await, "what was created is live");
        visitor
    }

    /// A visitor whose record was never created.
    pub(crate) fn stranger(&self) -> Visitor {
        Visitor { id: self.id(), secret: self.secret() }
    }

    pub(crate) async fn create(&self, id: RecordId, record: Record) -> Outcome {
        self.admit(id, record, Admission::default()).await
    }

    pub(crate) async fn admit(
        &self,
        id: RecordId,
        record: Record,
        admission: Admission,
    ) -> Outcome {
        let outcome = self.node().create(id, record, admission).await;
        self.learn_outcome(id, outcome.expect("a healthy store answers a create"))
    }

    pub(crate) async fn load(&self, id: RecordId, proof: Option<&Proof>) -> Lookup {
        let lookup = self.node().load(id, proof, &self.hint(id)).await;
        let lookup = lookup.expect("a healthy store answers a load");
        if let Lookup::Found(found) = &lookup {
            assert_eq!(found.id, id, "the record that is found is the one asked for");
            self.learn(id, &found.carry);
        }
        lookup
    }

    /// What a node says to a client that carries nothing, so that it may answer from any copy.
    pub(crate) async fn try_load_bare(
        &self,
        id: RecordId,
        proof: &Proof,
    ) -> Result<Lookup, StoreError> {
        self.node().load(id, Some(proof), &Hint::default()).await
    }

    /// The record as the authority has it: no copy has seen a version this high.
    pub(crate) async fn authoritative(&self, id: RecordId) -> Option<Record> {
        let hint = Hint { seen: Some(Version(u64::MAX)), ..self.hint(id) };
        let lookup = self.node().load(id, None, &hint).await;
        match lookup.expect("a healthy store answers a load") {
            Lookup::Found(found) => Some((*found.record).clone()),
            Lookup::Absent(_) => None,
            Lookup::Superseded => panic!("a load without a proof is never superseded"),
        }
    }

    /// The record as the authority has it, without what a store may change of its own accord.
    pub(crate) async fn snapshot(&self, id: RecordId) -> Record {
        let record = self.authoritative(id).await.expect("the record is live");
        let version = match self.moves_records {
            true => Version::FIRST,
            false => record.version,
        };
        Record { version, owner: None, ..record }
    }

    /// What every node answers to a load, with and without what the client carries.
    pub(crate) async fn loads(&self, id: RecordId, proof: Option<&Proof>) -> Vec<Lookup> {
        let mut lookups = Vec::new();
        for hint in [Hint::default(), self.hint(id)] {
            for node in &self.nodes {
                let lookup = node.load(id, proof, &hint).await;
                lookups.push(lookup.expect("a healthy store answers a load"));
            }
        }
        lookups
    }

    /// Whether no node finds the record.
    pub(crate) async fn is_absent(&self, id: RecordId) -> bool {
        let lookups = self.loads(id, None).await;
        lookups.iter().all(|lookup| matches!(lookup, Lookup::Absent(_)))
    }

    /// Whether a proof opens the record on every node.
    pub(crate) async fn opens(&self, id: RecordId, proof: &Proof) -> bool {
        let lookups = self.loads(id, Some(proof)).await;
        lookups.iter().all(|lookup| matches!(lookup, Lookup::Found(_)))
    }

    pub(crate) async fn update(&self, id: RecordId, patch: &Patch) -> Outcome {
        let outcome = self.try_update(id, patch).await;
        outcome.expect("a healthy store answers an update")
    }

    pub(crate) async fn try_update(
        &self,
        id: RecordId,
        patch: &Patch,
    ) -> Result<Outcome, StoreError> {
        let outcome = self.node().update(id, patch, &self.hint(id)).await?;
        Ok(self.learn_outcome(id, outcome))
    }

    pub(crate) async fn apply(&self, id: RecordId, patch: &Patch) -> Applied {
        applied(self.update(id, patch).await, "a patch to a live record is applied")
    }

    pub(crate) async fn delete(&self, id: RecordId, proof: Option<&Proof>) -> bool {
        self.end(id, &Deletion { proof, ..Deletion::LOGOUT }).await == Deleted::Ended
    }

    pub(crate) async fn end(&self, id: RecordId, deletion: &Deletion<'_>) -> Deleted {
        let deleted = self.node().delete(id, deletion).await;
        deleted.expect("a healthy store answers a delete")
    }

    /// Asserts that every node lists these sessions, where there is an index.
    pub(crate) async fn assert_listed(&self, principal: &Principal, ids: &[RecordId]) {
        let mut expected = ids.to_vec();
        expected.sort();
        for _ in self.nodes.iter().filter(|_| self.has_index) {
            let listed = self.list(principal).await;
            assert_eq!(listed, expected, "a list shows the live sessions and no other");
        }
    }

    /// The ids that the node whose turn it is lists, sorted.
    pub(crate) async fn list(&self, principal: &Principal) -> Vec<RecordId> {
        let infos = self.node().list(principal).await;
        let infos = infos.expect("a healthy store with an index answers a list");
        let mut ids: Vec<_> = infos.iter().map(|info| info.id).collect();
        ids.sort();
        ids
    }

    pub(crate) async fn delete_all(
        &self,
        principal: &Principal,
        except: Option<RecordId>,
        epoch: Option<u64>,
    ) -> u64 {
        let revocation = Revocation { except, epoch, reason: EndReason::Logout };
        let ended = self.node().delete_all(principal, revocation).await;
        ended.expect("a healthy store with an index answers a delete_all")
    }

    /// A patch that signs `visitor` in as `principal`, under a new secret and for 8 h from now.
    pub(crate) fn login(
        &self,
        visitor: Visitor,
        to: SecretHash,
        principal: &Principal,
        admission: Admission,
    ) -> Patch {
        let principal = Some(principal.clone());
        self.authenticate(visitor, to, Authentication { principal, ..self.elevation(admission) })
    }

    /// A patch that replaces the visitor's secret with an authentication.
    pub(crate) fn authenticate(
        &self,
        visitor: Visitor,
        to: SecretHash,
        authentication: Authentication,
    ) -> Patch {
        let mut patch = Patch::new();
        patch.rotate(visitor.proof(), Rotation { hash: to, authentication: Some(authentication) });
        patch
    }

    /// An authentication now, for 8 h, of the principal that the record has.
    pub(crate) fn elevation(&self, admission: Admission) -> Authentication {
        Authentication {
            at: self.now(),
            absolute_deadline: Lifetime::default().absolute_deadline(self.now()),
            principal: None,
            facts: None,
            admission,
        }
    }

    /// What a client carries of a record.
    pub(crate) fn hint(&self, id: RecordId) -> Hint {
        self.carried().get(&id).cloned().unwrap_or_default()
    }

    fn learn_outcome(&self, id: RecordId, outcome: Outcome) -> Outcome {
        if let Outcome::Applied(applied) = &outcome {
            self.learn(id, &applied.carry);
        }
        outcome
    }

    fn learn(&self, id: RecordId, carry: &Carry) {
        let mut carried = self.carried();
        let hint = carried.entry(id).or_default();
        hint.routes.clone_from(&carry.routes);
        hint.seen = hint.seen.max(carry.version);
    }

    fn carried(&self) -> MutexGuard<'_, HashMap<RecordId, Hint>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client with a token: the record it names and the secret's hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) id: RecordId,
    pub(crate) secret: SecretHash,
}

impl Visitor {
    pub(crate) fn proof(&self) -> Proof {
        self.secret.into()
    }
}

/// A client of a record, with the secret itself, which nodes hash under the keys that they have.
#[derive(Debug)]
pub(crate) struct Holder {
    token: Token,
}

impl Holder {
    /// A client of the record, with a fresh secret.
    pub(crate) fn of(service: &Fixture, id: RecordId) -> Self {
        let token = Token::generate(id, service.node().env()).expect("the system's randomness");
        Self { token }
    }

    /// A client whose record is created with the hash under a ring's current key.
    pub(crate) async fn create(
        service: &Fixture,
        ring: &Keyring,
        entries: &[(&str, &str)],
    ) -> Self {
        let holder = Self::of(service, service.id());
        let record =
            Record { values: values(entries), ..service.record(holder.under(ring).secret) };
        let outcome = service.create(holder.id(), record).await;
        applied(outcome, "a create under a fresh id is applied");
        assert!(service.opens(holder.id(), &holder.proof(ring)).await, "what was created is live");
        holder
    }

    pub(crate) fn id(&self) -> RecordId {
        self.token.id()
    }

    /// The visitor that a node with this ring sees.
    pub(crate) fn under(&self, ring: &Keyring) -> Visitor {
        let secret = ring.hash(&Realm::default(), self.token.secret());
        Visitor { id: self.id(), secret }
    }

    /// What the client shows to a node with this ring.
    pub(crate) fn proof(&self, ring: &Keyring) -> Proof {
        ring.prove(&Realm::default(), self.token.secret())
    }

    /// The patch as a node with this ring sends it.
    pub(crate) fn rehashed(&self, ring: &Keyring, mut patch: Patch) -> Patch {
        let proof = self.proof(ring);
        if let Some(rehash) = ring.rehash(&proof) {
            patch.rehash(rehash);
        }
        patch.prove(proof);
        patch
    }
}

/// The rings of nodes while a key is changed.
pub(crate) struct Rings {
    /// Has the old key only.
    pub(crate) old: Keyring,
    /// Still hashes under the old one.
    pub(crate) accepting: Keyring,
    /// Hashes under the new key, and accepts the old one.
    pub(crate) both: Keyring,
    /// Has the new key only.
    pub(crate) new: Keyring,
}

impl Rings {
    pub(crate) const OLD: &str = "k1";

    pub(crate) fn new() -> Self {
        let (old, new) = (ring(Self::OLD, 1), ring("k2-of-16-letters", 2));
        let accepting = old.clone().accept("k2-of-16-letters", &[2; 32]);
        let both = new.clone().accept(Self::OLD, &[1; 32]);
        let long = "a key of 32 bytes";
        Self { old, accepting: accepting.expect(long), both: both.expect(long), new }
    }
}

/// A ring of one key.
pub(crate) fn ring(name: &str, key: u8) -> Keyring {
    Keyring::keyed(name, &[key; 32]).expect("a key of 32 bytes")
}

pub(crate) fn principal(id: &str) -> Principal {
    Principal::new(Realm::default(), id).expect("a principal of the kit has a plain name")
}

pub(crate) fn json(text: &str) -> RawJson {
    RawJson::parse(text).expect("a value of the kit is JSON")
}

pub(crate) fn values(entries: &[(&str, &str)]) -> Values {
    let entries = entries.iter().map(|(key, value)| (key, value.as_bytes()));
    entries.collect()
}

/// A patch that puts these values.
pub(crate) fn put(entries: &[(&str, &str)]) -> Patch {
    let mut patch = Patch::new();
    for (key, value) in entries {
        patch.put(key, json(value)).expect("a key of the kit has the right form");
    }
    patch
}

/// A patch that adds to a counter.
pub(crate) fn add(key: &str, by: i64) -> Patch {
    let mut patch = Patch::new();
    patch.add(key, by).expect("an addition to an empty patch");
    patch
}

/// A patch that puts a value where `expected` is what the key has.
pub(crate) fn replace(key: &str, expected: Option<&str>, value: &str) -> Patch {
    let mut patch = put(&[(key, value)]);
    let expected = expected.map(json);
    patch.expect(key, expected).expect("a key of the kit has the right form");
    patch
}

/// The patch, for the holder of the visitor's secret only.
pub(crate) fn proven(mut patch: Patch, visitor: Visitor) -> Patch {
    patch.prove(visitor.proof());
    patch
}

/// A patch that replaces the visitor's secret.
pub(crate) fn rotate(visitor: Visitor, to: SecretHash) -> Patch {
    let mut patch = Patch::new();
    let rotation = Rotation { hash: to, authentication: None };
    patch.rotate(visitor.proof(), rotation);
    patch
}

/// What an update did.
#[track_caller]
pub(crate) fn applied(outcome: Outcome, contract: &str) -> Applied {
    match outcome {
        Outcome::Applied(applied) => applied,
        other => panic!("{contract}: {other:?}"),
    }
}

/// Asserts that an answer has a form, and says which part of the contract it is that breaks.
macro_rules! answers {
    ($answer:expr, $form:pat, $contract:literal) => {{
        let answer = $answer;
        assert!(matches!(answer, $form), "{}: {answer:?}", $contract);
    }};
}
pub(crate) use answers;

/// Runs the calls on tasks of their own, all at once, and returns their answers in no order.
pub(crate) async fn at_once<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    JoinSet::from_iter(calls).join_all().await
}

/// Polls a call at most `polls` times and drops it then: `None` unless it completed.
pub(crate) async fn cut<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Calls that are under way: each was polled a number of times and then held.
pub(crate) struct UnderWay<T> {
    calls: JoinSet<(bool, T)>,
    gate: Pause,
    /// Whether a call may have overtaken them by now.
    is_overtaken: Arc<AtomicBool>,
}

impl<T: Send + 'static> UnderWay<T> {
    /// Starts the calls, and returns when all of them are held, or wait for one that is.
    pub(crate) async fn start(
        polls: usize,
        calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Self {
        let (gate, is_overtaken) = (Pause::new(), Arc::new(AtomicBool::new(false)));
        let hold = |call| hold(polls, gate.clone(), Arc::clone(&is_overtaken), call);
        let held = calls.into_iter().map(hold);
        let calls = JoinSet::from_iter(held);
        let count = calls.len() as u64;
        let _ = tokio::time::timeout(PATIENCE, gate.arrived(count)).await;
        Self { calls, gate, is_overtaken }
    }

    /// Lets another call overtake them, and then lets them go on.
    ///
    /// A store may make the other call wait for one that is held. It then overtakes nothing, which
    /// is allowed, so they go on after a while in any case.
    pub(crate) async fn overtake<U>(&self, call: impl Future<Output = U>) -> U {
        // A slow server may not have answered a call that is not held yet.
        self.is_overtaken.store(true, Ordering::SeqCst);
        let mut call = pin!(call);
        let early = tokio::time::timeout(PATIENCE, &mut call).await;
        self.gate.release();
        match early {
            Ok(answer) => answer,
            Err(_) => call.await,
        }
    }

    /// The answers, each with whether it was there before anything overtook.
    pub(crate) async fn finish(self) -> Vec<(bool, T)> {
        self.gate.release();
        self.calls.join_all().await
    }
}

async fn hold<T>(
    polls: usize,
    gate: Pause,
    is_overtaken: Arc<AtomicBool>,
    call: impl Future<Output = T>,
) -> (bool, T) {
    let mut call = pin!(call);
    let answer = cut(polls, call.as_mut()).await;
    let is_early = !is_overtaken.load(Ordering::SeqCst);
    gate.wait().await;
    match answer {
        Some(answer) => (is_early, answer),
        None => (false, call.await),
    }
}

/// How many polls of a call the checks hold it after: at none of them, after one, and so on.
pub(crate) const HELD_AFTER: std::ops::Range<usize> = 0..12;

/// By when a call that can be cut at every await has completed.
pub(crate) const ENOUGH_POLLS: usize = 1_000;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// How long a call may wait for one that is held. Real time, because stores wait for real servers.
const PATIENCE: Duration = Duration::from_millis(100);
