//! Requests that race with a logout, an expiry, or a rotation.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use steadfast::store::conformance::faults::Call;
use steadfast::{Error, Session, Status};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::site::{Answer, Browser, Reply, Site};

/// Shows RC-01.
#[tokio::test]
async fn a_concurrent_write_revives_no_session() {
    for writes in Write::ALL {
        for load in [false, true] {
            let site = Site::new();
            let browser = site.member("alice").await;
            let replay = browser.fork();
            let held = Held::start(&browser, load, move |session| writes.run(session)).await;
            logout(&browser).await;
            let reply = held.release().await;
            assert_eq!(replay.user().await, None, "{writes:?} {load}");
            assert_eq!(replay.value("seed").await, None, "{writes:?} {load}");
            if load && !matches!(writes, Write::Login) {
                assert_eq!(reply.set_cookies(), [""; 0], "{writes:?}");
                assert_eq!(site.records().await, 0, "{writes:?}");
            }
        }
    }
}

/// Shows RC-03.
#[tokio::test]
async fn a_rotation_after_a_logout_is_409() {
    for (writes, status) in [
        (Write::Insert, StatusCode::OK),
        (Write::Cycle, StatusCode::OK),
        (Write::Increment, StatusCode::CONFLICT),
        (Write::Update, StatusCode::CONFLICT),
        (Write::Elevate, StatusCode::CONFLICT),
        (Write::Reauthenticate, StatusCode::CONFLICT),
    ] {
        let browser = Site::new().member("alice").await;
        let held = Held::start(&browser, true, move |session| writes.run(session)).await;
        logout(&browser).await;
        assert_eq!(held.release().await.status, status, "{writes:?}");
    }
}

/// Shows RC-02.
#[tokio::test]
async fn a_concurrent_read_prolongs_no_ended_session() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let replay = browser.fork();
    let held =
        Held::start(
            &browser,
            true,
            |session| async move { session.get::<i64>("seed").await.map(drop) },
        );
    let held = held.await;
    site.clock.advance(Duration::from_secs(600));
    logout(&browser).await;
    assert_eq!(held.release().await.set_cookies(), [""; 0]);
    site.layer.join().await;
    assert_eq!((replay.user().await, site.records().await), (None, 0));
}

/// Shows TO-06.
#[tokio::test]
async fn a_late_write_revives_no_expired_session() {
    for writes in [Write::Insert, Write::Increment, Write::Update, Write::Cycle] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let replay = browser.fork();
        let held = Held::start(&browser, true, move |session| writes.run(session)).await;
        site.clock.advance(Duration::from_secs(30 * 60));
        let reply = held.release().await;
        assert_eq!(reply.set_cookies(), [""; 0], "{writes:?}");
        assert_eq!(replay.value("seed").await, None, "{writes:?}");
    }
}

/// Shows RC-04.
#[tokio::test]
async fn a_write_during_a_rotation_is_kept() {
    for writes in [Write::Insert, Write::Increment, Write::Update, Write::Cycle] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let old = browser.fork();
        let held = Held::start(&browser, true, move |session| writes.run(session)).await;
        browser.visit(|session| async move { session.cycle_id().await }).await.ok();
        let reply = held.release().await.ok();
        assert_eq!(reply.set_cookies(), [""; 0], "{writes:?}");
        assert_eq!(browser.value("late").await.is_some(), !matches!(writes, Write::Cycle));
        assert_eq!((browser.user().await.as_deref(), old.user().await), (Some("alice"), None));
    }
}

#[tokio::test]
async fn a_losing_cycle_still_commits_writes() {
    let browser = Site::new().member("alice").await;
    let held = Held::start(&browser, true, |session| async move {
        session.insert("beside", 1).await?;
        session.cycle_id().await
    });
    let held = held.await;
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    assert_eq!(held.release().await.ok().set_cookies(), [""; 0]);
    assert_eq!(browser.value("beside").await, Some(1));
}

#[tokio::test]
async fn a_write_under_a_replaced_token_is_dropped() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let old = browser.fork();
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    let reply = old.request(|session| async move { session.insert("late", 1).await }).await.ok();
    assert_eq!((reply.set_cookies(), site.records().await), (vec![], 1));
    assert_eq!(browser.value("late").await, None);
    for writes in [Write::Increment, Write::Update, Write::Elevate, Write::Reauthenticate] {
        let reply = old.request(move |session| writes.run(session)).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{writes:?}");
        assert_eq!(reply.set_cookies(), [""; 0], "{writes:?}");
    }
    let logout = old.request(|session| async move { session.flush().await }).await;
    assert_eq!((logout.status, logout.set_cookies()), (StatusCode::CONFLICT, vec![]));
    assert_eq!(browser.user().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_replaced_token_is_superseded_for_a_minute() {
    let site = Site::new();
    let browser = site.visitor().await;
    let old = browser.fork();
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    assert_eq!(status(&old).await, Status::Superseded);
    site.clock.advance(Duration::from_secs(59));
    assert_eq!(status(&old).await, Status::Superseded);
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&old).await, Status::Unknown);
}

#[tokio::test]
async fn an_update_of_a_replaced_token_computes_nothing() {
    let site = Site::new();
    let browser = site.visitor().await;
    let old = browser.fork();
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    let reply = old.visit(|session| async move {
        let compute = |seed: Option<i64>| panic!("the closure saw {seed:?}");
        session.update("seed", compute).await.map(drop)
    });
    assert_eq!(reply.await.status, http::StatusCode::CONFLICT);
}

