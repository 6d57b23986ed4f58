//! The records before a call, the call, and the expected records after it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use steadfast::Timeouts;
use steadfast_core::{
    Applied, Authentication, Deleted, Deletion, EndReason, KeyId, Lifetime, Limits, LoginPolicy,
    Lookup, Outcome, Patch, Principal, Proof, RawJson, Realm, Record, RecordId, RequestHint,
    Revocation, Rotation, SecretHash, SessionStore, StoreError, Values,
};
use tokio::time::timeout;

/// A kind of call to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Load,
    BlindPatch,
    ReadAndWrite,
    Add,
    Expectation,
    Create,
    CreateSignedIn,
    Login,
    LoginAtTheCap,
    Rotation,
    Delete,
    DeleteAll,
    List,
    Touch,
    /// Listening to changes. This is not a call, but a connection that stays open.
    Feed,
}

impl Operation {
    /// The kinds of calls.
    pub const CALLS: [Self; 14] = [
        Self::Load,
        Self::BlindPatch,
        Self::ReadAndWrite,
        Self::Add,
        Self::Expectation,
        Self::Create,
        Self::CreateSignedIn,
        Self::Login,
        Self::LoginAtTheCap,
        Self::Rotation,
        Self::Delete,
        Self::DeleteAll,
        Self::List,
        Self::Touch,
    ];

    /// Returns the timeout of the middleware for the call.
    pub fn deadline(self) -> Duration {
        let Timeouts { normal, critical, .. } = Timeouts::default();
        match self {
            Self::ReadAndWrite => 2 * normal,
            _ if self.is_critical() => critical,
            _ => normal,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::BlindPatch => "blind patch",
            Self::ReadAndWrite => "read and write",
            Self::Add => "add",
            Self::Expectation => "expectation",
            Self::Create => "create",
            Self::CreateSignedIn => "create, signed in",
            Self::Login => "login below the cap",
            Self::LoginAtTheCap => "login at the cap",
            Self::Rotation => "rotation",
            Self::Delete => "delete",
            Self::DeleteAll => "delete all",
            Self::List => "list",
            Self::Touch => "touch",
            Self::Feed => "feed",
        })
    }
}

/// The records of one user, and the call that is about to change them.
pub struct Scene {
    operation: Operation,
    /// The record of the call.
    id: RecordId,
    record: Record,
    who: Principal,
    /// Other sessions of the user, the oldest first.
    others: Vec<(RecordId, Record)>,
    patch: Patch,
}

/// The records of a scene in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub records: BTreeMap<RecordId, Option<Record>>,
    pub listed: Vec<RecordId>,
}

/// The answer that a caller got.
#[derive(Debug)]
pub enum Answer {
    Loaded(Lookup),
    Changed(Outcome),
    Deleted(Deleted),
    DeletedAll(u64),
    Listed(Vec<RecordId>),
    Failed(StoreError),
}

impl Scene {
    /// Makes a call that finds nothing, so that the connection has made one of its kind. Returns
    /// true if there was an answer.
    pub async fn warm_up(store: &dyn SessionStore, operation: Operation) -> bool {
        let scene = Self::of(store, operation);
        match operation {
            Operation::ReadAndWrite => {
                scene.load(store).await.is_ok() && scene.update(store).await.is_ok()
            }
            _ => scene.call(store).await.is_definite(),
        }
    }

    fn of(store: &dyn SessionStore, operation: Operation) -> Self {
        let id = store.mint().expect("there is randomness");
        let record = visitor(store, hash(store));
        let who = principal(&format!("user-{id}"));
        let patch = patch(store, operation, &record, &who);
        Self { operation, id, record, who, others: Vec::new(), patch }
    }

    /// Creates the records for the call.
    pub async fn prepare(store: &dyn SessionStore, operation: Operation) -> Self {
        let mut scene = Self::of(store, operation);
        let others = match operation {
            Operation::Login | Operation::CreateSignedIn => 1,
            Operation::LoginAtTheCap => CAP,
            Operation::DeleteAll | Operation::List => 2,
            _ => 0,
        };
        for age in (0..others).rev() {
            let id = store.mint().expect("there is randomness");
            let record = member(store, &scene.who, age as u64 + 1);
            create(store, id, record.clone()).await;
            scene.others.push((id, record));
        }
        if operation.begins_signed_in() {
            scene.record = Record { secret: scene.record.secret, ..member(store, &scene.who, 0) };
        }
        if !operation.creates() {
            create(store, scene.id, scene.record.clone()).await;
        }
        scene
    }

