//! Sessions outside a request.

use std::time::Duration;

use http::StatusCode;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::store::{EndReason, LimitError, SessionStore};
use steadfast::{Error, Login, Realm, Session, SessionLayer};

use crate::site::Site;

#[tokio::test]
async fn streams_learn_that_an_administrator_ended_them() {
    let site = Site::new();
    let alice = site.member("alice").await;
    let handle = alice.id().await;
    let stream = alice.request(|session| async move {
        let reason = session.ended().await?;
        Ok::<_, Error>(reason.name().to_owned())
    });
    let stream = tokio::spawn(stream);
    tokio::task::yield_now().await;
    assert!(site.layer.sessions().end(handle).await.unwrap());
    assert_eq!(stream.await.unwrap().ok().body, EndReason::Admin.name());
}

#[tokio::test]
async fn administrators_are_bound_to_their_realm() {
    let site = Site::new();
    let alice = site.member("alice").await;
    let admin = site.layer.clone().realm(Realm::new("admin").unwrap()).sessions();
    assert!(!admin.end(alice.id().await).await.unwrap());
    assert_eq!(admin.end_all("alice", None).await.unwrap(), 0);
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn visitor_sessions_cannot_be_ended() {
    let site = Site::new();
    let visitor = site.visitor().await;
    assert!(!site.layer.sessions().end(visitor.id().await).await.unwrap());
    assert_eq!(visitor.value("seed").await, Some(1));
}

#[tokio::test]
async fn an_end_whose_caller_leaves_still_ends() {
    let site = Site::new();
    let alice = site.member("alice").await;
    let sessions = site.layer.sessions();
    let mut end = Box::pin(sessions.end_all("alice", None));
    assert!(futures_util::poll!(&mut end).is_pending());
    drop(end);
    while site.layer.has_pending_work() {
        tokio::task::yield_now().await;
    }
    assert_eq!(alice.user().await, None);
}

#[tokio::test]
async fn an_issued_session_counts_against_the_cap() {
    let site = Site::with(|layer| layer.max_per_principal(1));
    let first = site.member("alice").await;
    let issued = site.layer.sessions().issue("alice").await.unwrap();
    assert_eq!(first.user().await, None);
    let browser = site.browser();
    browser.set_token(issued.token().to_str().unwrap());
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
    assert!(issued.token().is_sensitive() && issued.cookie().is_sensitive());
    assert!(!format!("{issued:?}").contains(issued.token().to_str().unwrap()));
}

#[tokio::test]
async fn a_sign_in_without_its_mark_fails() {
    let site = Site::with(|layer| layer.index_labels(["sid"]).unwrap());
    let visitor = site.visitor().await;
    site.store.set(Call::Create, Fault::Down);
    let login = |session: Session| async move {
        session.login(Login::new("alice").label("sid", "1")).await
    };
    assert_eq!(visitor.visit(login).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(visitor.user().await, None);
    assert_eq!(site.layer.sessions().count("alice").await.unwrap(), 0);
}

#[tokio::test]
async fn a_label_finds_a_reauthenticated_session() {
    let site = Site::with(|layer| layer.index_labels(["sid"]).unwrap());
    let alice = site.browser();
    let login = |session: Session| async move {
        session.login(Login::new("alice").label("sid", "1")).await
    };
    alice.visit(login).await.ok();
    let most = Duration::from_secs(28_000);
    for _ in 0..3 {
        for _ in 0..20 {
            site.clock.advance(most / 20);
            alice.visit(|session| async move { session.insert("seed", 1).await }).await.ok();
        }
        alice.visit(|session| async move { session.reauthenticate().await }).await.ok();
    }
    assert_eq!(site.layer.sessions().end_labelled("sid", "1").await.unwrap(), 1);
    assert_eq!(alice.user().await, None);
}

#[tokio::test]
async fn unindexed_sign_ins_cost_nothing_more() {
    let site = Site::with(|layer| layer.index_labels(["sid"]).unwrap());
    let visitor = site.visitor().await;
    let plain = |session: Session| async move {
        session.login(Login::new("alice").label("device", "Firefox")).await
    };
    assert_eq!(site.cost(visitor.visit(plain)).await, [1, 0, 1, 0]);
    let labelled = |session: Session| async move {
        session.login(Login::new("alice").label("sid", "1")).await
    };
    assert_eq!(site.cost(visitor.visit(labelled)).await, [1, 1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_the_cutoff_serves_no_session() {
    let site = Site::with(|layer| layer.end_everybody_within(SECOND));
    let alice = site.member("alice").await;
    site.store.set(Call::List, Fault::Down);
    assert_eq!(alice.user().await.as_deref(), Some("alice"), "the node read it a moment ago");
    tokio::time::sleep(SECOND).await;
    let request = |session: Session| async move { session.principal().await.map(drop) };
    assert_eq!(alice.request(request).await.status, StatusCode::SERVICE_UNAVAILABLE);
    site.store.set(Call::List, Fault::None);
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_everybody() {
    let site = Site::with(|layer| layer.end_everybody_within(SECOND));
    let other = Site { layer: site.layer.clone().end_everybody_within(SECOND), ..site.clone() };
    let (alice, visitor) = (site.member("alice").await, site.visitor().await);
    let ended = |session: Session| async move {
        let reason = session.ended().await?;
        Ok::<_, Error>(reason.name().to_owned())
    };
    let stream = tokio::spawn(alice.request(ended));
    tokio::time::sleep(SECOND).await;
    other.layer.sessions().end_everybody().await.unwrap();
    let reply = tokio::time::timeout(SECOND * 11, stream).await.unwrap().unwrap();
    assert_eq!(reply.ok().body, EndReason::Expired.name());
    assert_eq!((alice.user().await, visitor.value("seed").await), (None, None));
}

#[tokio::test]
async fn reading_the_floor_costs_most_requests_nothing() {
    let site = Site::with(|layer| layer.end_everybody_within(SECOND * 60));
    let alice = site.member("alice").await;
    let lists = site.store.calls(Call::List);
    for _ in 0..10 {
        assert_eq!(alice.user().await.as_deref(), Some("alice"));
    }
    assert_eq!((lists, site.store.calls(Call::List)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn ending_everybody_spares_other_realms() {
    let site = Site::with(|layer| layer.end_everybody_within(SECOND));
    let admin =
        Site { layer: site.layer.clone().realm(Realm::new("admin").unwrap()), ..site.clone() };
    let (alice, root) = (site.member("alice").await, admin.member("root").await);
    admin.layer.sessions().end_everybody().await.unwrap();
    assert_eq!((alice.user().await.as_deref(), root.user().await), (Some("alice"), None));
}

#[tokio::test]
async fn end_everybody_needs_a_layer_built_for_it() {
    let refused = Site::new().layer.sessions().end_everybody().await;
    assert!(matches!(refused, Err(Error::CannotEndEverybody)), "{refused:?}");
}

#[test]
fn at_most_two_labels_are_indexed() {
    let index = |names: &[&'static str]| Site::new().layer.index_labels(names.iter().copied());
    assert!(index(&["sid", "device", "sid"]).is_ok());
    assert!(matches!(index(&["a", "b", "c"]), Err(LimitError::Labels { labels: 3, limit: 2 })));
    assert!(matches!(index(&["a b"]), Err(LimitError::Label { .. })));
}

#[test]
fn the_layer_gives_its_store() {
    let site = Site::new();
    let layer: SessionLayer = site.layer.clone();
    assert_eq!(layer.store().env().now(), site.store.env().now());
}

const SECOND: Duration = Duration::from_secs(1);
