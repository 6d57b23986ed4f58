//! Shared parts of the checks: a fresh service, visitors, patches, and interleaved calls.

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
use crate::outcome::{Applied, ClientState, Deleted, Deletion, EndReason, Outcome, Revocation};
use crate::patch::{Authentication, LoginPolicy, Patch, Rotation};
use crate::principal::{Principal, Realm};
use crate::proof::{KeyId, Keyring, Proof, SecretHash};
use crate::record::Record;
use crate::store::{Lookup, RequestHint};
use crate::timestamp::Timestamp;
use crate::token::{RecordId, Token};
use crate::values::{RawJson, Values};
use crate::version::Version;

/// A fresh service. Calls go to its nodes in turn, and pass the hints of earlier answers as a
/// client would.
pub(crate) struct Fixture {
    nodes: Vec<Arc<dyn Store>>,
    clock: ManualClock,
    env: Env,
    has_index: bool,
    moves_records: bool,
    turn: AtomicUsize,
    carried: Mutex<HashMap<RecordId, RequestHint>>,
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

    /// Opens a fresh service, if its stores keep an index of principals.
    pub(crate) async fn with_index(subject: &impl Subject) -> Option<Arc<Self>> {
        match subject.has_index() {
            true => Some(Self::open(subject).await),
            false => None,
        }
    }

    pub(crate) fn nodes(&self) -> &[Arc<dyn Store>] {
        &self.nodes
    }

    /// Returns the next node in turn.
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

    /// Returns a record that begins now, with idle 30 min and absolute 8 h.
    pub(crate) fn record(&self, secret: SecretHash) -> Record {
        let (now, lifetime) = (self.now(), Lifetime::default());
        let absolute = lifetime.absolute_deadline(now);
        Record::new(secret, now, lifetime.idle_deadline(now), absolute)
    }

    /// Returns a record of a principal who signs in now.
    pub(crate) fn record_of(&self, secret: SecretHash, principal: &Principal) -> Record {
        Record {
            principal: Some(principal.clone()),
            authenticated: Some(self.now()),
            ..self.record(secret)
        }
    }

    /// Creates a visitor with these values. Every node has loaded the record and may have a copy.
    pub(crate) async fn visitor(&self, entries: &[(&str, &str)]) -> Visitor {
        let visitor = self.unseen_visitor(entries).await;
        assert!(self.opens(visitor.id, &visitor.proof()).await, "what was created is live");
        visitor
    }

    /// Creates a visitor whose record no node has loaded.
    pub(crate) async fn unseen_visitor(&self, entries: &[(&str, &str)]) -> Visitor {
        let visitor = self.stranger();
        let record = Record { values: values(entries), ..self.record(visitor.secret) };
        let outcome = self.create(visitor.id, record).await;
        applied(outcome, "a create under a fresh id is applied");
        visitor
    }

    /// Creates a visitor who signed in when the record was created. Every node has loaded the
    /// record.
    pub(crate) async fn member(&self, principal: &Principal) -> Visitor {
        let visitor = self.stranger();
        let record = self.record_of(visitor.secret, principal);
        let outcome = self.create(visitor.id, record).await;
        applied(outcome, "a create under a fresh id is applied");
        assert!(self.opens(visitor.id, &visitor.proof()).await, "what was created is live");
        visitor
    }

    /// Returns a visitor whose record was never created.
    pub(crate) fn stranger(&self) -> Visitor {
        Visitor { id: self.id(), secret: self.secret() }
    }

    pub(crate) async fn create(&self, id: RecordId, record: Record) -> Outcome {
        self.admit(id, record, LoginPolicy::default()).await
    }

    pub(crate) async fn admit(&self, id: RecordId, record: Record, policy: LoginPolicy) -> Outcome {
        let outcome = self.node().create(id, record, policy).await;
        self.learn_outcome(id, outcome.expect("a healthy store answers a create"))
    }

    pub(crate) async fn load(&self, id: RecordId, proof: Option<&Proof>) -> Lookup {
        let lookup = self.node().load(id, proof, &self.hint(id)).await;
        let lookup = lookup.expect("a healthy store answers a load");
        if let Lookup::Found(found) = &lookup {
            assert_eq!(found.id, id, "the record that is found is the one asked for");
            self.learn(id, &found.client_state);
        }
        lookup
    }