    /// Makes the call, with the timeout of the middleware.
    pub async fn call(&self, store: &dyn SessionStore) -> Answer {
        let answer = timeout(self.operation.deadline(), self.ask(store)).await;
        answer.unwrap_or(Err(StoreError::Timeout)).unwrap_or_else(Answer::Failed)
    }

    async fn ask(&self, store: &dyn SessionStore) -> Result<Answer, StoreError> {
        match self.operation {
            Operation::Load => self.load(store).await,
            Operation::ReadAndWrite => match self.load(store).await? {
                Answer::Loaded(Lookup::Found(_)) => self.update(store).await,
                answer => Ok(answer),
            },
            Operation::Create | Operation::CreateSignedIn => {
                let policy = LoginPolicy::default();
                store.create(self.id, self.record.clone(), policy).await.map(Answer::Changed)
            }
            Operation::Delete => {
                let (proof, sign_in) = (self.proof(), Some(self.record.sign_in));
                let deletion = Deletion { proof: Some(&proof), sign_in, reason: EndReason::Logout };
                store.delete(self.id, &deletion).await.map(Answer::Deleted)
            }
            Operation::DeleteAll => {
                let (except, epoch) = (Some(self.id), Some(1));
                let revocation = Revocation { except, epoch, reason: EndReason::Logout };
                store.delete_all(&self.who, revocation).await.map(Answer::DeletedAll)
            }
            Operation::List => list(store, &self.who).await.map(Answer::Listed),
            _ => self.update(store).await,
        }
    }

    /// Returns the expected records before the call.
    pub fn before(&self) -> World {
        let kept = (!self.operation.creates()).then(|| self.record.clone());
        let others = self.others.iter().map(|(id, record)| (*id, Some(record.clone())));
        let mut before =
            World { records: others.chain([(self.id, kept)]).collect(), listed: Vec::new() };
        self.list_live(&mut before);
        before
    }

    /// Reads the records from the store.
    pub async fn observe(&self, store: &dyn SessionStore) -> World {
        let mut records = BTreeMap::new();
        for id in self.ids() {
            records.insert(id, record(store, id).await.expect("the server can be reached"));
        }
        let listed = list(store, &self.who).await.expect("the server can be reached");
        World { records, listed }
    }

    /// Makes the first attempt of a later call, and returns the record that it finds.
    pub async fn next_call(&self, store: &dyn SessionStore) -> Result<Option<Record>, StoreError> {
        let load = timeout(Operation::Load.deadline(), record(store, self.id)).await;
        load.unwrap_or(Err(StoreError::Timeout))
    }

    /// Returns the expected records after a call that took effect.
    pub fn after(&self, before: &World) -> World {
        let mut after = before.clone();
        match self.operation {
            Operation::Load | Operation::List => {}
            Operation::Create | Operation::CreateSignedIn => {
                after.records.insert(self.id, Some(self.record.clone()));
            }
            Operation::Delete => _ = after.records.insert(self.id, None),
            Operation::DeleteAll => {
                self.others.iter().for_each(|(id, _)| _ = after.records.insert(*id, None));
            }
            _ => {
                after.records.insert(self.id, self.patched(before));
            }
        }
        for id in self.ended() {
            after.records.insert(id, None);
        }
        self.list_live(&mut after);
        after
    }

    /// Returns the sessions that a cap ends.
    pub fn ended(&self) -> Vec<RecordId> {
        match self.operation {
            Operation::LoginAtTheCap => vec![self.others[0].0],
            _ => Vec::new(),
        }
    }

    /// Returns the number of sessions that `delete_all` ends.
    pub fn count(&self) -> u64 {
        self.others.len() as u64
    }

    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Returns true if the store may repeat the call by itself.
    pub fn may_be_repeated(&self) -> bool {
        matches!(self.operation, Operation::BlindPatch | Operation::ReadAndWrite)
    }

