//! The store in memory: budgets, slots, deadlines, the index and the feed under each other's feet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use shuttle::thread::{self, JoinHandle};
use steadfast_core::{
    Authentication, Budget, Change, ChangeStream, Deletion, Env, Keyring, Limits, LoginPolicy,
    Lookup, ManualClock, Outcome, Patch, Principal, RawJson, Realm, Record, RecordId, Revocation,
    Rotation, Token,
};

use crate::lru_cache::ShardedLru;
use crate::sessions::Sessions;

/// A visitor signs in while another one needs the room.
pub fn a_login_comes_before_an_eviction_or_after() {
    let store = Store::with_room_for(1);
    let visitor = store.visitor(1);
    let login = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.login(&visitor, None)
    });
    store.visitor(2);
    let is_signed_in = join(login);
    store.bury();
    assert_eq!(store.has(&visitor), is_signed_in, "a login that was confirmed holds");
    assert_eq!(store.listed(), usize::from(is_signed_in));
    let (records, authenticated) = store.held();
    assert_eq!(authenticated, u64::from(is_signed_in));
    assert!(records - authenticated <= 1, "the budget of visitors holds");
}

/// Two visitors need room at the same time.
pub fn no_more_is_evicted_than_is_missing() {
    let store = Store::with_room_for(2);
    for n in 1..=2 {
        store.visitor(n);
    }
    let other = spawn(&store, |store| store.visitor(3));
    store.visitor(4);
    join(other);
    store.bury();
    assert_eq!(store.held(), (2, 0));
}

/// A record grows while its budget ends it.
pub fn what_a_budget_counts_is_given_back() {
    let store = Store::with_room_for(1);
    let visitor = store.visitor(1);
    let growing = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.put(&visitor, 5_000)
    });
    let other = store.visitor(2);
    join(growing);
    store.bury();
    store.delete(&visitor);
    store.delete(&other);
    assert_eq!((store.held(), store.bytes()), ((0, 0), 0));
}

/// A write is under way while its session ends.
pub fn a_late_write_revives_no_record() {
    let store = Store::with_room_for(9);
    let visitor = store.visitor(1);
    let writing = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.put(&visitor, 5_000)
    });
    store.delete(&visitor);
    assert!(!store.has(&visitor));
    join(writing);
    assert!(!store.has(&visitor) && store.held() == (0, 0));
}

/// Two nodes mint the same id.
pub fn an_id_is_given_once() {
    let store = Store::with_room_for(9);
    let other = spawn(&store, |store| store.create(&store.token(1), None));
    let own = store.create(&store.token(1), None);
    let outcomes = [own, join(other)];
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    assert_eq!(count(|outcome| matches!(outcome, Outcome::Applied(_))), 1, "{outcomes:?}");
    assert_eq!(count(|outcome| matches!(outcome, Outcome::Exists)), 1, "{outcomes:?}");
}

/// An account is closed during a sign-in to it.
pub fn a_revocation_ends_or_refuses_a_login() {
    let store = Store::with_room_for(9);
    let visitor = store.visitor(1);
    let login = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.login(&visitor, Some(1))
    });
    let ended = store.revoke(Some(2));
    let was_admitted = join(login);
    assert_eq!(store.listed(), 0);
    assert_eq!(ended, u64::from(was_admitted));
    assert_eq!(store.has(&visitor), !was_admitted);
}

/// Logins meet at the cap.
pub fn a_cap_holds_among_logins() {
    let store = Store::with_room_for(9);
    let visitors: Vec<_> = (1..=3).map(|n| store.visitor(n)).collect();
    let logins = visitors
        .clone()
        .into_iter()
        .map(|visitor| spawn(&store, move |store| assert!(store.login_with_cap(&visitor, 2))));
    logins.collect::<Vec<_>>().into_iter().for_each(join);
    assert_eq!((store.listed(), store.held()), (2, (2, 2)));
}

/// A session is handed to another user and back, while its first owner signs in elsewhere.
pub fn a_session_that_comes_back_is_listed_once() {
    let store = Store::with_room_for(9);
    let tokens: [Token; 4] = std::array::from_fn(|_| store.token(1));
    let other = store.visitor(2);
    assert!(matches!(store.create(&tokens[0], Some(alice())), Outcome::Applied(_)));
    let login = spawn(&store, move |store| store.login_with_cap(&other, 1));
    for (who, from) in [(bob(), 0), (alice(), 1), (alice(), 2)] {
        let login = authentication(&store, Some(who), LoginPolicy::default());
        store.authenticate(&tokens[from], &tokens[from + 1], login);
    }
    assert!(join(login));
    let live = 1 + usize::from(store.has(&tokens[0]));
    assert_eq!((store.listed(), store.sessions.list(&bob()).len()), (live, 0));
    // An entry that was left behind would count against the cap.
    assert!(store.login_with_cap(&store.visitor(3), live + 1));
    assert_eq!(store.listed(), live + 1);
}