    /// Loads from a node without any hint, so that it may answer from any copy.
    pub(crate) async fn try_load_bare(
        &self,
        id: RecordId,
        proof: &Proof,
    ) -> Result<Lookup, StoreError> {
        self.node().load(id, Some(proof), &RequestHint::default()).await
    }

    /// Loads the record from the authority: no copy has a version as high as the one required here.
    pub(crate) async fn authoritative(&self, id: RecordId) -> Option<Record> {
        let hint = RequestHint { min_version: Some(Version(u64::MAX)), ..self.hint(id) };
        let lookup = self.node().load(id, None, &hint).await;
        match lookup.expect("a healthy store answers a load") {
            Lookup::Found(found) => Some((*found.record).clone()),
            Lookup::Absent(_) => None,
            Lookup::Superseded => panic!("a load without a proof is never superseded"),
        }
    }

    /// Loads the record from the authority, without the fields that a store may change by itself.
    pub(crate) async fn snapshot(&self, id: RecordId) -> Record {
        let record = self.authoritative(id).await.expect("the record is live");
        let version = match self.moves_records {
            true => Version::FIRST,
            false => record.version,
        };
        Record { version, owner: None, ..record }
    }

    /// Loads from every node, with and without the client's hints.
    pub(crate) async fn loads(&self, id: RecordId, proof: Option<&Proof>) -> Vec<Lookup> {
        let mut lookups = Vec::new();
        for hint in [RequestHint::default(), self.hint(id)] {
            for node in &self.nodes {
                let lookup = node.load(id, proof, &hint).await;
                lookups.push(lookup.expect("a healthy store answers a load"));
            }
        }
        lookups
    }

    /// Returns true if no node finds the record.
    pub(crate) async fn is_absent(&self, id: RecordId) -> bool {
        let lookups = self.loads(id, None).await;
        lookups.iter().all(|lookup| matches!(lookup, Lookup::Absent(_)))
    }

    /// Returns true if a proof opens the record on every node.
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

    /// Asserts that every node lists exactly these sessions, if there is an index.
    pub(crate) async fn assert_listed(&self, principal: &Principal, ids: &[RecordId]) {
        let mut expected = ids.to_vec();
        expected.sort();
        for _ in self.nodes.iter().filter(|_| self.has_index) {
            let listed = self.list(principal).await;
            assert_eq!(listed, expected, "a list shows the live sessions and no other");
        }
    }

    /// Returns the ids that the next node lists, sorted.
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

    /// Returns a patch that signs `visitor` in as `principal`, with a new secret, for 8 h from now.
    pub(crate) fn login(
        &self,
        visitor: Visitor,
        to: SecretHash,
        principal: &Principal,
        policy: LoginPolicy,
    ) -> Patch {
        let principal = Some(principal.clone());
        self.authenticate(visitor, to, Authentication { principal, ..self.elevation(policy) })
    }

    /// Returns a patch that replaces the visitor's secret with an authentication.
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

    /// Returns an authentication of the current principal, now and for 8 h.
    pub(crate) fn elevation(&self, policy: LoginPolicy) -> Authentication {
        Authentication {
            at: self.now(),
            absolute_deadline: Lifetime::default().absolute_deadline(self.now()),
            principal: None,
            facts: None,
            policy,
        }
    }

    /// Returns the client's hint for a record.
    pub(crate) fn hint(&self, id: RecordId) -> RequestHint {
        self.carried().get(&id).cloned().unwrap_or_default()
    }

    fn learn_outcome(&self, id: RecordId, outcome: Outcome) -> Outcome {
        if let Outcome::Applied(applied) = &outcome {
            self.learn(id, &applied.client_state);
        }
        outcome
    }

    fn learn(&self, id: RecordId, client_state: &ClientState) {
        let mut carried = self.carried();
        let hint = carried.entry(id).or_default();
        hint.routes.clone_from(&client_state.routes);
        hint.min_version = hint.min_version.max(client_state.version);
    }

    fn carried(&self) -> MutexGuard<'_, HashMap<RecordId, RequestHint>> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client with a token: the record it names, and the hash of its secret.
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

/// A client with the secret itself. Each node hashes it under the keys that it has.
#[derive(Debug)]
pub(crate) struct Holder {
    token: Token,
}

impl Holder {
    /// Creates a client of the record, with a fresh secret.
    pub(crate) fn of(service: &Fixture, id: RecordId) -> Self {
        let token = Token::generate(id, service.node().env()).expect("the system's randomness");
        Self { token }
    }

    /// Creates a record with a hash under the ring's current key, and returns its client.
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