/// Shows RC-05.
#[tokio::test]
async fn concurrent_rotations_leave_one_live_secret() {
    for (first, second) in [
        (Write::Cycle, Write::Cycle),
        (Write::Cycle, Write::Login),
        (Write::Login, Write::Cycle),
        (Write::Login, Write::Login),
        (Write::Elevate, Write::Cycle),
        (Write::Reauthenticate, Write::Login),
    ] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let held = Held::start(&browser, true, move |session| second.run(session)).await;
        let one = browser.request(move |session| first.run(session)).await.ok();
        let other = held.release().await.ok();
        for order in [[&one, &other], [&other, &one]] {
            let browser = browser.fork();
            order.iter().for_each(|reply| browser.keep(reply));
            let user = browser.user().await;
            assert_eq!(user.as_deref(), Some("alice"), "{first:?} {second:?}");
        }
        let handed_out = usize::from(matches!(second, Write::Login)) + 1;
        assert_eq!(site.records().await, handed_out as u64, "a lost login has its own record");
    }
}

#[tokio::test]
async fn a_lost_elevation_drops_everything_and_says_so() {
    for writes in [Write::Elevate, Write::Reauthenticate] {
        let browser = Site::new().member("alice").await;
        let held = Held::start(&browser, true, move |session| async move {
            session.insert("beside", 1).await?;
            writes.run(session).await
        });
        let held = held.await;
        browser.visit(|session| async move { session.cycle_id().await }).await.ok();
        let reply = held.release().await;
        assert_eq!((reply.status, reply.set_cookies()), (StatusCode::CONFLICT, vec![]));
        assert_eq!(browser.value("beside").await, None);
        assert_eq!(browser.user().await.as_deref(), Some("alice"));
    }
}

#[tokio::test]
async fn a_losing_login_keeps_only_its_writes() {
    let browser = Site::new().visitor().await;
    let held = Held::start(&browser, true, |session| async move {
        session.insert("own", 1).await?;
        session.login("bob").await
    });
    let held = held.await;
    browser.request(|session| async move { session.login("alice").await }).await.ok();
    browser.keep(&held.release().await.ok());
    assert_eq!(browser.user().await.as_deref(), Some("bob"));
    assert_eq!((browser.value("own").await, browser.value("seed").await), (Some(1), None));
}

#[tokio::test]
async fn a_login_under_a_replaced_token_is_separate() {
    let site = Site::new();
    let browser = site.visitor().await;
    let tab = browser.fork();
    browser.visit(|session| async move { session.login("alice").await }).await.ok();
    tab.visit(|session| async move { session.login("alice").await }).await.ok();
    for browser in [browser, tab] {
        assert_eq!(browser.user().await.as_deref(), Some("alice"));
    }
}

/// Shows LO-01.
#[tokio::test]
async fn a_logout_beats_a_concurrent_rotation() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let pause = site.store.pause_before(Call::Delete);
    let logout = tokio::spawn(browser.request(|session| async move { session.flush().await }));
    pause.arrived(1).await;
    browser.visit(|session| async move { session.cycle_id().await }).await.ok();
    pause.release();
    logout.await.unwrap().ok();
    assert_eq!((browser.user().await, site.records().await), (None, 0));
}

#[tokio::test]
async fn two_logouts_at_once_remove_the_cookie_once() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let held = Held::start(&browser, true, |session| async move { session.flush().await }).await;
    let first = browser.request(|session| async move { session.flush().await }).await.ok();
    let second = held.release().await.ok();
    assert_eq!((first.set_cookies().len(), second.set_cookies().len()), (1, 0));
}

async fn logout(browser: &Browser) {
    browser.visit(|session| async move { session.flush().await }).await.ok();
}

async fn status(browser: &Browser) -> Status {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let found = Arc::clone(&seen);
    let reply = browser.request(move |session| {
        let found = Arc::clone(&found);
        async move {
            *found.lock().unwrap() = Some(session.status().await?);
            Ok(())
        }
    });
    reply.await.ok();
    seen.lock().unwrap().take().unwrap()
}

/// The ways in which a request changes its session.
#[derive(Clone, Copy, Debug)]
enum Write {
    Insert,
    Increment,
    Update,
    Cycle,
    Elevate,
    Reauthenticate,
    Login,
}

impl Write {
    const ALL: [Self; 7] = [
        Self::Insert,
        Self::Increment,
        Self::Update,
        Self::Cycle,
        Self::Elevate,
        Self::Reauthenticate,
        Self::Login,
    ];

    async fn run(self, session: Session) -> Result<(), Error> {
        match self {
            Self::Insert => session.insert("late", 1).await,
            Self::Increment => session.increment("late", 1).await.map(drop),
            Self::Update => session.update("late", |_: Option<i64>| 1).await.map(drop),
            Self::Cycle => session.cycle_id().await,
            Self::Elevate => session.elevate().await,
            Self::Reauthenticate => session.reauthenticate().await,
            Self::Login => session.login("alice").await,
        }
    }
}

/// A request that waits within its handler, before or after it loaded.
struct Held {
    release: Arc<Notify>,
    reply: JoinHandle<Reply>,
}

impl Held {
    async fn start<H, F>(browser: &Browser, load: bool, handler: H) -> Self
    where
        H: Fn(Session) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
        Result<(), Error>: Answer,
    {
        let (reached, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (reach, gate) = (Arc::clone(&reached), Arc::clone(&release));
        let reply = tokio::spawn(browser.request(move |session| {
            let (reach, gate, handler) = (Arc::clone(&reach), Arc::clone(&gate), handler.clone());
            async move {
                if load {
                    session.status().await?;
                }
                reach.notify_one();
                gate.notified().await;
                handler(session).await
            }
        }));
        reached.notified().await;
        Self { release, reply }
    }

    async fn release(self) -> Reply {
        self.release.notify_one();
        self.reply.await.unwrap()
    }
}
