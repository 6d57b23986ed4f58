//! The contents of the database, the cost of operations, and privileges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{Service, server, visitor};
use steadfast_core::{
    Applied, Authentication, Deletion, Env, Keyring, LoginPolicy, Lookup, ManualClock, Operate,
    Outcome, Patch, Principal, RawJson, Realm, Record, RecordId, RequestHint, Revocation, Rotation,
    SessionStore, StoreError, Token, Values,
};
use steadfast_postgres::{PostgresStore, SetupError};

#[tokio::test]
async fn touches_within_the_hour_stay_hot() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let store = service.store(Env::with_clock(clock.clone())).await;
    let ids = [create(&store).await, create(&store).await];
    for _ in 1..=40 {
        clock.advance(Duration::from_secs(60));
        let deadline = store.env().now() + Duration::from_secs(30 * 60);
        for id in ids {
            applied(&store, id, &Patch::touch(deadline)).await;
        }
    }
    drop(store);
    // Each deadline is extended once per hour. Occasionally a page is full because another
    // transaction holds on to old row versions. The check at the start makes one more.
    let (updates, hot) = service.updates().await;
    assert!(updates == 81 && (73..=79).contains(&hot), "{hot} of {updates}");
}

#[tokio::test]
async fn writes_stay_hot_and_idle_touches_are_skipped() {
    let service = Service::new();
    let store = service.store(Env::with_clock(ManualClock::default())).await;
    let id = create(&store).await;
    for n in 0..20 {
        let mut patch = Patch::new();
        patch.put("n", n.into()).unwrap();
        applied(&store, id, &patch).await;
        applied(&store, id, &Patch::touch(store.env().now())).await;
    }
    drop(store);
    // The check at the start makes one more update.
    let (updates, hot) = service.updates().await;
    assert!(updates == 21 && hot >= 19, "{hot} of {updates}");
}

/// Shows AR-01.
#[tokio::test]
async fn the_database_has_no_secret_in_any_encoding() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let alice = Principal::new(Realm::default(), "alice").unwrap();
    let mut secrets = Vec::new();
    for _ in 0..20 {
        let token = Token::generate(store.mint().unwrap(), store.env()).unwrap();
        let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
        let record = Record { principal: Some(alice.clone()), ..visitor(&store, hash) };
        store.create(token.id(), record, LoginPolicy::default()).await.unwrap();
        secrets.push(token.encode());
    }
    let dump = server().dump("app");
    let ids = dump.matches("-4").count();
    assert!(ids >= 20, "the dump has the records");
    for secret in secrets {
        let bytes = &URL_SAFE_NO_PAD.decode(&*secret).unwrap()[16..];
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let decimal = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let mut encodings = vec![secret.to_string(), secret[22..].to_owned(), decimal];
        encodings.extend([STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)]);
        encodings.extend([hex.to_uppercase(), hex]);
        for encoding in encodings {
            assert!(!dump.contains(&encoding), "a secret is in the dump");
        }
    }
}

/// Shows AR-02.
#[tokio::test]
async fn what_is_stored_opens_nothing() {
    let store = Service::new().store(Env::system()).await;
    let token = Token::generate(store.mint().unwrap(), store.env()).unwrap();
    let hash = Keyring::unkeyed().hash(&Realm::default(), token.secret());
    store.create(token.id(), visitor(&store, hash), LoginPolicy::default()).await.unwrap();
    let stolen = URL_SAFE_NO_PAD.encode([token.id().as_bytes(), &hash.digest()[..]].concat());
    let stolen = Token::decode(stolen.as_bytes()).unwrap();
    let proof = Keyring::unkeyed().prove(&Realm::default(), stolen.secret());
    let lookup = store.load(token.id(), Some(&proof), &RequestHint::default()).await.unwrap();
    assert!(matches!(lookup, Lookup::Absent(_)));
}

/// Shows AR-08.
#[tokio::test]
async fn the_role_of_the_application_has_minimal_rights() {
    let service = Service::new();
    for sql in [
        "CREATE TABLE {sessions}_more ()",
        "DROP TABLE {sessions}",
        "ALTER TABLE {sessions} ADD COLUMN more text",
        "TRUNCATE {sessions}",
        "TRUNCATE {principals}",
        "UPDATE {sessions}_migrations SET version = 9",
        "CREATE SCHEMA more",
        "CREATE ROLE more",
        "DROP FUNCTION {sessions}_admit",
        "COPY {sessions} TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/passwd')",
    ] {
        let refused = service.try_sql("app", sql).unwrap_err();
        let says = ["permission denied", "must be owner", "must be superuser"];
        assert!(says.iter().any(|says| refused.contains(says)), "{sql}: {refused}");
    }
    let migrated = service.builder("app").schema("another").migrate().await;
    assert!(matches!(migrated, Err(SetupError::Refused(_))), "{migrated:?}");
}