    /// Writes to the record, as a later request does, and returns the records that are expected
    /// from then on.
    pub async fn overwrite(&self, store: &dyn SessionStore, found: &World) -> World {
        let mut expected = found.clone();
        let mut patch = Patch::new();
        patch.put("cart", text("later")).expect("a key");
        patch.put("n", 1_000.into()).expect("a key");
        let written = store.update(self.id, &patch, &RequestHint::default()).await;
        if let Some(record) = &found.records[&self.id] {
            assert!(matches!(written, Ok(Outcome::Applied(_))), "{written:?}");
            let after = applied(record, &patch);
            expected.records.insert(self.id, Some(after));
        }
        expected
    }

    /// Removes all records.
    pub async fn clear(&self, store: &dyn SessionStore) {
        // Leftovers do not disturb other cases.
        for id in self.ids() {
            let _ = store.delete(id, &Deletion::LOGOUT).await;
        }
    }

    fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.others.iter().map(|(id, _)| *id).chain([self.id])
    }

    /// Adds the expected list of sessions.
    fn list_live(&self, world: &mut World) {
        let is_theirs = |record: &Record| record.principal.as_ref() == Some(&self.who);
        let live =
            world.records.iter().filter(|(_, record)| record.as_ref().is_some_and(is_theirs));
        world.listed = live.map(|(id, _)| *id).collect();
    }

    fn patched(&self, before: &World) -> Option<Record> {
        before.records[&self.id].as_ref().map(|record| applied(record, &self.patch))
    }

    async fn load(&self, store: &dyn SessionStore) -> Result<Answer, StoreError> {
        let proof = self.proof();
        store.load(self.id, Some(&proof), &RequestHint::default()).await.map(Answer::Loaded)
    }

    async fn update(&self, store: &dyn SessionStore) -> Result<Answer, StoreError> {
        store.update(self.id, &self.patch, &RequestHint::default()).await.map(Answer::Changed)
    }

    fn proof(&self) -> Proof {
        self.record.secret.into()
    }
}

impl Answer {
    /// Returns true if the caller knows the outcome.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl World {
    /// Describes the differences to another world, without secrets.
    pub fn difference(&self, other: &Self) -> String {
        let mut differences = Vec::new();
        for (id, record) in &self.records {
            match (record, &other.records[id]) {
                (Some(one), Some(other)) => differences.extend(differing(one, other)),
                (None, None) => {}
                (None, Some(_)) => differences.push(format!("{id} is there")),
                (Some(_), None) => differences.push(format!("{id} is gone")),
            }
        }
        if self.listed != other.listed {
            let (one, other) = (&self.listed, &other.listed);
            differences.push(format!("{} are listed, not {}", other.len(), one.len()));
        }
        differences.join(", ")
    }
}

/// Returns the fields in which two records differ.
fn differing(one: &Record, other: &Record) -> Vec<String> {
    let mut fields = Vec::new();
    let mut compare = |name: &str, one: &dyn fmt::Debug, other: &dyn fmt::Debug| {
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        if one != other {
            fields.push(format!("{name}: {one} => {other}"));
        }
    };
    let values = |record: &Record| {
        let text =
            |(key, value): (&str, &[u8])| format!("{key}={}", String::from_utf8_lossy(value));
        record.values.iter().map(text).collect::<Vec<_>>()
    };
    compare("values", &values(one), &values(other));
    compare("version", &one.version, &other.version);
    compare("another secret", &false, &(one.secret != other.secret));
    compare("another replaced secret", &false, &(one.replaced != other.replaced));
    compare("sign-in", &one.sign_in, &other.sign_in);
    compare("principal", &one.principal, &other.principal);
    compare("authenticated", &one.authenticated, &other.authenticated);
    compare("idle deadline", &one.idle_deadline, &other.idle_deadline);
    compare("absolute deadline", &one.absolute_deadline, &other.absolute_deadline);
    compare("facts", &one.facts, &other.facts);
    compare("owner", &one.owner, &other.owner);
    fields
}

impl Operation {
    fn begins_signed_in(self) -> bool {
        matches!(self, Self::CreateSignedIn | Self::Delete | Self::DeleteAll | Self::List)
    }

    /// Returns true if its outcome must not stay unknown.
    fn is_critical(self) -> bool {
        let ends = matches!(self, Self::Delete | Self::DeleteAll);
        ends || self.creates() || self.replaces_the_secret()
    }

    fn replaces_the_secret(self) -> bool {
        matches!(self, Self::Login | Self::LoginAtTheCap | Self::Rotation)
    }

    fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateSignedIn)
    }
}

