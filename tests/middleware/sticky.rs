//! A service of several sticky nodes, as a browser sees it.

use std::sync::Arc;

use http::StatusCode;
use steadfast::store::{Env, ManualClock, Operate, Store};
use steadfast::{Affinity, Error, MemoryStore, Session, SessionLayer, Status, StickyStore};
use tokio::sync::Notify;

use crate::site::Site;

/// Shows SK-01.
#[tokio::test]
async fn a_forged_or_foreign_label_changes_nobodys_identity() {
    let [first, second] = backed(Affinity::Cookie);
    let alice = first.member("alice").await;
    for route in ["n2", "evil", "n1.n2.n3", "a b", "", "..", &"n".repeat(1_000)] {
        for site in [&first, &second] {
            alice.set_cookie("__Host-id-route", route);
            assert_eq!(alice.at(site).user().await.as_deref(), Some("alice"), "{route:?}");
            let stranger = site.browser();
            stranger.set_cookie("__Host-id-route", route);
            assert_eq!(stranger.user().await, None);
        }
    }
}

/// Shows SK-02.
#[tokio::test]
async fn a_route_says_the_label_and_nothing_else() {
    let [first, _] = backed(Affinity::Cookie);
    let browser = first.visitor().await;
    assert_eq!(browser.cookie("__Host-id-route").as_deref(), Some("n1"));
    let [first, _] = backed(Affinity::Suffix);
    assert_eq!(&first.visitor().await.token().unwrap()[64..], ".n1");
}

/// Shows SK-03.
#[tokio::test]
async fn a_session_survives_its_node() {
    let [first, second] = backed(Affinity::Cookie);
    let alice = first.member("alice").await.at(&second);
    drop(first);
    let mut labels = 0;
    for _ in 0..5 {
        let reply = alice.visit(read).await.ok();
        labels += reply.set_cookies().len();
    }
    assert_eq!((labels, alice.cookie("__Host-id-route").as_deref()), (1, Some("n2")));
    assert_eq!(alice.user().await.as_deref(), Some("alice"));
}

