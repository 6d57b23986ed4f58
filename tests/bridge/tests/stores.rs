//! The promises of the bridge beyond tower-sessions, over every store: sessions of requests on several
//! nodes, step by step.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use bridge::Service;
use futures_util::future::join_all;
use serde_json::json;
use steadfast::Bridge;
use time::{Duration, OffsetDateTime};
use tower_sessions::session::Id;
use tower_sessions::{Expiry, Session};
use tower_sessions_0_15 as tower_sessions;

/// Every test, for each store.
macro_rules! over {
    ($($store:ident: $($test:ident),+;)+) => {
        $(mod $store {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(super::Nodes::of(super::Service::$store().await)).await;
            })+
        })+
    };
}

macro_rules! over_all {
    ($($test:ident),+ $(,)?) => {
        over! {
            memory: $($test),+;
            sticky: $($test),+;
            redis: $($test),+;
            postgres: $($test),+;
            replicated: $($test),+;
        }
    };
}

over_all!(
    saves_to_different_keys_both_survive,
    a_second_save_sends_only_what_is_new,
    a_save_after_a_logout_brings_nothing_back,
    a_cleared_session_loses_every_key,
    a_cycled_session_keeps_what_others_saved,
    a_save_under_a_replaced_id_fails,
    a_logout_with_a_replaced_id_works,
    a_logout_between_cycle_and_save_counts,
    a_revocation_between_cycle_and_save_counts,
    a_cycled_session_that_is_flushed_is_gone,
    a_user_is_listed_and_ended,
    a_user_who_replaces_another_is_listed_alone,
    a_stale_id_can_sign_in_again,
    an_earlier_expiry_ends_a_session,
);

async fn saves_to_different_keys_both_survive(nodes: Nodes) {
    let id = nodes.begin().await;
    let sessions = join_all((0..12).map(|n| nodes.opened(n, id))).await;
    join_all(sessions.iter().enumerate().map(|(n, session)| async move {
        session.insert(&format!("key{n}"), n).await.unwrap();
        session.save().await.unwrap();
    }))
    .await;
    let seen = nodes.opened(1, id).await;
    for n in 0..12 {
        assert_eq!(seen.get(&format!("key{n}")).await.unwrap(), Some(n));
    }
}

async fn a_second_save_sends_only_what_is_new(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    one.insert("a", 1).await.unwrap();
    one.save().await.unwrap();
    let other = nodes.opened(1, id).await;
    other.insert("a", 2).await.unwrap();
    other.save().await.unwrap();
    one.insert("b", 1).await.unwrap();
    one.save().await.unwrap();
    let seen = nodes.opened(2, id).await;
    assert_eq!(seen.get("a").await.unwrap(), Some(2));
    assert_eq!(seen.get("b").await.unwrap(), Some(1));
}

async fn a_save_after_a_logout_brings_nothing_back(nodes: Nodes) {
    let id = nodes.begin().await;
    let slow = nodes.opened(0, id).await;
    nodes.opened(1, id).await.flush().await.unwrap();
    slow.insert("late", 1).await.unwrap();
    assert!(slow.save().await.is_err());
    nodes.is_gone(id).await;
}

async fn a_cleared_session_loses_every_key(nodes: Nodes) {
    let id = nodes.begin().await;
    let unread = nodes.session(1, Some(id));
    unread.clear().await;
    unread.insert("b", 1).await.unwrap();
    unread.save().await.unwrap();
    let seen = nodes.opened(2, id).await;
    assert_eq!(seen.get::<i64>("a").await.unwrap(), None);
    assert_eq!(seen.get("b").await.unwrap(), Some(1));
}

async fn a_cycled_session_keeps_what_others_saved(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    let other = nodes.opened(1, id).await;
    other.insert("b", 1).await.unwrap();
    other.save().await.unwrap();
    one.cycle_id().await.unwrap();
    one.insert("c", 1).await.unwrap();
    one.save().await.unwrap();
    one.insert("d", 1).await.unwrap();
    one.save().await.unwrap();
    nodes.is_gone(id).await;
    let seen = nodes.opened(2, one.id().unwrap()).await;
    for key in ["a", "b", "c", "d"] {
        assert_eq!(seen.get(key).await.unwrap(), Some(1), "{key}");
    }
}

async fn a_save_under_a_replaced_id_fails(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    let other = nodes.opened(1, id).await;
    one.cycle_id().await.unwrap();
    other.insert("b", 1).await.unwrap();
    assert!(other.save().await.is_err());
    one.save().await.unwrap();
    assert!(other.save().await.is_err());
    nodes.is_gone(id).await;
    let seen = nodes.opened(2, one.id().unwrap()).await;
    assert_eq!(seen.get::<i64>("b").await.unwrap(), None);
}

async fn a_logout_with_a_replaced_id_works(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    let other = nodes.opened(1, id).await;
    one.cycle_id().await.unwrap();
    one.save().await.unwrap();
    other.flush().await.unwrap();
    nodes.is_gone(one.id().unwrap()).await;
}

