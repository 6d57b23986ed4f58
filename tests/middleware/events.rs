//! The events that the application receives.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::store::{CLAIMED_FOR, EndReason, SessionStore};
use steadfast::{Actor, Login, Session, SessionEvent, SessionEventKind, SessionLayer};

use tokio::time::sleep;

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
async fn a_sign_in_event_names_new_labels() {
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
async fn an_outage_leaves_new_labels_unknown() {
    let (site, told) = site();
    site.store.set(Call::List, Fault::Down);
    sign_in(&site.browser(), "alice", &[("device", "Firefox")]).await;
    settle(&site).await;
    let is_unknown = |event: &SessionEvent| {
        matches!(event.kind, SessionEventKind::SignedIn { new_labels: None, .. })
    };
    assert!(told.take().iter().any(is_unknown));
}

#[tokio::test(start_paused = true)]
async fn sessions_ended_by_the_cap_are_reported() {
    let (site, told) = site_with(|layer| layer.max_per_principal(1));
    let (first, second) = (site.member("alice").await, site.member("bob").await);
    let (first, taken) = (first.id().await, second.id().await);
    told.take();
    sign_in(&second, "alice", &[]).await;
    let superseded = told.take().into_iter().filter_map(ended).collect::<Vec<_>>();
    assert_eq!(superseded, [(taken, EndReason::Superseded, "bob".to_owned())]);
    sleep(REPORTED_WITHIN).await;
    let over_the_cap = told.take().into_iter().filter_map(ended).collect::<Vec<_>>();
    assert_eq!(over_the_cap, [(first, EndReason::Cap, "alice".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_expire_are_reported_once() {
    let (site, told) = site();
    let (alice, visitor) = (site.member("alice").await, site.visitor().await);
    let (ids, start) = ([alice.id().await, visitor.id().await], site.now());
    told.take();
    sleep(REPORTED_WITHIN).await;
    assert_eq!(told.take(), [], "both are alive");
    site.clock.advance(IDLE + Duration::from_secs(1));
    sleep(REPORTED_WITHIN).await;
    let reported = told.take();
    let seen: BTreeSet<_> = reported.iter().map(|event| event.id.clone()).collect();
    assert_eq!(seen, ids.map(|id| format!("{id}.ended")).into());
    let users: BTreeSet<_> =
        reported.iter().map(|event| event.user.as_ref().map(steadfast::Principal::id)).collect();
    assert_eq!(users, [None, Some("alice")].into());
    for event in &reported {
        let SessionEventKind::Ended { reason, by, .. } = &event.kind else { panic!("{event:?}") };
        assert_eq!((reason, by), (&EndReason::Expired, &Actor::System));
        let realm = event.user.as_ref().map(|user| user.realm().clone());
        assert_eq!(event.realm, realm);
        assert_eq!(event.at, start + IDLE, "the deadline, not the time of the report");
    }
    site.clock.advance(Duration::from_secs(60));
    sleep(REPORTED_WITHIN).await;
    assert_eq!(told.take(), [], "each was reported");
}

#[tokio::test(start_paused = true)]
async fn an_ending_is_reported_again_after_a_panic() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let site = Site::with(|layer| {
        layer.on_event(move |event| {
            let is_end = matches!(event.kind, SessionEventKind::Ended { .. });
            let before = counted.fetch_add(usize::from(is_end), Ordering::Relaxed);
            assert!(!is_end || before > 0, "the first report is not taken");
        })
    });
    site.visitor().await;
    site.clock.advance(IDLE + Duration::from_secs(1));
    sleep(REPORTED_WITHIN).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    site.clock.advance(CLAIMED_FOR);
    sleep(REPORTED_WITHIN).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    site.clock.advance(CLAIMED_FOR);
    sleep(REPORTED_WITHIN).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2, "the second report was taken");
}

#[tokio::test(start_paused = true)]
async fn endings_are_reported_after_an_outage() {
    let (site, told) = site();
    let visitor = site.visitor().await.id().await;
    told.take();
    site.clock.advance(IDLE + Duration::from_secs(1));
    site.store.set(Call::Claim, Fault::Down);
    sleep(2 * REPORTED_WITHIN).await;
    assert_eq!(told.take(), []);
    site.store.set(Call::Claim, Fault::None);
    sleep(REPORTED_WITHIN).await;
    let ids: Vec<_> = told.take().into_iter().map(|event| event.id).collect();
    assert_eq!(ids, [format!("{visitor}.ended")]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_layer_reports_nothing() {
    let (site, told) = site();
    site.visitor().await;
    let store = site.store.clone();
    site.clock.advance(IDLE + Duration::from_secs(1));
    drop(site);
    sleep(REPORTED_WITHIN).await;
    assert!(!told.take().iter().any(|event| matches!(event.kind, SessionEventKind::Ended { .. })));
    let left = store.endings().unwrap().claim(10).await.unwrap();
    assert_eq!(left.len(), 1, "another layer can report it");
}

#[tokio::test]
async fn an_administrator_is_named_as_one() {
    let (site, told) = site();
    let alice = site.member("alice").await;
    let sessions = site.layer.sessions().acting_as("root");
    told.take();
    sessions.end(alice.id().await).await.unwrap();
    sessions.end_all("alice", None).await.unwrap();
    let is_by_one = |event: SessionEvent| match event.kind {
        SessionEventKind::Ended { reason, by, .. }
        | SessionEventKind::AllEnded { reason, by, .. } => {
            (reason, by) == (EndReason::Admin, Actor::Administrator(Some("root".into())))
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

/// The idle lifetime of the sessions.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Longer than the longest pause between two reports.
const REPORTED_WITHIN: Duration = Duration::from_secs(13);

/// The events so far.
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
