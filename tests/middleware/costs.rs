//! The store calls of a request, counted as [load, create, update, delete].

use std::time::Duration;

use http::StatusCode;
use steadfast::store::conformance::faults::Call;

use crate::site::Site;

#[tokio::test]
async fn an_untouched_request_costs_nothing_and_changes_nothing() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit = browser.request(|_| async { StatusCode::OK });
    assert_eq!(site.cost(visit).await, [0, 0, 0, 0]);
    let reply = browser.request(|_| async { StatusCode::OK }).await;
    assert!(reply.headers.is_empty(), "{reply:?}");
}

#[tokio::test]
async fn reads_load_once() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit = browser.request(|session| async move {
        session.get::<i64>("seed").await?;
        session.status().await?;
        session.principal().await?;
        session.get::<i64>("other").await.map(drop)
    });
    assert_eq!(site.cost(visit).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn concurrent_first_reads_share_one_load() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit = browser.request(|session| async move {
        let (a, b) = tokio::join!(session.get::<i64>("seed"), session.get::<i64>("seed"));
        assert_eq!((a?, b?), (Some(1), Some(1)));
        Ok(())
    });
    assert_eq!(site.cost(visit).await, [1, 0, 0, 0]);
}

#[tokio::test]
async fn reading_without_a_cookie_costs_nothing() {
    let site = Site::new();
    let visit = site.browser().request(|session| async move {
        assert_eq!(session.get::<i64>("seed").await?, None);
        Ok(())
    });
    assert_eq!(site.cost(visit).await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_blind_write_is_one_update() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit = browser.request(|session| async move {
        session.insert("a", 1).await?;
        session.insert("b", 2).await?;
        session.discard("seed").await
    });
    assert_eq!(site.cost(visit).await, [0, 0, 1, 0]);
    assert_eq!((browser.value("a").await, browser.value("seed").await), (Some(1), None));
}

#[tokio::test]
async fn a_blind_increment_is_one_update() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit =
        browser.request(|session| async move { session.increment("seed", 5).await.map(drop) });
    assert_eq!(site.cost(visit).await, [0, 0, 1, 0]);
    assert_eq!(browser.value("seed").await, Some(6));
}

#[tokio::test]
async fn a_first_write_is_one_create() {
    let site = Site::new();
    let visit = site.browser().request(|session| async move { session.insert("a", 1).await });
    assert_eq!(site.cost(visit).await, [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_read_and_a_write_are_two_calls() {
    let site = Site::new();
    let browser = site.visitor().await;
    let visit = browser.request(|session| async move {
        session.get::<i64>("seed").await?;
        session.insert("a", 1).await
    });
    assert_eq!(site.cost(visit).await, [1, 0, 1, 0]);
}

#[tokio::test]
async fn a_write_moves_the_idle_deadline_along() {
    let site = Site::new();
    let browser = site.visitor().await;
    for load in [false, true] {
        site.clock.advance(Duration::from_secs(1_500));
        let visit = browser.request(move |session| async move {
            if load {
                session.get::<i64>("seed").await?;
            }
            session.insert("a", 1).await
        });
        assert_eq!(site.cost(visit).await, [u64::from(load), 0, 1, 0]);
        site.layer.join().await;
        assert_eq!(site.store.calls(Call::Update), 1 + u64::from(load), "no touch beside it");
    }
    site.clock.advance(Duration::from_secs(1_500));
    assert_eq!(browser.value("seed").await, Some(1));
}

#[tokio::test]
async fn a_login_costs_at_most_two_calls() {
    let site = Site::new();
    let browser = site.visitor().await;
    let login = browser.request(|session| async move { session.login("alice").await });
    assert_eq!(site.cost(login).await, [1, 0, 1, 0]);
    let login = site.browser().request(|session| async move { session.login("alice").await });
    assert_eq!(site.cost(login).await, [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_logout_is_two_calls() {
    let site = Site::new();
    let browser = site.member("alice").await;
    let logout = browser.request(|session| async move { session.flush().await });
    assert_eq!(site.cost(logout).await, [1, 0, 0, 1]);
}

#[tokio::test]
async fn what_needs_no_record_creates_none() {
    let site = Site::new();
    for handler in 0..6 {
        let reply = site.browser().request(move |session| async move {
            match handler {
                0 => session.flush().await,
                1 => session.clear().await,
                2 => session.discard("a").await,
                3 => session.cycle_id().await,
                4 => session.save().await.map(drop),
                _ => session.remove::<i64>("a").await.map(drop),
            }
        });
        assert_eq!(reply.await.ok().set_cookies(), [""; 0], "{handler}");
    }
    assert_eq!(site.records().await, 0);
}
