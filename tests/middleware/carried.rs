//! The companion cookies of a token, over a store that places sessions on nodes.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use steadfast::store::conformance::faults::FaultyStore;
use steadfast::store::{
    ClientState, LoginPolicy, Lookup, Outcome, Patch, Proof, Record, RequestHint, RouteLabel,
    Routed, Version, forward_calls,
};
use steadfast::{Affinity, RecordId, Session, SessionLayer, SessionStore, StoreError};

use crate::site::Site;

#[tokio::test]
async fn only_changes_send_the_version() {
    let site = Placed::default().site(Affinity::Cookie);
    let browser = site.browser();
    browser.visit(write).await.ok();
    assert_eq!(browser.cookie("__Host-id-seen").as_deref(), Some("1"));
    browser.visit(write).await.ok();
    assert_eq!(browser.cookie("__Host-id-seen").as_deref(), Some("2"));
    let reply = browser.visit(read).await.ok();
    assert!(reply.set_cookies().is_empty(), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("private"));
}

#[tokio::test]
async fn what_the_client_carries_reaches_the_store() {
    let placed = Placed::default();
    let browser = placed.site(Affinity::Cookie).browser();
    browser.visit(write).await.ok();
    browser.visit(read).await.ok();
    assert_eq!(
        placed.hint(),
        RequestHint { routes: vec![label("n1")], min_version: Some(Version(1)) }
    );
}

#[tokio::test]
async fn a_request_that_wrote_reads_its_own_write() {
    let placed = Placed::default();
    let browser = placed.site(Affinity::Cookie).browser();
    browser.visit(write).await.ok();
    let twice = |session: Session| async move {
        session.increment("n", 1).await?;
        session.get::<i64>("n").await?;
        session.increment("n", 1).await.map(drop)
    };
    browser.visit(twice).await.ok();
    assert_eq!(placed.hint().min_version, Some(Version(2)));
}

#[tokio::test]
async fn a_new_route_is_sent_once() {
    let placed = Placed::default();
    let browser = placed.site(Affinity::Cookie).browser();
    let reply = browser.visit(write).await.ok();
    let route = "__Host-id-route=n1; Path=/; Secure; HttpOnly; SameSite=Lax";
    assert!(reply.set_cookies().contains(&route), "{reply:?}");
    placed.move_to("n2");
    let failed = |session: Session| async move {
        session.get::<i64>("n").await.unwrap();
        http::StatusCode::NOT_FOUND
    };
    let reply = browser.visit(failed).await;
    assert_eq!(reply.set_cookies(), [route.replace("n1", "n2")]);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(browser.visit(read).await.ok().set_cookies().is_empty());
}

#[tokio::test]
async fn a_request_that_asks_nothing_is_told_nothing() {
    let placed = Placed::default();
    let browser = placed.site(Affinity::Cookie).browser();
    browser.visit(write).await.ok();
    placed.move_to("n2");
    let reply = browser.visit(|_| async { Ok(()) }).await.ok();
    assert!(reply.headers.is_empty(), "{reply:?}");
}

#[tokio::test]
async fn every_request_counts_its_route() {
    let placed = Placed::default();
    let site = placed.site(Affinity::Cookie);
    let browser = site.browser();
    let untouched = || browser.visit(|_| async { Ok(()) });
    assert_eq!(site.cost(untouched()).await, [0; 4]);
    browser.visit(write).await.ok();
    assert_eq!(site.cost(untouched()).await, [0; 4]);
    let routed = placed.routed.lock().unwrap().clone();
    assert_eq!(routed, [vec![], vec![], vec![label("n1")]]);
}

#[tokio::test]
async fn a_client_learns_a_lower_version() {
    let browser = Placed::default().site(Affinity::Cookie).browser();
    browser.visit(write).await.ok();
    browser.set_cookie("__Host-id-seen", "99");
    browser.visit(read).await.ok();
    assert_eq!(browser.cookie("__Host-id-seen").as_deref(), Some("1"));
    assert!(browser.visit(read).await.ok().set_cookies().is_empty());
}