#[tokio::test]
async fn missing_tables_are_reported_with_the_remedy() {
    let service = Service::new();
    let error = service.builder("app").schema("nowhere").build().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the schema \"nowhere\" has version 0, but version 2 is needed: run the migration"
    );
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    server().sql(
        "postgres",
        "postgres",
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    );
    let address = format!("postgres://postgres@{}/latin", server().address());
    let error = PostgresStore::builder(&address).migrate().await.unwrap_err();
    assert_eq!(error.to_string(), "the database has the encoding LATIN1; create one with UTF8");
}

#[tokio::test]
async fn migrations_at_once_and_again_do_nothing_twice() {
    let service = Service::new();
    let migrations = (0..8).map(|_| {
        let builder = service.builder("owner").schema(&format!("{}_b", service.schema));
        tokio::spawn(async move { builder.migrate().await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    service.builder("owner").migrate().await.unwrap();
    let versions = format!("SELECT count(*) FROM {}_b.sessions_migrations", service.schema);
    assert_eq!(service.sql(&versions), "2");
}

#[tokio::test]
async fn two_stores_in_one_schema_keep_apart() {
    let service = Service::new();
    let other = service.builder("owner").table("others");
    other.migrate().await.unwrap();
    let (store, other) = (service.store(Env::system()).await, other.build().await.unwrap());
    let id = create(&store).await;
    assert!(matches!(
        other.load(id, None, &RequestHint::default()).await.unwrap(),
        Lookup::Absent(_)
    ));
    assert_eq!(
        (store.stats().await.unwrap().records, other.stats().await.unwrap().records),
        (1, 0)
    );
}

/// Shows IN-05.
#[tokio::test]
async fn a_nul_survives_in_json_but_not_text() {
    let store = Service::new().store(Env::system()).await;
    let id = create(&store).await;
    let mut patch = Patch::new();
    patch.put("a", RawJson::parse(r#""\u0000""#).unwrap()).unwrap();
    applied(&store, id, &patch).await;
    let Lookup::Found(found) = store.load(id, None, &RequestHint::default()).await.unwrap() else {
        panic!("the record is live");
    };
    assert_eq!(found.record.values.get("a"), Some(br#""\u0000""#.as_slice()));

    for bytes in [b"\"\0\"", b"\"\xff\""] {
        let mut patch = Patch::new();
        patch.put("a", RawJson::copied(bytes)).unwrap();
        let error = store.update(id, &patch, &RequestHint::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unsupported(_)), "{error}");
        let values: Values = [("a", bytes.as_slice())].into_iter().collect();
        let record = Record { values, ..visitor(&store, [1; 32]) };
        let error = store.create(store.mint().unwrap(), record, LoginPolicy::default()).await;
        assert!(matches!(error, Err(StoreError::Unsupported(_))), "{error:?}");
    }
}

/// Shows IN-03.
#[tokio::test]
async fn hostile_text_is_kept_as_it_is() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let hostile = "'; DROP TABLE sessions; --$1 \\ \" \u{1f600}";
    let principal = Principal::new(Realm::default(), hostile).unwrap();
    let record = Record {
        principal: Some(principal.clone()),
        values: [(hostile, b"1".as_slice())].into_iter().collect(),
        ..visitor(&store, [1; 32])
    };
    let id = store.mint().unwrap();
    store.create(id, record.clone(), LoginPolicy::default()).await.unwrap();
    assert_eq!(store.list(&principal).await.unwrap()[0].id, id);
    assert_eq!(
        store
            .delete_all(&principal, Revocation { epoch: Some(u64::MAX), ..Revocation::LOGOUT })
            .await
            .unwrap(),
        1
    );
    let again = store
        .create(
            id,
            record,
            LoginPolicy { cap: 9, epoch: Some(u64::MAX - 1), ..LoginPolicy::default() },
        )
        .await;
    assert!(matches!(again, Ok(Outcome::Rejected(_))), "{again:?}");
}

/// Shows IN-06.
#[tokio::test]
async fn any_malformed_row_is_a_corrupt_record() {
    let service = Service::new();
    let store = service.store(Env::with_clock(ManualClock::default())).await;
    for wrong in [
        "values = '[]'",
        "values = '\"text\"'",
        "values = '{\"a\": 1}'",
        "values = '{\"a\": {\"b\": \"c\"}}'",
    ] {
        let id = create(&store).await;
        service.sql(&format!("UPDATE {{sessions}} SET {wrong} WHERE id = '{id}'"));
        let lookup = store.load(id, None, &RequestHint::default()).await.unwrap();
        assert!(matches!(lookup, Lookup::Absent(_)), "{wrong}");
        let mut put = Patch::new();
        put.put("a", 1.into()).unwrap();
        for patch in [put, Patch::touch(store.env().now())] {
            let answer = store.update(id, &patch, &RequestHint::default()).await;
            assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{wrong}: {answer:?}");
        }
        let page = store.scan(None, 9).await.unwrap();
        assert!(page.records.iter().any(|found| found.id == id && found.record.is_none()));
        assert!(store.delete(id, &Deletion::LOGOUT).await.unwrap().is_ended());
    }
}

#[tokio::test]
async fn the_table_rejects_an_invalid_row() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    create(&store).await;
    for wrong in [
        "hash = ''",
        "replaced = ''",
        "replaced_until = 1",
        "version = -1",
        "fence = -1",
        "realm = 'r'",
        "values = NULL",
    ] {
        let sql = format!("UPDATE {{sessions}} SET {wrong}");
        assert!(service.try_sql("app", &sql).is_err(), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_end_each_others_sessions_never_deadlock() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let principals = ["alice", "bob"].map(|id| Principal::new(Realm::default(), id).unwrap());
    for _ in 0..50 {
        let ids =
            [create_for(&store, &principals[0]).await, create_for(&store, &principals[1]).await];
        // Each login takes over the other's session, with a cap of one session.
        let logins = [0, 1].map(|n| {
            let (store, login) = (store.clone(), login(&store, &principals[1 - n]));
            tokio::spawn(async move { store.update(ids[n], &login, &RequestHint::default()).await })
        });
        for login in logins {
            login.await.unwrap().unwrap();
        }
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'app'";
    drop(store);
    assert_eq!(service.sql(deadlocks), "0");
}

#[tokio::test]
async fn login_at_the_cap_costs_at_most_double() {
    const LOGINS: usize = 100;
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let alice = Principal::new(Realm::default(), "alice").unwrap();
    let cap = LoginPolicy::default().cap;
    for _ in 0..cap - LOGINS {
        create_within(&store, &alice, LoginPolicy::default()).await;
    }
    service.sql("ANALYZE {sessions}");
    let mut costs = Vec::new();
    for _ in 0..2 {
        let before = service.pages_of_patches();
        for _ in 0..LOGINS {
            let id = create(&store).await;
            let login = login_with(&store, &alice, LoginPolicy::default());
            store.update(id, &login, &RequestHint::default()).await.unwrap();
        }
        costs.push(service.pages_of_patches() - before);
    }
    assert_eq!(store.list(&alice).await.unwrap().len(), cap);
    println!("pages of {LOGINS} logins: {} below the cap, {} at it", costs[0], costs[1]);
    assert!(costs[0] > 0 && costs[1] <= 2 * costs[0], "{costs:?}");
}

/// Shows TO-09.
#[tokio::test]
async fn collecting_takes_batches_and_skips_what_is_locked() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let store = service.store(Env::with_clock(clock.clone())).await;
    let locked = create(&store).await;
    let copies = "INSERT INTO {sessions} SELECT gen_random_uuid(), hash, replaced, replaced_until,
        version, values, keys, size, created, authenticated, idle_end, absolute_end, hour, realm,
        principal, owner, fence FROM {sessions}, generate_series(1, 2500)";
    service.sql(copies);
    clock.advance(Duration::from_secs(3_600));
    let live = create(&store).await;
    let lock = service.hold(&format!("SELECT FROM {{sessions}} WHERE id = '{locked}' FOR UPDATE"));
    assert_eq!(store.collect().await.unwrap(), 2_500);
    assert_eq!(service.sql("SELECT count(*) FROM {sessions}"), "2");
    drop(lock);
    testkit::eventually(async || store.collect().await.unwrap() == 1).await;
    assert!(matches!(
        store.load(live, None, &RequestHint::default()).await.unwrap(),
        Lookup::Found(_)
    ));
}

#[tokio::test]
async fn a_principal_is_forgotten_with_the_last_session() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let store = service.store(Env::with_clock(clock.clone())).await;
    let [alice, bob] = ["alice", "bob"].map(|id| Principal::new(Realm::default(), id).unwrap());
    let principals = "SELECT string_agg(id, ' ' ORDER BY id) FROM {principals}";
    for end in 0..4 {
        let id = create_for(&store, &alice).await;
        assert_eq!(service.sql(principals), "alice");
        match end {
            0 => drop(store.delete(id, &Deletion::LOGOUT).await.unwrap()),
            1 => drop(store.delete_all(&alice, Revocation::LOGOUT).await.unwrap()),
            2 => {
                applied(&store, id, &login(&store, &bob)).await;
                assert_eq!(service.sql(principals), "bob");
                store.delete(id, &Deletion::LOGOUT).await.unwrap();
            }
            _ => {
                clock.advance(Duration::from_secs(3_600));
                assert_eq!(store.collect().await.unwrap(), 1);
            }
        }
        assert_eq!(service.sql(principals), "");
    }
    // No sign-in: only the secret changes.
    let id = create(&store).await;
    let wrong = visitor(&store, [9; 32]).secret;
    let mut login = login(&store, &alice);
    login.prove(wrong.into());
    assert!(matches!(store.update(id, &login, &RequestHint::default()).await, Ok(Outcome::Gone)));
    assert_eq!(service.sql(principals), "");
}

#[tokio::test]
async fn a_floor_is_forgotten_after_a_day() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let store = service.store(Env::with_clock(clock.clone())).await;
    let alice = Principal::new(Realm::default(), "alice").unwrap();
    store.delete_all(&alice, Revocation { epoch: Some(1), ..Revocation::LOGOUT }).await.unwrap();
    clock.advance(Duration::from_secs(24 * 3_600 - 1));
    store.collect().await.unwrap();
    assert_eq!(service.sql("SELECT count(*) FROM {principals}"), "1");
    clock.advance(Duration::from_secs(1));
    store.collect().await.unwrap();
    assert_eq!(service.sql("SELECT count(*) FROM {principals}"), "0");
}

#[tokio::test]
async fn a_node_sweeps_by_itself() {
    let (service, clock) = (Service::new(), ManualClock::default());
    let builder = service.builder("app").env(Env::with_clock(clock.clone()));
    let store = builder.sweep_every(Some(Duration::from_millis(20))).build().await.unwrap();
    create(&store).await;
    clock.advance(Duration::from_secs(3_600));
    testkit::eventually(async || service.sql("SELECT count(*) FROM {sessions}") == "0").await;
}

async fn create(store: &PostgresStore) -> RecordId {
    let id = store.mint().unwrap();
    store.create(id, visitor(store, [0; 32]), LoginPolicy::default()).await.unwrap();
    id
}

async fn create_for(store: &PostgresStore, principal: &Principal) -> RecordId {
    create_within(store, principal, ONE).await
}

async fn create_within(
    store: &PostgresStore,
    principal: &Principal,
    policy: LoginPolicy,
) -> RecordId {
    let id = store.mint().unwrap();
    let record = Record { principal: Some(principal.clone()), ..visitor(store, [0; 32]) };
    store.create(id, record, policy).await.unwrap();
    id
}

fn login(store: &PostgresStore, principal: &Principal) -> Patch {
    login_with(store, principal, ONE)
}

fn login_with(store: &PostgresStore, principal: &Principal, policy: LoginPolicy) -> Patch {
    let record = visitor(store, [0; 32]);
    let authentication = Authentication {
        at: record.created,
        absolute_deadline: record.absolute_deadline,
        principal: Some(principal.clone()),
        facts: None,
        policy,
    };
    let hash = visitor(store, [1; 32]).secret;
    let mut login = Patch::new();
    login.rotate(record.secret.into(), Rotation { hash, authentication: Some(authentication) });
    login
}

const ONE: LoginPolicy = LoginPolicy::capped(1);

async fn applied(store: &PostgresStore, id: RecordId, patch: &Patch) -> Applied {
    match store.update(id, patch, &RequestHint::default()).await.unwrap() {
        Outcome::Applied(applied) => applied,
        other => panic!("{other:?}"),
    }
}
