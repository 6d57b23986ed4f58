//! Readiness: the check at the start, and the check on demand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Instant;

use common::{Service, server};
use steadfast_core::{Env, Operate};
use steadfast_postgres::SetupError;
use testkit::eventually;

#[tokio::test]
async fn every_missing_privilege_is_found_at_the_start() {
    let service = Service::new();
    let role = service.role("");
    for (table, privileges) in NEEDED {
        for privilege in *privileges {
            let on = format!("{privilege} ON {}.{table}", service.schema);
            server().sql("owner", "app", &format!("REVOKE {on} FROM {role}"));
            let said = refusal(&service, &role).await;
            assert!(said.contains(table) && said.contains("GRANT"), "{on}: {said}");
            server().sql("owner", "app", &format!("GRANT {on} TO {role}"));
        }
    }
    service.builder(&role).build().await.unwrap();
}

#[tokio::test]
async fn the_remedy_that_is_named_helps() {
    let service = Service::new();
    let role = service.role("");
    let schema = &service.schema;
    let revocations = [
        format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"),
        format!("REVOKE SELECT ON {schema}.sessions_migrations FROM {role}"),
        format!("REVOKE ALL ON {schema}.sessions_principals FROM {role}"),
        format!("REVOKE EXECUTE ON FUNCTION {schema}.sessions_judge FROM PUBLIC"),
    ];
    for revocation in &revocations {
        server().sql("owner", "app", revocation);
        let said = refusal(&service, &role).await;
        let (_, remedy) = said.split_once(": GRANT").unwrap_or_else(|| panic!("{said}"));
        server().sql("owner", "app", &format!("GRANT{remedy}"));
        service.builder(&role).build().await.unwrap();
    }
}

#[tokio::test]
async fn obstructing_policies_and_triggers_are_reported() {
    let service = Service::new();
    let role = service.role("");
    service.sql("ALTER TABLE {sessions} ENABLE ROW LEVEL SECURITY");
    let said = refusal(&service, &role).await;
    assert!(said.contains("row-level security"), "{said}");
    service.sql(
        "ALTER TABLE {sessions} DISABLE ROW LEVEL SECURITY;
        CREATE FUNCTION {sessions}_drop() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER dropping BEFORE INSERT ON {sessions}
            FOR EACH ROW EXECUTE FUNCTION {sessions}_drop()",
    );
    let said = refusal(&service, &role).await;
    assert!(said.contains("triggers"), "{said}");
}

#[tokio::test]
async fn functions_of_another_version_are_reported() {
    let service = Service::new();
    service.sql("DROP FUNCTION {sessions}_end_all");
    let said = refusal(&service, "app").await;
    assert!(said.contains("migrate"), "{said}");
}

#[tokio::test]
async fn a_check_at_the_start_leaves_nothing_behind() {
    let service = Service::new();
    let count = |table: &str| service.sql(&format!("SELECT count(*) FROM {{{table}}}"));
    service.store(Env::system()).await;
    for table in ["sessions", "principals", "changes", "listeners"] {
        assert_eq!(count(table), "0", "{table}");
    }
}

#[tokio::test]
async fn a_store_is_ready_if_sign_ins_work() {
    let service = Service::new();
    let role = service.role("");
    let store = service.builder(&role).build().await.unwrap();
    store.ready().await.unwrap();
    let insert = format!("INSERT ON {}.sessions_principals", service.schema);
    server().sql("owner", "app", &format!("REVOKE {insert} FROM {role}"));
    eventually(async || store.ready().await.is_err()).await;
    server().sql("owner", "app", &format!("GRANT {insert} TO {role}"));
    eventually(async || store.ready().await.is_ok()).await;
    assert_eq!(service.sql("SELECT count(*) FROM {sessions}"), "0");
}

#[tokio::test]
async fn readiness_costs_at_most_two_statements_a_second() {
    let service = Service::new();
    let store = service.store(Env::system()).await;
    let (before, start) = (service.statements(), Instant::now());
    for _ in 0..200 {
        store.ready().await.unwrap();
    }
    let (made, most) = (service.statements() - before, 2 * (start.elapsed().as_secs() + 1));
    assert!((2..=most).contains(&made), "{made} statements");
}

/// Returns the reason why a store cannot be built, as one line.
async fn refusal(service: &Service, role: &str) -> String {
    match service.builder(role).build().await {
        Err(error @ SetupError::Unfit { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The privileges on tables in `grants.sql`.
const NEEDED: &[(&str, &[&str])] = &[
    ("sessions", ALL),
    ("sessions_principals", ALL),
    ("sessions_changes", &["SELECT", "INSERT", "DELETE"]),
    ("sessions_listeners", ALL),
    ("sessions_endings", ALL),
    ("sessions_keepers", &["SELECT", "INSERT", "UPDATE"]),
    ("sessions_migrations", &["SELECT"]),
];

const ALL: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];