    /// Returns the visitor as a node with this ring sees it.
    pub(crate) fn under(&self, ring: &Keyring) -> Visitor {
        let secret = ring.hash(&Realm::default(), self.token.secret());
        Visitor { id: self.id(), secret }
    }

    /// Returns the proof that a node with this ring makes of the secret.
    pub(crate) fn proof(&self, ring: &Keyring) -> Proof {
        ring.prove(&Realm::default(), self.token.secret())
    }

    /// Returns the patch as a node with this ring sends it.
    pub(crate) fn rehashed(&self, ring: &Keyring, mut patch: Patch) -> Patch {
        let proof = self.proof(ring);
        if let Some(rehash) = ring.rehash(&proof) {
            patch.rehash(rehash);
        }
        patch.prove(proof);
        patch
    }
}

/// The keyrings of nodes during a key change.
pub(crate) struct Rings {
    /// Only has the old key.
    pub(crate) old: Keyring,
    /// Accepts the new key and still hashes under the old one.
    pub(crate) accepting: Keyring,
    /// Hashes under the new key and still accepts the old one.
    pub(crate) both: Keyring,
    /// Only has the new key.
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

/// Creates a keyring with one key.
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

/// Returns a patch that puts these values.
pub(crate) fn put(entries: &[(&str, &str)]) -> Patch {
    let mut patch = Patch::new();
    for (key, value) in entries {
        patch.put(key, json(value)).expect("a key of the kit has the right form");
    }
    patch
}

/// Returns a patch that adds to a counter.
pub(crate) fn add(key: &str, by: i64) -> Patch {
    let mut patch = Patch::new();
    patch.add(key, by).expect("an addition to an empty patch");
    patch
}

/// Returns a patch that puts a value if the key has the value `expected`.
pub(crate) fn replace(key: &str, expected: Option<&str>, value: &str) -> Patch {
    let mut patch = put(&[(key, value)]);
    let expected = expected.map(json);
    patch.expect(key, expected).expect("a key of the kit has the right form");
    patch
}

/// Makes the patch require the visitor's secret.
pub(crate) fn proven(mut patch: Patch, visitor: Visitor) -> Patch {
    patch.prove(visitor.proof());
    patch
}

/// Returns a patch that replaces the visitor's secret.
pub(crate) fn rotate(visitor: Visitor, to: SecretHash) -> Patch {
    let mut patch = Patch::new();
    let rotation = Rotation { hash: to, authentication: None };
    patch.rotate(visitor.proof(), rotation);
    patch
}

/// Unwraps the effects of an update.
#[track_caller]
pub(crate) fn applied(outcome: Outcome, contract: &str) -> Applied {
    match outcome {
        Outcome::Applied(applied) => applied,
        other => panic!("{contract}: {other:?}"),
    }
}

/// Asserts that an answer matches a pattern, and names the broken part of the contract otherwise.
macro_rules! answers {
    ($answer:expr, $form:pat, $contract:literal) => {{
        let answer = $answer;
        assert!(matches!(answer, $form), "{}: {answer:?}", $contract);
    }};
}
pub(crate) use answers;

/// Runs the calls concurrently on separate tasks. Returns their answers in no particular order.
pub(crate) async fn at_once<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    JoinSet::from_iter(calls).join_all().await
}

/// Polls a call at most `polls` times, then drops it. Returns `None` unless it completed.
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

/// Started calls that were each polled a number of times and then paused.
pub(crate) struct UnderWay<T> {
    calls: JoinSet<(bool, T)>,
    gate: Pause,
    /// True once a call may have overtaken them.
    is_overtaken: Arc<AtomicBool>,
}

impl<T: Send + 'static> UnderWay<T> {
    /// Starts the calls. Returns once each of them is paused, or waits for a paused one.
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

    /// Lets another call overtake the paused ones, then resumes them.
    ///
    /// A store may make the other call wait for a paused one. In that case it overtakes nothing,
    /// which is allowed, and the paused calls resume after a timeout.
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

    /// Returns the answers, each with whether it was complete before the overtaking call.
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

/// The numbers of polls after which the checks pause a call.
pub(crate) const HELD_AFTER: std::ops::Range<usize> = 0..12;

/// A number of polls by which every call has completed.
pub(crate) const ENOUGH_POLLS: usize = 1_000;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// The time that a call may wait for a paused one. It is real time, because stores wait for real
/// servers.
const PATIENCE: Duration = Duration::from_millis(100);
