//! A client that disappears at any moment leaves everything whole.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use steadfast::store::conformance::faults::{Call, Fault};
use steadfast::{Error, Session};

use crate::site::{Browser, Reply, Site};

/// Shows LO-04.
#[tokio::test]
async fn a_logout_goes_on_without_its_client() {
    for call in [Call::Load, Call::Delete] {
        let site = Site::new();
        let browser = site.member("alice").await;
        let pause = site.store.pause_before(call);
        let logout = tokio::spawn(browser.request(|session| async move { session.flush().await }));
        pause.arrived(1).await;
        logout.abort();
        assert!(logout.await.unwrap_err().is_cancelled());
        pause.release();
        site.layer.join().await;
        assert_eq!((browser.user().await, site.records().await), (None, 0), "{call:?}");
    }
}

/// Shows RC-14.
#[tokio::test]
async fn a_rotation_goes_on_without_its_client() {
    let site = Site::new();
    let browser = site.visitor().await;
    let pause = site.store.pause_before(Call::Update);
    let login = tokio::spawn(browser.request(|session| async move { session.login("a").await }));
    pause.arrived(1).await;
    login.abort();
    pause.release();
    site.layer.join().await;
    assert_eq!(browser.value("seed").await, None, "the old token is replaced");
}

/// Drops every kind of request at every await, and sees what is left: the token that the client
/// still holds opens the whole record as it was, or as it should be, or nothing at all.
/// Shows RC-14.
#[tokio::test(start_paused = true)]
async fn a_request_cut_anywhere_is_atomic() {
    for change in Change::ALL {
        for polls in 0.. {
            assert!(polls < 200, "{change:?} never ends");
            let site = Site::new();
            let browser = site.member("alice").await;
            site.store.set_all(&Fault::Slow(std::time::Duration::from_millis(1)));
            let request = browser.request(move |session| change.run(session));
            let done = cut(polls, request).await;
            // Detached work ends, and nothing else is in progress.
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
            site.store.heal();
            if let Some(reply) = done {
                browser.keep(&reply.ok());
                change.check_done(&browser).await;
                break;
            }
            change.check_cut(&browser).await;
            assert!(site.records().await <= 2, "{change:?} cut after {polls}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert,
    Update,
    Increment,
    Cycle,
    Login,
    Logout,
    LogoutEverywhere,
}

impl Change {
    const ALL: [Self; 7] = [
        Self::Insert,
        Self::Update,
        Self::Increment,
        Self::Cycle,
        Self::Login,
        Self::Logout,
        Self::LogoutEverywhere,
    ];

    /// Changes two keys in one patch, so that half of it would be seen.
    async fn run(self, session: Session) -> Result<(), Error> {
        session.insert("a", 1).await?;
        match self {
            Self::Insert => session.insert("b", 1).await,
            Self::Update => session.update("b", |_: Option<i64>| 1).await.map(drop),
            Self::Increment => session.increment("b", 1).await.map(drop),
            Self::Cycle => {
                session.insert("b", 1).await?;
                session.cycle_id().await
            }
            Self::Login => {
                session.insert("b", 1).await?;
                session.login("alice").await
            }
            Self::Logout => session.flush().await,
            Self::LogoutEverywhere => session.end_all().await.map(drop),
        }
    }

    async fn check_cut(self, browser: &Browser) {
        let (a, b, user) =
            (browser.value("a").await, browser.value("b").await, browser.user().await);
        assert_eq!(a, b, "{self:?}: half of a patch");
        if user.is_none() {
            assert_eq!((a, browser.value("seed").await), (None, None), "{self:?}: half a session");
        }
        if matches!(self, Self::Insert | Self::Update | Self::Increment) {
            assert!(user.is_some(), "{self:?} ends no session");
        }
    }

    async fn check_done(self, browser: &Browser) {
        let is_logout = matches!(self, Self::Logout | Self::LogoutEverywhere);
        assert_eq!(browser.user().await.is_none(), is_logout, "{self:?}");
        assert_eq!(browser.value("b").await.is_none(), is_logout, "{self:?}");
    }
}

/// Polls a request this many times, with the timers that it waits for in between, and drops it.
async fn cut(polls: usize, request: impl Future<Output = Reply>) -> Option<Reply> {
    let mut request = pin!(request);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(reply) = request.as_mut().poll(&mut context) {
            return Some(reply);
        }
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        tokio::task::yield_now().await;
    }
    None
}