/// Shows SK-04.
#[tokio::test]
async fn a_label_reaches_nothing() {
    let [first, _] = backed(Affinity::Cookie);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let browser = first.visitor().await;
    for route in ["localhost", &listener.local_addr().unwrap().port().to_string()] {
        browser.set_cookie("__Host-id-route", route);
        browser.visit(read).await.ok();
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_misrouted_request_gets_the_route() {
    for status in [200, 302, 404, 503] {
        for affinity in [Affinity::Cookie, Affinity::Suffix] {
            let [first, second] = backed(affinity);
            let browser = first.visitor().await.at(&second);
            let answer = move |session: Session| async move {
                session.get::<i64>("seed").await.unwrap();
                StatusCode::from_u16(status).unwrap()
            };
            assert_eq!(browser.visit(answer).await.set_cookies().len(), 1, "{status}");
            assert_eq!(browser.visit(answer).await.set_cookies().len(), 0, "{status}");
        }
    }
}

#[tokio::test]
async fn a_session_follows_an_address_balancer() {
    let [first, second] = backed(Affinity::None);
    let alice = first.member("alice").await;
    for site in [&second, &first, &second] {
        let alice = alice.at(site);
        assert!(
            !alice.visit(read).await.ok().set_cookies().iter().any(|line| line.contains("route"))
        );
        assert_eq!(alice.user().await.as_deref(), Some("alice"));
    }
}

/// Shows RC-09.
#[tokio::test]
async fn a_write_on_another_node_revives_no_session() {
    for _ in 0..20 {
        let [first, second] = backed(Affinity::Cookie);
        let alice = first.member("alice").await;
        let (loaded, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let late = {
            let (loaded, go) = (Arc::clone(&loaded), Arc::clone(&go));
            move |session: Session| {
                let (loaded, go) = (Arc::clone(&loaded), Arc::clone(&go));
                async move {
                    session.get::<i64>("seed").await?;
                    loaded.notify_one();
                    go.notified().await;
                    session.insert("late", 1).await
                }
            }
        };
        let old = alice.fork();
        let write = tokio::spawn(old.at(&second).request(late));
        loaded.notified().await;
        alice.visit(|session| async move { session.flush().await }).await.ok();
        go.notify_one();
        assert!(write.await.unwrap().set_cookies().iter().all(|line| !line.contains("__Host-id=")));
        for site in [&first, &second] {
            assert_eq!(old.at(site).user().await, None);
        }
    }
}

#[tokio::test]
async fn signing_out_everywhere_reaches_every_node() {
    let [first, second] = backed(Affinity::Cookie);
    let (here, there) = (first.member("alice").await, second.member("alice").await);
    here.visit(|session| async move { session.end_all().await.map(drop) }).await.ok();
    for browser in [here, there] {
        for site in [&first, &second] {
            assert_eq!(browser.at(site).user().await, None);
        }
    }
}

#[tokio::test]
async fn a_draining_node_hands_sessions_on() {
    let clock = ManualClock::default();
    let backup = memory(&clock);
    let peers = ["n1", "n2"].map(|label| label.parse().unwrap());
    let node = |label: &str| {
        let builder = StickyStore::builder(label.parse().unwrap()).peers(peers.clone());
        builder.backup(Arc::clone(&backup)).build()
    };
    let draining = node("n1");
    let [first, second] = [draining.clone(), node("n2")].map(|store| site(store, Affinity::Cookie));
    let alice = first.member("alice").await;
    assert_eq!(draining.drain().await.unwrap().moved, 1);
    assert_eq!(first.browser().visit(write).await.status, StatusCode::SERVICE_UNAVAILABLE);
    alice.visit(write).await.ok();
    assert_eq!(alice.cookie("__Host-id-route").as_deref(), Some("n2"));
    alice.at(&second).visit(write).await.ok();
    assert_eq!(alice.cookie("__Host-id-route").as_deref(), Some("n2"));
    assert_eq!(alice.at(&second).value("n").await, Some(2));
}

#[tokio::test]
async fn a_lost_session_is_reported() {
    let clock = ManualClock::default();
    let lost = |asks: fn(Session) -> Asked| {
        let [first, second] = ["n1", "n2"].map(|label| alone(label, &clock));
        async move {
            let browser = first.member("alice").await;
            let reply = browser.at(&second).visit(asks).await.ok();
            reply.body
        }
    };
    assert_eq!(lost(|session| Box::pin(status(session))).await, "Lost");
    let after_a_write = |session: Session| -> Asked {
        Box::pin(async move {
            session.increment("n", 1).await?;
            status(session).await
        })
    };
    assert_eq!(lost(after_a_write).await, "Lost");
}

type Asked = std::pin::Pin<Box<dyn Future<Output = Result<String, Error>> + Send>>;

async fn status(session: Session) -> Result<String, Error> {
    let status = session.status().await?;
    assert_eq!(session.principal().await?, None);
    Ok(match status {
        Status::Lost => "Lost".to_owned(),
        other => format!("{other:?}"),
    })
}

async fn write(session: Session) -> Result<(), Error> {
    session.increment("n", 1).await.map(drop)
}

async fn read(session: Session) -> Result<(), Error> {
    session.get::<i64>("seed").await.map(drop)
}

/// Two nodes, `n1` and `n2`, over one backup.
fn backed(affinity: Affinity) -> [Site; 2] {
    let backup = memory(&ManualClock::default());
    ["n1", "n2"].map(|label| {
        let builder = StickyStore::builder(label.parse().unwrap());
        site(builder.backup(Arc::clone(&backup)).build(), affinity)
    })
}

fn alone(label: &str, clock: &ManualClock) -> Site {
    let builder = StickyStore::builder(label.parse().unwrap());
    site(builder.env(Env::with_clock(clock.clone())).build(), Affinity::Cookie)
}

fn memory(clock: &ManualClock) -> Arc<dyn Store> {
    Arc::new(MemoryStore::builder().env(Env::with_clock(clock.clone())).build())
}

fn site(store: StickyStore, affinity: Affinity) -> Site {
    Site { layer: SessionLayer::new(store).affinity(affinity), ..Site::new() }
}