#[tokio::test]
async fn a_route_may_follow_the_token() {
    let placed = Placed::default();
    let browser = placed.site(Affinity::Suffix).browser();
    browser.visit(write).await.ok();
    let token = browser.token().unwrap();
    assert_eq!((token.len(), &token[64..]), (67, ".n1"));
    placed.move_to("n2");
    browser.visit(read).await.ok();
    assert_eq!(browser.token().unwrap(), token.replace(".n1", ".n2"));
    assert!(browser.visit(read).await.ok().set_cookies().is_empty());
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    let rotated = browser.token().unwrap();
    assert!(rotated.ends_with(".n2") && rotated[..64] != token[..64]);
    assert_eq!(browser.cookie("__Host-id-route"), None);
}

#[tokio::test]
async fn a_route_may_be_left_to_the_balancer() {
    let browser = Placed::default().site(Affinity::None).browser();
    let reply = browser.visit(write).await.ok();
    assert_eq!(browser.token().unwrap().len(), 64);
    assert_eq!(browser.cookie("__Host-id-route"), None, "{reply:?}");
}

#[tokio::test]
async fn signing_out_removes_all_that_the_client_carries() {
    let browser = Placed::default().site(Affinity::Cookie).browser();
    browser.visit(write).await.ok();
    browser.visit(|session| async move { session.flush().await }).await.ok();
    for name in ["__Host-id", "__Host-id-route", "__Host-id-seen"] {
        assert_eq!(browser.cookie(name), None, "{name}");
    }
}

async fn write(session: Session) -> Result<(), steadfast::Error> {
    session.insert("n", 1).await
}

async fn read(session: Session) -> Result<(), steadfast::Error> {
    session.get::<i64>("n").await.map(drop)
}

/// A store that says where a session is and which version it has, and keeps the last hint.
#[derive(Clone, Debug)]
struct Placed {
    store: FaultyStore,
    node: Arc<Mutex<RouteLabel>>,
    hint: Arc<Mutex<RequestHint>>,
    /// The routes that it was asked to relate to this node.
    routed: Arc<Mutex<Vec<Vec<RouteLabel>>>>,
}

impl Default for Placed {
    fn default() -> Self {
        let (store, node) = (Site::new().store, Arc::new(Mutex::new(label("n1"))));
        Self { store, node, hint: Arc::default(), routed: Arc::default() }
    }
}

impl Placed {
    fn site(&self, affinity: Affinity) -> Site {
        let layer = SessionLayer::new(self.clone()).affinity(affinity);
        Site { store: self.store.clone(), layer, ..Site::new() }
    }

    fn move_to(&self, node: &str) {
        *self.node.lock().unwrap() = label(node);
    }

    fn hint(&self) -> RequestHint {
        self.hint.lock().unwrap().clone()
    }

    fn client_state(&self, version: Version) -> ClientState {
        ClientState { routes: vec![self.node.lock().unwrap().clone()], version: Some(version) }
    }

    fn placed(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Applied(mut applied) => {
                applied.client_state = self.client_state(applied.version);
                Outcome::Applied(applied)
            }
            outcome => outcome,
        }
    }
}

#[async_trait]
impl SessionStore for Placed {
    forward_calls!(this => this.store, except places_sessions, routed, create, load, update);

    fn places_sessions(&self) -> bool {
        true
    }

    fn routed(&self, routes: &[RouteLabel]) -> Option<Routed> {
        self.routed.lock().unwrap().push(routes.to_vec());
        Some(Routed::Hit)
    }

    async fn create(
        &self,
        id: RecordId,
        record: Record,
        policy: LoginPolicy,
    ) -> Result<Outcome, StoreError> {
        self.store.create(id, record, policy).await.map(|outcome| self.placed(outcome))
    }

    async fn load(
        &self,
        id: RecordId,
        proof: Option<&Proof>,
        hint: &RequestHint,
    ) -> Result<Lookup, StoreError> {
        *self.hint.lock().unwrap() = hint.clone();
        let mut lookup = self.store.load(id, proof, hint).await?;
        if let Lookup::Found(found) = &mut lookup {
            found.client_state = self.client_state(found.record.version);
        }
        Ok(lookup)
    }

    async fn update(
        &self,
        id: RecordId,
        patch: &Patch,
        hint: &RequestHint,
    ) -> Result<Outcome, StoreError> {
        *self.hint.lock().unwrap() = hint.clone();
        self.store.update(id, patch, hint).await.map(|outcome| self.placed(outcome))
    }
}

fn label(node: &str) -> RouteLabel {
    node.parse().unwrap()
}