/// Returns a record after a patch, according to `Record::apply`.
fn applied(record: &Record, patch: &Patch) -> Record {
    let patched = record.apply(patch, record.created, &Limits::default());
    patched.expect("the patch can be applied").record
}

/// Returns the record of an id in a store.
pub async fn record(store: &dyn SessionStore, id: RecordId) -> Result<Option<Record>, StoreError> {
    match store.load(id, None, &RequestHint::default()).await? {
        Lookup::Found(found) => Ok(Some((*found.record).clone())),
        Lookup::Absent(_) => Ok(None),
        Lookup::Superseded => panic!("a load without a proof is never superseded"),
    }
}

async fn list(store: &dyn SessionStore, who: &Principal) -> Result<Vec<RecordId>, StoreError> {
    let mut listed: Vec<_> = store.list(who).await?.iter().map(|info| info.id).collect();
    listed.sort();
    Ok(listed)
}

async fn create(store: &dyn SessionStore, id: RecordId, record: Record) {
    let created = store.create(id, record, LoginPolicy::default()).await;
    assert!(matches!(created, Ok(Outcome::Applied(Applied { .. }))), "{created:?}");
}

fn patch(
    store: &dyn SessionStore,
    operation: Operation,
    record: &Record,
    who: &Principal,
) -> Patch {
    let mut patch = Patch::new();
    let mut put = |key: &str, value: RawJson| patch.put(key, value).expect("a key");
    match operation {
        Operation::BlindPatch => {
            put("cart", text("one pot"));
            put("n", 7.into());
            patch.prove(record.secret.into());
        }
        Operation::ReadAndWrite => {
            put("cart", text("one pot"));
            patch.remove("theme").expect("a key");
            patch.within(record.sign_in);
        }
        Operation::Add => patch.add("n", 1).expect("a key"),
        Operation::Expectation => {
            put("n", 42.into());
            patch.expect("n", Some(41.into())).expect("a key");
        }
        Operation::Touch => return Patch::touch(record.idle_deadline + Duration::from_secs(90)),
        Operation::Login => login(store, &mut patch, record, Some((who, LoginPolicy::default()))),
        Operation::LoginAtTheCap => {
            let policy = LoginPolicy { cap: CAP, ..LoginPolicy::default() };
            login(store, &mut patch, record, Some((who, policy)));
        }
        Operation::Rotation => login(store, &mut patch, record, None),
        _ => {}
    }
    patch
}

fn login(
    store: &dyn SessionStore,
    patch: &mut Patch,
    record: &Record,
    who: Option<(&Principal, LoginPolicy)>,
) {
    patch.put("theme", text("light")).expect("a key");
    let authentication = who.map(|(who, policy)| Authentication {
        at: record.created,
        absolute_deadline: record.absolute_deadline,
        principal: Some(who.clone()),
        facts: None,
        policy,
    });
    patch.rotate(record.secret.into(), Rotation { hash: hash(store), authentication });
}

/// Returns a record that begins now, with a few values.
pub fn visitor(store: &dyn SessionStore, secret: SecretHash) -> Record {
    let (now, lifetime) = (store.env().now(), Lifetime::default());
    let record =
        Record::new(secret, now, lifetime.idle_deadline(now), lifetime.absolute_deadline(now));
    let values: Values =
        [("cart", &b"[\"green tea\"]"[..]), ("n", b"41"), ("theme", b"\"dark\""), ("~state", b"1")]
            .into_iter()
            .collect();
    Record { values, ..record }
}

/// Returns a record whose user signed in this number of seconds ago.
pub fn member(store: &dyn SessionStore, who: &Principal, seconds: u64) -> Record {
    let record = visitor(store, hash(store));
    let authenticated = Some(record.created - Duration::from_secs(seconds));
    Record { authenticated, principal: Some(who.clone()), ..record }
}

pub fn hash(store: &dyn SessionStore) -> SecretHash {
    let mut digest = [0; 32];
    store.env().fill(&mut digest).expect("there is randomness");
    SecretHash::from_parts(KeyId::NONE, digest)
}

pub fn principal(id: &str) -> Principal {
    Principal::new(Realm::default(), id).expect("an id")
}

fn text(text: &str) -> RawJson {
    RawJson::encode(text).expect("text is JSON")
}

/// The user's cap, in calls that reach it.
const CAP: usize = 3;
