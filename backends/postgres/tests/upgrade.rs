//! This release on a database that release 0.1 wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use steadfast_core::{
    Absence, Authentication, Deletion, Env, Found, KeyId, LoginPolicy, Lookup, ManualClock,
    Operate, Outcome, Patch, Principal, Realm, Record, RecordId, RequestHint, Revocation, Rotation,
    SecretHash, SessionStore, StoreError, Version,
};
use steadfast_postgres::{PostgresStore, SetupError};
use testkit::eventually;
use testkit::postgres::Postgres;

#[tokio::test]
async fn records_of_0_1_are_readable() {
    let database = Database::upgraded().await;
    let store = database.store().await;
    let visitor = found(&store, 1, 1).await;
    let values: Vec<_> = visitor.record.values.iter().collect();
    assert_eq!(
        values,
        [
            ("cart", br#"["green tea","oolong"]"#.as_slice()),
            ("theme", b"\"dark\""),
            ("visits", b"41"),
            ("~next", b"\"/checkout\""),
            ("\u{e9}", "\"\u{1f600} \\u0000\"".as_bytes()),
        ]
    );
    let Record { sign_in, facts, principal, version, .. } = &*visitor.record;
    assert_eq!((*sign_in, facts.is_empty(), principal.is_none()), (0, true, true));
    assert_eq!(*version, Version(1));
    assert_eq!(found(&store, 4, 4).await.record.fence(), 1);

    let keyed = SecretHash::from_parts(KeyId::from_parts(7, "k").unwrap(), [33; 32]);
    let lookup = store.load(id(3), Some(&keyed.into()), &HINT).await.unwrap();
    let Lookup::Found(signed_in) = lookup else { panic!("{lookup:?}") };
    assert_eq!(signed_in.record.principal, Some(principal_named("alice")));
    let replaced = SecretHash::from_parts(KeyId::from_parts(7, "k").unwrap(), [3; 32]);
    let lookup = store.load(id(3), Some(&replaced.into()), &HINT).await.unwrap();
    assert!(matches!(lookup, Lookup::Superseded), "{lookup:?}");

    let lookup = store.load(id(6), None, &HINT).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(Absence::Unknown)), "{lookup:?}");
    database.clock.advance(Duration::from_secs(60));
    let lookup = store.load(id(5), None, &HINT).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(Absence::Expired)), "{lookup:?}");
}

#[tokio::test]
async fn a_patch_rewrites_a_record_of_0_1() {
    let database = Database::upgraded().await;
    let store = database.store().await;
    let formats = "SELECT string_agg(format::text, ' ' ORDER BY id) FROM steadfast.sessions";
    assert_eq!(database.sql(formats), "1 1 1 1 1 1");
    let mut login = Patch::new();
    let authentication = Authentication {
        at: store.env().now(),
        absolute_deadline: store.env().now() + Duration::from_secs(3_600),
        principal: Some(principal_named("alice")),
        facts: None,
        policy: LoginPolicy::capped(1_000),
    };
    let rotation = Rotation { hash: hash(11), authentication: Some(authentication) };
    login.rotate(hash(1).into(), rotation);
    applied(&store, 1, &login).await;
    applied(&store, 4, &Patch::touch(store.env().now() + Duration::from_secs(3_000))).await;
    assert_eq!(database.sql(formats), "2 1 1 2 1 1");
    let record = found(&store, 1, 11).await.record;
    assert_eq!((record.sign_in, record.values.get("~next")), (1, None));
}

#[tokio::test]
async fn principals_of_0_1_keep_their_sessions() {
    let database = Database::upgraded().await;
    let store = database.store().await;
    let counts = "SELECT string_agg(id || sessions, ' ' ORDER BY id)
        FROM steadfast.sessions_principals";
    assert_eq!(database.sql(counts), "alice2 bob0");
    let below = LoginPolicy { cap: 1_000, epoch: Some(8), ..LoginPolicy::default() };
    let record = Record { principal: Some(principal_named("bob")), ..record(&store, 7) };
    let outcome = store.create(id(7), record, below).await.unwrap();
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    // One more login, with a cap of one session.
    let record = Record { principal: Some(principal_named("alice")), ..self::record(&store, 7) };
    let Outcome::Applied(applied) =
        store.create(id(7), record, LoginPolicy::capped(1)).await.unwrap()
    else {
        panic!("alice has no floor");
    };
    assert_eq!(applied.ended, [id(2), id(3)]);
    let ended = store.delete_all(&principal_named("alice"), Revocation::LOGOUT).await;
    assert_eq!(ended.unwrap(), 1);
    assert_eq!(database.sql(counts), "bob0");
    assert!(store.delete(id(6), &Deletion::LOGOUT).await.unwrap().is_ended());
}