/// A session is authenticated again while its principal signs in at the cap.
pub fn an_elevation_comes_before_a_cap_or_after() {
    let store = Store::with_room_for(9);
    let (old, new) = (store.token(1), store.token(1));
    let other = store.visitor(2);
    assert!(matches!(store.create(&old, Some(alice())), Outcome::Applied(_)));
    store.clock.advance(Duration::from_secs(1));
    let login = spawn(&store, {
        let other = other.clone();
        move |store| store.login_with_cap(&other, 1)
    });
    let elevation = authentication(&store, None, LoginPolicy::default());
    store.authenticate(&old, &new, elevation);
    assert!(join(login));
    assert!(store.has(&other) && !store.has(&old), "the newest login stays");
    assert!(store.login_with_cap(&store.visitor(3), 2));
    assert_eq!((store.listed(), store.held()), (2, (2, 2)));
}

/// A session is authenticated again while another user's needs the room.
pub fn an_elevation_comes_before_an_eviction_or_after() {
    let one = Budget { records: 1, bytes: 8_192 };
    let store = Store::with_budgets(one, one);
    let (old, new) = (store.token(1), store.token(1));
    assert!(matches!(store.create(&old, Some(alice())), Outcome::Applied(_)));
    store.clock.advance(Duration::from_secs(1));
    let other = spawn(&store, |store| {
        assert!(matches!(store.create(&store.token(2), Some(bob())), Outcome::Applied(_)));
    });
    let elevation = authentication(&store, None, LoginPolicy::default());
    store.authenticate(&old, &new, elevation);
    join(other);
    store.bury();
    store.delete(&Arc::new(new));
    assert_eq!(store.entries(&alice()), 0, "no entry is left behind");
}

/// A sweep comes while a request keeps its session alive.
pub fn a_record_is_swept_once_or_lives() {
    let store = Store::with_room_for(9);
    let visitor = store.visitor(1);
    store.clock.advance(IDLE / 2);
    let touching = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.touch(&visitor)
    });
    store.clock.advance(IDLE / 2);
    store.sessions.collect();
    let was_kept = join(touching);
    assert_eq!((store.has(&visitor), store.held()), (was_kept, (u64::from(was_kept), 0)));
    store.clock.advance(2 * IDLE);
    store.sessions.collect();
    assert_eq!(store.held(), (0, 0));
}

/// A stream begins to listen, and asks once, while its session ends.
pub fn a_listener_learns_of_a_session_end() {
    let store = Store::with_room_for(9);
    let visitor = store.visitor(1);
    let listening = spawn(&store, {
        let visitor = visitor.clone();
        move |store| {
            let changes = store.sessions.changes.listen();
            store.has(&visitor).then_some(changes)
        }
    });
    store.delete(&visitor);
    if let Some(mut changes) = join(listening) {
        assert!(hears_of_an_end(&mut changes));
    }
}

/// A write and an end of one session are told at the same time.
pub fn a_listener_hears_changes_in_their_order() {
    let store = Store::with_room_for(9);
    let visitor = store.visitor(1);
    let mut changes = store.sessions.changes.listen();
    let writing = spawn(&store, {
        let visitor = visitor.clone();
        move |store| store.put(&visitor, 1)
    });
    store.delete(&visitor);
    let was_written = join(writing);
    let is_patch = |change| matches!(change, Some(Some(Change::Patched(..))));
    assert_eq!(is_patch(changes.next().now_or_never()) && was_written, was_written);
    assert_eq!(hears_of_an_end(&mut changes), was_written, "the end is the last");
}

fn hears_of_an_end(changes: &mut ChangeStream) -> bool {
    std::iter::from_fn(|| changes.next().now_or_never().flatten())
        .any(|change| matches!(change, Change::Ended(..)))
}

struct Store {
    sessions: Sessions,
    clock: ManualClock,
}

impl Store {
    fn with_room_for(visitors: u64) -> Arc<Self> {
        let anonymous = Budget { records: visitors, bytes: visitors * 8_192 };
        Self::with_budgets(anonymous, Budget::AUTHENTICATED)
    }