async fn a_logout_between_cycle_and_save_counts(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    let other = nodes.opened(1, id).await;
    one.cycle_id().await.unwrap();
    other.flush().await.unwrap();
    assert!(one.save().await.is_err());
    nodes.is_gone(id).await;
}

async fn a_revocation_between_cycle_and_save_counts(nodes: Nodes) {
    let user = nodes.user();
    let id = nodes.sign_in(&user).await;
    let one = nodes.opened(0, id).await;
    one.cycle_id().await.unwrap();
    assert_eq!(nodes.bridges[1 % nodes.bridges.len()].end_all(&user).await.unwrap(), 1);
    assert!(one.save().await.is_err());
    assert!(nodes.bridges[0].list(&user).await.unwrap().is_empty());
}

async fn a_cycled_session_that_is_flushed_is_gone(nodes: Nodes) {
    let id = nodes.begin().await;
    let one = nodes.opened(0, id).await;
    one.cycle_id().await.unwrap();
    one.flush().await.unwrap();
    assert!(one.is_empty().await);
    nodes.is_gone(id).await;
}

async fn a_user_is_listed_and_ended(nodes: Nodes) {
    let user = nodes.user();
    let ids = [nodes.sign_in(&user).await, nodes.sign_in(&user).await];
    let bridge = &nodes.bridges[0];
    let listed = bridge.list(&user).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(bridge.end(listed[0].id).await.unwrap());
    assert_eq!(bridge.list(&user).await.unwrap().len(), 1);
    assert_eq!(bridge.end_all(&user).await.unwrap(), 1);
    for id in ids {
        nodes.is_gone(id).await;
    }
}

/// As axum-login does when somebody signs in who did not sign out: the id stays.
async fn a_user_who_replaces_another_is_listed_alone(nodes: Nodes) {
    let (first, second) = (nodes.user(), nodes.user());
    let id = nodes.sign_in(&first).await;
    let session = nodes.opened(1, id).await;
    session.insert("~kept", 1).await.unwrap();
    session.insert("axum-login.data", json!({"user_id": second})).await.unwrap();
    session.save().await.unwrap();
    session.insert("after", 1).await.unwrap();
    session.save().await.unwrap();
    assert!(nodes.bridges[0].list(&first).await.unwrap().is_empty());
    assert_eq!(nodes.bridges[0].list(&second).await.unwrap().len(), 1);
    let seen = nodes.opened(2, id).await;
    for key in ["a", "~kept", "after"] {
        assert_eq!(seen.get(key).await.unwrap(), Some(1), "{key}");
    }
}

/// As when a login form is sent twice.
async fn a_stale_id_can_sign_in_again(nodes: Nodes) {
    let (id, user) = (nodes.begin().await, nodes.user());
    let both = [nodes.opened(0, id).await, nodes.opened(1, id).await];
    for session in &both {
        session.cycle_id().await.unwrap();
    }
    for session in &both {
        session.insert("axum-login.data", json!({"user_id": user})).await.unwrap();
        session.save().await.unwrap();
    }
    assert_eq!(nodes.bridges[0].list(&user).await.unwrap().len(), 2);
}

async fn an_earlier_expiry_ends_a_session(nodes: Nodes) {
    let id = nodes.begin().await;
    let session = nodes.opened(0, id).await;
    let soon = OffsetDateTime::now_utc() + Duration::milliseconds(150);
    session.set_expiry(Some(Expiry::AtDateTime(soon)));
    session.save().await.unwrap();
    assert_eq!(nodes.opened(1, id).await.get("a").await.unwrap(), Some(1));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    nodes.is_gone(id).await;
}

/// A bridge on each node.
struct Nodes {
    bridges: Vec<Bridge>,
    _service: Service,
}

impl Nodes {
    fn of(service: Service) -> Self {
        Self { bridges: service.bridges(), _service: service }
    }

    /// A session as the n-th request has it, before it looks.
    fn session(&self, n: usize, id: Option<Id>) -> Session {
        Session::new(id, Arc::new(self.bridges[n % self.bridges.len()].clone()), None)
    }

    /// A session as the n-th request has it.
    async fn opened(&self, n: usize, id: Id) -> Session {
        let session = self.session(n, Some(id));
        session.load().await.unwrap();
        session
    }

    /// A session of a visitor.
    async fn begin(&self) -> Id {
        let session = self.session(0, None);
        session.insert("a", 1).await.unwrap();
        session.save().await.unwrap();
        session.id().unwrap()
    }

    /// A session of a user, as axum-login begins it.
    async fn sign_in(&self, user: &str) -> Id {
        let session = self.session(0, Some(self.begin().await));
        session.cycle_id().await.unwrap();
        session.insert("axum-login.data", json!({"user_id": user})).await.unwrap();
        session.save().await.unwrap();
        session.id().unwrap()
    }

    /// A user whom no other test has.
    fn user(&self) -> String {
        format!("user {}", Id::default())
    }

    async fn is_gone(&self, id: Id) {
        for n in 0..self.bridges.len() {
            let session = self.session(n, Some(id));
            assert_eq!(session.get::<i64>("a").await.unwrap(), None);
        }
    }
}