#[tokio::test]
async fn statements_of_0_1_fail_after_the_migration() {
    let database = Database::upgraded().await;
    for statement in STATEMENTS_OF_0_1 {
        let error = database.server.try_sql("app", "shop", statement).unwrap_err();
        assert!(error.contains("does not exist"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn nodes_of_0_1_prevent_a_migration() {
    let database = Database::of_0_1();
    let node = database.server.hold("dbname=shop application_name=steadfast", "SELECT 1");
    let error = database.builder("owner").migrate().await.unwrap_err();
    assert!(matches!(error, SetupError::InUse), "{error}");
    assert_eq!(database.sql("SELECT max(version) FROM steadfast.sessions_migrations"), "1");
    let error = database.builder("app").build().await.unwrap_err();
    assert!(matches!(error, SetupError::NotMigrated { found: 1, .. }), "{error}");
    drop(node);
    eventually(async || database.builder("owner").migrate().await.is_ok()).await;
    database.builder("app").build().await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_later_release_is_unchanged() {
    let database = Database::upgraded().await;
    let store = database.store().await;
    database.sql("UPDATE steadfast.sessions SET format = 9, idle_end = 1, hour = 0");
    for answer in [
        store.load(id(1), None, &HINT).await.map(drop),
        store.update(id(1), &Patch::new(), &HINT).await.map(drop),
    ] {
        let Err(StoreError::NewerFormat { found, known }) = answer else { panic!("{answer:?}") };
        assert_eq!((found, known), (9, Record::FORMAT));
    }
    // A later release may have moved the deadline to where this one cannot read it.
    assert_eq!(store.collect().await.unwrap(), 0);
}

/// A server with the database that release 0.1 left.
struct Database {
    server: Postgres,
    clock: ManualClock,
}

impl Database {
    fn of_0_1() -> Self {
        let server = Postgres::start(&[]);
        server.sql(
            "postgres",
            "postgres",
            "CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN; CREATE DATABASE shop OWNER owner",
        );
        server.sql("owner", "shop", include_str!("fixtures/0.1.sql"));
        server.sql(
            "owner",
            "shop",
            "GRANT USAGE ON SCHEMA steadfast TO app;
            GRANT SELECT, INSERT, UPDATE, DELETE
                ON steadfast.sessions, steadfast.sessions_principals TO app;
            GRANT SELECT ON steadfast.sessions_migrations TO app",
        );
        Self { server, clock: ManualClock::default() }
    }

    async fn upgraded() -> Self {
        let database = Self::of_0_1();
        database.builder("owner").migrate().await.unwrap();
        database
    }

    /// The privileges of the application's role are not changed.
    async fn store(&self) -> PostgresStore {
        let env = Env::with_clock(self.clock.clone());
        self.builder("app").env(env).sweep_every(None).build().await.unwrap()
    }

    fn builder(&self, role: &str) -> steadfast_postgres::PostgresStoreBuilder {
        PostgresStore::builder(&format!("postgres://{role}@{}/shop", self.server.address()))
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql("postgres", "shop", sql)
    }
}

async fn found(store: &PostgresStore, record: u8, secret: u8) -> Found {
    match store.load(id(record), Some(&hash(secret).into()), &HINT).await.unwrap() {
        Lookup::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

async fn applied(store: &PostgresStore, record: u8, patch: &Patch) {
    let outcome = store.update(id(record), patch, &HINT).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
}

fn record(store: &PostgresStore, secret: u8) -> Record {
    let now = store.env().now();
    let end = now + Duration::from_secs(1_800);
    Record { authenticated: Some(now), ..Record::new(hash(secret), now, end, end) }
}

/// Ids and secrets, as in the dump.
fn id(n: u8) -> RecordId {
    let mut bytes = [n; 16];
    bytes[6] = 0x40 | (n & 0x0f);
    bytes[8] = 0x80 | (n & 0x3f);
    RecordId::from_bytes(bytes)
}

fn hash(n: u8) -> SecretHash {
    SecretHash::from_parts(KeyId::NONE, [n; 32])
}

fn principal_named(id: &str) -> Principal {
    Principal::new(Realm::default(), id).unwrap()
}

static HINT: RequestHint = RequestHint { routes: Vec::new(), min_version: None };

/// The statements with literals instead of their parameters.
const STATEMENTS_OF_0_1: &[&str] = &[
    "SELECT verdict, at_version, ended FROM steadfast.sessions_create(NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "SELECT id, hash, replaced, replaced_until, version, values::text, created, authenticated,
    idle_deadline, absolute_deadline, realm, principal, owner, fence
    FROM steadfast.sessions WHERE id = NULL",
    "SELECT verdict, at_version, sums, ended, culprit, amount FROM steadfast.sessions_patch(NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "WITH gone AS (
        DELETE FROM steadfast.sessions WHERE id = NULL AND (NULL::bytea[] IS NULL OR hash = ANY (NULL))
        RETURNING id, least(idle_deadline, absolute_deadline) > NULL AS is_live
    )
    SELECT is_live FROM gone",
    "SELECT id, created, authenticated, least(idle_deadline, absolute_deadline)
    FROM steadfast.sessions
    WHERE realm = NULL AND principal = NULL AND least(idle_deadline, absolute_deadline) > NULL",
    "SELECT ended, expired
    FROM steadfast.sessions_end_all(NULL, NULL, NULL, NULL, NULL, NULL, NULL::text)",
    "WITH due AS (
        SELECT id FROM steadfast.sessions
        WHERE hour <= 0 AND least(idle_deadline, absolute_deadline) <= 0
        ORDER BY hour LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM steadfast.sessions s USING due WHERE s.id = due.id",
    "SELECT realm, id FROM steadfast.sessions_principals WHERE hour <= 0",
    "SELECT id, hash, replaced, replaced_until, version, values::text, created, authenticated,
    idle_deadline, absolute_deadline, realm, principal, owner, fence
    FROM steadfast.sessions ORDER BY id",
    "SELECT count(*), count(principal), coalesce(sum(bytes), 0)::bigint FROM steadfast.sessions",
];
