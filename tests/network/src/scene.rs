//! What is there before a call, the call, and what has to be there after it.

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

/// What a request asks of a store.
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
    /// Listening to changes: no call, but a connection that is open for long.
    Feed,
}

impl Operation {
    /// The calls.
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

    /// How long the middleware waits for it.
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

/// Records of one user, and what is about to happen to them.
pub struct Scene {
    operation: Operation,
    /// The record that the call is about.
    id: RecordId,
    record: Record,
    who: Principal,
    /// Other sessions of the user, the oldest first.
    others: Vec<(RecordId, Record)>,
    patch: Patch,
}

/// What is kept of a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub records: BTreeMap<RecordId, Option<Record>>,
    pub listed: Vec<RecordId>,
}

/// What a caller was told.
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
    /// Makes a call that finds nothing, so that a connection gets used to it, and says whether there was
    /// an answer.
    pub async fn rehearse(store: &dyn SessionStore, operation: Operation) -> bool {
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

    /// Stores what the call is about.
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

    /// Makes the call, for as long as the middleware waits.
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

    /// What the store has before the call.
    pub fn before(&self) -> World {
        let kept = (!self.operation.creates()).then(|| self.record.clone());
        let others = self.others.iter().map(|(id, record)| (*id, Some(record.clone())));
        let mut before =
            World { records: others.chain([(self.id, kept)]).collect(), listed: Vec::new() };
        self.list_live(&mut before);
        before
    }

    /// What the store has.
    pub async fn observe(&self, store: &dyn SessionStore) -> World {
        let mut records = BTreeMap::new();
        for id in self.ids() {
            records.insert(id, record(store, id).await.expect("the server can be reached"));
        }
        let listed = list(store, &self.who).await.expect("the server can be reached");
        World { records, listed }
    }

    /// The first try of a request that comes after the call: what it finds.
    pub async fn next_call(&self, store: &dyn SessionStore) -> Result<Option<Record>, StoreError> {
        let load = timeout(Operation::Load.deadline(), record(store, self.id)).await;
        load.unwrap_or(Err(StoreError::Timeout))
    }

    /// What the records have to be after a call that happened.
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

    /// The sessions that a cap ends.
    pub fn ended(&self) -> Vec<RecordId> {
        match self.operation {
            Operation::LoginAtTheCap => vec![self.others[0].0],
            _ => Vec::new(),
        }
    }

    /// How many sessions `delete_all` ends.
    pub fn count(&self) -> u64 {
        self.others.len() as u64
    }

    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Whether the call may be made twice by the store itself.
    pub fn may_be_repeated(&self) -> bool {
        matches!(self.operation, Operation::BlindPatch | Operation::ReadAndWrite)
    }

    /// Writes to the record as another request does that comes after the call, and says what has to be
    /// there from then on.
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

    /// Removes everything.
    pub async fn clear(&self, store: &dyn SessionStore) {
        // What is left of one case is in no other's way.
        for id in self.ids() {
            let _ = store.delete(id, &Deletion::LOGOUT).await;
        }
    }

    fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.others.iter().map(|(id, _)| *id).chain([self.id])
    }

    /// Lists what has to be listed.
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
    /// Whether the caller knows what happened.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl World {
    /// In what another one differs, without what is secret.
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

/// The fields in which a record differs from another one.
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

    /// Whether it must not stay in doubt.
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

/// A record after a patch, by the one function that decides it.
fn applied(record: &Record, patch: &Patch) -> Record {
    let patched = record.apply(patch, record.created, &Limits::default());
    patched.expect("the patch can be applied").record
}

/// What a store has under an id.
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

/// A record that begins now, with a few values.
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

/// A record whose user signed in a while ago.
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

/// How many sessions the user may have where there are as many.
const CAP: usize = 3;
