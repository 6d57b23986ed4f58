//! What the application is told of its sessions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;
use steadfast::store::EndReason;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Actor, Login, Session, SessionEvent, SessionEventKind, SessionLayer};

use crate::site::{Browser, Site};

#[tokio::test]
async fn events_tell_what_requests_did() {
    let (site, told) = site();
    let (browser, other) = (site.browser(), site.member("alice").await);
    told.take();
    browser.visit(|session| async move { session.insert("seed", 1).await }).await.ok();
    sign_in(&browser, "alice", &[]).await;
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    let (this, ended) = (browser.id().await, other.id().await);
    let end = move |session: Session| async move { session.end(ended).await.map(drop) };
    browser.visit(end).await.ok();
    browser.visit(|session| async move { session.end_others().await.map(drop) }).await.ok();
    browser.visit(|session| async move { session.flush().await }).await.ok();
    let kinds: Vec<_> = told.take().into_iter().map(|event| event.kind).collect();
    let shown: Vec<_> = kinds.iter().map(|kind| serde_json::to_value(kind).unwrap()).collect();
    let by = json!({ "session": this.to_string() });
    let this = this.to_string();
    assert_eq!(
        json!(shown),
        json!([
            { "event": "created", "session": this },
            { "event": "signed_in", "session": this, "new_labels": [] },
            { "event": "rotated", "session": this },
            { "event": "ended", "session": ended.to_string(), "reason": "logout", "by": by },
            { "event": "all_ended", "count": 0, "except": this, "reason": "logout", "by": by },
            { "event": "rotated", "session": this },
            { "event": "ended", "session": this, "reason": "logout", "by": by },
        ])
    );
}

#[tokio::test]
async fn a_sign_in_names_the_labels_that_are_new() {
    let (site, told) = site();
    let firefox = [("device", "Firefox"), ("address", "192.0.2.1")];
    let phone = [("device", "Phone"), ("address", "192.0.2.1")];
    let mut seen = Vec::new();
    for labels in [&firefox[..], &firefox, &phone] {
        sign_in(&site.browser(), "alice", labels).await;
        settle(&site).await;
        let new = told.take().into_iter().find_map(|event| match event.kind {
            SessionEventKind::SignedIn { new_labels, .. } => Some(new_labels.unwrap()),
            _ => None,
        });
        seen.push(new.unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec!["address", "device"], vec![], vec!["device"]]);
}

#[tokio::test]
async fn new_labels_are_unknown_while_the_store_is_away() {
    let (site, told) = site();
    site.store.set(Call::List, Fault::Down);
    sign_in(&site.browser(), "alice", &[("device", "Firefox")]).await;
    settle(&site).await;
    let is_unknown = |event: &SessionEvent| {
        matches!(event.kind, SessionEventKind::SignedIn { new_labels: None, .. })
    };
    assert!(told.take().iter().any(is_unknown));
}

#[tokio::test]
async fn sessions_that_end_for_another_sign_in_are_told() {
    let (site, told) = site_with(|layer| layer.max_per_principal(1));
    let (first, second) = (site.member("alice").await, site.member("bob").await);
    let (first, taken) = (first.id().await, second.id().await);
    told.take();
    sign_in(&second, "alice", &[]).await;
    let ended: Vec<_> = told.take().into_iter().filter_map(ended).collect();
    let expected = [
        (taken, EndReason::Superseded, "bob".to_owned()),
        (first, EndReason::Cap, "alice".to_owned()),
    ];
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn an_administrator_is_named_as_one() {
    let (site, told) = site();
    let alice = site.member("alice").await;
    let sessions = site.layer.sessions();
    told.take();
    sessions.end(alice.id().await).await.unwrap();
    sessions.end_all("alice", None).await.unwrap();
    let is_by_one = |event: SessionEvent| match event.kind {
        SessionEventKind::Ended { reason, by, .. }
        | SessionEventKind::AllEnded { reason, by, .. } => {
            (reason, by) == (EndReason::Admin, Actor::Administrator)
        }
        _ => false,
    };
    assert_eq!(told.take().into_iter().map(is_by_one).collect::<Vec<_>>(), [true, true]);
}

#[tokio::test]
async fn what_was_not_confirmed_is_not_told() {
    let (site, told) = site();
    let alice = site.member("alice").await;
    told.take();
    site.store.set(Call::Update, Fault::Down);
    site.store.set(Call::Delete, Fault::Down);
    alice.visit(|session| async move { session.cycle_id().await }).await;
    alice.visit(|session| async move { session.flush().await }).await;
    site.browser().visit(|session| async move { session.insert("seed", 1).await }).await;
    let kinds: Vec<_> = told.take().into_iter().map(|event| event.kind).collect();
    assert!(matches!(kinds[..], [SessionEventKind::Created { .. }]), "{kinds:?}");
}

#[tokio::test]
async fn each_event_has_an_id_of_its_own() {
    let (site, told) = site();
    let alice = site.member("alice").await;
    for user in ["alice", "bob", "alice", "bob"] {
        sign_in(&alice, user, &[]).await;
    }
    alice.visit(|session| async move { session.end_all().await.map(drop) }).await.ok();
    let told = told.take();
    let ids: BTreeSet<_> = told.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), told.len(), "{told:?}");
}

#[tokio::test]
async fn a_listener_that_panics_costs_no_token() {
    let site = Site::with(|layer| layer.on_event(|_| panic!("a listener's fault")));
    let alice = site.member("alice").await;
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

/// What was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<SessionEvent>>>);

impl Told {
    fn take(&self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn site() -> (Site, Told) {
    site_with(|layer| layer)
}

fn site_with(change: impl FnOnce(SessionLayer) -> SessionLayer) -> (Site, Told) {
    let told = Told::default();
    let listener = told.clone();
    let listen = move |event: &SessionEvent| listener.0.lock().unwrap().push(event.clone());
    (Site::with(|layer| change(layer.on_event(listen))), told)
}

async fn sign_in(browser: &Browser, user: &'static str, labels: &[(&'static str, &'static str)]) {
    let login =
        labels.iter().fold(Login::new(user), |login, (name, value)| login.label(*name, *value));
    let sign_in = move |session: Session| {
        let login = login.clone();
        async move { session.login(login).await }
    };
    browser.visit(sign_in).await.ok();
}

async fn settle(site: &Site) {
    while site.layer.has_pending_work() {
        tokio::task::yield_now().await;
    }
}

fn ended(event: SessionEvent) -> Option<(steadfast::RecordId, EndReason, String)> {
    let SessionEventKind::Ended { session, reason, .. } = event.kind else { return None };
    Some((session, reason, event.user?.id().to_owned()))
}