    fn with_budgets(anonymous: Budget, authenticated: Budget) -> Arc<Self> {
        let clock = ManualClock::default();
        let cache = ShardedLru::new(anonymous, authenticated);
        let env = Env::with_clock(clock.clone());
        Arc::new(Self { sessions: Sessions::new(env, Limits::default(), cache), clock })
    }

    fn token(&self, n: u8) -> Token {
        Token::generate(RecordId::from_bytes([n; 16]), &self.sessions.env).expect("randomness")
    }

    fn create(&self, token: &Token, principal: Option<Principal>) -> Outcome {
        let now = self.sessions.env.now();
        let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        let mut record = Record::new(hash, now, now + IDLE, now + 4 * IDLE);
        record.principal = principal;
        self.sessions.create(token.id(), record, LoginPolicy::default())
    }

    fn visitor(&self, n: u8) -> Visitor {
        let token = self.token(n);
        assert!(matches!(self.create(&token, None), Outcome::Applied(_)));
        Arc::new(token)
    }

    fn login(&self, visitor: &Visitor, epoch: Option<u64>) -> bool {
        self.login_on(visitor, LoginPolicy { epoch, ..LoginPolicy::default() })
    }

    fn login_with_cap(&self, visitor: &Visitor, cap: usize) -> bool {
        self.login_on(visitor, LoginPolicy { cap, ..LoginPolicy::default() })
    }

    fn login_on(&self, visitor: &Visitor, policy: LoginPolicy) -> bool {
        let new = Token::generate(visitor.id(), &self.sessions.env).expect("randomness");
        self.authenticate(visitor, &new, authentication(self, Some(alice()), policy))
    }

    fn authenticate(&self, old: &Token, new: &Token, authentication: Authentication) -> bool {
        let (keyring, realm) = (Keyring::unkeyed(), Realm::default());
        let hash = keyring.hash(&realm, new.secret());
        let mut patch = Patch::new();
        patch.rotate(
            keyring.prove(&realm, old.secret()),
            Rotation { hash, authentication: Some(authentication) },
        );
        self.update(old, &patch)
    }

    fn put(&self, visitor: &Visitor, bytes: usize) -> bool {
        let mut patch = Patch::new();
        let value = RawJson::encode(&"x".repeat(bytes)).expect("a string is JSON");
        patch.put("key", value).expect("the key is one");
        self.update(visitor, &patch)
    }

    fn touch(&self, visitor: &Visitor) -> bool {
        self.update(visitor, &Patch::touch(self.sessions.env.now() + IDLE))
    }

    fn update(&self, visitor: &Token, patch: &Patch) -> bool {
        matches!(self.sessions.update(visitor.id(), patch), Ok(Outcome::Applied(_)))
    }

    fn delete(&self, visitor: &Visitor) {
        self.sessions.delete(visitor.id(), &Deletion::LOGOUT).expect("no proof is shown");
    }

    fn revoke(&self, epoch: Option<u64>) -> u64 {
        self.sessions.delete_all(&alice(), Revocation { epoch, ..Revocation::LOGOUT })
    }

    fn has(&self, visitor: &Token) -> bool {
        matches!(self.sessions.load(visitor.id(), None), Ok(Lookup::Found(_)))
    }

    fn listed(&self) -> usize {
        self.sessions.list(&alice()).len()
    }

    /// The entries of a user's list, live or not.
    fn entries(&self, principal: &Principal) -> usize {
        self.sessions.index.lock(principal).count(principal)
    }

    fn bury(&self) {
        self.sessions.finish_evictions();
    }

    /// Records, and the signed-in ones among them.
    fn held(&self) -> (u64, u64) {
        let stats = self.sessions.cache.stats();
        (stats.records, stats.authenticated)
    }

    fn bytes(&self) -> u64 {
        self.sessions.cache.stats().bytes
    }
}

type Visitor = Arc<Token>;

fn authentication(
    store: &Store,
    principal: Option<Principal>,
    policy: LoginPolicy,
) -> Authentication {
    let at = store.sessions.env.now();
    Authentication { at, absolute_deadline: at + 4 * IDLE, principal, facts: None, policy }
}

fn alice() -> Principal {
    Principal::new(Realm::default(), "alice").expect("a short id")
}

fn bob() -> Principal {
    Principal::new(Realm::default(), "bob").expect("a short id")
}

fn spawn<T: Send + 'static>(
    store: &Arc<Store>,
    act: impl FnOnce(&Store) -> T + Send + 'static,
) -> JoinHandle<T> {
    let store = Arc::clone(store);
    thread::spawn(move || act(&store))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("a thread of a model does not panic")
}

const IDLE: Duration = Duration::from_secs(1_800);
